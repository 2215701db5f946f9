//! A TURN client that waits for each answer, and its requests.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use stun_types::attribute::{
    AttributeType, ErrorCode, Nonce, RawAttribute, Realm, Username, XorSocketAddr,
};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageType,
    MessageWriteVec, Method,
};
use stun_types::prelude::*;
use suora_protocol::wire::grant::Grant;

/// The channel of every flow.
const CHANNEL: u16 = 0x4000;
/// How often a request is sent.
const TRIES: usize = 5;

/// Attributes by number and value.
pub type Attributes = [(u16, Vec<u8>)];

/// A request that is proven by a grant.
pub fn request(grant: &Grant, method: u16, id: u128, attributes: &Attributes) -> Vec<u8> {
    let kind = MessageType::from_class_method(MessageClass::Request, Method::new(method));
    let mut message = Message::builder(kind, id.into(), MessageWriteVec::new());
    for (kind, value) in attributes {
        // the codec writes its own of these
        if !matches!(kind, 0x0008 | 0x001c | 0x8028) {
            let raw = RawAttribute::new(AttributeType::new(*kind), value);
            let _ = message.add_attribute(&raw);
        }
    }
    let texts = (
        Username::new(&grant.user),
        Realm::new(&grant.realm),
        Nonce::new(&grant.nonce),
    );
    if let (Ok(user), Ok(realm), Ok(nonce)) = texts {
        let _ = message.add_attribute(&user);
        let _ = message.add_attribute(&realm);
        let _ = message.add_attribute(&nonce);
    }
    let (user, password) = (grant.user.clone(), grant.password.clone());
    let key = LongTermKeyCredentials::new(user, password, grant.realm.clone());
    let _ = message.add_message_integrity(&key.into(), IntegrityAlgorithm::Sha1);
    message.finish()
}

/// A peer, under the mask of a transaction.
pub fn peer(address: SocketAddr, id: u128) -> (u16, Vec<u8>) {
    let xored = XorSocketAddr::new(address, id.into());
    (0x12, xored.to_raw(AttributeType::new(0x12)).value.to_vec())
}

/// A client with an allocation and a channel.
#[derive(Debug)]
pub struct Flow {
    /// Its socket.
    pub socket: UdpSocket,
    /// The relay.
    pub server: SocketAddr,
    /// Whether its packets have a channel's head: a bare loop takes it off all the same.
    channel: u16,
}

impl Flow {
    /// A socket alone.
    pub fn bare(server: SocketAddr) -> Result<Self, String> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(super::text)?;
        let wait = Some(Duration::from_millis(500));
        socket.set_read_timeout(wait).map_err(super::text)?;
        Ok(Self {
            socket,
            server,
            channel: CHANNEL,
        })
    }

    /// ChannelData of these bytes.
    pub fn packet(&self, data: &[u8]) -> Vec<u8> {
        let len = u16::try_from(data.len()).unwrap_or(u16::MAX);
        [&self.channel.to_be_bytes()[..], &len.to_be_bytes(), data].concat()
    }

    /// With an allocation and a channel to a peer, which sends something first.
    pub fn allocate(
        server: SocketAddr,
        grant: &Grant,
        to: SocketAddr,
        sink: &UdpSocket,
    ) -> Result<Self, String> {
        let flow = Self::bare(server)?;
        let mut grant = grant.clone();
        let transport = [(0x19, vec![17, 0, 0, 0])];
        let answer = flow.ask(&mut grant, 3, &|_| transport.to_vec())?;
        let message = Message::from_bytes(&answer).map_err(super::text)?;
        let relayed = message.raw_attribute(AttributeType::new(0x16));
        let relayed = relayed.ok_or("no relayed address")?;
        let relayed = XorSocketAddr::from_raw(&relayed).map_err(super::text)?;
        let relayed = relayed.addr(message.transaction_id());
        let mut number = CHANNEL.to_be_bytes().to_vec();
        number.extend([0, 0]);
        flow.ask(&mut grant, 9, &|id| {
            vec![(0x0c, number.clone()), peer(to, id)]
        })?;
        sink.send_to(&[0], relayed).map_err(super::text)?;
        Ok(flow)
    }

    /// A request's answer; where the server wants its own nonce, the second one's.
    fn ask(
        &self,
        grant: &mut Grant,
        method: u16,
        attributes: &dyn Fn(u128) -> Vec<(u16, Vec<u8>)>,
    ) -> Result<Vec<u8>, String> {
        let mut buffer = [0; 2_048];
        for id in (1_u128..).take(TRIES) {
            let request = request(grant, method, id, &attributes(id));
            self.socket
                .send_to(&request, self.server)
                .map_err(super::text)?;
            let Ok(len) = self.socket.recv(&mut buffer) else {
                continue;
            };
            let bytes = buffer.get(..len).unwrap_or_default();
            let Ok(message) = Message::from_bytes(bytes) else {
                continue;
            };
            match message.attribute::<ErrorCode>() {
                Err(_) => return Ok(bytes.to_vec()),
                Ok(error) if matches!(error.code(), 401 | 438) => {
                    let nonce = message.attribute::<Nonce>().map_err(super::text)?;
                    grant.nonce = nonce.nonce().into();
                }
                Ok(error) => return Err(format!("method {method}: {}", error.code())),
            }
        }
        Err(format!("method {method}: no answer from {}", self.server))
    }
}
