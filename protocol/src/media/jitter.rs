//! How long sound waits, and what is played instead of what does not come (`spec/media.md`,
//! section 8). Packets come when they come; a player asks for 20 ms whenever it has less
//! than that ([`Jitter::pull`]), and is told what to decode and whether to stretch time.
//! As NetEq (WebRTC's jitter buffer) does, it holds as much as arrivals of the last
//! seconds ask for; it gets there by playing slower and faster, not by dropping packets,
//! and the same follows the drift of two clocks for ever. It decides on capture times
//! and on the time since arrival of the fastest, not on the number of packets held: a
//! pause without packets is no empty buffer.

mod delay;
mod ledger;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use self::delay::Delay;
pub use self::ledger::Ledger;
use super::opus::{has_fec, is_pause, samples};
use super::receiver::AudioPacket;
use crate::time::{Now, Timestamp};

/// What is played at a time, and what a sender's packet holds.
pub const FRAME: Duration = Duration::from_millis(20);
/// The same in microseconds.
const STEP: i64 = 20_000;
/// Most packets held.
const HELD_MAX: usize = 50;
/// How far the wait may lie under the target, and sound's delay over it, before time is stretched.
const EVEN: (i64, i64) = (5_000, 30_000);
/// So much over the target is caught up with even where it can be heard.
const HURRY: i64 = 120_000;
/// So much over the target is let go rather than played faster.
const SKIP: i64 = 400_000;
/// So many times 20 ms are made up where nothing comes at all.
const DRY_MAX: u32 = 5;
/// A pause whose refreshing packets do not come for so long is no pause.
const PAUSE_MAX: i64 = 1_300_000;
/// An encoder marks a pause after so much silence.
const SILENT: i64 = 200_000;
/// Numbers may go back after such a silence.
const ANEW: Duration = Duration::from_secs(1);
/// A capture time that is off by less follows the one before.
const NEAR: i64 = 10_000;

/// Whether time is to be stretched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Played as it was spoken.
    Even,
    /// There is more than is needed: play faster where it cannot be heard.
    Faster,
    /// There is far more: play faster even where it can be heard.
    Hurry,
    /// There is less than is needed: play slower where it cannot be heard.
    Slower,
}

/// What the player does for the next 20 ms (of a packet: for as long as it lasts).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Decode this packet.
    Play {
        /// When it was captured, by the sender's clock.
        captured: Timestamp,
        /// The Opus packet.
        data: Bytes,
        /// Whether to stretch it.
        pace: Pace,
        /// Sound between the last packet and this one was let go.
        torn: bool,
    },
    /// The packet is missing; rebuild it from the redundancy of this one, which follows it.
    Rebuild {
        /// When the missing one was captured, by the sender's clock.
        captured: Timestamp,
        /// The packet after it.
        data: Bytes,
    },
    /// The packet is missing: make something up that continues what was heard.
    Conceal {
        /// When the missing one was captured, by the sender's clock.
        captured: Timestamp,
    },
    /// Nobody speaks: comfort noise.
    Quiet {
        /// The time of the pause by the sender's clock; `None` where nothing comes at all.
        captured: Option<Timestamp>,
    },
    /// Nothing came yet.
    Nothing,
}

/// What a sequence number says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Number {
    /// It came before, or is too old to tell.
    Copy,
    /// It came now.
    New,
    /// The sender counts anew.
    Anew,
}

/// The buffer of one sound track.
#[derive(Debug, Default)]
pub struct Jitter {
    held: BTreeMap<i64, AudioPacket>,
    delay: Delay,
    /// Sequence number that is played next.
    next: Option<i64>,
    /// Capture time of what is played next, in microseconds.
    media: i64,
    /// The newest sequence number that came, and which of the 64 up to it did.
    newest: Option<(i64, u64)>,
    /// The sender said that it pauses, and when the last packet was taken in microseconds.
    pause: Option<i64>,
    /// The same of the one packet after a pause: it may only refresh it.
    refresh: Option<i64>,
    /// Times 20 ms were made up while nothing at all was held.
    dry: u32,
    /// How long nothing has come, after that.
    away: Duration,
    torn: bool,
    ledger: Ledger,
}

impl Jitter {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a packet. A copy, or one whose time is over, is dropped.
    pub fn push(&mut self, now: Now, packet: AudioPacket) {
        let sequence = packet.sequence;
        match self.note(sequence) {
            Number::Copy => return,
            Number::New => {}
            Number::Anew => {
                self.held.clear();
                self.next = Some(sequence);
            }
        }
        let (at, captured) = (now.utc.as_micros(), packet.captured.as_micros());
        self.delay.arrived(at, captured);
        let first_after_gap = !self.was_seen(sequence.saturating_sub(1));
        if first_after_gap && self.next.is_some() && has_fec(&packet.data) {
            // the one before can be played from now on as well
            self.delay.count(at, captured.saturating_sub(STEP));
        }
        if self.next.is_some_and(|next| sequence < next) {
            return;
        }
        self.held.insert(sequence, packet);
        while self.held.len() > HELD_MAX {
            self.skip();
        }
    }

    /// Notes a number.
    fn note(&mut self, sequence: i64) -> Number {
        let Some((newest, mask)) = self.newest else {
            self.newest = Some((sequence, 1));
            return Number::New;
        };
        let ahead = sequence.saturating_sub(newest);
        if ahead > 0 {
            let shift = u32::try_from(ahead).unwrap_or(u32::MAX);
            self.newest = Some((sequence, mask.checked_shl(shift).unwrap_or(0) | 1));
            return Number::New;
        }
        let bit = u32::try_from(ahead.unsigned_abs())
            .ok()
            .and_then(|back| 1_u64.checked_shl(back));
        match bit {
            Some(bit) if mask & bit == 0 => {
                self.newest = Some((newest, mask | bit));
                Number::New
            }
            // so far back, and after a long silence: the sender counts anew
            None if self.away >= ANEW => {
                self.newest = Some((sequence, 1));
                Number::Anew
            }
            _ => Number::Copy,
        }
    }

    fn was_seen(&self, sequence: i64) -> bool {
        self.newest.is_none_or(|(newest, mask)| {
            u32::try_from(newest.saturating_sub(sequence))
                .ok()
                .and_then(|back| 1_u64.checked_shl(back))
                .is_some_and(|bit| mask & bit != 0)
        })
    }

    /// How long the buffer aims to let sound wait.
    pub fn target(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.delay.target()).unwrap_or(0))
    }

    /// What became of the time so far.
    pub const fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// Whether the packet that is due next is there.
    pub fn ready(&self) -> bool {
        let first = self.held.first_key_value().map(|(first, _)| *first);
        first.is_some() && first == self.next
    }

    /// The player changed the length of what was to be stretched: by so many microseconds,
    /// less than zero where it became shorter.
    pub fn stretched(&mut self, micros: i64) {
        let time = Duration::from_micros(micros.unsigned_abs());
        if micros < 0 {
            self.ledger.faster += time;
        } else {
            self.ledger.slower += time;
        }
    }

    /// The next piece of sound. The player has `left` to play before it, less than 20 ms
    /// unless it needs more to play faster.
    pub fn pull(&mut self, now: Now, left: Duration) -> Step {
        let now = now.utc.as_micros();
        let left = i64::try_from(left.as_micros()).unwrap_or(0);
        if self.next.is_some() {
            self.let_go(now, left);
        }
        let Some((&first, packet)) = self.held.first_key_value() else {
            return self.nothing_held(now);
        };
        let captured = packet.captured.as_micros();
        let waited = self.waited(now, captured);
        let due = waited >= self.delay.target() - NEAR;
        let Some(next) = self.next else {
            return if waited >= self.delay.target() - EVEN.0 {
                self.play(now, left, first)
            } else {
                Step::Nothing
            };
        };
        let gap = captured.saturating_sub(self.media);
        if first == next || self.away > Duration::ZERO {
            let lost = first.saturating_sub(next);
            self.settle(lost, gap);
            if lost > 0 || due || gap < NEAR {
                return self.play(now, left, first);
            }
            // a gap of time where no number is missing is a pause: its rest is waited out
            let rest = self.delay.target() - waited;
            self.media = self.media.max(captured.saturating_sub(rest));
            return self.quiet(Some(self.media));
        }
        self.missing(now, left, first)
    }

    /// The next packet is missing, and `first` is there.
    fn missing(&mut self, now: i64, left: i64, first: i64) -> Step {
        let Some((captured, data)) = self
            .held
            .get(&first)
            .map(|packet| (packet.captured.as_micros(), packet.data.clone()))
        else {
            return Step::Nothing;
        };
        let silent = is_pause(&data) && captured.saturating_sub(self.media) <= SILENT;
        if silent {
            self.ledger.was_pause(FRAME * std::mem::take(&mut self.dry));
        }
        // what was made up before anything came was for these
        while self.dry > 0
            && self.next.is_some_and(|next| next < first)
            && captured.saturating_sub(self.media) > STEP + NEAR
        {
            self.dry -= 1;
            self.pass(first);
        }
        let gap = captured.saturating_sub(self.media);
        if gap < NEAR {
            return self.play(now, left, first);
        }
        if gap > STEP + NEAR {
            if self.pause.is_some()
                || silent
                || self.waited(now, captured) >= self.delay.target() + STEP
            {
                // a pause, or a jump of the sender's clock
                return if self.waited(now, captured) >= self.delay.target() - NEAR {
                    self.play(now, left, first)
                } else {
                    self.quiet(Some(self.media))
                };
            }
            let media = self.media;
            self.pass(first);
            self.ledger.concealed += FRAME;
            return Step::Conceal {
                captured: Timestamp::from_micros(media),
            };
        }
        self.next = Some(first);
        let missing = Timestamp::from_micros(self.media);
        self.media = captured;
        if has_fec(&data) {
            self.ledger.rebuilt += FRAME;
            Step::Rebuild {
                captured: missing,
                data,
            }
        } else if self.dry > 0 {
            self.play(now, left, first)
        } else if self.pause.is_some() || silent {
            // a mark of the pause, most likely, or the silence before it
            self.media = self.media.saturating_sub(STEP);
            self.quiet(Some(missing.as_micros()))
        } else {
            self.ledger.concealed += FRAME;
            Step::Conceal { captured: missing }
        }
    }

    /// One number that will not come is passed over, but not `first`.
    fn pass(&mut self, first: i64) {
        self.next = self.next.map(|next| (next + 1).min(first));
        self.media = self.media.saturating_add(STEP);
    }

    /// How long a packet of this capture time would have waited if it had come fastest.
    fn waited(&self, now: i64, captured: i64) -> i64 {
        const LONG: i64 = i64::MAX / 4;
        let base = self.delay.base().unwrap_or(0);
        let waited = now.saturating_sub(captured).saturating_sub(base);
        waited.clamp(-LONG, LONG)
    }

    /// Nothing is there to be played.
    fn nothing_held(&mut self, now: i64) -> Step {
        if self.next.is_none() {
            return Step::Nothing;
        }
        match self.pause.or(self.refresh) {
            Some(since) if now.saturating_sub(since) < PAUSE_MAX => {
                self.pause = Some(since);
                self.quiet(Some(self.media))
            }
            None if self.dry < DRY_MAX => {
                // it may only be late: no number is passed over
                self.dry += 1;
                self.ledger.concealed += FRAME;
                Step::Conceal {
                    captured: Timestamp::from_micros(self.media),
                }
            }
            _ => {
                self.away += FRAME;
                self.quiet(None)
            }
        }
    }

    /// Something came after a time in which nothing was there: what was that?
    fn settle(&mut self, lost: i64, gap: i64) {
        let dry = FRAME * self.dry;
        if lost > 0 || gap < NEAR {
            let lost = u32::try_from(lost).unwrap_or(u32::MAX);
            let lost = if lost == 0 {
                self.away
            } else {
                FRAME.saturating_mul(lost).saturating_sub(dry)
            };
            self.ledger.was_lost(lost.min(self.away));
        } else {
            self.ledger.was_pause(dry);
        }
        (self.dry, self.away) = (0, Duration::ZERO);
    }

    fn quiet(&mut self, media: Option<i64>) -> Step {
        self.ledger.quiet += FRAME;
        if media.is_some() {
            self.media = self.media.saturating_add(STEP);
        }
        Step::Quiet {
            captured: media.map(Timestamp::from_micros),
        }
    }

    fn play(&mut self, now: i64, left: i64, sequence: i64) -> Step {
        let Some(packet) = self.held.remove(&sequence) else {
            return Step::Nothing;
        };
        let captured = packet.captured.as_micros();
        let lasts = i64::from(samples(&packet.data).unwrap_or(960)) * 1_000 / 48;
        self.next = Some(sequence.saturating_add(1));
        self.media = captured.saturating_add(lasts);
        self.dry = 0;
        let torn = std::mem::take(&mut self.torn);
        if is_pause(&packet.data) {
            (self.pause, self.refresh) = (Some(now), None);
            self.media = captured;
            return self.quiet(Some(captured));
        }
        self.refresh = self.pause.take().map(|_| now);
        self.ledger.played += Duration::from_micros(u64::try_from(lasts).unwrap_or(0));
        let waited = self.waited(now, captured);
        let target = self.delay.target();
        let pace = if waited < target - EVEN.0 {
            Pace::Slower
        } else if waited.saturating_add(left) > target + HURRY {
            Pace::Hurry
        } else if waited + left > target + EVEN.1 {
            Pace::Faster
        } else {
            Pace::Even
        };
        Step::Play {
            captured: packet.captured,
            data: packet.data,
            pace,
            torn,
        }
    }

    /// Far more is there than is needed: the oldest goes.
    fn let_go(&mut self, now: i64, left: i64) {
        let over = |jitter: &Self, at: usize| {
            let packet = jitter.held.values().nth(at)?;
            let waited = jitter.waited(now, packet.captured.as_micros());
            Some(waited + left - jitter.delay.target())
        };
        if over(self, 0).is_some_and(|over| over > SKIP) {
            while over(self, 1).is_some_and(|over| over >= 0) {
                self.skip();
            }
        }
    }

    /// The oldest packet goes unheard.
    fn skip(&mut self) {
        let Some((sequence, packet)) = self.held.pop_first() else {
            return;
        };
        if self.next.is_some_and(|next| sequence >= next) {
            self.next = Some(sequence.saturating_add(1));
            self.media = packet.captured.as_micros().saturating_add(STEP);
            self.torn = true;
            self.ledger.skipped += FRAME;
        }
    }
}

#[cfg(test)]
mod tests;
