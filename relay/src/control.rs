//! DOOR: the control plane. One libp2p swarm over QUIC, TCP and, on a listener of its own,
//! WebSocket takes nodes; its own behaviour bounds connections before anything is allocated for them and hands each
//! desk stream to a bounded reader and writer ([`streams`]).
//!
//! | bound | how many |
//! |---|---|
//! | connections, and those of one prefix (/24, /56) | settings |
//! | connections of one key | [`PER_PEER`] |
//! | handshakes under way, and those of one prefix | [`PROVEN`] by TCP, [`UNPROVEN`] by QUIC, [`HANDSHAKE`] each; one more pushes out the oldest |
//! | handshakes by QUIC of addresses that need not be proven | [`RETRY`] |
//! | streams of a connection at once, being negotiated, in its life | [`muxer::STREAMS`], 4, [`STREAMS`] |
//! | bytes that wait on the streams of a connection | [`muxer::UNREAD`]; then it is not read |
//! | frames that hold them | [`muxer::FRAMES`]; then it is not read |
//! | live desk streams of a connection | [`DESK_STREAMS`]; one more is told `busy` |
//! | unfinished messages of one prefix | [`streams::UNFINISHED`] beyond 4 KiB each; one more is told `busy` |
//! | a connection without a stream | [`IDLE`] |
//! | a frame of WebSocket | [`WEBSOCKET_MAX`] |

pub mod desk;
mod entrance;
pub mod muxer;
mod quic;
pub mod reach;
pub mod streams;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::{Multiaddr, Transport as _, upgrade};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Swarm, identify, noise, ping, swarm, tcp, websocket};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{Key, PeerId};
use suora_protocol::limits::WEBSOCKET_MAX;
use suora_protocol::wire::officer;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::Faults;
use crate::config::Config;
use crate::hub::LinkId;
use crate::hub::admission::refusal;
use crate::porch::Porch;
use desk::{Desk, Opened};
use entrance::{Connected, Entrance};
use muxer::Yamux;
use quic::Quic;
use streams::{Envelope, Unfinished};

pub use desk::{DESK_STREAMS, PER_PEER, STREAMS};
pub use entrance::{HANDSHAKE, PROVEN, UNPROVEN};
pub use quic::RETRY;

/// How long a connection may be without a stream.
pub const IDLE: Duration = Duration::from_secs(20);
/// How long streams and connections may take to close when the relay stops.
const FAREWELL: Duration = Duration::from_millis(400);

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct Behaviour {
    desk: Desk,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// The transport over WebSocket, with the security of TCP.
fn over_websocket(key: &Keypair) -> Result<Boxed<Connected>, noise::Error> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let mut websocket = websocket::Config::new(tcp);
    // the library's own bound is 256 MiB
    websocket.set_max_data_size(WEBSOCKET_MAX);
    let websocket = websocket
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(Yamux);
    Ok(websocket.boxed())
}

/// All transports of a relay; handshakes over QUIC are counted on this porch.
fn transports(key: &Keypair, porch: Porch, faults: Faults) -> io::Result<Boxed<Connected>> {
    let noise = noise::Config::new(key).map_err(io::Error::other)?;
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise)
        .multiplex(Yamux);
    let quic = Quic::new(key, porch, faults)?
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    let all = tcp
        .boxed()
        .or_transport(quic)
        .map(|either, _| either.into_inner())
        .or_transport(over_websocket(key).map_err(io::Error::other)?)
        .map(|either, _| either.into_inner());
    Ok(all.boxed())
}

/// The listening control plane.
pub struct Control {
    swarm: Swarm<Behaviour>,
    envelopes: mpsc::Sender<Envelope>,
    streams: JoinSet<()>,
    unfinished: Arc<Unfinished>,
    next: u64,
}

impl Control {
    /// Listens by QUIC, TCP and perhaps WebSocket; what nodes say goes to `envelopes`.
    pub async fn listen(
        key: &Key,
        config: &Config,
        envelopes: mpsc::Sender<Envelope>,
        faults: Faults,
    ) -> Result<Self, Fault> {
        let failed = |error: String| {
            Fault::new(Code::BadConfig).with(format!("control {}: {error}", config.control))
        };
        let identity = Keypair::ed25519_from_bytes(key.secret().to_vec())
            .map_err(|error| failed(error.to_string()))?;
        let porch = Porch::new(UNPROVEN, faults.first_stay);
        let listeners = transports(&identity, porch.clone(), faults)
            .map_err(|error| failed(error.to_string()))?;
        let behaviour = Behaviour {
            desk: Desk::new(config.connections_per_prefix, config.connections),
            identify: identify::Behaviour::new(
                identify::Config::new("/suora/1".into(), identity.public())
                    .with_agent_version("suora-relay".into())
                    .with_hide_listen_addrs(true)
                    .with_cache_size(0),
            ),
            ping: ping::Behaviour::default(),
        };
        let mut swarm = Swarm::new(
            Entrance::new(listeners, porch, faults).boxed(),
            behaviour,
            identity.public().to_peer_id(),
            swarm::Config::with_tokio_executor()
                .with_idle_connection_timeout(IDLE)
                .with_max_negotiating_inbound_streams(4),
        );
        let ip = Multiaddr::from(config.control.ip());
        let port = config.control.port();
        let mut addresses = vec![
            ip.clone().with(Protocol::Udp(port)).with(Protocol::QuicV1),
            ip.with(Protocol::Tcp(port)),
        ];
        addresses.extend(config.websocket.map(|at| {
            Multiaddr::from(at.ip())
                .with(Protocol::Tcp(at.port()))
                .with(Protocol::Ws("/".into()))
        }));
        let expected = addresses.len();
        for address in addresses {
            swarm
                .listen_on(address)
                .map_err(|error| failed(error.to_string()))?;
        }
        // all listeners stand before anybody is told that the relay runs
        let mut listening = 0;
        while listening < expected {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { .. } => listening += 1,
                SwarmEvent::ListenerClosed {
                    reason: Err(error), ..
                } => return Err(failed(error.to_string())),
                SwarmEvent::ListenerError { error, .. } => return Err(failed(error.to_string())),
                _ => {}
            }
        }
        Ok(Self {
            swarm,
            envelopes,
            streams: JoinSet::new(),
            unfinished: Arc::default(),
            next: 0,
        })
    }

    /// Runs until told to stop, or until a listener ends; then streams and connections are closed in
    /// order.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => break,
                Some(_) = self.streams.join_next() => {}
                event = self.swarm.select_next_some() => match event {
                    SwarmEvent::Behaviour(BehaviourEvent::Desk(opened)) => self.take(opened),
                    SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                        // whoever started the relay starts it anew
                        tracing::error!(?addresses, ?reason, "a listener ended, and the relay with it");
                        break;
                    }
                    SwarmEvent::ListenerError { error, .. } => {
                        tracing::warn!(%error, "a connection could not be taken");
                    }
                    _ => {}
                }
            }
        }
        // the loop dropped the outboxes: what was said goes out, then the streams end
        let end = async {
            while !self.streams.is_empty() {
                tokio::select! {
                    _ = self.streams.join_next() => {}
                    _ = self.swarm.select_next_some() => {}
                }
            }
        };
        let _ = tokio::time::timeout(FAREWELL, end).await;
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let end = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, end).await;
    }

    fn take(&mut self, opened: Opened) {
        // multihash `identity`: 6 bytes, then the 32 of an Ed25519 key; other keys have no place here
        let bytes = opened.peer.to_bytes();
        let key = bytes.get(6..).and_then(|key| key.try_into().ok());
        let Some(peer) = key.and_then(|key| PeerId::checked(key).ok()) else {
            return;
        };
        let officer = opened.protocol.as_ref() == officer::PROTOCOL;
        if opened.is_too_many {
            let fault = Fault::new(Code::Busy).with("too many desk streams on this connection");
            let refused = refusal(officer, &fault);
            self.streams
                .spawn(streams::turn_away(opened.stream, refused));
            return;
        }
        self.next += 1;
        let (link, envelopes) = (LinkId(self.next), self.envelopes.clone());
        let (alive, prefix) = (opened.alive, opened.prefix);
        let unfinished = self.unfinished.clone();
        self.streams.spawn(async move {
            let who = (peer, officer, prefix);
            streams::serve(link, who, opened.stream, envelopes, unfinished).await;
            drop(alive);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn listen() -> (Control, mpsc::Receiver<Envelope>) {
        let ip = std::net::Ipv4Addr::LOCALHOST.into();
        let mut config = Config::parse(&Config::template(ip, 1, None, 0, 0, None)).unwrap();
        config.control.set_port(0);
        let (envelope, envelopes) = mpsc::channel(1);
        let key = Key::from_secret(&[7; 32]);
        let control = Control::listen(&key, &config, envelope, Faults::default()).await;
        (control.unwrap(), envelopes)
    }

    #[tokio::test]
    async fn it_ends_with_a_listener_but_not_before() {
        let patience = Duration::from_secs(30);
        for is_lost in [false, true] {
            let (mut control, mut envelopes) = listen().await;
            let more = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
            let more = control.swarm.listen_on(more).unwrap();
            if is_lost {
                assert!(control.swarm.remove_listener(more));
            }
            let (stop, stopped) = oneshot::channel();
            let running = tokio::spawn(control.run(stopped));
            if !is_lost {
                let early = tokio::time::timeout(Duration::from_millis(300), envelopes.recv());
                assert!(early.await.is_err());
                stop.send(()).unwrap();
            }
            // the loop hears of the end by this
            let end = tokio::time::timeout(patience, envelopes.recv()).await;
            assert!(end.expect("in time").is_none());
            running.await.unwrap();
        }
    }
}
