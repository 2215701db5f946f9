//! A stranger with a key: a connection by libp2p over TCP, and desk streams on it.

use std::net::SocketAddr;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, StreamProtocol, SwarmBuilder, noise, tcp, yamux};
use suora_protocol::documents::{Challenge, DeskId};
use suora_protocol::identity::{Draw, Key};
use suora_protocol::wire::citizen::{self, FromRelay, ToRelay};
use suora_protocol::wire::work::Work;
use suora_protocol::wire::{self, Framer};
use tokio::time::timeout;

use super::strangers::PATIENCE;

/// A connection by libp2p under a fresh key.
pub(super) struct Node {
    /// Its key.
    pub(super) key: Key,
    control: libp2p_stream::Control,
    relay: PeerId,
    swarm: tokio::task::JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.swarm.abort();
    }
}

impl Node {
    pub(super) async fn connect(draw: &mut Draw, via: SocketAddr, relay: &str) -> Option<Self> {
        let key = Key::from_secret(&draw.bytes());
        let pair = libp2p::identity::Keypair::ed25519_from_bytes(key.secret().to_vec()).ok()?;
        let mut swarm = SwarmBuilder::with_existing_identity(pair)
            .with_tokio()
            .with_tcp(
                tcp::Config::default().nodelay(true),
                noise::Config::new,
                yamux::Config::default,
            )
            .ok()?
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .ok()?
            .with_swarm_config(|config| config.with_idle_connection_timeout(8 * PATIENCE))
            .build();
        let address = format!("/ip4/{}/tcp/{}/p2p/{relay}", via.ip(), via.port());
        let address: Multiaddr = address.parse().ok()?;
        swarm.dial(address).ok()?;
        let control = swarm.behaviour().new_control();
        let stands = async {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { .. } => return true,
                    SwarmEvent::OutgoingConnectionError { .. } => return false,
                    _ => {}
                }
            }
        };
        if !timeout(PATIENCE, stands).await.ok()? {
            return None;
        }
        Some(Self {
            key,
            control,
            relay: relay.parse().ok()?,
            swarm: tokio::spawn(async move {
                loop {
                    swarm.select_next_some().await;
                }
            }),
        })
    }

    pub(super) async fn open(&mut self) -> Option<Link> {
        let protocol = StreamProtocol::new(citizen::PROTOCOL);
        let open = self.control.open_stream(self.relay, protocol);
        let stream = timeout(PATIENCE, open).await.ok()?.ok()?;
        Some(Link {
            stream,
            framer: Framer::new(),
        })
    }
}

/// A desk stream.
pub(super) struct Link {
    stream: libp2p::Stream,
    framer: Framer,
}

impl Link {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).await.ok()?;
        self.stream.flush().await.ok()
    }

    pub(super) async fn say(&mut self, message: &ToRelay) -> Option<()> {
        let bytes = wire::encode(message).ok()?;
        self.write(&bytes).await
    }

    /// The next message; safe to cancel.
    pub(super) async fn hear(&mut self) -> Option<FromRelay> {
        loop {
            if let Some(body) = self.framer.next_message().ok()? {
                return wire::decode(&body).ok();
            }
            let mut buffer = [0; 4_096];
            match self.stream.read(&mut buffer).await {
                Ok(read @ 1..) => self.framer.push(buffer.get(..read)?),
                _ => return None,
            }
        }
    }
}

/// A join without a ticket.
pub(super) fn join(desk: &str, work: Option<Work>) -> Option<ToRelay> {
    Some(ToRelay::Join {
        desk: DeskId::new(desk).ok()?,
        challenge: Challenge::from_bytes([5; 16]),
        ticket: None,
        work,
    })
}
