//! DOOR: the decoders, each on a thread of its own.

use suora_protocol::fault::{Code, Fault};
use suora_protocol::media::{jitter, playout};
use suora_protocol::time::Timestamp;

use crate::clock::Clock;
use crate::play::{self, Sink};
use crate::worker::{Mailbox, Post, Worker};

/// What the session pulled out of the jitter buffer for 20 ms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot20 {
    /// What to play.
    pub sound: jitter::Sound,
    /// When these 20 ms are played.
    pub at: Timestamp,
}

/// Decodes pictures and hands them to the sink.
pub fn video(
    _due: Mailbox<playout::Due>,
    _sink: Sink,
    _clock: Clock,
    _events: Post<play::Event>,
) -> Result<Worker, Fault> {
    Err(Fault::new(Code::Internal))
}

/// Decodes sound and hands it to the sink.
pub fn audio(
    _slots: Mailbox<Slot20>,
    _sink: Sink,
    _events: Post<play::Event>,
) -> Result<Worker, Fault> {
    Err(Fault::new(Code::Internal))
}
