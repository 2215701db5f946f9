//! DOOR: the shards of STUN and TURN over UDP. Each is a thread with its own sockets of the listeners'
//! addresses (`SO_REUSEPORT`): the kernel spreads clients over them by both ends' addresses and ports,
//! so all packets of a client come to one shard, and that shard holds its allocation, opens its
//! relayed socket and alone reads it. A shard's loop is a list of numbered priorities:
//!
//! 1. stop
//! 2. packets of clients, at most one batch
//! 3. packets of peers, at most one batch, then 2 again while there are more of either
//! 4. deadlines
#![expect(
    clippy::disallowed_methods,
    reason = "door: shards: threads and sockets"
)]

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Type};
use suora_protocol::fault::{Code, Fault};
use tokio::sync::mpsc;

use super::batch::{Batch, Packet, Socket};
use crate::clock::Clock;
use crate::keys;
use crate::turn::figures::Figures;
use crate::turn::forward::Verdict;
use crate::turn::table::{Client, Slot};
use crate::turn::{Input, Output, Rules, Shared, Turn};

/// Messages that are taken at once, each of which may be a train.
const BATCH: usize = 32;
/// Of those, from one relayed socket.
const SHARE: usize = 8;
/// Between the beginnings of two receive buffers: the largest train, and a little more so that they do
/// not all fall into the same lines of the processor's cache.
const STRIDE: usize = 65_536 + 4_096 + 128;
const LONGEST: usize = 65_536;
/// Sockets that are told of at once.
const EVENTS: usize = 128;
/// What a listener may hold that nobody has read yet, if the system allows it.
const RECEIVE: usize = 4 << 20;

/// Event of the stop; listeners count from 1, relayed sockets from [`RELAYED`].
const STOP: u64 = 0;
const RELAYED: u64 = 1_024;

/// Where and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients come.
    pub listen: Vec<SocketAddr>,
    /// Threads.
    pub shards: usize,
    /// Whether trains of packets are taken and sent whole (GRO, GSO) where the kernel can.
    pub offload: bool,
}

/// Running shards. They stop when this is dropped.
#[derive(Debug)]
pub struct Shards {
    threads: Vec<(Arc<EventFd>, JoinHandle<()>)>,
    addresses: Vec<SocketAddr>,
}

impl Shards {
    /// Binds all sockets and starts all threads. A shard that dies says why to `died`.
    pub fn start(
        settings: &Settings,
        rules: &Arc<Rules>,
        shared: &Arc<Shared>,
        clock: Clock,
        died: &mpsc::Sender<Fault>,
    ) -> Result<Self, Fault> {
        let mut addresses = settings.listen.clone();
        // two relays would share such a port and never notice; port 0 is chosen here
        for address in &mut addresses {
            let alone = UdpSocket::bind(*address).map_err(|error| taken(*address, &error))?;
            *address = alone.local_addr().map_err(failed)?;
        }
        let count = settings.shards.max(1);
        let mut ready = Vec::new();
        for number in 0..count {
            let turn = Turn::new(
                rules.clone(),
                shared.clone(),
                (number, count),
                keys::draw()?,
                clock.now().mono,
            );
            let stop = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
            let stop = Arc::new(EventFd::from_flags(stop).map_err(|error| failed(error.into()))?);
            let bound = Bound::new(settings, &addresses, &stop)?;
            ready.push((stop, bound, turn));
        }
        let mut threads = Vec::new();
        for (number, (stop, bound, turn)) in ready.into_iter().enumerate() {
            let (died, shared) = (died.clone(), shared.clone());
            let run = move || {
                if let Err(error) = Shard::new(bound, turn, shared, clock).run() {
                    // the relay may be stopping already
                    let _ = died.try_send(failed(error));
                }
            };
            let thread = std::thread::Builder::new().name(format!("turn-{number}"));
            threads.push((stop, thread.spawn(run).map_err(failed)?));
        }
        Ok(Self { threads, addresses })
    }

    /// Where clients come.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        for (stop, _) in &self.threads {
            // fails only where it was told already
            let _ = stop.write(1);
        }
        for (_, thread) in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn failed(error: io::Error) -> Fault {
    Fault::new(Code::Internal).with(format!("turn: {error}"))
}

fn taken(address: SocketAddr, error: &io::Error) -> Fault {
    Fault::new(Code::BadConfig).with(format!(
        "turn.udp: {address} cannot be listened on: {error}"
    ))
}

/// A message that came: from where, and which buffer holds it.
#[derive(Clone, Copy, Debug)]
struct Came {
    at: Socket,
    buffer: usize,
    meta: RecvMeta,
}

/// A shard's sockets.
struct Bound {
    epoll: Epoll,
    listeners: Vec<UdpSocket>,
    state: UdpSocketState,
    offload: bool,
}

struct Shard {
    bound: Bound,
    relayed: Vec<Option<UdpSocket>>,
    turn: Turn,
    shared: Arc<Shared>,
    clock: Clock,
    buffers: Vec<u8>,
    came: Vec<Came>,
    /// Sockets that were closed while packets of theirs waited.
    closed: Vec<Slot>,
    batch: Batch,
}

impl Bound {
    fn new(settings: &Settings, addresses: &[SocketAddr], stop: &EventFd) -> Result<Self, Fault> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        let epoll = epoll.map_err(|error| failed(error.into()))?;
        let wake = |number| EpollEvent::new(EpollFlags::EPOLLIN, number);
        let added = epoll.add(stop, wake(STOP));
        added.map_err(|error| failed(error.into()))?;
        let (mut listeners, mut state) = (Vec::new(), None);
        for (address, number) in addresses.iter().zip(1..) {
            let listener = listen(*address).map_err(|error| taken(*address, &error))?;
            let made = UdpSocketState::new(UdpSockRef::from(&listener)).map_err(failed)?;
            if !settings.offload {
                let _ = setsockopt(&listener, sockopt::UdpGroSegment, &false);
            }
            let added = epoll.add(&listener, wake(number));
            added.map_err(|error| failed(error.into()))?;
            state.get_or_insert(made);
            listeners.push(listener);
        }
        let state = state.ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
        Ok(Self {
            epoll,
            listeners,
            state,
            offload: settings.offload,
        })
    }
}

impl Shard {
    fn new(bound: Bound, turn: Turn, shared: Arc<Shared>, clock: Clock) -> Self {
        Self {
            batch: Batch::new(bound.offload && bound.state.max_gso_segments() > 1),
            bound,
            relayed: Vec::new(),
            turn,
            shared,
            clock,
            buffers: vec![0; BATCH * STRIDE],
            came: Vec::with_capacity(BATCH),
            closed: Vec::with_capacity(BATCH),
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let timeout = self.timeout();
            let count = match self.bound.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let told = events.get(..count).unwrap_or_default();
            // 1. stop
            if told.iter().any(|event| event.data() == STOP) {
                return Ok(());
            }
            // 2. packets of clients
            let mut are_more = self.clients(told);
            // 3. packets of peers
            for event in told.iter().filter(|event| event.data() >= RELAYED) {
                let slot = Slot(u32::try_from(event.data() - RELAYED).unwrap_or(u32::MAX));
                self.take(Socket::Relayed(slot), SHARE);
                if self.came.len() + SHARE > BATCH {
                    self.judge();
                    if are_more {
                        are_more = self.clients(told);
                    }
                }
            }
            self.judge();
            // 4. deadlines
            self.tick();
        }
    }

    /// One batch from each listener that has some; whether one of them has more.
    fn clients(&mut self, told: &[EpollEvent]) -> bool {
        let mut are_more = false;
        for event in told {
            let number = event.data();
            if (1..RELAYED).contains(&number) {
                let listener = Socket::Listener(u8::try_from(number - 1).unwrap_or(u8::MAX));
                are_more |= self.take(listener, BATCH) == BATCH;
                self.judge();
            }
        }
        are_more
    }

    fn timeout(&mut self) -> EpollTimeout {
        let Output::Wait(Some(at)) = self.turn.poll_output() else {
            return EpollTimeout::NONE;
        };
        let wait = at.saturating_duration_since(self.clock.now().mono);
        // rounded up, so that it is due when this wakes
        let wait = wait.min(Duration::from_secs(3_600)) + Duration::from_millis(1);
        EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::NONE)
    }

    fn tick(&mut self) {
        if let Output::Wait(Some(at)) = self.turn.poll_output() {
            let now = self.clock.now();
            if at <= now.mono {
                self.turn.handle_input(now, Input::Tick);
                self.drain();
            }
        }
    }

    /// Reads what waits at a socket into free buffers, and says how many messages that were.
    fn take(&mut self, at: Socket, most: usize) -> usize {
        let used = self.came.len();
        let most = most.min(BATCH - used);
        let socket = match at {
            Socket::Listener(number) => self.bound.listeners.get(usize::from(number)),
            Socket::Relayed(slot) => self.relayed.get(slot.index()).and_then(Option::as_ref),
        };
        let Some(socket) = socket else {
            return 0;
        };
        let free = self.buffers.get_mut(used * STRIDE..).unwrap_or_default();
        let mut free = free.chunks_mut(STRIDE);
        let mut slices: [IoSliceMut<'_>; BATCH] = std::array::from_fn(|_| {
            let buffer = free.next().unwrap_or_default();
            IoSliceMut::new(buffer.get_mut(..LONGEST).unwrap_or_default())
        });
        let mut metas = [RecvMeta::default(); BATCH];
        let (Some(slices), Some(metas)) = (slices.get_mut(..most), metas.get_mut(..most)) else {
            return 0;
        };
        // nothing there, or an error that belongs to one packet: what else comes is told again
        let count = self
            .bound
            .state
            .recv(socket.into(), slices, metas)
            .unwrap_or(0);
        for (number, meta) in metas.iter().take(count).enumerate() {
            self.came.push(Came {
                at,
                buffer: used + number,
                meta: *meta,
            });
        }
        count
    }

    /// Judges all that came, sends it on and answers it.
    fn judge(&mut self) {
        if self.came.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut tally = Tally::default();
        for index in 0..self.came.len() {
            let Some(came) = self.came.get(index).copied() else {
                break;
            };
            let begin = came.buffer * STRIDE;
            let end = begin + came.meta.len.min(LONGEST);
            let stride = came.meta.stride.max(1);
            let mut at = begin;
            // an empty datagram is one too
            loop {
                let next = (at + stride).min(end);
                self.judge_one(now, came, at..next, &mut tally);
                at = next;
                if at >= end {
                    break;
                }
            }
        }
        self.came.clear();
        self.closed.clear();
        self.leave();
        tally.add(&self.shared.figures);
    }

    fn judge_one(
        &mut self,
        now: suora_protocol::time::Now,
        came: Came,
        range: std::ops::Range<usize>,
        tally: &mut Tally,
    ) {
        let address = came.meta.addr;
        let packet = self.buffers.get(range.clone()).unwrap_or_default();
        let verdict = match came.at {
            Socket::Listener(listener) => {
                let client = Client { listener, address };
                self.turn.client_packet(now.mono, client, packet)
            }
            Socket::Relayed(slot) if self.closed.contains(&slot) => return,
            Socket::Relayed(slot) => self.turn.peer_packet(now.mono, slot, address, packet.len()),
        };
        let shift =
            |bytes: std::ops::Range<usize>| range.start + bytes.start..range.start + bytes.end;
        let packet = match verdict {
            Verdict::ToPeer { slot, to, bytes } => {
                tally.sent.add(bytes.len());
                Packet {
                    from: Socket::Relayed(slot),
                    to,
                    head: None,
                    bytes: shift(bytes),
                }
            }
            Verdict::ToClient {
                client,
                head,
                bytes,
            } => {
                tally.received.add(bytes.len());
                Packet {
                    from: Socket::Listener(client.listener),
                    to: client.address,
                    head: Some(head),
                    bytes: shift(bytes),
                }
            }
            Verdict::Request => {
                let Socket::Listener(listener) = came.at else {
                    return;
                };
                // an answer may close a socket that packets wait for
                self.leave();
                let client = Client { listener, address };
                let packet = self.buffers.get(range).unwrap_or_default();
                self.turn.handle_input(now, Input::Request(client, packet));
                return self.drain();
            }
            Verdict::Nowhere(_) => {
                tally.dropped += 1;
                return;
            }
        };
        if self.batch.is_full() {
            self.leave();
        }
        self.batch.push(packet);
    }

    fn leave(&mut self) {
        let (listeners, relayed) = (&self.bound.listeners, &self.relayed);
        let left = self.batch.leave(&self.buffers, |socket| match socket {
            Socket::Listener(number) => listeners.get(usize::from(number)),
            Socket::Relayed(slot) => relayed.get(slot.index())?.as_ref(),
        });
        Figures::add(&self.shared.figures.dropped, left.lost);
    }

    /// Does all that the machine asks for.
    fn drain(&mut self) {
        loop {
            match self.turn.poll_output() {
                Output::Say { to, bytes } => {
                    if let Some(listener) = self.bound.listeners.get(usize::from(to.listener)) {
                        // a datagram may be lost; who waits asks again
                        let _ = listener.send_to(&bytes, to.address);
                    }
                }
                Output::Open { slot, at } => {
                    let stands = self.open(slot, at).is_ok();
                    let now = self.clock.now();
                    self.turn.handle_input(now, Input::Opened(slot, stands));
                }
                Output::Close { slot } => self.close(slot),
                Output::Wait(_) => return,
            }
        }
    }

    fn open(&mut self, slot: Slot, at: SocketAddr) -> io::Result<()> {
        let socket = UdpSocket::bind(at)?;
        socket.set_nonblocking(true)?;
        if self.bound.offload {
            // where the kernel cannot, packets come one by one
            let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
        }
        let event = EpollEvent::new(EpollFlags::EPOLLIN, RELAYED + u64::from(slot.0));
        self.bound.epoll.add(&socket, event)?;
        if self.relayed.len() <= slot.index() {
            self.relayed.resize_with(slot.index() + 1, || None);
        }
        if let Some(place) = self.relayed.get_mut(slot.index()) {
            *place = Some(socket);
        }
        Ok(())
    }

    fn close(&mut self, slot: Slot) {
        if let Some(socket) = self.relayed.get_mut(slot.index()).and_then(Option::take) {
            let _ = self.bound.epoll.delete(&socket);
            if !self.came.is_empty() {
                self.closed.push(slot);
            }
        }
    }
}

/// A socket that shares its address with the other shards'.
fn listen(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // as much as there may be
    let _ = socket.set_recv_buffer_size(RECEIVE);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[derive(Clone, Copy, Default)]
struct Way {
    packets: u64,
    bytes: u64,
}

impl Way {
    fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// What a batch came to.
#[derive(Clone, Copy, Default)]
struct Tally {
    sent: Way,
    received: Way,
    dropped: u64,
}

impl Tally {
    fn add(self, figures: &Figures) {
        Figures::add(&figures.sent, self.sent.packets);
        Figures::add(&figures.sent_bytes, self.sent.bytes);
        Figures::add(&figures.received, self.received.packets);
        Figures::add(&figures.received_bytes, self.received.bytes);
        Figures::add(&figures.dropped, self.dropped);
    }
}
