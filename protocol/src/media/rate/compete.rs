//! Beside a flow that fills every queue (a file by CUBIC, RFC 9438), waiting for an empty queue is
//! giving way for ever. Once a queue does not shrink although we send next to nothing, we
//! take our part as such a flow does: up by a packet a round trip, down by three tenths when the queue
//! is full. The queue is theirs and stays whatever we do; when it is gone, so is this.

use std::time::{Duration, Instant};

use crate::time::Now;

/// A packet on the wire, in bits.
const PACKET: f64 = 1_250.0 * 8.0;
/// What is kept when the queue is full.
const KEEP: f64 = 0.7;
/// What is left of the longest queue seen after a second: one of long ago is forgotten.
const REMEMBERS: f64 = 0.975;
/// A queue is full at this share of the longest seen.
const FULL: f64 = 0.85;
/// A full queue is a reason again once it is so much longer than at the last step...
const LONGER: f64 = 1.15;
/// ...or so late.
const AGAIN: Duration = Duration::from_secs(2);
/// It is over once the queue was under this...
const EMPTY: Duration = Duration::from_millis(25);
/// ...for so long.
const OVER: Duration = Duration::from_millis(500);

/// A contest for the bottleneck.
#[derive(Debug)]
pub(super) struct Compete {
    longest: Duration,
    report: Instant,
    backed: Instant,
    empty: Option<Instant>,
    /// It was not full since the last step down...
    drained: bool,
    /// ...which found it so long.
    stepped: Duration,
}

impl Compete {
    pub(super) const fn new(now: Instant, queue: Duration) -> Self {
        Self {
            longest: queue,
            report: now,
            backed: now,
            empty: None,
            drained: true,
            stepped: queue,
        }
    }

    /// The next target; `None`: the contest is over. `lost`: sound was lost.
    pub(super) fn report(
        &mut self,
        now: Now,
        target: f64,
        queue: Duration,
        round_trip: Duration,
        lost: bool,
    ) -> Option<f64> {
        let since = |at: Instant| now.mono.saturating_duration_since(at);
        if queue < EMPTY {
            let empty = *self.empty.get_or_insert(now.mono);
            if since(empty) >= OVER {
                return None;
            }
        } else {
            self.empty = None;
        }
        let passed = since(self.report);
        self.report = now.mono;
        let left = REMEMBERS.powf(passed.as_secs_f64());
        self.longest = self.longest.mul_f64(left).max(queue);
        let trip = (round_trip + queue).max(Duration::from_millis(20));
        let full = queue >= self.longest.mul_f64(FULL);
        self.drained |= !full;
        // one full queue is one reason; one that we lengthen, or that stays, is another
        let longer = queue > self.stepped.mul_f64(LONGER);
        let again = self.drained || longer || since(self.backed) >= AGAIN;
        let settled = since(self.backed) >= trip + crate::limits::REPORT_INTERVAL;
        if (full && again || lost) && settled {
            self.backed = now.mono;
            self.drained = !full;
            self.stepped = queue;
            return Some(target * KEEP);
        }
        let up = PACKET * passed.as_secs_f64() / (trip.as_secs_f64() * trip.as_secs_f64());
        Some(target + up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::tests::base;

    /// Steps down in reports of these queues, in ms, a tenth of a second apart.
    fn steps(compete: &mut Compete, from: u64, queues: impl Iterator<Item = u64>) -> u32 {
        let ms = Duration::from_millis;
        let mut target = 1e6;
        let mut steps = 0;
        for (at, queue) in (0..).zip(queues) {
            let now = base().after(ms(from + at * 100));
            let next = compete
                .report(now, target, ms(queue), ms(80), false)
                .unwrap();
            steps += u32::from(next < target);
            target = next;
        }
        steps
    }

    // covers: SUORA-MED-025
    #[test]
    fn a_full_queue_is_one_step_down_until_it_was_empty_or_stays_for_seconds() {
        let mut compete = Compete::new(base().mono, Duration::from_millis(150));
        let full = || std::iter::repeat_n(150, 20);
        assert_eq!(steps(&mut compete, 1_000, full()), 1);
        assert_eq!(steps(&mut compete, 3_000, full()), 1);
        assert_eq!(
            steps(&mut compete, 5_000, [60].into_iter().chain(full())),
            1
        );
    }

    // covers: SUORA-MED-025
    #[test]
    fn a_queue_that_grows_by_what_we_send_is_many_steps_down() {
        let mut compete = Compete::new(base().mono, Duration::from_millis(100));
        let grows = (0..40).map(|report| 100 + report * 20);
        assert!(steps(&mut compete, 1_000, grows) >= 4);
    }

    // covers: SUORA-MED-025
    #[test]
    fn sound_that_is_lost_is_a_step_down_each_round_trip() {
        let ms = Duration::from_millis;
        let mut compete = Compete::new(base().mono, ms(150));
        let mut target = 1e6;
        for report in 1..=10 {
            let now = base().after(ms(report * 400));
            let next = compete.report(now, target, ms(150), ms(80), true).unwrap();
            assert!(next < target);
            target = next;
        }
    }
}
