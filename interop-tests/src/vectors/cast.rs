//! The people, keys and documents of all vectors, from fixed seeds.

use serde_json::{Value, json};
use suora_protocol::documents::chain::ALPN;
use suora_protocol::documents::{
    self, Challenge, ConsultationId, Credential, Dcid, Descriptor, DescriptorRef, Desk, DeskId,
    Document, Hello, Invite, KeyUse, Names, Nonce, Role, SessionId, Signed, TicketId, UseKey,
    Welcome,
};
use suora_protocol::fault::Fault;
use suora_protocol::identity::{AgencyId, Hash, Key, PeerId, Seed};
use suora_protocol::time::Timestamp;

use super::raw::hex;

/// 2027-01-15T08:00:00Z, the moment at which all cases are verified unless they say otherwise.
pub const NOW: i64 = 1_800_000_000;
/// A day, in seconds.
pub const DAY: i64 = 86_400;

/// A moment, in seconds from [`NOW`].
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(NOW + seconds)
}

/// All keys.
#[derive(Debug)]
pub struct Cast {
    /// Signs descriptors.
    pub root: Key,
    /// Signs credentials.
    pub issuing: Key,
    /// Signs passes for citizens, nothing else.
    pub pass: Key,
    /// The relay's identity.
    pub relay: Key,
    /// The officer's node.
    pub officer: Key,
    /// Another officer of the agency.
    pub colleague: Key,
    /// A key that the agency knows nothing of.
    pub stranger: Key,
    /// The citizen's device.
    pub citizen: Seed,
}

fn key(byte: u8) -> Key {
    Key::from_secret(&[byte; 32])
}

impl Default for Cast {
    fn default() -> Self {
        Self {
            root: key(1),
            issuing: key(2),
            pass: key(3),
            relay: key(4),
            officer: Seed::from_bytes([5; 32]).node_key(),
            colleague: Seed::from_bytes([6; 32]).node_key(),
            stranger: key(7),
            citizen: Seed::from_bytes([8; 32]),
        }
    }
}

/// The desk of all cases.
pub fn desk(text: &str) -> Result<DeskId, Fault> {
    DeskId::new(text)
}

impl Cast {
    /// The agency.
    pub fn agency(&self) -> AgencyId {
        AgencyId::of_root(&self.root.peer_id())
    }

    /// The citizen's key at the agency.
    pub fn guest(&self) -> Key {
        self.citizen.citizen_key(&self.agency())
    }

    /// The descriptor, sequence 7.
    pub fn descriptor(&self) -> Result<Descriptor, Fault> {
        let names = |en: &str, fi: &str, sv: &str| Names {
            en: en.into(),
            fi: fi.into(),
            sv: sv.into(),
        };
        let mut hidden = Desk::new(
            desk("guardianship")?,
            names("Guardianship", "Edunvalvonta", "Intressebevakning"),
        );
        hidden.kind = "S1".into();
        hidden.require_pq = true;
        hidden.sensitive = true;
        let key = |id: &str, use_, key: &Key| UseKey {
            id: id.into(),
            key: key.peer_id(),
            use_,
            not_after: at(365 * DAY),
        };
        let relay = self.relay.peer_id().to_text();
        Ok(Descriptor {
            agency: self.agency(),
            root: self.root.peer_id(),
            names: names("Tax Office", "Verotoimisto", "Skattebyrån"),
            domain: "tax.example".into(),
            relays: vec![
                format!("/dns/relay.tax.example/udp/4433/quic-v1/p2p/{relay}"),
                format!("/ip4/192.0.2.1/tcp/4433/p2p/{relay}"),
            ],
            turn: vec![
                "turn:192.0.2.1:443?transport=udp".into(),
                "turns:relay.tax.example:443?transport=tcp".into(),
            ],
            keys: vec![
                key("issuing-1", KeyUse::Issuing, &self.issuing),
                key("pass-1", KeyUse::Pass, &self.pass),
            ],
            desks: vec![
                Desk::new(desk("tax")?, names("Taxation", "Verotus", "Beskattning")),
                hidden,
            ],
            revoked: Vec::new(),
            sequence: 7,
            issued_at: at(-DAY),
            not_after: at(29 * DAY),
            next_root: None,
        })
    }

    /// The officer's credential, for a week.
    pub fn credential(&self) -> Result<Credential, Fault> {
        Ok(Credential {
            agency: self.agency(),
            peer: self.officer.peer_id(),
            role: Role::Officer,
            desks: vec![desk("tax")?],
            name: "Oona Officer".into(),
            key: "issuing-1".into(),
            issued_at: at(-3_600),
            not_before: at(-3_600),
            not_after: at(7 * DAY - 3_600),
        })
    }

    /// The officer's invite for the citizen.
    pub fn invite(&self) -> Result<Invite, Fault> {
        let descriptor = sign(&self.descriptor()?, &self.root)?;
        let credential = sign(&self.credential()?, &self.issuing)?;
        Ok(Invite {
            agency: self.agency(),
            desk: desk("tax")?,
            ticket: ticket(),
            consultation: ConsultationId::from_bytes([0x12; 16]),
            session: SessionId::from_bytes([0x13; 16]),
            nonce: Nonce::from_bytes([0x14; 32]),
            guest: self.guest().peer_id(),
            challenge: challenge(),
            role: Role::Citizen,
            fingerprint: Hash::from_bytes([0x15; 32]),
            dcid: Dcid::from_bytes([0x16; 20]),
            versions: vec![ALPN.into()],
            addresses: vec!["192.0.2.10:40000".into(), "[2001:db8::10]:40000".into()],
            address_policy: documents::AddressPolicy::Open,
            require_pq: false,
            descriptor: DescriptorRef {
                sequence: 7,
                hash: descriptor.hash(),
            },
            previous: None,
            credential: credential.bytes().to_vec(),
            issued_at: at(0),
            not_after: at(120),
        })
    }

    /// The citizen's hello in answer to the invite.
    pub fn hello(&self) -> Result<Hello, Fault> {
        let invite = self.invite()?;
        Ok(Hello {
            descriptor: invite.descriptor,
            invite: sign(&invite, &self.officer)?.hash(),
            binding: binding(),
            alpn: ALPN.into(),
        })
    }

    /// The officer's welcome in answer to the hello.
    pub fn welcome(&self) -> Result<Welcome, Fault> {
        Ok(Welcome {
            invite: sign(&self.invite()?, &self.officer)?.hash(),
            binding: binding(),
            hello: sign(&self.hello()?, &self.guest())?.hash(),
        })
    }

    /// What the citizen waits for: the parameters of an invite's verification.
    pub fn expected(&self) -> Value {
        json!({
            "desk": "tax",
            "ticket": ticket().to_hex(),
            "guest": hex(self.guest().peer_id().as_bytes()),
            "challenge": challenge().to_hex(),
        })
    }
}

/// The citizen's ticket.
pub const fn ticket() -> TicketId {
    TicketId::from_bytes([0x10; 16])
}

/// The challenge of the citizen's join.
pub const fn challenge() -> Challenge {
    Challenge::from_bytes([0x11; 16])
}

/// The exporter's bytes of the connection.
pub const fn binding() -> Hash {
    Hash::from_bytes([0x17; 32])
}

/// Signs by the library.
pub fn sign<T: Document>(document: &T, key: &Key) -> Result<Signed<T>, Fault> {
    documents::sign(document, key)
}

/// A key of small order: the neutral element.
pub fn small_order() -> PeerId {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    PeerId::from_bytes(bytes)
}
