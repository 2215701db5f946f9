//! Which real address a session's packets come from and go to. Pure.
//!
//! A host knows a guest's first packet by the invite's connection id and drops every
//! other stranger before any cryptography. A guest sends its first packets to every
//! listed address; the first that answers is the path. Until the handshake completes
//! no real address is sent more than three times what came from it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use suora_protocol::documents::{Dcid, SessionId};

use super::candidates::{Base, Way};

/// Sources that a session may have before its handshake completed.
const SOURCES_MAX: usize = 8;
/// Ways that a guest tries: to each address from a socket, and through each of two allocations.
const TRIED_MAX: usize = 24;
/// Ways of a session that checks have shown to be the other end's.
const ADMITTED_MAX: usize = 16;
/// Bytes that a guest sends to a machine that has not answered, at all its ports together: a
/// hybrid hello takes two packets, and is sent six times within the life of an invite.
const UNANSWERED_MAX: u64 = 14_400;

/// A real address, seen through one of our sockets or allocations.
pub type Real = Way;

/// A real address of a session, and the bytes that it and we sent.
#[derive(Clone, Copy, Debug)]
struct Source {
    real: Real,
    received: u64,
    sent: u64,
}

#[derive(Debug)]
struct Route {
    session: SessionId,
    /// The guest dials; the host is dialled.
    guest: bool,
    dcid: Dcid,
    /// Guest: where to try. Host: who showed the connection id.
    tried: Vec<Source>,
    chosen: Option<Real>,
    completed: bool,
    /// After the handshake: where checks came from, the latest last.
    admitted: Vec<Real>,
}

impl Route {
    fn source(&mut self, real: Real) -> Option<&mut Source> {
        self.tried.iter_mut().find(|source| source.real == real)
    }
}

/// All routes of a node.
#[derive(Debug, Default)]
pub struct Routes {
    routes: BTreeMap<u64, Route>,
    by_source: BTreeMap<Real, u64>,
    by_dcid: BTreeMap<Dcid, u64>,
    next: u64,
    /// The broken rule of a negative control.
    follows_last: bool,
}

/// The virtual address of a session: one of our own private prefix.
fn virtual_address(index: u64) -> SocketAddr {
    let [a, b, c, d] = [
        index >> 48 & 0xffff,
        index >> 32 & 0xffff,
        index >> 16 & 0xffff,
        index & 0xffff,
    ]
    .map(|part| u16::try_from(part).unwrap_or(0));
    SocketAddr::new(
        IpAddr::V6(Ipv6Addr::new(0xfd53, 0x756f, 0x7261, 0, a, b, c, d)),
        443,
    )
}

const fn source(real: Real) -> Source {
    Source {
        real,
        received: 0,
        sent: 0,
    }
}

fn index_of(address: SocketAddr) -> Option<u64> {
    match address.ip() {
        IpAddr::V6(ip) => match ip.segments() {
            [0xfd53, 0x756f, 0x7261, 0, a, b, c, d] => Some(
                [a, b, c, d]
                    .iter()
                    .fold(0, |index, part| index << 16 | u64::from(*part)),
            ),
            _ => None,
        },
        IpAddr::V4(_) => None,
    }
}

/// The destination connection id of a QUIC Initial; `None` for any other packet.
fn initial_dcid(packet: &[u8]) -> Option<Dcid> {
    let [first, _, _, _, version, len, rest @ ..] = packet else {
        return None;
    };
    // long header, fixed bit, type Initial, version 1, an invite's 20 bytes
    if first & 0xf0 != 0xc0 || *version != 1 || *len != 20 {
        return None;
    }
    Some(Dcid::from_bytes(rest.get(..20)?.try_into().ok()?))
}

impl Routes {
    /// From now on a session follows whoever was heard last, as it must never: for negative controls.
    pub const fn follow_last(&mut self) {
        self.follows_last = true;
    }

    /// Whether that rule is broken.
    pub const fn follows_last(&self) -> bool {
        self.follows_last
    }

    /// A guest may come with this connection id. Returns the session's virtual address.
    pub fn expect(&mut self, session: SessionId, dcid: Dcid) -> SocketAddr {
        self.add(session, dcid, false, Vec::new())
    }

    /// A host is dialled at these addresses. Returns the session's virtual address.
    pub fn dial(&mut self, session: SessionId, dcid: Dcid, addresses: Vec<Real>) -> SocketAddr {
        self.add(session, dcid, true, addresses)
    }

    fn add(
        &mut self,
        session: SessionId,
        dcid: Dcid,
        guest: bool,
        mut addresses: Vec<Real>,
    ) -> SocketAddr {
        addresses.truncate(TRIED_MAX);
        self.next += 1;
        let index = self.next;
        for real in &addresses {
            self.by_source.insert(*real, index);
        }
        let tried = addresses.into_iter().map(source).collect();
        if !guest {
            self.by_dcid.insert(dcid, index);
        }
        self.routes.insert(
            index,
            Route {
                session,
                guest,
                dcid,
                tried,
                chosen: None,
                completed: false,
                admitted: Vec::new(),
            },
        );
        virtual_address(index)
    }

    /// The session is over, or its guest no longer expected.
    pub fn forget(&mut self, session: SessionId) {
        let gone: Vec<u64> = self
            .routes
            .iter()
            .filter(|(_, route)| route.session == session)
            .map(|(index, _)| *index)
            .collect();
        for index in gone {
            if let Some(route) = self.routes.remove(&index) {
                self.by_dcid.remove(&route.dcid);
            }
            self.by_source.retain(|_, of| *of != index);
        }
    }

    /// The handshake completed: the session stays on the address it completed on.
    pub fn completed(&mut self, session: SessionId) {
        for (index, route) in &mut self.routes {
            if route.session == session {
                route.completed = true;
                let chosen = route.chosen;
                self.by_source
                    .retain(|real, of| of != index || Some(*real) == chosen);
                self.by_dcid.remove(&route.dcid);
            }
        }
    }

    /// A session that is dialled and that nobody answered yet tries this way too.
    pub fn also(&mut self, session: SessionId, way: Real) {
        let of = |(_, route): &(&u64, &mut Route)| route.session == session;
        let Some((index, route)) = self.routes.iter_mut().find(of) else {
            return;
        };
        let waits = route.guest && route.chosen.is_none() && route.tried.len() < TRIED_MAX;
        if waits && route.source(way).is_none() {
            route.tried.push(source(way));
            self.by_source.insert(way, *index);
        }
    }

    /// After the handshake a signed check came this way: packets that come this way are the other
    /// end's. The oldest of too many is let go, never the one that the handshake took.
    pub fn admit(&mut self, session: SessionId, way: Real) {
        let of = |(_, route): &(&u64, &mut Route)| route.session == session;
        let Some((index, route)) = self.routes.iter_mut().find(of) else {
            return;
        };
        // a source is one session's
        if !route.completed || self.by_source.get(&way).is_some_and(|held| held != index) {
            return;
        }
        if route.chosen != Some(way) && !route.admitted.contains(&way) {
            if route.admitted.len() >= ADMITTED_MAX {
                let oldest = route.admitted.remove(0);
                self.by_source.remove(&oldest);
            }
            route.admitted.push(way);
        }
        self.by_source.insert(way, *index);
    }

    /// An allocation is no more: nothing comes through it.
    pub fn lost(&mut self, base: Base) {
        self.by_source.retain(|way, _| way.0 != base);
        for route in self.routes.values_mut() {
            route.admitted.retain(|way| way.0 != base);
            if route.chosen.is_none() {
                route.tried.retain(|source| source.real.0 != base);
            }
        }
    }

    /// The virtual address of a session.
    pub fn address_of(&self, session: SessionId) -> Option<SocketAddr> {
        let mut routes = self.routes.iter();
        let (index, _) = routes.find(|(_, route)| route.session == session)?;
        Some(virtual_address(*index))
    }

    /// The session of a virtual address.
    pub fn session_of(&self, address: SocketAddr) -> Option<SessionId> {
        let route = self.routes.get(&index_of(address)?)?;
        Some(route.session)
    }

    /// A packet came: the virtual address that QUIC should see, or `None` to drop it.
    pub fn incoming(&mut self, from: Real, packet: &[u8], len: usize) -> Option<SocketAddr> {
        let index = match self.by_source.get(&from) {
            Some(index) => *index,
            None if self.follows_last && initial_dcid(packet).is_none() => {
                let standing = self.routes.iter_mut().find(|(_, route)| route.completed);
                let (index, route) = standing?;
                route.tried.push(source(from));
                route.chosen = Some(from);
                return Some(virtual_address(*index));
            }
            None => {
                let index = *self.by_dcid.get(&initial_dcid(packet)?)?;
                let route = self.routes.get_mut(&index)?;
                if route.completed || route.tried.len() >= SOURCES_MAX {
                    return None;
                }
                route.tried.push(source(from));
                self.by_source.insert(from, index);
                index
            }
        };
        let route = self.routes.get_mut(&index)?;
        // our own first packet, sent back to us, is no answer
        if route.guest && initial_dcid(packet) == Some(route.dcid) {
            return None;
        }
        // the first path heard, never the last
        let chosen = *route.chosen.get_or_insert(from);
        if route.completed && chosen != from && !route.admitted.contains(&from) {
            return None;
        }
        if let Some(source) = route.source(from) {
            source.received = source.received.saturating_add(len as u64);
        }
        Some(virtual_address(index))
    }

    /// Where a packet of QUIC's goes: nowhere, to the path, or to every address that is tried.
    pub fn outgoing(&mut self, to: SocketAddr, len: usize) -> Vec<Real> {
        let Some(route) = index_of(to).and_then(|index| self.routes.get_mut(&index)) else {
            return Vec::new();
        };
        let (limited, len) = (!route.guest && !route.completed, len as u64);
        match route.chosen {
            Some(chosen) if limited => {
                let allowed = route.source(chosen).filter(|source| {
                    source.sent.saturating_add(len) <= source.received.saturating_mul(3)
                });
                allowed.map_or_else(Vec::new, |source| {
                    source.sent += len;
                    vec![chosen]
                })
            }
            Some(chosen) => vec![chosen],
            None => {
                let mut machines: BTreeMap<IpAddr, u64> = BTreeMap::new();
                for source in &route.tried {
                    *machines.entry(source.real.1.ip()).or_default() += source.sent;
                }
                let mut targets = Vec::new();
                for source in &mut route.tried {
                    let sent = machines.entry(source.real.1.ip()).or_default();
                    if sent.saturating_add(len) <= UNANSWERED_MAX {
                        *sent += len;
                        source.sent += len;
                        targets.push(source.real);
                    }
                }
                targets
            }
        }
    }

    /// The path in use.
    pub fn chosen(&self, session: SessionId) -> Option<Real> {
        self.routes
            .values()
            .find(|route| route.session == session)?
            .chosen
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SESSION: SessionId = SessionId::from_bytes([1; 16]);
    const DCID: Dcid = Dcid::from_bytes([7; 20]);

    fn real(last: u8) -> Real {
        (Base::Socket(0), SocketAddr::from(([192, 0, 2, last], 9)))
    }

    fn initial(dcid: [u8; 20]) -> Vec<u8> {
        let mut packet = vec![0xc3, 0, 0, 0, 1, 20];
        packet.extend_from_slice(&dcid);
        packet.resize(1_200, 0);
        packet
    }

    // covers: SUORA-SET-004
    #[test]
    fn a_stranger_is_dropped_before_any_cryptography() {
        let mut routes = Routes::default();
        let address = routes.expect(SESSION, DCID);
        assert_eq!(routes.incoming(real(1), &initial([8; 20]), 1_200), None);
        assert_eq!(routes.incoming(real(1), &[0x40; 50], 50), None);
        assert_eq!(
            routes.incoming(real(1), &initial([7; 20]), 1_200),
            Some(address)
        );
        assert_eq!(routes.incoming(real(1), &[0x40; 50], 50), Some(address));
        routes.forget(SESSION);
        assert_eq!(routes.incoming(real(1), &initial([7; 20]), 1_200), None);
    }

    // covers: SUORA-SET-005
    #[test]
    fn a_guest_tries_all_addresses_and_stays_with_the_first_that_answers() {
        let mut routes = Routes::default();
        let address = routes.dial(SESSION, DCID, vec![real(1), real(2)]);
        assert_eq!(routes.outgoing(address, 1_200), [real(1), real(2)]);
        assert_eq!(routes.incoming(real(2), &[0xc3; 60], 60), Some(address));
        routes.incoming(real(1), &[0xc3; 60], 60);
        assert_eq!(routes.outgoing(address, 1_200), [real(2)]);
        routes.completed(SESSION);
        assert_eq!(routes.incoming(real(1), &[0x40; 60], 60), None);
    }

    // covers: SUORA-SET-121
    #[test]
    fn addresses_that_do_not_answer_get_the_first_packets_and_no_more() {
        let mut routes = Routes::default();
        let address = routes.dial(SESSION, DCID, (1..=8).map(real).collect());
        let mut sent = 0;
        while routes.outgoing(address, 1_200).len() == 8 {
            sent += 1_200;
            assert!(sent <= UNANSWERED_MAX);
        }
        assert_eq!(sent, UNANSWERED_MAX);
        assert_eq!(routes.outgoing(address, 1_200), []);
        // one that answers gets what it needs
        routes.incoming(real(3), &[0xc3; 60], 60);
        assert_eq!(routes.outgoing(address, 50_000), [real(3)]);
    }

    // covers: SUORA-SET-121
    #[test]
    fn one_machine_that_is_listed_by_many_ports_gets_no_more() {
        let mut routes = Routes::default();
        let machine = |port| (Base::Socket(0), SocketAddr::from(([192, 0, 2, 1], port)));
        let mut addresses: Vec<Real> = (1..=7).map(machine).collect();
        addresses.push(real(2));
        let address = routes.dial(SESSION, DCID, addresses);
        let (mut first, mut second) = (0, 0);
        for _ in 0..50 {
            for (_, to) in routes.outgoing(address, 1_200) {
                if to.ip() == real(2).1.ip() {
                    second += 1_200;
                } else {
                    first += 1_200;
                }
            }
        }
        assert_eq!((first, second), (UNANSWERED_MAX, UNANSWERED_MAX));
    }

    // covers: SUORA-SET-120
    #[test]
    fn a_guests_own_packet_that_comes_back_chooses_no_path() {
        let mut routes = Routes::default();
        let address = routes.dial(SESSION, DCID, vec![real(1), real(2)]);
        assert_eq!(routes.incoming(real(1), &initial([7; 20]), 1_200), None);
        assert_eq!(routes.chosen(SESSION), None);
        assert_eq!(
            routes.incoming(real(2), &initial([9; 20]), 1_200),
            Some(address)
        );
        assert_eq!(routes.chosen(SESSION), Some(real(2)));
    }

    // covers: SUORA-SET-006
    #[test]
    fn an_unproven_address_gets_three_times_what_it_sent() {
        let mut routes = Routes::default();
        let address = routes.expect(SESSION, DCID);
        routes.incoming(real(1), &initial([7; 20]), 1_200);
        assert!(!routes.outgoing(address, 3_600).is_empty());
        assert!(routes.outgoing(address, 1).is_empty());
        routes.completed(SESSION);
        assert!(!routes.outgoing(address, 9_000).is_empty());
    }

    // covers: SUORA-SET-006
    #[test]
    fn what_one_address_sent_does_not_count_for_another() {
        let mut routes = Routes::default();
        let address = routes.expect(SESSION, DCID);
        routes.incoming(real(1), &initial([7; 20]), 1_200);
        for other in 2..=20 {
            routes.incoming(real(other), &initial([7; 20]), 1_200);
        }
        let mut sent = 0;
        while routes.outgoing(address, 1_200) == [real(1)] {
            sent += 1_200;
        }
        assert_eq!(sent, 3_600);
        assert_eq!(routes.outgoing(address, 1), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_packet_goes_to_the_session_whose_connection_id_it_bears_or_nowhere(
            mut packet in proptest::collection::vec(any::<u8>(), 0..80),
            begins in 0..4usize,
            from in 1..30u8,
        ) {
            let head = initial([7; 20]);
            let len = packet.len();
            packet[..len.min(begins * 9)].copy_from_slice(&head[..len.min(begins * 9)]);
            let mut routes = Routes::default();
            let address = routes.expect(SESSION, DCID);
            let bears = len >= 26 && packet[0] & 0xf0 == 0xc0 && packet[4..6] == head[4..6] && packet[6..26] == [7; 20];
            let taken = routes.incoming(real(from), &packet, len);
            prop_assert_eq!(taken, bears.then_some(address));
        }
    }

    #[test]
    fn after_the_handshake_a_replayed_initial_moves_nothing() {
        let mut routes = Routes::default();
        routes.expect(SESSION, DCID);
        routes.incoming(real(1), &initial([7; 20]), 1_200);
        routes.completed(SESSION);
        assert_eq!(routes.incoming(real(3), &initial([7; 20]), 1_200), None);
        assert_eq!(routes.chosen(SESSION), Some(real(1)));
    }
}
