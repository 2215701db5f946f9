//! DOOR: the encoders, each on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use suora_protocol::fault::{Code, Fault};
use suora_protocol::media::EncodedFrame;

use crate::capture::{Picture, Sound};
use crate::worker::{Mailbox, Slot, Worker};

/// What the session asks of the encoder while it runs.
#[derive(Debug)]
pub struct Control {
    target: AtomicU32,
    keyframe: AtomicBool,
}

impl Control {
    /// A control with a first target in bits a second.
    pub fn new(target: u32) -> Self {
        Self {
            target: AtomicU32::new(target),
            keyframe: AtomicBool::new(false),
        }
    }

    /// From now on so many bits a second.
    pub fn set_target(&self, bits_per_second: u32) {
        self.target.store(bits_per_second, Ordering::Relaxed);
    }

    /// The next picture is to be a keyframe.
    pub fn keyframe(&self) {
        self.keyframe.store(true, Ordering::Relaxed);
    }
}

/// Encodes pictures as H.264 constrained baseline.
pub fn video(
    _pictures: Slot<Picture>,
    _control: Arc<Control>,
    _fps: u32,
    _out: impl FnMut(EncodedFrame) + Send + 'static,
) -> Result<Worker, Fault> {
    Err(Fault::new(Code::Internal))
}

/// Encodes sound as Opus: 32 kbit/s, tuned for speech, in-band FEC.
pub fn audio(
    _sounds: Mailbox<Sound>,
    _out: impl FnMut(EncodedFrame) + Send + 'static,
) -> Result<Worker, Fault> {
    Err(Fault::new(Code::Internal))
}
