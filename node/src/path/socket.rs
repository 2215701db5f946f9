//! DOOR: the UDP sockets under quinn. Quinn sees virtual addresses; this door turns them
//! into real ones by the [`Routes`], and drops what belongs to no session.
#![expect(clippy::disallowed_methods, reason = "door: sockets")]

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use if_addrs::{IfAddr, Interface};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use suora_protocol::documents::{Dcid, SessionId};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::ADDRESSES_MAX;
use tokio::io::Interest;

use super::Network;
use super::routes::Routes;

#[derive(Debug)]
struct Udp {
    io: tokio::net::UdpSocket,
    state: quinn_udp::UdpSocketState,
    local: SocketAddr,
}

/// This machine's interfaces. A sandbox may forbid to look at them.
fn interfaces() -> io::Result<Vec<Interface>> {
    let listed = if_addrs::get_if_addrs();
    listed.inspect_err(|error| tracing::warn!(%error, "this machine's interfaces are not listed"))
}

/// The networks of this machine's interfaces.
fn networks() -> io::Result<Vec<Network>> {
    let network = |interface: Interface| match interface.addr {
        IfAddr::V4(v4) => (IpAddr::V4(v4.ip), v4.prefixlen),
        IfAddr::V6(v6) => (IpAddr::V6(v6.ip), v6.prefixlen),
    };
    Ok(interfaces()?.into_iter().map(network).collect())
}

/// All UDP sockets of a node, and the routes above them.
#[derive(Debug)]
pub struct Socket {
    sockets: Vec<Udp>,
    routes: Mutex<Routes>,
}

impl Socket {
    /// Listens on the given addresses, or on a free port of every interface.
    pub fn bind(listen: &[SocketAddr]) -> Result<Arc<Self>, Fault> {
        let any = [
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        ];
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
        Ok(Arc::new(Self {
            sockets,
            routes: Mutex::default(),
        }))
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

    /// Where we can be reached directly: the bound addresses, or those of the interfaces.
    /// Loopback only on request; link-local never.
    pub fn addresses(&self, loopback: bool) -> Vec<SocketAddr> {
        let interfaces = interfaces().unwrap_or_default();
        let mut addresses = Vec::new();
        for udp in &self.sockets {
            if !udp.local.ip().is_unspecified() {
                addresses.push(udp.local);
                continue;
            }
            let of_family = interfaces
                .iter()
                .map(Interface::ip)
                .filter(|ip| ip.is_ipv4() == udp.local.is_ipv4());
            addresses.extend(of_family.map(|ip| SocketAddr::new(ip, udp.local.port())));
        }
        addresses.retain(|address| match address {
            SocketAddr::V4(v4) => !v4.ip().is_link_local() && (loopback || !v4.ip().is_loopback()),
            SocketAddr::V6(v6) => {
                !v6.ip().is_unicast_link_local() && (loopback || !v6.ip().is_loopback())
            }
        });
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A guest may come. Returns the virtual address.
    pub fn expect(&self, session: SessionId, dcid: Dcid) -> SocketAddr {
        self.routes().expect(session, dcid)
    }

    /// A host is dialled; `allowed` are loopback addresses, and private ones beyond our own
    /// networks. Returns the virtual address; no address that may be dialled is [`Code::NoPath`]:
    /// see [`super::dialled`].
    pub fn dial(
        &self,
        session: SessionId,
        dcid: Dcid,
        addresses: &[SocketAddr],
        allowed: (bool, bool),
    ) -> Result<SocketAddr, Fault> {
        let bound: Vec<SocketAddr> = self.sockets.iter().map(|udp| udp.local).collect();
        let own = networks().map_err(|error| error.to_string());
        let own = own.as_deref().map_err(String::as_str);
        let reals = super::dialled(addresses, &bound, own, allowed)?;
        Ok(self.routes().dial(session, dcid, reals))
    }

    /// Breaks a rule on purpose: see [`Routes::follow_last`].
    pub fn follow_last(&self) {
        self.routes().follow_last();
    }

    /// The session is over.
    pub fn forget(&self, session: SessionId) {
        self.routes().forget(session);
    }

    /// The handshake completed.
    pub fn completed(&self, session: SessionId) {
        self.routes().completed(session);
    }

    /// Our and their real address of the path in use.
    pub fn path(&self, session: SessionId) -> Option<(SocketAddr, SocketAddr)> {
        let (socket, remote) = self.routes().chosen(session)?;
        Some((self.sockets.get(socket)?.local, remote))
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
        let targets = self
            .routes()
            .outgoing(transmit.destination, transmit.contents.len());
        for (socket, destination) in targets {
            let Some(udp) = self.sockets.get(socket) else {
                continue;
            };
            let real = Transmit {
                destination,
                ecn: transmit.ecn,
                contents: transmit.contents,
                segment_size: transmit.segment_size,
                src_ip: None,
            };
            match udp.io.try_io(Interest::WRITABLE, || {
                udp.state.send((&udp.io).into(), &real)
            }) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
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
        for (index, udp) in self.sockets.iter().enumerate() {
            while udp.io.poll_recv_ready(cx)?.is_ready() {
                let Ok(count) = udp.io.try_io(Interest::READABLE, || {
                    udp.state.recv((&udp.io).into(), bufs, meta)
                }) else {
                    continue;
                };
                let mut routes = self.routes();
                for (buffer, meta) in bufs.iter().zip(meta.iter_mut()).take(count) {
                    match routes.incoming(
                        (index, meta.addr),
                        &buffer[..meta.len.min(meta.stride)],
                        meta.len,
                    ) {
                        Some(address) => {
                            meta.addr = address;
                            meta.dst_ip = None;
                        }
                        None => meta.len = 0,
                    }
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
