//! Between guest and host, on the first stream of the media connection
//! (`spec/session.md`, section 2). All times are microseconds since 1970 by the sender's clock.

use serde::{Deserialize, Serialize};

use crate::fault::Code;
use crate::quality::{Network, Word};
use crate::time::Timestamp;
use crate::wire::path::Path;

/// From the guest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToHost {
    /// The guest's proof: the first message.
    Hello {
        /// The signed document.
        #[serde(with = "serde_bytes")]
        hello: Vec<u8>,
    },
    /// A line of text.
    Chat(Chat),
    /// What the sender sends.
    Media(Media),
    /// What time is it?
    Clock(Clock),
    /// The answer.
    ClockAnswer(ClockAnswer),
    /// How the sender sees and hears the other end.
    Quality(Quality),
    /// Where the sender may be reached.
    Path(Path),
    /// The sender ends the session.
    Bye(Bye),
    /// A type that this version does not know.
    #[serde(other)]
    Unknown,
}

/// From the host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromHost {
    /// The host's proof, in answer to hello.
    Welcome {
        /// The signed document.
        #[serde(with = "serde_bytes")]
        welcome: Vec<u8>,
        /// The guest's number among the participants; the host is 0.
        participant: u8,
    },
    /// The officer took the offer: the gate is open.
    Accepted {
        /// When, by the host's clock.
        at: Timestamp,
    },
    /// A line of text.
    Chat(Chat),
    /// What the sender sends.
    Media(Media),
    /// What time is it?
    Clock(Clock),
    /// The answer.
    ClockAnswer(ClockAnswer),
    /// How the sender sees and hears the other end.
    Quality(Quality),
    /// Where the sender may be reached.
    Path(Path),
    /// The sender ends the session.
    Bye(Bye),
    /// A type that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A line of text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Chat {
    /// Counts the sender's lines from 1.
    pub id: u64,
    /// 1 to 4000 bytes.
    pub text: String,
    /// When it was written.
    pub at: Timestamp,
}

/// What the sender sends: false is muted, or camera off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Media {
    /// Sound.
    pub audio: bool,
    /// Picture.
    pub video: bool,
}

/// The first of four timestamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Clock {
    /// Names the exchange.
    pub id: u64,
    /// When this was sent.
    pub t1: Timestamp,
}

/// The next two of four timestamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClockAnswer {
    /// As in the question.
    pub id: u64,
    /// As in the question.
    pub t1: Timestamp,
    /// When the question came.
    pub t2: Timestamp,
    /// When this was sent.
    pub t3: Timestamp,
}

/// How the sender sees and hears the other end, and how its own network is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quality {
    /// Of what the sender receives.
    pub word: Word,
    /// The sender's own.
    pub network: Network,
}

/// The sender ends the session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bye {
    /// How.
    pub code: Code,
}
