//! What outlives the process: one row a ticket, and the newest credential of each officer.
//! No name of a citizen, no address, nothing that was said.

use bytes::Bytes;
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

/// The newest credential of an officer, as the store keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enrolled {
    /// The officer's node.
    pub peer: PeerId,
    /// The signed document.
    pub credential: Bytes,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// Until when it holds.
    pub not_after: Timestamp,
}

/// A durable change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Insert or replace a ticket.
    Put(Row),
    /// Forget a ticket.
    Drop(TicketId),
    /// Insert or replace an officer's credential.
    Enrol(Enrolled),
    /// Forget an officer's credential.
    Expel(PeerId),
}

/// All that the store remembers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// All tickets, by order.
    pub rows: Vec<Row>,
    /// The newest credential of each officer, by peer id.
    pub enrolled: Vec<Enrolled>,
}

impl Snapshot {
    /// Applies changes as a store does; the reference for every store, and the memory of simulations.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(row) => {
                    self.rows.retain(|old| old.ticket != row.ticket);
                    let at = self.rows.partition_point(|old| old.order < row.order);
                    self.rows.insert(at, row.clone());
                }
                Change::Drop(ticket) => self.rows.retain(|old| old.ticket != *ticket),
                Change::Enrol(enrolled) => {
                    self.enrolled.retain(|old| old.peer != enrolled.peer);
                    let at = self
                        .enrolled
                        .partition_point(|old| old.peer < enrolled.peer);
                    self.enrolled.insert(at, enrolled.clone());
                }
                Change::Expel(peer) => self.enrolled.retain(|old| old.peer != *peer),
            }
        }
    }
}
