//! PURE: hosts behind translators and firewalls, and which host a datagram reaches. The way is
//! walked at once; what takes time is the caller's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::nat::{Nat, Passed};

/// A translator of the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NatId(usize);

/// A host of the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostId(usize);

#[derive(Debug)]
struct Placed {
    nat: Nat,
    /// Its address outside, and the network that is in.
    outside: IpAddr,
    above: Option<NatId>,
}

#[derive(Debug)]
struct Host {
    v4: Option<SocketAddr>,
    above: Option<NatId>,
    v6: Option<SocketAddr>,
    wall: Option<Nat>,
    udp: bool,
}

/// What a host is made of.
#[derive(Debug)]
pub struct Place {
    /// Its IPv4 socket, where it has one, and the translator it is behind.
    pub v4: Option<SocketAddr>,
    /// The translator that it is behind; `None`: the address is public.
    pub above: Option<NatId>,
    /// Its IPv6 socket, and the firewall in front of it.
    pub v6: Option<SocketAddr>,
    /// What guards the IPv6 socket.
    pub wall: Option<Nat>,
    /// UDP passes its router.
    pub udp: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Internet {
    nats: Vec<Placed>,
    hosts: Vec<Host>,
}

impl Internet {
    /// A translator with this outside address, in the network of another or in the open.
    pub fn nat(&mut self, nat: Nat, outside: IpAddr, above: Option<NatId>) -> NatId {
        self.nats.push(Placed {
            nat,
            outside,
            above,
        });
        NatId(self.nats.len() - 1)
    }

    /// A host.
    pub fn host(&mut self, place: Place) -> HostId {
        let Place {
            v4,
            above,
            v6,
            wall,
            udp,
        } = place;
        self.hosts.push(Host {
            v4,
            above,
            v6,
            wall,
            udp,
        });
        HostId(self.hosts.len() - 1)
    }

    /// The translator that was made first.
    pub fn first(&self) -> Option<NatId> {
        (!self.nats.is_empty()).then_some(NatId(0))
    }

    /// A host's own sockets.
    pub fn sockets(&self, host: HostId) -> Vec<SocketAddr> {
        let host = self.hosts.get(host.0);
        host.map_or(Vec::new(), |host| {
            host.v4.into_iter().chain(host.v6).collect()
        })
    }

    /// A host sends to `to` from its socket of that family: who gets it, and from which
    /// address. `None`: it is lost.
    pub fn send(
        &mut self,
        now: Duration,
        from: HostId,
        to: SocketAddr,
    ) -> Option<(HostId, SocketAddr)> {
        match to {
            SocketAddr::V4(_) => {
                let host = self.hosts.get(from.0)?;
                let (source, level, udp) = (host.v4?, host.above, host.udp);
                self.up(now, level, source, to, udp)
            }
            SocketAddr::V6(_) => self.six(now, from, to),
        }
    }

    /// The address from which a host's packets to `to`, somewhere in the open, come.
    pub fn seen(&mut self, now: Duration, from: HostId, to: SocketAddr) -> Option<SocketAddr> {
        let host = self.hosts.get_mut(from.0)?;
        if !host.udp {
            return None;
        }
        let (mut source, mut level) = match to {
            SocketAddr::V4(_) => (host.v4?, host.above),
            SocketAddr::V6(_) => {
                let source = host.v6?;
                if let Some(wall) = &mut host.wall {
                    wall.outbound(now, source, to)?;
                }
                (source, None)
            }
        };
        while let Some(placed) = level.and_then(|id| self.nats.get_mut(id.0)) {
            match placed.nat.outbound(now, source, to)? {
                Passed::Out(mapped, _) => source = mapped,
                Passed::Back(..) => return None,
            }
            level = placed.above;
        }
        Some(source)
    }

    /// From a network towards the open, or to a neighbour in it.
    fn up(
        &mut self,
        now: Duration,
        level: Option<NatId>,
        from: SocketAddr,
        to: SocketAddr,
        udp: bool,
    ) -> Option<(HostId, SocketAddr)> {
        let Some(id) = level else {
            return udp.then(|| self.down(now, None, from, to)).flatten();
        };
        if let Some(found) = self.down(now, level, from, to) {
            return Some(found);
        }
        let placed = self.nats.get_mut(id.0)?;
        match placed.nat.outbound(now, from, to)? {
            Passed::Out(mapped, to) => {
                let above = placed.above;
                self.up(now, above, mapped, to, udp)
            }
            Passed::Back(mapped, inside) => self.down(now, level, mapped, inside),
        }
    }

    /// To a host in a network, or into a translator whose outside is in it.
    fn down(
        &mut self,
        now: Duration,
        level: Option<NatId>,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<(HostId, SocketAddr)> {
        let here = |host: &Host| host.above == level && host.v4 == Some(to);
        if let Some(found) = self.hosts.iter().position(here) {
            let open = level.is_some() || self.hosts.get(found)?.udp;
            return open.then_some((HostId(found), from));
        }
        let here = |placed: &Placed| placed.above == level && placed.outside == to.ip();
        let found = self.nats.iter().position(here)?;
        let inside = self.nats.get_mut(found)?.nat.inbound(now, from, to)?;
        let reached = self.down(now, Some(NatId(found)), from, inside)?;
        // what a router blocks comes in no more than it leaves
        let open = self.hosts.get(reached.0.0)?.udp;
        open.then_some(reached)
    }

    fn six(&mut self, now: Duration, from: HostId, to: SocketAddr) -> Option<(HostId, SocketAddr)> {
        let host = self.hosts.get_mut(from.0)?;
        let source = host.v6.filter(|_| host.udp)?;
        if let Some(wall) = &mut host.wall {
            wall.outbound(now, source, to)?;
        }
        let found = self.hosts.iter().position(|host| host.v6 == Some(to))?;
        let host = self.hosts.get_mut(found).filter(|host| host.udp)?;
        if let Some(wall) = &mut host.wall {
            wall.inbound(now, source, to)?;
        }
        Some((HostId(found), source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::nat::{Behaviour, Dependence};

    const NOW: Duration = Duration::ZERO;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn nat(outside: &str) -> (Nat, IpAddr) {
        let behaviour = Behaviour {
            mapping: Dependence::Independent,
            filtering: Dependence::AddressAndPort,
            hairpin: true,
            lifetime: Duration::from_secs(60),
        };
        let outside = outside.parse().unwrap();
        (Nat::new(behaviour, outside, 1), outside)
    }

    fn inside(v4: &str, above: NatId) -> Place {
        Place {
            v4: Some(at(v4)),
            above: Some(above),
            v6: None,
            wall: None,
            udp: true,
        }
    }

    #[test]
    fn neighbours_under_one_carrier_meet_through_four_translators() {
        let mut net = Internet::default();
        let (carrier, outside) = nat("198.18.3.1");
        let carrier = net.nat(carrier, outside, None);
        let mut home = |outside| {
            let (nat, outside) = nat(outside);
            let nat = net.nat(nat, outside, Some(carrier));
            net.host(inside("192.168.1.2:5000", nat))
        };
        let (a, b) = (home("100.64.0.2"), home("100.64.0.3"));
        let relay = at("198.18.255.1:3478");
        let (seen_a, seen_b) = (
            net.seen(NOW, a, relay).unwrap(),
            net.seen(NOW, b, relay).unwrap(),
        );
        assert_eq!(seen_a, at("198.18.3.1:5000"));
        assert_ne!(seen_a, seen_b);
        // b has not sent to a, so the first is lost and the answer is not
        assert_eq!(net.send(NOW, a, seen_b), None);
        assert_eq!(net.send(NOW, b, seen_a), Some((a, seen_b)));
        assert_eq!(net.send(NOW, a, seen_b), Some((b, seen_a)));
    }

    #[test]
    fn the_same_private_address_elsewhere_is_not_reached() {
        let mut net = Internet::default();
        let mut home = |outside, host| {
            let (nat, outside) = nat(outside);
            let nat = net.nat(nat, outside, None);
            net.host(inside(host, nat))
        };
        let (a, b) = (
            home("198.18.1.1", "192.168.1.2:1"),
            home("198.18.2.1", "192.168.1.3:1"),
        );
        assert_eq!(net.send(NOW, a, at("192.168.1.3:1")), None);
        assert_eq!(
            net.send(NOW, b, at("192.168.1.3:1")),
            Some((b, at("192.168.1.3:1")))
        );
    }

    #[test]
    fn what_a_router_blocks_passes_neither_way() {
        let mut net = Internet::default();
        let (nat, outside) = nat("198.18.1.1");
        let nat = net.nat(nat, outside, None);
        let blocked = net.host(Place {
            udp: false,
            ..inside("192.168.1.2:1", nat)
        });
        let open = net.host(Place {
            v4: Some(at("198.18.2.1:1")),
            above: None,
            v6: None,
            wall: None,
            udp: true,
        });
        assert_eq!(net.seen(NOW, blocked, at("198.18.255.1:1")), None);
        assert_eq!(net.send(NOW, blocked, at("198.18.2.1:1")), None);
        assert_eq!(net.send(NOW, open, at("198.18.1.1:1")), None);
    }
}
