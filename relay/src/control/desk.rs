//! The behaviour of a relay's swarm: counts connections, takes desk streams, dials nobody.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{Ready, ready};
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{DeniedUpgrade, InboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, Stream, StreamProtocol, SubstreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::wire::{citizen, officer};

use crate::hub::crowd::Prefix;

/// Connections of one key: two transports at once, before and after a change of network.
pub const PER_PEER: u32 = 4;
/// Live desk streams of one connection: both protocols, before and after a reconnect.
pub const DESK_STREAMS: usize = 4;
/// Desk streams that a connection may open in its life; as many again are told so, then they are reset.
pub const STREAMS: u32 = 64;
/// Streams that the swarm took and the relay has not yet.
const INCOMING: usize = 4_096;

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

/// A desk stream that a node opened.
#[derive(Debug)]
pub struct Opened {
    /// Whose connection it is.
    pub peer: PeerId,
    /// The stream.
    pub stream: Stream,
    /// Which of the two protocols.
    pub protocol: StreamProtocol,
    /// Where the connection comes from.
    pub prefix: Prefix,
    /// To be kept as long as the stream is served: the connection counts these.
    pub alive: Arc<()>,
    /// The connection has [`DESK_STREAMS`], or had [`STREAMS`]: say so and close.
    pub is_too_many: bool,
}

/// Takes the desk streams of one connection. A connection without any stream is closed by the swarm.
#[derive(Debug)]
pub struct Handler {
    peer: PeerId,
    prefix: Prefix,
    taken: VecDeque<Opened>,
    alive: Arc<()>,
    streams: u32,
}

impl Handler {
    fn new(peer: PeerId, prefix: Prefix) -> Self {
        Self {
            peer,
            prefix,
            taken: VecDeque::new(),
            alive: Arc::new(()),
            streams: 0,
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Opened;
    type InboundProtocol = DeskProtocols;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeskProtocols> {
        SubstreamProtocol::new(DeskProtocols, ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Opened>> {
        match self.taken.pop_front() {
            Some(opened) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(opened)),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<DeskProtocols, DeniedUpgrade>) {
        if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
            protocol: (stream, protocol),
            ..
        }) = event
            && self.streams < 2 * STREAMS
        {
            self.streams += 1;
            // one count is the handler's own
            let live = Arc::strong_count(&self.alive) - 1;
            self.taken.push_back(Opened {
                peer: self.peer,
                stream,
                protocol,
                prefix: self.prefix,
                alive: self.alive.clone(),
                is_too_many: live >= DESK_STREAMS || self.streams > STREAMS,
            });
        }
    }
}

/// /24 of IPv4, /56 of IPv6; nothing else has a prefix.
pub fn prefix(address: &Multiaddr) -> Prefix {
    let ip = address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    });
    ip.map_or(Prefix::NONE, Prefix::of)
}

/// Counts by a key; what is counted down to nothing takes no room.
#[derive(Debug)]
struct Counts<K>(BTreeMap<K, u32>);

impl<K: Ord> Counts<K> {
    fn of(&self, key: &K) -> u32 {
        self.0.get(key).copied().unwrap_or(0)
    }

    fn up(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    fn down(&mut self, key: &K) {
        if let Some(count) = self.0.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }
}

/// The relay's own behaviour.
#[derive(Debug)]
pub struct Desk {
    incoming: VecDeque<Opened>,
    open: BTreeMap<ConnectionId, (PeerId, Prefix)>,
    prefixes: Counts<Prefix>,
    peers: Counts<PeerId>,
    per_prefix: u32,
    all: u32,
}

impl Desk {
    /// With these bounds for connections: of one prefix, and in all.
    pub const fn new(per_prefix: u32, all: u32) -> Self {
        Self {
            incoming: VecDeque::new(),
            open: BTreeMap::new(),
            prefixes: Counts(BTreeMap::new()),
            peers: Counts(BTreeMap::new()),
            per_prefix,
            all,
        }
    }

    /// Whether there is room for one more from there.
    fn room(&self, prefix: &Prefix) -> Result<(), ConnectionDenied> {
        let all = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        if self.prefixes.of(prefix) >= self.per_prefix || all >= self.all {
            return Err(denied("too many connections"));
        }
        Ok(())
    }
}

fn denied(what: &str) -> ConnectionDenied {
    ConnectionDenied::new(Fault::new(Code::Busy).with(what))
}

impl NetworkBehaviour for Desk {
    type ConnectionHandler = Handler;
    type ToSwarm = Opened;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.room(&prefix(remote))
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        let prefix = prefix(remote);
        self.room(&prefix)?;
        if self.peers.of(&peer) >= PER_PEER {
            return Err(denied("too many connections of this key"));
        }
        self.prefixes.up(prefix);
        self.peers.up(peer);
        self.open.insert(id, (peer, prefix));
        Ok(Handler::new(peer, prefix))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Err(denied("a relay dials nobody"))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let FromSwarm::ConnectionClosed(closed) = event
            && let Some((peer, prefix)) = self.open.remove(&closed.connection_id)
        {
            self.prefixes.down(&prefix);
            self.peers.down(&peer);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        opened: THandlerOutEvent<Self>,
    ) {
        // the relay takes each at once; whatever goes beyond this is reset
        if self.incoming.len() < INCOMING {
            self.incoming.push_back(opened);
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Opened, THandlerInEvent<Self>>> {
        self.incoming.pop_front().map_or(Poll::Pending, |opened| {
            Poll::Ready(ToSwarm::GenerateEvent(opened))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Multiaddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_prefix_is_that_of_the_first_address_and_names_have_none() {
        let of = |text: &str| prefix(&from(text));
        assert_eq!(
            of("/ip4/192.0.2.77/tcp/1"),
            of("/ip6/::ffff:192.0.2.1/tcp/1")
        );
        assert_ne!(of("/ip4/192.0.2.77/tcp/1"), of("/ip4/192.0.3.77/tcp/1"));
        let six = of("/ip6/2001:db8:1:2:3::1/udp/1/quic-v1");
        assert_eq!(six, of("/ip6/2001:db8:1:2::9/tcp/2"));
        assert_eq!(of("/dns4/citizen.example/tcp/1"), Prefix::NONE);
    }

    // covers: SUORA-SEC-141
    #[test]
    fn a_crowd_of_one_prefix_is_refused_and_others_are_not() {
        let mut desk = Desk::new(8, 20);
        let here = from("/ip4/127.0.0.1/tcp/1");
        let mut next = 0;
        let mut open = |desk: &mut Desk, remote: &str, peer: PeerId| {
            next += 1;
            let (id, remote) = (ConnectionId::new_unchecked(next), from(remote));
            desk.handle_pending_inbound_connection(id, &here, &remote)?;
            desk.handle_established_inbound_connection(id, peer, &here, &remote)?;
            Ok::<_, ConnectionDenied>(())
        };
        for _ in 0..8 {
            assert!(open(&mut desk, "/ip4/192.0.2.1/tcp/1", PeerId::random()).is_ok());
        }
        assert!(open(&mut desk, "/ip4/192.0.2.200/tcp/1", PeerId::random()).is_err());
        let peer = PeerId::random();
        for host in 0..4 {
            assert!(open(&mut desk, &format!("/ip4/198.51.{host}.1/tcp/1"), peer).is_ok());
        }
        assert!(open(&mut desk, "/ip4/203.0.113.1/tcp/1", peer).is_err());
        for host in 0..8 {
            let remote = format!("/ip4/10.0.{host}.1/tcp/1");
            assert!(open(&mut desk, &remote, PeerId::random()).is_ok());
        }
        assert!(open(&mut desk, "/ip4/10.1.1.1/tcp/1", PeerId::random()).is_err());
    }
}
