//! PURE: the kinds of network that an end may sit in, and what each claims to be.

use std::time::Duration;

use super::rule::{Access, Side};
use crate::world::nat::Dependence::{Address, AddressAndPort, Independent};
use crate::world::nat::{Behaviour, Dependence};

/// Bytes of an IP packet that a wire takes by default.
pub const MTU: u16 = 1_500;
/// How long a translator of the lab keeps a mapping, where its kind says nothing else.
const LIFETIME: Duration = Duration::from_secs(120);

/// Who translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The kernel's own translator, as in a home router.
    Kernel,
    /// The model of RFC 4787, on the wire: what the kernel cannot be.
    Model,
}

/// A translator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Router {
    /// How it behaves.
    pub behaviour: Behaviour,
    /// Who does it.
    pub by: By,
}

/// Which TCP leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tcp {
    /// All of it.
    All,
    /// To port 443 only.
    Only443,
}

/// A kind of network.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Kind {
    /// Its name in tables and on the command line.
    pub name: &'static str,
    /// In a few words.
    pub says: &'static str,
    /// There is IPv4, behind these translators: the home's first, the carrier's last.
    pub v4: Option<&'static [Router]>,
    /// There is IPv6; behind a firewall that lets answers in, where there is a translator.
    pub v6: bool,
    /// UDP leaves.
    pub udp: bool,
    /// TCP leaves.
    pub tcp: Tcp,
    /// Bytes of the longest IP packet.
    pub mtu: u16,
    /// The control connection leaves from another public address than everything else.
    pub second: bool,
}

const fn router(mapping: Dependence, filtering: Dependence) -> Router {
    Router {
        behaviour: Behaviour {
            mapping,
            filtering,
            hairpin: false,
            lifetime: LIFETIME,
        },
        by: By::Kernel,
    }
}

const fn model(filtering: Dependence) -> Router {
    Router {
        by: By::Model,
        ..router(AddressAndPort, filtering)
    }
}

const fn hairpin(mut router: Router) -> Router {
    router.behaviour.hairpin = true;
    router
}

const fn short(mut router: Router, seconds: u64) -> Router {
    router.behaviour.lifetime = Duration::from_secs(seconds);
    router
}

const HOME: Router = router(Independent, AddressAndPort);

const PLAIN: Kind = Kind {
    name: "port-restricted",
    says: "a home router: endpoint-independent mapping, port-dependent filtering",
    v4: Some(&[HOME]),
    v6: false,
    udp: true,
    tcp: Tcp::All,
    mtu: MTU,
    second: false,
};

/// All of them. Each proves itself before it is used.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "public",
        says: "public addresses of both families, no translator",
        v4: Some(&[]),
        v6: true,
        ..PLAIN
    },
    Kind {
        name: "full-cone",
        says: "endpoint-independent mapping and filtering",
        v4: Some(&[router(Independent, Independent)]),
        ..PLAIN
    },
    Kind {
        name: "addr-restricted",
        says: "endpoint-independent mapping, address-dependent filtering",
        v4: Some(&[router(Independent, Address)]),
        ..PLAIN
    },
    PLAIN,
    Kind {
        name: "scatter-open",
        says: "address-and-port-dependent mapping, endpoint-independent filtering",
        v4: Some(&[model(Independent)]),
        ..PLAIN
    },
    Kind {
        name: "scatter-addr",
        says: "address-and-port-dependent mapping, address-dependent filtering",
        v4: Some(&[model(Address)]),
        ..PLAIN
    },
    Kind {
        name: "symmetric",
        says: "address-and-port-dependent mapping with random ports, and filtering",
        v4: Some(&[router(AddressAndPort, AddressAndPort)]),
        ..PLAIN
    },
    Kind {
        name: "carrier",
        says: "a home router behind a carrier's translator that turns packets round",
        v4: Some(&[HOME, hairpin(router(Independent, Independent))]),
        ..PLAIN
    },
    Kind {
        name: "carrier-strict",
        says: "a home router behind a carrier's symmetric translator",
        v4: Some(&[HOME, router(AddressAndPort, AddressAndPort)]),
        ..PLAIN
    },
    Kind {
        name: "six-only",
        says: "IPv6 behind a firewall, no IPv4",
        v4: None,
        v6: true,
        ..PLAIN
    },
    Kind {
        name: "dual",
        says: "IPv4 behind a symmetric translator, IPv6 behind a firewall",
        v4: Some(&[router(AddressAndPort, AddressAndPort)]),
        v6: true,
        ..PLAIN
    },
    Kind {
        name: "no-udp",
        says: "UDP is blocked",
        udp: false,
        ..PLAIN
    },
    Kind {
        name: "only-443",
        says: "nothing but TCP to port 443 leaves",
        udp: false,
        tcp: Tcp::Only443,
        ..PLAIN
    },
    Kind {
        name: "mtu-1280",
        says: "a home router whose line takes 1280 bytes",
        mtu: 1_280,
        ..PLAIN
    },
    Kind {
        name: "two-uplinks",
        says: "the control connection leaves from another public address than media",
        second: true,
        ..PLAIN
    },
    Kind {
        name: "hairpin",
        says: "a full cone that turns packets of insiders round",
        v4: Some(&[hairpin(router(Independent, Independent))]),
        ..PLAIN
    },
    Kind {
        name: "carrier-flat",
        says: "a home router behind a carrier's translator that turns nothing round",
        v4: Some(&[HOME, router(Independent, Independent)]),
        ..PLAIN
    },
    Kind {
        name: "thirty",
        says: "a home router that forgets a mapping after 30 s",
        v4: Some(&[short(HOME, 30)]),
        ..PLAIN
    },
    Kind {
        name: "three",
        says: "a home router that forgets a mapping after 3 s",
        v4: Some(&[short(HOME, 3)]),
        ..PLAIN
    },
];

/// The kinds of which the matrix crosses each with each.
pub const CROSSED: &[&str] = &[
    "public",
    "full-cone",
    "addr-restricted",
    "port-restricted",
    "scatter-open",
    "scatter-addr",
    "symmetric",
    "carrier",
    "carrier-strict",
    "six-only",
    "dual",
    "no-udp",
    "only-443",
    "mtu-1280",
    "two-uplinks",
];

/// A kind by its name.
pub fn named(name: &str) -> Result<&'static Kind, String> {
    KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        format!("no kind of network {name}; there are {}", names.join(", "))
    })
}

impl Kind {
    /// Everything between an IPv4 host and the open, together.
    pub fn access(&self) -> Option<Access> {
        let routers = self.v4?;
        let each = routers.iter().map(|router| Access {
            mapping: router.behaviour.mapping,
            filtering: router.behaviour.filtering,
        });
        Some(each.fold(Access::OPEN, Access::and))
    }

    /// The firewall between an IPv6 host and the open.
    pub fn access6(&self) -> Option<Access> {
        let filtering = match self.v4 {
            Some([]) => Independent,
            _ => AddressAndPort,
        };
        self.v6.then_some(Access {
            mapping: Independent,
            filtering,
        })
    }

    /// How long a mapping lives: the shortest of its translators.
    pub fn lifetime(&self) -> Option<Duration> {
        let routers = self.v4?.iter();
        routers.map(|router| router.behaviour.lifetime).min()
    }

    /// Insiders of the outermost translator reach each other by their outside addresses.
    pub fn turns(&self) -> Option<bool> {
        self.v4?.last().map(|router| router.behaviour.hairpin)
    }

    /// There is a carrier's translator beyond the home's.
    pub fn carried(&self) -> bool {
        self.v4.is_some_and(|routers| routers.len() > 1)
    }

    /// An end in such a network, as the rule sees it.
    pub fn side(&self, lan: u16, carrier: u16) -> Side {
        let turns = self.turns().unwrap_or(false);
        Side {
            udp: self.udp,
            v4: self.access(),
            v6: self.access6(),
            lan,
            carrier: self.carried().then_some((carrier, turns)),
            relay_only: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_the_crossed_ones_known() {
        let mut names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KINDS.len());
        for name in CROSSED {
            assert_eq!(named(name).map(|kind| kind.name), Ok(*name));
        }
        assert!(named("cone").unwrap_err().contains("full-cone"));
    }

    #[test]
    fn the_kernel_is_asked_for_what_it_can_be_only() {
        // its translator answers a stranger through the mapping that let the stranger in, which
        // a mapping per destination must not
        for router in KINDS.iter().filter_map(|kind| kind.v4).flatten() {
            let behaviour = router.behaviour;
            let scattered = behaviour.mapping != Independent;
            let strict = behaviour.filtering == AddressAndPort;
            assert_eq!(router.by == By::Model, scattered && !strict);
        }
    }

    #[test]
    fn two_translators_claim_what_the_stricter_does() {
        let access = |name| named(name).unwrap().access().unwrap();
        assert_eq!(access("carrier"), access("port-restricted"));
        assert_eq!(access("carrier-strict"), access("symmetric"));
        assert_eq!(access("public"), Access::OPEN);
    }
}
