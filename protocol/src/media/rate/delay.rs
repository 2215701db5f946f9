//! How long packets queue on the way: one-way delays over the least of the last minute.
//!
//! Both clocks count from anywhere, so only differences count. The base is a least value,
//! kept by seconds, so that a drift of the clocks (some 20 µs a second) and a path that
//! became longer are forgotten. Sound is what is looked at: it leaves at once, in packets of
//! one size, and is never sent again. Pictures count while no sound flows.
//!
//! Where delays jitter, the least of a minute is chance, and what is always over it is no queue of
//! ours: what stands while we send little is added to the base.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Fate, Feedback, Packet};
use crate::media::Kind;
use crate::time::Now;

/// The base and the round trip are the least of so many seconds.
const SECONDS: u64 = 60;
/// Reports of a second that say what is usual in it, at least, and the most that are looked at.
const REPORTS: (usize, usize) = (9, 32);
/// What stands while we send little counts so far, in microseconds...
const STANDS_MAX: i64 = 25_000;
/// ...and a usual round trip over the least so far.
const USUAL_MAX: i64 = 60_000;
/// ...and it is known from so many seconds on: the first are those in which queues form.
const KNOWN: usize = 4;
/// A trend is what is over so many of its standard errors.
const SURE: f64 = 3.0;
/// The trend is over so much of sending.
const TREND: Duration = Duration::from_millis(240);

/// The queue as reports show it.
#[derive(Debug, Default)]
pub(super) struct Delay {
    /// From where sending times count.
    zero: Option<Instant>,
    bases: Least,
    /// Of seconds in which we sent little.
    stands: Usual,
    base: i64,
    /// Sending time and delay of the last packets, in microseconds.
    recent: VecDeque<(i64, i64)>,
    queue: i64,
    trips: Least,
    usual: Usual,
    round_trip: Option<Duration>,
    usual_trip: Option<Duration>,
}

/// The least of the last minute: the least of each second, and the second.
#[derive(Debug, Default)]
struct Least(VecDeque<(u64, i64)>);

impl Least {
    fn take(&mut self, second: u64, value: i64) {
        match self.0.back_mut() {
            Some((last, least)) if *last == second => *least = (*least).min(value),
            _ => self.0.push_back((second, value)),
        }
        self.forget(second);
    }

    fn forget(&mut self, second: u64) {
        while self
            .0
            .front()
            .is_some_and(|(old, _)| old + SECONDS <= second)
        {
            self.0.pop_front();
        }
    }

    fn least(&self) -> Option<i64> {
        self.0.iter().map(|(_, value)| *value).min()
    }
}

/// The least of the medians of the last minute's seconds.
#[derive(Debug, Default)]
struct Usual {
    second: u64,
    values: Vec<i64>,
    medians: Least,
}

impl Usual {
    fn take(&mut self, second: u64, value: Option<i64>) {
        if second != self.second {
            if self.values.len() >= REPORTS.0 {
                self.values.sort_unstable();
                let median = self.values.get(self.values.len() / 2);
                self.medians.take(self.second, median.copied().unwrap_or(0));
            }
            self.values.clear();
            self.second = second;
        }
        self.medians.forget(second);
        if self.values.len() < REPORTS.1 {
            self.values.extend(value);
        }
    }

    /// The least of the medians, once it is known.
    fn least(&self) -> Option<i64> {
        self.medians
            .least()
            .filter(|_| self.medians.0.len() >= KNOWN)
    }
}

impl Delay {
    /// Takes a report. `light`: so little was sent that a queue would be none of ours. `false`:
    /// it tells no time.
    pub(super) fn report(&mut self, now: Now, feedback: &Feedback, light: bool) -> bool {
        let zero = *self.zero.get_or_insert(now.mono);
        let sound = feedback.packets.iter().any(|packet| {
            packet.kind == Kind::Audio && matches!(packet.fate, Fate::Arrived(Some(_)))
        });
        let kind = if sound { Kind::Audio } else { Kind::Video };
        let packets = feedback.packets.iter().filter(|packet| packet.kind == kind);
        let mut times: Vec<_> = packets
            .filter_map(|packet| arrival(packet).map(|at| (micros(zero, packet.sent), at)))
            .collect();
        times.sort_unstable();
        let Some(least) = times.iter().map(|(sent, at)| at - sent).min() else {
            return false;
        };
        let second = now.mono.saturating_duration_since(zero).as_secs();
        // what the report waited for is not on the way
        let newest = times.iter().map(|(sent, at)| feedback.at - at + sent).max();
        if let Some(newest) = newest {
            let trip = micros(zero, now.mono).saturating_sub(newest);
            self.trips.take(second, trip);
            self.usual.take(second, Some(trip));
            let least = self.trips.least().unwrap_or(trip);
            let usual = self.usual.least().unwrap_or(least);
            self.round_trip = Some(duration(least));
            self.usual_trip = Some(duration(usual.clamp(least, least + USUAL_MAX)));
        }
        self.bases.take(second, least);
        self.stands.take(second, light.then_some(least));
        let base = self.bases.least().unwrap_or(least);
        let stands = self.stands.medians.least().unwrap_or(base);
        self.base = stands.clamp(base, base + STANDS_MAX);
        self.queue = least - self.base;
        let delays = times.iter().map(|(sent, at)| (*sent, at - sent));
        self.recent.extend(delays);
        let newest = self.recent.back().map_or(0, |(sent, _)| *sent);
        let trend = i64::try_from(TREND.as_micros()).unwrap_or(i64::MAX);
        while self
            .recent
            .front()
            .is_some_and(|(sent, _)| newest - sent > trend)
        {
            self.recent.pop_front();
        }
        true
    }

    /// What stands is another flow's queue, not jitter.
    pub(super) fn is_theirs(&mut self) {
        self.stands = Usual::default();
    }

    /// The queue that the last report shows: its least, so that jitter is none.
    pub(super) fn queue(&self) -> Duration {
        duration(self.queue)
    }

    /// The queue of the packet that was sent last.
    pub(super) fn newest(&self) -> Duration {
        let newest = self.recent.back();
        duration(newest.map_or(0, |(_, delay)| delay - self.base))
    }

    /// Seconds of queue that a second of sending adds, by least squares, less what jitter may
    /// feign.
    pub(super) fn slope(&self) -> f64 {
        let count = self.recent.len() as f64;
        if count < 4.0 {
            return 0.0;
        }
        let mean = |pick: fn(&(i64, i64)) -> i64| {
            self.recent
                .iter()
                .map(|pair| pick(pair) as f64)
                .sum::<f64>()
                / count
        };
        let (time, delay) = (mean(|pair| pair.0), mean(|pair| pair.1));
        let (mut over, mut under) = (0.0, 0.0);
        for (sent, took) in &self.recent {
            let apart = *sent as f64 - time;
            over += apart * (*took as f64 - delay);
            under += apart * apart;
        }
        if under <= 0.0 {
            return 0.0;
        }
        let slope = over / under;
        let off = |(sent, took): &(i64, i64)| {
            let off = *took as f64 - delay - slope * (*sent as f64 - time);
            off * off
        };
        let off: f64 = self.recent.iter().map(off).sum();
        slope - SURE * (off / (count - 2.0) / under).sqrt()
    }

    /// The least time of the last minute from a packet's sending to its report, without the
    /// report's wait.
    pub(super) const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The same as a rule, in the last minute's best second: longer by jitter.
    pub(super) const fn usual_trip(&self) -> Option<Duration> {
        self.usual_trip
    }
}

/// Of microseconds; none where they are negative.
fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// When a packet arrived, by the other end's clock.
pub(super) const fn arrival(packet: &Packet) -> Option<i64> {
    match packet.fate {
        Fate::Arrived(at) => at,
        Fate::Lost => None,
    }
}

/// Microseconds from `zero`, before it negative.
fn micros(zero: Instant, at: Instant) -> i64 {
    let after = at.saturating_duration_since(zero).as_micros();
    let before = zero.saturating_duration_since(at).as_micros();
    i64::try_from(after).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(0)
}
