//! One changed byte on the way, at every place of every document that travels: never a verified
//! document. A changed payload or signature is a bad signature, a changed envelope is malformed
//! or not deterministic.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use coset::{CborSerializable, CoseSign1};
use suora_interop::world::{Manner, Message, Setup, World};
use suora_node::report::Outcome;
use suora_node::view::Stage;
use suora_protocol::fault::Code;
use suora_protocol::wire::citizen;
use suora_protocol::wire::officer::ToRelay;

use super::secs;

/// Which document is changed on its way.
#[derive(Clone, Copy, Debug)]
enum Travels {
    /// From the officer, through the relay, to the citizen.
    Invite,
    /// From the officer to the relay.
    Credential,
    /// From wherever it is published to the citizen.
    Descriptor,
}

/// What a run showed.
struct Run {
    /// The document as it was sent.
    sent: Vec<u8>,
    /// Why it was refused.
    code: Option<Code>,
    /// Whether anybody took it for verified.
    verified: bool,
}

/// Runs a world in which one byte of the document changes on the way.
fn run(travels: Travels, change: Option<(usize, u8)>) -> Run {
    let mut world = World::new(Setup::default());
    let sent: Rc<RefCell<Vec<u8>>> = Rc::default();
    let seen = sent.clone();
    let alter = move |bytes: Vec<u8>| {
        let mut bytes = bytes;
        seen.borrow_mut().clone_from(&bytes);
        if let Some((at, bit)) = change {
            bytes[at] ^= bit;
        }
        bytes
    };
    let first = std::cell::Cell::new(true);
    world.tap(move |_, message| {
        vec![match (travels, message) {
            (
                Travels::Invite,
                Message::ToCitizen(citizen::FromRelay::Invite {
                    ticket,
                    attempt,
                    invite,
                }),
            ) => Message::ToCitizen(citizen::FromRelay::Invite {
                ticket,
                attempt,
                invite: alter(invite),
            }),
            (
                Travels::Credential,
                Message::Attend(ToRelay::Attend {
                    desk,
                    credential,
                    status,
                    engaged,
                }),
            ) => Message::Attend(ToRelay::Attend {
                desk,
                credential: alter(credential),
                status,
                engaged,
            }),
            // the citizen's; the officer's comes after it
            (Travels::Descriptor, Message::Descriptor(page)) if first.replace(false) => {
                Message::Descriptor(Bytes::from(alter(page.to_vec())))
            }
            (_, other) => other,
        }]
    });
    let anna = world.citizen();
    let manner = Manner {
        auto_accept: true,
        stay: false,
    };
    let otto = world.officer_with(manner, suora_interop::world::Agency::issue_officer);
    let judge = match travels {
        Travels::Credential => otto,
        Travels::Invite | Travels::Descriptor => anna,
    };
    world.until(secs(3), |world| {
        world.finished(judge).is_some() || world.stage(judge) == Stage::Accepted
    });
    let report = world.reports(judge).last();
    let code = report.and_then(|report| report.error.as_ref().map(|error| error.code));
    if let Some(report) = report {
        assert_eq!(report.outcome, Outcome::Refused, "{code:?}");
    }
    let verified = match travels {
        Travels::Descriptor => world.descriptor_of(anna),
        // dialled, attended or shown: whatever follows from a document that was believed
        _ => world.saw_someone(anna) || world.saw_someone(otto) || world.stage(anna) != Stage::Idle,
    };
    let sent = sent.borrow().clone();
    Run {
        sent,
        code,
        verified,
    }
}

/// Changes every byte in turn, another bit each time.
fn every_byte(travels: Travels) {
    let control = run(travels, None);
    assert!(control.verified && control.code.is_none(), "control");
    let document = control.sent;
    let payload = CoseSign1::from_slice(&document).unwrap().payload.unwrap();
    // … payload, head of the signature, signature
    let end = document.len() - 66;
    let inside = end - payload.len()..end;
    assert_eq!(document[inside.clone()], payload[..]);

    let mut counts: BTreeMap<(&str, Code), usize> = BTreeMap::new();
    let envelope = |at: usize| at < inside.start || (inside.end..inside.end + 2).contains(&at);
    // every bit of the few bytes of the envelope, one of each other byte
    let changes = (0..document.len()).flat_map(|at| {
        let bits = if envelope(at) {
            0..8
        } else {
            at % 8..at % 8 + 1
        };
        bits.map(move |bit| (at, 1 << bit))
    });
    for (at, bit) in changes {
        let run = run(travels, Some((at, bit)));
        assert_eq!(run.sent, document, "every run is the same run");
        assert!(!run.verified, "bit {bit} of byte {at} of the {travels:?}");
        let code = run
            .code
            .unwrap_or_else(|| panic!("byte {at}: nobody was told"));
        let part = if inside.contains(&at) {
            "payload"
        } else if envelope(at) {
            "envelope"
        } else {
            "signature"
        };
        let fits = match part {
            "envelope" => matches!(code, Code::Malformed | Code::NotDeterministic),
            _ => code == Code::BadSignature,
        };
        assert!(
            fits,
            "bit {bit} of byte {at} of the {travels:?}, {part}: {code}"
        );
        *counts.entry((part, code)).or_default() += 1;
    }
    println!("{travels:?}: {counts:?}");
}

#[test]
fn no_changed_invite_is_believed() {
    every_byte(Travels::Invite);
}

#[test]
fn no_changed_credential_is_believed() {
    every_byte(Travels::Credential);
}

#[test]
fn no_changed_descriptor_is_believed() {
    every_byte(Travels::Descriptor);
}
