//! The agency's descriptor: its signed page (`spec/documents.md`, section 4).

use serde::{Deserialize, Serialize};

use super::desk::{Desk, DeskId, Names};
use super::{Document, secs};
use crate::identity::{AgencyId, Hash, PeerId};
use crate::time::Timestamp;

/// What a key of the agency may sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyUse {
    /// Credentials.
    Issuing,
    /// Passes for citizens.
    Pass,
}

/// A key of the agency, for one use only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UseKey {
    /// Its name in documents.
    pub id: String,
    /// The public key.
    pub key: PeerId,
    /// What it may sign.
    #[serde(rename = "use")]
    pub use_: KeyUse,
    /// Until when.
    #[serde(with = "secs")]
    pub not_after: Timestamp,
}

/// The agency's signed page.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Descriptor {
    /// The agency: SHA-256 of `root`.
    pub agency: AgencyId,
    /// The root public key, which signs this.
    pub root: PeerId,
    /// Its name for people.
    pub names: Names,
    /// Its domain, where `/.well-known/suora` serves this page.
    pub domain: String,
    /// Its relays, as multiaddrs that end in `/p2p/<peer id>`.
    pub relays: Vec<String>,
    /// Its keys by use.
    pub keys: Vec<UseKey>,
    /// Its desks.
    pub desks: Vec<Desk>,
    /// Peer ids whose credentials no longer count.
    pub revoked: Vec<PeerId>,
    /// Grows with each descriptor.
    pub sequence: u64,
    /// When it was signed.
    #[serde(with = "secs")]
    pub issued_at: Timestamp,
    /// Until when it is valid; 30 days after `issued_at` at most.
    #[serde(with = "secs")]
    pub not_after: Timestamp,
    /// SHA-256 of the next root key, when one was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_root: Option<Hash>,
}

impl Document for Descriptor {
    const KIND: &'static str = "descriptor";
    const KEYS: &'static [&'static str] = &[
        "agency",
        "root",
        "names",
        "domain",
        "relays",
        "keys",
        "desks",
        "revoked",
        "sequence",
        "issued_at",
        "not_after",
        "next_root",
        "critical",
    ];
}

impl Descriptor {
    /// The desk of this name.
    pub fn desk(&self, id: &DeskId) -> Option<&Desk> {
        self.desks.iter().find(|desk| desk.id == *id)
    }
}
