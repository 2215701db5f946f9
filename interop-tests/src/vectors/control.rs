//! The vectors of `spec/desk.md`: every message between nodes and relay. Long because it is one
//! list, a case a message.

pub mod framing;
pub mod unknown;

use ciborium::Value as Cbor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use suora_protocol::documents;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::wire::grant::Grant;
use suora_protocol::wire::officer::Status;
use suora_protocol::wire::work::{Slot, Work};
use suora_protocol::wire::{self, Framer, citizen, guest, officer};

use super::cast::{Cast, challenge, desk, sign, ticket};
use super::raw::{self, hex, map, tstr};
use super::verify::{Case, bytes, lacks, text};
use super::walk::diagnostic;
use super::{Facts, Vectors, fields};

pub(super) fn describe(vectors: &mut Vectors) {
    vectors.format.extend([
        ("direction", "who speaks to whom"),
        ("framed", "the message as it goes over the stream"),
        ("body", "the message without its length"),
        (
            "diagnostic",
            "the body in the diagnostic notation of RFC 8949, section 8",
        ),
        (
            "reads_as",
            "what a receiver takes it for, in diagnostic notation; null: ignored",
        ),
        ("cddl", "which rule of the schema a field's bytes match"),
        ("name", "the case's name in this file"),
        ("comment", "what a valid case shows"),
        ("reason", "what is wrong with an invalid case"),
        ("code", "the code of registries.md for an invalid case"),
    ]);
    vectors.verification = vec![
        "Unframe framed; compare with body.",
        "Read body as a message of direction; where it is known, encode what was read again and compare with reads_as.",
    ];
}

/// The rule of the schema, and the words of a case, for a direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direction {
    pub(super) words: &'static str,
    pub(super) rule: &'static str,
}

pub(super) const CITIZEN_TO_RELAY: Direction = Direction {
    words: "citizen to relay",
    rule: "citizen-to-relay",
};
pub(super) const RELAY_TO_CITIZEN: Direction = Direction {
    words: "relay to citizen",
    rule: "relay-to-citizen",
};
pub(super) const OFFICER_TO_RELAY: Direction = Direction {
    words: "officer to relay",
    rule: "officer-to-relay",
};
pub(super) const RELAY_TO_OFFICER: Direction = Direction {
    words: "relay to officer",
    rule: "relay-to-officer",
};
pub(super) const GUEST_TO_HOST: Direction = Direction {
    words: "guest to host",
    rule: "guest-to-host",
};
pub(super) const HOST_TO_GUEST: Direction = Direction {
    words: "host to guest",
    rule: "host-to-guest",
};

/// Adds a good message.
pub(super) fn say<M: Serialize>(
    vectors: &mut Vectors,
    direction: Direction,
    name: &str,
    comment: &str,
    message: &M,
) -> Result<(), Fault> {
    let (framed, body) = (wire::encode(message)?, documents::encode(message)?);
    let notation = diagnostic(&body)?;
    vectors.valid(
        name,
        comment,
        json!({
            "direction": direction.words,
            "framed": hex(&framed),
            "body": hex(&body),
            "diagnostic": notation,
            "reads_as": notation,
            "cddl": {"body": direction.rule},
        }),
    );
    Ok(())
}

fn frame(body: &[u8]) -> Result<Vec<u8>, Fault> {
    // the length of a byte string's worth of payload, as `wire` frames it
    let mut out = Vec::new();
    let mut len = body.len();
    while len >= 0x80 {
        out.push(u8::try_from(len & 0x7f).map_err(super::internal)? | 0x80);
        len >>= 7;
    }
    out.push(u8::try_from(len).map_err(super::internal)?);
    out.extend_from_slice(body);
    Ok(out)
}

/// Adds a bad message.
pub(super) fn refuse(
    vectors: &mut Vectors,
    direction: Direction,
    name: &str,
    code: Code,
    reason: &str,
    body: &[u8],
) -> Result<(), Fault> {
    let case = json!({
        "direction": direction.words,
        "framed": hex(&frame(body)?),
        "body": hex(body),
    });
    vectors.invalid(name, code, reason, case);
    Ok(())
}

/// What a relay lends; the password is that of the secret `north-north-north-north-north-42`.
fn grant() -> Grant {
    Grant {
        user: format!("1800003600:{}", "ab".repeat(16)),
        password: "lppuWgMiNnk7M7uZoEfmWUYSj5w=".into(),
        realm: "tax.example".into(),
        nonce: "obMatJos2gAAAa0k4".into(),
        lasts_s: 7_200,
        servers: vec!["turn:192.0.2.1:443?transport=udp".into()],
    }
}

fn addresses() -> Vec<String> {
    vec!["198.51.100.4:50123".into(), "[2001:db8::4]:50123".into()]
}

/// Between a citizen's node and the relay.
pub fn citizen() -> Result<Vectors, Fault> {
    use citizen::{FromRelay as R, ToRelay as C};
    let mut vectors = Vectors::new("control", "citizen", "spec/desk.md, section 3");
    vectors.cddl = Some("desk.cddl");
    describe(&mut vectors);
    let v = &mut vectors;
    let (desk, challenge, ticket) = (desk("tax")?, challenge(), ticket());
    let join = C::Join {
        desk: desk.clone(),
        challenge,
        ticket: None,
        work: None,
    };
    let to = CITIZEN_TO_RELAY;
    say(v, to, "join", "asks to be served", &join)?;
    let again = C::Join {
        desk: desk.clone(),
        challenge,
        ticket: Some(ticket),
        work: None,
    };
    say(v, to, "join-again", "is back with its ticket", &again)?;
    let slot = Slot::from_bytes([0x73; 16]);
    let worked = C::Join {
        desk: desk.clone(),
        challenge,
        ticket: None,
        work: Some(Work {
            slot,
            nonce: 70_000,
        }),
    };
    say(
        v,
        to,
        "join-worked",
        "asks again, with the work done",
        &worked,
    )?;
    say(v, to, "leave", "no longer waits", &C::Leave { ticket })?;
    let refused = C::Refused {
        ticket,
        attempt: 1,
        code: Code::BadSignature,
    };
    say(v, to, "refused", "refuses an invite", &refused)?;
    let addresses = C::Addresses {
        addresses: addresses(),
    };
    say(v, to, "addresses", "where it is reached", &addresses)?;
    let done = C::Done {
        ticket,
        code: Code::Ended,
    };
    say(v, to, "done", "the session of the ticket has ended", &done)?;
    say(v, to, "ping", "is the relay there?", &C::Ping { n: 1 })?;
    let from = RELAY_TO_CITIZEN;
    let queued = R::Queued {
        ticket,
        position: 3,
    };
    say(v, from, "queued", "three people are ahead", &queued)?;
    let work = R::Work {
        desk,
        slot,
        bits: 16,
    };
    say(v, from, "work", "work is asked for first", &work)?;
    let position = R::Position {
        ticket,
        position: 2,
    };
    say(v, from, "position", "two people are ahead", &position)?;
    let matched = R::Matched { ticket, attempt: 1 };
    say(v, from, "matched", "an officer was found", &matched)?;
    let lent = R::Grant {
        ticket,
        grant: grant(),
    };
    say(
        v,
        from,
        "grant",
        "the relay's TURN for this consultation",
        &lent,
    )?;
    let cast = Cast::default();
    let invite = sign(&cast.invite()?, &cast.officer)?.bytes().to_vec();
    let invite = R::Invite {
        ticket,
        attempt: 1,
        invite,
    };
    say(v, from, "invite", "the officer's invite", &invite)?;
    let waiting = R::Waiting {
        ticket,
        position: 0,
        code: Code::OfferExpired,
    };
    say(v, from, "waiting", "the match ended; waits again", &waiting)?;
    let ended = R::Ended {
        ticket,
        code: Code::Ended,
    };
    say(v, from, "ended", "the ticket has ended", &ended)?;
    let refused = R::Refused {
        code: Code::UnknownDesk,
        message: Some("tax".into()),
    };
    say(v, from, "request-refused", "with a message", &refused)?;
    let refused = R::Refused {
        code: Code::QueueFull,
        message: None,
    };
    say(
        v,
        from,
        "request-refused-plainly",
        "without a message",
        &refused,
    )?;
    say(v, from, "pong", "the relay is there", &R::Pong { n: 1 })?;
    let good = documents::encode(&join)?;
    broken(v, to, &good, "challenge")?;
    let bytes = Cbor::Bytes(vec![1; 15]);
    let short = raw::with(&documents::encode(&again)?, "ticket", bytes)?;
    refuse(
        v,
        to,
        "short-ticket",
        Code::Malformed,
        "a ticket of 15 bytes",
        &short,
    )?;
    let flat = raw::with(&good, "work", 7)?;
    refuse(
        v,
        to,
        "work-without-slot",
        Code::Malformed,
        "work that is a number",
        &flat,
    )?;
    let bad_desk = raw::with(&good, "desk", "Tax!")?;
    refuse(
        v,
        to,
        "bad-desk-id",
        Code::Malformed,
        "a desk's id of other letters",
        &bad_desk,
    )?;
    let negative = raw::with(&documents::encode(&queued)?, "position", -1)?;
    refuse(
        v,
        from,
        "negative-position",
        Code::Malformed,
        "a position below zero",
        &negative,
    )?;
    Ok(vectors)
}

/// What no direction takes, made of a good message.
pub(super) fn broken(
    v: &mut Vectors,
    direction: Direction,
    good: &[u8],
    field: &str,
) -> Result<(), Fault> {
    use Code::{Malformed, NotDeterministic};
    let missing = raw::without(good, field)?;
    refuse(
        v,
        direction,
        "missing-field",
        Malformed,
        "a field is missing",
        &missing,
    )?;
    let typeless = raw::without(good, "type")?;
    refuse(v, direction, "no-type", Malformed, "no type", &typeless)?;
    let number = raw::with(good, "type", 1)?;
    refuse(
        v,
        direction,
        "type-is-a-number",
        Malformed,
        "the type is no text",
        &number,
    )?;
    let other = raw::with(good, field, true)?;
    refuse(
        v,
        direction,
        "field-of-another-type",
        Malformed,
        "a field of another type",
        &other,
    )?;
    refuse(v, direction, "empty", Malformed, "no bytes", &[])?;
    refuse(
        v,
        direction,
        "no-map",
        Malformed,
        "a text in place of a map",
        &tstr("ping"),
    )?;
    let trailing = [good, &[0]].concat();
    refuse(
        v,
        direction,
        "trailing-byte",
        Malformed,
        "a byte after the map",
        &trailing,
    )?;
    let mut swapped = raw::entries(good);
    swapped.swap(0, 1);
    refuse(
        v,
        direction,
        "keys-out-of-order",
        NotDeterministic,
        "two keys are out of order",
        &map(&swapped),
    )?;
    let indefinite = [&[0xbf], good.get(1..).unwrap_or_default(), &[0xff]].concat();
    refuse(
        v,
        direction,
        "indefinite-length",
        NotDeterministic,
        "a map of indefinite length",
        &indefinite,
    )
}

/// Between an officer's node and the relay.
pub fn officer() -> Result<Vectors, Fault> {
    use officer::{FromRelay as R, ToRelay as O};
    let mut vectors = Vectors::new("control", "officer", "spec/desk.md, section 4");
    vectors.cddl = Some("desk.cddl");
    describe(&mut vectors);
    let v = &mut vectors;
    let cast = Cast::default();
    let (desk, challenge, ticket) = (desk("tax")?, challenge(), ticket());
    let credential = sign(&cast.credential()?, &cast.issuing)?.bytes().to_vec();
    let to = OFFICER_TO_RELAY;
    let handed = R::Credential {
        credential: credential.clone(),
    };
    let attend = O::Attend {
        desk: desk.clone(),
        credential: credential.clone(),
        status: Status::Available,
        engaged: None,
    };
    say(v, to, "attend", "attends a desk", &attend)?;
    let again = O::Attend {
        desk: desk.clone(),
        credential,
        status: Status::Busy,
        engaged: Some(ticket),
    };
    say(v, to, "attend-again", "is back in mid-consultation", &again)?;
    for status in [
        Status::Available,
        Status::Busy,
        Status::Break,
        Status::WrapUp,
    ] {
        let name = format!("status-{status:?}").to_lowercase();
        say(v, to, &name, "the status changed", &O::Status { status })?;
    }
    let invite = O::Invite {
        ticket,
        attempt: 1,
        invite: sign(&cast.invite()?, &cast.officer)?.bytes().to_vec(),
    };
    say(v, to, "invite", "an invite to be passed on", &invite)?;
    let accepted = O::Accepted { ticket, attempt: 1 };
    say(v, to, "accepted", "took the offer", &accepted)?;
    let declined = O::Declined {
        ticket,
        attempt: 1,
        code: Code::Declined,
    };
    say(v, to, "declined", "does not take the offer", &declined)?;
    let done = O::Done {
        ticket,
        code: Code::Ended,
    };
    say(v, to, "done", "the consultation has ended", &done)?;
    say(
        v,
        to,
        "ping",
        "is the relay there?",
        &O::Ping { n: u64::MAX },
    )?;
    let from = RELAY_TO_OFFICER;
    let attending = R::Attending {
        desk: desk.clone(),
        waiting: 4,
    };
    say(v, from, "attending", "four people wait", &attending)?;
    say(v, from, "credential", "a newer credential", &handed)?;
    let waiting = R::Waiting {
        desk: desk.clone(),
        waiting: 3,
    };
    say(v, from, "waiting", "three people wait", &waiting)?;
    let offer = R::Offer {
        ticket,
        attempt: 1,
        desk,
        guest: cast.guest().peer_id(),
        challenge,
        waited_ms: 61_500,
        expires_in_ms: 30_000,
    };
    say(v, from, "offer", "somebody waits", &offer)?;
    let told = R::Addresses {
        ticket,
        attempt: 1,
        addresses: addresses(),
    };
    say(v, from, "addresses", "where the guest is reached", &told)?;
    let given = R::Grant { grant: grant() };
    say(v, from, "grant", "the relay's TURN", &given)?;
    let withdrawn = R::Withdrawn {
        ticket,
        attempt: 1,
        code: Code::CitizenGone,
    };
    say(v, from, "withdrawn", "the offer has ended", &withdrawn)?;
    let refused = R::Refused {
        code: Code::Expired,
        message: Some("credential".into()),
    };
    say(
        v,
        from,
        "request-refused",
        "the credential has ended",
        &refused,
    )?;
    say(
        v,
        from,
        "pong",
        "the relay is there",
        &R::Pong { n: u64::MAX },
    )?;
    broken(v, to, &documents::encode(&attend)?, "credential")?;
    let status = documents::encode(&O::Status {
        status: Status::Busy,
    })?;
    let asleep = raw::with(&status, "status", "asleep")?;
    refuse(
        v,
        to,
        "unknown-status",
        Code::Malformed,
        "a status that this version does not know",
        &asleep,
    )?;
    let short = raw::with(
        &documents::encode(&offer)?,
        "guest",
        Cbor::Bytes(vec![1; 31]),
    )?;
    refuse(
        v,
        from,
        "short-guest",
        Code::Malformed,
        "a guest of 31 bytes",
        &short,
    )?;
    Ok(vectors)
}

fn read<M: DeserializeOwned + Serialize + PartialEq>(
    body: &[u8],
    unknown: &M,
) -> Result<Option<String>, Fault> {
    let message: M = wire::decode(body)?;
    if message == *unknown {
        return Ok(None);
    }
    diagnostic(&documents::encode(&message)?).map(Some)
}

/// Verifies a case of a message.
pub fn verify_message(case: &Case) -> Result<Facts, Fault> {
    let mut framer = Framer::new();
    framer.push(&bytes(case, "framed")?);
    let body = framer.next_message()?.ok_or_else(|| lacks("framed"))?;
    if framer.next_message()?.is_some() {
        return Err(lacks("framed: more than one message"));
    }
    let reads_as = match text(case, "direction")? {
        "citizen to relay" => read(&body, &citizen::ToRelay::Unknown),
        "relay to citizen" => read(&body, &citizen::FromRelay::Unknown),
        "officer to relay" => read(&body, &officer::ToRelay::Unknown),
        "relay to officer" => read(&body, &officer::FromRelay::Unknown),
        "guest to host" => read(&body, &guest::ToHost::Unknown),
        "host to guest" => read(&body, &guest::FromHost::Unknown),
        _ => return Err(lacks("direction")),
    }?;
    Ok(fields(json!({
        "body": hex(&body),
        "diagnostic": diagnostic(&body)?,
        "reads_as": reads_as,
    })))
}
