//! People are served: from the button to the report, in the order in which they came.

use std::cell::RefCell;
use std::rc::Rc;

use suora_interop::world::{Message, NodeId, Setup, World};
use suora_node::engine::Role;
use suora_node::intent::Intent;
use suora_node::view::{Stage, View};
use suora_protocol::fault::Code;
use suora_protocol::limits;
use suora_protocol::wire::guest::{Media, ToHost};
use suora_protocol::wire::officer::Status;

use super::{COMPLETED, accept, outcome, reaches, secs};

fn world() -> World {
    World::new(Setup::default())
}

#[test]
fn a_citizen_is_served_from_the_button_to_both_reports() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(1));
    let anna = world.citizen();

    reaches(&mut world, anna, Stage::Warm);
    assert_eq!(world.position(anna), Some(0));
    assert!(!world.gate_open(anna) && !world.gate_open(otto));

    accept(&mut world, otto);
    reaches(&mut world, anna, Stage::Accepted);
    assert!(world.gate_open(anna) && world.gate_open(otto));

    let text = |text: &str| Intent::Chat { text: text.into() };
    world.ask(anna, text("hyvää päivää"));
    world.ask(otto, text("god dag"));
    world.run(secs(1));
    assert_eq!(
        world.chat(anna),
        [("me", "hyvää päivää".into()), ("peer", "god dag".into())]
    );
    assert_eq!(
        world.chat(otto),
        [("me", "god dag".into()), ("peer", "hyvää päivää".into())]
    );

    world.ask(anna, Intent::HangUp);
    world.run(secs(2));
    assert_eq!(outcome(&world, anna), COMPLETED);
    assert_eq!(outcome(&world, otto), COMPLETED);
    assert_eq!(world.finished(anna), Some(0));
    assert!(world.store.rows.is_empty(), "no ticket is left behind");

    let report = &world.reports(anna)[0];
    let peer = report.peer.as_ref().unwrap();
    assert_eq!(peer.verified_as.as_deref(), Some("Otto Officer"));
    assert_eq!((report.chat.sent, report.chat.received), (1, 1));
    let match_to_session = report.timing_ms.match_to_session.unwrap();
    assert!(
        (40.0..400.0).contains(&match_to_session),
        "{match_to_session} ms"
    );
    // nobody vouches for who the citizen is
    assert_eq!(
        world.reports(otto)[0].peer.as_ref().unwrap().verified_as,
        None
    );
}

#[test]
fn the_one_who_came_first_is_served_first() {
    let mut world = world();
    let people: Vec<NodeId> = (0..5)
        .map(|_| {
            let id = world.citizen();
            world.run(secs(1));
            id
        })
        .collect();
    for (place, id) in (0..).zip(&people) {
        assert_eq!(world.position(*id), Some(place));
    }
    let otto = world.officer();
    for (done, next) in people.iter().enumerate() {
        accept(&mut world, otto);
        reaches(&mut world, *next, Stage::Accepted);
        world.ask(otto, Intent::HangUp);
        world.run(secs(2));
        assert_eq!(outcome(&world, *next), COMPLETED);
        for (place, id) in (0..).zip(&people[done + 2.min(people.len() - done)..]) {
            assert_eq!(world.position(*id), Some(place));
        }
    }
    assert_eq!(world.reports(otto).len(), 5);
}

#[test]
fn officers_of_one_desk_serve_side_by_side() {
    let mut world = world();
    let officers = [
        world.quick_officer(),
        world.quick_officer(),
        world.quick_officer(),
    ];
    world.run(secs(1));
    let people: Vec<NodeId> = (0..3).map(|_| world.citizen()).collect();
    for id in &people {
        reaches(&mut world, *id, Stage::Accepted);
    }
    for id in people {
        world.ask(id, Intent::HangUp);
    }
    world.run(secs(2));
    for officer in officers {
        assert_eq!(outcome(&world, officer), COMPLETED);
    }
}

#[test]
fn an_unanswered_offer_closes_its_warm_session_and_goes_to_the_next_officer() {
    let mut world = world();
    let slow = world.officer();
    world.run(secs(1));
    let anna = world.citizen();
    reaches(&mut world, slow, Stage::Warm);
    let offered = world.now().mono;
    let next = world.officer();

    assert!(world.until(secs(40), |world| world.stage(slow) == Stage::Idle));
    let waited = world.now().mono - offered;
    assert!(
        waited + secs(2) > limits::OFFER && waited < limits::OFFER + secs(2),
        "{waited:?}"
    );
    accept(&mut world, next);
    reaches(&mut world, anna, Stage::Accepted);
    world.ask(anna, Intent::HangUp);
    world.run(secs(2));
    assert_eq!(outcome(&world, anna), COMPLETED);
    assert_eq!(outcome(&world, slow), None, "an offer is no consultation");

    // who did not answer is asked again once back
    let bella = world.citizen();
    world.run(secs(1));
    world.ask(next, Intent::Decline);
    world.run(secs(5));
    assert_eq!(world.stage(bella), Stage::Idle);
    let status = Status::Available;
    world.ask(slow, Intent::Status { status });
    accept(&mut world, slow);
    reaches(&mut world, bella, Stage::Accepted);
}

#[test]
fn who_is_declined_waits_on_at_the_old_place() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(1));
    let anna = world.citizen();
    world.run(secs(1));
    let bella = world.citizen();
    reaches(&mut world, otto, Stage::Warm);
    world.ask(otto, Intent::Decline);
    world.run(secs(2));
    assert_eq!(world.position(anna), Some(0));
    // the same officer goes on with the next
    assert_eq!(world.stage(bella), Stage::Warm);
    let next = world.officer();
    accept(&mut world, next);
    reaches(&mut world, anna, Stage::Accepted);
}

#[test]
fn an_officer_who_hangs_up_before_accept_sends_nobody_away() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(1));
    let anna = world.citizen();
    reaches(&mut world, otto, Stage::Warm);
    world.ask(otto, Intent::HangUp);
    world.run(secs(2));
    assert_eq!(world.finished(anna), None);
    assert_eq!(world.waiting(), [world.peer(anna)]);
    let next = world.officer();
    accept(&mut world, next);
    reaches(&mut world, anna, Stage::Accepted);
}

#[test]
fn a_citizen_who_leaves_makes_room_and_frees_the_officer() {
    let mut world = world();
    let anna = world.citizen();
    world.run(secs(1));
    let bella = world.citizen();
    world.run(secs(1));
    world.ask(anna, Intent::Leave);
    world.run(secs(2));
    assert_eq!(world.finished(anna), Some(1));
    assert_eq!(world.position(bella), Some(0));

    // also out of a warm session
    let otto = world.officer();
    reaches(&mut world, bella, Stage::Warm);
    world.ask(bella, Intent::HangUp);
    world.run(secs(2));
    assert_eq!(world.finished(bella), Some(1));
    assert_eq!(world.stage(otto), Stage::Idle);
    assert!(world.store.rows.is_empty());
    let carla = world.citizen();
    accept(&mut world, otto);
    reaches(&mut world, carla, Stage::Accepted);
}

// covers: SUORA-SET-009
#[test]
fn nothing_private_leaves_before_the_welcome() {
    let mut world = world();
    let said: Rc<RefCell<Vec<Message>>> = Rc::default();
    let heard = said.clone();
    let otto = world.officer();
    world.run(secs(1));
    let anna = world.citizen();
    world.tap(move |_, message| {
        // the host's proof never arrives
        if matches!(message, Message::FromHost(_)) {
            return Vec::new();
        }
        heard.borrow_mut().push(message.clone());
        vec![message]
    });
    for _ in 0..40 {
        world.run(std::time::Duration::from_millis(100));
        world.ask(
            anna,
            Intent::Chat {
                text: "my secret".into(),
            },
        );
        world.ask(anna, Intent::Mute { on: true });
        world.ask(anna, Intent::Mute { on: false });
    }
    let to_host: Vec<Message> = said
        .borrow()
        .iter()
        .filter(|message| matches!(message, Message::ToHost(_)))
        .cloned()
        .collect();
    assert_eq!(to_host.len(), 1, "{to_host:?}");
    assert!(matches!(to_host[0], Message::ToHost(ToHost::Hello { .. })));
    assert!(!world.saw_someone(anna) && !world.gate_open(anna));
    assert_eq!(world.fault(anna), Some(Code::ProtocolViolation));
    assert!(world.chat(anna).is_empty());

    // without a welcome the invite is dead after ten seconds, and the citizen waits again
    // control: with the welcome the same words go
    world.untap();
    world.run(limits::INVITE_WELCOME);
    assert_eq!(world.finished(anna), None);
    accept(&mut world, otto);
    reaches(&mut world, anna, Stage::Accepted);
    world.ask(
        anna,
        Intent::Chat {
            text: "my secret".into(),
        },
    );
    world.run(secs(1));
    assert_eq!(world.chat(otto), [("peer", "my secret".into())]);
}

#[test]
fn the_other_end_learns_which_devices_are_there() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(1));
    let anna = world.citizen();
    let gives = |audio, video| Media { audio, video };
    // no camera from the beginning: voice only
    world.devices(anna, gives(true, false));
    accept(&mut world, otto);
    reaches(&mut world, anna, Stage::Accepted);
    world.run(secs(1));
    assert_eq!(world.peer_media(otto), Some((true, false)));
    // one is plugged in, then switched off by the person and pulled out: still off
    world.devices(anna, gives(true, true));
    world.run(secs(1));
    assert_eq!(world.peer_media(otto), Some((true, true)));
    world.ask(anna, Intent::Camera { on: false });
    world.devices(anna, gives(true, false));
    world.devices(anna, gives(true, true));
    world.run(secs(1));
    assert_eq!(world.peer_media(otto), Some((true, false)));
    world.ask(anna, Intent::Camera { on: true });
    world.devices(anna, gives(false, true));
    world.run(secs(1));
    assert_eq!(world.peer_media(otto), Some((false, true)));
    // the other direction was never touched
    assert_eq!(world.peer_media(anna), None);
}

#[test]
fn the_clock_of_the_other_end_is_measured() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(1));
    let role = Role::Citizen { join: true };
    let anna = world.node(role, 3_000_000);
    accept(&mut world, otto);
    world.run(secs(12));
    world.ask(anna, Intent::HangUp);
    world.run(secs(2));
    for (id, ahead) in [(anna, -3_000.0), (otto, 3_000.0)] {
        let clock = world.reports(id)[0].clock;
        let (offset, half) = (clock.offset_ms.unwrap(), clock.uncertainty_ms.unwrap());
        assert!((offset - ahead).abs() <= half, "{offset} ± {half}");
        assert!(half < 40.0, "{half}");
    }
}

#[test]
fn the_officer_sees_how_many_wait_and_for_how_long() {
    let mut world = world();
    world.citizen();
    world.citizen();
    world.run(secs(7));
    let otto = world.officer();
    reaches(&mut world, otto, Stage::Warm);
    let waited = world.last(otto, |view| match view {
        View::Offer { waited } => Some(*waited),
        _ => None,
    });
    assert!(matches!(waited, Some(6..=7)), "{waited:?}");
    world.run(secs(2));
    let waiting = world.last(otto, |view| match view {
        View::Attending { waiting } => Some(*waiting),
        _ => None,
    });
    assert_eq!(waiting, Some(1));
}
