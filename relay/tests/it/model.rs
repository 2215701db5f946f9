//! Random days at two desks, judged by a small model that knows the rules and nothing of
//! how the hub keeps them: nobody lost, no ticket twice, first come first served, one
//! offer an officer, nothing said before it is durable. Then the same days with one
//! thing gone wrong, to see that the judge would notice.

mod day;
mod judge;
mod log;
mod rules;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use day::{Op, ops};
use judge::judge;
use log::{Event, Heard};
use suora_protocol::wire::{citizen, officer};

fn days(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

// covers: SUORA-DSK-001, SUORA-DSK-003, SUORA-DSK-004, SUORA-DSK-009, SUORA-DSK-012
#[test]
fn on_every_day_the_rules_hold() {
    days(400)
        .run(&ops(), |ops| {
            let log = day::run(&ops, day::Broken::Nothing);
            judge(&log).map_err(TestCaseError::fail)
        })
        .unwrap();
}

/// How many of so many days with this defect the judge lets pass; 0 is best.
fn unnoticed(broken: day::Broken, change: impl Fn(&mut Vec<Event>) -> bool) -> (u32, u32) {
    let (mut changed, mut passed) = (0, 0);
    let mut runner = days(1);
    let tree = ops();
    for _ in 0..60 {
        let ops: Vec<Op> = tree.new_tree(&mut runner).unwrap().current();
        let mut log = day::run(&ops, broken);
        if change(&mut log) {
            changed += 1;
            passed += u32::from(judge(&log).is_ok());
        }
    }
    (changed, passed)
}

fn is_offer(event: &Event) -> bool {
    matches!(
        event,
        Event::Heard(_, Heard::Officer(officer::FromRelay::Offer { .. }))
    )
}

#[test]
fn the_judge_notices_an_offer_too_many_or_too_few() {
    let (changed, passed) = unnoticed(day::Broken::Nothing, |log| {
        let Some(at) = log.iter().position(is_offer) else {
            return false;
        };
        log.insert(at, log[at].clone());
        true
    });
    assert!(changed > 30 && passed == 0, "{passed} of {changed}");
    let (changed, passed) = unnoticed(day::Broken::Nothing, |log| {
        let Some(at) = log.iter().position(is_offer) else {
            return false;
        };
        log.remove(at);
        true
    });
    assert!(changed > 30 && passed == 0, "{passed} of {changed}");
}

#[test]
fn the_judge_notices_offers_in_the_wrong_order() {
    let (changed, passed) = unnoticed(day::Broken::Nothing, |log| {
        let offers: Vec<usize> = (0..log.len()).filter(|at| is_offer(&log[*at])).collect();
        let Some([first, second]) = offers
            .windows(2)
            .find(|pair| log[pair[0]] != log[pair[1]])
            .map(|pair| [pair[0], pair[1]])
        else {
            return false;
        };
        log.swap(first, second);
        true
    });
    assert!(changed > 30 && passed == 0, "{passed} of {changed}");
}

#[test]
fn the_judge_notices_a_queue_that_lost_somebody() {
    let (changed, passed) = unnoticed(day::Broken::Nothing, |log| {
        let queue = log.iter_mut().rev().find_map(|event| match event {
            Event::Queue(_, queue) if !queue.is_empty() => Some(queue),
            _ => None,
        });
        queue.map(|queue| queue.pop()).is_some()
    });
    assert!(changed > 30 && passed == 0, "{passed} of {changed}");
}

#[test]
fn the_judge_notices_a_citizen_who_was_not_told() {
    let (changed, passed) = unnoticed(day::Broken::Nothing, |log| {
        let told = |event: &Event| {
            matches!(
                event,
                Event::Heard(_, Heard::Citizen(citizen::FromRelay::Matched { .. }))
            )
        };
        let Some(at) = log.iter().position(told) else {
            return false;
        };
        log.remove(at);
        true
    });
    assert!(changed > 30 && passed == 0, "{passed} of {changed}");
}

#[test]
fn the_judge_notices_a_store_that_says_yes_too_early() {
    let (changed, passed) = unnoticed(day::Broken::StoreAnswersEarly, |log| {
        log.iter().any(is_offer)
    });
    assert!(changed > 30 && passed == 0, "{passed} of {changed}");
}

#[test]
fn the_judge_notices_a_store_that_forgets() {
    let (changed, passed) = unnoticed(day::Broken::StoreForgets, |log| {
        log.iter()
            .filter(|event| matches!(event, Event::Decided(_)))
            .count()
            > 8
    });
    // only a restart brings it to light
    assert!(changed - passed > 10, "{passed} of {changed}");
}
