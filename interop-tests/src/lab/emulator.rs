//! DOOR: the wires of the lab in real time. Each is a pair of interfaces between which one thread
//! carries Ethernet frames by packet sockets: both directions are [`Line`]s, so delay, loss, rate
//! and a bounded queue are those of the weather, and the order is kept.
#![expect(
    clippy::disallowed_methods,
    reason = "door: packet sockets, a thread and clock"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;

use super::impair::{self, Gate, Tally, UDP};
use super::namespace::Namespace;
use crate::peer::Failure;
use crate::weather::line::{Line, Weather};
use crate::world::nat::{Nat, Passed};

/// Bytes of headers that a line adds by itself to what it is told.
const HEADERS: usize = 28;
/// Longest frame.
const FRAME_MAX: usize = 65_536 + 14;
/// Frames under way in one direction; those after them are lost.
const FLYING_MAX: usize = 8_192;
/// Frames that are taken from one interface before the others get their turn.
const BATCH: usize = 64;
/// Bytes that the kernel holds for an interface until they are read.
const BUFFER: usize = 4 << 20;
/// How long the thread sleeps at most before it looks whether it shall end.
const NAP: Duration = Duration::from_millis(50);

/// A wire.
#[derive(Debug)]
pub struct Cable {
    /// For messages.
    pub name: String,
    /// The interfaces that it joins: towards the end inside, towards the open.
    pub ends: [String; 2],
    /// Delay, loss, rate and queue, of both directions.
    pub weather: Weather,
    /// A translator on the wire: what comes from the end inside is an insider's.
    pub nat: Option<Nat>,
}

/// A wire, by the order in which they were given.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CableId(pub usize);

struct Wire {
    name: String,
    lines: [Line; 2],
    flying: [VecDeque<(Duration, Vec<u8>)>; 2],
    nat: Option<Nat>,
    gate: Gate,
    tally: Tally,
}

struct State {
    wires: Mutex<Vec<Wire>>,
    ending: AtomicBool,
    begin: Instant,
}

/// All wires; they stop when this is dropped.
pub struct Emulator {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let wires = lock(&self.state);
        let names: Vec<_> = wires.iter().map(|wire| wire.name.as_str()).collect();
        f.debug_struct("Emulator").field("wires", &names).finish()
    }
}

fn lock(state: &State) -> MutexGuard<'_, Vec<Wire>> {
    state.wires.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Emulator {
    /// Joins the interfaces of `namespace` by these wires. Until then nothing passes.
    pub fn start(namespace: &Namespace, cables: Vec<Cable>) -> Result<Self, Failure> {
        let names = cables.iter().flat_map(|cable| cable.ends.clone());
        let names: Vec<_> = names.collect();
        let open = || {
            names
                .iter()
                .map(|name| tap(name))
                .collect::<Result<Vec<_>, _>>()
        };
        let taps = namespace.within(open)??;
        let wires = cables.into_iter().zip(0_u8..).map(|(cable, seed)| {
            let line = |seed| Line::new(cable.weather.clone(), Duration::ZERO, seed);
            Wire {
                name: cable.name,
                lines: [line(seed), line(seed.wrapping_add(128))],
                flying: [VecDeque::new(), VecDeque::new()],
                nat: cable.nat,
                gate: Gate::Open,
                tally: Tally::default(),
            }
        });
        let state = Arc::new(State {
            wires: Mutex::new(wires.collect()),
            ending: AtomicBool::new(false),
            begin: Instant::now(),
        });
        let shared = state.clone();
        let thread = std::thread::Builder::new()
            .name("wires".into())
            .spawn(move || carry(&shared, &taps))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            state,
            thread: Some(thread),
        })
    }

    /// The wires' own time.
    pub fn now(&self) -> Duration {
        self.state.begin.elapsed()
    }

    /// What passed a wire so far.
    pub fn tally(&self, cable: CableId) -> Tally {
        let wires = lock(&self.state);
        wires
            .get(cable.0)
            .map(|wire| wire.tally.clone())
            .unwrap_or_default()
    }

    /// From now on a wire lets pass this only.
    pub fn gate(&self, cable: CableId, gate: Gate) {
        if let Some(wire) = lock(&self.state).get_mut(cable.0) {
            wire.gate = gate;
        }
    }

    /// From now on a wire has this weather; what is on it arrives as it would have.
    pub fn weather(&self, cable: CableId, weather: &Weather) {
        let now = self.now();
        if let Some(wire) = lock(&self.state).get_mut(cable.0) {
            wire.lines = [1, 129].map(|seed| Line::new(weather.clone(), now, seed));
        }
    }

    /// The translator on a wire, where there is one, forgets everything and moves.
    pub fn reboot(&self, cable: CableId, outside: std::net::IpAddr) {
        if let Some(nat) = lock(&self.state)
            .get_mut(cable.0)
            .and_then(|wire| wire.nat.as_mut())
        {
            nat.reboot(outside);
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.state.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // one that panicked has said so
            let _ = thread.join();
        }
    }
}

/// A packet socket on an interface of this thread's namespace.
fn tap(name: &str) -> Result<OwnedFd, Failure> {
    let text = |error: nix::Error| format!("packet socket on {name}: {error}");
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(
        AddressFamily::Packet,
        SockType::Raw,
        flags,
        SockProtocol::EthAll,
    )
    .map_err(text)?;
    let mut addresses = getifaddrs().map_err(text)?;
    let link = addresses.find_map(|found| {
        let address = found.address.filter(|_| found.interface_name == name)?;
        (address.family() == Some(AddressFamily::Packet)).then_some(address)
    });
    let link = link.ok_or_else(|| format!("no interface {name}"))?;
    bind(fd.as_raw_fd(), &link).map_err(text)?;
    if setsockopt(&fd, sockopt::RcvBufForce, &BUFFER).is_err() {
        // not root of the machine: as much as is allowed
        setsockopt(&fd, sockopt::RcvBuf, &BUFFER).map_err(text)?;
    }
    // what came from other interfaces before it was bound
    let mut buffer = [0; 64];
    while recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()).is_ok() {}
    Ok(fd)
}

impl Wire {
    /// A frame came in at `side`: loses it, or puts it on its way.
    fn take(&mut self, now: Duration, side: usize, frame: &mut Vec<u8>) {
        let mut packet = impair::read(frame);
        // counted by its outside addresses, in both directions
        let outer = packet.filter(|_| side == 1);
        if let (Some(nat), Some(found)) = (&mut self.nat, packet) {
            let (from, to) = (found.flow.from, found.flow.to);
            let ends = match side {
                _ if found.flow.protocol != UDP => Some((from, to)),
                0 => match nat.outbound(now, from, to) {
                    Some(Passed::Out(from, to)) => Some((from, to)),
                    _ => None,
                },
                _ => nat.inbound(now, from, to).map(|to| (from, to)),
            };
            match ends {
                Some((SocketAddr::V4(from), SocketAddr::V4(to))) => {
                    impair::readdress(frame, &found, from, to);
                    packet = impair::read(frame);
                }
                Some(_) => {}
                None => {
                    self.tally.refused += 1;
                    return;
                }
            }
        }
        if !self.gate.lets(packet.as_ref()) {
            self.tally.gated += 1;
            return;
        }
        if let Some(packet) = &packet {
            impair::mend(frame, packet);
        }
        let bytes = impair::length(frame).unwrap_or(frame.len());
        let (Some(line), Some(flying)) = (self.lines.get_mut(side), self.flying.get_mut(side))
        else {
            return;
        };
        match line.send(now, bytes.saturating_sub(HEADERS)) {
            None => self.tally.lost += 1,
            Some(_) if flying.len() >= FLYING_MAX => self.tally.dropped += 1,
            Some(due) => {
                self.tally
                    .count(now, side, frame, outer.or(packet).as_ref());
                flying.push_back((due, std::mem::take(frame)));
            }
        }
    }

    /// Sends what is due; when the next is.
    fn give(&mut self, now: Duration, taps: &[OwnedFd]) -> Option<Duration> {
        let mut next = None;
        for (flying, tap) in self.flying.iter_mut().zip(taps.iter().rev()) {
            while let Some((due, frame)) = flying.front() {
                if *due > now {
                    next = Some(next.map_or(*due, |next: Duration| next.min(*due)));
                    break;
                }
                let sent = send(tap.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT);
                self.tally.dropped += u64::from(sent.is_err());
                flying.pop_front();
            }
        }
        next
    }
}

fn carry(state: &State, taps: &[OwnedFd]) {
    let mut buffer = vec![0; FRAME_MAX];
    let mut frame = Vec::new();
    while !state.ending.load(Ordering::Relaxed) {
        let mut next = NAP;
        {
            let mut wires = lock(state);
            let now = state.begin.elapsed();
            for (wire, taps) in wires.iter_mut().zip(taps.chunks(2)) {
                if let Some(due) = wire.give(now, taps) {
                    next = next.min(due.saturating_sub(now));
                }
            }
        }
        let mut polled: Vec<_> = taps
            .iter()
            .map(|tap| PollFd::new(tap.as_fd(), PollFlags::POLLIN))
            .collect();
        // an interruption is as good as a nap
        let _ = ppoll(&mut polled, Some(TimeSpec::from(next)), None);
        let mut wires = lock(state);
        for (at, tap) in taps.iter().enumerate() {
            let ready = polled.get(at).and_then(PollFd::any);
            let Some(wire) = wires.get_mut(at / 2).filter(|_| ready == Some(true)) else {
                continue;
            };
            for _ in 0..BATCH {
                let Ok(bytes) = recv(tap.as_raw_fd(), &mut buffer, MsgFlags::empty()) else {
                    break;
                };
                frame.clear();
                frame.extend(buffer.iter().take(bytes));
                wire.take(state.begin.elapsed(), at % 2, &mut frame);
            }
        }
    }
}
