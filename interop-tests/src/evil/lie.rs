//! How lies are told: by the keys of an accomplice, and by what goes on instead of a message.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use coset::{CborSerializable, CoseSign1};
use suora_protocol::documents::{self, Document, Invite, TicketId};
use suora_protocol::fault::Code;
use suora_protocol::identity::Key;
use suora_protocol::wire::citizen::FromRelay;
use suora_protocol::wire::guest::ToHost;
use suora_protocol::wire::officer;

use crate::world::{Message, NodeId, World};

/// The hostile node, whoever vouches for it.
pub fn stranger() -> Key {
    Key::from_secret(&[77; 32])
}

/// What a signed document says, whoever signed it. The engines made it, so it reads.
pub fn read<T: Document>(bytes: &[u8]) -> T {
    let message = CoseSign1::from_slice(bytes).unwrap_or_default();
    documents::decode(&message.payload.unwrap_or_default())
        .unwrap_or_else(|fault| unreachable!("{fault}"))
}

/// Signs it.
pub fn sign<T: Document>(document: &T, key: &Key) -> Vec<u8> {
    let signed = documents::sign(document, key).unwrap_or_else(|fault| unreachable!("{fault}"));
    signed.bytes().to_vec()
}

/// The same signature over other content: what a relay without keys can do.
pub(super) fn swap(world: &mut World, change: impl Fn(&mut Invite) + 'static) {
    change_invites(world, move |bytes| {
        let mut message = CoseSign1::from_slice(&bytes).unwrap_or_default();
        let mut invite: Invite = read(&bytes);
        change(&mut invite);
        message.payload = documents::encode(&invite).ok();
        message.to_vec().unwrap_or_default()
    });
}

/// Other content under a hostile officer's signature.
pub(super) fn resign(world: &mut World, change: impl Fn(&mut Invite) + 'static) {
    change_invites(world, move |bytes| {
        let mut invite: Invite = read(&bytes);
        change(&mut invite);
        sign(&invite, &stranger())
    });
}

/// Changes the invite that reaches the citizen.
pub fn change_invites(world: &mut World, mut change: impl FnMut(Vec<u8>) -> Vec<u8> + 'static) {
    world.tap(move |_, message| match message {
        Message::ToCitizen(FromRelay::Invite {
            ticket,
            attempt,
            invite,
        }) => {
            let invite = change(invite);
            vec![Message::ToCitizen(FromRelay::Invite {
                ticket,
                attempt,
                invite,
            })]
        }
        other => vec![other],
    });
}

/// Changes the hello that reaches the officer.
pub fn change_hellos(world: &mut World, mut change: impl FnMut(Vec<u8>) -> Vec<u8> + 'static) {
    world.tap(move |_, message| match message {
        Message::ToHost(ToHost::Hello { hello }) => {
            let hello = change(hello);
            vec![Message::ToHost(ToHost::Hello { hello })]
        }
        other => vec![other],
    });
}

/// Changes the offers that reach the officer.
pub(super) fn lie_to_officer(world: &mut World, lie: impl Fn(&mut officer::FromRelay) + 'static) {
    world.tap(move |_, mut message| {
        if let Message::ToOfficer(said) = &mut message {
            lie(said);
        }
        vec![message]
    });
}

/// Keeps the first invite of a ticket back, and hands it out in place of the next match's.
pub(super) fn replay_attempt(world: &mut World) {
    let mut old: Option<Vec<u8>> = None;
    world.tap(move |_, message| {
        let Message::ToCitizen(FromRelay::Invite {
            ticket,
            attempt,
            invite,
        }) = message
        else {
            return vec![message];
        };
        let Some(invite) = old.clone() else {
            old = Some(invite);
            return Vec::new();
        };
        vec![Message::ToCitizen(FromRelay::Invite {
            ticket,
            attempt,
            invite,
        })]
    });
}

/// The first contact's ticket and invite, for every later one too.
pub fn replay_ticket(world: &mut World) {
    let (first, old) = (Cell::new(None), RefCell::new(None));
    let rename = move |ticket: TicketId| {
        first.set(Some(first.get().unwrap_or(ticket)));
        first.get().unwrap_or(ticket)
    };
    world.tap(move |_, message| {
        let Message::ToCitizen(said) = message else {
            return vec![message];
        };
        vec![Message::ToCitizen(match said {
            FromRelay::Queued { ticket, position } => FromRelay::Queued {
                ticket: rename(ticket),
                position,
            },
            FromRelay::Matched { ticket, attempt } => FromRelay::Matched {
                ticket: rename(ticket),
                attempt,
            },
            FromRelay::Invite {
                ticket,
                attempt,
                invite,
            } => FromRelay::Invite {
                ticket: rename(ticket),
                attempt,
                invite: old.borrow_mut().get_or_insert(invite).clone(),
            },
            other => other,
        })]
    });
}

/// Every second message of a link is kept back until the next, which then goes before it; and
/// all are said twice.
pub(super) fn shuffle(world: &mut World) {
    let kept: RefCell<BTreeMap<(NodeId, bool), Option<Message>>> = RefCell::default();
    world.tap(move |id, message| {
        let from_node = match &message {
            Message::Desk(_) | Message::Attend(_) => true,
            Message::ToCitizen(_) | Message::ToOfficer(_) => false,
            // nobody but the two can touch what is inside their session
            _ => return vec![message],
        };
        let mut kept = kept.borrow_mut();
        let place = kept.entry((id, from_node)).or_default();
        match place.take() {
            None => {
                *place = Some(message);
                Vec::new()
            }
            Some(first) => vec![message.clone(), message, first.clone(), first],
        }
    });
}

/// Once the officer has accepted, both are told that the contact is over.
pub(super) fn hang_up(world: &mut World) {
    let accepted: Cell<Option<(TicketId, u32)>> = Cell::new(None);
    let code = Code::OfficerGone;
    world.tap(move |_, message| match (&message, accepted.get()) {
        (Message::Attend(officer::ToRelay::Accepted { ticket, attempt }), _) => {
            accepted.set(Some((*ticket, *attempt)));
            vec![message]
        }
        (Message::ToOfficer(officer::FromRelay::Pong { .. }), Some((ticket, attempt))) => {
            let withdrawn = officer::FromRelay::Withdrawn {
                ticket,
                attempt,
                code,
            };
            vec![message, Message::ToOfficer(withdrawn)]
        }
        (Message::ToCitizen(FromRelay::Pong { .. }), Some((ticket, _))) => {
            vec![
                message,
                Message::ToCitizen(FromRelay::Waiting {
                    ticket,
                    position: 0,
                    code,
                }),
                Message::ToCitizen(FromRelay::Ended { ticket, code }),
            ]
        }
        _ => vec![message],
    });
}
