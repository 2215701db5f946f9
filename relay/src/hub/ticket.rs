//! A ticket's states: waiting → offered → engaged, and back to waiting at its old place.

use std::collections::BTreeSet;

use suora_protocol::identity::PeerId;
use suora_protocol::time::Timestamp;

use super::LinkId;
use super::change::Row;

/// Where a ticket stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// In the queue.
    Waiting,
    /// An officer was asked.
    Offered {
        /// Whom.
        officer: PeerId,
        /// Until when.
        until: Timestamp,
    },
    /// In consultation.
    Engaged {
        /// With whom.
        officer: PeerId,
    },
}

/// A right to be served.
#[derive(Debug)]
pub struct Ticket {
    /// What outlives the process.
    pub row: Row,
    /// The owner's key, for quick reading.
    pub guest: PeerId,
    /// Where it stands.
    pub state: State,
    /// The owner's stream.
    pub link: Option<LinkId>,
    /// Since when the owner has none.
    pub gone: Option<Timestamp>,
    /// The position that was last told.
    pub said: Option<u32>,
    /// Officers who declined it.
    pub declined: BTreeSet<PeerId>,
}

impl Ticket {
    /// A new ticket.
    pub fn joined(row: Row, link: LinkId) -> Self {
        Self {
            guest: row.guest,
            row,
            state: State::Waiting,
            link: Some(link),
            gone: None,
            said: None,
            declined: BTreeSet::new(),
        }
    }

    /// A ticket of a former life: its owner has no stream yet.
    pub fn restored(row: Row, now: Timestamp) -> Self {
        let state = row
            .officer
            .map_or(State::Waiting, |officer| State::Engaged { officer });
        Self {
            guest: row.guest,
            row,
            state,
            link: None,
            gone: Some(now),
            said: None,
            declined: BTreeSet::new(),
        }
    }
}
