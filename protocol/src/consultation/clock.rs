//! The other end's clock by four timestamps (`spec/consultation.md`, section 5). No packet
//! arrives before it left, so each exchange bounds the offset from both sides; the bounds
//! widen with time, since clocks drift, and what all exchanges allow is the offset with its
//! uncertainty.

use std::time::{Duration, Instant};

use crate::limits;
use crate::time::{Now, Timestamp};
use crate::wire::guest::{Clock, ClockAnswer};

/// The other end's clock minus ours, in microseconds: the truth is within the uncertainty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offset {
    /// The middle of what is possible.
    pub offset: i64,
    /// Half the width of what is possible.
    pub uncertainty: i64,
}

/// What is possible at a moment: the offset is neither less nor more.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    least: i64,
    most: i64,
    at: Instant,
}

impl Bounds {
    /// What is possible later: clocks drift.
    fn later(self, now: Instant) -> Self {
        let passed = now.saturating_duration_since(self.at).as_micros();
        let drift = drift(i64::try_from(passed).unwrap_or(i64::MAX));
        Self {
            least: self.least.saturating_sub(drift),
            most: self.most.saturating_add(drift),
            at: now.max(self.at),
        }
    }

    fn offset(self) -> Offset {
        let (least, most) = (i128::from(self.least), i128::from(self.most));
        // half of two 64-bit numbers fits; the wider half covers both ends
        let narrow = |value: i128| i64::try_from(value).unwrap_or(i64::MAX);
        Offset {
            offset: narrow((least + most) / 2),
            uncertainty: narrow((most - least + 1) / 2),
        }
    }
}

/// How far two clocks may drift apart in so many microseconds.
const fn drift(micros: i64) -> i64 {
    (micros / 1_000_000)
        .saturating_mul(limits::CLOCK_DRIFT)
        .saturating_add(micros % 1_000_000 * limits::CLOCK_DRIFT / 1_000_000)
}

/// Measures the other end's clock.
#[derive(Debug, Default)]
pub struct Sync {
    sent: u32,
    asked: Option<(u64, Timestamp)>,
    due: Option<Instant>,
    bounds: Option<Bounds>,
}

impl Sync {
    /// The next question, when it is time for one.
    pub fn ask(&mut self, now: Now) -> Option<Clock> {
        if self.due.is_some_and(|due| now.mono < due) {
            return None;
        }
        self.sent += 1;
        // an answer that does not come holds up the burst by a second only
        let wait = if self.sent < limits::CLOCK_BURST {
            Duration::from_secs(1)
        } else {
            limits::CLOCK_INTERVAL
        };
        self.due = Some(now.mono + wait);
        let clock = Clock {
            id: u64::from(self.sent),
            t1: now.utc,
        };
        self.asked = Some((clock.id, clock.t1));
        Some(clock)
    }

    /// Takes an answer that came at `at`, which is not after `now`: the offset that all
    /// answers allow. `None` for one that fits no open question, or is impossible.
    pub fn answer(&mut self, now: Instant, answer: ClockAnswer, at: Timestamp) -> Option<Offset> {
        self.asked
            .take_if(|asked| *asked == (answer.id, answer.t1))?;
        if self.sent < limits::CLOCK_BURST {
            self.due = None;
        }
        let (least, most) = (
            answer.t3.micros_since(at),
            answer.t2.micros_since(answer.t1),
        );
        if least > most {
            return None;
        }
        // they drifted during the exchange, too
        let drift = drift(at.micros_since(answer.t1).max(0));
        let exchange = Bounds {
            least: least.saturating_sub(drift),
            most: most.saturating_add(drift),
            at: now,
        };
        let before = self.bounds.map(|bounds| bounds.later(now));
        let both = before.map_or(exchange, |before| Bounds {
            least: before.least.max(exchange.least),
            most: before.most.min(exchange.most),
            at: now,
        });
        // where nothing is left a clock was set: only the last exchange counts
        let bounds = if both.least > both.most {
            exchange
        } else {
            both
        };
        self.bounds = Some(bounds);
        Some(bounds.offset())
    }

    /// The offset now; the uncertainty grows until the next answer.
    pub fn offset(&self, now: Instant) -> Option<Offset> {
        self.bounds.map(|bounds| bounds.later(now).offset())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::tests::base;

    /// An exchange: the way there and back in microseconds, and how far their clock is ahead.
    fn exchange(sync: &mut Sync, now: &mut Now, ways: (i64, i64), ahead: i64) -> Option<Offset> {
        let clock = sync.ask(*now)?;
        let t2 = clock.t1.shift(ways.0 + ahead);
        let answer = ClockAnswer {
            id: clock.id,
            t1: clock.t1,
            t2,
            t3: t2.shift(500),
        };
        let passed = u64::try_from(ways.0 + ways.1 + 500).unwrap();
        *now = now.after(Duration::from_micros(passed));
        sync.answer(now.mono, answer, now.utc)
    }

    // covers: SUORA-CON-005
    #[test]
    fn ways_that_differ_bound_the_offset_from_both_sides() {
        let mut now = base();
        let mut sync = Sync::default();
        // a slow way there alone says little, and that the offset is not under 4.99 s
        let one = exchange(&mut sync, &mut now, (90_000, 10_000), 5_000_000).unwrap();
        assert_eq!((one.offset, one.uncertainty), (5_040_000, 50_020));
        // a slow way back bounds the other side
        let two = exchange(&mut sync, &mut now, (10_000, 90_000), 5_000_000).unwrap();
        assert!((two.offset - 5_000_000).abs() <= 30, "{two:?}");
        assert!((10_000..10_060).contains(&two.uncertainty), "{two:?}");
        // a worse exchange takes nothing away
        let three = exchange(&mut sync, &mut now, (200_000, 200_000), 5_000_000).unwrap();
        assert!(three.uncertainty < 10_200, "{three:?}");
    }

    // covers: SUORA-CON-005
    #[test]
    fn the_uncertainty_grows_with_time_and_shrinks_with_the_next_answer() {
        let mut now = base();
        let mut sync = Sync::default();
        exchange(&mut sync, &mut now, (10_000, 10_000), 7).unwrap();
        let at = |secs| now.mono + Duration::from_secs(secs);
        assert_eq!(sync.offset(at(0)).unwrap().uncertainty, 10_004);
        assert_eq!(sync.offset(at(5)).unwrap().uncertainty, 11_004);
        assert_eq!(sync.offset(at(60)).unwrap().uncertainty, 22_004);
        now = now.after(Duration::from_secs(60));
        let again = exchange(&mut sync, &mut now, (10_000, 10_000), 7).unwrap();
        assert_eq!(again.uncertainty, 10_004);
    }

    // covers: SUORA-CON-005
    #[test]
    fn a_clock_that_was_set_is_measured_anew() {
        let mut now = base();
        let mut sync = Sync::default();
        exchange(&mut sync, &mut now, (10_000, 10_000), 0).unwrap();
        let set = exchange(&mut sync, &mut now, (30_000, 30_000), 3_600_000_000).unwrap();
        assert_eq!((set.offset, set.uncertainty), (3_600_000_000, 30_012));
    }

    #[test]
    fn an_answer_that_fits_no_question_or_is_impossible_says_nothing() {
        let mut now = base();
        let mut sync = Sync::default();
        let first = exchange(&mut sync, &mut now, (10_000, 10_000), 0);
        let clock = sync.ask(now).unwrap();
        let answer = |id, t2: Timestamp, t3: Timestamp| ClockAnswer {
            id,
            t1: clock.t1,
            t2,
            t3,
        };
        let other = answer(9, now.utc, now.utc);
        assert_eq!(sync.answer(now.mono, other, now.utc), None);
        // it took longer there than here
        let slow = answer(clock.id, now.utc, now.utc.shift(1_000_000));
        assert_eq!(sync.answer(now.mono, slow, now.utc.shift(10)), None);
        assert_eq!(sync.offset(now.mono), first);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        // covers: SUORA-CON-005
        #[test]
        fn the_true_offset_is_within_the_uncertainty_whatever_the_ways_and_the_drift(
            ahead in -10_000_000_000..10_000_000_000i64,
            drift in -200..=200i64,
            ways in proptest::collection::vec((0..400_000i64, 0..400_000i64), 1..30),
            later in 0..60u64,
        ) {
            let start = base();
            let mut now = start;
            let mut sync = Sync::default();
            // their clock runs so many parts in a million faster than ours
            let truth = |now: Now| {
                let passed = i64::try_from(now.mono.duration_since(start.mono).as_micros()).unwrap();
                ahead + passed * drift / 1_000_000
            };
            let mut least_trip = i64::MAX;
            for (there, back) in ways {
                if sync.due.is_some_and(|due| due > now.mono) {
                    now = now.after(limits::CLOCK_INTERVAL);
                }
                let clock = sync.ask(now).unwrap();
                now = now.after(Duration::from_micros(there.unsigned_abs()));
                let t2 = now.utc.shift(truth(now));
                now = now.after(Duration::from_micros(500));
                let t3 = now.utc.shift(truth(now));
                now = now.after(Duration::from_micros(back.unsigned_abs()));
                let answer = ClockAnswer { id: clock.id, t1: clock.t1, t2, t3 };
                let found = sync.answer(now.mono, answer, now.utc).unwrap();
                least_trip = least_trip.min(there + back);
                // a microsecond for each rounding
                prop_assert!((found.offset - truth(now)).abs() <= found.uncertainty + 3);
                let passed = i64::try_from(now.mono.duration_since(start.mono).as_micros()).unwrap();
                let widest = least_trip / 2 + passed * limits::CLOCK_DRIFT / 1_000_000 + 200;
                prop_assert!(found.uncertainty <= widest, "{} {widest}", found.uncertainty);
            }
            now = now.after(Duration::from_secs(later));
            let found = sync.offset(now.mono).unwrap();
            prop_assert!((found.offset - truth(now)).abs() <= found.uncertainty + 3);
        }

        #[test]
        fn no_answer_can_overflow(
            t2 in any::<i64>(), t3 in any::<i64>(), at in any::<i64>(), secs in 0..u64::from(u32::MAX),
        ) {
            let now = base();
            let mut sync = Sync::default();
            let clock = sync.ask(now).unwrap();
            let answer = ClockAnswer {
                id: clock.id,
                t1: clock.t1,
                t2: Timestamp::from_micros(t2),
                t3: Timestamp::from_micros(t3),
            };
            if let Some(found) = sync.answer(now.mono, answer, Timestamp::from_micros(at)) {
                prop_assert!(found.uncertainty >= 0);
                let later = sync.offset(now.mono + Duration::from_secs(secs)).unwrap();
                prop_assert!(later.uncertainty >= found.uncertainty);
            }
        }
    }

    // covers: SUORA-CON-012
    #[test]
    fn after_five_exchanges_one_every_five_seconds() {
        let mut now = base();
        let mut sync = Sync::default();
        for _ in 0..5 {
            exchange(&mut sync, &mut now, (0, 0), 0).unwrap();
        }
        assert!(sync.ask(now).is_none());
        now = now.after(limits::CLOCK_INTERVAL);
        assert!(sync.ask(now).is_some());
    }
}
