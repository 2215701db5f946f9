//! The borders of the paths: what they begin with, what they ask for, what they say. Pure.

use std::net::SocketAddr;
use std::ops::Range;

use suora_protocol::documents::SessionId;
use suora_protocol::wire::path as wire;

use super::Network;
use super::stun::Packet;
use super::turn::Channel;

/// What a node's paths begin with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where each of our sockets is bound.
    pub sockets: Vec<SocketAddr>,
    /// The person asked for addresses of this machine.
    pub loopback: bool,
    /// The person asked for private addresses beyond own networks.
    pub routed: bool,
    /// The person hides their address: relays only.
    pub hidden: bool,
    /// The person said where this end is reached.
    pub fixed: bool,
}

/// This machine's addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interfaces {
    /// Where we are reached on our own networks, by socket.
    pub hosts: Vec<(usize, SocketAddr)>,
    /// The networks; or why they cannot be listed: then every private address is a stranger's.
    pub networks: Result<Vec<Network>, String>,
}

impl Default for Interfaces {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            networks: Ok(Vec::new()),
        }
    }
}

/// What happens to the paths.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Tell the other end of this session, inside it.
    Tell(SessionId, wire::Path),
    /// A session's packets go another way: see [`super::Path::in_use`].
    Moved(SessionId),
    /// What servers show of us changed: see [`super::Path::learned`].
    Learned,
    /// The relayed addresses changed: see [`super::Path::relayed`].
    Relayed,
}

/// What the paths ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this.
    Send(Packet),
    /// Say this.
    Event(Event),
}

/// What a packet is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Arrived {
    /// QUIC's: under which virtual address, and where in the packet.
    Quic(SocketAddr, Range<usize>),
    /// Ours, or nobody's.
    Taken,
}

/// How a packet of QUIC's leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaves {
    /// From a socket to an address.
    Direct(usize, SocketAddr),
    /// In a channel.
    Channel(Channel),
    /// Through an allocation, while its channel to the peer does not stand.
    Outside(usize, SocketAddr),
}
