//! Seeds, keys, peer ids and agencies (`spec/documents.md`, section 2).

use serde_json::json;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{AgencyId, PeerId, Seed};

use super::super::cast::{Cast, small_order};
use super::super::raw::hex;
use super::super::verify::{Case, bytes, fixed, lacks, text};
use super::super::{Facts, Vectors, fields};

/// The file.
pub fn make() -> Result<Vectors, Fault> {
    let mut vectors = Vectors::new("documents", "identity", "spec/documents.md, section 2");
    vectors.format.extend([
        ("seed", "the device's 32 secret bytes"),
        ("label", "node, or citizen"),
        (
            "agency",
            "the agency's id, 32 bytes, where the label is citizen",
        ),
        ("secret", "the Ed25519 secret key of RFC 8032"),
        ("public", "the Ed25519 public key"),
        ("peer_id", "its libp2p text form"),
        ("root", "a root public key"),
        ("root_id", "the text form of its agency's id"),
    ]);
    vectors.verification = vec![
        "With seed and label: derive the secret by HKDF-SHA-256 with the salt `suora/1 seed` and as info the label's bytes, then the agency's; compare secret, public and peer_id.",
        "With root: compare root_id with its SHA-256.",
        "With peer_id alone: read it; compare public.",
        "With public alone: judge it as a key that somebody presents.",
    ];
    let cast = Cast::default();
    for byte in [5u8, 0xff] {
        let seed = [byte; 32];
        let node = Seed::from_bytes(seed).node_key();
        vectors.valid(
            &format!("node-key-{byte:02x}"),
            "an officer's key does not depend on the agency",
            json!({
                "seed": hex(&seed),
                "label": "node",
                "secret": hex(node.secret().as_slice()),
                "public": hex(node.peer_id().as_bytes()),
                "peer_id": node.peer_id().to_text(),
            }),
        );
    }
    for agency in [cast.agency(), AgencyId::from_bytes([9; 32])] {
        let key = cast.citizen.citizen_key(&agency);
        vectors.valid(
            &format!("citizen-key-at-{}", &agency.to_text()[..8]),
            "one person has another name at each agency",
            json!({
                "seed": hex(cast.citizen.as_bytes()),
                "label": "citizen",
                "agency": agency.to_text(),
                "secret": hex(key.secret().as_slice()),
                "public": hex(key.peer_id().as_bytes()),
                "peer_id": key.peer_id().to_text(),
            }),
        );
    }
    let root = cast.root.peer_id();
    vectors.valid(
        "agency",
        "an agency is the SHA-256 of its root public key",
        json!({"root": hex(root.as_bytes()), "root_id": AgencyId::of_root(&root).to_text()}),
    );
    let mut text = |name: &str, reason: &str, peer_id: &str| {
        vectors.invalid(name, Code::BadConfig, reason, json!({"peer_id": peer_id}));
    };
    text(
        "peer-id-of-rsa",
        "the hash of an RSA key",
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
    );
    let whole = root.to_text();
    text(
        "peer-id-cut-short",
        "the last letter is missing",
        &whole[..whole.len() - 1],
    );
    text(
        "peer-id-in-hexadecimal",
        "not base58",
        &hex(root.as_bytes()),
    );
    let mut key = |name: &str, code, reason: &str, public: &[u8]| {
        vectors.invalid(name, code, reason, json!({"public": hex(public)}));
    };
    key(
        "small-order-neutral",
        Code::BadSignature,
        "a key of small order signs everything",
        small_order().as_bytes(),
    );
    let mut order_two = [0xff; 32];
    order_two[0] = 0xec;
    order_two[31] = 0x7f;
    key(
        "small-order-two",
        Code::BadSignature,
        "the point of order two",
        &order_two,
    );
    let mut no_point = [0; 32];
    no_point[0] = 2;
    key(
        "no-point",
        Code::Malformed,
        "no point of the curve",
        &no_point,
    );
    let mut second_form = [0xff; 32];
    second_form[0] = 0xf0;
    second_form[31] = 0x7f;
    key(
        "key-in-another-form",
        Code::Malformed,
        "the point with y = 3, written as p + 3",
        &second_form,
    );
    vectors.invalid(
        "root-id-too-short",
        Code::BadConfig,
        "a root id is 64 hexadecimal digits",
        json!({"root_id": "00112233"}),
    );
    Ok(vectors)
}

/// Verifies a case.
pub fn verify(case: &Case) -> Result<Facts, Fault> {
    if case.contains_key("seed") {
        let seed = Seed::from_bytes(fixed(case, "seed")?);
        let key = match text(case, "label")? {
            "node" => seed.node_key(),
            "citizen" => seed.citizen_key(&AgencyId::from_bytes(fixed(case, "agency")?)),
            _ => return Err(lacks("label")),
        };
        return Ok(fields(json!({
            "secret": hex(key.secret().as_slice()),
            "public": hex(key.peer_id().as_bytes()),
            "peer_id": key.peer_id().to_text(),
        })));
    }
    if case.contains_key("root") {
        let root = PeerId::checked(fixed(case, "root")?)?;
        let id = AgencyId::of_root(&root);
        AgencyId::parse(&id.to_text())?;
        return Ok(fields(json!({"root_id": id.to_text()})));
    }
    if case.contains_key("root_id") {
        AgencyId::parse(text(case, "root_id")?)?;
    } else if case.contains_key("peer_id") {
        let id = PeerId::parse(text(case, "peer_id")?)?;
        return Ok(fields(json!({"public": hex(id.as_bytes())})));
    } else {
        let key: [u8; 32] = bytes(case, "public")?
            .try_into()
            .map_err(|_| lacks("public"))?;
        PeerId::checked(key)?;
    }
    Ok(Facts::new())
}
