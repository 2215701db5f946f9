//! How long sound has to wait for what comes later: from arrival times to a target. As
//! NetEq's delay manager does, delays count over a moving least value (so that neither
//! clock matters), a histogram that forgets gives a quantile of them, and bursts that
//! come again raise it while they do.

use std::collections::VecDeque;

/// The least and the most that the target may be, in microseconds.
pub(super) const TARGET: (i64, i64) = (40_000, 240_000);
/// The target before much is known.
const FIRST: usize = 4;
/// Width of a class of the histogram, in microseconds, and how many there are.
const CLASS: i64 = 10_000;
const CLASSES: usize = 50;
/// What a packet leaves of the weight of those before it; less at first, as in NetEq, so that
/// the unrest of a beginning is soon forgotten.
const KEEP: f64 = 0.99;
const KEEP_FIRST: f64 = 2.0;
/// This share of packets is to come within the target.
const SHARE: f64 = 0.97;
/// What the reader's own clock may be late by.
const MARGIN: i64 = 10_000;
/// The base is the least delay of so many microseconds.
const BASE: i64 = 4_000_000;
/// After such a time without packets, or with a delay so far over the base, all begins anew:
/// the way was dark, or a clock was set.
const ANEW: i64 = 1_000_000;
/// A delay so far over the quantile is a burst; one over the second value no buffer serves.
const BURST: (i64, i64) = (30_000, 300_000);
/// Bursts count for so long, and belong together within so long.
const BURSTS: (i64, i64) = (10_000_000, 500_000);

/// What arrival times ask for. Times are in microseconds, arrivals by the reader's clock,
/// captures by the sender's.
#[derive(Debug)]
pub(super) struct Delay {
    /// Delays that may become the least: when, and how long.
    least: VecDeque<(i64, i64)>,
    last: Option<i64>,
    weights: [f64; CLASSES],
    count: u32,
    quantile: i64,
    /// When a burst was, and its longest delay over the base.
    bursts: VecDeque<(i64, i64)>,
}

impl Default for Delay {
    fn default() -> Self {
        let mut weights = [0.0; CLASSES];
        if let Some(first) = weights.get_mut(FIRST) {
            *first = 1.0;
        }
        Self {
            least: VecDeque::new(),
            last: None,
            weights,
            count: 0,
            quantile: (FIRST as i64 + 1) * CLASS,
            bursts: VecDeque::new(),
        }
    }
}

impl Delay {
    /// A packet came.
    pub(super) fn arrived(&mut self, at: i64, captured: i64) {
        let delay = at.saturating_sub(captured);
        let base = self.base();
        let dark = self.last.is_some_and(|last| at.saturating_sub(last) > ANEW);
        if dark || base.is_some_and(|base| delay.saturating_sub(base) > ANEW) {
            self.least.clear();
        }
        self.last = Some(at);
        while self.least.len() > 1
            && self
                .least
                .front()
                .is_some_and(|(then, _)| at.saturating_sub(*then) > BASE)
        {
            self.least.pop_front();
        }
        while self.least.back().is_some_and(|(_, later)| *later >= delay) {
            self.least.pop_back();
        }
        self.least.push_back((at, delay));
        self.count(at, captured);
    }

    /// Sound of this capture time can be played from now on: its packet came, or one that
    /// brings it too.
    pub(super) fn count(&mut self, at: i64, captured: i64) {
        let Some(base) = self.base() else { return };
        let over = at.saturating_sub(captured).saturating_sub(base).max(0);
        let class = usize::try_from(over / CLASS).unwrap_or(CLASSES);
        self.count = self.count.saturating_add(1);
        let keep = KEEP.min(1.0 - KEEP_FIRST / f64::from(self.count.saturating_add(3)));
        for weight in &mut self.weights {
            *weight *= keep;
        }
        if let Some(weight) = self.weights.get_mut(class.min(CLASSES - 1)) {
            *weight += 1.0 - keep;
        }
        let mut sum = 0.0;
        let within = self.weights.iter().take_while(|weight| {
            sum += **weight;
            sum < SHARE
        });
        let classes = i64::try_from(within.count()).unwrap_or(0) + 1;
        self.quantile = classes * CLASS;
        self.burst(at, over);
    }

    fn burst(&mut self, at: i64, over: i64) {
        while self
            .bursts
            .front()
            .is_some_and(|(then, _)| at.saturating_sub(*then) > BURSTS.0)
        {
            self.bursts.pop_front();
        }
        if over < self.quantile.max(TARGET.0) + BURST.0 || over > BURST.1 {
            return;
        }
        match self.bursts.back_mut() {
            Some((then, most)) if at.saturating_sub(*then) < BURSTS.1 => *most = over.max(*most),
            _ => self.bursts.push_back((at, over)),
        }
    }

    /// Arrival − capture of the fastest packet of the last seconds.
    pub(super) fn base(&self) -> Option<i64> {
        self.least.front().map(|(_, delay)| *delay)
    }

    /// How long a packet that came fastest is to wait before it is decoded.
    pub(super) fn target(&self) -> i64 {
        let bursts = if self.bursts.len() > 1 {
            self.bursts.iter().map(|(_, most)| *most).max().unwrap_or(0)
        } else {
            0
        };
        (self.quantile.max(bursts) + MARGIN).clamp(TARGET.0, TARGET.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets every 20 ms from `from` on with these delays in ms; the target after.
    fn feed(delay: &mut Delay, from: i64, delays: impl IntoIterator<Item = i64>) -> i64 {
        for (n, ms) in (from..).zip(delays) {
            delay.arrived(n * 20_000 + ms * 1_000, n * 20_000);
        }
        delay.target() / 1_000
    }

    #[test]
    fn a_steady_way_asks_for_the_least() {
        let mut delay = Delay::default();
        assert_eq!(feed(&mut delay, 0, [30; 3]), 60);
        assert_eq!(feed(&mut delay, 3, [30; 60]), 40);
        assert_eq!(delay.base(), Some(30_000));
    }

    #[test]
    fn the_target_grows_within_a_second_and_shrinks_within_seconds() {
        let mut delay = Delay::default();
        feed(&mut delay, 0, [30; 500]);
        let unrest = (0..50).map(|n| 30 + (n * 37 % 11) * 10);
        assert!((80..=120).contains(&feed(&mut delay, 500, unrest)));
        assert_eq!(feed(&mut delay, 550, [30; 300]), 40);
    }

    #[test]
    fn bursts_that_come_again_raise_it_and_one_alone_does_not() {
        let burst = |n: i64| if n % 150 < 4 { 150 } else { 30 };
        let mut delay = Delay::default();
        assert_eq!(feed(&mut delay, 0, (0..140).map(|_| 30)), 40);
        feed(&mut delay, 150, (0..150).map(burst));
        assert_eq!(delay.target(), 40_000);
        feed(&mut delay, 300, (0..100).map(burst));
        assert_eq!(delay.target(), 130_000);
        // ten seconds later nothing of it is left
        assert_eq!(feed(&mut delay, 400, [30; 520]), 40);
    }

    #[test]
    fn a_longer_way_is_the_base_after_some_seconds_and_a_set_clock_at_once() {
        let mut delay = Delay::default();
        feed(&mut delay, 0, [30; 100]);
        feed(&mut delay, 100, [70; 210]);
        assert_eq!(delay.base(), Some(70_000));
        feed(&mut delay, 310, [-5_000; 1]);
        assert_eq!(delay.base(), Some(-5_000_000));
        feed(&mut delay, 311, [9_000; 1]);
        assert_eq!(delay.base(), Some(9_000_000));
    }
}
