//! The two times of the protocol. `Instant` serves what dies with the process
//! (timers, pacing); [`Timestamp`] serves what outlives it (documents, tickets,
//! capture times). Machines receive both as one [`Now`]; none of them reads a clock.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// UTC time in microseconds since 1970-01-01, leap seconds ignored.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From whole seconds since 1970; saturates at the end of the range.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// From milliseconds since 1970; saturates at the end of the range.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Microseconds since 1970.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970, rounded down.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Time from `earlier` to `self`; zero when `earlier` lies later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.micros_since(earlier)).unwrap_or(0))
    }

    /// Signed microseconds from `earlier` to `self`; saturates.
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Moved by signed microseconds; saturates.
    pub const fn shift(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        self.shift(micros(duration))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        self.shift(-micros(duration))
    }
}

/// One moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The monotonic clock.
    pub mono: Instant,
    /// The wall clock.
    pub utc: Timestamp,
}

impl Now {
    /// The moment `duration` later, for virtual clocks.
    pub fn after(self, duration: Duration) -> Self {
        Self {
            mono: self.mono + duration,
            utc: self.utc + duration,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_signed_or_floored_at_zero() {
        let early = Timestamp::from_secs(10);
        let late = early + Duration::from_millis(1_500);
        assert_eq!(late.since(early), Duration::from_millis(1_500));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.micros_since(late), -1_500_000);
        assert_eq!(Timestamp::from_micros(-1).as_secs(), -1);
    }
}
