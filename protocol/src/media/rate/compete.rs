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
}

impl Compete {
    pub(super) const fn new(now: Instant, queue: Duration) -> Self {
        Self {
            longest: queue,
            report: now,
            backed: now,
            empty: None,
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
        if (full || lost) && since(self.backed) >= trip + crate::limits::REPORT_INTERVAL {
            self.backed = now.mono;
            return Some(target * KEEP);
        }
        let up = PACKET * passed.as_secs_f64() / (trip.as_secs_f64() * trip.as_secs_f64());
        Some(target + up)
    }
}
