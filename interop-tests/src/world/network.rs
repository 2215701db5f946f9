//! The world's network: a queue of what is on its way. Delay and jitter come from a seed, each
//! lane keeps its order, and a wire that is cut loses what was on it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use suora_protocol::identity::Draw;

/// One direction of a wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Lane {
    /// The wire.
    pub wire: u64,
    /// Towards the one who opened it.
    pub back: bool,
}

/// What is on its way, and what will happen, in order of time.
#[derive(Debug)]
pub struct Network<E> {
    draw: Draw,
    delay: Duration,
    jitter: Duration,
    queue: BTreeMap<(Instant, u64), (Option<Lane>, E)>,
    last: BTreeMap<Lane, Instant>,
    count: u64,
}

impl<E> Network<E> {
    /// A network where one way takes `delay` and up to `jitter` more.
    pub fn new(seed: [u8; 32], delay: Duration, jitter: Duration) -> Self {
        Self {
            draw: Draw::from_seed(seed),
            delay,
            jitter,
            queue: BTreeMap::new(),
            last: BTreeMap::new(),
            count: 0,
        }
    }

    /// How long one way takes, this time.
    pub fn trip(&mut self) -> Duration {
        let jitter = u64::try_from(self.jitter.as_micros()).unwrap_or(u64::MAX);
        self.delay + Duration::from_micros(self.draw.below(jitter.saturating_add(1)))
    }

    /// Sends on a lane; what was sent before on it arrives before.
    pub fn send(&mut self, now: Instant, lane: Lane, event: E) {
        let trip = self.trip();
        let at = self
            .last
            .get(&lane)
            .map_or(now + trip, |last| (*last).max(now + trip));
        self.last.insert(lane, at);
        self.put(at, Some(lane), event);
    }

    /// Something that happens then, by no wire.
    pub fn at(&mut self, at: Instant, event: E) {
        self.put(at, None, event);
    }

    fn put(&mut self, at: Instant, lane: Option<Lane>, event: E) {
        self.count += 1;
        self.queue.insert((at, self.count), (lane, event));
    }

    /// Loses all that is on a wire, both ways.
    pub fn cut(&mut self, wire: u64) {
        self.queue
            .retain(|_, (lane, _)| lane.is_none_or(|lane| lane.wire != wire));
        self.last.retain(|lane, _| lane.wire != wire);
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<Instant> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// Takes the next thing that happens.
    pub fn take(&mut self) -> Option<(Instant, E)> {
        let ((at, _), (_, event)) = self.queue.pop_first()?;
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::base;

    const LANE: Lane = Lane {
        wire: 1,
        back: false,
    };

    fn network() -> Network<u32> {
        Network::new(
            [5; 32],
            Duration::from_millis(20),
            Duration::from_millis(50),
        )
    }

    #[test]
    fn a_lane_keeps_its_order_and_a_seed_its_run() {
        let (mut one, mut two) = (network(), network());
        let now = base().mono;
        for n in 0..100 {
            one.send(now, LANE, n);
            two.send(now, LANE, n);
        }
        for n in 0..100 {
            let (at, event) = one.take().unwrap();
            assert_eq!(event, n);
            assert!(at >= now + Duration::from_millis(20));
            assert_eq!(two.take().unwrap(), (at, n));
        }
    }

    #[test]
    fn a_cut_wire_loses_what_was_on_it_and_nothing_else() {
        let mut network = network();
        let now = base().mono;
        network.send(now, LANE, 1);
        network.send(
            now,
            Lane {
                wire: 2,
                back: true,
            },
            2,
        );
        network.cut(1);
        assert_eq!(network.take().map(|(_, event)| event), Some(2));
        assert_eq!(network.take(), None);
    }
}
