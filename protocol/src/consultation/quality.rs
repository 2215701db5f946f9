//! From the figures of each second to one word and its cause (`spec/media.md`, section 11).
//! Both are for people: a word changes only when it will stand for a while, and a cause is
//! named only where something tells of it.

pub mod link;

use std::collections::VecDeque;

pub use crate::quality::{Cause, Network, Word};

/// Seconds over which gaps of sound and picture are summed.
pub const WINDOW: usize = 4;
/// The word gets worse when so many seconds in a row were worse.
pub const WORSE_AFTER: u32 = 2;
/// The word gets better when so many seconds in a row were better.
pub const BETTER_AFTER: u32 = 4;
/// Seconds after a track began in which nothing is said of it.
pub const SETTLE: u32 = 3;
/// A known cause is given up when so many seconds in a row told of none.
pub const CAUSE_HOLD: u32 = 30;
/// Another known cause takes its place after so many.
pub const CAUSE_AFTER: u32 = 2;

/// From where on something is fair, and from where on poor.
type Bounds = (f64, f64);

/// Share of the sound that was made up. By the E-model of ITU-T G.107 with a robustness of
/// 20, about what Opus with concealment has: 3 % leaves R = 80, where some are dissatisfied,
/// 10 % R = 60, where nearly all are.
pub const CONCEALED: Bounds = (0.03, 0.10);
/// Mouth to ear, in ms: what the jitter buffer should stay under, and what ITU-T G.114 calls
/// unacceptable.
pub const SOUND_DELAY: Bounds = (250.0, 400.0);
/// How long the picture stood still within the window, in ms.
pub const FROZEN: Bounds = (400.0, 1_000.0);
/// Pictures shown in a second: fewer than this.
pub const PICTURES: Bounds = (12.0, 5.0);
/// Camera to screen, in ms: 400 is when a sender gives a picture up (SUORA-MED-010).
pub const PICTURE_DELAY: Bounds = (400.0, 1_000.0);
/// Share of our packets that is lost: sound with redundancy and pictures that are sent again
/// hold to about a tenth; a quarter breaks them.
pub const LOSS: Bounds = (0.10, 0.25);
/// How long our packets queue on the way, in ms: on top of 100 ms of way and buffer they
/// reach the bounds of [`SOUND_DELAY`].
pub const QUEUE: Bounds = (150.0, 300.0);
/// Bits a second for our picture under which it is small and slow.
pub const TARGET: u32 = 150_000;
/// Silence of an end that should be heard, in ms.
pub const SILENT: u32 = 2_000;
/// Silence of an end that sends neither sound nor picture: its keep-alive comes every 2 s.
pub const SILENT_OFF: u32 = 5_000;

/// Figures of one second, as plain numbers. Both directions are seen from this end.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Second {
    /// How long it was, in ms.
    pub length_ms: u32,
    /// Since anything of the other end came, in ms.
    pub silent_ms: u32,
    /// Whether the other end sends sound, as it says.
    pub sound: bool,
    /// Sound that was played, in ms.
    pub played_ms: u32,
    /// Of it, made up, in ms: not what was rebuilt of redundancy.
    pub concealed_ms: u32,
    /// Mouth to ear, in ms, at the least that the clocks allow.
    pub sound_delay_ms: Option<f64>,
    /// Whether the other end sends pictures, as it says.
    pub picture: bool,
    /// Pictures shown.
    pub shown: u32,
    /// How long the picture stood still in freezes, in ms.
    pub frozen_ms: u32,
    /// Camera to screen, in ms, at the least that the clocks allow.
    pub picture_delay_ms: Option<f64>,
    /// Share of our packets that is lost, 0 to 1.
    pub loss: f64,
    /// How long our packets queue on the way, in ms.
    pub queue_ms: f64,
    /// Whether we send pictures.
    pub sends_picture: bool,
    /// Bits a second that our picture may have; 0: the network is too weak for one.
    pub target_bps: u32,
    /// Whether a relay passes the media on.
    pub relayed: bool,
    /// How this end's own network is.
    pub network: Network,
}

/// What an end tells the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// How it sees and hears the other.
    pub word: Word,
    /// How its own network is.
    pub network: Network,
}

/// The verdict on a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// How well both see and hear each other: the worse of the two directions.
    pub word: Word,
    /// Where the trouble is; `None` while the word is good.
    pub cause: Option<Cause>,
    /// What the other end should know.
    pub tell: Told,
    /// Whether something is wrong just now, be it too short for the word to tell: then the
    /// link is asked each second.
    pub troubled: bool,
}

/// Seconds by word and by cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shares {
    /// By word, in the order of [`Word::ALL`].
    pub words: [u32; 5],
    /// By cause, in the order of [`Cause::ALL`].
    pub causes: [u32; 4],
}

/// A word that does not flicker.
#[derive(Debug)]
struct Steady {
    shown: Word,
    /// Seconds in a row that were worse, and the best word among them.
    worse: (u32, Word),
    /// Seconds in a row that were better, and the worst word among them.
    better: (u32, Word),
}

impl Default for Steady {
    fn default() -> Self {
        Self {
            shown: Word::Good,
            worse: (0, Word::Lost),
            better: (0, Word::Good),
        }
    }
}

impl Steady {
    fn take(&mut self, word: Word) -> Word {
        if self.shown == Word::Lost && word < Word::Lost {
            // somebody is there again: that is no matter of seconds
            *self = Self {
                shown: Word::Poor,
                ..Self::default()
            };
        }
        if word > self.shown {
            self.worse = (self.worse.0 + 1, self.worse.1.min(word));
            self.better = (0, Word::Good);
            if word == Word::Lost {
                self.settle(word);
            } else if self.worse.0 >= WORSE_AFTER {
                self.settle(self.worse.1);
            }
        } else if word < self.shown {
            self.better = (self.better.0 + 1, self.better.1.max(word));
            self.worse = (0, Word::Lost);
            if self.better.0 >= BETTER_AFTER {
                self.settle(self.better.1);
            }
        } else {
            self.settle(word);
        }
        self.shown
    }

    fn settle(&mut self, word: Word) {
        *self = Self {
            shown: word,
            ..Self::default()
        };
    }
}

/// Judges the seconds of one consultation, from the accept on.
#[derive(Debug, Default)]
pub struct Quality {
    last: VecDeque<Second>,
    /// Seconds since the other end's sound and picture are on.
    since: (u32, u32),
    /// How the other end comes.
    coming: Steady,
    /// Both directions, by what is measured here.
    word: Steady,
    told: Option<Told>,
    cause: Option<Cause>,
    /// Seconds in a row that told of another cause, and of which.
    other_cause: (u32, Option<Cause>),
    shares: Shares,
}

impl Quality {
    /// Nothing was seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the other end says of itself.
    pub const fn told(&mut self, told: Told) {
        self.told = Some(told);
    }

    /// What the other end said last of how it sees and hears us.
    pub fn heard(&self) -> Option<Word> {
        self.told.map(|told| told.word)
    }

    /// Seconds so far, by word and by cause.
    pub const fn shares(&self) -> Shares {
        self.shares
    }

    /// A second is over.
    pub fn second(&mut self, second: Second) -> Verdict {
        self.since = (
            if second.sound { self.since.0 + 1 } else { 0 },
            if second.picture { self.since.1 + 1 } else { 0 },
        );
        self.last.push_back(second);
        if self.last.len() > WINDOW {
            self.last.pop_front();
        }
        let coming = self.coming_now(&second);
        let told = self.told.map_or(Word::Good, |told| told.word);
        let going = going_now(&second);
        let comes = self.coming.take(coming);
        // what they told is steady already
        let word = self.word.take(coming.max(going)).max(told);
        let going = going.max(told);
        let candidate = self.candidate(&second, coming, going);
        self.settle_cause(word, candidate);
        if let Some(count) = self.shares.words.get_mut(word as usize) {
            *count += 1;
        }
        if let Some(cause) = self.cause
            && let Some(count) = self.shares.causes.get_mut(cause as usize)
        {
            *count += 1;
        }
        Verdict {
            word,
            cause: self.cause,
            tell: Told {
                word: comes,
                network: second.network,
            },
            troubled: coming.max(going).max(word) > Word::Good,
        }
    }

    /// How the other end's sound and picture come, without regard to what was before.
    fn coming_now(&self, second: &Second) -> Word {
        let silent = if second.sound || second.picture {
            SILENT
        } else {
            SILENT_OFF
        };
        if second.silent_ms >= silent {
            return Word::Lost;
        }
        let sum =
            |of: fn(&Second) -> u32| -> f64 { self.last.iter().map(|s| f64::from(of(s))).sum() };
        let mut word = Word::Good;
        if second.sound && self.since.0 > SETTLE {
            let played = sum(|s| s.played_ms);
            let share = if played > 0.0 {
                sum(|s| s.concealed_ms) / played
            } else {
                0.0
            };
            word = word
                .max(over(share, CONCEALED))
                .max(over(second.sound_delay_ms.unwrap_or(0.0), SOUND_DELAY));
        }
        if second.picture && self.since.1 > SETTLE {
            let newest = self.last.iter().rev().take(2);
            if newest.clone().count() == 2 && newest.clone().all(|s| s.shown == 0) {
                return Word::SoundOnly;
            }
            let rate = f64::from(second.shown) * 1_000.0 / f64::from(second.length_ms.max(1));
            word = word
                .max(over(sum(|s| s.frozen_ms), FROZEN))
                .max(over(-rate, (-PICTURES.0, -PICTURES.1)))
                .max(over(second.picture_delay_ms.unwrap_or(0.0), PICTURE_DELAY));
        }
        word
    }

    /// What tells of a cause in this second.
    fn candidate(&self, second: &Second, coming: Word, going: Word) -> Cause {
        use Network::{Bad, Good};
        if coming == Word::Lost {
            // what the other end said last is old now
            return match second.network {
                Bad => Cause::Own,
                // our first mile is fine, and so is the relay that answers on it
                Good => Cause::Other,
                Network::Unknown => Cause::Unknown,
            };
        }
        let theirs = self.told.map_or(Network::Unknown, |told| told.network);
        match (second.network, theirs) {
            (Bad, Bad) if second.relayed => Cause::Relay,
            // the narrow part of an access is the way up: who sends into it has the trouble
            (Bad, Bad) => match (coming > Word::Good, going > Word::Good) {
                (false, true) => Cause::Own,
                (true, false) => Cause::Other,
                _ => Cause::Unknown,
            },
            (Bad, _) => Cause::Own,
            (_, Bad) => Cause::Other,
            (Good, Good) if second.relayed => Cause::Relay,
            _ => Cause::Unknown,
        }
    }

    fn settle_cause(&mut self, word: Word, candidate: Cause) {
        if word == Word::Good {
            self.cause = None;
            self.other_cause = (0, None);
            return;
        }
        let current = match self.cause {
            Some(current) if current == candidate => {
                self.other_cause = (0, None);
                return;
            }
            // a first cause, and one where none was known, is told at once
            None | Some(Cause::Unknown) => {
                self.cause = Some(candidate);
                return;
            }
            Some(current) => current,
        };
        let count = match self.other_cause {
            (count, Some(other)) if other == candidate => count + 1,
            _ => 1,
        };
        self.other_cause = (count, Some(candidate));
        let bound = if candidate == Cause::Unknown {
            CAUSE_HOLD
        } else {
            CAUSE_AFTER
        };
        debug_assert!(current != Cause::Unknown);
        if count >= bound {
            self.cause = Some(candidate);
            self.other_cause = (0, None);
        }
    }
}

/// How our sound and picture go, without regard to what was before.
fn going_now(second: &Second) -> Word {
    if second.sends_picture && second.target_bps == 0 {
        return Word::SoundOnly;
    }
    let small = second.sends_picture && second.target_bps < TARGET;
    let word = if small { Word::Fair } else { Word::Good };
    word.max(over(second.loss, LOSS))
        .max(over(second.queue_ms, QUEUE))
}

/// Good below the first bound, fair from there on, poor from the second on.
fn over(value: f64, (fair, poor): Bounds) -> Word {
    if value > poor {
        Word::Poor
    } else if value > fair {
        Word::Fair
    } else {
        Word::Good
    }
}

#[cfg(test)]
mod tests;
