//! A [`Fault`] names who is at fault and what happened, by a code of the registry
//! (`spec/registries.md`, section 2). The same code is the text on the control
//! streams, the QUIC application close code of a media connection and the key of
//! the sentence that a person reads.

pub mod sentences;

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Who has to act.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Culprit {
    /// Somebody decided so; nothing is wrong.
    Person,
    /// This program, its settings or its machine.
    Us,
    /// The other end of the session.
    Peer,
    /// The agency's relay.
    Relay,
    /// The agency: its documents.
    Agency,
    /// The network between.
    Network,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $close:literal, $text:literal, $culprit:ident;)*) => {
        /// A code of the registry.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All codes, in the order of the registry.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The text of the registry.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// The QUIC application close code.
            pub const fn close(self) -> u32 {
                match self { $(Code::$name => $close,)* }
            }

            /// Who has to act.
            pub const fn culprit(self) -> Culprit {
                match self { $(Code::$name => Culprit::$culprit,)* }
            }
        }
    };
}

codes! {
    /// The consultation ended as it should.
    Ended = 0x00, "ended", Person;
    /// Cancelled by this person.
    Cancelled = 0x01, "cancelled", Person;
    /// The officer declined.
    Declined = 0x02, "declined", Person;
    /// The citizen left the queue.
    Left = 0x03, "left", Person;
    /// The offer was not answered in time.
    OfferExpired = 0x04, "offer-expired", Person;
    /// The officer's link or session ended.
    OfficerGone = 0x05, "officer-gone", Network;
    /// The citizen's link or session ended.
    CitizenGone = 0x06, "citizen-gone", Network;
    /// A defect of this program.
    Internal = 0x10, "internal", Us;
    /// Bytes that are no valid message or document.
    Malformed = 0x11, "malformed", Peer;
    /// CBOR that is not deterministic.
    NotDeterministic = 0x12, "not-deterministic", Peer;
    /// A key listed as critical is not known here.
    UnknownCritical = 0x13, "unknown-critical", Peer;
    /// A message at a moment or in a direction that the protocol does not allow.
    ProtocolViolation = 0x14, "protocol-violation", Peer;
    /// A message or document over its bound.
    TooLarge = 0x15, "too-large", Peer;
    /// More messages than the bound allows.
    TooFast = 0x16, "too-fast", Peer;
    /// The signature does not fit.
    BadSignature = 0x20, "bad-signature", Peer;
    /// Signed by a key that may not sign this.
    WrongSigner = 0x21, "wrong-signer", Peer;
    /// A document of another kind.
    WrongKind = 0x22, "wrong-kind", Peer;
    /// Not yet valid.
    NotYetValid = 0x23, "not-yet-valid", Agency;
    /// No longer valid.
    Expired = 0x24, "expired", Agency;
    /// Of another agency.
    WrongAgency = 0x25, "wrong-agency", Peer;
    /// The role does not allow this.
    WrongRole = 0x26, "wrong-role", Peer;
    /// Of another desk.
    WrongDesk = 0x27, "wrong-desk", Peer;
    /// Of another ticket.
    WrongTicket = 0x28, "wrong-ticket", Peer;
    /// For another guest.
    WrongGuest = 0x29, "wrong-guest", Peer;
    /// The guest's challenge is not echoed.
    WrongChallenge = 0x2a, "wrong-challenge", Peer;
    /// Of another invite.
    WrongInvite = 0x2b, "wrong-invite", Peer;
    /// Bound to another TLS connection.
    WrongBinding = 0x2c, "wrong-binding", Peer;
    /// No version in common.
    WrongVersion = 0x2d, "wrong-version", Peer;
    /// A lower sequence than one already verified.
    LowerSequence = 0x2e, "lower-sequence", Agency;
    /// Two descriptors of one sequence.
    Equivocation = 0x2f, "equivocation", Agency;
    /// Revoked by the agency.
    Revoked = 0x30, "revoked", Agency;
    /// The certificate is not the one of the invite.
    WrongCertificate = 0x31, "wrong-certificate", Peer;
    /// The hybrid group was required and not negotiated.
    PostQuantumRequired = 0x32, "post-quantum-required", Peer;
    /// The relay does not know this desk.
    UnknownDesk = 0x40, "unknown-desk", Agency;
    /// An officer without a credential.
    NoCredential = 0x41, "no-credential", Us;
    /// Too many at once; try again.
    Busy = 0x42, "busy", Relay;
    /// The queue is full.
    QueueFull = 0x43, "queue-full", Relay;
    /// One live invite already stands.
    AlreadyInvited = 0x44, "already-invited", Peer;
    /// The relay knows no such ticket.
    NoTicket = 0x45, "no-ticket", Relay;
    /// No address that both can use.
    NoPath = 0x50, "no-path", Network;
    /// The media connection could not be made.
    HandshakeFailed = 0x51, "handshake-failed", Network;
    /// The other end fell silent.
    PeerSilent = 0x52, "peer-silent", Network;
    /// An answer did not come in time.
    Timeout = 0x53, "timeout", Network;
    /// The relay does not answer.
    RelayUnreachable = 0x54, "relay-unreachable", Network;
    /// The descriptor cannot be had.
    DescriptorUnreachable = 0x55, "descriptor-unreachable", Network;
    /// A setting or argument is wrong.
    BadConfig = 0x60, "bad-config", Us;
    /// A file cannot be read or written.
    BadFile = 0x61, "bad-file", Us;
    /// A key file is damaged or open to others.
    BadKeyFile = 0x62, "bad-key-file", Us;
    /// A media file cannot be used.
    BadMediaFile = 0x63, "bad-media-file", Us;
    /// This machine's clock is wrong.
    WrongClock = 0x64, "wrong-clock", Us;
    /// The agency's root key is another one than before, and the old one does not name it.
    RootChanged = 0x70, "root-changed", Agency;
    /// The passphrase does not open the key file.
    WrongPassphrase = 0x71, "wrong-passphrase", Us;
    /// Too many tickets of this address prefix at this desk.
    Crowded = 0x78, "crowded", Relay;
    /// The work was not done as asked for.
    BadWork = 0x79, "bad-work", Peer;
    /// Others can read or change a file or folder that they should not.
    UnsafePermissions = 0x7c, "unsafe-permissions", Us;
    /// A document is still valid, and not for long.
    EndsSoon = 0x7d, "ends-soon", Agency;
    /// A port cannot be listened on.
    CannotListen = 0x7e, "cannot-listen", Us;
}

/// What is at the bottom of an error that others wrap: the part that a person can act on.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

impl Code {
    /// The code of a registry text; `None` for one that is not registered.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }

    /// The code of a QUIC application close code.
    pub fn from_close(close: u64) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| u64::from(code.close()) == close)
    }

    /// Whether a verifier refused a document or a proof: the contact then ends as refused.
    pub fn is_refusal(self) -> bool {
        let close = self.close();
        (0x11..=0x13).contains(&close)
            || (0x20..=0x41).contains(&close)
            || self == Self::RootChanged
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A code that is not registered reads as `internal`, so that old ends understand new ones.
impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self::parse(&text).unwrap_or(Self::Internal))
    }
}

/// An error with a culprit, a code and, where it helps, what exactly was wrong.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Fault {
    /// The code of the registry.
    pub code: Code,
    /// What exactly was wrong, for the one who mends it. Names no person.
    pub detail: Option<String>,
}

impl Fault {
    /// A fault without detail.
    pub const fn new(code: Code) -> Self {
        Self { code, detail: None }
    }

    /// The same fault, saying what exactly was wrong.
    #[must_use]
    pub fn with(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Whether bytes had not the form that was expected: where they lie in a file, the file is at
    /// fault and no other end.
    pub const fn is_form(&self) -> bool {
        matches!(
            self.code,
            Code::Malformed | Code::NotDeterministic | Code::TooLarge | Code::WrongKind
        )
    }

    /// What is said of bytes that lie in this file: a wrong form is [`Code::BadFile`], and names it.
    #[must_use]
    pub fn lies_in(self, file: impl fmt::Display) -> Self {
        match self.is_form() {
            true => Self::new(Code::BadFile).with(format!("{file}: {self}")),
            false => self,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{}: {detail}", self.code),
            None => write!(f, "{}", self.code),
        }
    }
}

impl From<Code> for Fault {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: SUORA-REG-001
    #[test]
    fn every_code_has_one_text_and_one_number() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
            assert_eq!(Code::from_close(code.close().into()), Some(*code));
        }
        assert_eq!(Code::parse("no-such-code"), None);
    }

    #[test]
    fn refusals_are_the_verifiers_codes() {
        assert!(Code::BadSignature.is_refusal() && Code::NoCredential.is_refusal());
        assert!(
            !Code::Ended.is_refusal()
                && !Code::Busy.is_refusal()
                && !Code::ProtocolViolation.is_refusal()
        );
    }
}
