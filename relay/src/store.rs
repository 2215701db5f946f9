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
    /// All tickets, by order.
    fn load(&mut self) -> impl Future<Output = Result<Snapshot, Fault>> + Send;
    /// Makes all these durable, or none.
    fn commit(&mut self, changes: &[Change]) -> impl Future<Output = Result<(), Fault>> + Send;
    /// Forgets for good what was deleted: its bytes are in no file of the store any more. What
    /// cannot be done now, because somebody else reads, is done the next time.
    fn forget(&mut self) -> impl Future<Output = Result<(), Fault>> + Send;
    /// Leaves everything in order.
    fn close(self) -> impl Future<Output = Result<(), Fault>> + Send;
}
