//! What is lost on the way costs nobody a place: links, relays and programs that die.

use std::time::Duration;

use suora_interop::world::{NodeId, Setup, World};
use suora_node::intent::Intent;
use suora_node::report::Outcome;
use suora_node::view::Stage;
use suora_protocol::fault::Code;
use suora_protocol::limits;

use super::{COMPLETED, accept, outcome, reaches, secs};

fn world() -> World {
    World::new(Setup::default())
}

fn say(world: &mut World, id: NodeId, text: &str) {
    world.ask(id, Intent::Chat { text: text.into() });
}

/// Citizens who came one after the other.
fn line(world: &mut World, count: usize) -> Vec<NodeId> {
    let mut people = Vec::new();
    for _ in 0..count {
        people.push(world.citizen());
        world.run(Duration::from_millis(300));
    }
    people
}

#[test]
fn a_ticket_outlives_its_owners_link_by_the_grace_and_no_longer() {
    let mut world = world();
    let people = line(&mut world, 2);
    let [anna, bella] = [people[0], people[1]];
    let order = world.waiting();

    world.hold(anna);
    world.run(limits::GRACE - secs(1));
    assert_eq!(world.waiting(), order);
    world.let_go(anna);
    world.run(secs(3));
    assert_eq!(world.waiting(), order, "back in time: the old place");
    assert_eq!(world.position(anna), Some(0));

    world.hold(anna);
    world.run(limits::GRACE + secs(2));
    assert_eq!(world.waiting(), [world.peer(bella)]);
    assert_eq!(world.position(bella), Some(0));
    world.let_go(anna);
    world.run(secs(3));
    assert_eq!(world.waiting(), [world.peer(bella), world.peer(anna)]);
    assert_eq!(world.position(anna), Some(1), "too late: a new place");
}

#[test]
fn nobody_is_offered_while_the_owner_is_away() {
    let mut world = world();
    let people = line(&mut world, 2);
    world.hold(people[0]);
    world.run(secs(1));
    let otto = world.officer();
    reaches(&mut world, people[1], Stage::Warm);
    world.let_go(people[0]);
    let next = world.officer();
    accept(&mut world, next);
    reaches(&mut world, people[0], Stage::Accepted);
    assert_eq!(world.stage(otto), Stage::Warm);
}

#[test]
fn a_restarted_relay_has_all_in_the_same_order() {
    let mut world = world();
    let people = line(&mut world, 8);
    let order = world.waiting();
    assert_eq!(order.len(), 8);
    world.kill_relay();
    world.run(secs(20));
    assert!(people.iter().all(|id| !world.linked(*id)));
    world.start_relay();
    world.run(secs(5));
    assert_eq!(world.waiting(), order);
    for (place, id) in (0..).zip(&people) {
        assert_eq!(world.position(*id), Some(place));
    }

    // control: a store that forgets gives another order
    world.kill_relay();
    world.store.rows.clear();
    world.run(secs(5));
    world.start_relay();
    world.run(secs(5));
    assert_eq!(world.waiting().len(), 8);
    assert_ne!(world.waiting(), order);
}

#[test]
fn a_place_that_was_shown_survives_a_relay_killed_at_any_moment() {
    for seed in 0..40 {
        let mut world = World::new(Setup {
            seed,
            ..Setup::default()
        });
        let mut people = Vec::new();
        for _ in 0..6 {
            people.push(world.citizen());
            world.run(Duration::from_millis(7));
        }
        world.run(Duration::from_millis(30 + 4 * u64::from(seed)));
        world.kill_relay();
        let shown: Vec<NodeId> = people
            .iter()
            .copied()
            .filter(|id| world.position(*id).is_some())
            .collect();
        world.start_relay();
        let kept = world.waiting();
        for id in shown {
            assert!(kept.contains(&world.peer(id)), "seed {seed}");
        }
        world.run(secs(5));
        assert_eq!(world.waiting().len(), 6, "seed {seed}");
    }
}

#[test]
fn a_relay_killed_in_mid_consultation_changes_nothing_for_the_two() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(1));
    let anna = world.citizen();
    accept(&mut world, otto);
    world.kill_relay();
    world.run(secs(60));
    assert!(!world.linked(anna) && !world.linked(otto));
    say(&mut world, anna, "still there?");
    world.run(secs(1));
    assert_eq!(world.chat(otto), [("peer", "still there?".into())]);
    assert!(world.gate_open(anna) && world.gate_open(otto));
    world.ask(otto, Intent::HangUp);
    world.run(secs(1));
    assert_eq!(outcome(&world, anna), COMPLETED);
    assert_eq!(outcome(&world, otto), COMPLETED);

    // the relay learns late that the two are done, and the officer serves on
    world.start_relay();
    let bella = world.citizen();
    accept(&mut world, otto);
    reaches(&mut world, bella, Stage::Accepted);
    world.run(limits::GRACE + secs(5));
    assert_eq!(world.store.rows.len(), 1, "only the ticket in consultation");
}

#[test]
fn a_relay_restarted_in_mid_consultation_offers_the_officer_nobody_else() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(1));
    let anna = world.citizen();
    accept(&mut world, otto);
    world.kill_relay();
    world.run(secs(2));
    world.start_relay();
    let bella = world.citizen();
    world.run(limits::GRACE + secs(5));
    assert_eq!(world.stage(bella), Stage::Idle);
    assert_eq!(world.stage(anna), Stage::Accepted);
    world.ask(anna, Intent::HangUp);
    world.run(secs(5));
    accept(&mut world, otto);
    reaches(&mut world, bella, Stage::Accepted);
}

#[test]
fn a_relay_restarted_in_a_warm_session_keeps_the_ticket() {
    for down in [1, 5, 15] {
        let mut world = world();
        let otto = world.officer();
        world.run(secs(1));
        let anna = world.citizen();
        reaches(&mut world, otto, Stage::Warm);
        world.kill_relay();
        world.run(secs(down));
        world.start_relay();
        let mut served = false;
        for _ in 0..60 {
            world.run(secs(1));
            if world.stage(otto) == Stage::Warm {
                world.ask(otto, Intent::Accept);
            }
            served |= world.stage(anna) == Stage::Accepted;
        }
        assert!(served, "down for {down} s: {:?}", world.fault(anna));
        world.ask(anna, Intent::HangUp);
        world.run(secs(2));
        assert_eq!(outcome(&world, anna), COMPLETED);
        assert!(world.store.rows.is_empty());
    }
}

#[test]
fn a_citizen_whose_link_falls_in_a_warm_session_is_asked_again() {
    for away in [0, 1, 4, 30] {
        let mut world = world();
        let otto = world.officer();
        world.run(secs(1));
        let anna = world.citizen();
        reaches(&mut world, anna, Stage::Warm);
        world.hold(anna);
        world.run(secs(away));
        world.let_go(anna);
        world.run(secs(8));
        accept(&mut world, otto);
        reaches(&mut world, anna, Stage::Accepted);
        world.ask(anna, Intent::HangUp);
        world.run(secs(2));
        assert_eq!(outcome(&world, anna), COMPLETED);
        assert!(world.store.rows.is_empty(), "away for {away} s");
    }
}

#[test]
fn a_citizen_who_changes_the_network_keeps_the_place() {
    let mut world = world();
    let people = line(&mut world, 2);
    let order = world.waiting();
    world.change_network(people[0]);
    world.run(limits::LINK_SILENCE + secs(5));
    assert_eq!(world.waiting(), order);
    world.officer();
    reaches(&mut world, people[0], Stage::Warm);
}

#[test]
fn a_citizen_who_changes_the_network_in_a_warm_session_is_served() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(1));
    let anna = world.citizen();
    reaches(&mut world, anna, Stage::Warm);
    world.change_network(anna);
    // the relay notices by its silence, and asks again
    world.run(limits::LINK_SILENCE + secs(5));
    assert!(world.until(secs(20), |world| world.stage(otto) == Stage::Warm));
    accept(&mut world, otto);
    reaches(&mut world, anna, Stage::Accepted);
    world.ask(anna, Intent::HangUp);
    world.run(secs(2));
    assert_eq!(outcome(&world, anna), COMPLETED);
    assert!(world.store.rows.is_empty());
}

#[test]
fn an_officer_whose_link_falls_loses_the_offer_and_no_consultation() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(1));
    let anna = world.citizen();
    reaches(&mut world, anna, Stage::Warm);
    world.hold(otto);
    world.run(secs(2));
    let next = world.officer();
    accept(&mut world, next);
    reaches(&mut world, anna, Stage::Accepted);

    // in consultation the link is not needed
    world.hold(next);
    world.run(secs(60));
    say(&mut world, next, "do you hear me?");
    world.run(secs(1));
    assert_eq!(world.chat(anna).len(), 1);
    let bella = world.citizen();
    world.let_go(next);
    world.run(secs(5));
    assert_eq!(
        world.stage(bella),
        Stage::Idle,
        "both officers are away or busy"
    );
    world.ask(next, Intent::HangUp);
    accept(&mut world, next);
    reaches(&mut world, bella, Stage::Accepted);
    assert_eq!(outcome(&world, anna), COMPLETED);
}

#[test]
fn an_officer_whose_program_dies_in_a_warm_session_costs_no_place() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(1));
    let anna = world.citizen();
    reaches(&mut world, anna, Stage::Warm);
    world.kill(otto);
    let next = world.officer();
    assert!(world.until(secs(60), |world| world.stage(next) == Stage::Warm));
    accept(&mut world, next);
    reaches(&mut world, anna, Stage::Accepted);
}

#[test]
fn an_officer_whose_program_dies_in_consultation_ends_it() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(1));
    let anna = world.citizen();
    accept(&mut world, otto);
    reaches(&mut world, anna, Stage::Accepted);
    world.kill(otto);
    world.run(limits::SILENCE + secs(2));
    let failed = Some((Outcome::Failed, Some(Code::PeerSilent)));
    assert_eq!(outcome(&world, anna), failed);
    assert_eq!(world.finished(anna), Some(1));
    world.run(secs(5));
    assert!(world.store.rows.is_empty());
    // the same officer comes back and serves on
    world.start(otto);
    let bella = world.citizen();
    accept(&mut world, otto);
    reaches(&mut world, bella, Stage::Accepted);
}

#[test]
fn a_citizen_whose_program_died_comes_back_to_the_same_place() {
    let mut world = world();
    let people = line(&mut world, 3);
    let order = world.waiting();
    world.kill(people[1]);
    world.run(secs(30));
    assert_eq!(world.waiting(), order);
    world.start(people[1]);
    world.run(secs(3));
    assert_eq!(world.waiting(), order);
    assert_eq!(world.position(people[1]), Some(1));
    // and for good: after the silence and the grace the place is free
    world.kill(people[0]);
    world.run(limits::LINK_SILENCE + limits::GRACE + secs(5));
    assert_eq!(world.position(people[1]), Some(0));
}

#[test]
fn a_session_that_breaks_before_accept_costs_no_place() {
    let mut world = world();
    let otto = world.officer();
    world.run(secs(1));
    let anna = world.citizen();
    reaches(&mut world, anna, Stage::Warm);
    world.break_session(anna);
    world.run(secs(5));
    let next = world.officer();
    let warm = |world: &World, id| world.stage(id) == Stage::Warm;
    assert!(world.until(secs(20), |world| warm(world, otto) || warm(world, next)));
    let served = if warm(&world, otto) { otto } else { next };
    accept(&mut world, served);
    reaches(&mut world, anna, Stage::Accepted);
}

#[test]
fn everybody_is_served_though_links_fall_all_the_time() {
    for seed in 0..12 {
        let mut world = World::new(Setup {
            seed,
            ..Setup::default()
        });
        world.quick_officer();
        world.quick_officer();
        let people = line(&mut world, 8);
        world.links_fall(Some(secs(3)));
        let mut talked = vec![0; people.len()];
        for second in 0..900 {
            world.run(secs(1));
            if second % 100 == 99 {
                world.kill_relay();
                world.run(secs(2));
                world.start_relay();
            }
            for (talked, id) in talked.iter_mut().zip(&people) {
                if world.stage(*id) == Stage::Accepted {
                    *talked += 1;
                    if *talked == 4 {
                        world.ask(*id, Intent::HangUp);
                    }
                }
            }
            if people.iter().all(|id| world.finished(*id).is_some()) {
                break;
            }
        }
        for id in &people {
            assert_eq!(outcome(&world, *id), COMPLETED, "{id:?}, seed {seed}");
        }
        world.links_fall(None);
        world.run(limits::GRACE * 2 + limits::LINK_SILENCE);
        assert!(
            world.store.rows.is_empty(),
            "seed {seed}: {:?}",
            world.store
        );
    }
}
