//! PURE: a network address translator after RFC 4787: how it maps, what it filters, when it
//! forgets. Its clock is an argument; a translator without an outside address is a firewall.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use suora_protocol::identity::Draw;

/// Mappings that live at a time; those after them get none (RFC 4787 section 4.4 asks that old
/// ones do not suffer).
const MAPPINGS_MAX: usize = 4_096;
/// Addresses that one inside address may be heard from.
const PERMITS_MAX: usize = 256;
/// Ports that are drawn from.
const PORTS: std::ops::Range<u16> = 20_000..60_000;

/// What a mapping or a filter looks at beside the inside address: RFC 4787 sections 4.1 and 5.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Dependence {
    /// Endpoint-independent: nothing.
    Independent,
    /// The other end's address.
    Address,
    /// The other end's address and port.
    AddressAndPort,
}

impl Dependence {
    /// The part of the other end's address that counts.
    fn part(self, other: SocketAddr) -> Option<(IpAddr, u16)> {
        match self {
            Self::Independent => None,
            Self::Address => Some((other.ip(), 0)),
            Self::AddressAndPort => Some((other.ip(), other.port())),
        }
    }

    /// RFC 5780's word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Independent => "endpoint-independent",
            Self::Address => "address-dependent",
            Self::AddressAndPort => "address-and-port-dependent",
        }
    }
}

/// How a translator behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behaviour {
    /// RFC 4787 section 4.1.
    pub mapping: Dependence,
    /// RFC 4787 section 5.
    pub filtering: Dependence,
    /// Insiders reach each other by their outside addresses: section 6.
    pub hairpin: bool,
    /// How long a mapping lives after the last packet that left through it: section 4.3. Packets
    /// that come in do not refresh it.
    pub lifetime: Duration,
}

/// Where a packet goes on, with both its addresses then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passed {
    /// To the outside.
    Out(SocketAddr, SocketAddr),
    /// To another insider.
    Back(SocketAddr, SocketAddr),
}

#[derive(Debug)]
struct Entry {
    inside: SocketAddr,
    part: Option<(IpAddr, u16)>,
    used: Duration,
}

/// A translator, or a firewall that only filters.
#[derive(Debug)]
pub struct Nat {
    behaviour: Behaviour,
    outside: Option<IpAddr>,
    draw: Draw,
    /// By the outside address.
    mappings: BTreeMap<SocketAddr, Entry>,
    /// When an inside address last sent to another.
    permits: BTreeMap<SocketAddr, BTreeMap<SocketAddr, Duration>>,
}

impl Nat {
    /// A translator with this address on the outside; its chance from `seed`.
    pub fn new(behaviour: Behaviour, outside: IpAddr, seed: u8) -> Self {
        Self::with(behaviour, Some(outside), seed)
    }

    /// A firewall: addresses stay, only answers come in.
    pub fn firewall(filtering: Dependence, lifetime: Duration) -> Self {
        let behaviour = Behaviour {
            mapping: Dependence::Independent,
            filtering,
            hairpin: false,
            lifetime,
        };
        Self::with(behaviour, None, 0)
    }

    fn with(behaviour: Behaviour, outside: Option<IpAddr>, seed: u8) -> Self {
        Self {
            behaviour,
            outside,
            draw: Draw::from_seed([seed; 32]),
            mappings: BTreeMap::new(),
            permits: BTreeMap::new(),
        }
    }

    /// It forgets everything, and has another address on the outside from now on.
    pub fn reboot(&mut self, outside: IpAddr) {
        self.outside = self.outside.map(|_| outside);
        self.mappings.clear();
        self.permits.clear();
    }

    /// A packet of an insider, and where it goes on; `None`: it is lost.
    pub fn outbound(
        &mut self,
        now: Duration,
        inside: SocketAddr,
        to: SocketAddr,
    ) -> Option<Passed> {
        let from = self.mapped(now, inside, to)?;
        let permits = self.permits.entry(inside).or_default();
        if permits.len() >= PERMITS_MAX {
            let oldest = permits.iter().min_by_key(|(_, used)| **used);
            let oldest = oldest.map(|(other, _)| *other);
            oldest.map(|other| permits.remove(&other));
        }
        permits.insert(to, now);
        if self.outside != Some(to.ip()) {
            return Some(Passed::Out(from, to));
        }
        if !self.behaviour.hairpin {
            return None;
        }
        let other = self.inbound(now, from, to)?;
        Some(Passed::Back(from, other))
    }

    /// A packet of an outsider to `to`, and the insider who gets it; `None`: it is lost.
    pub fn inbound(
        &mut self,
        now: Duration,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        let lifetime = self.behaviour.lifetime;
        let alive = |used: Duration| now.saturating_sub(used) < lifetime;
        let entry = self.mappings.get(&to).filter(|entry| alive(entry.used))?;
        let wanted = self.behaviour.filtering;
        let permitted = wanted == Dependence::Independent
            || self.permits.get(&entry.inside).is_some_and(|permits| {
                permits
                    .iter()
                    .any(|(other, used)| alive(*used) && wanted.part(*other) == wanted.part(from))
            });
        permitted.then_some(entry.inside)
    }

    /// The outside address for a packet of an insider.
    fn mapped(&mut self, now: Duration, inside: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        let lifetime = self.behaviour.lifetime;
        self.mappings
            .retain(|_, entry| now.saturating_sub(entry.used) < lifetime);
        let part = self.behaviour.mapping.part(to);
        let known = self
            .mappings
            .iter_mut()
            .find(|(_, entry)| entry.inside == inside && entry.part == part);
        if let Some((outside, entry)) = known {
            entry.used = now;
            return Some(*outside);
        }
        if self.mappings.len() >= MAPPINGS_MAX {
            return None;
        }
        let outside = self.free(inside)?;
        let entry = Entry {
            inside,
            part,
            used: now,
        };
        self.mappings.insert(outside, entry);
        Some(outside)
    }

    /// An outside address that nobody has: with the insider's own port where the mapping does
    /// not depend on the other end and the port is free, else with a drawn one.
    fn free(&mut self, inside: SocketAddr) -> Option<SocketAddr> {
        let Some(outside) = self.outside else {
            return Some(inside);
        };
        let own = SocketAddr::new(outside, inside.port());
        let keeps = self.behaviour.mapping == Dependence::Independent;
        if keeps && !self.mappings.contains_key(&own) {
            return Some(own);
        }
        let span = u64::from(PORTS.end - PORTS.start);
        (0..64).find_map(|_| {
            let port = u16::try_from(self.draw.below(span)).unwrap_or(0) + PORTS.start;
            let drawn = SocketAddr::new(outside, port);
            (!self.mappings.contains_key(&drawn)).then_some(drawn)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Dependence::{Address, AddressAndPort, Independent};
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn nat(mapping: Dependence, filtering: Dependence) -> Nat {
        let behaviour = Behaviour {
            mapping,
            filtering,
            hairpin: true,
            lifetime: S(30),
        };
        Nat::new(behaviour, "198.18.1.1".parse().unwrap(), 7)
    }

    fn out(nat: &mut Nat, now: u64, to: &str) -> SocketAddr {
        match nat.outbound(S(now), at("192.168.1.2:5000"), at(to)) {
            Some(Passed::Out(from, to_too)) => {
                assert_eq!(to_too, at(to));
                from
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_mapping_depends_on_what_its_kind_says() {
        let others = ["198.18.9.1:10", "198.18.9.1:11", "198.18.9.2:10"];
        let distinct = |mapping| {
            let mut nat = nat(mapping, Independent);
            let mut seen: Vec<_> = others.iter().map(|to| out(&mut nat, 0, to)).collect();
            // each stays for its destination
            for (to, before) in others.iter().zip(seen.clone()) {
                assert_eq!(out(&mut nat, 1, to), before);
            }
            seen.dedup();
            seen.len()
        };
        assert_eq!(distinct(Independent), 1);
        assert_eq!(distinct(Address), 2);
        assert_eq!(distinct(AddressAndPort), 3);
    }

    #[test]
    fn a_filter_looks_at_what_its_kind_says_and_never_at_the_mapping() {
        let heard = |filtering, from: &str| {
            let mut nat = nat(AddressAndPort, filtering);
            let first = out(&mut nat, 0, "198.18.9.1:10");
            out(&mut nat, 0, "198.18.9.2:10");
            nat.inbound(S(1), at(from), first).is_some()
        };
        for (filtering, expected) in [
            (Independent, [true, true, true, true]),
            (Address, [true, true, true, false]),
            (AddressAndPort, [true, false, true, false]),
        ] {
            let from = [
                "198.18.9.1:10",
                "198.18.9.1:11",
                "198.18.9.2:10",
                "198.18.9.3:10",
            ];
            assert_eq!(from.map(|from| heard(filtering, from)), expected);
        }
    }

    #[test]
    fn only_what_leaves_keeps_a_mapping() {
        let mut nat = nat(Independent, AddressAndPort);
        let from = out(&mut nat, 0, "198.18.9.1:10");
        assert!(nat.inbound(S(29), at("198.18.9.1:10"), from).is_some());
        assert!(nat.inbound(S(30), at("198.18.9.1:10"), from).is_none());
        assert_eq!(out(&mut nat, 31, "198.18.9.1:10"), from);
        assert!(nat.inbound(S(60), at("198.18.9.1:10"), from).is_some());
    }

    #[test]
    fn insiders_meet_outside_where_it_turns_their_packets_round() {
        let two = at("192.168.1.3:6000");
        let mut nat = nat(Independent, Address);
        let one = out(&mut nat, 0, "198.18.9.1:10");
        let Some(Passed::Out(mapped, _)) = nat.outbound(S(0), two, at("198.18.9.1:10")) else {
            panic!("no mapping");
        };
        // the other has not sent to it yet
        assert_eq!(nat.outbound(S(1), at("192.168.1.2:5000"), mapped), None);
        let met = nat.outbound(S(1), two, one);
        assert_eq!(met, Some(Passed::Back(mapped, at("192.168.1.2:5000"))));
        nat.behaviour.hairpin = false;
        assert_eq!(nat.outbound(S(1), two, one), None);
    }

    #[test]
    fn a_reboot_forgets_and_moves() {
        let mut nat = nat(Independent, Independent);
        let before = out(&mut nat, 0, "198.18.9.1:10");
        nat.reboot("198.18.1.9".parse().unwrap());
        assert!(nat.inbound(S(1), at("198.18.9.1:10"), before).is_none());
        assert_eq!(out(&mut nat, 1, "198.18.9.1:10"), at("198.18.1.9:5000"));
    }

    #[test]
    fn two_insiders_with_one_port_get_two_mappings_and_the_number_is_bounded() {
        let mut nat = nat(Independent, Independent);
        let mut seen = std::collections::BTreeSet::new();
        for host in 0..MAPPINGS_MAX {
            let host = u16::try_from(host).unwrap();
            let inside = SocketAddr::from(([10, 0, (host >> 8) as u8, host as u8], 5_000));
            match nat.outbound(S(0), inside, at("198.18.9.1:10")) {
                Some(Passed::Out(from, _)) => assert!(seen.insert(from)),
                other => panic!("{other:?}"),
            }
        }
        let more = nat.outbound(S(0), at("10.1.0.1:1"), at("198.18.9.1:10"));
        assert_eq!(more, None);
    }

    #[test]
    fn a_firewall_changes_no_address_and_lets_answers_in() {
        let mut wall = Nat::firewall(AddressAndPort, S(30));
        let (inside, other) = (at("[2001:db8:1::2]:5000"), at("[2001:db8:2::2]:6000"));
        assert_eq!(wall.inbound(S(0), other, inside), None);
        let passed = wall.outbound(S(0), inside, other);
        assert_eq!(passed, Some(Passed::Out(inside, other)));
        assert_eq!(wall.inbound(S(1), other, inside), Some(inside));
        let stranger = at("[2001:db8:2::2]:6001");
        assert_eq!(wall.inbound(S(1), stranger, inside), None);
    }
}
