//! DOOR: the local control socket: every intent in, every view out, as JSON lines.

use std::path::Path;

use suora_protocol::fault::{Code, Fault};

use crate::intent::Intent;
use crate::view::View;
use crate::worker::Post;

/// The listening socket; it is removed when this is dropped.
#[derive(Debug)]
pub struct Remote;

/// Listens on a local socket at `path`.
pub fn listen(_: &Path, _: Post<Intent>) -> Result<Remote, Fault> {
    Err(Fault::new(Code::Internal))
}

impl Remote {
    /// Shows a view to every client.
    pub fn publish(&self, _: &View) {}
}
