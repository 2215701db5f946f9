//! What the shards share: who belongs together. The two ends of a consultation reach each other's
//! relayed addresses in memory, whichever shards hold them, and all that a pair has relayed counts
//! together. A packet that is joined so costs its shard one short lock of its own pair beside
//! what every packet costs, and saves two passes through the kernel.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use suora_protocol::time::Timestamp;

use super::policy::Quotas;
use super::table::Client;
use crate::grant::{Pair, User};

/// Pairs that are remembered for what they have used, beside those with allocations.
const REMEMBERED: usize = 65_536;

/// What one end of a pair shows the other's shard.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its relayed address.
    pub relayed: SocketAddr,
    /// Whom packets to that address go to.
    pub client: Client,
    /// When the allocation ends.
    pub until: Instant,
    /// Addresses of the relay for which it has permissions, and until when.
    pub permissions: Vec<(IpAddr, Instant)>,
    /// Relayed addresses that it has bound, their channels, and until when.
    pub bindings: Vec<(SocketAddr, u16, Instant)>,
}

/// A pair's common part.
#[derive(Debug, Default)]
pub struct Common {
    bytes: AtomicU64,
    members: Mutex<Vec<Member>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Common {
    /// Counts so many bytes, unless they are more than the pair may have.
    pub fn take(&self, bytes: u64, most: u64) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let stands = before.saturating_add(bytes) <= most;
        if !stands {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        stands
    }

    /// Whether so many bytes are left.
    pub fn has(&self, bytes: u64, most: u64) -> bool {
        self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= most
    }

    /// Says how an end is now.
    pub fn publish(&self, member: Member) {
        let mut members = lock(&self.members);
        let known = |one: &&mut Member| one.relayed == member.relayed;
        match members.iter_mut().find(known) {
            Some(one) => *one = member,
            None => members.push(member),
        }
    }

    /// An end is gone.
    pub fn withdraw(&self, relayed: SocketAddr) {
        lock(&self.members).retain(|member| member.relayed != relayed);
    }

    /// Whether the pair has this relayed address now.
    pub fn has_member(&self, relayed: SocketAddr, now: Instant) -> bool {
        let members = lock(&self.members);
        let mut members = members.iter();
        members.any(|member| member.relayed == relayed && now < member.until)
    }

    /// To whom a packet from one of the pair's relayed addresses to another goes, and by which
    /// channel, if the other wants it.
    pub fn route(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Option<(Client, Option<u16>)> {
        let members = lock(&self.members);
        let mut lives = members.iter().filter(|member| now < member.until);
        let member = lives.find(|member| member.relayed == to)?;
        let mut permissions = member.permissions.iter();
        permissions.find(|(ip, until)| *ip == from.ip() && now < *until)?;
        let mut bindings = member.bindings.iter();
        let bound = bindings.find(|(peer, _, until)| *peer == from && now < *until);
        Some((member.client, bound.map(|(_, channel, _)| *channel)))
    }
}

#[derive(Debug)]
struct Account {
    common: Arc<Common>,
    allocations: usize,
    /// When its last grant ends.
    until: Timestamp,
}

/// Why there is no allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// The pair has enough.
    Pair,
    /// The relay has.
    Relay,
}

/// All pairs of all shards.
#[derive(Debug, Default)]
pub struct Pairs {
    all: Mutex<BTreeMap<Pair, Account>>,
    allocations: AtomicUsize,
}

impl Pairs {
    /// Allocations that stand.
    pub fn allocations(&self) -> usize {
        self.allocations.load(Ordering::Relaxed)
    }

    /// Room for one more allocation of a user's pair.
    pub fn enter(&self, user: User, now: Timestamp, quotas: &Quotas) -> Result<Arc<Common>, Full> {
        let mut all = lock(&self.all);
        // both are under one lock
        if self.allocations() >= quotas.allocations {
            return Err(Full::Relay);
        }
        let known = all.contains_key(&user.pair);
        if !known && all.len() >= quotas.allocations.saturating_add(REMEMBERED) {
            all.retain(|_, account| account.allocations > 0 || account.until > now);
            if all.len() >= quotas.allocations.saturating_add(REMEMBERED) {
                return Err(Full::Relay);
            }
        }
        let account = all.entry(user.pair).or_insert_with(|| Account {
            common: Arc::default(),
            allocations: 0,
            until: user.until,
        });
        if account.allocations >= quotas.per_pair || !account.common.has(1, quotas.bytes) {
            return Err(Full::Pair);
        }
        account.allocations += 1;
        account.until = account.until.max(user.until);
        self.allocations.fetch_add(1, Ordering::Relaxed);
        Ok(account.common.clone())
    }

    /// An allocation ended. What its pair has used is remembered until its last grant ends.
    pub fn leave(&self, pair: Pair, now: Timestamp) {
        let mut all = lock(&self.all);
        if let Some(account) = all.get_mut(&pair) {
            account.allocations = account.allocations.saturating_sub(1);
            self.allocations.fetch_sub(1, Ordering::Relaxed);
            if account.allocations == 0 && account.until <= now {
                all.remove(&pair);
            }
        }
    }
}
