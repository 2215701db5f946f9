//! What a microphone hears, made fit to be sent: the echo of our own loudspeaker and steady
//! noise are taken out, and a quiet voice is raised. Behind [`Clean`] works WebRTC's audio
//! processing (AEC3, NS and AGC2, in its port to Rust).

#[cfg(feature = "devices")]
mod apm;

use crate::devices::reference::Block;

/// Takes echo and noise out of sound, 10 ms at a time, mono, 48 kHz.
pub trait Clean: Send {
    /// The loudspeaker was handed this block.
    fn played(&mut self, block: &Block);
    /// Cleans a block that the microphone heard. What comes out was heard [`Self::delay`] earlier.
    fn heard(&mut self, block: &mut Block);
    /// Samples by which what comes out lies behind what goes in.
    fn delay(&self) -> usize;
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parts {
    /// Take out the echo of what was played.
    pub echo: bool,
    /// Take out steady noise.
    pub noise: bool,
    /// Raise a quiet voice, and keep a loud one from clipping.
    pub gain: bool,
}

impl Parts {
    /// All of it.
    pub const ALL: Self = Self {
        echo: true,
        noise: true,
        gain: true,
    };
}

/// A cleaner; `None` in a build without devices, whose sound needs none.
#[cfg(feature = "devices")]
pub fn cleaner(parts: Parts) -> Option<Box<dyn Clean>> {
    Some(Box::new(apm::Apm::new(parts)))
}

/// A cleaner; `None` in a build without devices, whose sound needs none.
#[cfg(not(feature = "devices"))]
pub fn cleaner(_: Parts) -> Option<Box<dyn Clean>> {
    None
}

#[cfg(all(test, feature = "devices"))]
mod tests;
