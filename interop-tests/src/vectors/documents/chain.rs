//! The whole chain (`spec/documents.md`, section 6): what each document alone does not show.

use serde_json::{Value, json};
use suora_protocol::documents::{Hello, Invite, Welcome};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{AgencyId, Hash, Key};

use super::super::cast::{Cast, NOW, binding, sign};
use super::super::raw::hex;
use super::super::{Vectors, fields};
use super::and;

/// The file.
pub fn make() -> Result<Vectors, Fault> {
    let cast = Cast::default();
    let mut vectors = Vectors::new("documents", "chain", "spec/documents.md, section 6");
    vectors.format.extend([
        ("root", "the root id that the guest trusts"),
        ("now", "both clocks, seconds since 1970"),
        ("trusted_at", "when the descriptor was verified"),
        ("descriptor", "the agency's signed descriptor"),
        ("invite", "the signed invite"),
        ("desk", "the desk at which the guest waits"),
        ("ticket", "the guest's ticket"),
        ("guest", "the guest's public key at this agency"),
        ("challenge", "what the guest drew for its join"),
        ("hello", "the signed hello that the host receives"),
        (
            "sent_hello",
            "the signed hello that the guest sent, where it is another one",
        ),
        ("welcome", "the signed welcome that the guest receives"),
        ("host_binding", "the TLS exporter's bytes at the host"),
        ("guest_binding", "the TLS exporter's bytes at the guest"),
        ("alpn", "the negotiated ALPN"),
        ("host", "the host's public key, as verified"),
        ("hash", "SHA-256 of the welcome"),
        ("fails_at", "the document at which the chain breaks"),
        ("name", "the case's name in this file"),
        ("comment", "what a valid case shows"),
        ("reason", "what is wrong with an invalid case"),
        (
            "code",
            "the code of registries.md with which a verifier refuses an invalid case",
        ),
    ]);
    vectors.verification = vec![
        "As the guest: verify descriptor under root, then invite under it.",
        "As the host: verify hello with host_binding and alpn.",
        "As the guest: verify welcome in answer to the hello that it sent, with guest_binding.",
        "Compare host and hash.",
    ];
    let (root, officer, guest) = (cast.root.clone(), cast.officer.clone(), cast.guest());
    vectors.parameters = fields(json!({
        "root": cast.agency().to_text(),
        "now": NOW,
        "trusted_at": NOW,
        "descriptor": hex(sign(&cast.descriptor()?, &root)?.bytes()),
        "host_binding": binding().to_hex(),
        "guest_binding": binding().to_hex(),
        "alpn": "suora/1",
    }));
    vectors.parameters.extend(fields(cast.expected()));
    let whole = said(&cast.invite()?, &officer, &guest)?;
    vectors.valid(
        "good",
        "from the root to the welcome",
        and(
            whole.clone(),
            json!({"host": hex(officer.peer_id().as_bytes())}),
        ),
    );
    let other = Hash::from_bytes([0x24; 32]).to_hex();
    vectors.invalid(
        "machine-in-the-middle",
        Code::WrongBinding,
        "two TLS connections with somebody between them: the exporters differ",
        and(
            whole.clone(),
            json!({"fails_at": "hello", "host_binding": other}),
        ),
    );
    vectors.invalid(
        "welcome-of-another-connection",
        Code::WrongBinding,
        "the welcome was made for another connection than the guest's",
        and(
            whole.clone(),
            json!({"fails_at": "welcome", "guest_binding": other}),
        ),
    );
    vectors.invalid(
        "root-not-trusted",
        Code::WrongAgency,
        "the descriptor is of another agency than the guest trusts",
        and(
            whole.clone(),
            json!({"fails_at": "descriptor", "root": AgencyId::from_bytes([9; 32]).to_text()}),
        ),
    );
    copied_invite(&mut vectors, &cast)?;
    borrowed_key(&mut vectors, &cast)?;
    let again = sign(
        &Hello {
            alpn: "suora/1".into(),
            ..cast.hello()?
        },
        &cast.stranger,
    )?;
    vectors.invalid(
        "another-guest",
        Code::BadSignature,
        "somebody else answers the invite",
        and(
            whole.clone(),
            json!({"fails_at": "hello", "hello": hex(again.bytes())}),
        ),
    );
    let mut newer = cast.hello()?;
    newer.descriptor.sequence = 6;
    vectors.invalid(
        "welcome-to-another-hello",
        Code::WrongInvite,
        "the guest sent another hello than the one that is answered",
        and(
            whole,
            json!({"fails_at": "welcome", "sent_hello": hex(sign(&newer, &guest)?.bytes())}),
        ),
    );
    Ok(vectors)
}

/// Invite, hello and welcome of one session.
fn said(invite: &Invite, host: &Key, guest: &Key) -> Result<Value, Fault> {
    let invite_bytes = sign(invite, host)?;
    let hello = Hello {
        invite: invite_bytes.hash(),
        binding: binding(),
        alpn: "suora/1".into(),
        descriptor: invite.descriptor,
    };
    let hello = sign(&hello, guest)?;
    let welcome = Welcome {
        invite: invite_bytes.hash(),
        binding: binding(),
        hello: hello.hash(),
    };
    Ok(json!({
        "invite": hex(invite_bytes.bytes()),
        "hello": hex(hello.bytes()),
        "welcome": hex(sign(&welcome, host)?.bytes()),
    }))
}

/// Hostile officer X copies all that names O's session into an invite of X's own; the
/// guest's hello to X is then passed to O.
fn copied_invite(vectors: &mut Vectors, cast: &Cast) -> Result<(), Fault> {
    let honest = cast.invite()?;
    let credential = suora_protocol::documents::Credential {
        peer: cast.colleague.peer_id(),
        name: "Xenia".into(),
        ..cast.credential()?
    };
    let copied = Invite {
        credential: sign(&credential, &cast.issuing)?.bytes().to_vec(),
        ..honest.clone()
    };
    let (at_x, at_o) = (
        said(&copied, &cast.colleague, &cast.guest())?,
        said(&honest, &cast.officer, &cast.guest())?,
    );
    vectors.invalid(
        "hello-passed-on",
        Code::WrongInvite,
        "an officer copied another's invite and passes the guest's hello on: the hello names the copy",
        and(at_o, json!({"fails_at": "hello", "hello": at_x["hello"]})),
    );
    Ok(())
}

/// A hostile agency lists A's issuing key as its own: A's officers are not officers of it.
fn borrowed_key(vectors: &mut Vectors, cast: &Cast) -> Result<(), Fault> {
    let mut page = cast.descriptor()?;
    page.root = cast.stranger.peer_id();
    page.agency = AgencyId::of_root(&page.root);
    let page_bytes = sign(&page, &cast.stranger)?;
    let guest = cast.citizen.citizen_key(&page.agency);
    let invite = Invite {
        guest: guest.peer_id(),
        ..cast.invite()?
    };
    let said = said(&invite, &cast.officer, &guest)?;
    vectors.invalid(
        "borrowed-issuing-key",
        Code::WrongAgency,
        "a hostile agency lists the issuing key of the officer's agency",
        and(
            said,
            json!({
                "fails_at": "invite",
                "root": page.agency.to_text(),
                "descriptor": hex(page_bytes.bytes()),
                "guest": hex(guest.peer_id().as_bytes()),
            }),
        ),
    );
    Ok(())
}
