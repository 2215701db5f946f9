//! The word of quality and its cause, mute and the clocks, on a bad network and virtual time:
//! real media machines, QUIC, control messages and heartbeats on a way of first miles and a
//! middle, of which one part is bad.

use std::time::Duration;

use suora_interop::weather::judged::{Entry, Pair, Plan, Wrong};
use suora_interop::weather::line::{Loss, Weather};
use suora_protocol::media::Kind;
use suora_protocol::quality::{Cause, Word};
use suora_protocol::wire::guest::Media;

const S: fn(u64) -> Duration = Duration::from_secs;

/// The seconds of both from `from` to `to`.
fn run(plan: &Plan, from: u64, to: u64) -> [Vec<Entry>; 2] {
    let mut pair = Pair::new(plan).unwrap();
    pair.net.run_to(S(to));
    [0, 1].map(|number| {
        let seconds = &pair.person(number).seconds;
        assert!(seconds.len() + 1 >= usize::try_from(to).unwrap());
        seconds
            .iter()
            .filter(|entry| entry.at >= S(from))
            .cloned()
            .collect()
    })
}

/// The share of the seconds whose word was not good that name this cause.
fn blames(seconds: &[Entry], cause: Cause) -> f64 {
    let bad = || {
        seconds
            .iter()
            .filter(|entry| entry.verdict.word > Word::Good)
    };
    let named = bad()
        .filter(|entry| entry.verdict.cause == Some(cause))
        .count();
    assert!(bad().count() > 3, "nothing was wrong: {}", story(seconds));
    named as f64 / bad().count() as f64
}

fn story(seconds: &[Entry]) -> String {
    let entry = |entry: &Entry| {
        let cause = entry.verdict.cause.map_or("", Cause::as_str);
        let (stats, at) = (&entry.stats, entry.at.as_secs());
        format!(
            "{at}: {} {cause} {:.0} fps, {} made up, loss {:.2}, queue {:.0}, link {:?} {}\n",
            entry.verdict.word,
            stats.fps,
            stats.sound.concealed_ms,
            stats.loss,
            stats.rate.queue_ms,
            stats.relay.rtt_ms,
            stats.relay.network,
        )
    };
    seconds.iter().map(entry).collect()
}

fn only(of: &[Entry], cause: Cause) {
    let share = blames(of, cause);
    assert!(share >= 0.8, "{cause}: {share:.2}\n{}", story(of));
}

/// A first mile that loses a fifth of all packets, both ways.
fn lossy() -> [Weather; 2] {
    [0, 1].map(|_| Weather::delay(10).losing(Loss::Random(0.2)))
}

// covers: SUORA-MED-051
#[test]
fn on_a_calm_wire_the_word_is_good_from_beginning_to_end() {
    for seconds in run(&Plan::default(), 0, 30) {
        let good =
            |entry: &Entry| entry.verdict.word == Word::Good && entry.verdict.cause.is_none();
        assert!(seconds.iter().all(good), "{}", story(&seconds));
    }
}

// covers: SUORA-MED-053, SUORA-MED-054, SUORA-CON-013
#[test]
fn a_first_mile_that_loses_is_ones_own_and_to_the_other_the_others() {
    for relayed in [false, true] {
        let mut plan = Plan {
            relayed,
            ..Plan::default()
        };
        plan.miles[0] = lossy();
        let [first, second] = run(&plan, 30, 70);
        only(&first, Cause::Own);
        only(&second, Cause::Other);
        plan.miles.swap(0, 1);
        let [first, second] = run(&plan, 30, 70);
        only(&first, Cause::Other);
        only(&second, Cause::Own);
    }
}

// covers: SUORA-MED-054
#[test]
fn a_way_up_that_somebody_else_fills_is_ones_own() {
    let mut plan = Plan::default();
    for (at, weather) in plan.miles[0].iter_mut().enumerate() {
        // 400 ms of queue on the way up, as routers at home have
        *weather = Weather {
            queue: 50_000,
            ..Weather::delay(10).narrow(if at == 0 { 1_000_000 } else { 8_000_000 })
        };
    }
    let mut pair = Pair::new(&plan).unwrap();
    pair.beside(S(20)).unwrap();
    pair.net.run_to(S(50));
    let of = |number: usize, pair: &mut Pair| -> Vec<Entry> {
        let seconds = pair.person(number).seconds.iter();
        seconds.filter(|entry| entry.at >= S(25)).cloned().collect()
    };
    only(&of(0, &mut pair), Cause::Own);
    only(&of(1, &mut pair), Cause::Other);
}

// covers: SUORA-MED-054
#[test]
fn a_relay_that_loses_is_blamed_by_both_and_a_middle_that_nobody_asks_by_nobody() {
    for (relayed, cause) in [(true, Cause::Relay), (false, Cause::Unknown)] {
        let [up, down] = lossy();
        let plan = Plan {
            middle: [up, down],
            relayed,
            ..Plan::default()
        };
        for seconds in run(&plan, 10, 50) {
            only(&seconds, cause);
        }
    }
}

// covers: SUORA-MED-051, SUORA-MED-052, SUORA-MED-054
#[test]
fn who_goes_dark_is_lost_by_its_own_network_and_to_the_other_by_the_others() {
    let mut plan = Plan::default();
    for weather in &mut plan.miles[1] {
        weather.blackouts = vec![(S(20), S(30))];
    }
    let [first, second] = run(&plan, 0, 50);
    for (seconds, cause) in [(first, Cause::Other), (second, Cause::Own)] {
        let dark = |entry: &&Entry| (S(24)..S(30)).contains(&entry.at);
        for entry in seconds.iter().filter(dark) {
            assert_eq!(entry.verdict.word, Word::Lost, "{}", story(&seconds));
        }
        let late = |entry: &&Entry| (S(26)..S(30)).contains(&entry.at);
        for entry in seconds.iter().filter(late) {
            assert_eq!(entry.verdict.cause, Some(cause), "{}", story(&seconds));
        }
        let back = |entry: &&Entry| entry.at >= S(42);
        for entry in seconds.iter().filter(back) {
            assert_eq!(entry.verdict.word, Word::Good, "{}", story(&seconds));
        }
    }
}

/// The control: a link that seems to answer at once, whatever the network does.
#[test]
fn without_an_honest_link_no_network_is_blamed() {
    let mut plan = Plan {
        wrong: [Wrong::Deaf, Wrong::Nothing],
        ..Plan::default()
    };
    plan.miles[0] = lossy();
    let [first, second] = run(&plan, 10, 40);
    assert_eq!(blames(&first, Cause::Own), 0.0, "{}", story(&first));
    assert_eq!(blames(&second, Cause::Other), 0.0, "{}", story(&second));
}

/// Bytes of a kind of the first one's media that reached the second between these moments.
fn bytes(pair: &mut Pair, kind: Kind, from: Duration, to: Duration) -> usize {
    let begin = pair.at(S(0));
    let arrived = pair.person(1).end.diary.arrived.iter();
    let within = |at: Duration| (from..to).contains(&at);
    arrived
        .filter(|arrived| arrived.kind == kind && within(arrived.at.since(begin)))
        .map(|arrived| arrived.bytes)
        .sum()
}

/// One way, in ms.
fn one_way(plan: &Plan) -> Duration {
    plan.miles[0][0].delay + plan.middle[0].delay + plan.miles[1][1].delay
}

/// The first one switches both off, then on again.
fn muted(wrong: Wrong, delay: u64, loss: f64, seed: u8) -> (Pair, Duration) {
    let way = Weather::delay(delay).losing(Loss::Random(loss));
    let plan = Plan {
        middle: [way.clone(), way],
        wrong: [wrong, Wrong::Nothing],
        seed,
        ..Plan::default()
    };
    let mut pair = Pair::new(&plan).unwrap();
    pair.net.run_to(S(10));
    let off = Media {
        audio: false,
        video: false,
    };
    pair.switch(0, off);
    pair.net.run_to(S(20));
    let on = Media {
        audio: true,
        video: true,
    };
    pair.switch(0, on);
    pair.net.run_to(S(30));
    (pair, one_way(&plan))
}

const BEAT: Duration = Duration::from_millis(5);

// covers: SUORA-MED-056, SUORA-MED-020, SUORA-CON-011
#[test]
fn mute_and_camera_off_are_seen_within_a_round_trip_and_nothing_of_them_is_on_the_wire() {
    for delay in [0, 30, 130] {
        let (mut pair, way) = muted(Wrong::Nothing, delay, 0.0, 1);
        let said = pair.person(1).said.clone();
        let [(off, first), (on, second)] = said.as_slice() else {
            panic!("{said:?}")
        };
        assert!(!first.audio && !first.video && second.audio && second.video);
        let bound = 2 * way + BEAT;
        assert!(*off >= S(10) && *off <= S(10) + bound, "{off:?}");
        assert!(*on >= S(20) && *on <= S(20) + bound, "{on:?}");
        for kind in [Kind::Audio, Kind::Video] {
            let before = bytes(&mut pair, kind, S(5), S(10));
            let muted = bytes(&mut pair, kind, S(10) + way + BEAT, S(20));
            let after = bytes(&mut pair, kind, S(25), S(30));
            assert!(
                before > 10_000 && after > 10_000,
                "{kind:?}: {before} {after}"
            );
            assert_eq!(muted, 0, "{kind:?}");
        }
        // what is off is not missed
        for number in [0, 1] {
            let seconds = pair.person(number).seconds.clone();
            let good = |entry: &Entry| entry.verdict.word == Word::Good;
            assert!(seconds.iter().all(good), "{}", story(&seconds));
        }
    }
}

// covers: SUORA-MED-056
#[test]
fn what_was_lost_of_a_track_that_is_off_is_not_sent_again() {
    for seed in 1..=6 {
        let (mut pair, way) = muted(Wrong::Nothing, 60, 0.2, seed);
        for kind in [Kind::Audio, Kind::Video] {
            let muted = bytes(&mut pair, kind, S(10) + way + BEAT, S(20));
            let before = bytes(&mut pair, kind, S(5), S(10));
            assert!(before > 10_000, "{seed}, {kind:?}: {before}");
            assert_eq!(muted, 0, "{seed}, {kind:?}");
        }
    }
}

/// Pictures that the other end shows between these, of a person who signs: from `mute` on no sound
/// leaves.
fn signed(middle: Weather, mute: Duration, from: Duration, to: Duration) -> usize {
    let plan = Plan {
        middle: [middle.clone(), middle],
        ..Plan::default()
    };
    let mut pair = Pair::new(&plan).unwrap();
    pair.net.run_to(mute);
    let signs = Media {
        audio: false,
        video: true,
    };
    pair.switch(0, signs);
    pair.switch(1, signs);
    pair.net.run_to(to);
    let begin = pair.at(S(0));
    let shown = pair.person(1).end.diary.shown.iter();
    let within = |at: Duration| (from..to).contains(&at);
    shown.filter(|shown| within(shown.at.since(begin))).count()
}

// covers: SUORA-MED-024
#[test]
fn the_picture_of_a_person_who_signs_comes_back_without_any_sound() {
    let dark = Weather {
        blackouts: vec![(S(5), S(8))],
        ..Weather::delay(20)
    };
    assert_eq!(signed(dark.clone(), S(1), S(6), S(8)), 0);
    let after = signed(dark, S(1), S(10), S(12));
    assert!(after > 20, "{after} pictures after a blackout");
    let step = Weather {
        capacity: vec![(S(0), 2_000_000), (S(5), 250_000)],
        ..Weather::delay(20)
    };
    let after = signed(step, S(1), S(9), S(12));
    assert!(after > 60, "{after} pictures after the way became narrow");
    // the least that makes a picture, and its packets' heads, hardly fit here
    let thin = signed(Weather::delay(20).narrow(70_000), S(1), S(10), S(40));
    assert!(thin > 15, "{thin} pictures on a thin way");
    let tight = Weather {
        capacity: vec![(S(0), 2_000_000), (S(5), 40_000), (S(15), 2_000_000)],
        ..Weather::delay(20)
    };
    let after = signed(tight, S(1), S(70), S(75));
    assert!(after > 60, "{after} pictures after a rest");
}

// covers: SUORA-MED-024
#[test]
fn who_goes_mute_while_nothing_gets_through_is_seen_again_after_it() {
    let dark = Weather {
        blackouts: vec![(S(5), S(9))],
        ..Weather::delay(20)
    };
    let late = signed(dark, S(8), S(11), S(13));
    assert!(late > 20, "{late} pictures");
}

/// The control: an end that says that it is muted, and goes on sending.
#[test]
fn an_end_that_goes_on_sending_is_caught() {
    let (mut pair, way) = muted(Wrong::Leaks, 30, 0.0, 1);
    for kind in [Kind::Audio, Kind::Video] {
        assert!(bytes(&mut pair, kind, S(10) + way + BEAT, S(20)) > 10_000);
    }
}

// covers: SUORA-CON-005, SUORA-CON-014
#[test]
fn latencies_are_as_true_as_they_say_whatever_the_clocks_and_the_ways() {
    for (there, back) in [(10, 10), (10, 120), (120, 10)] {
        let clocks = [(3_600_000_000, 150), (-20_000_000, -50)];
        let plan = Plan {
            middle: [Weather::delay(there), Weather::delay(back)],
            clocks,
            ..Plan::default()
        };
        let mut pair = Pair::new(&plan).unwrap();
        pair.net.run_to(S(60));
        let truth = |number: usize, at: Duration| -> f64 {
            let by =
                |clock: (i64, i64)| clock.0 as f64 / 1e3 + at.as_secs_f64() * clock.1 as f64 / 1e3;
            by(clocks[1 - number]) - by(clocks[number])
        };
        let half = (40 + there + back) as f64 / 2.0;
        for number in [0, 1] {
            for entry in pair.person(number).seconds.clone() {
                let (offset, unsure) = entry
                    .stats
                    .clock
                    .offset_ms
                    .zip(entry.stats.clock.uncertainty_ms)
                    .unwrap();
                let wrong = (offset - truth(number, entry.at)).abs();
                assert!(wrong <= unsure + 0.01, "{wrong} > {unsure}");
                assert!(unsure <= half + 1.5, "{unsure} of {half}");
            }
        }
        // of the first's pictures at the second: the way, to half a picture
        let seconds = pair.person(1).seconds.clone();
        let last = &seconds[50];
        let (told, unsure) = (
            last.stats.latency_ms.unwrap(),
            last.stats.clock.uncertainty_ms.unwrap(),
        );
        let way = one_way(&plan).as_secs_f64() * 1e3;
        assert!(told + unsure >= way, "{told} ± {unsure}, {way}");
        // pictures wait for the voice, which waits in its buffer
        assert!(told - unsure <= way + 120.0, "{told} ± {unsure}, {way}");
    }
}
