//! A small model of a server, for tests: it says yes and no, and forwards, as RFC 8656 has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use stun_types::attribute::XorMappedAddress;
use stun_types::attribute::{AttributeType, ErrorCode, Nonce, RawAttribute, Realm, XorSocketAddr};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, LongTermCredentials, Message, MessageClass,
    MessageIntegrityCredentials, MessageWrite as _, MessageWriteExt as _, Method,
};

use super::Grant;
use super::message::*;
use crate::path::stun;

pub(crate) const USER: &str = "1800000000:00112233445566778899aabbccddeeff";

/// A packet on its way: from, to, bytes.
pub(crate) type Flight = (SocketAddr, SocketAddr, Vec<u8>);

/// What a client holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) relayed: Option<SocketAddr>,
    pub(crate) channels: BTreeMap<u16, SocketAddr>,
    pub(crate) permitted: BTreeSet<IpAddr>,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) nonce: &'static str,
    pub(crate) password: String,
    pub(crate) clients: BTreeMap<SocketAddr, Held>,
    pub(crate) dead: bool,
    /// Methods that were asked, and whether the request was authenticated.
    pub(crate) heard: Vec<(u16, bool)>,
    /// Packets of peers that were passed on, either way.
    pub(crate) passed: usize,
    ports: u16,
}

pub(crate) fn grant(servers: &[&Server]) -> Grant {
    Grant {
        user: USER.into(),
        password: "secret".into(),
        realm: "suora".into(),
        nonce: "fresh".into(),
        servers: servers.iter().map(|server| server.address).collect(),
    }
}

impl Server {
    pub(crate) fn new(last: u8) -> Self {
        Self {
            address: SocketAddr::from(([203, 0, 113, last], 443)),
            nonce: "fresh",
            password: "secret".into(),
            clients: BTreeMap::new(),
            dead: false,
            heard: Vec::new(),
            passed: 0,
            ports: 50_000,
        }
    }

    /// The only client's.
    pub(crate) fn held(&self) -> &Held {
        self.clients.values().next().unwrap()
    }

    fn credentials(&self) -> MessageIntegrityCredentials {
        let long = LongTermCredentials::new(USER.into(), self.password.clone());
        long.to_key("suora".into()).into()
    }

    /// A packet came to the server or to one of its relayed addresses: what leaves.
    pub(crate) fn take(&mut self, (from, to, bytes): Flight) -> Vec<Flight> {
        if self.dead {
            return Vec::new();
        }
        if to != self.address {
            return self.arrived(from, to, &bytes);
        }
        if let [64..=79, ..] = bytes[..] {
            let channel = u16::from_be_bytes([bytes[0], bytes[1]]);
            let len = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
            let held = self
                .clients
                .get(&from)
                .filter(|held| held.relayed.is_some());
            let way = held.and_then(|held| Some((held.relayed?, *held.channels.get(&channel)?)));
            return way.map_or_else(Vec::new, |(relayed, peer)| {
                self.leaves(relayed, peer, bytes[4..4 + len].to_vec())
            });
        }
        let message = stun::parse(&bytes).unwrap();
        if message.has_class(MessageClass::Indication) {
            let peer = peer_of(&message).unwrap();
            let data = message.raw_attribute(AttributeType::new(0x13)).unwrap();
            let held = self.clients.get(&from);
            let relayed = held
                .filter(|held| held.permitted.contains(&peer.ip()))
                .and_then(|held| held.relayed);
            return relayed.map_or_else(Vec::new, |relayed| {
                self.leaves(relayed, peer, data.value.to_vec())
            });
        }
        let answer = self.answer(from, &message);
        vec![(self.address, from, answer)]
    }

    /// From a relayed address to a peer, which may be another one of ours.
    fn leaves(&mut self, relayed: SocketAddr, peer: SocketAddr, data: Vec<u8>) -> Vec<Flight> {
        self.passed += 1;
        if self.clients.values().any(|held| held.relayed == Some(peer)) {
            return self.arrived(relayed, peer, &data);
        }
        vec![(relayed, peer, data)]
    }

    fn arrived(&mut self, from: SocketAddr, relayed: SocketAddr, data: &[u8]) -> Vec<Flight> {
        let of = |(_, held): &(&SocketAddr, &Held)| {
            held.relayed == Some(relayed) && held.permitted.contains(&from.ip())
        };
        let Some((client, held)) = self.clients.iter().find(of) else {
            return Vec::new();
        };
        self.passed += 1;
        let channel = held.channels.iter().find(|(_, peer)| **peer == from);
        let framed = match channel {
            Some((channel, _)) => {
                let [high, low] = channel.to_be_bytes();
                let [long, short] = (data.len() as u16).to_be_bytes();
                [&[high, low, long, short], data].concat()
            }
            None => {
                let mut bytes = send(from, data, stun::transaction([9; 12])).unwrap();
                // a server's indication is a client's with another method
                bytes[1] = 0x17;
                bytes
            }
        };
        vec![(self.address, *client, framed)]
    }

    fn answer(&mut self, from: SocketAddr, asked: &Message<'_>) -> Vec<u8> {
        let id = asked.transaction_id();
        let method: Method = asked.method();
        if method == BINDING {
            let mut answer = stun::begin(MessageClass::Success, BINDING, id);
            answer
                .add_attribute(&XorMappedAddress::new(from, id))
                .unwrap();
            return answer.finish();
        }
        let nonce = asked.attribute::<Nonce>().ok();
        let fresh = nonce
            .as_ref()
            .is_some_and(|nonce| nonce.nonce() == self.nonce);
        let signed = asked.validate_integrity(&self.credentials()).is_ok();
        self.heard.push((method.value(), fresh && signed));
        let error = |code, correct: Option<&str>| {
            let mut answer = stun::begin(MessageClass::Error, method, id);
            let said = ErrorCode::new(code, "no").unwrap();
            answer.add_attribute(&said).unwrap();
            if let Some(nonce) = correct {
                answer.add_attribute(&Realm::new("suora").unwrap()).unwrap();
                answer.add_attribute(&Nonce::new(nonce).unwrap()).unwrap();
            }
            answer.finish()
        };
        let realm = asked.attribute::<Realm>().ok();
        if realm.is_some_and(|realm| realm.realm() != "suora") {
            // as coturn does
            return error(437, None);
        }
        if !fresh || !signed {
            let stale = nonce.is_some() && !fresh;
            return error(if stale { 438 } else { 401 }, Some(self.nonce));
        }
        let mut answer = stun::begin(MessageClass::Success, method, id);
        let peer = peer_of(asked);
        let held = self.clients.entry(from).or_default();
        match method {
            ALLOCATE if held.relayed.is_none() => {
                self.ports += 1;
                let relayed = SocketAddr::new(self.address.ip(), self.ports);
                held.relayed = Some(relayed);
                let relayed = XorSocketAddr::new(relayed, id);
                let kind = AttributeType::new(0x16);
                answer.add_attribute(&relayed.to_raw(kind)).unwrap();
                let life = 600u32.to_be_bytes();
                let life = RawAttribute::new(AttributeType::new(0xd), &life);
                answer.add_attribute(&life).unwrap();
            }
            REFRESH if held.relayed.is_some() => {
                let life = asked.raw_attribute(AttributeType::new(0xd));
                if life.is_some_and(|raw| *raw.value == [0; 4]) {
                    *held = Held::default();
                }
            }
            CREATE_PERMISSION if held.relayed.is_some() => {
                held.permitted.insert(peer.unwrap().ip());
            }
            CHANNEL_BIND if held.relayed.is_some() => {
                let raw = asked.raw_attribute(AttributeType::new(0xc)).unwrap();
                let channel = u16::from_be_bytes([raw.value[0], raw.value[1]]);
                held.permitted.insert(peer.unwrap().ip());
                held.channels.insert(channel, peer.unwrap());
            }
            _ => return error(437, None),
        }
        answer
            .add_message_integrity(&self.credentials(), IntegrityAlgorithm::Sha1)
            .unwrap();
        answer.finish()
    }
}

fn peer_of(message: &Message<'_>) -> Option<SocketAddr> {
    let raw = message.raw_attribute(AttributeType::new(0x12))?;
    let address = XorSocketAddr::from_raw(&raw).ok()?;
    Some(address.addr(message.transaction_id()))
}
