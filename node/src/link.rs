//! DOOR: the control link to a relay, by libp2p.

use crate::clock::Clock;
use crate::engine::ports::{LinkCommand, LinkEvent};
use crate::worker::{Mailbox, Post, mailbox};

/// The two ends of the link's task.
#[derive(Debug)]
pub struct Link {
    /// What the engine asks.
    pub commands: Post<LinkCommand>,
    /// What the link says.
    pub events: Mailbox<LinkEvent>,
}

/// Starts the link's task, which waits for [`LinkCommand::Open`].
pub fn start(_seed: [u8; 32], _clock: Clock) -> Link {
    let (commands, _) = mailbox(64);
    let (_, events) = mailbox(64);
    Link { commands, events }
}
