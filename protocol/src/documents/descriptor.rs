//! The agency's descriptor: its signed page (`spec/documents.md`, section 4).

use serde::{Deserialize, Serialize};

use super::desk::{Desk, DeskId, Names};
use super::server::Server;
use super::{Document, days, lasts, secs, short};
use crate::identity::{AgencyId, Hash, PeerId};
use crate::limits;
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
    /// Where its relays answer STUN and TURN: RFC 7065 URIs, [`limits::TURN_MAX`] at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turn: Vec<String>,
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
        "turn",
        "keys",
        "desks",
        "revoked",
        "sequence",
        "issued_at",
        "not_after",
        "next_root",
        "critical",
    ];

    fn check(&self) -> Result<(), &'static str> {
        let bounds = [
            (self.relays.len(), limits::RELAYS_MAX),
            (self.turn.len(), limits::TURN_MAX),
            (self.keys.len(), limits::KEYS_MAX),
            (self.desks.len(), limits::DESKS_MAX),
            (self.revoked.len(), limits::REVOKED_MAX),
        ];
        if bounds.iter().any(|(len, most)| len > most) {
            return Err("a list over its bound");
        }
        let texts = self.relays.iter().chain(&self.turn).chain([&self.domain]);
        if !short(texts.chain(self.names.texts())) || !self.desks.iter().all(Desk::bounded) {
            return Err("a text or list over its bound");
        }
        if !self.relays.iter().all(|relay| names_peer(relay)) {
            return Err("a relay's address does not end in /p2p/ and a peer id");
        }
        if !self.turn.iter().all(|uri| Server::parse(uri).is_some()) {
            return Err("an address of TURN that is no URI of RFC 7065");
        }
        let mut ids: Vec<&str> = self.keys.iter().map(|key| key.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != self.keys.len() || !short(self.keys.iter().map(|key| &key.id)) {
            return Err("two keys of one id, or an id over its bound");
        }
        if self
            .keys
            .iter()
            .any(|key| PeerId::checked(*key.key.as_bytes()).is_err())
        {
            return Err("a key that nobody can hold");
        }
        let mut desks: Vec<&DeskId> = self.desks.iter().map(|desk| &desk.id).collect();
        desks.sort_unstable();
        desks.dedup();
        if desks.len() != self.desks.len() {
            return Err("two desks of one id");
        }
        let most = days(limits::DESCRIPTOR_DAYS_MAX);
        lasts(self.issued_at, self.not_after, most)
    }
}

/// Whether a multiaddr ends in `/p2p/<peer id>`.
fn names_peer(address: &str) -> bool {
    address.starts_with('/')
        && address
            .rsplit_once("/p2p/")
            .is_some_and(|(_, peer)| PeerId::parse(peer).is_ok_and(|id| id.to_text() == peer))
}

impl Descriptor {
    /// The desk of this name.
    pub fn desk(&self, id: &DeskId) -> Option<&Desk> {
        self.desks.iter().find(|desk| desk.id == *id)
    }
}
