//! Sound and picture on the wire and in time (`spec/media.md`): RTP over QUIC with
//! sound in datagrams and one picture a stream, arrival reports, and the machines
//! around them. A [`sender::Sender`] makes packets of frames, a
//! [`receiver::Receiver`] frames of packets; [`jitter::Jitter`] and
//! [`playout::Playout`] decide when a person hears and sees them, [`rate::Rate`] how
//! much may leave and [`allot::Allot`] who gets it. [`outgoing::Outgoing`] is all of sending
//! over any QUIC. All are pure and depend on nothing else of the protocol.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod allot;
pub mod flow;
pub mod guard;
pub mod h264;
pub mod jitter;
pub mod ladder;
pub mod opus;
pub mod outgoing;
pub mod playout;
pub mod probe;
pub mod rate;
pub mod receiver;
pub mod rtcp;
pub mod rtp;
pub mod sender;

use std::time::Duration;

use bytes::Bytes;

use crate::time::Timestamp;

/// What a track carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Opus, 20 ms a packet, 48 kHz.
    Audio,
    /// H.264 constrained baseline.
    Video,
}

/// One encoded picture or 20 ms of encoded sound: the currency between capture, wire and play.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodedFrame {
    /// Sound or picture.
    pub kind: Kind,
    /// When it was captured, by the sender's clock.
    pub captured: Timestamp,
    /// An Annex B access unit, or one Opus packet.
    pub data: Bytes,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// Pixels; 0 for sound.
    pub width: u16,
    /// Pixels; 0 for sound.
    pub height: u16,
    /// How long it lasts.
    pub duration: Duration,
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::time::{Now, Timestamp};

    /// One base moment for virtual clocks.
    #[expect(
        clippy::disallowed_methods,
        reason = "door: the base of virtual time in tests"
    )]
    pub(crate) fn base() -> Now {
        Now {
            mono: std::time::Instant::now() + std::time::Duration::from_secs(3_600),
            utc: Timestamp::from_secs(1_795_525_200),
        }
    }
}
