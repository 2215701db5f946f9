//! Officers whose credentials are renewed serve on; others end. The relay hands credentials on
//! and is no authority for them.

use std::time::Duration;

use bytes::Bytes;
use suora_interop::world::{Agency, Manner, Message, NodeId, Setup, World};
use suora_node::intent::Intent;
use suora_node::view::Stage;
use suora_protocol::documents::{Credential, KeyUse, UseKey};
use suora_protocol::fault::Code;
use suora_protocol::identity::{Key, PeerId};
use suora_protocol::time::Timestamp;
use suora_protocol::wire::officer::FromRelay;

use super::{COMPLETED, accept, outcome, reaches, refused, secs};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

fn world() -> World {
    World::new(Setup::default())
}

/// A credential that ends in a minute.
fn short(agency: &Agency, peer: PeerId, now: Timestamp) -> Bytes {
    agency.issue(&Credential {
        not_after: now + MINUTE,
        ..agency.officer(peer, now)
    })
}

fn nothing(_: &Agency, _: PeerId, _: Timestamp) -> Bytes {
    Bytes::new()
}

fn renew(world: &mut World, officer: NodeId) -> Bytes {
    let credential = short(&world.agency, world.peer(officer), world.now().utc);
    world.enrol(credential.clone());
    world.run(secs(1));
    assert!(world.enrolled.last().is_some_and(Result::is_ok));
    credential
}

fn serves(world: &mut World, officer: NodeId) {
    let citizen = world.citizen();
    accept(world, officer);
    reaches(world, citizen, Stage::Accepted);
    world.ask(citizen, Intent::HangUp);
    world.run(secs(2));
    assert_eq!(outcome(world, citizen), COMPLETED);
}

// covers: SUORA-DSK-102, SUORA-DSK-103, SUORA-DSK-104
#[test]
fn an_officer_who_is_renewed_serves_on_and_one_who_is_not_ends() {
    let mut world = world();
    let otto = world.officer_with(Manner::default(), short);
    let olga = world.officer_with(Manner::default(), short);
    let mut newest = Bytes::new();
    for _ in 0..15 {
        newest = renew(&mut world, otto);
        world.run(MINUTE);
    }
    assert_eq!(world.kept(otto), Some(&newest));
    assert_eq!(world.finished(otto), None);
    assert_eq!(outcome(&world, olga), refused(Code::Expired));
    serves(&mut world, otto);
    // what was kept is what it shows when it starts again
    world.kill(otto);
    world.run(secs(1));
    world.start(otto);
    world.run(secs(5));
    serves(&mut world, otto);
}

// covers: SUORA-DSK-102
#[test]
fn an_officer_begins_with_nothing_but_a_key() {
    let mut world = world();
    let early = world.officer_with(Manner::default(), nothing);
    world.run(secs(5));
    assert_eq!(outcome(&world, early), refused(Code::NoCredential));
    renew(&mut world, early);
    world.start(early);
    world.run(secs(5));
    serves(&mut world, early);
}

/// What an officer keeps when the relay hands these on, one after the other.
fn kept(handed: impl Fn(&World, NodeId) -> Vec<Bytes>) -> (Option<Bytes>, Vec<Code>) {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(2));
    let mut credentials = handed(&world, otto);
    world.tap(move |_, message| match message {
        Message::ToOfficer(FromRelay::Pong { n }) if !credentials.is_empty() => vec![
            Message::ToOfficer(FromRelay::Credential {
                credential: credentials.remove(0).to_vec(),
            }),
            Message::ToOfficer(FromRelay::Pong { n }),
        ],
        message => vec![message],
    });
    world.run(secs(30));
    // whatever was handed on, the officer serves
    serves(&mut world, otto);
    let faults = world.views(otto).iter().filter_map(|view| match view {
        suora_node::view::View::Fault { code, .. } => Some(*code),
        _ => None,
    });
    let mut faults: Vec<Code> = faults.collect();
    // what a newer page might have cured is said later
    faults.sort_by_key(|code| code.as_str());
    (world.kept(otto).cloned(), faults)
}

// covers: SUORA-DSK-104
#[test]
fn a_node_keeps_only_its_own_newer_and_valid_credential() {
    let at = |world: &World, secs: u64| world.now().utc + Duration::from_secs(secs);
    let (nothing, faults) = kept(|world, otto| {
        let (agency, peer) = (&world.agency, world.peer(otto));
        let other = agency.issue_officer(PeerId::from_bytes(*peer.as_bytes()), at(world, 0));
        let mut changed = other.to_vec();
        *changed.last_mut().unwrap() ^= 1;
        let stranger = Agency::new(77, world.now().utc);
        let forged = Credential {
            agency: agency.id(),
            ..stranger.officer(peer, at(world, 9))
        };
        vec![
            changed.into(),
            stranger.issue(&forged),
            agency.issue_officer(stranger.issuing.peer_id(), at(world, 9)),
            agency.issue(&Credential {
                desks: Vec::new(),
                ..agency.officer(peer, at(world, 9))
            }),
            // valid, and older than the one that it has
            agency.issue_officer(peer, Timestamp::from_secs(at(world, 0).as_secs() - 60)),
        ]
    });
    assert_eq!(nothing, None);
    assert_eq!(
        faults,
        [
            Code::BadSignature,
            Code::BadSignature,
            Code::WrongDesk,
            Code::WrongSigner
        ]
    );
    // the control: the same hands pass a good one on
    let (good, faults) =
        kept(|world, otto| vec![world.agency.issue_officer(world.peer(otto), at(world, 9))]);
    assert!(good.is_some() && faults.is_empty(), "{faults:?}");
}

/// The agency lists another issuing key on its next page and signs by it from now on. The relay
/// does not know that page yet.
fn takes_another_key(world: &mut World) {
    let now = world.now().utc;
    world.agency.take_issuing(Key::from_secret(&[78; 32]), now);
}

/// The agency takes its former issuing key from its page.
fn drops_the_former_key(world: &mut World) {
    let agency = &mut world.agency;
    let former = |key: &UseKey| key.use_ == KeyUse::Issuing && key.id != agency.issuing_id;
    agency.page.keys.retain(|key| !former(key));
    agency.page.sequence += 1;
}

/// A credential by the key that signs now, brought to the relay.
fn reissue(world: &mut World, officer: NodeId) -> Bytes {
    let now = world.now().utc;
    let credential = world.agency.issue_officer(world.peer(officer), now);
    world.enrol(credential.clone());
    world.run(secs(2));
    assert!(world.enrolled.last().is_some_and(Result::is_ok));
    credential
}

// covers: SUORA-DSK-104
#[test]
fn an_officer_whose_page_is_behind_serves_on_under_another_issuing_key() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(15));
    serves(&mut world, otto);
    let before = world.fetches;
    takes_another_key(&mut world);
    world.publish();
    let renewed = reissue(&mut world, otto);
    // the page was asked for at once, not when its hour was over
    assert_eq!(world.kept(otto), Some(&renewed));
    assert_eq!((world.fetches, world.fault(otto)), (before + 1, None));
    drops_the_former_key(&mut world);
    world.publish();
    world.run(secs(5));
    assert_eq!(world.finished(otto), None);
    serves(&mut world, otto);
}

// covers: SUORA-DSK-104
#[test]
fn a_credential_waits_for_the_page_that_lists_its_key() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(15));
    takes_another_key(&mut world);
    world.publish();
    world.web_server(false);
    let renewed = reissue(&mut world, otto);
    assert_eq!(world.kept(otto), None);
    assert_eq!(world.fault(otto), Some(Code::BadSignature), "said once");
    world.web_server(true);
    world.run(HOUR);
    assert_eq!(world.kept(otto), Some(&renewed));
    serves(&mut world, otto);
}

// covers: SUORA-SET-002, SUORA-DSK-104
#[test]
fn an_offer_waits_while_a_newer_credential_waits_for_its_page() {
    let mut world = world();
    let otto = world.officer();
    // the page was asked for just now, and may not be asked for again at once
    world.run(secs(1));
    takes_another_key(&mut world);
    world.publish();
    let credential = reissue(&mut world, otto);
    // citizens' nodes do not know the credential's former key any more
    drops_the_former_key(&mut world);
    world.publish();
    let anna = world.citizen();
    world.run(secs(5));
    assert_eq!(world.stage(anna), Stage::Idle);
    assert_eq!((world.finished(anna), world.kept(otto)), (None, None));
    assert!(world.until(secs(15), |world| world.stage(otto) == Stage::Warm));
    assert_eq!(world.kept(otto), Some(&credential));
    accept(&mut world, otto);
    reaches(&mut world, anna, Stage::Accepted);
}

// covers: SUORA-SET-002
#[test]
fn an_officer_whose_credential_no_longer_stands_costs_nobody_a_ticket() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(5));
    takes_another_key(&mut world);
    drops_the_former_key(&mut world);
    // the officer's node learns it before the relay does
    world.run(HOUR + MINUTE);
    let anna = world.citizen();
    world.run(secs(25));
    assert_eq!(world.fault(otto), Some(Code::BadSignature));
    assert_eq!(
        (world.finished(anna), world.stage(anna)),
        (None, Stage::Idle)
    );
    assert_eq!(world.waiting(), [world.peer(anna)]);
    // another officer serves
    world.publish();
    let olga = world.officer();
    accept(&mut world, olga);
    reaches(&mut world, anna, Stage::Accepted);
}
