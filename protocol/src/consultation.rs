//! A consultation of one host and its guests (`spec/consultation.md`): who is proven,
//! when the gate opens, what is said, when it ends. [`host::Host`] and [`guest::Guest`]
//! are the two ends of one session; what both do is in [`talk`]. [`quality`] finds a word for
//! how well the two see and hear each other.

pub mod clock;
pub mod guest;
pub mod host;
pub mod quality;
pub mod talk;

use bytes::Bytes;

use crate::fault::{Code, Fault};
use crate::time::Timestamp;
use crate::wire::guest::{Media, Quality};
use crate::wire::path::Path;

/// Where a session stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Waits for the QUIC handshake or the other end's proof.
    Proving,
    /// Both ends are proven; nothing of sound or picture may flow.
    Warm,
    /// The officer accepted.
    Accepted,
    /// Over.
    Ended,
}

/// What a session asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send a framed control message.
    Send(Bytes),
    /// The other end is proven.
    Verified,
    /// The other end, which is proven, holds a descriptor of this sequence: newer than ours.
    Newer(u64),
    /// The other end's signed proof names another descriptor of our sequence.
    Conflict(Bytes),
    /// The officer accepted at this time, by the host's clock: open the gate.
    Open(Timestamp),
    /// The other end wrote a line.
    Chat(String),
    /// What the other end sends.
    Media(Media),
    /// How the other end sees and hears this one.
    Quality(Quality),
    /// Where the other end may be reached.
    Path(Path),
    /// The other end's clock.
    Clock(clock::Offset),
    /// Close the connection; the session is over.
    Close(Fault),
}

pub(crate) fn violation(what: &str) -> Fault {
    Fault::new(Code::ProtocolViolation).with(what)
}
