//! What the shards have done, for the operator. They count; they name nobody.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of all shards.
#[derive(Debug, Default)]
pub struct Figures {
    /// Allocations that were made.
    pub allocated: AtomicU64,
    /// Packets from clients that went on.
    pub sent: AtomicU64,
    /// Their bytes, without what TURN puts around them.
    pub sent_bytes: AtomicU64,
    /// Packets to clients.
    pub received: AtomicU64,
    /// Their bytes.
    pub received_bytes: AtomicU64,
    /// Requests that were refused.
    pub refused: AtomicU64,
    /// Packets for which there was no permission, no quota or no form.
    pub dropped: AtomicU64,
    /// Strangers who were answered.
    pub answered: AtomicU64,
    /// Strangers who were not, because too many of their prefix asked.
    pub unanswered: AtomicU64,
}

impl Figures {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, number: u64) {
        if number > 0 {
            counter.fetch_add(number, Ordering::Relaxed);
        }
    }
}
