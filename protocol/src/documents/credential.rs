//! A credential: the agency says that this peer id may act as … until …
//! (`spec/documents.md`, section 5).

use serde::{Deserialize, Serialize};

use super::desk::DeskId;
use super::{Document, days, lasts, secs, short};
use crate::identity::{AgencyId, PeerId};
use crate::limits;
use crate::time::Timestamp;

/// What somebody may act as.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Asks.
    Citizen,
    /// Serves for the agency.
    Officer,
    /// Interprets.
    Interpreter,
    /// Acts for the citizen by law.
    Guardian,
    /// Advises.
    Expert,
    /// Serves beside the officer.
    Colleague,
}

/// This peer id may act in this role at these desks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Credential {
    /// The agency that says so.
    pub agency: AgencyId,
    /// Whom it speaks of.
    pub peer: PeerId,
    /// The role.
    pub role: Role,
    /// At which desks.
    pub desks: Vec<DeskId>,
    /// The name that citizens see.
    pub name: String,
    /// The id of the issuing key, in the descriptor.
    pub key: String,
    /// When it was signed.
    #[serde(with = "secs")]
    pub issued_at: Timestamp,
    /// From when.
    #[serde(with = "secs")]
    pub not_before: Timestamp,
    /// Until when; 30 days after `not_before` at most.
    #[serde(with = "secs")]
    pub not_after: Timestamp,
}

impl Credential {
    /// Whether this one takes the place of `other`, of the same node: it was signed later, or in
    /// the same second and ends later.
    pub fn supersedes(&self, other: &Self) -> bool {
        (self.issued_at, self.not_after) > (other.issued_at, other.not_after)
    }
}

impl Document for Credential {
    const KIND: &'static str = "credential";
    const KEYS: &'static [&'static str] = &[
        "agency",
        "peer",
        "role",
        "desks",
        "name",
        "key",
        "issued_at",
        "not_before",
        "not_after",
        "critical",
    ];

    fn check(&self) -> Result<(), &'static str> {
        if self.desks.len() > limits::DESKS_MAX {
            return Err("too many desks");
        }
        if self.name.is_empty() || !short([&self.name, &self.key]) {
            return Err("a name over its bound");
        }
        if PeerId::checked(*self.peer.as_bytes()).is_err() {
            return Err("it speaks of a key that nobody can hold");
        }
        let most = days(limits::CREDENTIAL_DAYS_MAX);
        lasts(self.not_before, self.not_after, most)
    }
}
