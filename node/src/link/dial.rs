//! DOOR: one dial of one relay. QUIC goes first, TCP follows after a head start and WebSocket
//! after another, the first connection that stands is kept and the others are closed. The
//! relay proves the peer id that its address names, whatever the transport.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::{Transport as _, upgrade};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    ConnectionId, DialError, NetworkBehaviour, Stream, StreamProtocol, SwarmEvent,
};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, identify, noise, ping, tcp, websocket, yamux,
};
use suora_protocol::fault::{Code, Fault, root_cause};
use suora_protocol::identity::Key;
use suora_protocol::limits::WEBSOCKET_MAX;
use tokio::time::sleep_until;

use super::{Times, unreachable};
use crate::clock::Clock;

/// Most addresses of one relay that are dialled by one transport.
const ADDRESSES: usize = 8;
/// Most relays of one agency.
const RELAYS: usize = 8;

/// Transports in the order in which they are tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Quic,
    Tcp,
    WebSocket,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Quic, Self::Tcp, Self::WebSocket];

    /// What an address without a peer id at its end is over.
    fn of(parts: &[Protocol<'_>]) -> Option<Self> {
        match parts {
            [Protocol::Udp(_), Protocol::QuicV1] => Some(Self::Quic),
            [Protocol::Tcp(_)] => Some(Self::Tcp),
            [Protocol::Tcp(_), Protocol::Ws(_)] => Some(Self::WebSocket),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Quic => "QUIC",
            Self::Tcp => "TCP",
            Self::WebSocket => "WebSocket",
        }
    }
}

/// How a relay answered over one transport.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reached {
    /// `QUIC`, `TCP` or `WebSocket`.
    pub transport: &'static str,
    /// How long it took until the relay had proven its key, or why it did not.
    pub took: Result<Duration, Fault>,
}

/// One relay, as the descriptor lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    peer: PeerId,
    /// By transport, as [`Kind::ALL`] has them.
    addresses: [Vec<Multiaddr>; 3],
}

/// Reads a descriptor's relay addresses, in their order. One that is no multiaddr over QUIC,
/// TCP or WebSocket, or does not end in a peer id, is left out.
pub(super) fn targets(relays: &[String]) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for text in relays {
        let Some((peer, kind, address)) = text.parse().ok().and_then(read) else {
            tracing::warn!("a relay address of the descriptor cannot be used");
            continue;
        };
        let at = match targets.iter().position(|target| target.peer == peer) {
            Some(at) => at,
            None if targets.len() < RELAYS => {
                targets.push(Target {
                    peer,
                    addresses: Default::default(),
                });
                targets.len() - 1
            }
            None => continue,
        };
        if let Some(target) = targets.get_mut(at) {
            let list = &mut target.addresses[kind as usize];
            if list.len() < ADDRESSES && !list.contains(&address) {
                list.push(address);
            }
        }
    }
    targets
}

/// Peer id, transport, and the whole address.
fn read(address: Multiaddr) -> Option<(PeerId, Kind, Multiaddr)> {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    let (host, rest) = parts.split_first()?;
    if !matches!(
        host,
        Protocol::Ip4(_)
            | Protocol::Ip6(_)
            | Protocol::Dns(_)
            | Protocol::Dns4(_)
            | Protocol::Dns6(_)
    ) {
        return None;
    }
    let Some((Protocol::P2p(peer), over)) = rest.split_last() else {
        return None;
    };
    Some((*peer, Kind::of(over)?, address))
}

/// Streams of a connection at once, of both ends: a hostile relay opens no more. An honest one opens
/// two, for identify and ping.
const STREAMS: u32 = 16;
/// Bytes that wait on QUIC's to be read: two of the longest messages.
const UNREAD: u32 = 131_072;

/// What a node speaks with a relay.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(super) struct Behaviour {
    stream: libp2p_stream::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// A connection that stands, with its one stream.
pub(super) struct Dialled {
    /// To be polled for as long as the stream is used.
    pub(super) swarm: Swarm<Behaviour>,
    /// The desk or attend stream.
    pub(super) stream: Stream,
    /// The connection that the stream is on.
    pub(super) connection: ConnectionId,
}

fn multiplexer() -> yamux::Config {
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(STREAMS as usize);
    yamux
}

fn swarm(key: &Key, times: &Times) -> Result<Swarm<Behaviour>, Fault> {
    let failed = |what: &str, error: String| {
        Fault::new(Code::Internal).with(format!("the control link's {what}: {error}"))
    };
    let identity = libp2p::identity::Keypair::ed25519_from_bytes(key.secret().to_vec())
        .map_err(|error| failed("key", error.to_string()))?;
    let swarm = SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            multiplexer,
        )
        .map_err(|error| failed("encryption", error.to_string()))?
        .with_quic_config(|mut quic| {
            quic.max_concurrent_stream_limit = STREAMS;
            quic.max_stream_data = UNREAD;
            quic.max_connection_data = UNREAD;
            quic
        })
        .with_other_transport(|key| {
            let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
            let mut websocket = websocket::Config::new(tcp);
            // the library's own bound is 256 MiB
            websocket.set_max_data_size(WEBSOCKET_MAX);
            let websocket = websocket
                .upgrade(upgrade::Version::V1Lazy)
                .authenticate(noise::Config::new(key)?)
                .multiplex(multiplexer());
            Ok(websocket)
        })
        .map_err(|error| failed("encryption", error.to_string()))?
        .with_dns()
        .map_err(|error| failed("name resolution", error.to_string()))?
        .with_behaviour(|key| Behaviour {
            stream: libp2p_stream::Behaviour::new(),
            identify: identify::Behaviour::new(
                identify::Config::new("/suora/1".into(), key.public())
                    .with_agent_version("suora-node".into())
                    .with_hide_listen_addrs(true),
            ),
            ping: ping::Behaviour::default(),
        })
        .map_err(|error| failed("protocols", error.to_string()))?
        .with_swarm_config(|config| {
            config
                // saves a round trip: the first message goes with the protocol's name
                .with_substream_upgrade_protocol_override(libp2p::core::upgrade::Version::V1Lazy)
                .with_idle_connection_timeout(Duration::from_secs(20))
                .with_max_negotiating_inbound_streams(4)
        })
        .with_connection_timeout(times.dial)
        .build();
    Ok(swarm)
}

/// A race of dials, one a transport.
struct Race<'a> {
    swarm: Swarm<Behaviour>,
    target: &'a Target,
    running: BTreeSet<ConnectionId>,
    /// How many transports of [`Kind::ALL`] have begun.
    begun: usize,
    failures: Vec<String>,
}

impl<'a> Race<'a> {
    fn new(key: &Key, target: &'a Target, times: &Times) -> Result<Self, Fault> {
        Ok(Self {
            swarm: swarm(key, times)?,
            target,
            running: BTreeSet::new(),
            begun: 0,
            failures: Vec::new(),
        })
    }

    /// Dials by the next transport that the relay has.
    fn next(&mut self) {
        let left = self.target.addresses.iter().skip(self.begun);
        let Some((skipped, addresses)) = left.enumerate().find(|(_, list)| !list.is_empty()) else {
            self.begun = Kind::ALL.len();
            return;
        };
        self.begun += skipped + 1;
        // without this condition a dial that runs would hold up the other
        let options = DialOpts::peer_id(self.target.peer)
            .condition(PeerCondition::Always)
            .addresses(addresses.to_vec())
            .build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.running.insert(id);
            }
            Err(error) => self.failures.push(cause(&error)),
        }
    }

    /// Whether another transport is still to be tried.
    fn has_more(&self) -> bool {
        let mut left = self.target.addresses.iter().skip(self.begun);
        left.any(|list| !list.is_empty())
    }

    fn lost(&self) -> Fault {
        unreachable(&self.failures.join("; "))
    }

    /// The first connection that stands.
    async fn winner(&mut self, clock: &Clock, times: &Times) -> Result<ConnectionId, Fault> {
        let mut turn = clock.now().mono;
        loop {
            while self.has_more() && (self.running.is_empty() || clock.now().mono >= turn) {
                self.next();
                turn = clock.now().mono + times.head_start;
            }
            if self.running.is_empty() {
                return Err(self.lost());
            }
            tokio::select! {
                event = self.swarm.select_next_some() => match event {
                    SwarmEvent::ConnectionEstablished { connection_id, .. } => return Ok(connection_id),
                    SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                        self.running.remove(&connection_id);
                        self.failures.push(cause(&error));
                    }
                    _ => {}
                },
                () = sleep_until(turn.into()), if self.has_more() => {}
            }
        }
    }
}

/// Dials a relay and opens the stream of `protocol`.
pub(super) async fn dial(
    key: &Key,
    target: &Target,
    protocol: &'static str,
    clock: &Clock,
    times: &Times,
) -> Result<Dialled, Fault> {
    let mut race = Race::new(key, target, times)?;
    let deadline = clock.now().mono + times.dial;
    let late = || unreachable("no answer in time");
    let connection = tokio::select! {
        won = race.winner(clock, times) => won?,
        () = sleep_until(deadline.into()) => return Err(late()),
    };
    let mut swarm = race.swarm;
    let mut control = swarm.behaviour().stream.new_control();
    // only one connection stands yet, so the stream is opened on this one
    let opening = control.open_stream(target.peer, StreamProtocol::new(protocol));
    futures::pin_mut!(opening);
    loop {
        tokio::select! {
            biased;
            opened = &mut opening => {
                let stream = opened.map_err(|error| unreachable(&error.to_string()))?;
                return Ok(Dialled { swarm, stream, connection });
            }
            event = swarm.select_next_some() => tend(&mut swarm, &event, connection),
            () = sleep_until(deadline.into()) => return Err(late()),
        }
    }
}

/// Dials a relay by each transport that it has, one after the other, and hangs up.
pub(super) async fn reach(
    key: &Key,
    target: &Target,
    clock: &Clock,
    times: &Times,
) -> Result<Vec<Reached>, Fault> {
    let mut all = Vec::new();
    for (kind, addresses) in Kind::ALL.into_iter().zip(&target.addresses) {
        if addresses.is_empty() {
            continue;
        }
        let mut alone = Target {
            peer: target.peer,
            addresses: Default::default(),
        };
        alone.addresses[kind as usize].clone_from(addresses);
        let mut race = Race::new(key, &alone, times)?;
        let begun = clock.now().mono;
        let deadline = begun + times.dial;
        let won = tokio::select! {
            won = race.winner(clock, times) => won,
            () = sleep_until(deadline.into()) => Err(unreachable("no answer in time")),
        };
        all.push(Reached {
            transport: kind.name(),
            took: won.map(|_| clock.now().mono.duration_since(begun)),
        });
    }
    Ok(all)
}

/// Closes whatever stands beside the connection that won.
pub(super) fn tend<E>(swarm: &mut Swarm<Behaviour>, event: &SwarmEvent<E>, kept: ConnectionId) {
    if let SwarmEvent::ConnectionEstablished { connection_id, .. } = event
        && *connection_id != kept
    {
        swarm.close_connection(*connection_id);
    }
}

/// Why a dial failed, without addresses.
fn cause(error: &DialError) -> String {
    match error {
        DialError::WrongPeerId { .. } => {
            "another key than the descriptor's answered for the relay".into()
        }
        DialError::LocalPeerId { .. } => "the relay's peer id is our own".into(),
        DialError::Transport(failures) => failures
            .iter()
            .map(|(address, error)| {
                let over: Vec<Protocol<'_>> = address
                    .iter()
                    .skip(1)
                    .filter(|part| !matches!(part, Protocol::P2p(_)))
                    .collect();
                let over = Kind::of(&over).map_or("another transport", Kind::name);
                format!("{over}: {}", root_cause(error))
            })
            .collect::<Vec<_>>()
            .join("; "),
        _ => "the relay was not dialled".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    fn count(target: &Target) -> [usize; 3] {
        target.addresses.each_ref().map(Vec::len)
    }

    #[test]
    fn addresses_of_one_relay_are_gathered_by_transport() {
        let list = [
            format!("/ip4/192.0.2.1/tcp/4001/p2p/{PEER}"),
            format!("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{PEER}"),
            format!("/dns/relay.example.fi/udp/4001/quic-v1/p2p/{PEER}"),
            format!("/ip4/192.0.2.1/tcp/4001/p2p/{PEER}"),
            format!("/ip4/192.0.2.1/tcp/4002/ws/p2p/{PEER}"),
        ];
        let targets = targets(&list);
        assert_eq!(targets.len(), 1);
        assert_eq!(count(&targets[0]), [2, 1, 1]);
    }

    #[test]
    fn addresses_that_name_no_peer_or_another_transport_are_left_out() {
        let list = [
            "/ip4/192.0.2.1/tcp/4001".to_string(),
            "192.0.2.1:4001".into(),
            format!("/p2p/{PEER}"),
            format!("/p2p/{PEER}/ip4/192.0.2.1/tcp/4001"),
            format!("/ip4/192.0.2.1/udp/4001/p2p/{PEER}"),
            format!("/ip4/192.0.2.1/tcp/4001/wss/p2p/{PEER}"),
            "/ip4/192.0.2.1/tcp/4001/ws".into(),
            format!("/ip4/192.0.2.1/tcp/4001/p2p/{PEER}/p2p-circuit"),
            format!("/dnsaddr/relay.example.fi/p2p/{PEER}"),
            format!("/memory/7/p2p/{PEER}"),
        ];
        assert_eq!(targets(&list), Vec::new());
    }

    #[test]
    fn a_long_list_is_cut() {
        let list: Vec<String> = (0..100)
            .map(|port| format!("/ip4/192.0.2.1/tcp/{port}/p2p/{PEER}"))
            .collect();
        assert_eq!(count(&targets(&list)[0]), [0, ADDRESSES, 0]);
    }
}
