//! PURE: one direction of a wire: a bottleneck with a bounded queue, delay, jitter that
//! keeps the order, random or bursty loss, steps of capacity, and blackouts.

use std::time::Duration;

use suora_protocol::identity::Draw;

/// Bytes of IP and UDP headers around a QUIC packet.
const HEADERS: usize = 28;

/// What is lost.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Loss {
    /// Nothing.
    #[default]
    None,
    /// Each packet with this probability.
    Random(f64),
    /// Gilbert's model: from good to bad, and from bad to good, with these probabilities a
    /// packet; in the bad state everything is lost.
    Bursts(f64, f64),
}

/// The state of a wire, the same in both directions.
#[derive(Clone, PartialEq, Debug)]
pub struct Weather {
    /// One way, without any queue.
    pub delay: Duration,
    /// Up to so much more, uniform; order is kept.
    pub jitter: Duration,
    /// What is lost.
    pub loss: Loss,
    /// Bits a second from each moment on; empty: no bound.
    pub capacity: Vec<(Duration, u64)>,
    /// Most bytes that wait at the bottleneck.
    pub queue: usize,
    /// Times in which nothing passes: from, to.
    pub blackouts: Vec<(Duration, Duration)>,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: Loss::None,
            capacity: Vec::new(),
            queue: 64 * 1_024,
            blackouts: Vec::new(),
        }
    }
}

impl Weather {
    /// Nothing but a delay, in milliseconds one way.
    pub fn delay(ms: u64) -> Self {
        Self {
            delay: Duration::from_millis(ms),
            ..Self::default()
        }
    }

    /// The same with loss.
    #[must_use]
    pub const fn losing(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// The same with this capacity in bits a second.
    #[must_use]
    pub fn narrow(mut self, capacity: u64) -> Self {
        self.capacity = vec![(Duration::ZERO, capacity)];
        self
    }
}

/// One direction of a wire.
#[derive(Debug)]
pub struct Line {
    weather: Weather,
    draw: Draw,
    /// When the weather begins; before, there is nothing but its delay and first capacity.
    begin: Duration,
    /// When the bottleneck has sent all that waits.
    free: Duration,
    /// When the last packet arrives.
    last: Duration,
    bad: bool,
    /// Packets and bytes that were sent into it, and packets that were lost.
    pub sent: (u64, u64, u64),
}

impl Line {
    /// A wire on which `weather` begins at `begin`, its chance from `seed`.
    pub fn new(weather: Weather, begin: Duration, seed: u8) -> Self {
        Self {
            weather,
            draw: Draw::from_seed([seed; 32]),
            begin,
            free: Duration::ZERO,
            last: Duration::ZERO,
            bad: false,
            sent: (0, 0, 0),
        }
    }

    /// How long a packet that is sent now waits at the bottleneck.
    pub fn wait(&self, now: Duration) -> Duration {
        self.free.saturating_sub(now)
    }

    /// A packet of `bytes` is sent: when it arrives; `None`: it is lost.
    pub fn send(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        let bytes = bytes + HEADERS;
        if now < self.begin {
            return Some(self.bottleneck(now, bytes) + self.weather.delay);
        }
        self.sent.0 += 1;
        self.sent.1 += bytes as u64;
        let arrives = self.pass(now, bytes);
        self.sent.2 += u64::from(arrives.is_none());
        arrives
    }

    fn pass(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        let since = now.saturating_sub(self.begin);
        let dark = |(from, to): &(Duration, Duration)| (*from..*to).contains(&since);
        if self.weather.blackouts.iter().any(dark) || self.lost() {
            return None;
        }
        if let Some(capacity) = self.capacity(self.free.max(now)) {
            let waiting = self.free.saturating_sub(now).as_secs_f64() * capacity as f64 / 8.0;
            if waiting + bytes as f64 > self.weather.queue as f64 {
                return None;
            }
        }
        self.bottleneck(now, bytes);
        let jitter = u64::try_from(self.weather.jitter.as_micros()).unwrap_or(0);
        let jitter = Duration::from_micros(self.draw.below(jitter));
        self.last = self.last.max(self.free + self.weather.delay + jitter);
        Some(self.last)
    }

    /// When a packet that comes now has passed the narrowest part.
    fn bottleneck(&mut self, now: Duration, bytes: usize) -> Duration {
        self.free = self.served(self.free.max(now), bytes as f64 * 8.0);
        self.free
    }

    fn lost(&mut self) -> bool {
        match self.weather.loss {
            Loss::None => false,
            Loss::Random(share) => self.chance(share),
            Loss::Bursts(begin, end) => {
                self.bad = if self.bad {
                    !self.chance(end)
                } else {
                    self.chance(begin)
                };
                self.bad
            }
        }
    }

    fn chance(&mut self, share: f64) -> bool {
        (self.draw.below(1_000_000) as f64) < share * 1e6
    }

    fn capacity(&self, at: Duration) -> Option<u64> {
        let at = at.saturating_sub(self.begin);
        let steps = self.weather.capacity.iter().rev();
        steps
            .copied()
            .find(|(from, _)| *from <= at)
            .map(|step| step.1)
    }

    /// When so many bits that begin at `at` have passed, steps of capacity on the way included.
    fn served(&self, mut at: Duration, mut bits: f64) -> Duration {
        loop {
            let Some(capacity) = self.capacity(at) else {
                return at;
            };
            let done = at + Duration::from_secs_f64(bits / capacity.max(1) as f64);
            let step = self.weather.capacity.iter().map(|step| self.begin + step.0);
            match step.filter(|step| *step > at).min() {
                Some(step) if step < done => {
                    bits -= (step - at).as_secs_f64() * capacity as f64;
                    at = step;
                }
                _ => return done,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_bottleneck_spreads_packets_and_drops_what_finds_no_room() {
        let weather = Weather {
            queue: 2_500,
            ..Weather::delay(10).narrow(1_000_000)
        };
        let mut line = Line::new(weather, Duration::ZERO, 1);
        let bytes = 1_250 - HEADERS;
        assert_eq!(line.send(MS(0), bytes), Some(MS(20)));
        assert_eq!(line.send(MS(0), bytes), Some(MS(30)));
        assert_eq!(line.send(MS(0), bytes), None);
        assert_eq!(line.send(MS(10), bytes), Some(MS(40)));
    }

    #[test]
    fn a_step_of_capacity_in_the_middle_of_a_packet_counts() {
        let mut weather = Weather::delay(0);
        weather.capacity = vec![(MS(0), 1_000_000), (MS(5), 100_000)];
        let mut line = Line::new(weather, Duration::ZERO, 1);
        // 10,000 bits: 5 ms of them fast, the rest at a tenth
        assert_eq!(line.send(MS(0), 1_250 - HEADERS), Some(MS(55)));
    }

    #[test]
    fn loss_has_its_share_and_jitter_keeps_the_order() {
        let lost = |loss| {
            let mut line = Line::new(Weather::delay(1).losing(loss), Duration::ZERO, 7);
            (0..10_000)
                .filter(|n| line.send(MS(*n), 100).is_none())
                .count()
        };
        assert_eq!(lost(Loss::None), 0);
        assert!((400..600).contains(&lost(Loss::Random(0.05))));
        assert!((1_200..2_200).contains(&lost(Loss::Bursts(0.05, 0.25))));
        let mut line = Line::new(
            Weather {
                jitter: MS(30),
                ..Weather::delay(5)
            },
            Duration::ZERO,
            3,
        );
        let times: Vec<_> = (0..500).filter_map(|n| line.send(MS(n), 100)).collect();
        assert!(times.is_sorted() && times.len() == 500);
    }

    #[test]
    fn in_a_blackout_nothing_passes() {
        let mut line = Line::new(
            Weather {
                blackouts: vec![(MS(10), MS(20))],
                ..Weather::delay(1)
            },
            Duration::ZERO,
            1,
        );
        let passes: Vec<_> = [9, 10, 19, 20]
            .map(|at| line.send(MS(at), 10).is_some())
            .into();
        assert_eq!(passes, [true, false, false, true]);
    }
}
