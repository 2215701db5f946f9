//! Officers whose credentials are renewed serve on; others end. The relay hands credentials on
//! and is no authority for them.

use std::time::Duration;

use bytes::Bytes;
use suora_interop::world::{Agency, Manner, Message, NodeId, Setup, World};
use suora_node::intent::Intent;
use suora_node::view::Stage;
use suora_protocol::documents::Credential;
use suora_protocol::fault::Code;
use suora_protocol::identity::PeerId;
use suora_protocol::time::Timestamp;
use suora_protocol::wire::officer::FromRelay;

use super::{COMPLETED, accept, outcome, reaches, refused, secs};

const MINUTE: Duration = Duration::from_secs(60);

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
    (world.kept(otto).cloned(), faults.collect())
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
            Code::WrongSigner,
            Code::WrongDesk
        ]
    );
    // the control: the same hands pass a good one on
    let (good, faults) =
        kept(|world, otto| vec![world.agency.issue_officer(world.peer(otto), at(world, 9))]);
    assert!(good.is_some() && faults.is_empty(), "{faults:?}");
}
