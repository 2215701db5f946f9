//! Behaviours of shards on virtual time: a relay of two shards, and clients that build their requests
//! by the codec alone.

mod allocating;
mod forwarding;
mod knowing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stun_types::attribute::{
    AttributeType, ErrorCode, Nonce, PasswordAlgorithm, PasswordAlgorithmValue, PasswordAlgorithms,
    RawAttribute, Realm, Username, XorSocketAddr,
};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageIntegrityCredentials,
    MessageType, MessageWriteVec, Method, TransactionId,
};
use stun_types::prelude::*;
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::grant::Grant;

use super::forward::{Drop, Verdict};
use super::message::{self as wire, ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH};
use super::policy::{Network, Policy, Quotas};
use super::table::{Client, Slot};
use super::{Input, Output, Rules, Shared, Turn};
use crate::grant::{Pair, Secret};

const REALM: &str = "agency.example";
const HOUR: Duration = Duration::from_secs(3_600);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn client(number: u8) -> Client {
    Client {
        listener: 0,
        address: SocketAddr::from(([192, 0, 2, number], 5_000)),
    }
}

/// A relay of two shards: even clients are the first's, as the kernel might have it.
struct Relay {
    shards: Vec<Turn>,
    secret: Secret,
    now: Now,
    /// Ports that something else has.
    busy: fn(u16) -> bool,
    /// Sockets that were closed.
    closed: Vec<(usize, Slot)>,
    opened: Vec<SocketAddr>,
}

pub(super) fn policy() -> Policy {
    Policy {
        own: vec!["203.0.113.8".parse().unwrap()],
        external: vec![
            "203.0.113.7".parse().unwrap(),
            "2001:db8::7".parse().unwrap(),
        ],
        services: vec![443],
        networks: vec![Network::parse("198.51.100.0/24").unwrap()],
        ports: (50_000, 50_999),
        private: false,
    }
}

impl Relay {
    fn new() -> Self {
        Self::with(Quotas::default())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "door: the base of virtual time in tests"
    )]
    fn with(quotas: Quotas) -> Self {
        let now = Now {
            mono: Instant::now(),
            utc: Timestamp::from_secs(1_800_000_000),
        };
        let secret = Secret::from_seed(&[5; 32]);
        let rules = Arc::new(Rules {
            secret: secret.clone(),
            realm: REALM.into(),
            policy: policy(),
            quotas,
        });
        let shared = Arc::new(Shared::default());
        let shard = |number: u8| {
            let of = (usize::from(number), 2);
            Turn::new(rules.clone(), shared.clone(), of, [number; 32], now.mono)
        };
        Self {
            shards: vec![shard(0), shard(1)],
            secret,
            now,
            busy: |_| false,
            closed: Vec::new(),
            opened: Vec::new(),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        for shard in 0..self.shards.len() {
            let said = self.hear(shard, Input::Tick);
            assert!(said.is_empty(), "nobody asked");
        }
    }

    fn grant(&self, pair: u8) -> Grant {
        let pair = Pair::from_bytes([pair; 16]);
        self.secret.mint(self.now.utc, pair, HOUR, REALM)
    }

    fn shard(&self, client: Client) -> usize {
        usize::from(client.address.port() % 2)
            ^ usize::from(match client.address {
                SocketAddr::V4(v4) => v4.ip().octets()[3] % 2 == 0,
                SocketAddr::V6(_) => false,
            })
    }

    fn hear(&mut self, shard: usize, input: Input<'_>) -> Vec<(Client, Vec<u8>)> {
        let turn = &mut self.shards[shard];
        turn.handle_input(self.now, input);
        let mut said = Vec::new();
        loop {
            match turn.poll_output() {
                Output::Say { to, bytes } => said.push((to, bytes)),
                Output::Open { slot, at } => {
                    let stands = !(self.busy)(at.port());
                    if stands {
                        self.opened.push(at);
                    }
                    turn.handle_input(self.now, Input::Opened(slot, stands));
                }
                Output::Close { slot } => self.closed.push((shard, slot)),
                Output::Wait(_) => return said,
            }
        }
    }

    /// Sends a packet as a client; what becomes of it if it is no request.
    fn packet(&mut self, from: Client, packet: &[u8]) -> Verdict {
        let shard = self.shard(from);
        self.shards[shard].client_packet(self.now.mono, from, packet)
    }

    /// Asks; the answer, if there is one.
    fn ask(&mut self, from: Client, request: &[u8]) -> Option<Answered> {
        assert_eq!(self.packet(from, request), Verdict::Request);
        let shard = self.shard(from);
        let mut said = self.hear(shard, Input::Request(from, request));
        assert!(said.len() <= 1, "one answer at most");
        let (to, bytes) = said.pop()?;
        assert_eq!(to, from, "an answer goes to who asked");
        Some(Answered(bytes))
    }

    /// An allocation that stands, and its relayed address.
    fn allocate(&mut self, from: Client, grant: &Grant) -> SocketAddr {
        let answer = self.ask(from, &allocate(grant, 1, &[])).unwrap();
        answer
            .good(grant)
            .address(wire::XOR_RELAYED_ADDRESS)
            .unwrap()
    }

    fn permit(&mut self, from: Client, grant: &Grant, peers: &[SocketAddr]) -> u16 {
        let id = 77;
        let peers: Vec<_> = peers.iter().map(|peer| peer_of(*peer, id)).collect();
        let request = request(grant, CREATE_PERMISSION, id, &peers, Way::Sha1);
        self.ask(from, &request).unwrap().code()
    }

    fn bind(&mut self, from: Client, grant: &Grant, channel: u16, peer: SocketAddr) -> u16 {
        let id = 78;
        let mut number = channel.to_be_bytes().to_vec();
        number.extend([0, 0]);
        let attributes = [(wire::CHANNEL_NUMBER, number), peer_of(peer, id)];
        let request = request(grant, CHANNEL_BIND, id, &attributes, Way::Sha1);
        self.ask(from, &request).unwrap().code()
    }

    /// What a peer sends to an allocation's socket.
    fn peer_sends(&mut self, to: Client, peer: SocketAddr, len: usize) -> Verdict {
        let shard = self.shard(to);
        let turn = &mut self.shards[shard];
        let slot = turn.table.slot_of(&to).unwrap();
        turn.peer_packet(self.now.mono, slot, peer, len)
    }
}

/// How a request is proven.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Nothing,
    Sha1,
    Sha256,
}

type Attributes = [(u16, Vec<u8>)];

fn peer_of(peer: SocketAddr, id: u128) -> (u16, Vec<u8>) {
    let xored = XorSocketAddr::new(peer, TransactionId::from(id));
    let raw = xored.to_raw(AttributeType::new(0x12)).value.to_vec();
    (wire::XOR_PEER_ADDRESS, raw)
}

fn key(grant: &Grant) -> MessageIntegrityCredentials {
    let (user, password) = (grant.user.clone(), grant.password.clone());
    LongTermKeyCredentials::new(user, password, grant.realm.clone()).into()
}

/// Says whose request it is.
fn name(message: &mut MessageWriteVec, grant: &Grant) {
    let (user, realm, nonce) = (
        Username::new(&grant.user).unwrap(),
        Realm::new(&grant.realm).unwrap(),
        Nonce::new(&grant.nonce).unwrap(),
    );
    message.add_attribute(&user).unwrap();
    message.add_attribute(&realm).unwrap();
    message.add_attribute(&nonce).unwrap();
}

/// Says which password algorithms were offered, and which is chosen.
fn choose(
    message: &mut MessageWriteVec,
    offered: &[PasswordAlgorithmValue],
    chosen: PasswordAlgorithmValue,
) {
    let offered = PasswordAlgorithms::new(offered);
    message.add_attribute(&offered).unwrap();
    let chosen = PasswordAlgorithm::new(chosen);
    message.add_attribute(&chosen).unwrap();
}

fn request(grant: &Grant, method: u16, id: u128, attributes: &Attributes, way: Way) -> Vec<u8> {
    let kind = MessageType::from_class_method(MessageClass::Request, Method::new(method));
    let mut message = Message::builder(kind, TransactionId::from(id), MessageWriteVec::new());
    for (kind, value) in attributes {
        let raw = RawAttribute::new(AttributeType::new(*kind), value);
        message.add_attribute(&raw).unwrap();
    }
    if way != Way::Nothing {
        name(&mut message, grant);
    }
    let algorithm = match way {
        Way::Nothing => return message.finish(),
        Way::Sha1 => IntegrityAlgorithm::Sha1,
        Way::Sha256 => {
            let both = [PasswordAlgorithmValue::SHA256, PasswordAlgorithmValue::MD5];
            choose(&mut message, &both, both[0]);
            IntegrityAlgorithm::Sha256
        }
    };
    message
        .add_message_integrity(&key(grant), algorithm)
        .unwrap();
    message.add_fingerprint().unwrap();
    message.finish()
}

const UDP: [u8; 4] = [17, 0, 0, 0];

fn allocate(grant: &Grant, id: u128, more: &Attributes) -> Vec<u8> {
    let mut attributes = vec![(wire::REQUESTED_TRANSPORT, UDP.to_vec())];
    attributes.extend_from_slice(more);
    request(grant, ALLOCATE, id, &attributes, Way::Sha1)
}

fn refresh(grant: &Grant, id: u128, secs: u32) -> Vec<u8> {
    let lifetime = [(wire::LIFETIME, secs.to_be_bytes().to_vec())];
    request(grant, REFRESH, id, &lifetime, Way::Sha1)
}

/// An answer's bytes.
struct Answered(Vec<u8>);

impl Answered {
    fn message(&self) -> Message<'_> {
        Message::from_bytes(&self.0).unwrap()
    }

    /// The code of its error, 0 for a success.
    fn code(&self) -> u16 {
        let error = self.message().attribute::<ErrorCode>();
        error.map_or(0, |error| error.code())
    }

    /// It is a success, and proven to come from who knows the password.
    fn good(&self, grant: &Grant) -> &Self {
        assert_eq!(self.code(), 0);
        self.message().validate_integrity(&key(grant)).unwrap();
        self
    }

    fn address(&self, kind: u16) -> Option<SocketAddr> {
        let message = self.message();
        let raw = message.raw_attribute(AttributeType::new(kind))?;
        let id = message.transaction_id();
        Some(XorSocketAddr::from_raw(&raw).unwrap().addr(id))
    }

    fn lifetime(&self) -> Option<u32> {
        wire::value(&self.message(), wire::LIFETIME).map(u32::from_be_bytes)
    }

    fn nonce(&self) -> String {
        let message = self.message();
        message.attribute::<Nonce>().unwrap().nonce().into()
    }
}

fn indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let id = 9;
    let kind = MessageType::from_class_method(MessageClass::Indication, Method::new(6));
    let mut message = Message::builder(kind, TransactionId::from(id), MessageWriteVec::new());
    for (kind, value) in [peer_of(peer, id), (wire::DATA, data.to_vec())] {
        let raw = RawAttribute::new(AttributeType::new(kind), &value);
        message.add_attribute(&raw).unwrap();
    }
    message.finish()
}

fn channel_data(channel: u16, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).unwrap();
    [&channel.to_be_bytes()[..], &len.to_be_bytes(), data].concat()
}
