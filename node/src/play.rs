//! DOOR: where decoded pictures and sound go: nowhere (they are counted only), or into a
//! recording.

pub mod sheet;

use std::path::PathBuf;

use suora_protocol::fault::{Code, Fault};
use suora_protocol::time::Timestamp;

/// What happened at the sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A picture was decoded and handed over.
    Shown {
        /// Its capture time, by the sender's clock.
        captured: Timestamp,
        /// When it was handed over.
        at: Timestamp,
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// False: decoded only, a later one was due as well.
        show: bool,
    },
    /// The decoder cannot go on without a keyframe.
    Undecodable,
    /// 20 ms of sound were handed over.
    Played {
        /// Its capture time, by the sender's clock; `None` for sound that was made up.
        captured: Option<Timestamp>,
        /// When it is played.
        at: Timestamp,
        /// Whose sound it is.
        kind: SoundKind,
    },
    /// The sink or a decoder broke.
    Failed(Fault),
}

/// Where 20 ms of sound came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SoundKind {
    /// A packet.
    Packet,
    /// Made up, or rebuilt of the next packet's redundancy.
    Concealed,
    /// Nobody spoke to us.
    Silence,
}

/// Where decoded pictures and sound go.
#[derive(Clone, Debug)]
pub struct Sink {}

impl Sink {
    /// Counts only.
    pub fn none() -> Self {
        Self {}
    }

    /// Records into an MP4 file.
    pub fn record(_file: PathBuf, _faults: crate::Faults) -> Result<(Self, Recorder), Fault> {
        Err(Fault::new(Code::Internal))
    }
}

/// The writer behind a recording sink.
#[derive(Debug)]
pub struct Recorder {}

impl Recorder {
    /// Waits for what is still to be written, writes the index and gives the file its
    /// name; `None` when nothing came.
    pub fn finish(self) -> Result<Option<PathBuf>, Fault> {
        Err(Fault::new(Code::Internal))
    }
}
