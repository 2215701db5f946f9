//! Which addresses an end may gather, tell, check and answer (`spec/setup.md`, section 6;
//! RFC 8445, RFC 8838). Pure: the desk's policy, the person's own choice and the addresses go
//! in, what may be done with them comes out.

use std::net::SocketAddr;

use suora_protocol::documents::AddressPolicy;
use suora_protocol::limits::CANDIDATES_MAX;
use suora_protocol::wire::path::{Candidate, Kind};

use super::{Network, is_private, is_within_reach, refusal};

/// From where our packets leave.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Base {
    /// One of our sockets.
    Socket(usize),
    /// One of our allocations.
    Relay(usize),
}

/// How a packet goes to the other end: from a base, to an address.
pub type Way = (Base, SocketAddr);

/// An address of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Local {
    /// Where its packets come from and go to.
    pub base: Base,
    /// How it was found.
    pub kind: Kind,
    /// The address.
    pub address: SocketAddr,
}

/// What an end may show of itself, and whom it may check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The desk's, as the invite repeats it.
    pub desk: AddressPolicy,
    /// The person hides their address, whatever the desk says.
    pub hidden: bool,
    /// Whether this end is the host.
    pub host: bool,
    /// The officer accepted.
    pub accepted: bool,
    /// The person asked for addresses of this machine.
    pub loopback: bool,
    /// The person asked for private addresses beyond own networks.
    pub routed: bool,
    /// The person said where this end is reached: it begins no direct check of its own, which
    /// would come from elsewhere, and answers those that come.
    pub fixed: bool,
}

impl Policy {
    /// Whether neither end may learn where this one is.
    pub fn relay_only(&self) -> bool {
        self.hidden || self.desk == AddressPolicy::RelayOnly
    }

    /// Whether direct candidates may be told, and checked.
    pub fn direct(&self) -> bool {
        !self.relay_only() && (self.desk == AddressPolicy::Open || self.accepted)
    }

    /// Whether packets may leave our own sockets for the other end at all, be it for its relayed
    /// address, which shows it ours: a guest's from the match on, a host's from the accept on.
    pub fn bare(&self) -> bool {
        !self.relay_only() && (self.direct() || !self.host)
    }

    /// Whether a check may leave this base for an address of this kind, and be answered.
    pub fn allows(&self, base: Base, remote: Kind) -> bool {
        match base {
            Base::Relay(_) => true,
            Base::Socket(_) => self.direct() || (self.bare() && remote == Kind::Relayed),
        }
    }

    /// What is told of our addresses: those that the policy allows, each once, relayed ones
    /// first, then as servers see us.
    pub fn told(&self, locals: &[Local]) -> Vec<Candidate> {
        let mut told: Vec<Candidate> = Vec::new();
        for wanted in [Kind::Relayed, Kind::Reflexive, Kind::Host] {
            for local in locals.iter().filter(|local| local.kind == wanted) {
                let may = wanted == Kind::Relayed || self.direct();
                let candidate = Candidate {
                    kind: wanted,
                    address: local.address.to_string(),
                };
                let known = told.iter().any(|one| one.address == candidate.address);
                if may && !known && refusal(local.address, self.loopback).is_none() {
                    told.push(candidate);
                }
            }
        }
        told.truncate(CANDIDATES_MAX);
        told
    }

    /// The candidates of the other end that may be checked, each once. `own` are the networks of
    /// our interfaces; a candidate that is no address is none.
    pub fn heard(&self, candidates: &[Candidate], own: &[Network]) -> Vec<(Kind, SocketAddr)> {
        let mut heard: Vec<(Kind, SocketAddr)> = Vec::new();
        for candidate in candidates.iter().take(CANDIDATES_MAX) {
            let Ok(address) = candidate.address.parse::<SocketAddr>() else {
                continue;
            };
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            let kind = candidate.kind;
            if kind == Kind::Unknown || (kind != Kind::Relayed && !self.direct()) {
                continue;
            }
            if self.reaches(address, own) && !heard.iter().any(|(_, known)| *known == address) {
                heard.push((kind, address));
            }
        }
        heard
    }

    /// Whether an address may be sent to at all.
    pub fn reaches(&self, address: SocketAddr, own: &[Network]) -> bool {
        refusal(address, self.loopback).is_none()
            && (!is_private(address.ip()) || self.routed || is_within_reach(address.ip(), own))
    }
}

/// How much a kind is preferred: RFC 8445 section 5.1.2.2.
pub const fn preference(kind: Kind) -> u32 {
    match kind {
        Kind::Host => 126,
        Kind::Reflexive => 100,
        Kind::Relayed | Kind::Unknown => 0,
    }
}

/// A candidate's priority: RFC 8445 section 5.1.2.1, IPv6 before IPv4.
pub fn priority(kind: Kind, address: SocketAddr) -> u32 {
    let family = if address.is_ipv6() { 65_535 } else { 65_534 };
    (preference(kind) << 24) + (family << 8) + 255
}

/// A pair's priority: RFC 8445 section 6.1.2.3.
pub fn pair_priority(controlling: u32, controlled: u32) -> u64 {
    let (least, most) = (controlling.min(controlled), controlling.max(controlled));
    (u64::from(least) << 32) + 2 * u64::from(most) + u64::from(controlling > controlled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Policy = Policy {
        desk: AddressPolicy::Open,
        hidden: false,
        host: true,
        accepted: false,
        loopback: false,
        routed: false,
        fixed: false,
    };

    fn local(kind: Kind, address: &str) -> Local {
        let base = match kind {
            Kind::Relayed => Base::Relay(1),
            _ => Base::Socket(0),
        };
        let address = address.parse().unwrap();
        Local {
            base,
            kind,
            address,
        }
    }

    fn locals() -> Vec<Local> {
        vec![
            local(Kind::Host, "192.168.7.20:5000"),
            local(Kind::Host, "127.0.0.1:5000"),
            local(Kind::Host, "169.254.1.1:5000"),
            local(Kind::Host, "[fe80::1]:5000"),
            local(Kind::Reflexive, "198.51.100.7:40001"),
            local(Kind::Reflexive, "198.51.100.7:40001"),
            local(Kind::Relayed, "203.0.113.1:50001"),
        ]
    }

    fn told(policy: Policy) -> Vec<String> {
        let told = policy.told(&locals()).into_iter();
        told.map(|candidate| candidate.address).collect()
    }

    // covers: SUORA-SET-203
    #[test]
    fn direct_addresses_are_told_at_once_after_the_accept_or_never() {
        let all = [
            "203.0.113.1:50001",
            "198.51.100.7:40001",
            "192.168.7.20:5000",
        ];
        let relayed = &all[..1];
        assert_eq!(told(OPEN), all);
        let after = Policy {
            desk: AddressPolicy::AfterAccept,
            ..OPEN
        };
        assert_eq!(told(after), relayed);
        let accepted = Policy {
            accepted: true,
            ..after
        };
        assert_eq!(told(accepted), all);
        let never = Policy {
            desk: AddressPolicy::RelayOnly,
            ..accepted
        };
        assert_eq!(told(never), relayed);
        let own_choice = Policy {
            hidden: true,
            accepted: true,
            ..OPEN
        };
        assert_eq!(told(own_choice), relayed);
        let demo = Policy {
            loopback: true,
            ..OPEN
        };
        assert!(told(demo).contains(&"127.0.0.1:5000".to_string()));
    }

    // covers: SUORA-SET-203, SUORA-SET-204
    #[test]
    fn before_the_accept_only_a_guest_shows_its_address_and_who_hides_never_does() {
        let socket = |policy: Policy, kind| policy.allows(Base::Socket(0), kind);
        let after = Policy {
            desk: AddressPolicy::AfterAccept,
            ..OPEN
        };
        let guest = Policy {
            host: false,
            ..after
        };
        // a guest dials the officer's relayed address from its own socket
        assert!(socket(guest, Kind::Relayed) && !socket(guest, Kind::Host));
        // an officer does nothing of that kind
        assert!(!socket(after, Kind::Relayed) && !socket(after, Kind::Reflexive));
        for end in [after, guest] {
            let accepted = Policy {
                accepted: true,
                ..end
            };
            assert!(socket(accepted, Kind::Host) && socket(accepted, Kind::Relayed));
            for hidden in [
                Policy {
                    hidden: true,
                    ..accepted
                },
                Policy {
                    desk: AddressPolicy::RelayOnly,
                    ..accepted
                },
            ] {
                for kind in [Kind::Host, Kind::Reflexive, Kind::Relayed, Kind::Unknown] {
                    assert!(!socket(hidden, kind));
                    assert!(hidden.allows(Base::Relay(1), kind));
                }
            }
        }
    }

    // covers: SUORA-SET-205
    #[test]
    fn only_addresses_that_others_reach_and_own_networks_hold_are_checked() {
        let own: &[Network] = &[("192.168.7.20".parse().unwrap(), 24)];
        let candidate = |address: &str| Candidate {
            kind: Kind::Host,
            address: address.into(),
        };
        let heard = |policy: Policy, addresses: &[&str]| -> Vec<String> {
            let candidates: Vec<_> = addresses.iter().copied().map(candidate).collect();
            let heard = policy.heard(&candidates, own).into_iter();
            heard.map(|(_, address)| address.to_string()).collect()
        };
        let never = [
            "127.0.0.1:1",
            "169.254.1.1:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "0.0.0.0:1",
            "198.51.100.1:0",
            "[fe80::1]:1",
            "[ff02::1]:1",
            "192.168.8.1:1",
            "10.0.0.1:1",
            "example.org:1",
            "",
        ];
        assert_eq!(heard(OPEN, &never), Vec::<String>::new());
        let fine = ["192.168.7.9:1", "[::ffff:192.168.7.9]:1", "198.51.100.1:2"];
        assert_eq!(heard(OPEN, &fine), ["192.168.7.9:1", "198.51.100.1:2"]);
        let routed = Policy {
            routed: true,
            ..OPEN
        };
        assert_eq!(heard(routed, &["10.0.0.1:1"]), ["10.0.0.1:1"]);
        // before the accept they are not even looked at
        let after = Policy {
            desk: AddressPolicy::AfterAccept,
            ..OPEN
        };
        assert_eq!(heard(after, &fine), Vec::<String>::new());
        assert_eq!(heard(OPEN, &vec!["198.51.100.1:2"; 40]).len(), 1);
        let many: Vec<String> = (0..40)
            .map(|n| format!("198.51.100.1:{}", 1_000 + n))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(heard(OPEN, &many).len(), CANDIDATES_MAX);
    }

    #[test]
    fn pairs_are_ranked_as_both_ends_rank_them() {
        let of = |kind, address: &str| priority(kind, address.parse().unwrap());
        let (host, six) = (
            of(Kind::Host, "192.0.2.1:1"),
            of(Kind::Host, "[2001:db8::1]:1"),
        );
        let (seen, relayed) = (
            of(Kind::Reflexive, "192.0.2.1:1"),
            of(Kind::Relayed, "192.0.2.1:1"),
        );
        assert!(six > host && host > seen && seen > relayed);
        assert!(pair_priority(host, host) > pair_priority(host, seen));
        assert!(pair_priority(seen, host) > pair_priority(host, relayed));
    }
}
