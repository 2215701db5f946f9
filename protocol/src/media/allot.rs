//! What a way that does not carry everything is spent on (`spec/media.md`, section 9): text before
//! sound before picture. Where even the least picture keeps a queue standing, the picture rests; where
//! sound alone does, sound becomes thinner.

use std::time::{Duration, Instant};

use crate::time::Now;

/// A queue longer than this is one.
const QUEUE: Duration = Duration::from_millis(60);
/// The picture rests once the least of it kept a queue for so long.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// The first rest; each that follows soon is twice as long...
const REST: Duration = Duration::from_secs(5);
/// ...up to this.
const REST_MAX: Duration = Duration::from_secs(40);
/// A picture that stayed so long shows that the way has changed.
const STAYED: Duration = Duration::from_secs(30);
/// Without a report for so long, a rest ends by time alone.
const UNHEARD: Duration = Duration::from_secs(1);
/// Bits of sound a second.
pub const SOUND: u32 = 32_000;
/// Bits of sound a second where sound alone is too much.
pub const SOUND_THIN: u32 = 16_000;

/// Who gets something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Whether a picture may leave.
    pub picture: bool,
    /// Bits of sound a second.
    pub sound: u32,
}

/// Divides what the way carries.
#[derive(Debug)]
pub struct Allot {
    /// When the last report came.
    last: Option<Instant>,
    /// For how long there was a queue though the least is sent; half of the time without one is
    /// taken off.
    narrow: Duration,
    /// The picture rests until then.
    until: Option<Instant>,
    rest: Duration,
    /// When the picture came back.
    back: Option<Instant>,
    thin: bool,
}

impl Default for Allot {
    fn default() -> Self {
        Self {
            last: None,
            narrow: Duration::ZERO,
            until: None,
            rest: REST,
            back: None,
            thin: false,
        }
    }
}

impl Allot {
    /// Who gets something now.
    pub const fn share(&self) -> Share {
        Share {
            picture: self.until.is_none(),
            sound: if self.thin { SOUND_THIN } else { SOUND },
        }
    }

    /// Takes a report: whether the picture's target is its least, and the queue, before it was
    /// given time to drain.
    pub fn report(&mut self, now: Now, least: bool, queue: Duration) {
        let queues = queue > QUEUE;
        let passed = self
            .last
            .replace(now.mono)
            .map_or(Duration::ZERO, |last| {
                now.mono.saturating_duration_since(last)
            })
            .min(PATIENCE);
        if queues && (least || self.until.is_some()) {
            self.narrow += passed;
        } else {
            self.narrow = self.narrow.saturating_sub(passed / 2);
        }
        let long = self.narrow >= PATIENCE;
        match self.until {
            None => {
                let stayed = self
                    .back
                    .is_none_or(|back| now.mono.saturating_duration_since(back) >= STAYED);
                if stayed {
                    self.rest = REST;
                }
                if long {
                    self.until = Some(now.mono + self.rest);
                    self.rest = (self.rest * 2).min(REST_MAX);
                    self.narrow = Duration::ZERO;
                }
            }
            Some(_) if long => {
                self.thin = true;
                self.narrow = Duration::ZERO;
            }
            Some(until) if now.mono >= until && !queues => self.end(now),
            Some(_) => {}
        }
    }

    /// Time passed, and perhaps no report came: where no sound flows none does while the picture
    /// rests.
    pub fn unheard(&mut self, now: Now) {
        let since = |at: Instant| now.mono.saturating_duration_since(at);
        let unheard = self.last.is_none_or(|last| since(last) >= UNHEARD);
        if unheard && self.until.is_some_and(|until| now.mono >= until) {
            self.end(now);
        }
    }

    /// The picture comes back.
    const fn end(&mut self, now: Now) {
        self.until = None;
        self.thin = false;
        self.back = Some(now.mono);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::tests::base;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// The shares of each second, where `queue` tells the queue of a share.
    fn run(secs: u32, queue: impl Fn(Share) -> Duration) -> Vec<Share> {
        let (start, mut allot) = (base(), Allot::default());
        let mut shares = Vec::new();
        for beat in 0..secs * 10 {
            let share = allot.share();
            allot.report(start.after(MS(100) * beat), true, queue(share));
            if beat % 10 == 9 {
                shares.push(allot.share());
            }
        }
        shares
    }

    // covers: SUORA-MED-026
    #[test]
    fn the_picture_rests_where_it_keeps_a_queue_and_asks_less_and_less_often() {
        let shares = run(200, |share| MS(if share.picture { 200 } else { 0 }));
        let seen = shares.iter().filter(|share| share.picture).count();
        assert!((5..30).contains(&seen), "{seen}");
        assert!(shares.iter().all(|share| share.sound == SOUND));
    }

    #[test]
    fn sound_becomes_thin_where_it_keeps_a_queue_alone() {
        let shares = run(60, |share| MS(if share.sound > 20_000 { 200 } else { 0 }));
        assert!(
            shares
                .iter()
                .any(|share| !share.picture && share.sound == SOUND_THIN)
        );
    }

    #[test]
    fn a_way_that_carries_all_is_left_alone() {
        let all = Allot::default().share();
        assert!(run(60, |_| MS(20)).iter().all(|share| *share == all));
    }

    #[test]
    fn a_queue_above_the_least_target_is_not_ours_to_solve() {
        let (start, mut allot) = (base(), Allot::default());
        for beat in 0..100 {
            allot.report(start.after(MS(100) * beat), false, MS(200));
        }
        assert!(allot.share().picture);
    }
}
