//! An agency of the tests: its keys, its descriptor, its officers' credentials.

use suora_protocol::documents::{
    self, Credential, Descriptor, Desk, DeskId, KeyUse, Names, Role, Signed, UseKey, Verified,
    chain,
};
use suora_protocol::identity::{AgencyId, Key};
use suora_protocol::time::Timestamp;

/// When all tests begin.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_795_600_000);
const DAY: i64 = 86_400;

/// A key that a number names.
pub(crate) fn key(number: u8) -> Key {
    Key::from_secret(&[number; 32])
}

/// The key of an officer.
pub(crate) fn officer_key(number: u8) -> Key {
    key(100 + number)
}

pub(crate) fn desk(id: &str) -> DeskId {
    DeskId::new(id).unwrap()
}

fn days(from: Timestamp, days: i64) -> Timestamp {
    Timestamp::from_secs(from.as_secs() + days * DAY)
}

pub(crate) struct Agency {
    pub(crate) root: Key,
    pub(crate) issuing: Key,
    pub(crate) page: Descriptor,
}

impl Agency {
    /// Two desks, `tax` and `job`, with the default grace of 120 s.
    pub(crate) fn new() -> Self {
        let (root, issuing) = (key(1), key(2));
        let page = Descriptor {
            agency: AgencyId::of_root(&root.peer_id()),
            root: root.peer_id(),
            names: Names::default(),
            domain: "agency.example".into(),
            relays: Vec::new(),
            turn: Vec::new(),
            keys: vec![UseKey {
                id: "issuing-1".into(),
                key: issuing.peer_id(),
                use_: KeyUse::Issuing,
                not_after: days(START, 30),
            }],
            desks: ["tax", "job"]
                .map(|id| Desk::new(desk(id), Names::default()))
                .to_vec(),
            revoked: Vec::new(),
            sequence: 1,
            issued_at: START,
            not_after: days(START, 30),
            next_root: None,
        };
        Self {
            root,
            issuing,
            page,
        }
    }

    /// The page as it stands, signed and verified.
    pub(crate) fn descriptor(&self) -> Verified<Descriptor> {
        let signed = documents::sign(&self.page, &self.root).unwrap();
        chain::descriptor_as_given(&signed, START).unwrap()
    }

    /// What an officer's credential says: at both desks, for seven days.
    pub(crate) fn claim(&self, officer: &Key) -> Credential {
        Credential {
            agency: self.page.agency,
            peer: officer.peer_id(),
            role: Role::Officer,
            desks: vec![desk("tax"), desk("job")],
            name: "Officer".into(),
            key: "issuing-1".into(),
            issued_at: START,
            not_before: START,
            not_after: days(START, 7),
        }
    }

    /// The bytes of a credential.
    pub(crate) fn sign(&self, claim: &Credential) -> Vec<u8> {
        let signed: Signed<Credential> = documents::sign(claim, &self.issuing).unwrap();
        signed.bytes().to_vec()
    }

    pub(crate) fn credential(&self, officer: &Key) -> Vec<u8> {
        self.sign(&self.claim(officer))
    }
}
