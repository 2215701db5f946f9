//! DOOR: the control plane. One libp2p swarm over QUIC and TCP takes nodes; its own
//! behaviour hands each desk stream to a bounded reader and writer ([`streams`]) and
//! counts connections by address prefix before anything is allocated for them.

pub mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{Ready, ready};
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{DeniedUpgrade, InboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, Stream, StreamProtocol, SubstreamProtocol, SwarmEvent, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, Swarm, SwarmBuilder, identify, noise, ping, tcp, yamux};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Key;
use suora_protocol::wire::{citizen, officer};
use tokio::sync::mpsc;

use crate::config::Config;
use streams::Envelope;

/// Offers the two desk protocols.
#[derive(Clone, Copy, Debug)]
pub struct DeskProtocols;

impl UpgradeInfo for DeskProtocols {
    type Info = StreamProtocol;
    type InfoIter = std::array::IntoIter<StreamProtocol, 2>;
    fn protocol_info(&self) -> Self::InfoIter {
        [
            StreamProtocol::new(citizen::PROTOCOL),
            StreamProtocol::new(officer::PROTOCOL),
        ]
        .into_iter()
    }
}

impl InboundUpgrade<Stream> for DeskProtocols {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;
    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

/// Takes one desk stream at a time on a connection.
#[derive(Debug, Default)]
pub struct Handler {
    taken: Option<(Stream, StreamProtocol)>,
    streams: u32,
}

/// Streams that a connection may open in its life, reconnects of the stream included.
const STREAMS_MAX: u32 = 16;

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = (Stream, StreamProtocol);
    type InboundProtocol = DeskProtocols;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeskProtocols> {
        SubstreamProtocol::new(DeskProtocols, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.streams > 0
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Self::ToBehaviour>> {
        match self.taken.take() {
            Some(taken) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(taken)),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<DeskProtocols, DeniedUpgrade>) {
        if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) =
            event
            && self.streams < STREAMS_MAX
        {
            self.streams += 1;
            self.taken = Some(protocol);
        }
    }
}

/// The relay's own behaviour.
#[derive(Debug)]
pub struct Desk {
    incoming: VecDeque<(PeerId, Stream, StreamProtocol)>,
    prefixes: BTreeMap<Vec<u8>, u32>,
    by_connection: BTreeMap<ConnectionId, Vec<u8>>,
    per_prefix: u32,
    all: u32,
}

/// /24 of IPv4, /56 of IPv6.
fn prefix(address: &Multiaddr) -> Vec<u8> {
    let ip = address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    });
    match ip {
        Some(IpAddr::V4(ip)) => ip.octets()[..3].to_vec(),
        Some(IpAddr::V6(ip)) => ip.octets()[..7].to_vec(),
        None => Vec::new(),
    }
}

impl NetworkBehaviour for Desk {
    type ConnectionHandler = Handler;
    type ToSwarm = (PeerId, Stream, StreamProtocol);

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let prefix = prefix(remote);
        let count = self.prefixes.entry(prefix.clone()).or_default();
        let all = u32::try_from(self.by_connection.len()).unwrap_or(u32::MAX);
        if *count >= self.per_prefix || all >= self.all {
            return Err(ConnectionDenied::new(Fault::new(Code::Busy)));
        }
        *count += 1;
        self.by_connection.insert(id, prefix);
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let FromSwarm::ConnectionClosed(closed) = event
            && let Some(prefix) = self.by_connection.remove(&closed.connection_id)
            && let Some(count) = self.prefixes.get_mut(&prefix)
        {
            *count -= 1;
            if *count == 0 {
                self.prefixes.remove(&prefix);
            }
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        _: ConnectionId,
        (stream, protocol): THandlerOutEvent<Self>,
    ) {
        self.incoming.push_back((peer, stream, protocol));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.incoming.pop_front().map_or(Poll::Pending, |taken| {
            Poll::Ready(ToSwarm::GenerateEvent(taken))
        })
    }
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct Behaviour {
    desk: Desk,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// The listening control plane.
pub struct Control {
    swarm: Swarm<Behaviour>,
    envelopes: mpsc::Sender<Envelope>,
    next: u64,
}

impl Control {
    /// Listens by QUIC and TCP; what nodes say goes to `envelopes`.
    pub async fn listen(
        key: &Key,
        config: &Config,
        envelopes: mpsc::Sender<Envelope>,
    ) -> Result<Self, Fault> {
        let failed = |error: String| {
            Fault::new(Code::BadConfig).with(format!("control {}: {error}", config.control))
        };
        let identity = libp2p::identity::Keypair::ed25519_from_bytes(key.secret().to_vec())
            .map_err(|error| failed(error.to_string()))?;
        let (per_prefix, all) = (config.connections_per_prefix, config.connections);
        let mut swarm = SwarmBuilder::with_existing_identity(identity)
            .with_tokio()
            .with_tcp(
                tcp::Config::default().nodelay(true),
                noise::Config::new,
                yamux::Config::default,
            )
            .map_err(|error| failed(error.to_string()))?
            .with_quic()
            .with_behaviour(|key| Behaviour {
                desk: Desk {
                    incoming: VecDeque::new(),
                    prefixes: BTreeMap::new(),
                    by_connection: BTreeMap::new(),
                    per_prefix,
                    all,
                },
                identify: identify::Behaviour::new(
                    identify::Config::new("/suora/1".into(), key.public())
                        .with_agent_version("suora-relay".into()),
                ),
                ping: ping::Behaviour::default(),
            })
            .map_err(|error| failed(error.to_string()))?
            .with_swarm_config(|config| {
                config
                    .with_idle_connection_timeout(Duration::from_secs(20))
                    .with_max_negotiating_inbound_streams(8)
            })
            .build();
        let ip = Multiaddr::from(config.control.ip());
        let port = config.control.port();
        for address in [
            ip.clone().with(Protocol::Udp(port)).with(Protocol::QuicV1),
            ip.with(Protocol::Tcp(port)),
        ] {
            swarm
                .listen_on(address)
                .map_err(|error| failed(error.to_string()))?;
        }
        // both listeners stand before anybody is told that the relay runs
        let mut listening = 0;
        while listening < 2 {
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
            next: 0,
        })
    }

    /// Runs until dropped.
    pub async fn run(mut self) {
        loop {
            if let SwarmEvent::Behaviour(BehaviourEvent::Desk((peer, stream, protocol))) =
                self.swarm.select_next_some().await
            {
                let bytes = peer.to_bytes();
                let Some(peer) = bytes
                    .get(6..)
                    .and_then(|key| key.try_into().ok())
                    .map(suora_protocol::identity::PeerId::from_bytes)
                else {
                    continue;
                };
                self.next += 1;
                let officer = protocol.as_ref() == officer::PROTOCOL;
                tokio::spawn(streams::serve(
                    self.next,
                    peer,
                    officer,
                    stream,
                    self.envelopes.clone(),
                ));
            }
        }
    }
}
