//! How long packets queue on the way: one-way delays over the least of the last minute.
//!
//! Both clocks count from anywhere, so only differences count. The base is a least value,
//! kept by seconds, so that a drift of the clocks (some 20 µs a second) and a path that
//! became longer are forgotten. Sound is what is looked at: it leaves at once, in packets of
//! one size, and is never sent again. Pictures count while no sound flows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Fate, Feedback, Packet};
use crate::media::Kind;
use crate::time::Now;

/// The base and the round trip are the least of so many seconds.
const SECONDS: u64 = 60;
/// The trend is over so much of sending.
const TREND: Duration = Duration::from_millis(240);

/// The queue as reports show it.
#[derive(Debug, Default)]
pub(super) struct Delay {
    /// From where sending times count.
    zero: Option<Instant>,
    base: Least,
    /// Sending time and queue of the last packets, in microseconds.
    recent: VecDeque<(i64, i64)>,
    queue: i64,
    trips: Least,
    round_trip: Option<Duration>,
}

/// The least of the last minute: the least of each second, and the second.
#[derive(Debug, Default)]
struct Least(VecDeque<(u64, i64)>);

impl Least {
    fn take(&mut self, second: u64, value: i64) -> i64 {
        match self.0.back_mut() {
            Some((last, least)) if *last == second => *least = (*least).min(value),
            _ => self.0.push_back((second, value)),
        }
        while self
            .0
            .front()
            .is_some_and(|(old, _)| old + SECONDS <= second)
        {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, value)| *value).fold(value, i64::min)
    }
}

impl Delay {
    /// Takes a report. `false`: it tells no time.
    pub(super) fn report(&mut self, now: Now, feedback: &Feedback) -> bool {
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
            let trip = self.trips.take(second, trip);
            self.round_trip = Some(Duration::from_micros(u64::try_from(trip).unwrap_or(0)));
        }
        let base = self.base.take(second, least);
        self.queue = least - base;
        let queues = times.iter().map(|(sent, at)| (*sent, at - sent - base));
        self.recent.extend(queues);
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

    /// The queue that the last report shows: its least, so that jitter is none.
    pub(super) fn queue(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.queue).unwrap_or(0))
    }

    /// The queue of the packet that was sent last.
    pub(super) fn newest(&self) -> Duration {
        let newest = self.recent.back().map_or(0, |(_, queue)| *queue);
        Duration::from_micros(u64::try_from(newest).unwrap_or(0))
    }

    /// Seconds of queue that a second of sending adds, by least squares.
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
        let (time, queue) = (mean(|pair| pair.0), mean(|pair| pair.1));
        let (mut over, mut under) = (0.0, 0.0);
        for (sent, waited) in &self.recent {
            let apart = *sent as f64 - time;
            over += apart * (*waited as f64 - queue);
            under += apart * apart;
        }
        if under > 0.0 { over / under } else { 0.0 }
    }

    /// The least time of the last minute from a packet's sending to its report, without the
    /// report's wait.
    pub(super) const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }
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
