//! What comes to a node's socket, before any cryptography.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use suora_node::path::candidates::Base;
use suora_node::path::routes::{Real, Routes};
use suora_node::path::turn::Grant;
use suora_node::path::{Interfaces, Output, Path, Settings};
use suora_protocol::documents::{AddressPolicy, Dcid, SessionId};
use suora_protocol::wire::path as wire;

/// The session that this node dials, and the one in which it is dialled.
const DIALS: SessionId = SessionId::from_bytes([1; 16]);
const WAITS: SessionId = SessionId::from_bytes([2; 16]);
/// The connection ids of their first packets.
const OURS: [u8; 20] = [7; 20];
const THEIRS: [u8; 20] = [8; 20];

/// Addresses from which packets come; the first two are dialled.
const ADDRESSES: u8 = 16;
const DIALLED: usize = 2;
/// Those that may show a connection id before the handshake is done.
const SHOWN: usize = 8;

/// In place of an address: the handshake is done.
const DONE: u8 = 0xff;
/// In place of an address: nobody is expected any more.
const FORGOTTEN: u8 = 0xfe;

fn real(number: u8) -> Real {
    let number = number % ADDRESSES;
    let address = SocketAddr::from(([192, 0, 2, number], 9));
    (Base::Socket(usize::from(number % 2)), address)
}

/// Whether a packet is an Initial of QUIC with this connection id.
fn shows(packet: &[u8], dcid: &[u8]) -> bool {
    matches!(packet, [first, _, _, _, 1, 20, rest @ ..] if first & 0xf0 == 0xc0 && rest.starts_with(dcid))
}

/// What should become of the packets of those who dial this node.
#[derive(Default)]
struct Guests {
    /// Who showed the connection id, in their order.
    shown: Vec<Real>,
    received: u64,
    sent: u64,
    done: bool,
    forgotten: bool,
}

impl Guests {
    /// Whether this packet is the session's.
    fn take(&mut self, from: Real, packet: &[u8]) -> bool {
        if self.forgotten {
            return false;
        }
        if self.done {
            return self.shown.first() == Some(&from);
        }
        if !self.shown.contains(&from) {
            if self.shown.len() == SHOWN || !shows(packet, &THEIRS) {
                return false;
            }
            self.shown.push(from);
        }
        if self.shown.first() == Some(&from) {
            self.received += packet.len() as u64;
        }
        true
    }
}

/// Packets one after the other, each behind its sender and its length. A packet goes to the
/// session whose connection id its sender showed, or nowhere; the path is the first that was
/// heard, and nobody unproven gets more than three times what came from there.
pub fn routes(bytes: &[u8]) {
    let mut routes = Routes::default();
    let dialled = routes.dial(DIALS, Dcid::from_bytes(OURS), vec![real(0), real(1)]);
    let waits = routes.expect(WAITS, Dcid::from_bytes(THEIRS));
    let (mut guests, mut answered) = (Guests::default(), None);
    let mut rest = bytes;
    while let [number, length, behind @ ..] = rest {
        let (packet, next) = behind.split_at(behind.len().min(usize::from(*length)));
        rest = next;
        match *number {
            DONE => {
                routes.completed(WAITS);
                guests.done = true;
            }
            FORGOTTEN => {
                routes.forget(WAITS);
                guests.forgotten = true;
            }
            number if usize::from(number % ADDRESSES) < DIALLED => {
                let from = real(number);
                let should = (!shows(packet, &OURS)).then_some(dialled);
                assert_eq!(routes.incoming(from, packet, packet.len()), should);
                if should.is_some() {
                    answered.get_or_insert(from);
                }
            }
            number => {
                let from = real(number);
                let should = guests.take(from, packet).then_some(waits);
                assert_eq!(routes.incoming(from, packet, packet.len()), should);
            }
        }
        assert_eq!(routes.chosen(DIALS), answered);
        let first = guests.shown.first().copied().filter(|_| !guests.forgotten);
        assert_eq!(routes.chosen(WAITS), first);
        let answer = packet.len();
        let to = routes.outgoing(waits, answer);
        assert!(to.iter().all(|to| Some(*to) == first), "to somebody else");
        if !guests.done && !to.is_empty() {
            guests.sent += answer as u64;
            assert!(guests.sent <= 3 * guests.received, "amplified");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "door: the base of virtual time")]
fn base() -> Instant {
    Instant::now()
}

/// In place of an address: the server of our allocation.
const SERVER: u8 = 1;

/// The paths of a node in mid-consultation, with a question and a request to a server under way,
/// and where it may send to.
fn standing(now: Instant) -> Option<(Path, Vec<SocketAddr>)> {
    let (server, peer) = (real(SERVER).1, real(2).1);
    let settings = Settings {
        sockets: vec!["0.0.0.0:5000".parse().ok()?, "[::]:5000".parse().ok()?],
        loopback: false,
        routed: false,
        hidden: false,
        fixed: false,
    };
    let mut path = Path::new(settings, [1; 32]);
    let hosts = vec![(0, "192.0.2.77:5000".parse().ok()?)];
    let networks = Ok(Vec::new());
    path.interfaces(now, Interfaces { hosts, networks });
    path.servers(now, &[server]);
    let grant = Grant {
        user: "1:pair".into(),
        password: "secret".into(),
        realm: "suora".into(),
        nonce: "fresh".into(),
        servers: vec![server],
    };
    path.grant(now, grant).ok()?;
    path.expect(WAITS, Dcid::from_bytes(THEIRS));
    path.received(now, (0, peer), &initial(THEIRS));
    path.completed(now, WAITS);
    path.begin(now, WAITS, true, AddressPolicy::Open);
    let told = wire::Path {
        generation: 0,
        ufrag: "them".into(),
        pwd: "0123456789abcdefABCDEF".into(),
        candidates: vec![wire::Candidate {
            kind: wire::Kind::Host,
            address: peer.to_string(),
        }],
        end: true,
    };
    path.heard(now, WAITS, told);
    Some((path, vec![server, peer]))
}

/// Packets one after the other, as in [`routes`], at the paths of a node in mid-consultation.
/// Nobody who has no password moves the path, or makes this node send to a stranger, or much.
pub fn paths(bytes: &[u8]) {
    let mut now = base();
    let Some((mut path, known)) = standing(now) else {
        panic!("the paths do not stand");
    };
    while path.poll_output().is_some() {}
    let in_use = path.in_use(WAITS);
    assert!(in_use.is_some());
    let mut rest = bytes;
    while let [number, length, behind @ ..] = rest {
        let (packet, next) = behind.split_at(behind.len().min(usize::from(*length)));
        rest = next;
        now += Duration::from_millis(1);
        path.received(now, (0, real(*number).1), packet);
        let mut sent = 0;
        while let Some(output) = path.poll_output() {
            if let Output::Send(packet) = output {
                sent += 1;
                assert!(known.contains(&packet.to), "sent to a stranger");
            }
        }
        assert!(sent <= 4, "{sent} packets for one");
        assert_eq!(path.in_use(WAITS), in_use, "the path moved");
    }
}

/// A packet with its sender before it.
fn from(number: u8, packet: &[u8]) -> Vec<u8> {
    let length = u8::try_from(packet.len()).unwrap_or(u8::MAX);
    [&[number, length][..], packet].concat()
}

/// The head of an Initial, with a little behind it.
fn initial(dcid: [u8; 20]) -> Vec<u8> {
    [&[0xc3_u8, 0, 0, 0, 1, 20][..], &dcid, &[0; 6]].concat()
}

/// Small whole examples of a target's packets.
pub fn examples(target: &str) -> Vec<Vec<u8>> {
    if target == "paths" {
        // a request and an answer of STUN, a channel's data, an indication with data
        let head = |kind: [u8; 2], length: u8| {
            [&kind[..], &[0, length, 0x21, 0x12, 0xa4, 0x42], &[5; 12]].concat()
        };
        let name = [&[0, 6, 0, 9][..], b"abcd:efgh", &[0; 3]].concat();
        let request = [head([0, 1], 16), name].concat();
        let peer = [0, 0x12, 0, 8, 0, 1, 0x21, 0x1b, 0xe1, 0x12, 0xa6, 0x40];
        let data = [&[0, 0x13, 0, 4][..], &[0x40; 4]].concat();
        let mut indication = head([0, 0x17], 20);
        indication.extend_from_slice(&peer);
        indication.extend_from_slice(&data);
        return vec![
            from(2, &request),
            from(3, &request),
            from(SERVER, &head([1, 1], 0)),
            from(SERVER, &[0x40, 0, 0, 4, 1, 2, 3, 4]),
            from(SERVER, &indication),
            from(2, &[0x40; 40]),
        ];
    }
    if target != "routes" {
        return Vec::new();
    }
    let known = from(2, &initial(THEIRS));
    let later = from(2, &[0x40; 40]);
    let crowd: Vec<u8> = (2..12).flat_map(|n| from(n, &initial(THEIRS))).collect();
    vec![
        known.clone(),
        from(3, &initial([9; 20])),
        from(0, &initial(OURS)),
        [from(1, &[0xc3; 40]), from(0, &[0xc3; 40])].concat(),
        [known.clone(), later.clone(), from(DONE, &[]), later.clone()].concat(),
        [known, from(FORGOTTEN, &[]), later].concat(),
        crowd,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: SUORA-SEC-140
    #[test]
    fn the_examples_of_packets_reach_both_sessions() {
        let mut guests = Guests::default();
        assert!(guests.take(real(2), &initial(THEIRS)));
        assert!(guests.take(real(2), &[0x40; 40]));
        assert!(!guests.take(real(3), &[0x40; 40]));
        assert!(shows(&initial(OURS), &OURS) && !shows(&initial(OURS), &THEIRS));
        examples("routes")
            .iter()
            .for_each(|example| routes(example));
        examples("paths").iter().for_each(|example| paths(example));
    }
}
