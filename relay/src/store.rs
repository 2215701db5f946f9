//! DOOR: what outlives the process.

pub mod sqlite;

use std::future::Future;
use std::time::Duration;

use suora_protocol::fault::Fault;

use crate::hub::change::{Change, Snapshot};

/// A store: loads all, commits changes together.
pub trait Store: Send {
    /// How often it is to [`Store::forget`].
    const FORGET: Duration = Duration::from_secs(300);
    /// How soon again, where not all could be forgotten.
    const AGAIN: Duration = Duration::from_secs(60);
    /// All tickets, by order.
    fn load(&mut self) -> impl Future<Output = Result<Snapshot, Fault>> + Send;
    /// Makes all these durable, or none.
    fn commit(&mut self, changes: &[Change]) -> impl Future<Output = Result<(), Fault>> + Send;
    /// Forgets for good what was deleted: its bytes are in no file of the store any more. False:
    /// not all, and why not is logged. Somebody else may be reading, for whom nobody waits; no
    /// ticket depends on it.
    fn forget(&mut self) -> impl Future<Output = bool> + Send;
    /// Leaves everything in order.
    fn close(self) -> impl Future<Output = Result<(), Fault>> + Send;
}
