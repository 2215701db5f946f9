//! DOOR: sources of sound and picture. A [`Source`] is opened and checked once, so that
//! every bad file is found before anybody talks; [`Source::start`] then paces it by the
//! monotonic clock, sound and picture on one time base.

use std::path::PathBuf;
use std::str::FromStr;

use bytes::Bytes;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::time::Timestamp;

use crate::clock::Clock;
use crate::worker::{Mailbox, Slot, mailbox};

/// One picture, I420 without padding: `width × height` luma, then two quarter planes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// Its nominal time.
    pub captured: Timestamp,
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// The planes.
    pub data: Bytes,
}

/// 20 ms of sound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sound {
    /// The nominal time of its first sample.
    pub captured: Timestamp,
    /// 960 samples, mono, 48 kHz.
    pub samples: Vec<i16>,
}

/// What a person names as a camera or a microphone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Spec {
    /// Nothing.
    None,
    /// The test pattern, or its beep.
    Pattern,
    /// A media file, looped.
    File(PathBuf),
}

impl FromStr for Spec {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "none" => Self::None,
            "pattern" => Self::Pattern,
            path => Self::File(path.into()),
        })
    }
}

/// What to capture, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Where pictures come from.
    pub camera: Spec,
    /// Where sound comes from; `None`: from the camera's source (a file's own sound track, the pattern's beep).
    pub mic: Option<Spec>,
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// Pictures a second, 1 to 60.
    pub fps: u32,
}

/// A source that was opened and checked.
#[derive(Debug)]
pub struct Source {}

/// Opens and checks all that the settings name. A file that cannot be used is
/// [`Code::BadMediaFile`], naming the file and what to do.
pub fn open(_settings: &Settings) -> Result<Source, Fault> {
    Ok(Source {})
}

impl Source {
    /// Starts capturing.
    pub fn start(&self, _clock: Clock) -> Result<Capture, Fault> {
        Err(Fault::new(Code::Internal))
    }

    /// Whether it gives pictures.
    pub fn has_video(&self) -> bool {
        false
    }

    /// Whether it gives sound.
    pub fn has_audio(&self) -> bool {
        false
    }
}

/// A running source; dropping it stops its threads and closes the slot.
#[derive(Debug)]
pub struct Capture {
    /// The latest picture.
    pub pictures: Slot<Picture>,
    /// Sound, in order.
    pub sounds: Mailbox<Sound>,
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.pictures.close();
    }
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            pictures: Slot::default(),
            sounds: mailbox(1).1,
        }
    }
}
