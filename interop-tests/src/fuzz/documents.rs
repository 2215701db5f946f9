//! Signed documents, from their envelope to their last field.

use std::sync::OnceLock;

use ciborium::Value;
use suora_node::fetch::Agency;
use suora_protocol::documents::chain::{self, ALPN, InviteExpected, Invited};
use suora_protocol::documents::{
    self, Credential, Descriptor, DeskId, Document, Hello, Invite, Signed, Verified, Welcome,
};
use suora_protocol::fault::Fault;
use suora_protocol::identity::{AgencyId, Hash, Key, PeerId};
use suora_protocol::limits;

use crate::vectors::cast::{Cast, at, binding, challenge, ticket};

/// Whatever is taken is deterministic: there is no second way to write it.
pub fn cbor(bytes: &[u8]) {
    let Ok(value) = documents::decode::<Value>(bytes) else {
        return;
    };
    let mut again = Vec::new();
    ciborium::into_writer(&value, &mut again).expect("a value that was read can be written");
    assert_eq!(again, bytes, "two ways to write one item");
}

/// What all bodies here verify against.
struct Stage {
    cast: Cast,
    descriptor: Verified<Descriptor>,
    invited: Invited,
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let cast = Cast::default();
        let signed = documents::sign(&cast.descriptor().expect("cast"), &cast.root).expect("cast");
        let descriptor = chain::descriptor_as_given(&signed, at(0)).expect("cast");
        let invite = documents::sign(&cast.invite().expect("cast"), &cast.officer).expect("cast");
        let invited = chain::own_invite(&invite, &descriptor, at(0)).expect("cast");
        Stage {
            cast,
            descriptor,
            invited,
        }
    })
}

fn expected() -> InviteExpected {
    InviteExpected {
        desk: stage().invited.invite.desk.clone(),
        ticket: ticket(),
        guest: stage().cast.guest().peer_id(),
        challenge: challenge(),
    }
}

/// Envelopes that nobody signed verify as no kind of document, in bounded time.
pub fn document(bytes: &[u8]) {
    let stage = stage();
    fn form<T: Document>(bytes: &[u8]) -> Option<Signed<T>> {
        let signed = Signed::from_bytes(bytes.to_vec()).ok()?;
        assert!(bytes.len() <= limits::DOCUMENT_MAX);
        Some(signed)
    }
    if let Some(signed) = form::<Descriptor>(bytes) {
        // only the root could have signed this one
        if let Ok(page) = chain::descriptor(&signed, &stage.cast.agency(), at(0), None) {
            assert_eq!(page.root, stage.cast.root.peer_id());
        }
        let _ = chain::descriptor_as_given(&signed, at(0));
    }
    if let Some(signed) = form::<Credential>(bytes) {
        let _ = chain::credential(&signed, &stage.descriptor, at(0));
    }
    if let Some(signed) = form::<Invite>(bytes) {
        let _ = chain::invite(&signed, &stage.descriptor, &expected(), at(0));
    }
    if let Some(signed) = form::<Hello>(bytes) {
        let _ = chain::hello(&signed, &stage.invited, &binding(), ALPN, &stage.descriptor);
    }
    if let Some(signed) = form::<Welcome>(bytes) {
        let hash = Hash::of(b"hello");
        let _ = chain::welcome(&signed, &stage.invited, &hash, &hash);
    }
}

fn signed<T: Document>(payload: &[u8], key: &Key) -> Option<Signed<T>> {
    documents::sign_payload(payload.to_vec(), key).ok()
}

/// What a verifier takes stays within all bounds, and means the same when it is written again.
pub fn payload(bytes: &[u8]) {
    let stage = stage();
    let Some((kind, payload)) = bytes.split_first() else {
        return;
    };
    match kind % 3 {
        0 => {
            let Some(signed) = signed::<Descriptor>(payload, &stage.cast.root) else {
                return;
            };
            if let Ok(page) = chain::descriptor_as_given(&signed, at(0)) {
                assert!(page.relays.len() <= limits::RELAYS_MAX);
                assert!(page.desks.len() <= limits::DESKS_MAX);
                assert!(page.keys.len() <= limits::KEYS_MAX);
                assert!(page.revoked.len() <= limits::REVOKED_MAX);
                assert!(page.domain.len() <= limits::TEXT_MAX);
                again(&*page);
            }
        }
        1 => {
            let Some(signed) = signed::<Credential>(payload, &stage.cast.issuing) else {
                return;
            };
            if let Ok(credential) = chain::credential(&signed, &stage.descriptor, at(0)) {
                assert!(credential.name.len() <= limits::TEXT_MAX);
                again(&*credential);
            }
        }
        _ => {
            let Some(signed) = signed::<Invite>(payload, &stage.cast.officer) else {
                return;
            };
            if let Ok(invited) = chain::own_invite(&signed, &stage.descriptor, at(0)) {
                assert!(invited.invite.addresses.len() <= limits::ADDRESSES_MAX);
                again(&*invited.invite);
            }
            let _ = chain::invite(&signed, &stage.descriptor, &expected(), at(0));
        }
    }
}

/// Whole payloads of each kind, for [`payload`] behind its number.
pub fn examples(target: &str) -> Result<Vec<Vec<u8>>, Fault> {
    let cast = Cast::default();
    Ok(match target {
        "payload" => vec![
            [vec![0], documents::encode(&cast.descriptor()?)?].concat(),
            [vec![1], documents::encode(&cast.credential()?)?].concat(),
            [vec![2], documents::encode(&cast.invite()?)?].concat(),
        ],
        "hello" => vec![
            documents::encode(&cast.hello()?)?,
            documents::encode(&cast.welcome()?)?,
        ],
        _ => Vec::new(),
    })
}

/// A document that was read can be written, and is then read as the same.
fn again<T: Document + serde::Serialize + serde::de::DeserializeOwned>(document: &T) {
    let written = documents::encode(document).expect("a document that was read can be written");
    let read: T = documents::decode(&written).expect("and read again");
    assert_eq!(documents::encode(&read).ok(), Some(written));
}

/// Proofs of both ends.
pub fn hello(bytes: &[u8]) {
    let stage = stage();
    let binding = binding();
    if let Some(signed) = signed::<Hello>(bytes, &stage.cast.guest())
        && let Ok(hello) = chain::hello(&signed, &stage.invited, &binding, ALPN, &stage.descriptor)
    {
        assert_eq!(hello.invite, stage.invited.invite.hash());
        assert_eq!(hello.binding, binding);
        again(&*hello);
    }
    if let Some(signed) = signed::<Welcome>(bytes, &stage.cast.officer) {
        let hash = Hash::of(b"hello");
        if let Ok(welcome) = chain::welcome(&signed, &stage.invited, &hash, &binding) {
            assert_eq!(welcome.binding, binding);
            again(&*welcome);
        }
    }
}

/// Names that people and documents write; what is taken is written in one way only.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(peer) = PeerId::parse(text) {
        assert_eq!(peer.to_text(), text.trim(), "two ways to write one peer id");
        assert!(PeerId::checked(*peer.as_bytes()).is_ok());
    }
    if let Ok(agency) = AgencyId::parse(text) {
        assert_eq!(AgencyId::parse(&agency.to_text()).ok(), Some(agency));
    }
    if let Ok(desk) = DeskId::new(text) {
        assert_eq!(desk.as_str(), text);
    }
    if let Ok(Agency::Url { url, root }) = text.parse::<Agency>() {
        let is_proven = url.scheme_str() == Some("https") || root.is_some();
        assert!(is_proven, "an address that proves nothing");
    }
}
