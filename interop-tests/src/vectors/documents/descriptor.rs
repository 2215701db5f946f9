//! The descriptor (`spec/documents.md`, section 4).

use serde_json::json;
use suora_protocol::documents::{self, Descriptor, UseKey};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{AgencyId, Hash};

use super::super::cast::{Cast, DAY, NOW, at, small_order};
use super::super::raw::{self, Envelope, array, bstr, hex};
use super::super::{Vectors, fields};
use super::{and, describe, forms, only, whole};

const SCHEMA: [&str; 2] = ["signed-descriptor", "descriptor"];

/// The file.
pub fn make() -> Result<Vectors, Fault> {
    let cast = Cast::default();
    let mut vectors = Vectors::new("documents", "descriptor", "spec/documents.md, section 4");
    describe(&mut vectors);
    vectors.format.extend([
        ("root", "the root id that the verifier trusts"),
        (
            "known",
            "the signed descriptor that the verifier holds already, if any",
        ),
        (
            "trusted_at",
            "when the verifier verified the one that it holds",
        ),
        ("sequence", "as verified"),
        ("agency", "as verified"),
    ]);
    vectors.verification = vec![
        "Verify document as a descriptor under root at now; where known is given, as its successor.",
        "Compare hash, sequence and agency.",
    ];
    vectors.parameters = fields(json!({
        "root": cast.agency().to_text(),
        "now": NOW,
        "trusted_at": NOW,
    }));
    let page = cast.descriptor()?;
    valid(&mut vectors, &cast, &page)?;
    forms::add(
        &mut vectors,
        forms::Form {
            kind: "descriptor",
            payload: &documents::encode(&page)?,
            key: &cast.root,
            stranger: &cast.stranger,
            field: "domain",
        },
    )?;
    trust(&mut vectors, &cast, &page)?;
    times(&mut vectors, &cast, &page)?;
    contents(&mut vectors, &cast, &page)?;
    Ok(vectors)
}

fn valid(vectors: &mut Vectors, cast: &Cast, page: &Descriptor) -> Result<(), Fault> {
    let root = &cast.root;
    let first = and(
        whole(page, root, SCHEMA)?,
        json!({"sequence": 7, "agency": cast.agency().to_text()}),
    );
    vectors.valid("good", "the descriptor of all other vectors", first);
    let mut least = page.clone();
    least.relays.clear();
    least.keys.clear();
    least.desks.clear();
    least.next_root = Some(Hash::of(cast.stranger.peer_id().as_bytes()));
    vectors.valid(
        "empty-lists",
        "lists may be empty; the next root key is named",
        whole(&least, root, SCHEMA)?,
    );
    let mut next = page.clone();
    next.sequence = 8;
    next.revoked = vec![cast.colleague.peer_id()];
    let known = only(page, root)?;
    vectors.valid(
        "successor",
        "a higher sequence than the known one",
        and(
            whole(&next, root, SCHEMA)?,
            json!({"known": known["document"]}),
        ),
    );
    vectors.valid(
        "same-again",
        "the same bytes as the known one",
        and(only(page, root)?, json!({"known": known["document"]})),
    );
    for (name, comment, now) in [
        (
            "clock-behind",
            "the clock is five minutes behind issued_at",
            NOW - DAY - 300,
        ),
        (
            "clock-ahead",
            "the clock is five minutes past not_after",
            NOW + 29 * DAY + 300,
        ),
    ] {
        vectors.valid(name, comment, and(only(page, root)?, json!({"now": now})));
    }
    Ok(())
}

fn trust(vectors: &mut Vectors, cast: &Cast, page: &Descriptor) -> Result<(), Fault> {
    let root = &cast.root;
    let document = only(page, root)?;
    vectors.invalid(
        "another-agency",
        Code::WrongAgency,
        "a good descriptor of another agency than the trusted root id",
        and(
            document.clone(),
            json!({"root": AgencyId::from_bytes([9; 32]).to_text()}),
        ),
    );
    let mut claims = page.clone();
    claims.agency = AgencyId::from_bytes([9; 32]);
    vectors.invalid(
        "agency-is-not-the-root",
        Code::WrongAgency,
        "agency is not the SHA-256 of root",
        only(&claims, root)?,
    );
    vectors.invalid(
        "signed-by-the-issuing-key",
        Code::BadSignature,
        "only the root key signs descriptors",
        only(page, &cast.issuing)?,
    );
    // Under a key of small order, R = the neutral element and S = 0 sign every message.
    let payload = raw::with(
        &documents::encode(page)?,
        "root",
        ciborium::Value::Bytes(small_order().as_bytes().to_vec()),
    )?;
    let envelope = Envelope::new("descriptor", payload);
    let signature = [small_order().as_bytes().as_slice(), &[0; 32]].concat();
    let bytes = array(&[
        bstr(&envelope.protected),
        envelope.unprotected.clone(),
        bstr(&envelope.payload),
        bstr(&signature),
    ]);
    vectors.invalid(
        "small-order-root",
        Code::BadSignature,
        "the root key is of small order, and its signature fits every message",
        json!({
            "document": hex(&bytes),
            "root": AgencyId::of_root(&small_order()).to_text(),
        }),
    );
    let mut older = page.clone();
    older.sequence = 6;
    vectors.invalid(
        "lower-sequence",
        Code::LowerSequence,
        "a lower sequence than the known one",
        and(only(&older, root)?, json!({"known": document["document"]})),
    );
    let mut twin = page.clone();
    twin.domain = "tax2.example".into();
    vectors.invalid(
        "equivocation",
        Code::Equivocation,
        "the known one's sequence with other bytes",
        and(only(&twin, root)?, json!({"known": document["document"]})),
    );
    Ok(())
}

fn times(vectors: &mut Vectors, cast: &Cast, page: &Descriptor) -> Result<(), Fault> {
    let root = &cast.root;
    for (name, code, reason, now) in [
        (
            "not-yet-valid",
            Code::NotYetValid,
            "the clock is more than five minutes behind issued_at",
            NOW - DAY - 301,
        ),
        (
            "expired",
            Code::Expired,
            "the clock is more than five minutes past not_after",
            NOW + 29 * DAY + 301,
        ),
    ] {
        vectors.invalid(
            name,
            code,
            reason,
            and(only(page, root)?, json!({"now": now})),
        );
    }
    let mut long = page.clone();
    long.not_after = at(29 * DAY + 1);
    vectors.invalid(
        "too-long",
        Code::Malformed,
        "valid for more than 30 days",
        only(&long, root)?,
    );
    let mut backwards = page.clone();
    backwards.not_after = at(-DAY - 1);
    vectors.invalid(
        "backwards",
        Code::Malformed,
        "not_after lies before issued_at",
        only(&backwards, root)?,
    );
    let late = raw::with(&documents::encode(page)?, "not_after", 253_402_300_800_i64)?;
    vectors.invalid(
        "year-10000",
        Code::Malformed,
        "a time after the year 9999",
        json!({"document": hex(&Envelope::new("descriptor", late).sign(root))}),
    );
    Ok(())
}

fn contents(vectors: &mut Vectors, cast: &Cast, page: &Descriptor) -> Result<(), Fault> {
    let mut refuse = |name: &str, reason: &str, change: &dyn Fn(&mut Descriptor)| {
        let mut changed = page.clone();
        change(&mut changed);
        vectors.invalid(name, Code::Malformed, reason, only(&changed, &cast.root)?);
        Ok::<(), Fault>(())
    };
    refuse(
        "relay-without-peer-id",
        "a relay's address does not end in /p2p/ and a peer id",
        &|page| {
            page.relays[0] = "/ip4/192.0.2.1/tcp/4433".into();
        },
    )?;
    refuse(
        "relay-with-another-kind-of-key",
        "a relay's peer id is not of an Ed25519 key",
        &|page| {
            page.relays[0] =
                "/ip4/192.0.2.1/tcp/4433/p2p/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG".into();
        },
    )?;
    refuse("nine-relays", "more relays than the bound", &|page| {
        page.relays = vec![page.relays[0].clone(); 9];
    })?;
    refuse("seventeen-keys", "more keys than the bound", &|page| {
        page.keys = (0..17)
            .map(|n| UseKey {
                id: format!("key-{n}"),
                ..page.keys[0].clone()
            })
            .collect();
    })?;
    refuse("key-id-twice", "two keys of one id", &|page| {
        page.keys[1].id = page.keys[0].id.clone();
    })?;
    refuse(
        "small-order-issuing-key",
        "a key of small order among the agency's keys",
        &|page| {
            page.keys[0].key = small_order();
        },
    )?;
    refuse("desk-twice", "two desks of one id", &|page| {
        page.desks[1].id = page.desks[0].id.clone();
    })?;
    refuse("long-name", "a name of 257 bytes", &|page| {
        page.names.sv = "a".repeat(257);
    })?;
    refuse("long-desk-name", "a desk's name of 257 bytes", &|page| {
        page.desks[0].names.fi = "a".repeat(257);
    })?;
    refuse("many-languages", "a desk of 33 languages", &|page| {
        page.desks[0].languages = vec!["fi".into(); 33];
    })?;
    let payload = documents::encode(page)?;
    let desk = |id: &str| -> Result<ciborium::Value, Fault> {
        let mut page = page.clone();
        page.desks.truncate(1);
        let value = ciborium::Value::serialized(&page.desks[0])
            .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))?;
        let ciborium::Value::Map(mut entries) = value else {
            return Ok(value);
        };
        for (key, value) in &mut entries {
            if key.as_text() == Some("id") {
                *value = id.into();
            }
        }
        Ok(ciborium::Value::Array(vec![ciborium::Value::Map(entries)]))
    };
    let payload = raw::with(&payload, "desks", desk("Tax!")?)?;
    vectors.invalid(
        "bad-desk-id",
        Code::Malformed,
        "a desk's id holds more than a to z, 0 to 9 and -",
        json!({"document": hex(&Envelope::new("descriptor", payload).sign(&cast.root))}),
    );
    Ok(())
}
