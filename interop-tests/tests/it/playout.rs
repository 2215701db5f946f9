//! The jitter buffer on traces of networks, beside two that are broken.

use std::collections::BTreeMap;
use std::time::Duration;

use suora_interop::traces::{self, Buffer, Heard, Sent};
use suora_interop::weather::day::Day;
use suora_interop::weather::line::{Loss, Weather};
use suora_interop::weather::table::{Controller, Scene};
use suora_interop::weather::voice;
use suora_node::clock::Clock;
use suora_protocol::media::jitter::{Jitter, Ledger, Pace, Step};
use suora_protocol::media::receiver::AudioPacket;
use suora_protocol::time::Now;

const S: fn(u64) -> Duration = Duration::from_secs;

fn trace(name: &str) -> Vec<Sent> {
    let made = traces::all().into_iter();
    let made = made.map(|(name, delays)| (name, traces::speech(&delays)));
    let mut all = made.chain(traces::recorded());
    all.find(|trace| trace.0 == name).unwrap().1
}

fn reference(sent: &[Sent]) -> (Heard, Ledger) {
    let mut jitter = Jitter::new();
    let heard = traces::play(Clock::start().now(), sent, &mut jitter);
    (heard, jitter.ledger())
}

/// What is asked of a trace: at most so much made up, in per cent, and so much delay in ms at
/// 95 per cent of the packets from a second on.
const AIMS: &[(&str, f64, u64, f64)] = &[
    ("steady", 0.0, 0, 110.0),
    ("wifi", 1.5, 0, 190.0),
    // 1 % is lost or held longer than any buffer
    ("lte", 1.5, 0, 260.0),
    ("random-5", 0.4, 0, 140.0),
    // of each burst the last packet alone is in another one
    ("bursts-20", 12.0, 0, 140.0),
    // the 3 of 30 s that nothing came, and what is heard after
    ("blackout", 10.5, 14, 110.0),
    ("stall", 7.0, 14, 130.0),
    ("calms", 0.3, 24, 110.0),
    ("recorded-wireless", 1.0, 1, 190.0),
    // a queue of a third of a second when the way became narrow
    ("recorded-steps", 1.5, 1, 350.0),
    ("recorded-storm", 5.0, 1, 190.0),
];

/// The aims that a buffer misses; what it makes of each trace is printed.
fn missed(mut play: impl FnMut(&[Sent]) -> (Heard, f64)) -> Vec<&'static str> {
    let aims = AIMS.iter().filter(|(name, most, from, delay)| {
        let (heard, made_up) = play(&trace(name));
        let late = heard.delay(S(*from), 0.95);
        println!("{name}: {made_up:.2} % of ≤ {most} made up, {late:.0} of ≤ {delay} ms late");
        made_up > *most || late > *delay
    });
    aims.map(|aim| aim.0).collect()
}

// covers: SUORA-MED-011, SUORA-MED-041, SUORA-MED-044
#[test]
fn the_reference_holds_its_aims_on_every_trace() {
    let play = |sent: &[Sent]| {
        let (heard, ledger) = reference(sent);
        let made_up = heard.made_up(Some(ledger));
        (heard, made_up)
    };
    assert_eq!(missed(play), Vec::<&str>::new());
}

// covers: SUORA-MED-045
#[test]
fn ten_minutes_of_drift_add_no_delay_and_conceal_nothing() {
    for parts in [-200, 200] {
        let (heard, ledger) = reference(&traces::drifting(30_000, parts));
        assert!(
            ledger.concealed.is_zero() && ledger.skipped.is_zero(),
            "{parts}: {ledger:?}"
        );
        let spread = heard.delays.iter().map(|(at, delay)| {
            // without what the clocks themselves drifted
            delay + i64::try_from(*at).unwrap() * parts / 1_000_000
        });
        let most = spread.max().unwrap();
        assert!(most < 130_000, "{parts}: {most}");
    }
}

// covers: SUORA-MED-046, SUORA-MED-047
#[test]
fn a_voice_is_hardly_made_up_where_a_twentieth_is_lost_and_still_whole_where_a_fifth_is() {
    let clip = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../node/assets/clips/officer.mp4"
    );
    let clip = voice::clip(clip.as_ref()).unwrap();
    for (loss, most) in [(0.0, 0.0), (0.05, 0.003), (0.2, 0.03)] {
        let weather = Weather::delay(50)
            .losing(Loss::Random(loss))
            .narrow(1_000_000);
        let run = (Controller::Ours, 1);
        let mut scene = Scene::speaking(&weather, run, 1_500_000, &clip).unwrap();
        scene.net.run_to(S(40));
        let ledger = scene.diary(1).ledger;
        assert!(ledger.made_up() <= most, "{loss}: {ledger:?}");
        // the clip pauses, and pauses are no loss
        assert!(
            ledger.quiet > S(2) && ledger.played > S(20),
            "{loss}: {ledger:?}"
        );
        let day = Day::of(&mut scene, S(2), S(40));
        assert!(day.sound <= 250.0, "{loss}: {day:?}");
    }
}

/// Broken: plays whatever is there, waits for nothing, and makes up the rest; or waits for as
/// long as anything ever took, and never less again.
#[derive(Default)]
struct Broken {
    patient: bool,
    held: BTreeMap<i64, AudioPacket>,
    next: i64,
    /// Longest way so far, in microseconds.
    most: i64,
}

impl Buffer for Broken {
    fn push(&mut self, now: Now, packet: AudioPacket) {
        let way = now.utc.micros_since(packet.captured);
        self.most = self.most.max(way);
        self.held.insert(packet.sequence, packet);
    }

    fn pull(&mut self, now: Now, _: Duration) -> Step {
        let Some(first) = self.held.first_entry() else {
            return self.nothing(now);
        };
        let waited = now.utc.micros_since(first.get().captured);
        if *first.key() < self.next {
            first.remove();
            return self.pull(now, Duration::ZERO);
        }
        if self.patient && waited < self.most + 40_000 || *first.key() > self.next && self.next > 0
        {
            return self.nothing(now);
        }
        self.next = first.key() + 1;
        let packet = first.remove();
        Step::Play {
            captured: packet.captured,
            data: packet.data,
            pace: Pace::Even,
            torn: false,
        }
    }

    fn stretched(&mut self, _: i64) {}
}

impl Broken {
    fn nothing(&mut self, now: Now) -> Step {
        if self.next == 0 {
            return Step::Nothing;
        }
        if !self.patient {
            self.next += 1;
        } else if self.held.len() > 1 {
            self.next = self.held.keys().next().copied().unwrap_or(0);
        }
        Step::Conceal { captured: now.utc }
    }
}

#[test]
fn a_buffer_that_waits_for_nothing_and_one_that_never_shrinks_miss_them() {
    for (patient, failed) in [(false, ["wifi", "random-5"]), (true, ["stall", "calms"])] {
        let play = |sent: &[Sent]| {
            let mut broken = Broken {
                patient,
                ..Broken::default()
            };
            let heard = traces::play(Clock::start().now(), sent, &mut broken);
            let made_up = heard.made_up(None);
            (heard, made_up)
        };
        let missed = missed(play);
        let all = failed.iter().all(|name| missed.contains(name));
        assert!(all && !missed.contains(&"steady"), "{patient}: {missed:?}");
    }
}
