//! DOOR: one dial of one relay. QUIC goes first, TCP follows after a head start, the first
//! connection that stands is kept and the other is closed. The relay proves the peer id
//! that its address names, whatever the transport.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    ConnectionId, DialError, NetworkBehaviour, Stream, StreamProtocol, SwarmEvent,
};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, identify, noise, ping, tcp, yamux};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Key;
use tokio::time::sleep_until;

use super::{Times, unreachable};
use crate::clock::Clock;

/// Most addresses of one relay that are dialled by one transport.
const ADDRESSES: usize = 8;
/// Most relays of one agency.
const RELAYS: usize = 8;

/// One relay, as the descriptor lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    peer: PeerId,
    quic: Vec<Multiaddr>,
    tcp: Vec<Multiaddr>,
}

/// Reads a descriptor's relay addresses, in their order. One that is no multiaddr over QUIC
/// or TCP, or does not end in a peer id, is left out.
pub(super) fn targets(relays: &[String]) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for text in relays {
        let Some((peer, quic, address)) = text.parse().ok().and_then(read) else {
            tracing::warn!("a relay address of the descriptor cannot be used");
            continue;
        };
        let at = match targets.iter().position(|target| target.peer == peer) {
            Some(at) => at,
            None if targets.len() < RELAYS => {
                targets.push(Target {
                    peer,
                    quic: Vec::new(),
                    tcp: Vec::new(),
                });
                targets.len() - 1
            }
            None => continue,
        };
        if let Some(target) = targets.get_mut(at) {
            let list = if quic {
                &mut target.quic
            } else {
                &mut target.tcp
            };
            if list.len() < ADDRESSES && !list.contains(&address) {
                list.push(address);
            }
        }
    }
    targets
}

/// Peer id, whether it is QUIC, and the whole address.
fn read(address: Multiaddr) -> Option<(PeerId, bool, Multiaddr)> {
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
    let (peer, quic) = match rest {
        [Protocol::Udp(_), Protocol::QuicV1, Protocol::P2p(peer)] => (*peer, true),
        [Protocol::Tcp(_), Protocol::P2p(peer)] => (*peer, false),
        _ => return None,
    };
    Some((peer, quic, address))
}

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
            yamux::Config::default,
        )
        .map_err(|error| failed("encryption", error.to_string()))?
        .with_quic()
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
        })
        .with_connection_timeout(times.dial)
        .build();
    Ok(swarm)
}

/// A race of two dials.
struct Race<'a> {
    swarm: Swarm<Behaviour>,
    target: &'a Target,
    running: BTreeSet<ConnectionId>,
    tcp_ran: bool,
    failures: Vec<String>,
}

impl Race<'_> {
    fn run(&mut self, addresses: &[Multiaddr]) {
        if addresses.is_empty() {
            return;
        }
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

    fn run_quic(&mut self) {
        let target = self.target;
        self.run(&target.quic);
    }

    fn run_tcp(&mut self) {
        self.tcp_ran = true;
        let target = self.target;
        self.run(&target.tcp);
    }

    fn lost(&self) -> Fault {
        unreachable(&self.failures.join("; "))
    }

    /// The first connection that stands.
    async fn winner(&mut self, clock: &Clock, times: &Times) -> Result<ConnectionId, Fault> {
        self.run_quic();
        let head_start = clock.now().mono + times.head_start;
        loop {
            if self.running.is_empty() && !self.tcp_ran {
                self.run_tcp();
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
                () = sleep_until(head_start.into()), if !self.tcp_ran => self.run_tcp(),
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
    let mut race = Race {
        swarm: swarm(key, times)?,
        target,
        running: BTreeSet::new(),
        tcp_ran: false,
        failures: Vec::new(),
    };
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
                let quic = address.iter().any(|part| matches!(part, Protocol::QuicV1));
                let mut inner: &dyn std::error::Error = error;
                while let Some(source) = inner.source() {
                    inner = source;
                }
                format!("{}: {inner}", if quic { "QUIC" } else { "TCP" })
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

    fn count(target: &Target) -> (usize, usize) {
        (target.quic.len(), target.tcp.len())
    }

    #[test]
    fn addresses_of_one_relay_are_gathered_by_transport() {
        let list = [
            format!("/ip4/192.0.2.1/tcp/4001/p2p/{PEER}"),
            format!("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{PEER}"),
            format!("/dns/relay.example.fi/udp/4001/quic-v1/p2p/{PEER}"),
            format!("/ip4/192.0.2.1/tcp/4001/p2p/{PEER}"),
        ];
        let targets = targets(&list);
        assert_eq!(targets.len(), 1);
        assert_eq!(count(&targets[0]), (2, 1));
    }

    #[test]
    fn addresses_that_name_no_peer_or_another_transport_are_left_out() {
        let list = [
            "/ip4/192.0.2.1/tcp/4001".to_string(),
            "192.0.2.1:4001".into(),
            format!("/p2p/{PEER}"),
            format!("/p2p/{PEER}/ip4/192.0.2.1/tcp/4001"),
            format!("/ip4/192.0.2.1/udp/4001/p2p/{PEER}"),
            format!("/ip4/192.0.2.1/tcp/4001/ws/p2p/{PEER}"),
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
        assert_eq!(count(&targets(&list)[0]), (0, ADDRESSES));
    }
}
