//! The credential (`spec/documents.md`, section 5).

use serde_json::json;
use suora_protocol::documents::{self, Credential, Role};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{AgencyId, Key};

use super::super::cast::{Cast, DAY, NOW, at, desk, sign, small_order};
use super::super::raw::{self, Envelope, hex};
use super::super::{Vectors, fields};
use super::{and, describe, forms, only, whole};

const SCHEMA: [&str; 2] = ["signed-credential", "credential"];

/// The file.
pub fn make() -> Result<Vectors, Fault> {
    let cast = Cast::default();
    let mut vectors = Vectors::new("documents", "credential", "spec/documents.md, section 5");
    describe(&mut vectors);
    vectors.format.extend([
        ("descriptor", "the signed descriptor that the verifier trusts"),
        ("trusted_at", "when the verifier verified it"),
        ("desk", "the desk at which the bearer wants to serve as an officer; null: only the credential is judged"),
        ("peer", "the bearer's public key, as the transport proved it"),
        ("peer_id", "of whom it speaks, as verified"),
        ("shown", "the name that citizens see, as verified"),
    ]);
    vectors.verification = vec![
        "Verify document as a credential under descriptor at now; where desk is given, that it lets peer serve that desk as an officer.",
        "Compare hash, peer_id and shown.",
    ];
    let descriptor = sign(&cast.descriptor()?, &cast.root)?;
    vectors.parameters = fields(json!({
        "descriptor": hex(descriptor.bytes()),
        "trusted_at": NOW,
        "now": NOW,
        "desk": "tax",
        "peer": hex(cast.officer.peer_id().as_bytes()),
    }));
    let good = cast.credential()?;
    let issuing = &cast.issuing;
    vectors.valid(
        "officer",
        "the officer's credential of all other vectors",
        and(
            whole(&good, issuing, SCHEMA)?,
            json!({"peer_id": cast.officer.peer_id().to_text(), "shown": "Oona Officer"}),
        ),
    );
    let mut partner = good.clone();
    partner.role = Role::Interpreter;
    vectors.valid(
        "interpreter",
        "a partner's credential: good, though not to serve a desk",
        and(whole(&partner, issuing, SCHEMA)?, json!({"desk": null})),
    );
    for (name, comment, now) in [
        (
            "clock-behind",
            "the clock is five minutes behind not_before",
            NOW - 3_900,
        ),
        (
            "clock-ahead",
            "the clock is five minutes past not_after",
            NOW + 7 * DAY - 3_300,
        ),
    ] {
        vectors.valid(
            name,
            comment,
            and(only(&good, issuing)?, json!({"now": now})),
        );
    }
    forms::add(
        &mut vectors,
        forms::Form {
            kind: "credential",
            payload: &documents::encode(&good)?,
            key: issuing,
            stranger: &cast.stranger,
            field: "role",
        },
    )?;
    signers(&mut vectors, &cast, &good)?;
    claims(&mut vectors, &cast, &good)?;
    Ok(vectors)
}

fn signers(vectors: &mut Vectors, cast: &Cast, good: &Credential) -> Result<(), Fault> {
    let mut refuse = |name: &str, code, reason: &str, id: &str, key: &Key| {
        let credential = Credential {
            key: id.into(),
            ..good.clone()
        };
        vectors.invalid(name, code, reason, only(&credential, key)?);
        Ok::<(), Fault>(())
    };
    refuse(
        "signed-by-the-pass-key",
        Code::WrongSigner,
        "a relay's pass key makes no officers",
        "pass-1",
        &cast.pass,
    )?;
    refuse(
        "pass-key-as-issuing-key",
        Code::BadSignature,
        "the pass key signed and claims to be the issuing key",
        "issuing-1",
        &cast.pass,
    )?;
    refuse(
        "issuing-key-as-pass-key",
        Code::BadSignature,
        "the issuing key signed and is named as the pass key",
        "pass-1",
        &cast.issuing,
    )?;
    refuse(
        "unlisted-key",
        Code::BadSignature,
        "the descriptor lists no key of this id",
        "issuing-2",
        &cast.issuing,
    )?;
    refuse(
        "signed-by-the-root",
        Code::BadSignature,
        "the root signs descriptors only",
        "issuing-1",
        &cast.root,
    )?;
    refuse(
        "signed-by-the-relay",
        Code::BadSignature,
        "the relay's key signs nothing",
        "issuing-1",
        &cast.relay,
    )?;
    refuse(
        "signed-by-its-bearer",
        Code::BadSignature,
        "an officer cannot make itself one",
        "issuing-1",
        &cast.officer,
    )?;
    let mut page = cast.descriptor()?;
    page.keys[0].not_after = at(-301);
    vectors.invalid(
        "issuing-key-expired",
        Code::Expired,
        "the issuing key's own end has passed",
        and(
            only(good, &cast.issuing)?,
            json!({"descriptor": only(&page, &cast.root)?["document"]}),
        ),
    );
    let mut page = cast.descriptor()?;
    page.revoked = vec![cast.officer.peer_id()];
    vectors.invalid(
        "revoked",
        Code::Revoked,
        "the descriptor revokes the bearer",
        and(
            only(good, &cast.issuing)?,
            json!({"descriptor": only(&page, &cast.root)?["document"]}),
        ),
    );
    Ok(())
}

fn claims(vectors: &mut Vectors, cast: &Cast, good: &Credential) -> Result<(), Fault> {
    let mut refuse = |name: &str, code, reason: &str, change: &dyn Fn(&mut Credential)| {
        let mut changed = good.clone();
        change(&mut changed);
        vectors.invalid(name, code, reason, only(&changed, &cast.issuing)?);
        Ok::<(), Fault>(())
    };
    let other = desk("guardianship")?;
    refuse(
        "another-agency",
        Code::WrongAgency,
        "it speaks for another agency",
        &|c| c.agency = AgencyId::from_bytes([9; 32]),
    )?;
    refuse(
        "citizen",
        Code::WrongRole,
        "no credential makes a citizen",
        &|c| c.role = Role::Citizen,
    )?;
    refuse(
        "partner-at-a-desk",
        Code::WrongRole,
        "an interpreter does not serve a desk",
        &|c| c.role = Role::Interpreter,
    )?;
    refuse(
        "another-desk",
        Code::WrongDesk,
        "it is of another desk",
        &|c| c.desks = vec![other.clone()],
    )?;
    refuse("no-desk", Code::WrongDesk, "it is of no desk", &|c| {
        c.desks.clear()
    })?;
    refuse(
        "another-bearer",
        Code::WrongSigner,
        "it speaks of another node than the one that shows it",
        &|c| c.peer = cast.colleague.peer_id(),
    )?;
    refuse(
        "small-order-bearer",
        Code::Malformed,
        "it speaks of a key of small order",
        &|c| c.peer = small_order(),
    )?;
    refuse("nameless", Code::Malformed, "an empty name", &|c| {
        c.name.clear()
    })?;
    refuse("long-name", Code::Malformed, "a name of 257 bytes", &|c| {
        c.name = "a".repeat(257)
    })?;
    refuse(
        "too-long",
        Code::Malformed,
        "valid for more than 30 days",
        &|c| c.not_after = at(30 * DAY - 3_599),
    )?;
    refuse(
        "backwards",
        Code::Malformed,
        "not_after lies before not_before",
        &|c| c.not_after = at(-3_601),
    )?;
    let many: Vec<_> = (0..257)
        .map(|n| desk(&format!("d{n}")))
        .collect::<Result<_, _>>()?;
    refuse(
        "many-desks",
        Code::Malformed,
        "more desks than the bound",
        &|c| c.desks.clone_from(&many),
    )?;
    for (name, code, reason, now) in [
        (
            "not-yet-valid",
            Code::NotYetValid,
            "the clock is more than five minutes behind not_before",
            NOW - 3_901,
        ),
        (
            "expired",
            Code::Expired,
            "the clock is more than five minutes past not_after",
            NOW + 7 * DAY - 3_299,
        ),
    ] {
        vectors.invalid(
            name,
            code,
            reason,
            and(only(good, &cast.issuing)?, json!({"now": now})),
        );
    }
    let role = raw::with(&documents::encode(good)?, "role", "minister")?;
    vectors.invalid(
        "unknown-role",
        Code::Malformed,
        "a role that this version does not know",
        json!({"document": hex(&Envelope::new("credential", role).sign(&cast.issuing))}),
    );
    Ok(())
}
