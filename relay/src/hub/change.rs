//! What outlives the process: one row a ticket. No name, no address, nothing that was said.

use suora_protocol::documents::{Challenge, DeskId, TicketId};
use suora_protocol::identity::PeerId;
use suora_protocol::time::Timestamp;

/// A ticket, as the store keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The ticket.
    pub ticket: TicketId,
    /// Its desk.
    pub desk: DeskId,
    /// Its owner.
    pub guest: PeerId,
    /// To be echoed in the invite.
    pub challenge: Challenge,
    /// Its place: lower was first.
    pub order: u64,
    /// When it was drawn.
    pub joined: Timestamp,
    /// Matches so far.
    pub attempt: u32,
    /// The officer in consultation with its owner.
    pub officer: Option<PeerId>,
}

/// A durable change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Insert or replace a ticket.
    Put(Row),
    /// Forget a ticket.
    Drop(TicketId),
}

/// All that the store remembers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// All tickets, by order.
    pub rows: Vec<Row>,
}

impl Snapshot {
    /// Applies changes as a store does; the reference for every store, and the memory of simulations.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            let (Change::Put(Row { ticket, .. }) | Change::Drop(ticket)) = change;
            self.rows.retain(|old| old.ticket != *ticket);
            if let Change::Put(row) = change {
                let at = self.rows.partition_point(|old| old.order < row.order);
                self.rows.insert(at, row.clone());
            }
        }
    }
}
