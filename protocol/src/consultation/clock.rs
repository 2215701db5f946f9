//! The other end's clock by four timestamps (`spec/consultation.md`, section 5): five
//! exchanges at the start, then one every five seconds; the least round trip wins.

use std::time::Instant;

use crate::limits;
use crate::time::{Now, Timestamp};
use crate::wire::guest::{Clock, ClockAnswer};

/// Measures the other end's clock.
#[derive(Debug, Default)]
pub struct Sync {
    sent: u32,
    asked: Option<(u64, Timestamp)>,
    due: Option<Instant>,
    best: Option<(i64, i64)>,
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
            std::time::Duration::from_secs(1)
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

    /// Takes an answer that came at `at`: the best offset (theirs minus ours) and its uncertainty, in microseconds.
    pub fn answer(&mut self, answer: ClockAnswer, at: Timestamp) -> Option<(i64, i64)> {
        self.asked
            .take_if(|asked| *asked == (answer.id, answer.t1))?;
        let there = answer.t3.micros_since(answer.t2);
        let trip = at.micros_since(answer.t1).saturating_sub(there).max(0);
        let offset = answer
            .t2
            .micros_since(answer.t1)
            .saturating_add(answer.t3.micros_since(at))
            / 2;
        if self.sent < limits::CLOCK_BURST {
            self.due = None;
        }
        if self.best.is_none_or(|(_, least)| trip / 2 <= least) {
            self.best = Some((offset, trip / 2));
        }
        self.best
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::media::tests::base;

    // covers: SUORA-CON-005
    #[test]
    fn the_exchange_with_the_least_round_trip_wins() {
        let start = base();
        let mut sync = Sync::default();
        let mut now = start;
        // their clock is 5 s ahead; the way there takes `there` ms, the way back 10 ms
        for there in [90, 10, 40] {
            let clock = sync.ask(now).unwrap();
            let t2 = clock.t1.shift(5_000_000 + there * 1_000);
            let answer = ClockAnswer {
                id: clock.id,
                t1: clock.t1,
                t2,
                t3: t2.shift(500),
            };
            now = now.after(Duration::from_micros(
                u64::try_from(there * 1_000).unwrap() + 10_500,
            ));
            sync.answer(answer, now.utc).unwrap();
        }
        assert_eq!(sync.best, Some((5_000_000, 10_000)));
        assert_eq!(
            sync.answer(
                ClockAnswer {
                    id: 9,
                    t1: now.utc,
                    t2: now.utc,
                    t3: now.utc
                },
                now.utc
            ),
            None
        );
    }

    // covers: SUORA-CON-012
    #[test]
    fn after_five_exchanges_one_every_five_seconds() {
        let mut now = base();
        let mut sync = Sync::default();
        for _ in 0..5 {
            let clock = sync.ask(now).unwrap();
            sync.answer(
                ClockAnswer {
                    id: clock.id,
                    t1: clock.t1,
                    t2: clock.t1,
                    t3: clock.t1,
                },
                now.utc,
            );
        }
        assert!(sync.ask(now).is_none());
        now = now.after(limits::CLOCK_INTERVAL);
        assert!(sync.ask(now).is_some());
    }
}
