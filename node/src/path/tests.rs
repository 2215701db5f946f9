//! Two ends, their routers and relays, in virtual time: which way they find, how long the gap is
//! when it dies, and what an end that hides shows.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use suora_protocol::wire::path::Kind;

use super::{Arrived, stun};

mod world;

use self::world::{GUEST, HOST, Plan, World};

/// From which the tests of all paths step their own clocks.
#[expect(
    clippy::disallowed_methods,
    reason = "door: the base of virtual time in tests"
)]
pub(crate) fn base() -> Instant {
    Instant::now()
}

/// A round trip between the ends over a relay.
const TRIP: Duration = Duration::from_millis(100);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A consultation whose path is direct.
fn direct(plan: Plan) -> World {
    let mut world = World::warm(plan);
    world.accept();
    world.run(secs(3));
    assert_eq!((world.hops(GUEST), world.hops(HOST)), (0, 0));
    world
}

/// When a node's path was direct first.
fn direct_at(world: &World, at: usize) -> Option<Instant> {
    let moves = world.nodes[at].moves.iter();
    moves
        .filter(|(_, hops)| *hops == 0)
        .map(|(at, _)| *at)
        .next()
}

// covers: SUORA-SET-209
#[test]
fn it_is_relayed_at_once_and_direct_within_three_round_trips_of_the_accept() {
    let mut world = World::warm(Plan::default());
    assert_eq!((world.hops(GUEST), world.hops(HOST)), (1, 1));
    let begin = world.now;
    let accepted = world.accept();
    world.run(secs(3));
    for at in [GUEST, HOST] {
        let took = direct_at(&world, at).unwrap().duration_since(accepted);
        assert!(took <= 3 * TRIP, "{took:?}");
        // and nobody noticed
        assert_eq!(world.missing(at, begin), 0);
        assert!(world.gap(at, begin) <= 40, "{}", world.gap(at, begin));
    }
    // no packet passes the relay any longer
    let passed = world.servers[0].passed;
    world.run(secs(1));
    assert!(world.servers[0].passed - passed < 10);
}

// covers: SUORA-SET-209
#[test]
fn where_no_direct_way_is_the_relay_carries_all_of_it() {
    let mut world = World::warm(Plan {
        per_destination: [true, true],
        ..Plan::default()
    });
    let begin = world.now;
    world.accept();
    world.run(secs(20));
    for at in [GUEST, HOST] {
        assert!(world.hops(at) >= 1);
        assert_eq!(world.missing(at, begin), 0);
        assert!(world.gap(at, begin) <= 60, "{}", world.gap(at, begin));
    }
}

// covers: SUORA-SET-209
#[test]
fn one_router_that_maps_per_destination_needs_a_check_that_finds_it() {
    // the other one lets in whoever its node sent to, whatever the port
    let mut world = World::new(Plan {
        per_destination: [true, false],
        ..Plan::default()
    });
    world.nodes[HOST].filter_by_address();
    let mut world = world.warmed();
    world.accept();
    world.run(secs(3));
    assert_eq!((world.hops(GUEST), world.hops(HOST)), (0, 0));
}

// covers: SUORA-SET-210
#[test]
fn a_direct_path_that_dies_silently_is_left_in_250_ms_and_taken_again_when_it_heals() {
    let mut world = direct(Plan::default());
    let died = world.now;
    let (one, other) = (world.public(GUEST), world.public(HOST));
    world.cut(one, other);
    world.run(secs(5));
    for at in [GUEST, HOST] {
        // silence 225 ms, and the way over the relay
        assert!(world.gap(at, died) <= 330, "{}", world.gap(at, died));
        assert!(world.hops(at) >= 1);
    }
    let healed = world.now;
    world.cut.clear();
    world.run(secs(8));
    for at in [GUEST, HOST] {
        assert_eq!(world.hops(at), 0);
        assert_eq!(world.missing(at, healed), 0);
        assert!(world.gap(at, healed) <= 60, "{}", world.gap(at, healed));
    }
}

// covers: SUORA-SET-210
#[test]
fn without_checks_the_same_fault_ends_the_talk() {
    // the control of all gaps here: this world shows one
    let mut world = World::warm(Plan {
        checks: false,
        ..Plan::default()
    });
    let died = world.now;
    let relay = world.servers[0].address.ip();
    let guest = world.public(GUEST);
    world.cut(relay, guest);
    world.run(secs(5));
    assert!(world.gap(GUEST, died) >= 4_900);
}

// covers: SUORA-SET-210
#[test]
fn a_router_that_forgets_its_mappings_costs_a_quarter_of_a_second() {
    for at in [GUEST, HOST] {
        let mut world = direct(Plan::default());
        let died = world.now;
        world.reboot(at);
        world.run(secs(8));
        let gaps = (world.gap(GUEST, died), world.gap(HOST, died));
        assert!(gaps.0.max(gaps.1) <= 500, "{at}: {gaps:?}");
        // and direct again, under the new mapping
        assert_eq!((world.hops(GUEST), world.hops(HOST)), (0, 0), "{at}");
    }
}

// covers: SUORA-SET-211
#[test]
fn another_network_is_used_as_soon_as_the_system_tells_of_it() {
    for at in [GUEST, HOST] {
        let mut world = direct(Plan::default());
        let moved = world.now;
        world.roam(at, 9);
        world.run(secs(8));
        let gaps = (world.gap(GUEST, moved), world.gap(HOST, moved));
        assert!(gaps.0.max(gaps.1) <= 400, "{at}: {gaps:?}");
        assert_eq!((world.hops(GUEST), world.hops(HOST)), (0, 0), "{at}");
        // the other end learnt of it by a higher generation
        let told = &world.nodes[1 - at].told;
        assert!(told.last().unwrap().generation > told[0].generation);
    }
}

// covers: SUORA-SET-209
#[test]
fn a_relay_that_dies_is_not_noticed_on_a_direct_path() {
    let mut world = direct(Plan::default());
    let died = world.now;
    world.servers[0].dead = true;
    world.run(secs(30));
    for at in [GUEST, HOST] {
        assert_eq!(world.hops(at), 0);
        assert_eq!(world.missing(at, died), 0);
    }
}

// covers: SUORA-SET-202, SUORA-SET-210
#[test]
fn a_relayed_path_goes_over_the_second_relay_when_the_first_one_dies() {
    let mut world = World::warm(Plan {
        per_destination: [true, true],
        relays: 2,
        ..Plan::default()
    });
    world.accept();
    world.run(secs(3));
    let died = world.now;
    // the one that carries more
    let used = usize::from(world.servers[0].passed < world.servers[1].passed);
    world.servers[used].dead = true;
    world.run(secs(8));
    let gaps = (world.gap(GUEST, died), world.gap(HOST, died));
    assert!(gaps.0.max(gaps.1) <= 2_000, "{gaps:?}");
}

// covers: SUORA-SET-208, SUORA-SET-210
#[test]
fn after_a_blackout_sound_is_back_with_the_wire() {
    for length in [3, 8, 40] {
        let mut world = direct(Plan::default());
        let all = [
            world.public(GUEST),
            world.public(HOST),
            world.servers[0].address.ip(),
        ];
        for one in all {
            for other in all {
                world.cut(one, other);
            }
        }
        world.run(secs(length));
        let back = world.now;
        world.cut.clear();
        world.run(secs(2));
        for at in [GUEST, HOST] {
            let mut heard = world.nodes[at].heard.iter().map(|(time, _)| *time);
            let first = heard.find(|time| *time >= back).unwrap();
            let took = first.duration_since(back).as_millis();
            // past 30 s nothing but checks may leave: RFC 7675
            let bound = if length > 30 { 200 } else { 50 };
            assert!(took <= bound, "{length} s: {took}");
            let late = back - secs(5);
            let sound = |(time, _, bytes): &&(Instant, _, Vec<u8>)| {
                (late..back).contains(time) && !is_check(bytes) && bytes.len() > 150
            };
            let sent = world.nodes[at].left.iter().filter(sound).count();
            assert_eq!(sent == 0, length > 30, "{length} s: {sent}");
        }
    }
}

// covers: SUORA-SET-204
#[test]
fn who_hides_shows_the_other_end_nothing_but_a_relayed_address() {
    let run = |hidden| {
        let mut world = World::warm(Plan {
            hidden,
            ..Plan::default()
        });
        let begin = world.now;
        world.accept();
        world.run(secs(5));
        assert_eq!(world.missing(HOST, begin), 0);
        world
    };
    let world = run(true);
    assert!(world.is_own_relay(GUEST));
    let relay = world.servers[0].address;
    // every packet of the guest goes to the relay's own port, none to the host or its allocation
    assert!(
        world.nodes[GUEST]
            .left
            .iter()
            .all(|(_, to, _)| *to == relay)
    );
    let told = &world.nodes[HOST].told;
    let kinds = told
        .iter()
        .flat_map(|one| &one.candidates)
        .map(|one| one.kind);
    assert!(kinds.clone().count() > 0 && kinds.clone().all(|kind| kind == Kind::Relayed));
    // the same search finds it where nobody hides
    let world = run(false);
    assert!(
        world.nodes[GUEST]
            .left
            .iter()
            .any(|(_, to, _)| *to != relay)
    );
    let mut told = world.nodes[HOST]
        .told
        .iter()
        .flat_map(|one| &one.candidates);
    assert!(told.any(|one| one.kind == Kind::Reflexive));
}

// covers: SUORA-SET-203
#[test]
fn before_the_accept_no_end_learns_a_direct_address_of_the_other() {
    let world = World::warm(Plan::default());
    for at in [GUEST, HOST] {
        let told = world.nodes[at].told.iter().flat_map(|one| &one.candidates);
        assert!(told.clone().count() > 0);
        assert!(told.clone().all(|one| one.kind == Kind::Relayed));
    }
    let relay = world.servers[0].address;
    assert!(world.nodes[HOST].left.iter().all(|(_, to, _)| *to == relay));
}

// covers: SUORA-SET-205
#[test]
fn no_end_sends_more_than_twenty_checks_in_any_second() {
    let mut world = direct(Plan {
        relays: 2,
        loss: 20,
        ..Plan::default()
    });
    let (one, other) = (world.public(GUEST), world.public(HOST));
    world.cut(one, other);
    world.run(secs(10));
    for node in &world.nodes {
        let checks: Vec<Instant> = node
            .left
            .iter()
            .filter(|(_, _, bytes)| is_check(bytes))
            .map(|(time, ..)| *time)
            .collect();
        assert!(checks.len() > 50);
        let most = checks
            .windows(21)
            .map(|some| some[20].duration_since(some[0]));
        assert!(most.min().unwrap() >= Duration::from_millis(999));
    }
}

// covers: SUORA-SET-212
#[test]
fn packets_are_told_apart_by_source_and_first_byte() {
    let mut world = direct(Plan::default());
    let (now, server) = (world.now, world.servers[0].address);
    let path = &mut world.nodes[HOST].path;
    let ((_, peer), _) = path.in_use(world::SESSION).unwrap();
    let mut from = |source, packet: &[u8]| path.received(now, (0, source), packet);
    let quic = |arrived| matches!(arrived, Arrived::Quic(..));
    // 64 to 79 from the other end is QUIC, from the server a channel, of which there is none
    assert!(quic(from(peer, &[0x4f; 40])) && quic(from(peer, &[0xc0; 40])));
    assert!(!quic(from(server, &[0x4f; 40])) && !quic(from(server, &[0xc0; 40])));
    // less than 4 is STUN, even if it is none
    for first in 0..4 {
        assert!(!quic(from(peer, &[first; 40])));
    }
    let stranger = SocketAddr::from(([192, 0, 2, 99], 9));
    assert!(!quic(from(stranger, &[0x4f; 40])));
}

/// A request with a name, alone or through a relay.
fn is_check(bytes: &[u8]) -> bool {
    let inner = match bytes {
        [64..=79, ..] => &bytes[4..],
        // an indication of ours: address 12 bytes, then the data's head
        [0, 0x16, ..] => &bytes[36..],
        _ => bytes,
    };
    let request = stun::parse(inner).filter(|message| {
        message.has_class(stun_types::message::MessageClass::Request)
            && message.method() == stun_types::message::BINDING
    });
    request
        .is_some_and(|message| message.has_attribute(stun_types::attribute::AttributeType::new(6)))
}

// covers: SUORA-SET-210
#[test]
fn loss_and_a_death_together_are_survived() {
    let mut world = direct(Plan {
        loss: 5,
        ..Plan::default()
    });
    let died = world.now;
    let (one, other) = (world.public(GUEST), world.public(HOST));
    world.cut(one, other);
    world.run(secs(5));
    for at in [GUEST, HOST] {
        assert!(world.gap(at, died) <= 600, "{}", world.gap(at, died));
    }
}
