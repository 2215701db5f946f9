//! DOOR: the UDP sockets under quinn. Quinn sees virtual addresses; this door hands what comes to
//! the [`Path`], segment by segment (RFC 9443), turns virtual addresses into real ones or into a
//! relay's channel, and drops what belongs to no session.
#![expect(clippy::disallowed_methods, reason = "door: sockets")]

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::ADDRESSES_MAX;
use tokio::io::Interest;
use tokio::sync::Notify;

use super::candidates::Base;
use super::interfaces::{self, Watch};
use super::{Arrived, Event, Leaves, Output, Path, Settings};
use crate::clock::Clock;
use crate::worker::{Mailbox, Post, mailbox};

/// Events that nobody took yet.
const EVENTS: usize = 64;
/// Packets that came in one train with others' and wait for quinn.
const REST_MAX: usize = 64;
/// The longest between two looks at what is due while a session stands: its packets change that
/// without a word.
const LOOK: Duration = Duration::from_millis(25);
/// The same while none does.
const IDLE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Udp {
    io: tokio::net::UdpSocket,
    state: quinn_udp::UdpSocketState,
    local: SocketAddr,
}

impl Udp {
    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || {
            self.state.send((&self.io).into(), transmit)
        })
    }
}

/// How a node's sockets are made.
#[derive(Clone, Debug)]
pub struct Bind {
    /// Addresses to listen on; none: a free port of every interface.
    pub listen: Vec<SocketAddr>,
    /// The person asked for addresses of this machine.
    pub loopback: bool,
    /// The person asked for private addresses beyond own networks.
    pub routed: bool,
    /// The person hides their address.
    pub hidden: bool,
    /// Told as where we are reached, instead of what the interfaces say; none: that.
    pub announce: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Inner {
    path: Path,
    /// Packets of other sessions than their train's first.
    rest: VecDeque<(RecvMeta, Vec<u8>)>,
    /// Where a relay's channel is written.
    frame: Vec<u8>,
}

/// All UDP sockets of a node, and the paths above them.
#[derive(Debug)]
pub struct Socket {
    sockets: Vec<Udp>,
    loopback: bool,
    announce: Vec<SocketAddr>,
    clock: Clock,
    inner: Mutex<Inner>,
    events: Post<Event>,
    wake: Notify,
}

impl Socket {
    /// Listens, and serves the paths until the socket is dropped. What happens to them comes by
    /// the mailbox.
    pub fn bind(bind: &Bind, seed: [u8; 32]) -> Result<(Arc<Self>, Mailbox<Event>), Fault> {
        let any = [
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        ];
        let listen = &bind.listen;
        let mut sockets = Vec::new();
        for address in if listen.is_empty() { &any[..] } else { listen } {
            match Self::open(*address) {
                Ok(udp) => sockets.push(udp),
                // a machine without IPv6 is no error unless the person asked for it
                Err(_) if listen.is_empty() && address.is_ipv6() => {}
                Err(error) => {
                    return Err(Fault::new(Code::BadConfig)
                        .with(format!("cannot listen on {address}: {error}")));
                }
            }
        }
        let settings = Settings {
            sockets: sockets.iter().map(|udp| udp.local).collect(),
            loopback: bind.loopback,
            routed: bind.routed,
            hidden: bind.hidden,
            fixed: !bind.announce.is_empty(),
        };
        let (events, mailbox) = mailbox(EVENTS);
        let socket = Arc::new(Self {
            sockets,
            loopback: bind.loopback,
            announce: bind.announce.clone(),
            clock: Clock::start(),
            inner: Mutex::new(Inner {
                path: Path::new(settings, seed),
                rest: VecDeque::new(),
                frame: Vec::new(),
            }),
            events,
            wake: Notify::new(),
        });
        socket.look();
        tokio::spawn(serve(Arc::downgrade(&socket)));
        Ok((socket, mailbox))
    }

    fn open(address: SocketAddr) -> io::Result<Udp> {
        let socket = std::net::UdpSocket::bind(address)?;
        let state = quinn_udp::UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        Ok(Udp {
            io: tokio::net::UdpSocket::from_std(socket)?,
            state,
            local,
        })
    }

    /// Looks at the interfaces, and tells the paths.
    fn look(&self) {
        let bound: Vec<SocketAddr> = self.sockets.iter().map(|udp| udp.local).collect();
        let mut found = interfaces::look(&bound, self.loopback);
        if !self.announce.is_empty() {
            let socket = |address: &SocketAddr| {
                let of_family = |local: &SocketAddr| local.is_ipv4() == address.is_ipv4();
                Some((bound.iter().position(of_family)?, *address))
            };
            found.hosts = self.announce.iter().filter_map(socket).collect();
        }
        self.with(|now, path| path.interfaces(now, found));
    }

    /// Where we can be reached directly: what was said to announce, else the bound addresses or
    /// those of the interfaces. Loopback only on request; link-local never.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        if !self.announce.is_empty() {
            return self.announce.clone();
        }
        let bound: Vec<SocketAddr> = self.sockets.iter().map(|udp| udp.local).collect();
        let hosts = interfaces::look(&bound, self.loopback).hosts;
        let addresses = hosts.into_iter().map(|(_, address)| address);
        addresses.take(ADDRESSES_MAX).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks or tells the paths, and does what they ask for.
    pub fn with<T>(&self, what: impl FnOnce(Instant, &mut Path) -> T) -> T {
        let now = self.clock.now().mono;
        let mut inner = self.inner();
        let answer = what(now, &mut inner.path);
        self.flush(&mut inner.path);
        drop(inner);
        self.wake.notify_one();
        answer
    }

    /// Does what the paths ask for. A packet that finds no room is sent again by who needs it.
    fn flush(&self, path: &mut Path) {
        while let Some(output) = path.poll_output() {
            match output {
                Output::Send(packet) => {
                    if let Some(udp) = self.sockets.get(packet.socket) {
                        let _ = udp.io.try_send_to(&packet.bytes, packet.to);
                    }
                }
                Output::Event(event) => {
                    if self.events.post(event).is_err() && !self.events.is_closed() {
                        tracing::warn!("nobody takes the events of the paths");
                    }
                }
            }
        }
    }

    /// The local address of a socket.
    pub fn local(&self, base: Base) -> Option<SocketAddr> {
        match base {
            Base::Socket(at) => Some(self.sockets.get(at)?.local),
            Base::Relay(_) => None,
        }
    }

    /// Sorts what came in one buffer: packets of one session stay in it, as one train; those of
    /// others wait.
    fn sort(&self, inner: &mut Inner, socket: usize, buffer: &mut [u8], meta: &mut RecvMeta) {
        let (now, from) = (self.clock.now().mono, (socket, meta.addr));
        let (len, stride) = (meta.len.min(buffer.len()), meta.stride.max(1));
        // the commonest: QUIC of one session, and nothing else
        let plain = |at: usize| buffer.get(at).is_some_and(|first| *first >= 64);
        if inner.path.is_plain(from) && (0..len).step_by(stride).all(plain) {
            let first = buffer.get(..len.min(stride)).unwrap_or_default();
            match inner
                .path
                .quic(now, (Base::Socket(socket), from.1), first, len)
            {
                Some(address) => meta.addr = address,
                None => meta.len = 0,
            }
            meta.dst_ip = None;
            return;
        }
        let (mut kept, mut size, mut to) = (0, 0, None);
        let mut at = 0;
        while at < len {
            let end = (at + stride).min(len);
            let segment = buffer.get(at..end).unwrap_or_default();
            if let Arrived::Quic(address, range) = inner.path.received(now, from, segment) {
                let (first, last) = (at + range.start, at + range.end);
                let long = last - first;
                // only the last of a train may be shorter
                let joins = to == Some(address) && long <= size && kept % size == 0;
                if to.is_none() || joins {
                    buffer.copy_within(first..last, kept);
                    if to.is_none() {
                        (to, size) = (Some(address), long.max(1));
                    }
                    kept += long;
                } else if inner.rest.len() < REST_MAX
                    && let Some(packet) = buffer.get(first..last)
                {
                    let alone = RecvMeta {
                        addr: address,
                        len: long,
                        stride: long,
                        ecn: meta.ecn,
                        dst_ip: None,
                    };
                    inner.rest.push_back((alone, packet.to_vec()));
                }
            }
            at = end;
        }
        meta.len = kept;
        meta.stride = size.max(1);
        meta.dst_ip = None;
        if let Some(address) = to {
            meta.addr = address;
        }
        self.flush(&mut inner.path);
        self.wake.notify_one();
    }

    /// A packet or a train through a channel: four bytes before each segment.
    fn send_framed(
        &self,
        frame: &mut Vec<u8>,
        channel: &super::turn::Channel,
        transmit: &Transmit<'_>,
    ) -> io::Result<()> {
        let Some(udp) = self.sockets.get(channel.socket) else {
            return Ok(());
        };
        let size = transmit.segment_size.unwrap_or(transmit.contents.len());
        frame.clear();
        for segment in transmit.contents.chunks(size.max(1)) {
            frame.extend_from_slice(&channel.header(segment.len()));
            frame.extend_from_slice(segment);
        }
        udp.send(&Transmit {
            destination: channel.server,
            ecn: transmit.ecn,
            contents: frame,
            segment_size: transmit.segment_size.map(|size| size + 4),
            src_ip: None,
        })
    }
}

/// Lets time pass, and looks at the interfaces when they change.
async fn serve(socket: Weak<Socket>) {
    let mut watch = Watch::start();
    loop {
        let Some(alive) = socket.upgrade() else {
            return;
        };
        let (deadline, busy) = {
            let inner = alive.inner();
            (inner.path.deadline(), inner.path.is_busy())
        };
        let look = alive.clock.now().mono + if busy { LOOK } else { IDLE };
        let due = deadline.map_or(look, |due| due.min(look));
        let changed = tokio::select! {
            () = alive.wake.notified() => false,
            () = tokio::time::sleep_until(due.into()) => false,
            () = watch.changed() => true,
        };
        if changed {
            alive.look();
        }
        alive.tick();
    }
}

impl Socket {
    fn tick(&self) {
        let now = self.clock.now().mono;
        let mut inner = self.inner();
        inner.path.tick(now);
        self.flush(&mut inner.path);
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller {
            socket: self,
            waiting: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let now = self.clock.now().mono;
        let mut inner = self.inner();
        let inner = &mut *inner;
        let len = transmit.contents.len();
        let ways = inner.path.leaves(now, transmit.destination, len);
        for (at, way) in ways.into_iter().enumerate() {
            let sent = match way {
                Leaves::Direct(socket, destination) => match self.sockets.get(socket) {
                    Some(udp) => udp.send(&Transmit {
                        destination,
                        ecn: transmit.ecn,
                        contents: transmit.contents,
                        segment_size: transmit.segment_size,
                        src_ip: None,
                    }),
                    None => Ok(()),
                },
                Leaves::Channel(channel) => self.send_framed(&mut inner.frame, &channel, transmit),
                Leaves::Outside(relay, peer) => {
                    let size = transmit.segment_size.unwrap_or(len).max(1);
                    for segment in transmit.contents.chunks(size) {
                        if let Some(packet) = inner.path.outside(relay, peer, segment)
                            && let Some(udp) = self.sockets.get(packet.socket)
                        {
                            let _ = udp.io.try_send_to(&packet.bytes, packet.to);
                        }
                    }
                    Ok(())
                }
            };
            match sent {
                // the first way decides: a copy that finds no room is not sent again
                Err(error) if at == 0 && error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(error);
                }
                // one address of several that cannot be reached is no error of the session
                _ => {}
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut())
            && let Some((alone, packet)) = self.inner().rest.pop_front()
            && let Some(room) = buffer.get_mut(..packet.len())
        {
            room.copy_from_slice(&packet);
            *meta = alone;
            return Poll::Ready(Ok(1));
        }
        for (index, udp) in self.sockets.iter().enumerate() {
            while udp.io.poll_recv_ready(cx)?.is_ready() {
                let Ok(count) = udp.io.try_io(Interest::READABLE, || {
                    udp.state.recv((&udp.io).into(), bufs, meta)
                }) else {
                    continue;
                };
                let mut inner = self.inner();
                for (buffer, meta) in bufs.iter_mut().zip(meta.iter_mut()).take(count) {
                    self.sort(&mut inner, index, buffer, meta);
                }
                return Poll::Ready(Ok(count));
            }
        }
        Poll::Pending
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        // what quinn sees is virtual, this end included
        Ok(SocketAddr::from((
            Ipv6Addr::new(0xfd53, 0x756f, 0x7261, 0, 0, 0, 0, 0),
            443,
        )))
    }

    fn max_transmit_segments(&self) -> usize {
        self.sockets
            .iter()
            .map(|udp| udp.state.max_gso_segments())
            .min()
            .unwrap_or(1)
    }

    fn max_receive_segments(&self) -> usize {
        self.sockets
            .iter()
            .map(|udp| udp.state.gro_segments())
            .max()
            .unwrap_or(1)
    }

    fn may_fragment(&self) -> bool {
        self.sockets.iter().any(|udp| udp.state.may_fragment())
    }
}

type Writable = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits until a socket takes packets again; one a connection, so that none steals another's waker.
struct Poller {
    socket: Arc<Socket>,
    waiting: Option<Writable>,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Poller")
    }
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket.clone();
        let waiting = self.waiting.get_or_insert_with(|| {
            Box::pin(async move {
                for udp in &socket.sockets {
                    udp.io.writable().await?;
                }
                Ok(())
            })
        });
        let polled = waiting.as_mut().poll(cx);
        if polled.is_ready() {
            self.waiting = None;
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use suora_protocol::documents::{Dcid, SessionId};

    use super::*;

    fn initial(dcid: u8, len: usize) -> Vec<u8> {
        let mut packet = vec![0xc3, 0, 0, 0, 1, 20];
        packet.extend_from_slice(&[dcid; 20]);
        packet.resize(len, 0);
        packet
    }

    // covers: SUORA-SET-212
    #[tokio::test]
    async fn a_train_with_others_packets_in_it_is_taken_apart() {
        let bind = Bind {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            loopback: true,
            routed: false,
            hidden: false,
            announce: Vec::new(),
        };
        let (socket, _events) = Socket::bind(&bind, [1; 32]).unwrap();
        let expect = |number: u8| {
            let session = SessionId::from_bytes([number; 16]);
            socket.with(|_, path| path.expect(session, Dcid::from_bytes([number; 20])))
        };
        let (one, _other) = (expect(1), expect(2));
        let mut stun = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        stun.resize(100, 0);
        // one source is one session's: what it sends for another one stays its own
        let segments = [
            stun.clone(),
            initial(1, 100),
            stun,
            initial(1, 100),
            initial(1, 40),
        ];
        let mut buffer = segments.concat();
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let mut meta = RecvMeta {
            addr: from,
            len: buffer.len(),
            stride: 100,
            ecn: None,
            dst_ip: None,
        };
        let mut inner = socket.inner();
        socket.sort(&mut inner, 0, &mut buffer, &mut meta);
        assert_eq!((meta.addr, meta.len, meta.stride), (one, 240, 100));
        let whole = [initial(1, 100), initial(1, 100), initial(1, 40)].concat();
        assert_eq!(buffer[..240], whole);
        assert!(inner.rest.is_empty());
        // damage alone is nothing
        meta = RecvMeta {
            addr: from,
            len: 100,
            ..meta
        };
        let mut damage = vec![0; 100];
        socket.sort(&mut inner, 0, &mut damage, &mut meta);
        assert_eq!(meta.len, 0);
    }
}
