//! What `spec/setup.md` says of both ends' first words: what a guest's first packets show
//! to everybody, and what a host's invite holds.
#![expect(
    clippy::disallowed_methods,
    reason = "door: a socket that takes what a guest sends"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustls::Side;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::Version;
use suora_interop::vectors::cast::{self, Cast};
use suora_node::Faults;
use suora_node::clock::Clock;
use suora_node::endpoint::{Endpoint, Listen};
use suora_node::engine::ports::{
    Dial, Fetched, Input, LinkCommand, LinkEvent, Local, Output, SessionEvent,
};
use suora_node::engine::{Engine, Role, Settings};
use suora_protocol::documents::chain::{self, InviteExpected, Invited};
use suora_protocol::documents::{Challenge, Dcid, SessionId, Signed, TicketId};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{Hash, Seed};
use suora_protocol::time::Now;
use suora_protocol::wire::officer::{FromRelay, ToRelay};
use tokio::net::UdpSocket;
use tokio::time::timeout;

const LOOPBACK: &str = "127.0.0.1:0";
const DCID: [u8; 20] = [7; 20];

fn endpoint(faults: Faults) -> Endpoint {
    let listen = Listen {
        addresses: vec![LOOPBACK.parse().unwrap()],
        loopback: true,
        ..Listen::default()
    };
    Endpoint::new(&listen, Clock::start().now().utc, faults).unwrap()
}

fn dial(to: Vec<SocketAddr>, fingerprint: Hash, require_pq: bool) -> Dial {
    Dial {
        session: SessionId::from_bytes([1; 16]),
        dcid: Dcid::from_bytes(DCID),
        addresses: to,
        fingerprint,
        invite: Hash::from_bytes([9; 32]),
        require_pq,
    }
}

/// Reads big-endian numbers and QUIC's varints off the front of bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn number(&mut self, len: usize) -> usize {
        self.take(len)
            .iter()
            .fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    fn varint(&mut self) -> usize {
        let len = 1 << (self.0[0] >> 6);
        self.number(len) & !(3 << (8 * len - 2))
    }
}

/// The CRYPTO frames of an Initial packet with this connection id, by offset.
fn crypto(packet: &mut [u8], frames: &mut BTreeMap<usize, Vec<u8>>) {
    let mut reader = Reader(packet);
    assert_eq!(reader.number(1) & 0xf0, 0xc0, "no Initial");
    assert_eq!(reader.number(4), 1, "the version of QUIC");
    let len = reader.number(1);
    let dcid = reader.take(len).to_vec();
    assert_eq!(dcid, DCID);
    let len = reader.number(1);
    reader.take(len);
    assert_eq!(reader.varint(), 0, "a token");
    let length = reader.varint();
    let start = packet.len() - reader.0.len();
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    let keys = suite
        .quic_suite()
        .unwrap()
        .keys(&dcid, Side::Server, Version::V1);
    let (head, tail) = packet.split_at_mut(start);
    let (number, sample) = tail.split_at_mut(4);
    let sample = &sample[..keys.remote.header.sample_len()];
    keys.remote
        .header
        .decrypt_in_place(sample, &mut head[0], number)
        .unwrap();
    let number_len = usize::from(head[0] & 3) + 1;
    let packet_number = Reader(&packet[start..]).number(number_len);
    let (header, payload) = packet.split_at_mut(start + number_len);
    let payload = &mut payload[..length - number_len];
    let plain = keys
        .remote
        .packet
        .decrypt_in_place(packet_number as u64, header, payload)
        .unwrap();
    let mut reader = Reader(plain);
    while !reader.0.is_empty() {
        match reader.varint() {
            0 | 1 => {}
            6 => {
                let (offset, len) = (reader.varint(), reader.varint());
                frames.insert(offset, reader.take(len).to_vec());
            }
            other => panic!("a frame of type {other}"),
        }
    }
}

/// The ClientHello, once all of it is there.
fn client_hello(frames: &BTreeMap<usize, Vec<u8>>) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    for (offset, bytes) in frames {
        if *offset != whole.len() {
            return None;
        }
        whole.extend_from_slice(bytes);
    }
    let length = whole.get(..4).map(|head| Reader(&head[1..]).number(3))?;
    (whole.len() >= 4 + length).then_some(whole)
}

/// The extensions of a ClientHello, by number.
fn extensions(hello: &[u8]) -> BTreeMap<usize, Vec<u8>> {
    let mut reader = Reader(hello);
    assert_eq!(reader.number(1), 1, "no ClientHello");
    reader.take(3 + 2 + 32);
    for width in [1, 2, 1] {
        let len = reader.number(width);
        reader.take(len);
    }
    let len = reader.number(2);
    let mut reader = Reader(reader.take(len));
    let mut found = BTreeMap::new();
    while !reader.0.is_empty() {
        let (number, len) = (reader.number(2), reader.number(2));
        found.insert(number, reader.take(len).to_vec());
    }
    found
}

/// What a guest's ClientHello holds.
async fn offered(faults: Faults, require_pq: bool) -> BTreeMap<usize, Vec<u8>> {
    let host = UdpSocket::bind(LOOPBACK).await.unwrap();
    let guest = endpoint(faults);
    let to = vec![host.local_addr().unwrap()];
    let dial = dial(to, Hash::from_bytes([3; 32]), require_pq);
    let _answer = guest.dial(&dial).unwrap();
    let (mut frames, mut buffer) = (BTreeMap::new(), [0; 2_000]);
    loop {
        let received = timeout(Duration::from_secs(5), host.recv(&mut buffer));
        let len = received.await.unwrap().unwrap();
        crypto(&mut buffer[..len], &mut frames);
        if let Some(hello) = client_hello(&frames) {
            return extensions(&hello);
        }
    }
}

/// Lists of numbers of two bytes, behind a length of two.
fn numbers(extension: &[u8]) -> Vec<usize> {
    let list = extension.get(2..).unwrap_or_default();
    list.chunks(2).map(|pair| Reader(pair).number(2)).collect()
}

const SERVER_NAME: usize = 0;
const GROUPS: usize = 10;
const SIGNATURES: usize = 13;
const ALPN: usize = 16;
const PRE_SHARED_KEY: usize = 41;
const EARLY_DATA: usize = 42;
const VERSIONS: usize = 43;
const X25519MLKEM768: usize = 0x11ec;
const X25519: usize = 0x1d;

// covers: SUORA-SET-005, SUORA-SET-011, SUORA-SET-012, SUORA-SET-013, SUORA-SET-014
#[tokio::test(flavor = "multi_thread")]
async fn a_guests_first_packets_offer_one_version_the_hybrid_group_and_nothing_that_remembers() {
    let offer = offered(Faults::default(), false).await;
    assert_eq!(offer[&VERSIONS], [2, 3, 4]);
    assert_eq!(offer[&ALPN], b"\x00\x08\x07suora/1");
    assert_eq!(numbers(&offer[&GROUPS]), [X25519MLKEM768, X25519]);
    assert_eq!(numbers(&offer[&SIGNATURES]), [0x0403]);
    for absent in [SERVER_NAME, PRE_SHARED_KEY, EARLY_DATA] {
        assert!(!offer.contains_key(&absent), "extension {absent}");
    }
    let offer = offered(Faults::default(), true).await;
    assert_eq!(numbers(&offer[&GROUPS]), [X25519MLKEM768]);
    // the same reader sees a guest that breaks the rule
    let classical = Faults {
        classical_only: true,
        ..Faults::default()
    };
    let offer = offered(classical, false).await;
    assert_eq!(numbers(&offer[&GROUPS]), [X25519]);
}

// covers: SUORA-SET-015
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_listed_again_in_other_words_is_dialled_once() {
    let host = UdpSocket::bind(LOOPBACK).await.unwrap();
    let at = host.local_addr().unwrap();
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{}", at.port()).parse().unwrap();
    let guest = endpoint(Faults::default());
    let to = vec![at, mapped, at];
    let dial = dial(to, Hash::from_bytes([3; 32]), false);
    let _answer = guest.dial(&dial).unwrap();
    let (mut seen, mut buffer) = (Vec::new(), [0; 2_000]);
    // a hybrid hello takes two packets, and is repeated in others
    while seen.len() < 4 {
        let received = timeout(Duration::from_secs(5), host.recv(&mut buffer));
        let len = received.await.unwrap().unwrap();
        let packet = buffer[..len].to_vec();
        assert!(!seen.contains(&packet), "the same packet again");
        seen.push(packet);
    }
}

/// The invite that an officer's engine signs when it is offered this ticket.
fn invited(engine: &mut Engine, now: Now, ticket: u8) -> Invited {
    let cast = Cast::default();
    let expected = InviteExpected {
        desk: cast::desk("tax").unwrap(),
        ticket: TicketId::from_bytes([ticket; 16]),
        guest: cast.guest().peer_id(),
        challenge: Challenge::from_bytes([ticket + 100; 16]),
    };
    let offer = FromRelay::Offer {
        ticket: expected.ticket,
        attempt: 1,
        desk: expected.desk.clone(),
        guest: expected.guest,
        challenge: expected.challenge,
        waited_ms: 0,
        expires_in_ms: 30_000,
    };
    engine.handle_input(now, Input::Link(LinkEvent::Officer(offer)));
    let (mut said, mut dcid) = (None, None);
    loop {
        match engine.poll_output() {
            Output::Link(LinkCommand::Officer(ToRelay::Invite { invite, .. })) => {
                said = Some(invite);
            }
            Output::Expect(expected) => dcid = Some(expected.dcid),
            Output::Wait(_) => break,
            _ => {}
        }
    }
    let page = cast::sign(&cast.descriptor().unwrap(), &cast.root).unwrap();
    let page = chain::descriptor_as_given(&page, now.utc).unwrap();
    let signed = Signed::from_bytes(said.unwrap()).unwrap();
    let invited = chain::invite(&signed, &page, &expected, now.utc).unwrap();
    assert_eq!(dcid, Some(invited.invite.dcid));
    invited
}

// covers: SUORA-SET-002
#[test]
fn a_hosts_invite_repeats_the_offer_and_draws_the_rest_anew() {
    let cast = Cast::default();
    let now = Now {
        mono: Instant::now(),
        utc: cast::at(0),
    };
    let credential = cast::sign(&cast.credential().unwrap(), &cast.issuing).unwrap();
    let settings = Settings {
        role: Role::Officer {
            credential: credential.bytes().clone(),
            auto_accept: false,
            stay: true,
        },
        seed: Seed::from_bytes([5; 32]),
        desk: cast::desk("tax").unwrap(),
        talk: None,
        recalled: None,
        fresh: false,
    };
    let mut engine = Engine::new(settings, [1; 32], now);
    let page = cast::sign(&cast.descriptor().unwrap(), &cast.root).unwrap();
    let fetched = Fetched {
        bytes: page.bytes().clone(),
        root: Some(cast.agency()),
    };
    let local = Local {
        fingerprint: Hash::from_bytes([3; 32]),
        addresses: vec!["192.0.2.1:9".parse().unwrap()],
        relayed: Vec::new(),
        learned: Vec::new(),
    };
    let attending = FromRelay::Attending {
        desk: cast::desk("tax").unwrap(),
        waiting: 1,
    };
    for input in [
        Input::Local(local),
        Input::Descriptor(Ok(fetched)),
        Input::Link(LinkEvent::Up),
        Input::Link(LinkEvent::Officer(attending)),
    ] {
        engine.handle_input(now, input);
    }
    let first = invited(&mut engine, now, 1);
    let withdrawn = FromRelay::Withdrawn {
        ticket: TicketId::from_bytes([1; 16]),
        attempt: 1,
        code: Code::CitizenGone,
    };
    engine.handle_input(now, Input::Link(LinkEvent::Officer(withdrawn)));
    let closed = SessionEvent::Closed(Fault::new(Code::CitizenGone));
    engine.handle_input(now, Input::Session(first.invite.session, closed));
    let second = invited(&mut engine, now, 2);
    let (first, second) = (first.invite, second.invite);
    assert_ne!(first.consultation, second.consultation);
    assert_ne!(first.session, second.session);
    assert_ne!(first.nonce, second.nonce);
    assert_ne!(first.dcid, second.dcid);
    assert_eq!(first.fingerprint, Hash::from_bytes([3; 32]));
    assert_eq!(first.addresses, ["192.0.2.1:9"]);
}
