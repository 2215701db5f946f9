//! Sound and picture on a bad network, on virtual time.

use std::time::Duration;

use suora_interop::weather::day::{self, minute};
use suora_interop::weather::line::{Loss, Weather};
use suora_interop::weather::table::{self, Controller, Row, Scene};

const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn the_same_seed_gives_the_same_diary_and_another_one_another() {
    let diary = |seed| {
        let weather = Weather {
            jitter: Duration::from_millis(8),
            ..Weather::delay(40)
                .losing(Loss::Bursts(0.02, 0.5))
                .narrow(1_000_000)
        };
        let run = (Controller::Ours, seed);
        let mut scene = Scene::new(&weather, run, 1_000_000, |_| {}).unwrap();
        scene.net.run_to(S(10));
        let begin = scene.at(S(0));
        let diary = scene.diary(1);
        let heard = diary.heard.iter().map(|heard| heard.at.micros_since(begin));
        let shown = diary.shown.iter().map(|shown| shown.at.micros_since(begin));
        let heard: Vec<_> = heard.chain(shown).collect();
        let targets = scene.diary(0).targets.iter();
        let targets: Vec<_> = targets
            .map(|(at, target)| (at.micros_since(begin), *target))
            .collect();
        assert!(heard.len() > 600 && targets.len() > 5);
        (heard, targets)
    };
    assert_eq!(diary(1), diary(1));
    assert_ne!(diary(1), diary(2));
}

/// The rows of one scene by one controller.
fn rows(
    scene: fn(table::Run) -> Result<table::Figures, suora_protocol::fault::Fault>,
    controller: Controller,
) -> Vec<Row> {
    let figures = scene((controller, 1)).unwrap().into_iter();
    figures
        .map(|(name, aim, figure)| Row {
            name,
            aim,
            figures: vec![figure],
        })
        .collect()
}

#[test]
fn sound_comes_back_with_the_wire_and_a_window_that_never_moves_does_not_let_it() {
    let missed = |controller| {
        let rows = rows(table::blackouts, controller);
        rows.iter().filter(|row| !row.holds(0)).count()
    };
    assert_eq!(missed(Controller::Ours), 0);
    assert_eq!(missed(Controller::Constant), 3);
}

// covers: SUORA-MED-013
#[test]
fn pictures_give_way_to_sound_when_the_wire_becomes_narrow_and_come_back() {
    for row in rows(table::capacity_step, Controller::Ours) {
        assert!(row.holds(0), "{row}");
    }
}

#[test]
fn the_rows_of_single_faults_and_of_ordinary_days_hold() {
    for scene in [
        table::two_percent,
        table::large_frames,
        table::first_keyframe,
        day::narrow,
        day::wireless,
    ] {
        for row in rows(scene, Controller::Ours) {
            assert!(row.holds(0), "{row}");
        }
    }
}

// covers: SUORA-MED-025
#[test]
fn a_transfer_by_cubic_leaves_us_our_part_and_we_its() {
    for row in rows(table::beside_cubic, Controller::Ours) {
        assert!(row.holds(0), "{row}");
    }
}

#[test]
fn a_twentieth_lost_is_hardly_seen_and_a_fifth_does_not_stop_the_picture() {
    let few = minute((Controller::Ours, 1), 1_000_000, 0.05, 1_500_000).unwrap();
    assert!(
        few.freezes == 0 && few.picture < 190.0 && few.fps > 25.0,
        "{few:?}"
    );
    let many = minute((Controller::Ours, 1), 1_000_000, 0.2, 1_500_000).unwrap();
    assert!(many.fps >= 12.0 && many.gap < 1_000.0, "{many:?}");
}

// covers: SUORA-MED-024
#[test]
fn nothing_of_a_picture_leaves_while_nothing_gets_through() {
    let mut weather = Weather::delay(25).narrow(4_000_000);
    weather.blackouts = vec![(S(3), S(6))];
    let mut scene = Scene::new(&weather, (Controller::Ours, 1), 1_000_000, |_| {}).unwrap();
    scene.net.run_to(Duration::from_millis(3_700));
    let before = scene.net.lines[0].sent;
    scene.net.run_to(Duration::from_millis(5_900));
    let sent = scene.net.lines[0].sent.1 - before.1;
    // sound goes on, 50 packets a second
    let packets = scene.net.lines[0].sent.0 - before.0;
    assert!(packets >= 105, "{packets}");
    // sound, probes and acknowledgements
    assert!(sent < 2_200 * 20, "{sent}");
    scene.net.run_to(S(8));
    let end = scene.at(S(6));
    let shown = scene.diary(1).shown.iter();
    let first = shown.map(|shown| shown.at).find(|at| *at > end).unwrap();
    assert!(first.micros_since(end) < 500_000);
}

// covers: SUORA-MED-026
#[test]
fn where_both_do_not_fit_the_picture_rests_and_sound_goes_on() {
    let weather = Weather::delay(30).narrow(130_000);
    let mut scene = Scene::new(&weather, (Controller::Ours, 1), 1_000_000, |_| {}).unwrap();
    let mut rests = 0;
    for second in 1..=60 {
        scene.net.run_to(S(second));
        let share = scene.end(0).rate().allotted();
        rests += u32::from(second > 20 && !share.picture);
    }
    assert!((20..40).contains(&rests), "{rests} of 40 s");
    let queueing = scene.queueing(S(20), S(60), 0.9);
    assert!(queueing < 120.0, "{queueing} ms");
}

#[test]
fn on_a_narrow_wire_sound_is_whole_from_the_first_second_on() {
    let weather = Weather::delay(50).narrow(300_000);
    let mut scene = Scene::new(&weather, (Controller::Ours, 1), 1_000_000, |_| {}).unwrap();
    scene.net.run_to(S(4));
    let first = scene.queueing(S(0), S(1), 1.0);
    assert!(first < 150.0, "{first} ms");
    let shown = scene.diary(1).shown.first().map(|shown| shown.at);
    let begin = scene.at(S(0));
    assert!(shown.is_some_and(|at| at.micros_since(begin) < 1_000_000));
}

#[test]
fn sound_becomes_thin_where_it_does_not_fit_alone() {
    let weather = Weather {
        queue: 6_000,
        ..Weather::delay(30).narrow(80_000)
    };
    let mut scene = Scene::new(&weather, (Controller::Ours, 1), 1_000_000, |_| {}).unwrap();
    let mut thin = 0;
    for second in 1..=60 {
        scene.net.run_to(S(second));
        thin += u32::from(scene.end(0).rate().allotted().sound < 20_000);
    }
    assert!(thin > 25, "{thin} s");
    // 600 ms where it stays as it is
    let queueing = scene.queueing(S(30), S(60), 0.5);
    assert!(queueing < 400.0, "{queueing} ms");
}
