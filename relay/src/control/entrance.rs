//! What all listeners have in common: a connection stands on a porch until its handshake is done,
//! from its first byte to the multiplexer, and has so long for it as [`HANDSHAKE`] says. Those whose
//! address may be nobody's stand on a porch of their own: they cannot push out the others.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt as _;
use libp2p::PeerId;
use libp2p::core::Multiaddr;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, Transport, TransportError, TransportEvent,
};
use libp2p::multiaddr::Protocol;
use tokio::time::timeout;

use super::desk::prefix;
use crate::Faults;
use crate::porch::{Place, Porch, Room};

/// How long a handshake may take: seven round trips of a second, as many as a node needs that
/// waits for each answer, over WebSocket on a bad mobile network.
pub const HANDSHAKE: Duration = Duration::from_secs(8);
/// How long it may where the first stay.
pub(super) const AGES: Duration = Duration::from_secs(120);
/// Handshakes under way over TCP, whose addresses the system has proven.
pub const PROVEN: Room = Room {
    prefix: 128,
    all: 512,
};
/// Those over QUIC, where anybody may write any address on a first packet. Each costs more, and is
/// done after one round trip.
pub const UNPROVEN: Room = Room {
    prefix: 128,
    all: 256,
};

/// What a transport makes of a connection.
pub(super) type Connected = (PeerId, StreamMuxerBox);
type Upgrade = <Boxed<Connected> as Transport>::ListenerUpgrade;

/// All listeners of the control plane behind their porches.
pub(super) struct Entrance {
    listeners: Boxed<Connected>,
    proven: Porch,
    unproven: Porch,
    time: Duration,
}

impl Entrance {
    /// Before these listeners, with the porch that those of QUIC look at.
    pub(super) fn new(listeners: Boxed<Connected>, unproven: Porch, faults: Faults) -> Self {
        Self {
            listeners,
            proven: Porch::new(PROVEN, faults.first_stay),
            unproven,
            time: if faults.first_stay { AGES } else { HANDSHAKE },
        }
    }

    fn enter(&self, remote: &Multiaddr) -> Option<Place> {
        let is_udp = remote.iter().any(|part| matches!(part, Protocol::Udp(_)));
        let porch = if is_udp { &self.unproven } else { &self.proven };
        porch.enter(prefix(remote))
    }
}

/// Shakes hands on the porch.
async fn shake(place: Option<Place>, upgrade: Upgrade, time: Duration) -> io::Result<Connected> {
    let full = || io::Error::other("too many handshakes under way");
    let done = place.ok_or_else(full)?.until(timeout(time, upgrade)).await;
    match done {
        Ok(Ok(connected)) => connected,
        Ok(Err(_)) => Err(io::ErrorKind::TimedOut.into()),
        Err(_) => Err(full()),
    }
}

impl Transport for Entrance {
    type Output = Connected;
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = <Boxed<Connected> as Transport>::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.listeners.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listeners.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        self.listeners.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Upgrade, io::Error>> {
        let event = ready!(Pin::new(&mut self.listeners).poll(cx));
        Poll::Ready(match event {
            TransportEvent::Incoming {
                listener_id,
                upgrade,
                local_addr,
                send_back_addr,
            } => TransportEvent::Incoming {
                listener_id,
                upgrade: shake(self.enter(&send_back_addr), upgrade, self.time).boxed(),
                local_addr,
                send_back_addr,
            },
            other => other,
        })
    }
}
