//! One allocation on one server.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use stun_types::message::{Message, MessageClass, TransactionId};
use suora_protocol::identity::Draw;

use super::message::{self, Ask, Proof};
use crate::path::stun::{self, Packet, Retry};

/// Most peers of an allocation: more than the sessions of a person have addresses.
pub const PEERS_MAX: usize = 32;
/// Most requests under way.
const OPEN_MAX: usize = 64;
/// An allocation that nobody needs lives on its server for less than this unseen.
pub const REFRESH: Duration = Duration::from_secs(20);
/// Permissions live for five minutes, channels for ten (RFC 8656): both are renewed before.
const RENEW: Duration = Duration::from_secs(230);
/// How often a request is corrected by what the server says: its realm, then its nonce.
const CORRECTIONS: u8 = 3;
/// Channels of RFC 8656.
const CHANNELS: Range<u16> = 0x4000..0x5000;

/// Why an allocation is no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// The server does not answer.
    Silent,
    /// The server does not know it, or takes no more: the number of its error.
    Refused(u16),
}

/// What an allocation says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this.
    Send(Packet),
    /// It stands, with this relayed address.
    Stands(SocketAddr),
    /// It is no more.
    Lost(Loss),
}

#[derive(Debug)]
struct Open {
    id: TransactionId,
    ask: Ask,
    bytes: Vec<u8>,
    retry: Retry,
    corrections: u8,
}

#[derive(Debug)]
struct Peer {
    channel: Option<u16>,
    /// The server said yes.
    stands: bool,
    renew: Instant,
}

/// An allocation, from the first request to its loss.
#[derive(Debug)]
pub struct Allocation {
    /// Our socket, and the server.
    pub server: (usize, SocketAddr),
    proof: Proof,
    draw: Draw,
    relayed: Option<SocketAddr>,
    lost: bool,
    six: bool,
    open: Vec<Open>,
    peers: BTreeMap<SocketAddr, Peer>,
    by_channel: BTreeMap<u16, SocketAddr>,
    next_channel: u16,
    refresh: Instant,
    out: VecDeque<Output>,
}

impl Allocation {
    /// Asks `server` for one, at once with the proof.
    pub fn new(now: Instant, server: (usize, SocketAddr), proof: Proof, draw: Draw) -> Self {
        let mut allocation = Self {
            server,
            proof,
            draw,
            relayed: None,
            lost: false,
            six: false,
            open: Vec::new(),
            peers: BTreeMap::new(),
            by_channel: BTreeMap::new(),
            next_channel: CHANNELS.start,
            refresh: now + REFRESH,
            out: VecDeque::new(),
        };
        let (six, bare) = (false, false);
        allocation.ask(now, Ask::Allocate { six, bare });
        allocation.tick(now);
        allocation
    }

    /// Its relayed address, while it stands.
    pub const fn relayed(&self) -> Option<SocketAddr> {
        self.relayed
    }

    /// From now on requests show this.
    pub fn prove(&mut self, proof: Proof) {
        self.proof = proof;
    }

    /// Lets a peer's packets in, and binds a channel to it; port 0: any port of this address, and
    /// no channel.
    pub fn permit(&mut self, now: Instant, peer: SocketAddr) {
        if self
            .relayed
            .is_none_or(|own| own.is_ipv4() != peer.is_ipv4())
            || self.peers.contains_key(&peer)
            || self.peers.len() >= PEERS_MAX
        {
            return;
        }
        let channel = (peer.port() != 0).then(|| {
            let channel = self.next_channel;
            self.next_channel += 1;
            if !CHANNELS.contains(&self.next_channel) {
                self.next_channel = CHANNELS.start;
            }
            self.by_channel.insert(channel, peer);
            channel
        });
        self.peers.insert(
            peer,
            Peer {
                channel,
                stands: false,
                renew: now,
            },
        );
        self.tick(now);
    }

    /// A peer is no longer needed: its permission ends by itself.
    pub fn forget(&mut self, peer: SocketAddr) {
        if let Some(gone) = self.peers.remove(&peer)
            && let Some(channel) = gone.channel
        {
            self.by_channel.remove(&channel);
        }
        self.open.retain(|open| match open.ask {
            Ask::Bind(of, _) | Ask::Permit(of) => of != peer,
            _ => true,
        });
    }

    /// Asks the server at once whether the allocation still stands.
    pub fn probe(&mut self, now: Instant) {
        if self.relayed.is_some() && !self.open.iter().any(|open| open.ask == Ask::Refresh) {
            self.ask(now, Ask::Refresh);
            self.tick(now);
        }
    }

    /// Gives it back: one request, whose answer nobody awaits.
    pub fn delete(&mut self, now: Instant) {
        self.open.clear();
        self.lost = true;
        self.relayed = None;
        self.ask(now, Ask::Delete);
        if let Some(open) = self.open.pop() {
            self.out.push_back(Output::Send(self.packet(open.bytes)));
        }
    }

    /// The channel to a peer, once the server knows it.
    pub fn channel(&self, peer: SocketAddr) -> Option<u16> {
        self.relayed?;
        let peer = self.peers.get(&peer).filter(|peer| peer.stands)?;
        peer.channel
    }

    /// Data for a peer outside a channel.
    pub fn indication(&mut self, peer: SocketAddr, data: &[u8]) -> Option<Packet> {
        self.relayed?;
        let id = stun::transaction(self.draw.bytes());
        let bytes = message::send(peer, data, id).ok()?;
        Some(self.packet(bytes))
    }

    /// Whose data a channel brings.
    pub fn peer_of(&self, channel: u16) -> Option<SocketAddr> {
        self.relayed?;
        self.by_channel.get(&channel).copied()
    }

    const fn packet(&self, bytes: Vec<u8>) -> Packet {
        let (socket, to) = self.server;
        Packet { socket, to, bytes }
    }

    fn ask(&mut self, now: Instant, ask: Ask) {
        let id = stun::transaction(self.draw.bytes());
        if self.open.len() < OPEN_MAX
            && let Ok(bytes) = message::request(ask, id, &self.proof)
        {
            self.open.push(Open {
                id,
                ask,
                bytes,
                retry: Retry::new(now),
                corrections: 0,
            });
        }
    }

    /// The server answered; true: it was an answer to one of our requests.
    pub fn answered(&mut self, now: Instant, answer: &Message<'_>) -> bool {
        let id = answer.transaction_id();
        let Some(at) = self.open.iter().position(|open| open.id == id) else {
            return false;
        };
        let success = answer.has_class(MessageClass::Success);
        let asked = self.open.get(at).map(|open| open.ask.method());
        if asked != Some(answer.method())
            || !answer.is_response()
            || (success && !self.proof.signed(answer))
        {
            return false;
        }
        let open = self.open.swap_remove(at);
        if success {
            self.granted(now, open.ask, answer);
        } else {
            self.refused(now, &open, answer);
        }
        self.tick(now);
        true
    }

    fn granted(&mut self, now: Instant, ask: Ask, answer: &Message<'_>) {
        match ask {
            Ask::Allocate { .. } => {
                let Some(relayed) = message::relayed(answer) else {
                    return self.lose(Loss::Refused(500));
                };
                self.relayed = Some(relayed);
                self.refresh = now + half(answer);
                self.out.push_back(Output::Stands(relayed));
            }
            Ask::Refresh => self.refresh = now + half(answer),
            Ask::Delete => {}
            Ask::Permit(peer) | Ask::Bind(peer, _) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.stands = true;
                    peer.renew = now + RENEW;
                }
            }
        }
    }

    fn refused(&mut self, now: Instant, open: &Open, answer: &Message<'_>) {
        let error = message::error(answer);
        let mut bare = false;
        let again = match error {
            401 | 438 if open.corrections < CORRECTIONS => {
                match self.proof.corrected(answer) {
                    Some(proof) => {
                        self.proof = proof;
                        true
                    }
                    // another request was corrected before this one
                    None => error == 438 && open.corrections == 0,
                }
            }
            // no relayed address of IPv4 here
            440 if matches!(open.ask, Ask::Allocate { six: false, .. }) => {
                self.six = true;
                true
            }
            // what coturn says to a realm that is not its own, without telling its own
            437 | 441 if matches!(open.ask, Ask::Allocate { .. }) && open.corrections == 0 => {
                bare = true;
                true
            }
            _ => false,
        };
        if again {
            let ask = match open.ask {
                Ask::Allocate { .. } => Ask::Allocate {
                    six: self.six,
                    bare,
                },
                other => other,
            };
            self.ask(now, ask);
            if let Some(asked) = self.open.last_mut() {
                asked.corrections = open.corrections + 1;
            }
            return;
        }
        match open.ask {
            Ask::Allocate { .. } | Ask::Refresh => self.lose(Loss::Refused(error)),
            Ask::Delete => {}
            // the server does not know the allocation
            Ask::Permit(_) | Ask::Bind(..) if matches!(error, 401 | 437 | 438 | 441) => {
                self.lose(Loss::Refused(error));
            }
            // nothing goes to this peer, and it is not asked for again soon
            Ask::Permit(peer) | Ask::Bind(peer, _) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.stands = false;
                    peer.renew = now + RENEW;
                }
            }
        }
    }

    fn lose(&mut self, loss: Loss) {
        if !std::mem::replace(&mut self.lost, true) {
            self.relayed = None;
            self.open.clear();
            self.out.push_back(Output::Lost(loss));
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant) {
        if self.lost {
            return;
        }
        if self.relayed.is_some() {
            if now >= self.refresh {
                self.refresh = now + REFRESH;
                self.probe(now);
            }
            let due: Vec<Ask> = self
                .peers
                .iter_mut()
                .filter(|(_, peer)| now >= peer.renew)
                .map(|(address, peer)| {
                    peer.renew = now + RENEW;
                    match peer.channel {
                        Some(channel) => Ask::Bind(*address, channel),
                        None => Ask::Permit(*address),
                    }
                })
                .collect();
            for ask in due {
                self.ask(now, ask);
            }
        }
        let (mut silent, server) = (false, self.server);
        for open in &mut self.open {
            match open.retry.tick(now) {
                Some(true) => self.out.push_back(Output::Send(Packet {
                    socket: server.0,
                    to: server.1,
                    bytes: open.bytes.clone(),
                })),
                Some(false) => {}
                None => silent = true,
            }
        }
        if silent {
            self.lose(Loss::Silent);
        }
    }

    /// When time has to pass next.
    pub fn deadline(&self) -> Option<Instant> {
        if self.lost {
            return None;
        }
        let retries = self.open.iter().map(|open| open.retry.due());
        let renewals = self.peers.values().map(|peer| peer.renew);
        let stands = self.relayed.is_some();
        let refresh = std::iter::once(self.refresh);
        retries
            .chain(renewals.chain(refresh).filter(|_| stands))
            .min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }
}

/// When to refresh: long before the end, and often enough to keep the way to the server open.
fn half(answer: &Message<'_>) -> Duration {
    let lifetime = u64::from(message::lifetime(answer).unwrap_or(600));
    Duration::from_secs(lifetime / 2)
        .min(REFRESH)
        .max(Duration::from_secs(1))
}
