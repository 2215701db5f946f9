use proptest::prelude::*;

use super::*;
use crate::media::tests::base;

const MS: fn(u64) -> Duration = Duration::from_millis;
/// Speech with a copy of the frame before it, and without; a mark of a pause.
const SPEECH: &[u8] = &[0x78, 0xc0, 1];
const PLAIN: &[u8] = &[0x78, 0x80, 1];
const MARK: &[u8] = &[0x78];

/// A player of virtual time whose stretching always succeeds, by 5 ms.
struct Player {
    start: Now,
    jitter: Jitter,
    left: Duration,
    slot: u32,
    /// What was done, and the capture time in ms since the start where there is one.
    steps: Vec<(&'static str, i64)>,
    /// Played − captured of packets, in ms, with the moment in ms.
    delays: Vec<(u64, i64)>,
}

impl Player {
    fn new() -> Self {
        Self {
            start: base(),
            jitter: Jitter::new(),
            left: Duration::ZERO,
            slot: 0,
            steps: Vec::new(),
            delays: Vec::new(),
        }
    }

    fn push(&mut self, at: Duration, sequence: i64, captured: Duration, data: &'static [u8]) {
        let packet = AudioPacket {
            sequence,
            captured: self.start.utc + captured,
            data: Bytes::from_static(data),
        };
        self.jitter.push(self.start.after(at), packet);
    }

    /// Plays the next 20 ms.
    fn slot(&mut self) {
        let at = FRAME * self.slot + MS(7);
        let now = self.start.after(at);
        while self.left < FRAME {
            let step = self.jitter.pull(now, self.left);
            let since = |captured: Timestamp| captured.micros_since(self.start.utc) / 1_000;
            let mut change: i64 = 0;
            let (name, captured) = match &step {
                Step::Play { captured, pace, .. } => {
                    change = match pace {
                        Pace::Even => 0,
                        Pace::Faster => -5_000,
                        Pace::Hurry => -10_000,
                        Pace::Slower => 5_000,
                    };
                    let played = now.utc + self.left;
                    self.delays.push((
                        u64::try_from(at.as_millis()).unwrap(),
                        played.micros_since(*captured) / 1_000,
                    ));
                    ("play", since(*captured))
                }
                Step::Rebuild { captured, .. } => ("rebuild", since(*captured)),
                Step::Conceal { captured } => ("conceal", since(*captured)),
                Step::Quiet { captured } => ("quiet", captured.map_or(-1, since)),
                Step::Nothing => ("nothing", -1),
            };
            self.steps.push((name, captured));
            self.left += FRAME;
            let by = Duration::from_micros(change.unsigned_abs());
            if change < 0 {
                self.left -= by;
            } else {
                self.left += by;
            }
            self.jitter.stretched(change);
        }
        self.left -= FRAME;
        self.slot += 1;
    }

    /// Plays a trace of delays in ms of packets that are captured every 20 ms from `from` on
    /// (`None`: lost), and 300 ms more.
    fn trace(&mut self, from: u64, delays: &[Option<u64>]) {
        let mut arrivals: Vec<_> = (from..)
            .zip(delays)
            .filter_map(|(n, delay)| Some((MS(n * 20 + (*delay)?), n)))
            .collect();
        arrivals.sort();
        self.arrivals(&arrivals, from + delays.len() as u64 + 15, SPEECH);
    }

    fn arrivals(&mut self, arrivals: &[(Duration, u64)], slots: u64, data: &'static [u8]) {
        let mut arrivals = arrivals.iter().peekable();
        while u64::from(self.slot) < slots {
            let at = FRAME * self.slot + MS(7);
            while let Some((at, n)) = arrivals.next_if(|(then, _)| *then <= at) {
                self.push(*at, *n as i64, MS(n * 20), data);
            }
            self.slot();
        }
    }

    fn count(&self, name: &str) -> usize {
        self.steps.iter().filter(|step| step.0 == name).count()
    }

    /// Played − captured in ms, the mean of a second that begins here.
    fn delay_at(&self, ms: u64) -> i64 {
        let second = self.delays.iter();
        let second: Vec<_> = second
            .filter(|(at, _)| (ms..ms + 1_000).contains(at))
            .map(|(_, delay)| *delay)
            .collect();
        assert!(!second.is_empty(), "nothing was played at {ms}");
        second.iter().sum::<i64>() / second.len() as i64
    }
}

// covers: SUORA-MED-011
#[test]
fn a_steady_track_plays_every_packet_and_waits_for_the_least() {
    let mut player = Player::new();
    player.trace(0, &[Some(30); 500]);
    assert_eq!(player.count("play"), 500);
    assert!(
        player.steps[..480]
            .iter()
            .all(|step| step.0 == "nothing" || step.0 == "play")
    );
    let delay = player.delay_at(5_000);
    assert!((70..=100).contains(&delay), "{delay}");
}

// covers: SUORA-MED-040
#[test]
fn what_is_missing_is_rebuilt_from_the_next_or_made_up_and_the_rest_is_in_order() {
    let mut player = Player::new();
    let mut trace = vec![Some(30); 60];
    for lost in [20, 30, 31, 40, 41, 42] {
        trace[lost] = None;
    }
    player.trace(0, &trace);
    let at = |n: i64| {
        let found: Vec<_> = player
            .steps
            .iter()
            .filter(|step| step.1 == n * 20)
            .collect();
        assert_eq!(found.len(), 1, "{n}: {found:?}");
        found[0].0
    };
    assert_eq!([19, 20, 21].map(at), ["play", "rebuild", "play"]);
    assert_eq!([30, 31, 32].map(at), ["conceal", "rebuild", "play"]);
    assert_eq!(
        [40, 41, 42, 43].map(at),
        ["conceal", "conceal", "rebuild", "play"]
    );
    let ledger = player.jitter.ledger();
    assert_eq!(ledger.rebuilt, MS(60));
    assert!(ledger.concealed >= MS(60));
    let times: Vec<_> = player
        .steps
        .iter()
        .filter(|step| step.0 == "play")
        .collect();
    assert!(times.is_sorted_by_key(|step| step.1));
}

#[test]
fn without_redundancy_what_is_missing_is_made_up() {
    let mut player = Player::new();
    let sent = (0..60).filter(|n| *n != 30);
    let arrivals: Vec<_> = sent.map(|n| (MS(n * 20 + 30), n)).collect();
    player.arrivals(&arrivals, 58, PLAIN);
    assert_eq!((player.count("rebuild"), player.count("conceal")), (0, 1));
}

// covers: SUORA-MED-041
#[test]
fn unrest_makes_it_wait_longer_and_calm_less_and_no_packet_is_dropped() {
    let mut player = Player::new();
    let mut trace = vec![Some(30_u64); 250];
    trace.extend((0..500).map(|n| Some(30 + (n * 37 % 11) * 10)));
    trace.extend(vec![Some(30); 500]);
    for n in 1..trace.len() {
        // the way keeps the order
        trace[n] = trace[n].max(trace[n - 1].map(|before| before.saturating_sub(20)));
    }
    player.trace(0, &trace);
    assert_eq!(player.count("play"), trace.len());
    assert_eq!(player.jitter.ledger().skipped, Duration::ZERO);
    let (before, during, after) = (
        player.delay_at(4_000),
        player.delay_at(14_000),
        player.delay_at(23_000),
    );
    assert!(before <= 100, "{before}");
    assert!((before + 10..=190).contains(&during), "{before} {during}");
    assert!(after <= 100, "{after}");
    // the first packets that were late may be heard, none of the later
    let late = player.steps[..1_200]
        .iter()
        .filter(|step| step.0 == "conceal")
        .count();
    assert!(late <= 5, "{late}");
}

// covers: SUORA-MED-045
#[test]
fn two_clocks_that_drift_are_followed_for_ever() {
    for parts in [-200_i64, 200] {
        let mut player = Player::new();
        // an hour
        let packets = 180_000_u64;
        let mut n = 0;
        while u64::from(player.slot) < packets {
            let at = FRAME * player.slot + MS(7);
            loop {
                // captured by a clock that is slower or faster
                let captured = MS(n * 20);
                let drift = captured.as_micros() as i64 * parts / 1_000_000;
                let arrives = MS(n * 20 + 30).as_micros() as i64 - drift;
                let arrives = Duration::from_micros(u64::try_from(arrives).unwrap());
                if arrives > at {
                    break;
                }
                player.push(arrives, n as i64, captured, SPEECH);
                n += 1;
            }
            player.slot();
        }
        assert_eq!(
            (player.count("conceal"), player.count("rebuild")),
            (0, 0),
            "{parts}"
        );
        let ledger = player.jitter.ledger();
        assert_eq!(ledger.skipped, Duration::ZERO);
        let held = player.jitter.held.len();
        assert!(held <= 5, "{held}");
        // 720 ms of drift in an hour
        let stretched = if parts > 0 {
            ledger.faster
        } else {
            ledger.slower
        };
        assert!((MS(690)..MS(800)).contains(&stretched), "{ledger:?}");
    }
}

// covers: SUORA-MED-044
#[test]
fn the_first_sound_after_the_dark_is_heard_at_once() {
    let mut player = Player::new();
    let mut trace = vec![Some(30); 100];
    trace.extend([None; 150]);
    trace.extend(vec![Some(30); 200]);
    player.trace(0, &trace);
    let first = player.delays.iter().find(|(at, _)| *at >= 5_000).unwrap();
    // the way itself, and the beat of 20 ms
    assert!(first.1 <= 60, "{first:?}");
    let later = player.delay_at(6_000);
    assert!((60..=100).contains(&later), "{later}");
    // three seconds were lost, and no more is said
    let ledger = player.jitter.ledger();
    assert!(
        (MS(2_900)..=MS(3_120)).contains(&ledger.concealed),
        "{ledger:?}"
    );
}

// covers: SUORA-MED-044
#[test]
fn a_backlog_is_caught_up_or_let_go_within_a_second() {
    for stall in [300_u64, 3_000] {
        let mut player = Player::new();
        let trace: Vec<_> = (0..600_u64)
            .map(|n| Some(30 + (2_000 + stall).saturating_sub(n * 20) * u64::from(n >= 100)))
            .collect();
        player.trace(0, &trace);
        let after = player.delay_at(2_000 + stall + 1_000);
        // the way, the longest target and a beat
        assert!(after < 300, "{stall}: {after}");
        let later = player.delay_at(2_000 + stall + 6_000);
        assert!(later <= 100, "{stall}: {later}");
        let skipped = player.jitter.ledger().skipped;
        assert_eq!(
            skipped > Duration::ZERO,
            stall > 1_000,
            "{stall}: {skipped:?}"
        );
    }
}

// covers: SUORA-MED-043
#[test]
fn a_pause_is_quiet_and_no_loss_though_refreshing_packets_are() {
    let mut player = Player::new();
    // a second of speech, two marks, refreshing packets each 400 ms with marks, speech at 3 s
    let mut packets: Vec<(u64, &'static [u8])> = (0..50).map(|n| (n * 20, SPEECH)).collect();
    for begin in [1_000, 1_400, 1_800, 2_200, 2_600] {
        if begin > 1_000 {
            packets.push((begin, PLAIN));
        }
        packets.extend([(begin + 20, MARK), (begin + 40, MARK)]);
    }
    packets.extend((0..50).map(|n| (3_000 + n * 20, SPEECH)));
    let mut next = 0;
    while player.slot < 210 {
        let at = FRAME * player.slot + MS(7);
        while next < packets.len() && MS(packets[next].0 + 30) <= at {
            let (captured, data) = packets[next];
            // marks and a refreshing packet are lost, and both marks after another
            if !matches!(captured, 1_020 | 1_440 | 1_800 | 2_220 | 2_240) {
                player.push(MS(captured + 30), next as i64, MS(captured), data);
            }
            next += 1;
        }
        player.slot();
        // what was made up before a mark came is none; the end of the trace runs dry
        let concealed = player.jitter.ledger().concealed;
        assert!(!matches!(player.slot, 70 | 90 | 110 | 130 | 195) || concealed.is_zero());
    }
    let ledger = player.jitter.ledger();
    let spoken: Vec<_> = player
        .steps
        .iter()
        .filter(|step| step.0 == "play")
        .collect();
    // the last second, the first, and three that refresh
    assert_eq!(spoken.len(), 100 + 3);
    assert!(ledger.quiet >= MS(1_900), "{ledger:?}");
    let (first, last) = (player.delay_at(500), player.delay_at(3_000));
    assert!((first - last).abs() <= 20, "{first} {last}");
}

// covers: SUORA-MED-047
#[test]
fn who_goes_mute_without_a_word_is_not_counted_as_lost() {
    let mut player = Player::new();
    let arrivals = |from: u64, captured: u64| {
        (from..from + 100).map(move |n| (MS(captured + (n - from) * 20), n))
    };
    for (captured, n) in arrivals(0, 0).chain(arrivals(100, 12_000)) {
        while FRAME * player.slot + MS(7) < captured + MS(30) {
            player.slot();
        }
        player.push(captured + MS(30), n as i64, captured, SPEECH);
    }
    let ledger = player.jitter.ledger();
    assert_eq!(ledger.concealed, Duration::ZERO, "{ledger:?}");
    assert!(ledger.quiet > MS(9_800), "{ledger:?}");
}

// covers: SUORA-MED-046
#[test]
fn a_copy_is_played_where_the_first_was_lost_and_dropped_where_not() {
    let mut player = Player::new();
    let mut arrivals = Vec::new();
    for n in 0..300_u64 {
        if n % 5 != 4 {
            arrivals.push((MS(n * 20 + 30), n));
        }
        if n % 5 != 2 {
            arrivals.push((MS(n * 20 + 70), n));
        }
    }
    arrivals.sort();
    player.arrivals(&arrivals, 300, SPEECH);
    // after it learnt how late copies come
    let learnt = &player.steps[100..];
    assert!(learnt.iter().all(|step| step.0 == "play"), "{learnt:?}");
}

#[test]
fn a_sender_that_begins_anew_is_heard_again() {
    let mut player = Player::new();
    player.trace(0, &[Some(30); 100]);
    let again = player.slot;
    for n in 0..110_u64 {
        let captured = FRAME * again + MS(n * 20);
        while FRAME * player.slot + MS(7) < captured + MS(30) {
            player.slot();
        }
        player.push(captured + MS(30), n as i64 - 9_000, captured, SPEECH);
    }
    assert!(player.count("play") > 140, "{}", player.count("play"));
}

/// Arrivals in order of time: a number, when it was captured and how late it comes.
fn anything() -> impl Strategy<Value = Vec<(i64, u64, u64, u8)>> {
    let near = (0..60_i64, 0..60_u64, 0..900_u64, 0..4_u8);
    let far = (-70_000..70_000_i64, 0..10_000_u64, 0..5_000_u64, 0..4_u8);
    proptest::collection::vec(prop_oneof![6 => near, 1 => far], 1..200)
}

proptest! {
    #[test]
    fn whatever_comes_the_order_is_kept_the_buffer_bounded_and_time_accounted_for(packets in anything()) {
        let mut arrivals: Vec<_> = packets
            .iter()
            .map(|(n, captured, late, kind)| (captured * 20 + late, *n, *captured * 20, *kind))
            .collect();
        arrivals.sort();
        let mut player = Player::new();
        let mut come: Vec<i64> = Vec::new();
        let mut arrivals = arrivals.into_iter().peekable();
        let mut before = 0;
        while player.slot < 800 {
            let at = u64::from(player.slot) * 20 + 7;
            while let Some((at, n, captured, kind)) = arrivals.next_if(|next| next.0 <= at) {
                let data = [SPEECH, SPEECH, PLAIN, MARK][usize::from(kind)];
                player.push(MS(at), n, MS(captured), data);
                come.push(i64::try_from(captured).unwrap());
            }
            player.slot();
            prop_assert!(player.jitter.held.len() <= HELD_MAX);
            // nothing is played before it came
            for (step, captured) in &player.steps[before..] {
                if *step == "play" {
                    prop_assert!(come.contains(captured));
                }
            }
            before = player.steps.len();
            let target = player.jitter.target();
            prop_assert!((MS(40)..=MS(240)).contains(&target));
        }
        let ledger = player.jitter.ledger();
        let counted = ledger.heard() + ledger.quiet;
        let played = u32::try_from(player.steps.iter().filter(|step| step.0 != "nothing").count()).unwrap();
        prop_assert_eq!(counted, FRAME * played);
    }

    #[test]
    fn on_any_order_and_loss_the_numbers_only_grow(
        late in proptest::collection::vec(proptest::option::weighted(0.8, 0..400_u64), 1..300)
    ) {
        let mut player = Player::new();
        player.trace(0, &late);
        let played: Vec<_> = player.steps.iter().filter(|step| step.0 == "play").collect();
        prop_assert!(played.windows(2).all(|two| two[0].1 < two[1].1));
    }
}
