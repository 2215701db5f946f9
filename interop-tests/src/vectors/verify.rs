//! Verifies the cases of documents by the public API of `suora-protocol`. A case that lacks
//! a field is a fault of ours, `internal`, which no case names.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};
use suora_protocol::documents::chain::{self, InviteExpected, Invited};
use suora_protocol::documents::{
    Challenge, Descriptor, DeskId, Document, Invite, Signed, TicketId, Verified,
};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{AgencyId, Hash, PeerId};
use suora_protocol::time::Timestamp;

use super::raw::{hex, unhex};
use super::{Facts, fields};

/// A case, with its file's parameters.
pub type Case = Map<String, Value>;

/// A fault of the vector, not of what it holds.
pub fn lacks(what: &str) -> Fault {
    Fault::new(Code::Internal).with(format!("the case has no good {what}"))
}

/// A text field.
pub fn text<'a>(case: &'a Case, name: &str) -> Result<&'a str, Fault> {
    case.get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| lacks(name))
}

/// A field of bytes in hexadecimal.
pub fn bytes(case: &Case, name: &str) -> Result<Vec<u8>, Fault> {
    unhex(text(case, name)?).ok_or_else(|| lacks(name))
}

/// The bytes of a stream: those of the field, or a head and so many zeros after it.
pub fn stream(case: &Case) -> Result<Vec<u8>, Fault> {
    if case.contains_key("stream") {
        return bytes(case, "stream");
    }
    let fill = case.get("fill").and_then(Value::as_u64);
    let fill = fill.and_then(|fill| usize::try_from(fill).ok());
    let mut stream = bytes(case, "head")?;
    stream.resize(stream.len() + fill.ok_or_else(|| lacks("fill"))?, 0);
    Ok(stream)
}

/// A field of exactly `N` bytes.
pub fn fixed<const N: usize>(case: &Case, name: &str) -> Result<[u8; N], Fault> {
    bytes(case, name)?.try_into().map_err(|_| lacks(name))
}

fn time(case: &Case, name: &str) -> Result<Timestamp, Fault> {
    case.get(name)
        .and_then(Value::as_i64)
        .map(Timestamp::from_secs)
        .ok_or_else(|| lacks(name))
}

fn signed<T: Document>(case: &Case, name: &str) -> Result<Signed<T>, Fault> {
    Signed::from_bytes(bytes(case, name)?)
}

/// The descriptor that the verifier trusts already.
fn trusted(case: &Case, name: &str) -> Result<Verified<Descriptor>, Fault> {
    let signed: Signed<Descriptor> = signed(case, name)?;
    chain::descriptor_as_given(&signed, time(case, "trusted_at")?).map_err(|_| lacks(name))
}

fn facts(hash: Hash, more: Value) -> Facts {
    let mut facts = fields(more);
    facts.insert("hash".into(), hash.to_hex().into());
    facts
}

/// A descriptor, under the root id `root`, after the descriptor `known` if there is one.
pub fn descriptor(case: &Case) -> Result<Facts, Fault> {
    let root = AgencyId::parse(text(case, "root")?)?;
    let known = match case.get("known") {
        Some(_) => Some(trusted(case, "known")?),
        None => None,
    };
    let page = chain::descriptor(
        &signed(case, "document")?,
        &root,
        time(case, "now")?,
        known.as_ref(),
    )?;
    Ok(facts(
        page.hash(),
        json!({"sequence": page.sequence, "agency": page.agency.to_text()}),
    ))
}

/// A credential under the descriptor; with `desk`, of an officer who serves there as `peer`.
pub fn credential(case: &Case) -> Result<Facts, Fault> {
    let descriptor = trusted(case, "descriptor")?;
    let (signed, now) = (signed(case, "document")?, time(case, "now")?);
    let credential = match case.get("desk") {
        Some(Value::String(_)) => {
            let peer = PeerId::from_bytes(fixed(case, "peer")?);
            let desk = DeskId::new(text(case, "desk")?)?;
            chain::officer(&signed, &descriptor, &peer, &desk, now)?
        }
        _ => chain::credential(&signed, &descriptor, now)?,
    };
    Ok(facts(
        credential.hash(),
        json!({"peer_id": credential.peer.to_text(), "shown": credential.name}),
    ))
}

fn invited(case: &Case, name: &str) -> Result<Invited, Fault> {
    let expected = InviteExpected {
        desk: DeskId::new(text(case, "desk")?)?,
        ticket: TicketId::from_bytes(fixed(case, "ticket")?),
        guest: PeerId::from_bytes(fixed(case, "guest")?),
        challenge: Challenge::from_bytes(fixed(case, "challenge")?),
    };
    let signed: Signed<Invite> = signed(case, name)?;
    let descriptor = trusted(case, "descriptor")?;
    let invited = chain::invite(&signed, &descriptor, &expected, time(case, "now")?)?;
    // every address of a verified invite is one
    for address in &invited.invite.addresses {
        address
            .parse::<SocketAddr>()
            .map_err(|_| lacks("address"))?;
    }
    Ok(invited)
}

/// An invite that the guest received while it waits.
pub fn invite(case: &Case) -> Result<Facts, Fault> {
    let invited = invited(case, "document")?;
    Ok(facts(
        invited.invite.hash(),
        json!({
            "host": hex(invited.host().as_bytes()),
            "shown": invited.credential.name,
            "fingerprint": invited.invite.fingerprint.to_hex(),
        }),
    ))
}

/// The guest's hello to the host of `invite`.
pub fn hello(case: &Case) -> Result<Facts, Fault> {
    let descriptor = trusted(case, "descriptor")?;
    let signed_invite: Signed<Invite> = signed(case, "invite")?;
    let invited = chain::own_invite(&signed_invite, &descriptor, time(case, "now")?)
        .map_err(|_| lacks("invite"))?;
    let hello = chain::hello(
        &signed(case, "document")?,
        &invited,
        &Hash::from_bytes(fixed(case, "binding")?),
        text(case, "alpn")?,
        &descriptor,
    )?;
    Ok(facts(hello.hash(), json!({})))
}

/// The host's welcome to the guest of `invite` that sent `hello`.
pub fn welcome(case: &Case) -> Result<Facts, Fault> {
    let invited = invited(case, "invite").map_err(|_| lacks("invite"))?;
    let welcome = chain::welcome(
        &signed(case, "document")?,
        &invited,
        &Hash::of(&bytes(case, "hello")?),
        &Hash::from_bytes(fixed(case, "binding")?),
    )?;
    Ok(facts(welcome.hash(), json!({})))
}

/// The whole chain, as the guest and then the host walk it. A refusal at another step than
/// `fails_at` is a fault of the vector.
pub fn chain(case: &Case) -> Result<Facts, Fault> {
    let root = AgencyId::parse(text(case, "root")?)?;
    let now = time(case, "now")?;
    let at = |step: &str, fault: Fault| match case.get("fails_at").and_then(Value::as_str) {
        Some(expected) if expected != step => {
            Fault::new(Code::Internal).with(format!("refused at {step}: {fault}"))
        }
        _ => fault,
    };
    let page: Signed<Descriptor> = signed(case, "descriptor")?;
    let descriptor =
        chain::descriptor(&page, &root, now, None).map_err(|fault| at("descriptor", fault))?;
    let invited = invited(case, "invite").map_err(|fault| at("invite", fault))?;
    let alpn = text(case, "alpn")?;
    let there = Hash::from_bytes(fixed(case, "host_binding")?);
    let here = Hash::from_bytes(fixed(case, "guest_binding")?);
    let said = signed(case, "hello")?;
    let hello = chain::hello(&said, &invited, &there, alpn, &descriptor)
        .map_err(|fault| at("hello", fault))?;
    let sent = match case.get("sent_hello") {
        Some(_) => Hash::of(&bytes(case, "sent_hello")?),
        None => hello.hash(),
    };
    let welcome = chain::welcome(&signed(case, "welcome")?, &invited, &sent, &here)
        .map_err(|fault| at("welcome", fault))?;
    Ok(facts(
        welcome.hash(),
        json!({"host": hex(invited.host().as_bytes())}),
    ))
}
