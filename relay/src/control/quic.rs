//! DOOR: QUIC as libp2p speaks it, for a listener that strangers come to. The library's own takes every
//! first packet to be a handshake, before it can be asked: each costs a signature, and 42 KiB for
//! some seconds, and bears any address that its sender likes. Here, from [`RETRY`] handshakes under
//! way on, a newcomer shows first that it hears at its address (RFC 9000, section 8.1.2), which
//! costs the relay one packet and no memory.
#![expect(clippy::disallowed_methods, reason = "door: listening sockets")]

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::{BoxFuture, Pending};
use futures::{AsyncRead, AsyncWrite, FutureExt as _};
use libp2p::core::Multiaddr;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{PeerId, tls};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::rustls::pki_types::CertificateDer;
use quinn::{EndpointConfig, IdleTimeout, RecvStream, SendStream, VarInt};
use socket2::{Domain, Socket, Type};

use super::entrance::AGES;
use super::muxer::{STREAMS, UNREAD};
use crate::Faults;
use crate::porch::Porch;

/// From so many handshakes under way on, a newcomer's address has to be proven.
pub const RETRY: usize = 32;
/// First packets that wait to be looked at, and what they may hold beside themselves.
const INCOMING: usize = 1_024;
const INCOMING_BYTES: u64 = 4 << 20;
/// First packets that are looked at in a row.
const BATCH: usize = 64;
/// A connection that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(5);

const UDP: socket2::Protocol = socket2::Protocol::UDP;

type Pair = Result<(SendStream, RecvStream), quinn::ConnectionError>;

/// The listeners.
pub(super) struct Quic {
    config: quinn::ServerConfig,
    porch: Porch,
    retries: bool,
    listeners: Vec<Listener>,
    events: VecDeque<TransportEvent<Shaking, io::Error>>,
}

/// A handshake under way.
type Shaking = BoxFuture<'static, io::Result<(PeerId, Connection)>>;

struct Listener {
    id: ListenerId,
    address: Multiaddr,
    endpoint: quinn::Endpoint,
    next: BoxFuture<'static, Option<quinn::Incoming>>,
}

impl Quic {
    /// Handshakes are counted on this porch. Where the first stay, no address has to
    /// be proven.
    pub(super) fn new(key: &Keypair, porch: Porch, faults: Faults) -> io::Result<Self> {
        let mut tls = tls::make_server_config(key).map_err(io::Error::other)?;
        // libp2p's writes a file where the environment names one
        tls.key_log = Arc::new(quinn::rustls::NoKeyLog);
        let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
        let bound = |bytes: usize| VarInt::try_from(bytes).unwrap_or(VarInt::MAX);
        let silence = if faults.first_stay { AGES } else { SILENCE };
        let silence = IdleTimeout::try_from(silence).map_err(io::Error::other)?;
        let mut transport = quinn::TransportConfig::default();
        transport
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .max_concurrent_bidi_streams(bound(STREAMS))
            .stream_receive_window(bound(UNREAD))
            .receive_window(bound(UNREAD))
            .datagram_receive_buffer_size(None)
            .keep_alive_interval(Some(KEEP_ALIVE))
            .max_idle_timeout(Some(silence))
            .allow_spin(false);
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config
            .transport_config(Arc::new(transport))
            // a node that moves dials anew: its prefix is counted
            .migration(false)
            .max_incoming(INCOMING)
            .incoming_buffer_size(16_384)
            .incoming_buffer_size_total(INCOMING_BYTES);
        Ok(Self {
            config,
            porch,
            retries: !faults.first_stay && !faults.no_retry,
            listeners: Vec::new(),
            events: VecDeque::new(),
        })
    }
}

/// The address to listen at, of `/ip4/…/udp/…/quic-v1` and nothing else.
fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match (parts.next()?, parts.next()?, parts.next()) {
        (Protocol::Udp(port), Protocol::QuicV1, None) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// A socket at an address; at one of IPv6 it takes IPv6 only, as those of TCP do.
fn bind(at: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(UDP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&at.into())?;
    Ok(socket.into())
}

fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip().to_canonical())
        .with(Protocol::Udp(address.port()))
        .with(Protocol::QuicV1)
}

fn accept(endpoint: &quinn::Endpoint) -> BoxFuture<'static, Option<quinn::Incoming>> {
    let endpoint = endpoint.clone();
    async move { endpoint.accept().await }.boxed()
}

/// Goes on with a handshake until it is known who is there.
async fn shake(connecting: quinn::Connecting) -> io::Result<(PeerId, Connection)> {
    let connection = connecting.await?;
    let nobody = || io::Error::other("no certificate");
    let identity = connection.peer_identity().ok_or_else(nobody)?;
    let chain: Box<Vec<CertificateDer<'_>>> = identity.downcast().map_err(|_| nobody())?;
    let certificate = tls::certificate::parse(chain.first().ok_or_else(nobody)?);
    let peer = certificate.map_err(io::Error::other)?.peer_id();
    Ok((peer, Connection::new(connection)))
}

impl Transport for Quic {
    type Output = (PeerId, Connection);
    type Error = io::Error;
    type ListenerUpgrade = Shaking;
    type Dial = Pending<io::Result<Self::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        let Some(at) = socket(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let mut endpoint = EndpointConfig::default();
        endpoint.supported_versions(vec![1]);
        let socket = bind(at).map_err(TransportError::Other)?;
        let config = Some(self.config.clone());
        let endpoint =
            quinn::Endpoint::new(endpoint, config, socket, Arc::new(quinn::TokioRuntime))
                .map_err(TransportError::Other)?;
        let at = endpoint.local_addr().map_err(TransportError::Other)?;
        let address = multiaddr(at);
        self.listeners.push(Listener {
            id,
            address: address.clone(),
            next: accept(&endpoint),
            endpoint,
        });
        self.events.push_back(TransportEvent::NewAddress {
            listener_id: id,
            listen_addr: address,
        });
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let before = self.listeners.len();
        self.listeners.retain(|listener| listener.id != id);
        self.listeners.len() < before
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        // a relay dials nobody
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Shaking, io::Error>> {
        let this = &mut *self;
        if let Some(event) = this.events.pop_front() {
            return Poll::Ready(event);
        }
        let mut at = 0;
        for _ in 0..BATCH {
            let Some(listener) = this.listeners.get_mut(at) else {
                return Poll::Pending;
            };
            let Poll::Ready(incoming) = listener.next.poll_unpin(cx) else {
                at += 1;
                continue;
            };
            let Some(incoming) = incoming else {
                let closed = this.listeners.swap_remove(at);
                return Poll::Ready(TransportEvent::ListenerClosed {
                    listener_id: closed.id,
                    reason: Err(io::ErrorKind::NotConnected.into()),
                });
            };
            listener.next = accept(&listener.endpoint);
            let is_proven = incoming.remote_address_validated();
            if this.retries && !is_proven && this.porch.count() >= RETRY {
                let _ = incoming.retry();
                continue;
            }
            let from = multiaddr(incoming.remote_address());
            // a packet that is none costs nobody else anything
            let Ok(connecting) = incoming.accept() else {
                continue;
            };
            return Poll::Ready(TransportEvent::Incoming {
                listener_id: listener.id,
                upgrade: shake(connecting).boxed(),
                local_addr: listener.address.clone(),
                send_back_addr: from,
            });
        }
        // others first
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A connection.
pub(super) struct Connection {
    connection: quinn::Connection,
    inbound: Option<BoxFuture<'static, Pair>>,
    outbound: Option<BoxFuture<'static, Pair>>,
    closing: Option<BoxFuture<'static, quinn::ConnectionError>>,
}

impl Connection {
    const fn new(connection: quinn::Connection) -> Self {
        Self {
            connection,
            inbound: None,
            outbound: None,
            closing: None,
        }
    }
}

impl StreamMuxer for Connection {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let this = &mut *self;
        let next = this.inbound.get_or_insert_with(|| {
            let connection = this.connection.clone();
            async move { connection.accept_bi().await }.boxed()
        });
        let pair = ready!(next.poll_unpin(cx));
        this.inbound = None;
        Poll::Ready(Ok(Stream::new(pair?)))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let this = &mut *self;
        let next = this.outbound.get_or_insert_with(|| {
            let connection = this.connection.clone();
            async move { connection.open_bi().await }.boxed()
        });
        let pair = ready!(next.poll_unpin(cx));
        this.outbound = None;
        Poll::Ready(Ok(Stream::new(pair?)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let closing = this.closing.get_or_insert_with(|| {
            this.connection.close(VarInt::from_u32(0), &[]);
            let connection = this.connection.clone();
            async move { connection.closed().await }.boxed()
        });
        match ready!(closing.poll_unpin(cx)) {
            quinn::ConnectionError::LocallyClosed => Poll::Ready(Ok(())),
            error => Poll::Ready(Err(error.into())),
        }
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        // quinn looks after itself, and no connection moves
        Poll::Pending
    }
}

/// A stream, which may be closed more than once, as libp2p does.
pub(super) struct Stream {
    send: SendStream,
    receive: RecvStream,
    closed: Option<Result<(), io::ErrorKind>>,
}

impl Stream {
    fn new((send, receive): (SendStream, RecvStream)) -> Self {
        Self {
            send,
            receive,
            closed: None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(closed) = self.closed {
            return Poll::Ready(closed.map_err(Into::into));
        }
        let closed = ready!(AsyncWrite::poll_close(Pin::new(&mut self.send), cx));
        self.closed = Some(closed.as_ref().copied().map_err(io::Error::kind));
        Poll::Ready(closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_ipv6_leaves_the_port_of_ipv4_to_others() {
        let six = bind("[::]:0".parse().unwrap()).unwrap();
        let port = six.local_addr().unwrap().port();
        let four = bind(([0, 0, 0, 0], port).into());
        assert_eq!(four.unwrap().local_addr().unwrap().port(), port);
    }

    #[test]
    fn it_listens_at_an_address_of_quic_only() {
        let at = |text: &str| socket(&text.parse().unwrap());
        let six = "[2001:db8::1]:443".parse().ok();
        assert_eq!(at("/ip6/2001:db8::1/udp/443/quic-v1"), six);
        assert_eq!(
            at("/ip4/0.0.0.0/udp/4433/quic-v1"),
            Some(([0; 4], 4433).into())
        );
        for other in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/127.0.0.1/udp/1",
            "/ip4/127.0.0.1/udp/1/quic-v1/webtransport",
            "/dns4/relay.example/udp/1/quic-v1",
        ] {
            assert_eq!(at(other), None, "{other}");
        }
        let mapped = "[::ffff:192.0.2.7]:9".parse().unwrap();
        assert_eq!(
            multiaddr(mapped),
            "/ip4/192.0.2.7/udp/9/quic-v1".parse().unwrap()
        );
    }
}
