//! What happened on a day, in order.

use suora_protocol::documents::DeskId;
use suora_protocol::identity::PeerId;
use suora_protocol::time::Timestamp;
use suora_protocol::wire::{citizen, officer};
use suora_relay::hub::LinkId;
use suora_relay::hub::change::Change;

/// A message of the hub.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Heard {
    Citizen(citizen::FromRelay),
    Officer(officer::FromRelay),
}

/// One thing that happened.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Event {
    /// It is now so late; all deadlines until now have passed.
    Time(Timestamp),
    Up(LinkId, PeerId, bool),
    Down(LinkId),
    Citizen(LinkId, citizen::ToRelay),
    Officer(LinkId, officer::ToRelay),
    /// The hub asked for a commit.
    Decided(Vec<Change>),
    /// The store has the oldest commit that it had not.
    Stands,
    Heard(LinkId, Heard),
    /// The process died and was started again on what the store had.
    Restart,
    /// Who waits, as the hub says.
    Queue(DeskId, Vec<PeerId>),
}
