//! Which page of the agency a node trusts: remembered, kept fresh, never undone; and under which
//! key a citizen comes.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use suora_interop::evil::lie::{read, sign};
use suora_interop::world::{Agency, Manner, Message, NodeId, Setup, World, base};
use suora_node::engine::ports::Contradiction;
use suora_node::intent::Intent;
use suora_node::view::Stage;
use suora_protocol::documents::Hello;
use suora_protocol::fault::Code;
use suora_protocol::identity::{Hash, Key, PeerId};
use suora_protocol::wire::citizen::FromRelay as FromHub;
use suora_protocol::wire::guest::ToHost;
use suora_protocol::wire::officer::FromRelay;

use super::{COMPLETED, accept, outcome, reaches, refused, secs};

const HOUR: Duration = Duration::from_secs(3_600);

fn world() -> World {
    World::new(Setup::default())
}

/// The citizen is served by the officer and hangs up.
fn served(world: &mut World, officer: NodeId, citizen: NodeId) {
    accept(world, officer);
    reaches(world, citizen, Stage::Accepted);
    world.ask(citizen, Intent::HangUp);
    world.run(secs(2));
    assert_eq!(outcome(world, citizen), COMPLETED);
}

/// The citizen's program starts again.
fn again(world: &mut World, citizen: NodeId) {
    world.kill(citizen);
    world.start(citizen);
}

// covers: SUORA-DOC-102
#[test]
fn a_page_of_this_hour_is_not_asked_for_and_an_older_one_is() {
    let mut world = world();
    let anna = world.citizen();
    world.run(secs(5));
    assert_eq!(world.fetches, 1);
    again(&mut world, anna);
    world.run(secs(5));
    assert_eq!(world.fetches, 1, "it is of this hour");
    assert!(world.linked(anna));
    // whoever stays asks once an hour
    world.run(HOUR + HOUR / 2);
    assert_eq!(world.fetches, 2);
    world.kill(anna);
    world.run(2 * HOUR);
    world.start(anna);
    world.run(secs(5));
    assert_eq!(world.fetches, 3);
}

// covers: SUORA-DOC-102
#[test]
fn a_known_page_serves_while_the_agencys_web_server_is_away() {
    let mut world = world();
    let (otto, anna) = (world.officer(), world.citizen());
    served(&mut world, otto, anna);
    world.web_server(false);
    world.run(2 * HOUR);
    again(&mut world, anna);
    served(&mut world, otto, anna);
    // who was never here has nothing to go by
    let stranger = world.citizen();
    world.run(secs(5));
    let (_, code) = outcome(&world, stranger).unwrap();
    assert_eq!(code, Some(Code::DescriptorUnreachable));
}

/// The agency takes another issuing key while a citizen has the page of before.
fn changed_key(web_server: bool) -> (World, NodeId) {
    let mut world = world();
    let anna = world.citizen();
    world.run(secs(5));
    world.kill(anna);
    let now = world.now().utc;
    world.agency.page.keys.clear();
    world.agency.take_issuing(Key::from_secret(&[77; 32]), now);
    world.publish();
    let otto = world.officer();
    world.run(secs(5));
    world.web_server(web_server);
    world.start(anna);
    if web_server {
        served(&mut world, otto, anna);
    } else {
        world.run(secs(10));
    }
    (world, anna)
}

// covers: SUORA-DOC-102
#[test]
fn a_citizen_who_is_behind_asks_for_the_page_that_the_officer_names() {
    let (world, anna) = changed_key(true);
    assert_eq!(outcome(&world, anna), COMPLETED);
    // the control: without an answer the invite does not stand
    let (world, anna) = changed_key(false);
    assert_eq!(outcome(&world, anna), refused(Code::BadSignature));
}

// covers: SUORA-DOC-012, SUORA-DOC-104
#[test]
fn two_pages_of_one_sequence_stop_everything_and_are_kept_as_proof() {
    let mut world = world();
    let anna = world.citizen();
    world.run(secs(5));
    world.kill(anna);
    let first = world.agency.descriptor().bytes().clone();
    world.agency.page.revoked = vec![world.agency.issuing.peer_id()];
    let second = world.agency.descriptor().bytes().clone();
    world.run(2 * HOUR);
    world.start(anna);
    world.run(secs(5));
    assert_eq!(outcome(&world, anna), refused(Code::Equivocation));
    assert!(!world.linked(anna));
    let [proof] = world.proofs(anna) else {
        panic!("{:?}", world.proofs(anna));
    };
    assert_eq!((&proof.known, &proof.other), (&first, &second));
    assert_eq!(proof.what, Contradiction::Page);
}

// covers: SUORA-DOC-104
#[test]
fn an_invite_that_names_another_page_of_our_sequence_is_kept_as_proof() {
    let mut world = world();
    let anna = world.citizen();
    world.run(secs(5));
    let first = world.agency.descriptor().bytes().clone();
    world.agency.page.domain = "other.example".into();
    let otto = world.officer();
    world.run(secs(5));
    assert_eq!(outcome(&world, anna), refused(Code::Equivocation));
    assert_eq!(world.proofs(anna).len(), 1);
    assert_eq!(world.proofs(anna)[0].known, first);
    assert_eq!(world.proofs(anna)[0].what, Contradiction::Invite);
    assert!(world.proofs(otto).is_empty());
}

// covers: SUORA-DOC-104
#[test]
fn the_first_hello_that_names_another_page_of_our_sequence_is_kept_as_proof() {
    let mut world = world();
    let otto = world.officer();
    let guests = [world.citizen(), world.citizen(), world.citizen()];
    let first = world.agency.descriptor().bytes().clone();
    let keys = guests.map(|guest| (guest, world.key(guest)));
    let sent: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let kept = sent.clone();
    world.tap(move |from, message| {
        let key = keys.iter().find(|(guest, _)| *guest == from);
        let (Message::ToHost(ToHost::Hello { hello }), Some((_, key))) = (&message, key) else {
            return vec![message];
        };
        let mut hello: Hello = read(hello);
        hello.descriptor.hash = Hash::of(b"another page");
        let hello = sign(&hello, key);
        kept.borrow_mut().push(hello.clone());
        vec![Message::ToHost(ToHost::Hello { hello })]
    });
    world.run(secs(10));
    assert_eq!(world.fault(otto), Some(Code::Equivocation));
    for guest in guests {
        assert_eq!(outcome(&world, guest), refused(Code::Equivocation));
        assert!(world.proofs(guest).is_empty());
    }
    assert_eq!(sent.borrow().len(), 3);
    // keys are free: who comes after says the same
    let [proof] = world.proofs(otto) else {
        panic!("{:?}", world.proofs(otto));
    };
    assert_eq!(proof.known, first);
    assert_eq!(proof.other, sent.borrow()[0]);
    assert_eq!(proof.what, Contradiction::Hello);
}

/// How often the page is asked for while an officer serves a citizen who comes anew, where the
/// agency signs one of this sequence between the two.
fn asks(sequence: u64) -> usize {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(15));
    let before = world.fetches;
    world.agency.page.sequence = sequence;
    let anna = world.citizen();
    served(&mut world, otto, anna);
    world.fetches - before
}

// covers: SUORA-DOC-102
#[test]
fn an_officer_who_is_behind_asks_for_the_page_that_the_citizen_names() {
    let same = world().agency.page.sequence;
    assert_eq!(asks(same + 1), 2);
    assert_eq!(asks(same), 1, "the citizen's own question");
}

// covers: SUORA-DOC-103
#[test]
fn a_clock_that_was_set_back_is_called_wrong() {
    let mut world = world();
    let (otto, anna) = (world.officer(), world.citizen());
    served(&mut world, otto, anna);
    let day = 86_400_000_000;
    world.skew(anna, -day);
    again(&mut world, anna);
    world.run(secs(5));
    let (_, code) = outcome(&world, anna).unwrap();
    assert_eq!(code, Some(Code::WrongClock));
    assert!(!world.linked(anna));
    // set right, it works again
    world.skew(anna, 0);
    again(&mut world, anna);
    served(&mut world, otto, anna);
}

/// What an officer's node says to a citizen who comes this long after it learnt the page, and
/// whether it invites; the citizen's clock is a minute slow, and the web server is away.
fn late(page_ends: Duration, comes: Duration) -> (Option<Code>, bool) {
    let mut world = World::with_agency(Setup::default(), |agency| {
        agency.page.not_after = agency.page.issued_at + page_ends;
    });
    let (otto, anna) = (world.officer(), world.citizen());
    served(&mut world, otto, anna);
    world.kill(anna);
    world.web_server(false);
    again(&mut world, otto);
    let invited = Rc::new(RefCell::new(false));
    let seen = invited.clone();
    world.tap(move |_, message| {
        *seen.borrow_mut() |= matches!(message, Message::ToCitizen(FromHub::Invite { .. }));
        vec![message]
    });
    let spent = world.now().mono - base().mono;
    world.run(comes - spent);
    world.skew(anna, -60_000_000);
    world.start(anna);
    world.run(secs(10));
    let invited = *invited.borrow();
    (world.fault(otto), invited)
}

// covers: SUORA-DOC-103
#[test]
fn an_officer_whose_page_has_ended_invites_nobody() {
    let end = 2 * HOUR - secs(100);
    // five minutes of tolerance, and between two questions to the web server
    let after = end + secs(310);
    assert_eq!(late(end, after), (Some(Code::Expired), false));
    assert_eq!(late(end, after - secs(30)), (None, true));
}

/// The peer ids under which one citizen's device comes three times.
fn comes(change: impl FnOnce(&mut Agency)) -> (Vec<PeerId>, PeerId) {
    let mut world = World::with_agency(Setup::default(), change);
    let otto = world.officer_with(Manner::default(), Agency::issue_officer);
    let seen: Rc<RefCell<Vec<PeerId>>> = Rc::default();
    let offered = seen.clone();
    world.tap(move |_, message| {
        if let Message::ToOfficer(FromRelay::Offer { guest, .. }) = &message {
            offered.borrow_mut().push(*guest);
        }
        vec![message]
    });
    let anna = world.citizen();
    served(&mut world, otto, anna);
    for _ in 0..2 {
        again(&mut world, anna);
        served(&mut world, otto, anna);
    }
    let seen = seen.borrow().clone();
    (seen, world.peer(anna))
}

// covers: SUORA-DOC-001, SUORA-DOC-105
#[test]
fn at_an_anonymous_desk_a_citizen_is_somebody_else_each_time() {
    let (seen, own) = comes(|_| {});
    assert_eq!(seen, [own, own, own]);
    let (mut seen, own) = comes(|agency| agency.page.desks[0].anonymous = true);
    assert!(seen.len() == 3 && !seen.contains(&own));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}
