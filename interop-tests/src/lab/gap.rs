//! DOOR: what happens to a network in the middle of a consultation, and the proof that the wire really
//! did it: what is reached before and after each fault.
#![expect(clippy::disallowed_methods, reason = "door: clock")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::echo::{Echo, PORTS};
use super::impair::Gate;
use super::prove::{ask, open, tcp};
use super::site::{Host, Lab, Site, draft};
use crate::peer::Failure;
use crate::weather::line::Weather;

/// How long a packet and its answer may take.
const WAIT: Duration = Duration::from_millis(400);
/// How often a gap is looked at.
const BEAT: Duration = Duration::from_millis(20);
/// How much longer than it was asked for a blackout may look, on a busy machine.
const SLACK: Duration = Duration::from_millis(250);

/// A fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The router is off for so long, forgets all mappings, and has another public address.
    Reboot(Duration),
    /// The host's address changes.
    Address,
    /// The host's interface goes, and another comes with another address.
    Interface,
    /// UDP passes to and from the relay only; nobody is told.
    DirectDies,
    /// UDP passes no more.
    NoUdp,
    /// Nothing passes for so long.
    Blackout(Duration),
    /// The relay dies.
    RelayDies,
}

/// All of them, as the lab's table has them.
pub const FAULTS: [Fault; 7] = [
    Fault::Reboot(Duration::from_secs(2)),
    Fault::Address,
    Fault::Interface,
    Fault::DirectDies,
    Fault::NoUdp,
    Fault::Blackout(Duration::from_secs(3)),
    Fault::RelayDies,
];

/// What a host reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reach {
    /// The other end, directly.
    pub direct: bool,
    /// The relay by UDP.
    pub relay: bool,
    /// The relay by TCP.
    pub tcp: bool,
}

impl Fault {
    /// For tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reboot(_) => "router reboots, new public address",
            Self::Address => "own address changes",
            Self::Interface => "own interface changes",
            Self::DirectDies => "direct path dies silently",
            Self::NoUdp => "UDP is blocked",
            Self::Blackout(_) => "blackout",
            Self::RelayDies => "relay dies",
        }
    }

    /// What the host's old sockets reach while the fault lasts, or after it where it passes.
    pub fn leaves(self) -> Reach {
        let reach = |direct, relay, tcp| Reach { direct, relay, tcp };
        match self {
            Self::Reboot(_) | Self::Blackout(_) => reach(true, true, true),
            // new sockets reach everything, the old ones nothing
            Self::Address | Self::Interface => reach(false, false, true),
            Self::DirectDies => reach(false, true, true),
            Self::NoUdp => reach(false, false, true),
            Self::RelayDies => reach(true, false, false),
        }
    }
}

/// Turns a fault on; returns when a fault that passes has passed. What kills the relay is the
/// caller's to bring. The host's address after it.
pub async fn strike(
    lab: &Lab,
    site: &Site,
    host: &Host,
    fault: Fault,
    kill: impl AsyncFnOnce(),
) -> Result<Option<Ipv4Addr>, Failure> {
    match fault {
        Fault::Reboot(down) => {
            lab.wires.gate(site.cable, Gate::Dark);
            lab.reboot(site)?;
            sleep_until(Instant::now() + down).await;
            lab.wires.gate(site.cable, Gate::Open);
        }
        Fault::Address => return readdress(host, "lan").map(Some),
        Fault::Interface => {
            // the same home by another way: from wire to radio
            let (name, router) = (&host.namespace.name, &site.edge.name);
            super::namespace::command(
                "ip",
                &[
                    "link", "add", "radio", "netns", name, "type", "veth", "peer", "name", "radio",
                    "netns", router,
                ],
                "",
            )?;
            site.edge.ip(&["link set radio master lan up".into()])?;
            host.namespace
                .ip(&["link set lan down".into(), "link set radio up".into()])?;
            return readdress(host, "radio").map(Some);
        }
        Fault::DirectDies => {
            let relays = lab.relays.iter().flat_map(super::site::Relay::addresses);
            lab.wires.gate(site.cable, Gate::Only(relays.collect()));
        }
        Fault::NoUdp => lab.wires.gate(site.cable, Gate::NoUdp),
        Fault::Blackout(long) => {
            lab.wires.gate(site.cable, Gate::Dark);
            sleep_until(Instant::now() + long).await;
            lab.wires.gate(site.cable, Gate::Open);
        }
        Fault::RelayDies => kill().await,
    }
    Ok(host.v4)
}

/// Gives a host another address of its home.
fn readdress(host: &Host, device: &str) -> Result<Ipv4Addr, Failure> {
    let old = host.v4.ok_or("a host without IPv4")?;
    let [a, b, c, last] = old.octets();
    let new = Ipv4Addr::new(a, b, c, last ^ 0x40);
    host.namespace.ip(&[
        "addr flush dev lan".into(),
        format!("addr add {new}/24 dev {device}"),
        format!("route replace default via {a}.{b}.{c}.1 dev {device}"),
    ])?;
    Ok(new)
}

/// A socket that says back what it hears.
struct Mirror {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Mirror {
    fn start(host: &Host) -> Result<Self, Failure> {
        let own = host.v4.ok_or("a host without IPv4")?;
        let socket = open(host, own.into())?;
        let address = socket.local_addr().map_err(|error| error.to_string())?;
        let task = tokio::spawn(async move {
            let mut buffer = [0; 256];
            loop {
                if let Ok((bytes, from)) = socket.recv_from(&mut buffer).await {
                    let bytes = buffer.get(..bytes).unwrap_or_default();
                    // lost, as any packet may be
                    let _ = socket.send_to(bytes, from).await;
                }
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether an answer comes.
async fn mirrored(socket: &UdpSocket, to: SocketAddr, number: u32) -> bool {
    let said = [&[0, b'm'][..], &number.to_be_bytes()].concat();
    // one that cannot be sent is one that is lost
    let _ = socket.send_to(&said, to).await;
    let heard = async {
        let mut buffer = [0; 256];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((bytes, from)) if from == to && buffer.get(..bytes) == Some(&said[..]) => break,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    timeout(WAIT, heard).await.is_ok()
}

async fn reach(host: &Host, echo: &Echo, socket: &UdpSocket, mirror: &Mirror) -> Reach {
    let relay = IpAddr::from(echo.relay.v4[0]);
    Reach {
        direct: mirrored(socket, mirror.address, 1).await,
        relay: ask(socket, SocketAddr::new(relay, PORTS[0]), 0)
            .await
            .is_some(),
        tcp: tcp(host, SocketAddr::new(relay, 443)).await.is_some(),
    }
}

/// Asks the other end at every beat until it is told to stop; the longest time without an answer.
async fn watch(socket: UdpSocket, to: SocketAddr, mut stop: oneshot::Receiver<()>) -> Duration {
    let begun = Instant::now();
    let (mut heard, mut longest) = (begun, Duration::ZERO);
    let (mut next, mut number) = (begun, 0_u32);
    let mut buffer = [0; 256];
    loop {
        tokio::select! {
            _ = &mut stop => return longest.max(heard.elapsed()),
            () = sleep_until(next) => {
                next += BEAT;
                number += 1;
                // one that cannot be sent is one that is lost
                let _ = socket.send_to(&[&[0, b'w'][..], &number.to_be_bytes()].concat(), to).await;
            }
            came = socket.recv_from(&mut buffer) => if came.is_ok_and(|(_, from)| from == to) {
                longest = longest.max(heard.elapsed());
                heard = Instant::now();
            }
        }
    }
}

/// What a fault did.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The fault.
    pub fault: Fault,
    /// What was reached before it.
    pub before: Reach,
    /// What the same socket reached after.
    pub after: Reach,
    /// The longest time without an answer of the other end.
    pub gap: Duration,
    /// Where the wire did not do what was asked.
    pub differences: Vec<String>,
}

/// Strikes a fault at the first host of `site`, which talks with the first of `other`, a public
/// one, and sees what came of it.
pub async fn prove(
    lab: &Lab,
    echo: &Echo,
    site: &Site,
    other: &Site,
    fault: Fault,
) -> Result<Proof, Failure> {
    let host = site.hosts.first().ok_or("a site without hosts")?;
    let mirror = Mirror::start(other.hosts.first().ok_or("a site without hosts")?)?;
    let own = IpAddr::from(host.v4.ok_or("a host without IPv4")?);
    let socket = open(host, own)?;
    let relay = SocketAddr::new(echo.relay.v4[0].into(), PORTS[0]);
    let before = reach(host, echo, &socket, &mirror).await;
    let mapped = ask(&socket, relay, 0).await;
    let (stop, stopped) = oneshot::channel();
    let watched = tokio::spawn(watch(open(host, own)?, mirror.address, stopped));
    // it has to have begun
    sleep_until(Instant::now() + WAIT).await;
    let now = strike(lab, site, host, fault, async || echo.stop()).await?;
    sleep_until(Instant::now() + WAIT).await;
    // one that has ended already has panicked, which the next line says
    let _ = stop.send(());
    let gap = watched.await.map_err(|error| error.to_string())?;
    let after = reach(host, echo, &socket, &mirror).await;
    let mut differences = Vec::new();
    let everything = Reach {
        direct: true,
        relay: true,
        tcp: true,
    };
    let mut differ = |what: &str, as_wanted: bool, seen: String| {
        if !as_wanted {
            differences.push(format!("{what}: {seen}"));
        }
    };
    differ("before", before == everything, format!("{before:?}"));
    differ("after", after == fault.leaves(), format!("{after:?}"));
    match fault {
        Fault::Reboot(long) | Fault::Blackout(long) => {
            let wanted = long..long + SLACK;
            differ(
                "without an answer",
                wanted.contains(&gap),
                format!("{gap:?}"),
            );
        }
        _ => {}
    }
    if let Fault::Reboot(_) = fault {
        let anew = ask(&socket, relay, 0).await;
        let moved = mapped
            .zip(anew)
            .is_some_and(|(old, new)| old.ip() != new.ip());
        differ(
            "outside address",
            moved,
            format!("{mapped:?}, then {anew:?}"),
        );
    }
    if let (Fault::Address | Fault::Interface, Some(now)) = (fault, now) {
        let fresh = open(host, now.into())?;
        let all = reach(host, echo, &fresh, &mirror).await;
        differ(
            "from the new address",
            IpAddr::from(now) != own && all == everything,
            format!("{all:?}"),
        );
    }
    Ok(Proof {
        fault,
        before,
        after,
        gap,
        differences,
    })
}

/// Every fault, each at a home of its own behind a port-restricted router that talks with a public
/// host. How many did not do what they say.
pub async fn all(weather: &Weather) -> Result<usize, Failure> {
    println!(
        "{:<36} {:<22} {:<22} {:>7}",
        "fault", "before", "after", "gap ms"
    );
    let drafts = FAULTS.iter().map(|_| draft("port-restricted"));
    let mut drafts = drafts.collect::<Result<Vec<_>, _>>()?;
    drafts.push(draft("public")?);
    let lab = Lab::build(&drafts, 1, weather)?;
    let other = lab.sites.last().ok_or("no site")?;
    let echo = Echo::start(lab.relay()?)?;
    let prove = |(fault, site)| prove(&lab, &echo, site, other, fault);
    let struck = FAULTS.into_iter().zip(&lab.sites);
    // all but the relay's end do not meet
    let (last, first): (Vec<_>, Vec<_>) = struck.partition(|(fault, _)| *fault == Fault::RelayDies);
    let mut proofs = futures::future::try_join_all(first.into_iter().map(prove)).await?;
    for last in last {
        proofs.push(prove(last).await?);
    }
    let mut wrong = 0;
    for proof in proofs {
        let words = |reach: Reach| {
            let words = [
                ("direct", reach.direct),
                ("relay", reach.relay),
                ("tcp", reach.tcp),
            ];
            let words: Vec<_> = words
                .into_iter()
                .filter(|word| word.1)
                .map(|word| word.0)
                .collect();
            words.join(" ")
        };
        println!(
            "{:<36} {:<22} {:<22} {:>7}",
            proof.fault.word(),
            words(proof.before),
            words(proof.after),
            proof.gap.as_millis()
        );
        proof
            .differences
            .iter()
            .for_each(|why| println!("    WRONG: {why}"));
        wrong += usize::from(!proof.differences.is_empty());
    }
    Ok(wrong)
}
