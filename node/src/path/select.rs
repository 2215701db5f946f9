//! The path in use of a session (`spec/setup.md`, section 6). Pure.
//!
//! ```text
//!   handshake            proven: direct, or the first,            silent for max(200 ms,
//!  ───────────▶ settled ◀──────── or measured better ──┐           round trip + 3 × jitter)
//!                  │                                   │         though a packet was due
//!                  └───────────────────────────────────┴──▶ in doubt: checks at once, packets
//!                                                           over another proven way as well
//! ```
//!
//! Only an answer to a check, signed with the password of the session, makes or moves a path
//! (`Proven`). What is heard, or not heard, only starts checks.

use std::time::{Duration, Instant};

use super::candidates::Way;

/// Silence that raises doubt, at least.
pub const SILENCE: Duration = Duration::from_millis(200);
/// An end may wait so long before it acknowledges (RFC 9000 section 18.2).
const ACK_DELAY: Duration = Duration::from_millis(25);
/// The least packet that the other end answers soon: longer than a bare acknowledgement.
const ASKS: usize = 64;
/// A way of the same kind is taken if it is faster by a quarter and this.
const FASTER: Duration = Duration::from_millis(10);
/// But only so long after the last move, and measured so often.
const CALM: Duration = Duration::from_secs(5);
const MEASURED: u32 = 3;
/// How long a proof counts (RFC 7675).
const FRESH: Duration = super::ice::FRESH;
/// Most ways that are remembered as proven.
const WAYS_MAX: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Known {
    way: Way,
    hops: u8,
    trip: Duration,
    jitter: Duration,
    times: u32,
    at: Instant,
}

/// What a session's packets go by.
#[derive(Debug)]
pub struct Select {
    in_use: Option<Way>,
    /// Relays on it.
    hops: u8,
    known: Vec<Known>,
    /// The controlling end uses this.
    nominated: Option<Way>,
    heard: Instant,
    /// The first packet after the last one heard that asks for one.
    asked: Option<Instant>,
    doubt: Option<Instant>,
    moved: Instant,
}

impl Select {
    /// A session on the way that its handshake took; `None`: on none yet.
    pub const fn new(now: Instant, way: Option<Way>) -> Self {
        Self {
            in_use: way,
            hops: 0,
            known: Vec::new(),
            nominated: None,
            heard: now,
            asked: None,
            doubt: None,
            moved: now,
        }
    }

    /// The way in use.
    pub const fn in_use(&self) -> Option<Way> {
        self.in_use
    }

    /// So many relays are on the way in use, as far as is known.
    pub const fn hops(&mut self, hops: u8) {
        self.hops = hops;
    }

    /// Whether it is in doubt.
    pub const fn is_doubtful(&self) -> bool {
        self.doubt.is_some()
    }

    /// The round trip and jitter of the way in use, once measured.
    pub fn measured(&self) -> Option<(Duration, Duration)> {
        let known = self.of(self.in_use?)?;
        Some((known.trip, known.jitter))
    }

    /// Silence on the way in use that raises doubt.
    pub fn patience(&self) -> Duration {
        self.measured()
            .map_or(SILENCE + ACK_DELAY, |(trip, jitter)| {
                SILENCE.max(trip + ACK_DELAY + jitter * 3)
            })
    }

    /// Where the session's packets go: one way, and in doubt one more. A way whose last proof is
    /// old gets checks alone.
    pub fn targets(&self, now: Instant) -> Vec<Way> {
        let Some(in_use) = self.in_use else {
            return Vec::new();
        };
        let may = |way: &Way| {
            let known = self.of(*way);
            known.is_none_or(|one| now.saturating_duration_since(one.at) < FRESH)
        };
        let other = self.doubt.and_then(|_| {
            let others = self.known.iter().filter(|one| one.way != in_use);
            // over a relay rather than by what may have died of the same cause
            others.max_by_key(|one| (one.hops.min(1), one.at))
        });
        std::iter::once(in_use)
            .chain(other.map(|one| one.way))
            .filter(may)
            .collect()
    }

    /// A packet of the session leaves.
    pub fn sent(&mut self, now: Instant, len: usize) {
        if len >= ASKS {
            self.asked.get_or_insert(now);
        }
    }

    /// The session knows that a packet is due now.
    pub fn due(&mut self, now: Instant) {
        self.asked.get_or_insert(now);
    }

    /// A packet of the session came. It proves nothing.
    pub fn heard(&mut self, now: Instant, way: Way) {
        if self.in_use == Some(way) {
            self.heard = now;
            self.asked = None;
        }
    }

    /// A check of ours was answered; `hops`: relays on this way. True: the path moved.
    pub fn proven(&mut self, now: Instant, way: Way, hops: u8, took: (Duration, Duration)) -> bool {
        let (trip, jitter) = took;
        match self.known.iter_mut().find(|one| one.way == way) {
            Some(known) => {
                (known.hops, known.trip, known.jitter, known.at) = (hops, trip, jitter, now);
                known.times += 1;
            }
            None => {
                if self.known.len() >= WAYS_MAX {
                    let in_use = self.in_use;
                    let others = self.known.iter().enumerate();
                    let oldest = others
                        .filter(|(_, one)| in_use != Some(one.way))
                        .min_by_key(|(_, one)| one.at)
                        .map(|(at, _)| at);
                    if let Some(at) = oldest {
                        self.known.swap_remove(at);
                    }
                }
                self.known.push(Known {
                    way,
                    hops,
                    trip,
                    jitter,
                    times: 1,
                    at: now,
                });
            }
        }
        if self.in_use == Some(way) {
            self.settle(now);
            return false;
        }
        // while it can, the controlled end goes where the controlling one goes
        let nominated = self.nominated.filter(|one| self.is_proven(now, *one));
        let wins = match (self.in_use, self.doubt, nominated) {
            (None, ..) => true,
            (_, Some(_), _) => {
                self.nominated = None;
                true
            }
            (_, None, Some(nominated)) => nominated == way,
            (_, None, None) => self.is_better(now, way),
        };
        wins && self.go(now, way)
    }

    /// The controlling end uses this way. True: the path moved.
    pub fn nominated(&mut self, now: Instant, way: Way) -> bool {
        self.nominated = Some(way);
        self.in_use != Some(way)
            && self.doubt.is_none()
            && self.is_proven(now, way)
            && self.go(now, way)
    }

    /// A way is no more. True: the path moved.
    pub fn gone(&mut self, now: Instant, is_gone: impl Fn(Way) -> bool) -> bool {
        self.known.retain(|one| !is_gone(one.way));
        if !self.in_use.is_some_and(&is_gone) {
            return false;
        }
        self.doubt.get_or_insert(now);
        let best = self
            .known
            .iter()
            .filter(|one| now.saturating_duration_since(one.at) < FRESH)
            .min_by_key(|one| (one.hops, one.trip))
            .map(|one| one.way);
        match best {
            Some(way) => {
                self.go(now, way);
                // it was proven before the loss, not after
                self.doubt = Some(now);
                true
            }
            None => {
                self.in_use = None;
                false
            }
        }
    }

    /// Our addresses changed, or a check came from where nobody was known to be: what was proven
    /// may be over.
    pub fn doubt(&mut self, now: Instant) {
        if self.in_use.is_some() {
            self.doubt.get_or_insert(now);
        }
    }

    /// Time passed; `unanswered`: since when a check of the way in use waits. True: from now on
    /// it is in doubt.
    pub fn tick(&mut self, now: Instant, unanswered: Option<Instant>) -> bool {
        if self.doubt.is_some() || self.in_use.is_none() {
            return false;
        }
        let patience = self.patience();
        let silent = self.asked.map(|asked| asked.max(self.heard));
        let over = |since: Instant| now.saturating_duration_since(since) >= patience;
        if silent.is_some_and(over) || unanswered.is_some_and(over) {
            self.doubt = Some(now);
            return true;
        }
        false
    }

    /// When silence would raise doubt.
    pub fn deadline(&self, unanswered: Option<Instant>) -> Option<Instant> {
        if self.doubt.is_some() || self.in_use.is_none() {
            return None;
        }
        let silent = self.asked.map(|asked| asked.max(self.heard));
        let since = silent.into_iter().chain(unanswered).min()?;
        Some(since + self.patience())
    }

    fn of(&self, way: Way) -> Option<&Known> {
        self.known.iter().find(|one| one.way == way)
    }

    fn is_proven(&self, now: Instant, way: Way) -> bool {
        self.of(way)
            .is_some_and(|one| now.saturating_duration_since(one.at) < FRESH)
    }

    fn is_better(&self, now: Instant, way: Way) -> bool {
        let (Some(new), Some(in_use)) = (self.of(way), self.in_use) else {
            return false;
        };
        if new.hops != self.hops {
            return new.hops < self.hops;
        }
        // only the handshake went there: the first stays until it is measured
        let Some(old) = self.of(in_use) else {
            return false;
        };
        let calm = now.saturating_duration_since(self.moved) >= CALM;
        let measured = new.times >= MEASURED && old.times >= MEASURED;
        calm && measured && new.trip + new.trip / 4 + FASTER < old.trip
    }

    fn settle(&mut self, now: Instant) {
        self.doubt = None;
        self.heard = now;
        self.asked = None;
    }

    fn go(&mut self, now: Instant, way: Way) -> bool {
        self.hops = self.of(way).map_or(self.hops, |known| known.hops);
        self.in_use = Some(way);
        self.moved = now;
        self.settle(now);
        true
    }
}
