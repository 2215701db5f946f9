//! An agency of the world: its keys from fixed seeds, its documents signed on the spot.

use std::time::Duration;

use bytes::Bytes;
use suora_protocol::documents::{
    self, Credential, Descriptor, Desk, DeskId, KeyUse, Names, Role, Signed, UseKey,
};
use suora_protocol::identity::{AgencyId, Hash, Key, PeerId};
use suora_protocol::time::Timestamp;

/// The desk that everybody goes to when nothing else is said.
pub const DESK: &str = "tax";

const DAY: Duration = Duration::from_secs(86_400);

/// The keys of an agency, and what it says of itself.
#[derive(Clone, Debug)]
pub struct Agency {
    /// Signs the descriptor.
    pub root: Key,
    /// Signs credentials.
    pub issuing: Key,
    /// The id of the issuing key in documents.
    pub issuing_id: String,
    /// Signs passes.
    pub pass: Key,
    /// The relay's.
    pub relay: Key,
    /// The page, before it is signed.
    pub page: Descriptor,
}

/// A desk's name that is known to fit.
pub fn desk(name: &str) -> DeskId {
    DeskId::new(name).unwrap_or_else(|fault| unreachable!("{fault}"))
}

fn key(seed: u8, use_: &str) -> Key {
    Key::from_secret(Hash::of(&[&[seed], use_.as_bytes()].concat()).as_bytes())
}

impl Agency {
    /// The agency of a seed, with the one desk [`DESK`].
    pub fn new(seed: u8, now: Timestamp) -> Self {
        let (root, issuing) = (key(seed, "root"), key(seed, "issuing"));
        let (pass, relay) = (key(seed, "pass"), key(seed, "relay"));
        let issuing_id = format!("issuing-{seed}");
        let names = |en: &str| Names {
            en: en.into(),
            ..Names::default()
        };
        let use_key = |id: &str, key: &Key, use_| UseKey {
            id: id.into(),
            key: key.peer_id(),
            use_,
            not_after: now + DAY * 365,
        };
        let page = Descriptor {
            agency: AgencyId::of_root(&root.peer_id()),
            root: root.peer_id(),
            names: names("Agency"),
            domain: "agency.example".into(),
            relays: vec![format!(
                "/dns4/relay.agency.example/udp/4433/quic-v1/p2p/{}",
                relay.peer_id().to_text()
            )],
            turn: Vec::new(),
            keys: vec![
                use_key(&issuing_id, &issuing, KeyUse::Issuing),
                use_key("pass", &pass, KeyUse::Pass),
            ],
            desks: vec![Desk::new(desk(DESK), names("Taxation"))],
            revoked: Vec::new(),
            sequence: 1,
            issued_at: now,
            not_after: now + DAY * 30,
            next_root: None,
        };
        Self {
            root,
            issuing,
            issuing_id,
            pass,
            relay,
            page,
        }
    }

    /// Its id.
    pub const fn id(&self) -> AgencyId {
        self.page.agency
    }

    /// Its signed page.
    pub fn descriptor(&self) -> Signed<Descriptor> {
        documents::sign(&self.page, &self.root).unwrap_or_else(|fault| unreachable!("{fault}"))
    }

    /// What a credential of an officer at [`DESK`] says: a week from now.
    pub fn officer(&self, peer: PeerId, now: Timestamp) -> Credential {
        Credential {
            agency: self.id(),
            peer,
            role: Role::Officer,
            desks: vec![desk(DESK)],
            name: "Otto Officer".into(),
            key: self.issuing_id.clone(),
            issued_at: now,
            not_before: now,
            not_after: now + DAY * 7,
        }
    }

    /// Lists another issuing key on the next page, and signs by it from now on.
    pub fn take_issuing(&mut self, issuing: Key, now: Timestamp) {
        let id = "issuing-next";
        self.page.keys.push(UseKey {
            id: id.into(),
            key: issuing.peer_id(),
            use_: KeyUse::Issuing,
            not_after: now + DAY,
        });
        self.page.sequence += 1;
        (self.issuing, self.issuing_id) = (issuing, id.into());
    }

    /// A signed credential of an officer at [`DESK`].
    pub fn issue_officer(&self, peer: PeerId, now: Timestamp) -> Bytes {
        self.issue(&self.officer(peer, now))
    }

    /// Signs a credential by the issuing key.
    pub fn issue(&self, credential: &Credential) -> Bytes {
        documents::sign(credential, &self.issuing)
            .unwrap_or_else(|fault| unreachable!("{fault}"))
            .bytes()
            .clone()
    }
}
