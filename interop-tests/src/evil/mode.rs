//! The lies of a hostile relay, one a mode. What it can do alone it does by its wires; some
//! need an accomplice, a hostile officer, citizen or agency, whose keys are here too.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use suora_protocol::documents::{
    Challenge, Credential, Dcid, Desk, Hello, Invite, KeyUse, Nonce, UseKey,
};
use suora_protocol::fault::Code;
use suora_protocol::identity::{Hash, PeerId};
use suora_protocol::time::Timestamp;
use suora_protocol::wire::citizen::{FromRelay, ToRelay};
use suora_protocol::wire::guest::ToHost;
use suora_protocol::wire::officer;

use super::Who;
use super::lie::{
    change_hellos, change_invites, hang_up, lie_to_officer, read, replay_attempt, replay_ticket,
    resign, shuffle, sign, stranger, swap,
};
use crate::world::{Agency, DESK, Message, NodeId, World, base, desk};

/// The desk beside [`DESK`].
const OTHER: &str = "parking";

/// A lie.
#[derive(Clone, Copy)]
pub struct Mode {
    /// For the command line and the table.
    pub name: &'static str,
    /// What the relay does.
    pub lie: &'static str,
    /// Who has to refuse it first, and how; `None`: the lie changes nothing.
    pub refused: Option<(Who, Code)>,
    /// Whether the consultation completes all the same.
    pub completes: bool,
    /// Where no engine refuses but what lies under it, sockets and TLS, of which these worlds only
    /// keep the contract: the test of the node, `tests/it/endpoint.rs`, that shows it.
    pub shown_by: Option<&'static str>,
    /// How many contacts of the same citizen there are; the lie is told in the last.
    pub(super) contacts: u8,
    /// Puts the lie on the wires; is told the officer.
    pub(super) arms: fn(&mut World, NodeId),
    /// How the officer's credential is made.
    pub(super) issues: fn(&Agency, PeerId, Timestamp) -> Bytes,
    /// What the agency's page says besides.
    pub(super) founds: fn(&mut Agency),
    /// The desk that the citizen asks for.
    pub(super) asks: &'static str,
}

impl std::fmt::Debug for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const PLAIN: Mode = Mode {
    name: "",
    lie: "",
    refused: None,
    completes: false,
    shown_by: None,
    contacts: 1,
    arms: |_, _| {},
    issues: Agency::issue_officer,
    founds: |_| {},
    asks: DESK,
};

/// A mode that the citizen's node refuses.
const fn by_citizen(
    name: &'static str,
    lie: &'static str,
    code: Code,
    arms: fn(&mut World, NodeId),
) -> Mode {
    Mode {
        name,
        lie,
        refused: Some((Who::Citizen, code)),
        arms,
        ..PLAIN
    }
}

/// A mode that the officer's node refuses.
const fn by_officer(
    name: &'static str,
    lie: &'static str,
    code: Code,
    arms: fn(&mut World, NodeId),
) -> Mode {
    Mode {
        refused: Some((Who::Officer, code)),
        ..by_citizen(name, lie, code, arms)
    }
}

/// All modes.
pub const MODES: &[Mode] = &[
    by_citizen(
        "swap-fingerprint",
        "puts the fingerprint of its own certificate into the invite",
        Code::BadSignature,
        |world, _| swap(world, |invite| invite.fingerprint = Hash::of(b"own")),
    ),
    by_citizen(
        "swap-nonce",
        "puts another nonce into the invite",
        Code::BadSignature,
        |world, _| swap(world, |invite| invite.nonce = Nonce::from_bytes([1; 32])),
    ),
    by_citizen(
        "swap-dcid",
        "puts a connection id of its own into the invite",
        Code::BadSignature,
        |world, _| swap(world, |invite| invite.dcid = Dcid::from_bytes([1; 20])),
    ),
    by_citizen(
        "swap-address",
        "lists its own address in the invite",
        Code::BadSignature,
        |world, _| {
            swap(world, |invite| {
                invite.addresses = vec!["203.0.113.9:443".into()];
            });
        },
    ),
    by_citizen(
        "swap-peer",
        "names itself as the invite's guest",
        Code::BadSignature,
        |world, _| swap(world, |invite| invite.guest = stranger().peer_id()),
    ),
    by_citizen(
        "swap-credential",
        "puts another officer's credential into the invite",
        Code::BadSignature,
        |world, _| {
            let other = world
                .agency
                .issue_officer(stranger().peer_id(), world.now().utc);
            swap(world, move |invite| invite.credential = other.to_vec());
        },
    ),
    by_citizen(
        "swap-descriptor",
        "names another page of the agency in the invite",
        Code::BadSignature,
        |world, _| swap(world, |invite| invite.descriptor.hash = Hash::of(b"page")),
    ),
    by_citizen(
        "swap-desk",
        "names another desk in the invite",
        Code::BadSignature,
        |world, _| swap(world, |invite| invite.desk = desk(OTHER)),
    ),
    by_citizen(
        "strip-versions",
        "strips the versions of the invite to an older one",
        Code::BadSignature,
        |world, _| swap(world, |invite| invite.versions = vec!["suora/0".into()]),
    ),
    by_citizen(
        "forge-page",
        "serves a page of the agency that it signed itself",
        Code::WrongAgency,
        |world, _| {
            let forged = Agency::new(201, world.now().utc).descriptor();
            world.tap(move |_, message| match message {
                Message::Descriptor(_) => vec![Message::Descriptor(forged.bytes().clone())],
                other => vec![other],
            });
        },
    ),
    Mode {
        issues: |agency, peer, now| {
            let credential = Credential {
                key: "pass".into(),
                ..agency.officer(peer, now)
            };
            sign(&credential, &agency.pass).into()
        },
        ..by_citizen(
            "make-officer",
            "makes an officer of its own, with the only key that it has",
            Code::WrongSigner,
            |_, _| {},
        )
    },
    by_citizen(
        "lie-guest",
        "offers the officer its own citizen, and hands that invite to the one who waits",
        Code::WrongGuest,
        |world, _| {
            lie_to_officer(world, |offer| {
                if let officer::FromRelay::Offer { guest, .. } = offer {
                    *guest = stranger().peer_id();
                }
            });
        },
    ),
    by_citizen(
        "lie-challenge",
        "tells the officer another challenge",
        Code::WrongChallenge,
        |world, _| {
            lie_to_officer(world, |offer| {
                if let officer::FromRelay::Offer { challenge, .. } = offer {
                    *challenge = Challenge::from_bytes([1; 16]);
                }
            });
        },
    ),
    Mode {
        asks: OTHER,
        ..by_citizen(
            "lie-desk",
            "leads a citizen of one desk to another",
            Code::WrongDesk,
            |world, _| {
                world.tap(|_, message| match message {
                    Message::Desk(ToRelay::Join {
                        challenge, ticket, ..
                    }) => vec![Message::Desk(ToRelay::Join {
                        desk: desk(DESK),
                        challenge,
                        ticket,
                        work: None,
                    })],
                    other => vec![other],
                });
            },
        )
    },
    Mode {
        contacts: 2,
        ..by_citizen(
            "replay-invite",
            "passes an earlier contact's invite on again",
            Code::WrongTicket,
            |world, _| {
                let old: Rc<RefCell<Option<Vec<u8>>>> = Rc::default();
                change_invites(world, move |invite| {
                    old.borrow_mut().get_or_insert(invite).clone()
                });
            },
        )
    },
    Mode {
        contacts: 2,
        ..by_citizen(
            "replay-ticket",
            "gives an earlier contact's ticket and invite out again",
            Code::WrongChallenge,
            |world, _| replay_ticket(world),
        )
    },
    Mode {
        shown_by: Some("a_guest_that_is_not_expected_hears_nothing"),
        ..by_officer(
            "replay-attempt",
            "passes the invite of an earlier match of the same ticket on again",
            Code::HandshakeFailed,
            |world, _| replay_attempt(world),
        )
    },
    by_officer(
        "repeat-hello",
        "says the citizen's hello twice in its session",
        Code::ProtocolViolation,
        |world, _| {
            world.tap(|_, message| match message {
                Message::ToHost(ToHost::Hello { .. }) => vec![message.clone(), message],
                other => vec![other],
            });
        },
    ),
    Mode {
        contacts: 2,
        ..by_officer(
            "replay-hello",
            "says an earlier session's hello in a new one",
            Code::WrongInvite,
            |world, _| {
                let old: Rc<RefCell<Option<Vec<u8>>>> = Rc::default();
                change_hellos(world, move |hello| {
                    old.borrow_mut().get_or_insert(hello).clone()
                });
            },
        )
    },
    by_officer(
        "own-hello",
        "answers the officer's invite with a hello of its own citizen",
        Code::BadSignature,
        |world, _| {
            change_hellos(world, |hello| sign(&read::<Hello>(&hello), &stranger()));
        },
    ),
    by_officer(
        "middle",
        "sits in the middle with a stolen certificate, and a citizen of its own towards the officer",
        Code::WrongBinding,
        |world, _| world.sit_in_the_middle(),
    ),
    by_citizen(
        "other-agency",
        "passes an invite of another agency's officer on",
        Code::BadSignature,
        |world, _| {
            let lender = Agency::new(202, base().utc);
            let credential = lender.issue_officer(stranger().peer_id(), world.now().utc);
            resign(world, move |invite| {
                invite.agency = lender.id();
                invite.credential = credential.to_vec();
            });
        },
    ),
    Mode {
        founds: |agency| {
            let lender = Agency::new(203, base().utc);
            agency.page.keys.push(UseKey {
                id: lender.issuing_id.clone(),
                key: lender.issuing.peer_id(),
                use_: KeyUse::Issuing,
                not_after: agency.page.not_after,
            });
        },
        ..by_citizen(
            "borrowed-officer",
            "its agency lists another's issuing key, and passes that one's officer on as its own",
            Code::WrongAgency,
            |world, _| {
                let lender = Agency::new(203, base().utc);
                let credential = lender.issue_officer(stranger().peer_id(), world.now().utc);
                resign(world, move |invite| {
                    invite.agency = lender.id();
                    invite.credential = credential.to_vec();
                });
            },
        )
    },
    by_officer(
        "copy-invite",
        "lets a hostile officer copy the honest one's values into an invite of its own",
        Code::WrongInvite,
        |world, _| {
            let credential = world
                .agency
                .issue_officer(stranger().peer_id(), world.now().utc);
            resign(world, move |invite| invite.credential = credential.to_vec());
        },
    ),
    by_citizen(
        "other-page",
        "showed the officer another page of the same number",
        Code::Equivocation,
        |world, otto| {
            let key = world.key(otto);
            change_invites(world, move |invite| {
                let mut invite: Invite = read(&invite);
                invite.descriptor.hash = Hash::of(b"another page");
                sign(&invite, &key)
            });
        },
    ),
    by_citizen(
        "no-version",
        "an officer's node takes no version that the citizen's has",
        Code::WrongVersion,
        |world, otto| {
            let key = world.key(otto);
            change_invites(world, move |invite| {
                let mut invite: Invite = read(&invite);
                invite.versions = vec!["suora/0".into()];
                sign(&invite, &key)
            });
        },
    ),
    Mode {
        shown_by: Some("another_certificate_than_the_invites_is_refused"),
        ..by_citizen(
            "other-certificate",
            "answers at the officer's address with a certificate of its own",
            Code::WrongCertificate,
            |world, otto| world.take_address(otto),
        )
    },
    Mode {
        shown_by: Some("a_former_session_opens_no_door_to_a_host_with_a_new_certificate"),
        ..by_citizen(
            "former-certificate",
            "answers with the stolen certificate of the officer's last start",
            Code::WrongCertificate,
            |world, otto| world.former_certificate(otto),
        )
    },
    Mode {
        completes: true,
        ..by_citizen(
            "two-invites",
            "hands out a second invite for the ticket, another officer's and good, and loses what is said of it",
            Code::AlreadyInvited,
            |world, _| {
                let credential = world
                    .agency
                    .issue_officer(stranger().peer_id(), world.now().utc);
                world.tap(move |_, message| match &message {
                    Message::ToCitizen(FromRelay::Invite {
                        ticket,
                        attempt,
                        invite,
                    }) => {
                        let mut second: Invite = read(invite);
                        second.credential = credential.to_vec();
                        let second = FromRelay::Invite {
                            ticket: *ticket,
                            attempt: *attempt,
                            invite: sign(&second, &stranger()),
                        };
                        vec![message.clone(), Message::ToCitizen(second)]
                    }
                    Message::Desk(ToRelay::Refused { .. }) => Vec::new(),
                    _ => vec![message],
                });
            },
        )
    },
    by_citizen(
        "repeat-all",
        "says everything twice",
        Code::AlreadyInvited,
        |world, _| {
            world.tap(|_, message| match &message {
                // nobody but the two can touch what is inside their session
                Message::ToHost(_) | Message::FromHost(_) => vec![message],
                _ => vec![message.clone(), message],
            });
        },
    ),
    Mode {
        // an invite that comes before its match is not looked at: this costs service, and no more
        refused: None,
        ..by_citizen(
            "shuffle",
            "says everything twice and out of order",
            Code::AlreadyInvited,
            |world, _| shuffle(world),
        )
    },
    Mode {
        refused: None,
        completes: true,
        ..by_citizen(
            "hang-up",
            "says in mid-consultation that the other one has gone",
            Code::OfficerGone,
            |world, _| hang_up(world),
        )
    },
];

/// A second desk, beside the first.
pub(super) fn other_desk(first: &Desk) -> Desk {
    Desk {
        id: desk(OTHER),
        ..first.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = MODES.iter().map(|mode| mode.name).collect();
        assert_eq!(names.len(), MODES.len());
        assert!(MODES.iter().all(|mode| !mode.lie.is_empty()));
    }
}
