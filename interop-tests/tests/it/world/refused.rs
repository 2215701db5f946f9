//! Whoever cannot prove itself is refused with the reason, and nobody is shown as proven.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use suora_interop::evil::lie::{change_invites, read, replay_ticket, sign, stranger};
use suora_interop::world::{Agency, Manner, Message, NodeId, Setup, World, desk};
use suora_node::intent::Intent;
use suora_node::report::Outcome;
use suora_node::view::{Stage, View};
use suora_protocol::documents::{
    self, AddressPolicy, Credential, Invite, KeyUse, Role, Signed, UseKey,
};
use suora_protocol::fault::Code;
use suora_protocol::identity::PeerId;
use suora_protocol::time::Timestamp;
use suora_protocol::wire::citizen::{FromRelay, ToRelay};
use suora_protocol::wire::guest::{FromHost, ToHost};
use suora_protocol::wire::officer::FromRelay as FromHub;

use super::{COMPLETED, accept, outcome, reaches, refused, secs};

fn world() -> World {
    World::new(Setup::default())
}

/// A way to have no right to serve: how the credential is made, what the hub says of it, and
/// what a citizen says of an invite that shows it.
type Wrong = (fn(&Agency, PeerId, Timestamp) -> Bytes, Code, Code);

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

fn changed(
    agency: &Agency,
    peer: PeerId,
    now: Timestamp,
    change: fn(&mut Credential, Timestamp),
) -> Bytes {
    let mut credential = agency.officer(peer, now);
    change(&mut credential, now);
    agency.issue(&credential)
}

const WRONG: &[Wrong] = &[
    (
        |_, _, _| Bytes::new(),
        Code::NoCredential,
        Code::NoCredential,
    ),
    (
        |agency, peer, now| {
            changed(agency, peer, now, |credential, now| {
                credential.not_before = now - DAY * 8;
                credential.not_after = now - DAY;
            })
        },
        Code::Expired,
        Code::Expired,
    ),
    (
        |agency, peer, now| {
            changed(agency, peer, now, |credential, now| {
                credential.not_before = now + DAY;
            })
        },
        Code::NotYetValid,
        Code::NotYetValid,
    ),
    (
        |agency, peer, now| {
            changed(agency, peer, now, |credential, _| {
                credential.desks = vec![desk("parking")];
            })
        },
        Code::WrongDesk,
        Code::WrongDesk,
    ),
    (
        |agency, peer, now| {
            changed(agency, peer, now, |credential, _| {
                credential.role = Role::Interpreter;
            })
        },
        Code::WrongRole,
        Code::WrongRole,
    ),
    // another agency's key signed it
    (
        |_, peer, now| Agency::new(200, now).issue_officer(peer, now),
        Code::BadSignature,
        Code::BadSignature,
    ),
    // this agency's key signed it for another agency
    (
        |agency, peer, now| {
            changed(agency, peer, now, |credential, now| {
                credential.agency = Agency::new(200, now).id();
            })
        },
        Code::WrongAgency,
        Code::WrongAgency,
    ),
    // the pass key makes no officers
    (
        |agency, peer, now| {
            let mut credential = agency.officer(peer, now);
            credential.key = "pass".into();
            Bytes::from(sign(&credential, &agency.pass))
        },
        Code::WrongSigner,
        Code::WrongSigner,
    ),
    // somebody else's credential: a citizen sees an invite that its owner did not sign
    (
        |agency, _, now| agency.issue_officer(stranger().peer_id(), now),
        Code::WrongSigner,
        Code::BadSignature,
    ),
];

#[test]
fn the_hub_refuses_whoever_may_not_serve_and_says_why() {
    for (issue, code, _) in WRONG {
        let mut world = world();
        let anna = world.citizen();
        world.run(secs(1));
        let otto = world.officer_with(Manner::default(), issue);
        world.run(secs(5));
        assert_eq!(world.refused, [*code]);
        assert_eq!(world.fault(otto), Some(*code));
        assert_eq!(outcome(&world, otto), refused(*code));
        assert_eq!(world.finished(otto), Some(1));
        assert_eq!(world.position(anna), Some(0));
        assert_eq!(world.store.rows[0].attempt, 0, "{code}: nobody was offered");
    }
    // control: the same officer with the right to serve
    let mut world = world();
    let anna = world.citizen();
    world.run(secs(1));
    world.officer();
    reaches(&mut world, anna, Stage::Warm);
    assert_eq!(world.refused, []);
}

#[test]
fn under_a_relay_that_checks_nothing_the_citizen_refuses_and_is_told_why() {
    for (issue, _, code) in WRONG {
        let mut world = World::new(Setup {
            faults: suora_relay::Faults {
                unchecked_credential: true,
                ..suora_relay::Faults::default()
            },
            ..Setup::default()
        });
        let manner = Manner {
            auto_accept: true,
            stay: false,
        };
        let otto = world.officer_with(manner, issue);
        world.run(secs(1));
        let anna = world.citizen();
        world.run(secs(5));
        assert_eq!(world.fault(anna), Some(*code));
        assert_eq!(outcome(&world, anna), refused(*code));
        assert_eq!(world.finished(anna), Some(1));
        assert!(!world.saw_someone(anna) && !world.gate_open(anna), "{code}");
        // the officer's node learns it too
        assert_eq!(world.fault(otto), Some(*code));
        assert_eq!(outcome(&world, otto), refused(*code));
        assert!(!world.gate_open(otto));
        assert!(world.store.rows.is_empty());
    }
}

// covers: SUORA-SET-016
#[test]
fn a_desk_that_hides_addresses_is_refused_for_want_of_a_path() {
    for policy in [AddressPolicy::AfterAccept, AddressPolicy::RelayOnly] {
        let mut world = World::with_agency(Setup::default(), |agency| {
            agency.page.desks[0].address_policy = policy;
        });
        let people = [world.citizen(), world.officer()];
        world.run(secs(2));
        for id in people {
            assert_eq!(world.fault(id), Some(Code::NoPath));
            let failed = Some((Outcome::Failed, Some(Code::NoPath)));
            assert_eq!(outcome(&world, id), failed);
            assert_eq!(world.finished(id), Some(1));
            assert!(!world.linked(id));
        }
    }
}

/// How often an officer is asked within two minutes, for a citizen whose machine is in this
/// network; the officer's is in 10.1.0.0/16.
fn offers(citizen: &str) -> (World, NodeId, usize) {
    let mut world = world();
    let offers: Rc<RefCell<usize>> = Rc::default();
    let seen = offers.clone();
    world.tap(move |_, message| {
        let is_offer = matches!(message, Message::ToOfficer(FromHub::Offer { .. }));
        *seen.borrow_mut() += usize::from(is_offer);
        vec![message]
    });
    let (otto, anna) = (world.officer(), world.citizen());
    for (id, ip) in [(otto, "10.1.0.7"), (anna, citizen)] {
        world.is_in(id, (ip.parse().unwrap(), 16));
    }
    world.run(secs(120));
    let offers = *offers.borrow();
    (world, anna, offers)
}

// covers: SUORA-SET-015, SUORA-SET-130
#[test]
fn who_can_dial_none_of_the_officers_addresses_is_told_why_after_one_offer() {
    let (world, anna, asked) = offers("10.2.0.7");
    assert_eq!(asked, 1);
    let failed = Some((Outcome::Failed, Some(Code::NoPath)));
    assert_eq!(outcome(&world, anna), failed);
    assert_eq!(world.finished(anna), Some(1));
    let why = world.last(anna, |view| match view {
        View::Fault { detail, .. } => detail.clone(),
        _ => None,
    });
    assert!(why.is_some_and(|why| why.contains("--routed")));
    // the control: beside the officer nothing is in the way
    let (world, anna, asked) = offers("10.1.0.8");
    assert_eq!((asked > 0, world.saw_someone(anna)), (true, true));
}

/// Everybody is there, the network does its worst, and this is what the two learn.
fn ends_refused(world: &mut World, anna: NodeId, otto: NodeId, code: Code) {
    world.run(secs(5));
    assert_eq!(outcome(world, anna), refused(code));
    for id in [anna, otto] {
        assert!(!world.gate_open(id));
        assert_ne!(world.stage(id), Stage::Warm);
        assert_ne!(world.stage(id), Stage::Accepted);
    }
    assert!(!world.saw_someone(anna));
}

/// A citizen and an officer; the citizen's invite is about to come.
fn two(world: &mut World) -> (NodeId, NodeId) {
    let otto = world.officer();
    world.run(secs(1));
    (world.citizen(), otto)
}

#[test]
fn an_invite_copied_into_another_officers_is_no_invite_of_the_first() {
    let mut world = world();
    // X may serve here as well, and copies all that O's invite says into one of its own
    let x = stranger();
    let credential = world.agency.issue_officer(x.peer_id(), world.now().utc);
    let (anna, otto) = two(&mut world);
    change_invites(&mut world, move |invite| {
        let copied = Invite {
            credential: credential.to_vec(),
            ..read(&invite)
        };
        sign(&copied, &x)
    });
    ends_refused(&mut world, anna, otto, Code::WrongInvite);
    assert!(!world.saw_someone(otto));
    assert_eq!(world.fault(otto), Some(Code::WrongInvite));
}

#[test]
fn an_invite_of_an_earlier_contact_is_refused() {
    let mut world = world();
    let old: Rc<RefCell<Option<Vec<u8>>>> = Rc::default();
    let seen = old.clone();
    let (anna, otto) = two(&mut world);
    // the first invite is recorded, and comes again in place of every later one
    change_invites(&mut world, move |invite| {
        seen.borrow_mut().get_or_insert(invite).clone()
    });
    accept(&mut world, otto);
    world.run(secs(1));
    world.ask(otto, Intent::HangUp);
    world.run(secs(2));
    assert_eq!(outcome(&world, anna), COMPLETED);
    world.start(anna);
    ends_refused(&mut world, anna, otto, Code::WrongTicket);
}

#[test]
fn an_old_invite_under_an_old_ticket_fails_by_its_challenge() {
    let mut world = world();
    let (anna, otto) = two(&mut world);
    // a relay that gives the same ticket number and the same invite to the same citizen again
    replay_ticket(&mut world);
    accept(&mut world, otto);
    world.run(secs(1));
    world.ask(otto, Intent::HangUp);
    world.run(secs(2));
    assert_eq!(outcome(&world, anna), COMPLETED);
    world.start(anna);
    world.run(secs(5));
    assert_eq!(outcome(&world, anna), refused(Code::WrongChallenge));
}

// covers: SUORA-SET-003
#[test]
fn an_old_invite_of_the_same_ticket_leads_nowhere() {
    let mut world = world();
    let old: Rc<RefCell<Option<Vec<u8>>>> = Rc::default();
    let (anna, otto) = two(&mut world);
    change_invites(&mut world, move |invite| {
        old.borrow_mut().get_or_insert(invite).clone()
    });
    reaches(&mut world, anna, Stage::Warm);
    world.ask(otto, Intent::Decline);
    world.run(secs(1));
    let next = world.officer();
    world.run(secs(3));
    assert_eq!(world.stage(anna), Stage::Connecting);
    assert_eq!(world.stage(next), Stage::Connecting);
    // nobody answers to it; the ticket waits on, and is served when the replay stops
    world.untap();
    world.run(secs(5));
    assert!(world.until(secs(60), |world| world.stage(next) == Stage::Warm));
    accept(&mut world, next);
    reaches(&mut world, anna, Stage::Accepted);
}

// covers: SUORA-SET-003, SUORA-DSK-006
#[test]
fn a_second_invite_for_one_ticket_is_answered_already_invited() {
    let mut world = world();
    let said: Rc<RefCell<Vec<ToRelay>>> = Rc::default();
    let heard = said.clone();
    let (anna, otto) = two(&mut world);
    world.tap(move |_, message| match &message {
        Message::ToCitizen(FromRelay::Invite { .. }) => vec![message.clone(), message],
        Message::Desk(line @ ToRelay::Refused { .. }) => {
            heard.borrow_mut().push(line.clone());
            // and the answer is lost, so that the match stands
            Vec::new()
        }
        _ => vec![message],
    });
    accept(&mut world, otto);
    reaches(&mut world, anna, Stage::Accepted);
    let said = said.borrow();
    assert!(
        matches!(
            said[..],
            [ToRelay::Refused {
                code: Code::AlreadyInvited,
                ..
            }]
        ),
        "{said:?}"
    );
}

#[test]
fn an_invite_of_another_agency_that_shares_a_key_is_refused() {
    // a hostile agency lists the issuing key of the one whose officers it wants to borrow
    let lender = Agency::new(50, suora_interop::world::base().utc);
    let (issuing, id) = (lender.issuing.peer_id(), lender.issuing_id.clone());
    let mut world = World::with_agency(Setup::default(), move |agency| {
        agency.page.keys.push(UseKey {
            id,
            key: issuing,
            use_: KeyUse::Issuing,
            not_after: agency.page.not_after,
        });
    });
    let officer = stranger();
    let credential = lender.issue_officer(officer.peer_id(), world.now().utc);
    let (anna, otto) = two(&mut world);
    change_invites(&mut world, move |invite| {
        let borrowed = Invite {
            agency: lender.id(),
            credential: credential.to_vec(),
            ..read(&invite)
        };
        sign(&borrowed, &officer)
    });
    ends_refused(&mut world, anna, otto, Code::WrongAgency);
}

#[test]
fn an_invite_of_another_descriptor_of_the_same_sequence_is_equivocation() {
    let mut world = world();
    let (anna, otto) = two(&mut world);
    let key = world.key(otto);
    change_invites(&mut world, move |invite| {
        let mut other: Invite = read(&invite);
        other.descriptor.hash = suora_protocol::identity::Hash::of(b"another page");
        sign(&other, &key)
    });
    ends_refused(&mut world, anna, otto, Code::Equivocation);
}

#[test]
fn a_welcome_from_another_key_is_refused() {
    let mut world = world();
    let (anna, otto) = two(&mut world);
    world.tap(|_, message| match message {
        Message::FromHost(FromHost::Welcome {
            welcome,
            participant,
        }) => {
            let welcome: documents::Welcome = read(&welcome);
            vec![Message::FromHost(FromHost::Welcome {
                welcome: sign(&welcome, &stranger()),
                participant,
            })]
        }
        other => vec![other],
    });
    ends_refused(&mut world, anna, otto, Code::BadSignature);
}

#[test]
fn a_welcome_to_another_hello_is_refused() {
    let mut world = world();
    let (anna, otto) = two(&mut world);
    let key = world.key(otto);
    world.tap(move |_, message| match message {
        Message::FromHost(FromHost::Welcome {
            welcome,
            participant,
        }) => {
            let welcome = documents::Welcome {
                hello: suora_protocol::identity::Hash::of(b"another hello"),
                ..read(&welcome)
            };
            vec![Message::FromHost(FromHost::Welcome {
                welcome: sign(&welcome, &key),
                participant,
            })]
        }
        other => vec![other],
    });
    ends_refused(&mut world, anna, otto, Code::WrongInvite);
}

#[test]
fn a_hello_from_another_key_is_refused() {
    let mut world = world();
    let (anna, otto) = two(&mut world);
    world.tap(|_, message| match message {
        Message::ToHost(ToHost::Hello { hello }) => {
            let hello: documents::Hello = read(&hello);
            vec![Message::ToHost(ToHost::Hello {
                hello: sign(&hello, &stranger()),
            })]
        }
        other => vec![other],
    });
    ends_refused(&mut world, anna, otto, Code::BadSignature);
    assert!(!world.saw_someone(otto));
}

// covers: SUORA-SEC-122
#[test]
fn a_guest_with_a_bad_proof_ends_no_officers_day() {
    let mut world = world();
    // serves one, then ends
    let manner = Manner {
        auto_accept: true,
        stay: false,
    };
    let otto = world.officer_with(manner, Agency::issue_officer);
    world.run(secs(1));
    let mallory = world.citizen();
    world.tap(|_, message| match message {
        Message::ToHost(ToHost::Hello { hello }) => {
            let hello: documents::Hello = read(&hello);
            vec![Message::ToHost(ToHost::Hello {
                hello: sign(&hello, &stranger()),
            })]
        }
        other => vec![other],
    });
    world.run(secs(5));
    assert_eq!(outcome(&world, mallory), refused(Code::BadSignature));
    assert_eq!(world.fault(otto), Some(Code::BadSignature), "told why");
    assert_eq!(world.finished(otto), None);
    world.untap();
    let anna = world.citizen();
    reaches(&mut world, anna, Stage::Accepted);
    world.ask(anna, Intent::HangUp);
    world.run(secs(2));
    assert_eq!(outcome(&world, otto), COMPLETED);
    assert_eq!(world.finished(otto), Some(0));
}

#[test]
fn a_hello_on_another_connection_is_refused() {
    let mut world = world();
    let (anna, otto) = two(&mut world);
    world.sit_in_the_middle();
    ends_refused(&mut world, anna, otto, Code::WrongBinding);
    assert!(!world.saw_someone(otto));
}

#[test]
fn a_certificate_that_is_not_the_invites_is_refused() {
    let mut world = world();
    let (anna, otto) = two(&mut world);
    world.take_address(otto);
    ends_refused(&mut world, anna, otto, Code::WrongCertificate);
}

#[test]
fn the_same_harness_verifies_when_nobody_interferes() {
    let mut world = world();
    let (anna, otto) = two(&mut world);
    change_invites(&mut world, |invite| {
        let signed: Signed<Invite> = Signed::from_bytes(invite).unwrap();
        signed.bytes().to_vec()
    });
    accept(&mut world, otto);
    reaches(&mut world, anna, Stage::Accepted);
    assert!(world.saw_someone(anna) && world.saw_someone(otto));
}
