//! DOOR: what outlives the process.

pub mod sqlite;

use std::future::Future;

use suora_protocol::fault::Fault;

use crate::hub::change::{Change, Snapshot};

/// A store: loads all, commits changes together.
pub trait Store: Send {
    /// All tickets, by order.
    fn load(&mut self) -> impl Future<Output = Result<Snapshot, Fault>> + Send;
    /// Makes all these durable, or none.
    fn commit(&mut self, changes: &[Change]) -> impl Future<Output = Result<(), Fault>> + Send;
    /// Leaves everything in order.
    fn close(self) -> impl Future<Output = Result<(), Fault>> + Send;
}
