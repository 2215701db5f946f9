//! The cuts of the target: what each found that the way carries.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::time::Now;

/// The greatest cut is looked for in this time, among so many at most.
const RECENT: (Duration, usize) = (Duration::from_secs(30), 64);

/// A cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) at: Instant,
    /// What the way carried of pictures, in bits a second.
    pub(super) carried: f64,
}

/// The last ones.
#[derive(Debug, Default)]
pub(super) struct Cuts(VecDeque<Cut>);

impl Cuts {
    /// One more.
    pub(super) fn take(&mut self, now: Now, carried: f64) {
        let at = now.mono;
        self.0.push_back(Cut { at, carried });
        if self.0.len() > RECENT.1 {
            self.0.pop_front();
        }
    }

    /// The last, however long ago.
    pub(super) fn last(&self) -> Option<Cut> {
        self.0.back().copied()
    }

    /// The most that those of the last half minute found, in bits a second; 0: there was none.
    pub(super) fn most(&self, now: Now) -> f64 {
        let recent = |cut: &&Cut| now.mono.saturating_duration_since(cut.at) <= RECENT.0;
        let found = self.0.iter().filter(recent).map(|cut| cut.carried);
        found.fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::tests::base;

    #[test]
    fn the_most_is_of_half_a_minute_and_the_last_of_any_time() {
        let mut cuts = Cuts::default();
        let after = |secs| base().after(Duration::from_secs(secs));
        assert_eq!(cuts.most(after(0)), 0.0);
        cuts.take(after(0), 3.0);
        cuts.take(after(20), 2.0);
        assert_eq!(
            [29, 31, 51].map(|secs| cuts.most(after(secs))),
            [3.0, 2.0, 0.0]
        );
        assert_eq!(cuts.last().map(|cut| cut.carried), Some(2.0));
        for n in 0..1_000 {
            cuts.take(after(60), f64::from(n));
        }
        assert_eq!(cuts.0.len(), RECENT.1);
    }
}
