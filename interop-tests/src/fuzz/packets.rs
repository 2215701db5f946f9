//! What comes to a node's socket, before any cryptography.

use std::net::SocketAddr;

use suora_node::path::routes::{Real, Routes};
use suora_protocol::documents::{Dcid, SessionId};

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
    (usize::from(number % 2), address)
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
    }
}
