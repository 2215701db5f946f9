//! The node's allocations on relays over UDP (RFC 8656), shared by its sessions
//! (`spec/setup.md`, section 6). Pure.
//!
//! ```text
//!            grant                answer               437, silence
//!  (nothing) ─────▶ asking ──────────────▶ standing ───────────────▶ resting ──▶ asking
//!                     │ 401, 438: once more,   │ every 20 s: refresh   0, 1, 2 … 30 s,
//!                     └─ with what it says     └ peers: bind, renew    another server first
//! ```
//!
//! On two servers where the grant lists two. A request shows user, realm and nonce of the grant
//! from the first on, so it takes one round trip; a stock server says what it wants instead.
//! A channel is bound for each peer, which installs its permission too.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod allocation;
pub mod message;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use suora_protocol::fault::Fault;
use suora_protocol::identity::Draw;

use self::allocation::{Allocation, Loss, Output as Said};
use self::message::Proof;
use super::stun::{self, Packet};

/// Allocations at a time.
const HELD: usize = 2;
/// Most servers of a grant.
const SERVERS_MAX: usize = 8;
/// The first rest of a server after it failed twice.
const REST: Duration = Duration::from_secs(1);
/// The longest.
const REST_MAX: Duration = Duration::from_secs(30);

/// The right to an allocation, as the control plane gives it.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// `<end>:<pair>`.
    pub user: String,
    /// Proves the user.
    pub password: String,
    /// The server's realm.
    pub realm: String,
    /// A nonce that the server takes.
    pub nonce: String,
    /// Where: at most eight count.
    pub servers: Vec<SocketAddr>,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grant")
    }
}

impl Grant {
    fn pair(&self) -> &str {
        self.user.split_once(':').map_or("", |(_, pair)| pair)
    }
}

/// The address of a server of RFC 7065 that is reached by UDP: `turn:192.0.2.7:443?transport=udp`.
/// Names are not looked up.
pub fn server(uri: &str) -> Option<SocketAddr> {
    let rest = uri.strip_prefix("turn:")?;
    let (host, query) = rest.split_once('?').unwrap_or((rest, "transport=udp"));
    if query != "transport=udp" {
        return None;
    }
    let bare = || {
        let ip: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        ip.map(|ip| SocketAddr::new(ip, 3_478))
    };
    host.parse().ok().or_else(bare)
}

/// What the allocations say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this.
    Send(Packet),
    /// The relayed addresses are others now: see [`Turn::relayed`].
    Changed,
    /// This one is no more, with all ways through it.
    Lost(usize, Loss),
}

/// What a packet from a server is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Received {
    /// A peer's packet, through this allocation, and where it lies in what came.
    Data {
        /// The allocation.
        relay: usize,
        /// Who sent it there.
        peer: SocketAddr,
        /// Where its bytes are.
        range: Range<usize>,
    },
    /// An answer to us, or damage from a server.
    Taken,
    /// Nothing of TURN's.
    Other,
}

/// How a packet leaves through an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channel {
    /// From this socket.
    pub socket: usize,
    /// To this server.
    pub server: SocketAddr,
    /// The channel.
    pub number: u16,
}

impl Channel {
    /// What goes before so many bytes of data.
    pub fn header(&self, len: usize) -> [u8; 4] {
        let [high, low] = self.number.to_be_bytes();
        let [long, short] = u16::try_from(len).unwrap_or(0).to_be_bytes();
        [high, low, long, short]
    }
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    delay: Duration,
}

/// All allocations.
#[derive(Debug)]
pub struct Turn {
    draw: Draw,
    /// Whether each of our sockets is of IPv4.
    sockets: Vec<bool>,
    grant: Option<(Grant, Proof)>,
    /// Waits until no session uses what is held under the last one.
    next_grant: Option<(Grant, Proof)>,
    held: BTreeMap<usize, Allocation>,
    count: usize,
    resting: BTreeMap<SocketAddr, Rest>,
    wanted: BTreeSet<SocketAddr>,
    out: VecDeque<Output>,
}

impl Turn {
    /// Nothing yet; `sockets` says of each of ours whether it is of IPv4.
    pub const fn new(draw: Draw, sockets: Vec<bool>) -> Self {
        Self {
            draw,
            sockets,
            grant: None,
            next_grant: None,
            held: BTreeMap::new(),
            count: 0,
            resting: BTreeMap::new(),
            wanted: BTreeSet::new(),
            out: VecDeque::new(),
        }
    }

    /// A grant came. One for the same pair serves on what is held; one for another pair waits until
    /// no peer is left, and then takes the place of what is held.
    /// One that STUN cannot carry is a fault of who gave it.
    pub fn grant(&mut self, now: Instant, mut grant: Grant) -> Result<(), Fault> {
        grant.servers.truncate(SERVERS_MAX);
        let proof = Proof::new(&grant.user, &grant.password, &grant.realm, &grant.nonce)?;
        let same = self
            .grant
            .as_ref()
            .is_none_or(|(held, _)| held.pair() == grant.pair());
        if same {
            for allocation in self.held.values_mut() {
                allocation.prove(proof.clone());
            }
            self.grant = Some((grant, proof));
            self.start(now);
        } else if self.wanted.is_empty() || self.held.is_empty() {
            self.swap(now, (grant, proof));
        } else {
            self.next_grant = Some((grant, proof));
        }
        Ok(())
    }

    fn swap(&mut self, now: Instant, next: (Grant, Proof)) {
        self.next_grant = None;
        for (index, mut allocation) in std::mem::take(&mut self.held) {
            allocation.delete(now);
            self.said(now, index, &mut allocation);
            self.out.push_back(Output::Lost(index, Loss::Refused(0)));
        }
        self.grant = Some(next);
        self.out.push_back(Output::Changed);
        self.start(now);
    }

    /// The relayed addresses that stand, by allocation.
    pub fn relayed(&self) -> Vec<(usize, SocketAddr)> {
        let stands = |(index, one): (&usize, &Allocation)| Some((*index, one.relayed()?));
        self.held.iter().filter_map(stands).collect()
    }

    /// Lets packets of a peer in, through every allocation of its family; port 0: of any port.
    pub fn permit(&mut self, now: Instant, peer: SocketAddr) {
        if self.wanted.len() < allocation::PEERS_MAX && self.wanted.insert(peer) {
            for allocation in self.held.values_mut() {
                allocation.permit(now, peer);
            }
            self.drain(now);
        }
    }

    /// A peer is no longer needed. Once none is, a grant that waits is used.
    pub fn forget(&mut self, now: Instant, peer: SocketAddr) {
        self.wanted.remove(&peer);
        for allocation in self.held.values_mut() {
            allocation.forget(peer);
        }
        if self.wanted.is_empty()
            && let Some(next) = self.next_grant.take()
        {
            self.swap(now, next);
        }
    }

    /// Asks the server at once whether an allocation still stands; `None`: all of them.
    pub fn probe(&mut self, now: Instant, relay: Option<usize>) {
        for (index, allocation) in &mut self.held {
            if relay.is_none_or(|one| one == *index) {
                allocation.probe(now);
            }
        }
        self.drain(now);
    }

    /// How a packet to a peer leaves in a channel.
    pub fn channel(&self, relay: usize, peer: SocketAddr) -> Option<Channel> {
        let allocation = self.held.get(&relay)?;
        Some(Channel {
            socket: allocation.server.0,
            server: allocation.server.1,
            number: allocation.channel(peer)?,
        })
    }

    /// Whether there is a right to allocations.
    pub const fn has_grant(&self) -> bool {
        self.grant.is_some()
    }

    /// Whether one of the allocations is on this server, seen through this socket.
    pub fn is_server(&self, from: (usize, SocketAddr)) -> bool {
        self.held.values().any(|one| one.server == from)
    }

    /// A packet to a peer, in its channel once that stands.
    pub fn wrap(&mut self, relay: usize, peer: SocketAddr, data: &[u8]) -> Option<Packet> {
        let Some(channel) = self.channel(relay, peer) else {
            return self.indication(relay, peer, data);
        };
        let mut bytes = channel.header(data.len()).to_vec();
        bytes.extend_from_slice(data);
        Some(Packet {
            socket: channel.socket,
            to: channel.server,
            bytes,
        })
    }

    /// A packet to a peer, outside a channel.
    pub fn indication(&mut self, relay: usize, peer: SocketAddr, data: &[u8]) -> Option<Packet> {
        self.held.get_mut(&relay)?.indication(peer, data)
    }

    /// What a packet is that came from here.
    pub fn received(&mut self, now: Instant, from: (usize, SocketAddr), packet: &[u8]) -> Received {
        let by_server = |(_, one): &(&usize, &mut Allocation)| one.server == from;
        let Some((index, allocation)) = self.held.iter_mut().find(by_server) else {
            return Received::Other;
        };
        let relay = *index;
        if let [64..=79, ..] = packet {
            let [high, low, long, short, rest @ ..] = packet else {
                return Received::Taken;
            };
            let length = usize::from(u16::from_be_bytes([*long, *short]));
            let peer = allocation.peer_of(u16::from_be_bytes([*high, *low]));
            return match peer.filter(|_| length <= rest.len()) {
                Some(peer) => Received::Data {
                    relay,
                    peer,
                    range: 4..4 + length,
                },
                None => Received::Taken,
            };
        }
        let Some(message) = stun::parse(packet) else {
            return Received::Other;
        };
        if let Some((peer, range)) = message::data(&message) {
            return if allocation.relayed().is_some() && range.end <= packet.len() {
                Received::Data { relay, peer, range }
            } else {
                Received::Taken
            };
        }
        let ours = allocation.answered(now, &message);
        self.drain(now);
        self.start(now);
        if ours {
            Received::Taken
        } else {
            Received::Other
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant) {
        for allocation in self.held.values_mut() {
            allocation.tick(now);
        }
        self.drain(now);
        self.start(now);
    }

    /// When time has to pass next.
    pub fn deadline(&self) -> Option<Instant> {
        let held = self.held.values().filter_map(Allocation::deadline);
        let servers = self.grant.iter().flat_map(|(grant, _)| &grant.servers);
        let free = |server: &&SocketAddr| !self.held.values().any(|one| one.server.1 == **server);
        let rests = servers
            .filter(free)
            .filter_map(|server| Some(self.resting.get(server)?.until))
            .filter(|_| self.held.len() < HELD);
        held.chain(rests).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Asks servers for allocations until there are enough.
    fn start(&mut self, now: Instant) {
        let Some((grant, proof)) = self.grant.clone() else {
            return;
        };
        for server in grant.servers {
            let held = self.held.values().any(|one| one.server.1 == server);
            let rests = self
                .resting
                .get(&server)
                .is_some_and(|rest| now < rest.until);
            let socket = self
                .sockets
                .iter()
                .position(|four| *four == server.is_ipv4());
            if let Some(socket) = socket.filter(|_| !held && !rests && self.held.len() < HELD) {
                // a rest that is over ends nothing but itself: the delay is kept for the next
                if let Some(rest) = self.resting.get_mut(&server) {
                    rest.until = now + REST_MAX;
                }
                self.count += 1;
                let draw = Draw::from_seed(self.draw.bytes());
                let allocation = Allocation::new(now, (socket, server), proof.clone(), draw);
                self.held.insert(self.count, allocation);
            }
        }
        self.drain(now);
    }

    /// Drains all allocations.
    fn drain(&mut self, now: Instant) {
        for (index, mut allocation) in std::mem::take(&mut self.held) {
            if self.said(now, index, &mut allocation) {
                self.held.insert(index, allocation);
            }
        }
    }

    /// Does what an allocation says; false: it is no more.
    fn said(&mut self, now: Instant, index: usize, allocation: &mut Allocation) -> bool {
        let mut lives = true;
        while let Some(said) = allocation.poll_output() {
            match said {
                Said::Send(packet) => self.out.push_back(Output::Send(packet)),
                Said::Stands(relayed) => {
                    self.resting.remove(&allocation.server.1);
                    for peer in &self.wanted {
                        allocation.permit(now, *peer);
                    }
                    // the other end's relayed address may be one of the same relay
                    allocation.permit(now, SocketAddr::new(relayed.ip(), 0));
                    self.out.push_back(Output::Changed);
                }
                Said::Lost(loss) => {
                    lives = false;
                    let delay = self
                        .resting
                        .get(&allocation.server.1)
                        .map_or(Duration::ZERO, |rest| {
                            (rest.delay * 2).clamp(REST, REST_MAX)
                        });
                    let until = now + delay;
                    self.resting
                        .insert(allocation.server.1, Rest { until, delay });
                    self.out.push_back(Output::Lost(index, loss));
                    self.out.push_back(Output::Changed);
                }
            }
        }
        lives
    }
}

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod tests;
