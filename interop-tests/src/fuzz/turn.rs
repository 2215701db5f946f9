//! Packets at the relay's STUN and TURN, before and behind a good proof.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stun_types::attribute::{AttributeType, RawAttribute, XorSocketAddr};
use stun_types::message::{Message, MessageClass, MessageType, MessageWriteVec, Method};
use stun_types::prelude::*;
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::grant::Grant;
use suora_relay::grant::{Pair, Secret};
use suora_relay::turn::forward::Verdict;
use suora_relay::turn::policy::{Place, Policy, Quotas};
use suora_relay::turn::table::{Client, Slot};
use suora_relay::turn::{Input, Output, Rules, Shared, Turn};

use crate::relaying::client::request;

/// First bytes of a step: a packet of a client as it is, a request that is proven, a packet of a peer, time.
const RAW: u8 = 0;
const PROVEN: u8 = 1;
const PEER: u8 = 2;
const TIME: u8 = 3;

const REALM: &str = "agency.example";
const EXTERNAL: [u8; 4] = [203, 0, 113, 7];
/// What a stranger is answered with at most.
const STRANGER: usize = 96 + REALM.len();

fn policy() -> Policy {
    Policy {
        own: Vec::new(),
        external: vec![EXTERNAL.into()],
        services: vec![443],
        networks: Vec::new(),
        ports: (50_000, 50_099),
        private: false,
    }
}

struct World {
    turn: Turn,
    now: Now,
    grants: [Grant; 2],
    policy: Policy,
    /// Slots whose sockets stand.
    open: Vec<Slot>,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "door: the base of virtual time")]
    fn new() -> Self {
        let now = Now {
            mono: Instant::now(),
            utc: Timestamp::from_secs(1_800_000_000),
        };
        let secret = Secret::from_seed(&[1; 32]);
        let lasts = Duration::from_secs(3_600);
        let grant = |pair| secret.mint(now.utc, Pair::from_bytes([pair; 16]), lasts, REALM);
        let grants = [grant(1), grant(2)];
        let rules = Rules {
            secret: secret.clone(),
            realm: REALM.into(),
            policy: policy(),
            quotas: Quotas {
                allocations: 3,
                ..Quotas::default()
            },
        };
        let shared = Arc::new(Shared::default());
        Self {
            turn: Turn::new(Arc::new(rules), shared, (0, 1), [2; 32], now.mono),
            now,
            grants,
            policy: policy(),
            open: Vec::new(),
        }
    }

    fn drain(&mut self, asks: Option<Client>, proven: bool) {
        for _ in 0..1_000 {
            match self.turn.poll_output() {
                Output::Say { to, bytes } => {
                    assert_eq!(Some(to), asks, "to somebody who did not ask");
                    assert!(proven || bytes.len() <= STRANGER, "amplified");
                    assert!(Message::from_bytes(&bytes).is_ok(), "no message");
                }
                Output::Open { slot, at } => {
                    assert!(proven, "a stranger's socket");
                    assert!(self.policy.judge(at) == Ok(Place::Relayed));
                    // now and then something has the port
                    let stands = at.port() % 4 != 0;
                    if stands {
                        self.open.push(slot);
                    }
                    self.turn
                        .handle_input(self.now, Input::Opened(slot, stands));
                }
                Output::Close { slot } => self.open.retain(|one| *one != slot),
                Output::Wait(at) => {
                    assert_eq!(at.is_some(), !self.open.is_empty());
                    assert_eq!(self.turn.allocations(), self.open.len());
                    assert!(self.open.len() <= 3, "more than there may be");
                    return;
                }
            }
        }
        panic!("never drained");
    }

    fn packet(&mut self, from: Client, packet: &[u8], proven: bool) {
        let stood = self.turn.allocations();
        let verdict = self.turn.client_packet(self.now.mono, from, packet);
        if verdict == Verdict::Request {
            self.turn
                .handle_input(self.now, Input::Request(from, packet));
            self.drain(Some(from), proven);
            assert!(
                proven || self.turn.allocations() == stood,
                "a stranger did something"
            );
        } else {
            self.judged(&verdict, packet.len());
        }
    }

    fn judged(&self, verdict: &Verdict, len: usize) {
        match verdict {
            Verdict::ToPeer { slot, to, bytes } => {
                assert!(self.open.contains(slot) && bytes.end <= len);
                assert_eq!(self.policy.judge(*to), Ok(Place::Outside));
            }
            Verdict::ToClient { head, bytes, .. } => {
                assert!(!self.open.is_empty() && bytes.end <= len);
                let framed = head.bytes().len() + bytes.len() + head.padding().len();
                assert!(head.bytes().len() == 4 || framed % 4 == 0);
            }
            Verdict::Request | Verdict::Nowhere(_) => {}
        }
    }
}

fn client(number: u8) -> Client {
    Client {
        listener: 0,
        address: SocketAddr::from(([192, 0, 2, number % 4], 5_000)),
    }
}

/// A request with these raw attributes under a grant.
fn proven(grant: &Grant, method: u8, mut attributes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let [high, low, len, rest @ ..] = attributes {
        let (value, next) = rest.split_at(rest.len().min(usize::from(*len)));
        attributes = next;
        all.push((u16::from_be_bytes([*high, *low]), value.to_vec()));
    }
    request(grant, method.into(), 7, &all)
}

/// Steps one after the other: what is done, by whom, how long, and the bytes. A stranger changes nothing and
/// gets little, nobody gets what it did not ask for, nothing is relayed to where it must not, and
/// state is bounded.
pub fn turn(bytes: &[u8]) {
    let mut world = World::new();
    let mut rest = bytes;
    while let [step, who, len, behind @ ..] = rest {
        let (packet, next) = behind.split_at(behind.len().min(usize::from(*len)));
        rest = next;
        match step % 4 {
            RAW => world.packet(client(*who), packet, false),
            PROVEN => {
                let [method, attributes @ ..] = packet else {
                    continue;
                };
                let grant = world.grants[usize::from(who / 4 % 2)].clone();
                let request = proven(&grant, method % 16, attributes);
                world.packet(client(*who), &request, true);
            }
            PEER => {
                let [a, b, c, d, e, f, data @ ..] = packet else {
                    continue;
                };
                let port = u16::from_be_bytes([*e, *f]);
                let from = SocketAddr::from(([*a, *b, *c, *d], port));
                let (slot, now) = (Slot(u32::from(who % 4)), world.now.mono);
                let verdict = world.turn.peer_packet(now, slot, from, data.len());
                world.judged(&verdict, data.len());
            }
            TIME => {
                world.now = world.now.after(Duration::from_secs(u64::from(*who) * 10));
                world.turn.handle_input(world.now, Input::Tick);
                world.drain(None, false);
            }
            _ => {}
        }
    }
}

fn step(what: u8, who: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    [&[what, who, len][..], bytes].concat()
}

/// An attribute as [`proven`] reads it.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let [high, low] = kind.to_be_bytes();
    let len = u8::try_from(value.len()).unwrap_or(u8::MAX);
    [&[high, low, len][..], value].concat()
}

fn peer(address: [u8; 4], port: u16) -> Vec<u8> {
    let xored = XorSocketAddr::new((address, port).into(), 7.into());
    attribute(0x12, &xored.to_raw(AttributeType::new(0x12)).value)
}

/// Small whole examples.
pub fn examples(target: &str) -> Vec<Vec<u8>> {
    if target != "turn" {
        return Vec::new();
    }
    let allocate = |who| {
        step(
            PROVEN,
            who,
            &[&[3][..], &attribute(0x19, &[17, 0, 0, 0])].concat(),
        )
    };
    let out = [8, 8, 8, 8];
    let permit = step(PROVEN, 0, &[&[8][..], &peer(out, 5_000)].concat());
    let number = attribute(0x0c, &[0x40, 0, 0, 0]);
    let bind = step(PROVEN, 0, &[&[9][..], &number, &peer(out, 5_000)].concat());
    let heard = step(PEER, 0, &[8, 8, 8, 8, 0x13, 0x88, 1, 2, 3]);
    let data = step(RAW, 0, &[0x40, 0, 0, 2, 7, 7]);
    let kind = MessageType::from_class_method(MessageClass::Indication, Method::new(6));
    let mut send = Message::builder(kind, 7.into(), MessageWriteVec::new());
    let xored = XorSocketAddr::new((out, 5_000).into(), 7.into());
    let _ = send.add_attribute(&xored.to_raw(AttributeType::new(0x12)));
    let _ = send.add_attribute(&RawAttribute::new(AttributeType::new(0x13), b"data"));
    let send = step(RAW, 0, &send.finish());
    let binding = MessageType::from_class_method(MessageClass::Request, Method::new(1));
    let binding = Message::builder(binding, 7.into(), MessageWriteVec::new()).finish();
    let bare = MessageType::from_class_method(MessageClass::Request, Method::new(3));
    let bare = Message::builder(bare, 7.into(), MessageWriteVec::new()).finish();
    let leave = step(PROVEN, 0, &[&[4][..], &attribute(0x0d, &[0; 4])].concat());
    let inside = step(PROVEN, 0, &[&[8][..], &peer([10, 0, 0, 1], 5_000)].concat());
    vec![
        step(RAW, 1, &binding),
        step(RAW, 1, &bare),
        allocate(0),
        [
            allocate(0),
            permit.clone(),
            send,
            heard.clone(),
            step(TIME, 60, &[]),
        ]
        .concat(),
        [allocate(0), bind, data, heard, leave].concat(),
        [
            allocate(0),
            allocate(1),
            allocate(2),
            allocate(4),
            allocate(7),
            inside,
        ]
        .concat(),
        [permit, step(TIME, 255, &[])].concat(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: SUORA-SEC-140, SUORA-TRN-060
    #[test]
    fn the_examples_of_turn_come_through() {
        let mut world = World::new();
        let transport = attribute(0x19, &[17, 0, 0, 0]);
        let request = proven(&world.grants[0], 3, &transport);
        world.packet(client(0), &request, true);
        assert_eq!(world.turn.allocations(), 1);
        examples("turn").iter().for_each(|example| turn(example));
    }
}
