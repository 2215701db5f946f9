//! DOOR: the node's clock. UTC is read once, at the start, and then follows the
//! monotonic clock: a jump of the system clock moves no picture and expires nobody.
#![expect(clippy::disallowed_methods, reason = "door: clock")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use suora_protocol::time::{Now, Timestamp};

/// Both clocks, anchored at the start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    utc: Timestamp,
}

impl Default for Clock {
    fn default() -> Self {
        Self::start()
    }
}

impl Clock {
    /// Reads both clocks.
    pub fn start() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Self {
            start: Instant::now(),
            utc: Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(0)),
        }
    }

    /// This moment.
    pub fn now(&self) -> Now {
        let mono = Instant::now();
        Now {
            mono,
            utc: self.utc + mono.duration_since(self.start),
        }
    }

    /// The monotonic time of a UTC time; times before the start are the start.
    pub fn mono(&self, utc: Timestamp) -> Instant {
        self.start + utc.since(self.utc)
    }
}
