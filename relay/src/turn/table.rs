//! Allocations with their permissions and channel bindings (RFC 8656, sections 3, 9 and 12), found by
//! client or by slot. What a permission or binding outlives is looked at when it is used; only
//! allocations have deadlines in a table.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pairs::{Common, Member};
use super::policy::{Bucket, Policy};
use crate::grant::User;

/// How long a permission holds (RFC 8656, section 9).
pub const PERMISSION: Duration = Duration::from_secs(300);
/// How long a channel stays bound (RFC 8656, section 12).
pub const CHANNEL: Duration = Duration::from_secs(600);
/// For how long after that neither it nor its peer may be bound otherwise.
pub const CHANNEL_REST: Duration = Duration::from_secs(300);

/// Most permissions of an allocation, and most of them for peers that never answered.
pub const PERMISSIONS: (usize, usize) = (32, 8);
/// Most channels of an allocation.
pub const BINDINGS: usize = 32;
/// What may be sent to a peer that never answered: packets and bytes.
pub const UNANSWERED: (u32, u32) = (20, 8_192);

/// A client by its transport addresses. Prints redacted.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    /// The listener that it speaks to, by its number in the settings.
    pub listener: u8,
    /// Where it sends from.
    pub address: SocketAddr,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[client]")
    }
}

/// An allocation's number on its shard, which its socket has too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Slot(pub u32);

impl Slot {
    /// As an index.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A peer's address may send, and be sent to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permission {
    pub(super) ip: IpAddr,
    pub(super) until: Instant,
    /// Something came from there.
    pub(super) answered: bool,
    pub(super) packets: u32,
    pub(super) bytes: u32,
}

impl Permission {
    /// Counts a packet on its way there; until the peer answered there are few.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        if self.answered {
            return true;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let stands =
            self.packets < UNANSWERED.0 && self.bytes.saturating_add(bytes) <= UNANSWERED.1;
        if stands {
            self.packets += 1;
            self.bytes += bytes;
        }
        stands
    }
}

/// A channel stands for a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding {
    pub(super) channel: u16,
    pub(super) peer: SocketAddr,
    pub(super) until: Instant,
}

/// How a client asked for its allocation: a repetition is answered again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) transaction: u128,
    pub(super) sha256: bool,
    pub(super) fingerprint: bool,
    pub(super) even: bool,
    /// Ports that were tried.
    pub(super) tries: u8,
}

/// An allocation.
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) client: Client,
    pub(super) relayed: SocketAddr,
    pub(super) user: User,
    pub(super) common: Arc<Common>,
    pub(super) until: Instant,
    pub(super) lifetime: Duration,
    pub(super) asked: Asked,
    /// Its socket stands.
    pub(super) stands: bool,
    pub(super) permissions: Vec<Permission>,
    pub(super) bindings: Vec<Binding>,
    pub(super) sends: Bucket,
    pub(super) receives: Bucket,
}

impl Allocation {
    pub(super) fn permission(&mut self, ip: IpAddr, now: Instant) -> Option<&mut Permission> {
        let mut permissions = self.permissions.iter_mut();
        permissions.find(|one| one.ip == ip && now < one.until)
    }

    pub(super) fn channel_of(&self, peer: SocketAddr, now: Instant) -> Option<u16> {
        let mut bindings = self.bindings.iter();
        let bound = bindings.find(|one| one.peer == peer && now < one.until)?;
        Some(bound.channel)
    }

    pub(super) fn peer_of(&self, channel: u16, now: Instant) -> Option<SocketAddr> {
        let mut bindings = self.bindings.iter();
        let bound = bindings.find(|one| one.channel == channel && now < one.until)?;
        Some(bound.peer)
    }

    /// Whether these addresses may have permissions, with those that stand.
    pub(super) fn has_room(&self, ips: &[IpAddr], policy: &Policy, now: Instant) -> bool {
        let lives = |one: &&Permission| now < one.until;
        let knows = |ip: &IpAddr| {
            let mut standing = self.permissions.iter().filter(lives);
            standing.any(|one| one.ip == *ip)
        };
        let new: BTreeSet<&IpAddr> = ips.iter().filter(|ip| !knows(ip)).collect();
        let standing = self.permissions.iter().filter(lives);
        let silent = standing.clone().filter(|one| !one.answered).count();
        // the other end of the pair needs no socket, and is no stranger
        let strangers = new.iter().filter(|ip| !policy.is_external(***ip)).count();
        standing.count() + new.len() <= PERMISSIONS.0
            && (strangers == 0 || silent + strangers <= PERMISSIONS.1)
    }

    /// Permits an address, or does so for longer.
    pub(super) fn permit(&mut self, ip: IpAddr, policy: &Policy, now: Instant) {
        let until = now + PERMISSION;
        if let Some(known) = self.permission(ip, now) {
            known.until = until;
            return;
        }
        self.permissions.retain(|one| now < one.until);
        self.permissions.push(Permission {
            ip,
            until,
            answered: policy.is_external(ip) && !policy.private,
            packets: 0,
            bytes: 0,
        });
    }

    /// Binds a channel, or does so for longer. `None`: it or the peer is bound otherwise. `Some(false)`:
    /// there are too many.
    pub(super) fn bind(&mut self, channel: u16, peer: SocketAddr, now: Instant) -> Option<bool> {
        self.bindings.retain(|one| now < one.until + CHANNEL_REST);
        let until = now + CHANNEL;
        for one in &mut self.bindings {
            match (one.channel == channel, one.peer == peer) {
                (true, true) => {
                    one.until = until;
                    return Some(true);
                }
                (false, false) => {}
                _ => return None,
            }
        }
        if self.bindings.len() >= BINDINGS {
            return Some(false);
        }
        self.bindings.push(Binding {
            channel,
            peer,
            until,
        });
        Some(true)
    }

    /// What the other end of the pair needs to know.
    pub(super) fn member(&self, policy: &Policy) -> Member {
        let own = self.permissions.iter();
        let own = own.filter(|one| policy.is_external(one.ip));
        let bound = self.bindings.iter();
        let bound = bound.filter(|one| policy.is_external(one.peer.ip()));
        Member {
            relayed: self.relayed,
            client: self.client,
            until: self.until,
            permissions: own.map(|one| (one.ip, one.until)).collect(),
            bindings: bound
                .map(|one| (one.peer, one.channel, one.until))
                .collect(),
        }
    }
}

/// The allocations of a shard.
#[derive(Debug, Default)]
pub struct Table {
    clients: clients::Clients,
    slots: Vec<Option<Box<Allocation>>>,
    free: Vec<Slot>,
    deadlines: BTreeSet<(Instant, Slot)>,
}

impl Table {
    /// How many stand.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn slot_of(&self, client: &Client) -> Option<Slot> {
        self.clients.get(client)
    }

    pub(super) fn get(&mut self, slot: Slot) -> Option<&mut Allocation> {
        self.slots.get_mut(slot.index())?.as_deref_mut()
    }

    pub(super) fn of(&mut self, client: &Client) -> Option<(Slot, &mut Allocation)> {
        let slot = self.slot_of(client)?;
        Some((slot, self.get(slot)?))
    }

    /// Whether a relayed address is one of this shard's.
    pub(super) fn has_relayed(&self, relayed: SocketAddr) -> bool {
        let mut standing = self.slots.iter().flatten();
        standing.any(|allocation| allocation.relayed == relayed)
    }

    pub(super) fn insert(&mut self, allocation: Allocation) -> Option<Slot> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = Slot(u32::try_from(self.slots.len()).ok()?);
                self.slots.push(None);
                slot
            }
        };
        self.clients.insert(allocation.client, slot);
        self.deadlines.insert((allocation.until, slot));
        *self.slots.get_mut(slot.index())? = Some(Box::new(allocation));
        Some(slot)
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Box<Allocation>> {
        let allocation = self.slots.get_mut(slot.index())?.take()?;
        self.clients.remove(&allocation.client);
        self.deadlines.remove(&(allocation.until, slot));
        self.free.push(slot);
        Some(allocation)
    }

    pub(super) fn prolong(&mut self, slot: Slot, until: Instant) {
        let Some(allocation) = self.get(slot) else {
            return;
        };
        let before = std::mem::replace(&mut allocation.until, until);
        self.deadlines.remove(&(before, slot));
        self.deadlines.insert((until, slot));
    }

    pub(super) fn next_deadline(&self) -> Option<(Instant, Slot)> {
        self.deadlines.first().copied()
    }
}

/// The one table of the house in hash order, which nothing ever walks.
#[expect(
    clippy::disallowed_types,
    reason = "door: a table that is only looked up"
)]
mod clients {
    use std::collections::HashMap;

    use super::{Client, Slot};

    #[derive(Debug, Default)]
    pub(super) struct Clients(HashMap<Client, Slot>);

    impl Clients {
        pub(super) fn len(&self) -> usize {
            self.0.len()
        }

        pub(super) fn get(&self, client: &Client) -> Option<Slot> {
            self.0.get(client).copied()
        }

        pub(super) fn insert(&mut self, client: Client, slot: Slot) {
            self.0.insert(client, slot);
        }

        pub(super) fn remove(&mut self, client: &Client) {
            self.0.remove(client);
        }
    }
}
