//! The invite (`spec/setup.md`, section 2).

use serde_json::json;
use suora_protocol::documents::{
    self, AddressPolicy, Challenge, Credential, DescriptorRef, Invite, Role, TicketId,
};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{AgencyId, Hash};

use super::super::cast::{Cast, NOW, at, desk, sign};
use super::super::raw::{self, Envelope, hex};
use super::super::{Vectors, fields};
use super::{and, describe, forms, only, whole};

const SCHEMA: [&str; 2] = ["signed-invite", "invite"];

/// The file.
pub fn make() -> Result<Vectors, Fault> {
    let cast = Cast::default();
    let mut vectors = Vectors::new("documents", "invite", "spec/setup.md, section 2");
    describe(&mut vectors);
    vectors.format.extend([
        ("descriptor", "the signed descriptor that the guest trusts"),
        ("trusted_at", "when the guest verified it"),
        ("desk", "the desk at which the guest waits"),
        ("ticket", "the guest's ticket"),
        ("guest", "the guest's public key at this agency"),
        ("challenge", "what the guest drew for its join"),
        ("host", "the host's public key, as verified"),
        ("shown", "the officer's name, as verified"),
        (
            "fingerprint",
            "SHA-256 of the host's certificate, as verified",
        ),
    ]);
    vectors.verification = vec![
        "Verify document as an invite under descriptor at now, for a guest that waits at desk with ticket, guest and challenge.",
        "Compare hash, host, shown and fingerprint.",
    ];
    let descriptor = sign(&cast.descriptor()?, &cast.root)?;
    vectors.parameters = fields(json!({
        "descriptor": hex(descriptor.bytes()),
        "trusted_at": NOW,
        "now": NOW,
    }));
    vectors.parameters.extend(fields(cast.expected()));
    let good = cast.invite()?;
    valid(&mut vectors, &cast, &good)?;
    forms::add(
        &mut vectors,
        forms::Form {
            kind: "invite",
            payload: &documents::encode(&good)?,
            key: &cast.officer,
            stranger: &cast.stranger,
            field: "nonce",
        },
    )?;
    expectations(&mut vectors, &cast, &good)?;
    contents(&mut vectors, &cast, &good)?;
    hosts(&mut vectors, &cast, &good)?;
    Ok(vectors)
}

fn valid(vectors: &mut Vectors, cast: &Cast, good: &Invite) -> Result<(), Fault> {
    let officer = &cast.officer;
    vectors.valid(
        "good",
        "the invite of all other vectors",
        and(
            whole(good, officer, SCHEMA)?,
            json!({
                "host": hex(officer.peer_id().as_bytes()),
                "shown": "Oona Officer",
                "fingerprint": good.fingerprint.to_hex(),
            }),
        ),
    );
    let mut again = good.clone();
    again.previous = Some(Hash::from_bytes([0x18; 32]));
    again.addresses.clear();
    again.versions.insert(0, "suora/9".into());
    vectors.valid(
        "reconnect",
        "names the last invite; lists a version of later days and, here, no address",
        whole(&again, officer, SCHEMA)?,
    );
    let mut newer = good.clone();
    newer.descriptor = DescriptorRef {
        sequence: 8,
        hash: Hash::from_bytes([0x19; 32]),
    };
    vectors.valid(
        "other-descriptor",
        "the host holds a descriptor of another sequence: each end judges by its own",
        whole(&newer, officer, SCHEMA)?,
    );
    for (name, comment, now) in [
        (
            "clock-behind",
            "the clock is five minutes behind issued_at",
            NOW - 300,
        ),
        (
            "clock-ahead",
            "the clock is five minutes past not_after",
            NOW + 420,
        ),
    ] {
        vectors.valid(
            name,
            comment,
            and(only(good, officer)?, json!({"now": now})),
        );
    }
    Ok(())
}

fn expectations(vectors: &mut Vectors, cast: &Cast, good: &Invite) -> Result<(), Fault> {
    let mut refuse = |name: &str, code, reason: &str, change: &dyn Fn(&mut Invite)| {
        let mut changed = good.clone();
        change(&mut changed);
        vectors.invalid(name, code, reason, only(&changed, &cast.officer)?);
        Ok::<(), Fault>(())
    };
    refuse(
        "another-agency",
        Code::WrongAgency,
        "the invite is of another agency",
        &|i| i.agency = AgencyId::from_bytes([9; 32]),
    )?;
    let other = desk("guardianship")?;
    refuse(
        "desk-not-the-officers",
        Code::WrongDesk,
        "the officer's credential is not of the invite's desk",
        &|i| i.desk = other.clone(),
    )?;
    refuse(
        "another-ticket",
        Code::WrongTicket,
        "the ticket is another guest's",
        &|i| i.ticket = TicketId::from_bytes([0x20; 16]),
    )?;
    refuse(
        "another-guest",
        Code::WrongGuest,
        "for another guest",
        &|i| i.guest = cast.stranger.peer_id(),
    )?;
    refuse(
        "another-challenge",
        Code::WrongChallenge,
        "an invite of an earlier join",
        &|i| i.challenge = Challenge::from_bytes([0x21; 16]),
    )?;
    refuse(
        "another-role",
        Code::WrongRole,
        "the guest asked as a citizen",
        &|i| i.role = Role::Expert,
    )?;
    refuse(
        "no-version-in-common",
        Code::WrongVersion,
        "lists no version that the guest has",
        &|i| i.versions = vec!["suora/9".into()],
    )?;
    refuse("no-version", Code::WrongVersion, "lists no version", &|i| {
        i.versions.clear()
    })?;
    refuse(
        "equivocation",
        Code::Equivocation,
        "names another descriptor of the sequence that the guest holds",
        &|i| i.descriptor.hash = Hash::from_bytes([0x19; 32]),
    )?;
    refuse(
        "another-policy",
        Code::WrongDesk,
        "another address policy than the desk's",
        &|i| i.address_policy = AddressPolicy::RelayOnly,
    )?;
    vectors.invalid(
        "guest-waits-elsewhere",
        Code::WrongDesk,
        "the guest waits at another desk of the agency",
        and(only(good, &cast.officer)?, json!({"desk": "guardianship"})),
    );
    for (name, code, reason, now) in [
        (
            "not-yet-valid",
            Code::NotYetValid,
            "the clock is more than five minutes behind issued_at",
            NOW - 301,
        ),
        (
            "expired",
            Code::Expired,
            "the clock is more than five minutes past not_after",
            NOW + 421,
        ),
    ] {
        vectors.invalid(
            name,
            code,
            reason,
            and(only(good, &cast.officer)?, json!({"now": now})),
        );
    }
    // A desk that demands the hybrid group, and an officer of it.
    let credential = Credential {
        desks: vec![other.clone()],
        ..cast.credential()?
    };
    let mut weak = good.clone();
    weak.desk = other;
    weak.credential = sign(&credential, &cast.issuing)?.bytes().to_vec();
    let waits = json!({"desk": "guardianship"});
    vectors.invalid(
        "post-quantum-dropped",
        Code::PostQuantumRequired,
        "the desk demands the hybrid group and the invite does not",
        and(only(&weak, &cast.officer)?, waits.clone()),
    );
    weak.require_pq = true;
    vectors.valid(
        "post-quantum",
        "repeats the desk's demand for the hybrid group",
        and(only(&weak, &cast.officer)?, waits),
    );
    Ok(())
}

fn contents(vectors: &mut Vectors, cast: &Cast, good: &Invite) -> Result<(), Fault> {
    let mut refuse = |name: &str, reason: &str, change: &dyn Fn(&mut Invite)| {
        let mut changed = good.clone();
        change(&mut changed);
        vectors.invalid(
            name,
            Code::Malformed,
            reason,
            only(&changed, &cast.officer)?,
        );
        Ok::<(), Fault>(())
    };
    refuse("nine-addresses", "more addresses than the bound", &|i| {
        i.addresses = vec!["192.0.2.1:1".into(); 9]
    })?;
    refuse(
        "address-without-port",
        "an address that is not ip:port",
        &|i| i.addresses = vec!["192.0.2.1".into()],
    )?;
    refuse(
        "address-by-name",
        "a host name in place of an address",
        &|i| i.addresses = vec!["tax.example:443".into()],
    )?;
    refuse("port-zero", "port 0", &|i| {
        i.addresses = vec!["192.0.2.1:0".into()]
    })?;
    refuse("too-long", "valid for more than 120 s", &|i| {
        i.not_after = at(121)
    })?;
    refuse("backwards", "not_after lies before issued_at", &|i| {
        i.not_after = at(-1)
    })?;
    refuse("long-version", "a version of 257 bytes", &|i| {
        i.versions.push("a".repeat(257))
    })?;
    let payload = documents::encode(good)?;
    for (field, len) in [
        ("dcid", 19),
        ("nonce", 33),
        ("ticket", 15),
        ("guest", 31),
        ("fingerprint", 20),
    ] {
        let payload = raw::with(&payload, field, ciborium::Value::Bytes(vec![1; len]))?;
        vectors.invalid(
            &format!("{field}-of-{len}-bytes"),
            Code::Malformed,
            &format!("{field} has another length"),
            json!({"document": hex(&Envelope::new("invite", payload).sign(&cast.officer))}),
        );
    }
    Ok(())
}

fn hosts(vectors: &mut Vectors, cast: &Cast, good: &Invite) -> Result<(), Fault> {
    let mut refuse = |name: &str, code, reason: &str, credential: Vec<u8>| {
        let invite = Invite {
            credential,
            ..good.clone()
        };
        vectors.invalid(name, code, reason, only(&invite, &cast.officer)?);
        Ok::<(), Fault>(())
    };
    let signed = |change: &dyn Fn(&mut Credential), key| {
        let mut credential = cast.credential()?;
        change(&mut credential);
        Ok::<_, Fault>(sign(&credential, key)?.bytes().to_vec())
    };
    let issuing = &cast.issuing;
    refuse(
        "no-credential",
        Code::NoCredential,
        "the officer shows none",
        Vec::new(),
    )?;
    refuse(
        "credential-expired",
        Code::Expired,
        "the officer's credential has ended",
        signed(
            &|c| {
                c.not_before = at(-10_000);
                c.not_after = at(-301);
            },
            issuing,
        )?,
    )?;
    refuse(
        "credential-not-yet-valid",
        Code::NotYetValid,
        "the officer's credential has not begun",
        signed(&|c| c.not_before = at(301), issuing)?,
    )?;
    refuse(
        "credential-by-the-pass-key",
        Code::WrongSigner,
        "the officer's credential is signed by the relay's pass key",
        signed(&|c| c.key = "pass-1".into(), &cast.pass)?,
    )?;
    refuse(
        "credential-self-made",
        Code::BadSignature,
        "the officer signed its credential itself",
        signed(&|_| (), &cast.officer)?,
    )?;
    refuse(
        "credential-of-another-agency",
        Code::WrongAgency,
        "the officer's credential is of another agency",
        signed(&|c| c.agency = AgencyId::from_bytes([9; 32]), issuing)?,
    )?;
    refuse(
        "credential-of-a-partner",
        Code::WrongRole,
        "an interpreter is no host",
        signed(&|c| c.role = Role::Interpreter, issuing)?,
    )?;
    refuse(
        "credential-of-a-colleague",
        Code::BadSignature,
        "the credential is another officer's, whose key did not sign the invite",
        signed(&|c| c.peer = cast.colleague.peer_id(), issuing)?,
    )?;
    refuse(
        "credential-is-no-document",
        Code::BadSignature,
        "no document in place of the credential, so that nobody's key can have signed the invite",
        vec![0xf6],
    )?;
    let changed = signed(&|_| (), issuing)?;
    let last = changed.len() - 1;
    let changed = raw::flip(&changed, last);
    refuse(
        "credential-changed",
        Code::BadSignature,
        "a bit of the credential's signature is changed, and the invite signed after that",
        changed,
    )?;
    let mut page = cast.descriptor()?;
    page.sequence = 8;
    page.revoked = vec![cast.officer.peer_id()];
    vectors.invalid(
        "officer-revoked",
        Code::Revoked,
        "the guest's newer descriptor revokes the officer",
        and(
            only(good, &cast.officer)?,
            json!({"descriptor": only(&page, &cast.root)?["document"]}),
        ),
    );
    Ok(())
}
