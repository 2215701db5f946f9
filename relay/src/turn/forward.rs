//! The fast path (RFC 8656, sections 10, 11 and 12): a packet and the table give a verdict. Nothing is
//! allocated, nothing is copied: a verdict says which bytes of the packet go where, and what goes
//! before them.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use stun_types::attribute::XorSocketAddr;
use stun_types::message::Message;

use super::message::{self, DATA, DONT_FRAGMENT, XOR_PEER_ADDRESS};
use super::pairs::Common;
use super::policy::{Bucket, Place, Policy, Quotas};
use super::table::{Client, Slot, Table};

/// Why a packet goes nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drop {
    /// It is nothing that is known here.
    Form,
    /// Its sender has no allocation, or none that stands.
    NoAllocation,
    /// The channel is not bound.
    NoChannel,
    /// There is no permission.
    NoPermission,
    /// The peer is never relayed to.
    Peer,
    /// A peer that never answered has had enough.
    Unanswered,
    /// More than the rate, or than the pair's bytes.
    Quota,
}

/// What goes before the bytes of a packet to a client: a channel's number and a length, or a Data
/// indication up to its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    bytes: [u8; 48],
    len: u8,
    padding: u8,
}

impl Head {
    /// Of ChannelData.
    pub fn channel(channel: u16, len: usize) -> Option<Self> {
        let mut bytes = [0; 48];
        let [a, b] = channel.to_be_bytes();
        let [c, d] = u16::try_from(len).ok()?.to_be_bytes();
        bytes[..4].copy_from_slice(&[a, b, c, d]);
        Some(Self {
            bytes,
            len: 4,
            padding: 0,
        })
    }

    /// Of a Data indication.
    pub fn indication(peer: SocketAddr, len: usize, transaction: u128) -> Option<Self> {
        let (bytes, head) = message::data_indication(peer, len, transaction)?;
        Some(Self {
            bytes,
            len: head,
            padding: u8::try_from(len.wrapping_neg() % 4).ok()?,
        })
    }

    /// The bytes to send first.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The zeros to send last.
    pub fn padding(&self) -> &'static [u8] {
        const ZEROS: [u8; 3] = [0; 3];
        ZEROS.get(..usize::from(self.padding)).unwrap_or_default()
    }
}

/// What becomes of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// These bytes go to a peer, from the allocation's socket.
    ToPeer {
        /// Whose socket.
        slot: Slot,
        /// The peer.
        to: SocketAddr,
        /// What of the packet.
        bytes: Range<usize>,
    },
    /// These bytes go to a client.
    ToClient {
        /// The client; it may be another shard's.
        client: Client,
        /// What goes before them.
        head: Head,
        /// What of the packet.
        bytes: Range<usize>,
    },
    /// It is for [`Turn::handle_input`](super::Turn::handle_input).
    Request,
    /// It goes nowhere.
    Nowhere(Drop),
}

/// What judges packets: the table of a shard, and what it looks at beside it.
#[derive(Debug)]
pub struct Forward<'a> {
    /// The shard's allocations.
    pub table: &'a mut Table,
    /// Who may be a peer.
    pub policy: &'a Policy,
    /// How much.
    pub quotas: &'a Quotas,
    /// The number of the last Data indication.
    pub indications: &'a mut u128,
    /// The moment.
    pub now: Instant,
}

impl Forward<'_> {
    /// Judges a packet of a client.
    pub fn client_packet(mut self, client: Client, packet: &[u8]) -> Verdict {
        let judged = match packet {
            [0x40..=0x7f, ..] => self.channel_data(client, packet),
            [0x00, 0x16, ..] => self.send_indication(client, packet),
            [0x00..=0x3f, ..] => return Verdict::Request,
            _ => Err(Drop::Form),
        };
        judged.unwrap_or_else(Verdict::Nowhere)
    }

    /// Judges a packet of so many bytes that came to an allocation's socket.
    pub fn peer_packet(mut self, slot: Slot, peer: SocketAddr, len: usize) -> Verdict {
        let judged = self.receive(slot, peer, len);
        judged.unwrap_or_else(Verdict::Nowhere)
    }

    fn channel_data(&mut self, client: Client, packet: &[u8]) -> Result<Verdict, Drop> {
        let [a, b, c, d, data @ ..] = packet else {
            return Err(Drop::Form);
        };
        let channel = u16::from_be_bytes([*a, *b]);
        let len = usize::from(u16::from_be_bytes([*c, *d]));
        // over UDP there may be padding or not
        if data.len() < len {
            return Err(Drop::Form);
        }
        let (slot, allocation) = self.table.of(&client).ok_or(Drop::NoAllocation)?;
        let to = allocation.peer_of(channel, self.now);
        self.send(slot, to.ok_or(Drop::NoChannel)?, 4..4 + len)
    }

    fn send_indication(&mut self, client: Client, packet: &[u8]) -> Result<Verdict, Drop> {
        // who has no allocation costs nothing
        let slot = self.table.slot_of(&client).ok_or(Drop::NoAllocation)?;
        let message = message::read(packet).ok_or(Drop::Form)?;
        let (to, bytes) = send_parts(&message).ok_or(Drop::Form)?;
        self.send(slot, to, bytes)
    }

    fn send(&mut self, slot: Slot, to: SocketAddr, bytes: Range<usize>) -> Result<Verdict, Drop> {
        let allocation = self.table.get(slot).ok_or(Drop::NoAllocation)?;
        if self.now >= allocation.until || !allocation.stands {
            return Err(Drop::NoAllocation);
        }
        let place = self.policy.judge(to).map_err(|_| Drop::Peer)?;
        let permission = allocation.permission(to.ip(), self.now);
        let permission = permission.ok_or(Drop::NoPermission)?;
        let len = bytes.len();
        if place == Place::Outside && !permission.take(len) {
            return Err(Drop::Unanswered);
        }
        within(
            &mut allocation.sends,
            &allocation.common,
            self.quotas,
            self.now,
            len,
        )?;
        match place {
            Place::Outside => Ok(Verdict::ToPeer { slot, to, bytes }),
            Place::Relayed => {
                let from = allocation.relayed;
                let route = allocation.common.route(from, to, self.now);
                let (client, channel) = route.ok_or(Drop::NoPermission)?;
                let head = head(from, channel, len, self.indications).ok_or(Drop::Form)?;
                Ok(Verdict::ToClient {
                    client,
                    head,
                    bytes,
                })
            }
        }
    }

    fn receive(&mut self, slot: Slot, peer: SocketAddr, len: usize) -> Result<Verdict, Drop> {
        let allocation = self.table.get(slot).ok_or(Drop::NoAllocation)?;
        if self.now >= allocation.until {
            return Err(Drop::NoAllocation);
        }
        let permission = allocation.permission(peer.ip(), self.now);
        let permission = permission.ok_or(Drop::NoPermission)?;
        // what comes from a relayed address comes in memory, and from its own pair only
        if self.policy.is_own(peer.ip()) && self.policy.judge(peer) != Ok(Place::Outside) {
            return Err(Drop::Peer);
        }
        permission.answered = true;
        within(
            &mut allocation.receives,
            &allocation.common,
            self.quotas,
            self.now,
            len,
        )?;
        let channel = allocation.channel_of(peer, self.now);
        let head = head(peer, channel, len, self.indications).ok_or(Drop::Form)?;
        Ok(Verdict::ToClient {
            client: allocation.client,
            head,
            bytes: 0..len,
        })
    }
}

/// Takes so many bytes from an allocation's rate and from its pair's.
fn within(
    rate: &mut Bucket,
    common: &Common,
    quotas: &Quotas,
    now: Instant,
    len: usize,
) -> Result<(), Drop> {
    let amount = u64::try_from(len).unwrap_or(u64::MAX);
    if rate.take(now, amount) && common.take(amount, quotas.bytes) {
        Ok(())
    } else {
        Err(Drop::Quota)
    }
}

/// The peer of a Send indication, and where its data lies.
fn send_parts(message: &Message<'_>) -> Option<(SocketAddr, Range<usize>)> {
    let (mut to, mut data) = (None, None);
    for (offset, attribute) in message.iter_attributes() {
        let kind = message::kind(&attribute);
        match kind {
            XOR_PEER_ADDRESS if to.is_none() => {
                let peer = XorSocketAddr::from_raw(&attribute).ok()?;
                to = Some(peer.addr(message.transaction_id()));
            }
            DATA if data.is_none() => {
                let len = attribute.value.len();
                data = Some(offset + 4..offset + 4 + len);
            }
            DONT_FRAGMENT => return None,
            _ if message::must_be_known(kind) => return None,
            _ => {}
        }
    }
    Some((to?, data?))
}

fn head(
    peer: SocketAddr,
    channel: Option<u16>,
    len: usize,
    indications: &mut u128,
) -> Option<Head> {
    match channel {
        Some(channel) => Head::channel(channel, len),
        None => {
            *indications = indications.wrapping_add(1);
            Head::indication(peer, len, *indications)
        }
    }
}
