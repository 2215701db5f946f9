//! How an end's own network is, by its link to the relay (`spec/media.md`, section 11): the
//! link shares nothing with the media but the first mile. A link that answers late, or not
//! at all, is told from one that answers as fast as it did at its best.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::quality::Network;

/// An answer that is so much later than the fastest one is late: a queue at home or in the
/// cell adds this and more; the jitter of a healthy wireless link stays under it.
pub const LATE: Duration = Duration::from_millis(100);
/// A question that is open for so much longer than the fastest answer took is missed. A single
/// lost packet is repaired sooner than that.
pub const MISSED: Duration = Duration::from_secs(2);
/// How long a bad network stays bad after its last sign: longer than the pause between two
/// heartbeats, so that the word is not taken back before the next answer could confirm it.
pub const HOLD: Duration = Duration::from_secs(12);
/// Of so many last answers ...
const LAST: usize = 8;
/// ... so many late ones are a sign. One alone may be a lost packet that was repaired.
const SIGNS: usize = 2;
/// Most open questions.
const OPEN_MAX: usize = 8;
/// Answers that tell the round trip's jitter.
const TRIPS: usize = 8;

/// Heartbeats of a link, and what they tell.
#[derive(Debug, Default)]
pub struct Link {
    stands: bool,
    open: VecDeque<(u64, Instant)>,
    trips: VecDeque<Duration>,
    best: Option<Duration>,
    /// The newest sign of a bad network.
    sign: Option<Instant>,
    missed: u64,
    /// The number of the last question that was counted as missed.
    counted: Option<u64>,
}

impl Link {
    /// The link stands. What an earlier one took says nothing of this one.
    pub fn stood(&mut self) {
        *self = Self {
            stands: true,
            missed: self.missed,
            ..Self::default()
        };
    }

    /// The link fell. Whether the network or the relay is to blame nobody knows, unless
    /// questions were open for too long before.
    pub fn fell(&mut self, now: Instant) {
        self.look(now);
        self.stands = false;
        self.open.clear();
        let recent = |sign: &Instant| now.saturating_duration_since(*sign) < HOLD;
        self.sign = self.sign.filter(recent);
    }

    /// A heartbeat of this number leaves.
    pub fn asked(&mut self, now: Instant, number: u64) {
        self.look(now);
        self.open.push_back((number, now));
        if self.open.len() > OPEN_MAX {
            self.open.pop_front();
        }
    }

    /// It was answered: its round trip. `None` for a number that is not open.
    pub fn answered(&mut self, now: Instant, number: u64) -> Option<Duration> {
        self.look(now);
        let at = self.open.iter().position(|(open, _)| *open == number)?;
        let (_, sent) = self.open.remove(at)?;
        let trip = now.saturating_duration_since(sent);
        self.best = Some(self.best.map_or(trip, |best| best.min(trip)));
        self.trips.push_back(trip);
        if self.trips.len() > TRIPS {
            self.trips.pop_front();
        }
        let late = |trip: &&Duration| self.best.is_some_and(|best| **trip > best + LATE);
        let last = self.trips.iter().rev().take(LAST);
        if self.late() && last.filter(late).count() >= SIGNS {
            self.sign = Some(now);
        }
        Some(trip)
    }

    /// Whether the newest answer was late.
    fn late(&self) -> bool {
        let newest = self.trips.back().zip(self.best);
        newest.is_some_and(|(trip, best)| *trip > best + LATE)
    }

    /// Looks for questions that are open for too long.
    fn look(&mut self, now: Instant) {
        let bound = self.best.unwrap_or_default() + MISSED;
        let over = |(_, sent): &&(u64, Instant)| now.saturating_duration_since(*sent) >= bound;
        for (number, _) in self.open.iter().filter(over) {
            self.sign = Some(now);
            if self.counted.is_none_or(|counted| *number > counted) {
                self.counted = Some(*number);
                self.missed += 1;
            }
        }
    }

    /// How this end's own network is.
    pub fn network(&mut self, now: Instant) -> Network {
        self.look(now);
        let recent = |sign: Instant| now.saturating_duration_since(sign) < HOLD;
        match (self.stands, self.sign) {
            // it fell after it had not answered, and nothing has shown otherwise since
            (false, Some(_)) => Network::Bad,
            (false, None) => Network::Unknown,
            (true, Some(sign)) if recent(sign) => Network::Bad,
            (true, _) if self.best.is_none() => Network::Unknown,
            (true, _) => Network::Good,
        }
    }

    /// Round trip of the newest answer.
    pub fn trip(&self) -> Option<Duration> {
        self.trips.back().copied()
    }

    /// Mean difference of neighbouring round trips of the last answers.
    pub fn jitter(&self) -> Option<Duration> {
        let pairs = self.trips.iter().zip(self.trips.iter().skip(1));
        let differences: Vec<Duration> = pairs.map(|(one, next)| one.abs_diff(*next)).collect();
        let count = u32::try_from(differences.len()).ok()?;
        (differences.iter().sum::<Duration>()).checked_div(count)
    }

    /// Heartbeats that were not answered in time, since the start.
    pub const fn missed(&self) -> u64 {
        self.missed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::tests::base;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// A link that stood at `start` and was asked once a second; `trips` in ms.
    fn asked(start: Instant, trips: &[u64]) -> (Link, Instant) {
        let mut link = Link::default();
        link.stood();
        let mut now = start;
        for (number, trip) in (0..).zip(trips) {
            now = start + Duration::from_secs(number);
            link.asked(now, number);
            now += MS(*trip);
            assert_eq!(link.answered(now, number), Some(MS(*trip)));
        }
        (link, now)
    }

    // covers: SUORA-MED-053
    #[test]
    fn a_link_that_answers_late_twice_tells_of_a_bad_network_and_one_late_answer_of_nothing() {
        let start = base().mono;
        let (mut link, now) = asked(start, &[40, 45, 190, 42]);
        assert_eq!(link.network(now), Network::Good);
        let (mut link, now) = asked(start, &[40, 45, 190, 42, 170]);
        assert_eq!(link.network(now), Network::Bad);
        assert_eq!(link.network(now + HOLD - MS(1)), Network::Bad);
        assert_eq!(link.network(now + HOLD), Network::Good);
    }

    // covers: SUORA-MED-053
    #[test]
    fn a_heartbeat_that_is_not_answered_tells_of_a_bad_network_and_is_counted_once() {
        let (mut link, now) = asked(base().mono, &[40, 40]);
        link.asked(now, 7);
        assert_eq!(link.network(now + MS(2_039)), Network::Good);
        assert_eq!(link.network(now + MS(2_040)), Network::Bad);
        assert_eq!(link.network(now + MS(3_000)), Network::Bad);
        assert_eq!(link.missed(), 1);
        // what comes at last is an answer all the same
        assert_eq!(link.answered(now + MS(3_500), 7), Some(MS(3_500)));
        assert_eq!(link.answered(now + MS(3_600), 7), None);
    }

    #[test]
    fn a_link_that_fell_tells_of_a_bad_network_only_where_it_had_not_answered() {
        let (mut link, now) = asked(base().mono, &[40, 40]);
        link.fell(now);
        assert_eq!(link.network(now), Network::Unknown);
        let (mut link, now) = asked(now, &[40, 40]);
        link.asked(now, 7);
        link.fell(now + Duration::from_secs(20));
        assert_eq!(
            link.network(now + Duration::from_secs(60)),
            Network::Bad,
            "nothing has shown otherwise"
        );
        link.stood();
        assert_eq!(
            link.network(now + Duration::from_secs(61)),
            Network::Unknown
        );
        assert_eq!(link.missed(), 1, "the count goes on");
    }

    #[test]
    fn jitter_is_the_mean_difference_of_neighbours() {
        let (link, _) = asked(base().mono, &[40, 50, 30]);
        assert_eq!(link.jitter(), Some(MS(15)));
        assert_eq!(link.trip(), Some(MS(30)));
        assert_eq!(asked(base().mono, &[40]).0.jitter(), None);
    }

    proptest! {
        // covers: SUORA-MED-053
        #[test]
        fn answers_within_the_bound_never_tell_of_a_bad_network(
            best in 1..500u64,
            more in proptest::collection::vec(0..=100u64, 1..40),
        ) {
            let trips: Vec<u64> = more.iter().map(|more| best + more).collect();
            let (mut link, now) = asked(base().mono, &trips);
            prop_assert_eq!(link.network(now), Network::Good);
        }

        #[test]
        fn it_stays_bounded_whatever_is_asked(count in 0..200u64) {
            let start = base().mono;
            let mut link = Link::default();
            link.stood();
            for number in 0..count {
                link.asked(start + MS(number * 100), number);
            }
            prop_assert!(link.open.len() <= OPEN_MAX && link.missed() <= count);
        }
    }
}
