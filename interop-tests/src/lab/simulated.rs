//! PURE: the matrix without a kernel: the same cells and the same punching over the model of
//! translators, on a virtual clock. It runs everywhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::cell::{Cell, Together};
use super::kind::Kind;
use super::punch::{Input, Output, Puncher};
use super::rule::Path;
use crate::world::internet::{HostId, Internet, NatId, Place};
use crate::world::nat::{Dependence, Nat};

/// One way between any two hosts.
const DELAY: Duration = Duration::from_millis(25);
/// How long they try.
const TRY: Duration = Duration::from_millis(1_500);
/// What an IPv6 firewall remembers.
const WALL: Duration = Duration::from_secs(120);

const RELAY4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 255, 1)), 3_478);
const RELAY6: SocketAddr = SocketAddr::new(
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0xffff, 0, 0, 0, 0xff01)),
    3_478,
);

/// What came of a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Met {
    /// The path.
    pub path: Path,
    /// When both ends had it proven, from the first packet on.
    pub after: Option<Duration>,
}

/// An end's routers, its host, and the addresses that it tells the other.
fn place(
    net: &mut Internet,
    kind: &Kind,
    number: u8,
    beside: Option<(NatId, u8)>,
) -> (HostId, Option<NatId>) {
    let mut above = None;
    let mut host = 2;
    let routers = kind.v4.unwrap_or_default();
    let mut levels = routers.iter().rev().enumerate();
    match beside {
        // in the same home: no router of its own
        Some((nat, last)) if usize::from(last) == routers.len() => {
            above = Some(nat);
            host = 3;
            levels.by_ref().for_each(drop);
        }
        // behind the same carrier: its own router inside
        Some((nat, _)) => {
            above = Some(nat);
            levels.next();
        }
        None => {}
    }
    for (depth, router) in levels {
        let outside = match depth {
            0 => IpAddr::from([198, 18, number, 1]),
            _ => IpAddr::from([100, 64, 0, number + 1]),
        };
        above = Some(net.nat(Nat::new(router.behaviour, outside, number), outside, above));
    }
    let v4 = kind.v4.map(|routers| match routers {
        [] => SocketAddr::from(([198, 18, number, 1], 5_000)),
        _ => SocketAddr::from(([192, 168, 1, host], 5_000 + u16::from(host))),
    });
    let six = Ipv6Addr::new(0x2001, 0xdb8, u16::from(number), 0, 0, 0, 0, 2);
    let walled = kind
        .access6()
        .is_some_and(|access| access.filtering != Dependence::Independent);
    let placed = net.host(Place {
        v4,
        above,
        v6: kind.v6.then_some(SocketAddr::from((six, 6_000))),
        wall: walled.then(|| Nat::firewall(Dependence::AddressAndPort, WALL)),
        udp: kind.udp,
    });
    (placed, above)
}

/// Runs a cell.
pub fn run(cell: &Cell) -> Met {
    let relayed = Met {
        path: Path::Relayed,
        after: None,
    };
    if cell.hides {
        return relayed;
    }
    let mut net = Internet::default();
    let (officer, above) = place(&mut net, cell.officer, 1, None);
    let beside = match cell.together {
        Together::Apart => None,
        Together::Home => above.zip(u8::try_from(cell.officer.v4.map_or(0, <[_]>::len)).ok()),
        // the outermost is the first that was made
        Together::Carrier => net.first().map(|nat| (nat, 0)),
    };
    let (citizen, _) = place(&mut net, cell.citizen, 2, beside);
    let own = |net: &mut Internet, host| {
        let mut own = net.sockets(host);
        for relay in [RELAY4, RELAY6] {
            own.extend(net.seen(Duration::ZERO, host, relay));
        }
        own
    };
    let own = [own(&mut net, officer), own(&mut net, citizen)];
    let [of_officer, of_citizen] = &own;
    let mut ends = [
        (officer, Puncher::new(Duration::ZERO, [1; 8], 0, of_citizen)),
        (citizen, Puncher::new(Duration::ZERO, [1; 8], 1, of_officer)),
    ];
    punch(&mut net, &mut ends);
    let [(_, one), (_, two)] = &ends;
    let path = |puncher: &Puncher| {
        let proven = puncher.proven();
        let inside = |(address, _): &(&SocketAddr, &Duration)| private(address.ip());
        let best = proven
            .iter()
            .find(inside)
            .or(proven.iter().min_by_key(|(_, at)| **at));
        best.map(|(address, at)| match private(address.ip()) {
            true => (Path::Host, *at),
            false => (Path::Direct, *at),
        })
    };
    match (path(one), path(two)) {
        (Some(one), Some(two)) => Met {
            path: one.0.max(two.0),
            after: Some(one.1.max(two.1)),
        },
        _ => relayed,
    }
}

/// An address of a home.
fn private(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_private())
}

/// Both ends ask and answer, until their time is over.
fn punch(net: &mut Internet, ends: &mut [(HostId, Puncher); 2]) {
    let mut flying: BTreeMap<(Duration, u64), (HostId, SocketAddr, Vec<u8>)> = BTreeMap::new();
    let (mut now, mut count) = (Duration::ZERO, 0);
    while now < TRY {
        let mut next = TRY;
        for (host, puncher) in ends.iter_mut() {
            puncher.handle_input(now, Input::Tick);
            loop {
                match puncher.poll_output() {
                    Output::Send(to, bytes) => {
                        if let Some((reached, from)) = net.send(now, *host, to) {
                            count += 1;
                            flying.insert((now + DELAY, count), (reached, from, bytes));
                        }
                    }
                    Output::Wait(until) => {
                        next = next.min(until);
                        break;
                    }
                }
            }
        }
        if let Some(entry) = flying.first_entry().filter(|entry| entry.key().0 <= next) {
            now = entry.key().0;
            let (reached, from, bytes) = entry.remove();
            for (_, puncher) in ends.iter_mut().filter(|(host, _)| *host == reached) {
                puncher.handle_input(now, Input::Packet(from, &bytes));
            }
        } else {
            now = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::cell;

    #[test]
    fn the_rule_and_punching_over_the_model_agree_in_every_cell() {
        let cells = cell::all().unwrap();
        let differ: Vec<_> = cells
            .iter()
            .filter(|cell| run(cell).path != cell.expected())
            .map(|cell| format!("{}: {:?}", cell.name(), run(cell)))
            .collect();
        assert!(differ.is_empty(), "{}", differ.join("\n"));
        let seen: std::collections::BTreeSet<_> = cells.iter().map(|cell| run(cell).path).collect();
        assert_eq!(seen.len(), 3, "a matrix with one outcome shows nothing");
    }

    #[test]
    fn a_direct_path_is_proven_in_two_round_trips_and_a_beat() {
        for cell in cell::all().unwrap() {
            if let Some(after) = run(&cell).after {
                let bound = DELAY * 4 + super::super::punch::BEAT;
                assert!(after <= bound, "{}: {after:?}", cell.name());
            }
        }
    }
}
