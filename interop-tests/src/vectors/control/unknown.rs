//! The vectors of what later versions may say (`spec/control.md`, section 4).

use ciborium::Value as Cbor;
use serde_json::{Value, json};
use suora_protocol::documents;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::quality::{Network, Word};
use suora_protocol::wire::{citizen, guest};

use super::{
    CITIZEN_TO_RELAY, Direction, GUEST_TO_HOST, HOST_TO_GUEST, OFFICER_TO_RELAY, RELAY_TO_CITIZEN,
    RELAY_TO_OFFICER, describe, frame, refuse,
};
use crate::vectors::cast::ticket;
use crate::vectors::raw::{self, hex, map, tstr};
use crate::vectors::walk::diagnostic;
use crate::vectors::{Vectors, fields};

/// What later versions may say, and what this one makes of it.
pub fn make() -> Result<Vectors, Fault> {
    let mut vectors = Vectors::new("control", "unknown", "spec/control.md, section 4");
    vectors.cddl = Some("desk.cddl");
    describe(&mut vectors);
    let mut add = |direction: Direction,
                   name: &str,
                   comment: &str,
                   body: Vec<u8>,
                   reads_as: Option<String>,
                   known: bool| {
        let mut case = fields(json!({
            "direction": direction.words,
            "framed": hex(&frame(&body)?),
            "body": hex(&body),
            "diagnostic": diagnostic(&body)?,
            "reads_as": reads_as,
        }));
        if known {
            case.insert("cddl".into(), json!({"body": direction.rule}));
        }
        vectors.valid(name, comment, Value::Object(case));
        Ok::<(), Fault>(())
    };
    let pong = documents::encode(&citizen::FromRelay::Pong { n: 4 })?;
    let plain = diagnostic(&pong)?;
    let text = raw::with(&pong, "zebra", "stripes")?;
    add(
        RELAY_TO_CITIZEN,
        "unknown-key",
        "a key that this version does not know is ignored",
        text,
        Some(plain.clone()),
        true,
    )?;
    let nested = Cbor::Map(vec![("a".into(), Cbor::Array(vec![1.into(), Cbor::Null]))]);
    let nested = raw::with(&pong, "zebra", nested)?;
    add(
        RELAY_TO_CITIZEN,
        "unknown-nested-key",
        "whatever it holds",
        nested,
        Some(plain.clone()),
        true,
    )?;
    let critical = raw::with(
        &raw::with(&pong, "zebra", 1)?,
        "critical",
        Cbor::Array(vec!["zebra".into()]),
    )?;
    add(
        RELAY_TO_CITIZEN,
        "critical-in-a-message",
        "critical means nothing in messages",
        critical,
        Some(plain),
        true,
    )?;
    for direction in [
        CITIZEN_TO_RELAY,
        RELAY_TO_CITIZEN,
        OFFICER_TO_RELAY,
        RELAY_TO_OFFICER,
        GUEST_TO_HOST,
        HOST_TO_GUEST,
    ] {
        let name = format!("unknown-type-{}", direction.rule);
        let zebra = map(&[(tstr("type"), tstr("zebra")), (tstr("stripes"), vec![9])]);
        add(
            direction,
            &name,
            "a type that this version does not know is ignored",
            zebra,
            None,
            false,
        )?;
    }
    let ended = citizen::FromRelay::Ended {
        ticket: ticket(),
        code: Code::Internal,
    };
    let internal = documents::encode(&ended)?;
    let plain = diagnostic(&internal)?;
    let zebra = raw::with(&internal, "code", "zebra")?;
    add(
        RELAY_TO_CITIZEN,
        "unknown-code",
        "a code that is not registered reads as internal",
        zebra,
        Some(plain),
        true,
    )?;
    let quality = documents::encode(&guest::ToHost::Quality(guest::Quality {
        word: Word::Fair,
        network: Network::Unknown,
    }))?;
    let plain = diagnostic(&quality)?;
    let stormy = raw::with(&raw::with(&quality, "word", "stormy")?, "network", "wet")?;
    add(
        GUEST_TO_HOST,
        "unknown-quality",
        "a word that is not registered reads as fair, a network as unknown",
        stormy,
        Some(plain),
        false,
    )?;
    let null = documents::encode(&citizen::FromRelay::Refused {
        code: Code::Busy,
        message: None,
    })?;
    let plain = diagnostic(&null)?;
    let mut entries = raw::entries(&null);
    entries.push((tstr("message"), vec![0xf6]));
    entries.sort();
    add(
        RELAY_TO_CITIZEN,
        "null",
        "null is an absent value",
        map(&entries),
        Some(plain),
        false,
    )?;
    let broken = raw::with(&raw::without(&pong, "n")?, "zebra", 1)?;
    refuse(
        &mut vectors,
        RELAY_TO_CITIZEN,
        "unknown-key-and-missing-field",
        Code::Malformed,
        "an unknown key is ignored and makes up for nothing",
        &broken,
    )?;
    Ok(vectors)
}
