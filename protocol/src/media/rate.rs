//! How much may leave (`spec/media.md`, section 9): arrival reports become the encoder's
//! target and the bytes of each beat. The queue on the way is estimated from one-way
//! delays over their least value, as SCReAM (RFC 8298) and Google Congestion Control do:
//! a growing queue, or loss over a tenth, takes the target down by a factor at once; a
//! calm second brings it up step by step. Loss under two per cent is taken for random.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Kind;
use crate::limits::BEAT;
use crate::time::Now;

/// A queue of this length takes the target down.
const QUEUE_HIGH: i64 = 60_000;
/// A queue under this lets it grow.
const QUEUE_LOW: i64 = 20_000;
/// How often the target moves down and up.
const STEP: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(200));
/// The least one-way delay is of this many last reports.
const BASE_REPORTS: usize = 400;
/// What may leave at once at the start: a first keyframe.
const BUCKET: f64 = 40_000.0;

/// What a report tells of packets that we sent, each once.
#[derive(Clone, Debug, Default)]
pub struct Feedback {
    /// When the report was made, in microseconds of the other end's clock from any zero.
    pub at: i64,
    /// The packets whose fate it decides.
    pub packets: Vec<Packet>,
}

/// A packet that left and whose fate is known.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Sound or picture.
    pub kind: Kind,
    /// When QUIC took its last byte.
    pub sent: Instant,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It did not arrive.
    Lost,
    /// It arrived, at this time of the other end's clock, from the same zero as
    /// [`Feedback::at`], if that is known.
    Arrived(Option<i64>),
}

/// The rate control of one session.
#[derive(Debug)]
pub struct Rate {
    target: f64,
    bounds: (f64, f64),
    bucket: f64,
    beat: Option<Instant>,
    base: VecDeque<i64>,
    queue: i64,
    loss: f64,
    moved: Option<Instant>,
    /// From where sending times count.
    zero: Option<Instant>,
}

impl Rate {
    /// Starts at `start` bits a second of picture, within `bounds`.
    pub fn new(start: u32, bounds: (u32, u32)) -> Self {
        Self {
            target: f64::from(start),
            bounds: (f64::from(bounds.0), f64::from(bounds.1)),
            bucket: BUCKET,
            beat: None,
            base: VecDeque::new(),
            queue: 0,
            loss: 0.0,
            moved: None,
            zero: None,
        }
    }

    /// The picture encoder's target, in bits a second.
    pub fn target(&self) -> u32 {
        self.target as u32
    }

    /// Smoothed share of packets lost, 0 to 1.
    pub const fn loss(&self) -> f64 {
        self.loss
    }

    /// How long packets queue on the way.
    pub fn queue(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.queue).unwrap_or(0))
    }

    /// Takes an arrival report that was received now.
    pub fn report(&mut self, now: Now, feedback: &Feedback) {
        let packets = &feedback.packets;
        if packets.is_empty() {
            return;
        }
        let lost = packets.iter().filter(|packet| packet.fate == Fate::Lost);
        let share = lost.count() as f64 / packets.len() as f64;
        self.loss += (share - self.loss) / 8.0;
        // both clocks count from somewhere: the least difference is the base
        let zero = *self.zero.get_or_insert(now.mono);
        let delay = |packet: &Packet| match packet.fate {
            Fate::Arrived(Some(at)) => {
                let before = zero.saturating_duration_since(packet.sent).as_micros();
                let after = packet.sent.saturating_duration_since(zero).as_micros();
                let sent = i64::try_from(after).ok()? - i64::try_from(before).ok()?;
                Some(at - sent)
            }
            _ => None,
        };
        if let Some(least) = packets.iter().filter_map(delay).min() {
            self.base.push_back(least);
            if self.base.len() > BASE_REPORTS {
                self.base.pop_front();
            }
            let base = self.base.iter().min().copied().unwrap_or(least);
            self.queue += (least - base - self.queue) / 2;
        }
        let since = self.moved.map_or(Duration::MAX, |moved| {
            now.mono.saturating_duration_since(moved)
        });
        if (self.queue > QUEUE_HIGH || self.loss > 0.1) && since >= STEP.0 {
            self.set(now, self.target * 0.8);
        } else if self.queue < QUEUE_LOW && self.loss < 0.02 && since >= STEP.1 {
            self.set(now, self.target * 1.04 + 4_000.0);
        }
    }

    fn set(&mut self, now: Now, target: f64) {
        self.moved = Some(now.mono);
        self.target = target.clamp(self.bounds.0, self.bounds.1);
    }

    /// Bytes of pictures that may leave at this beat: twice the target on average,
    /// after a pause as much as the bucket holds.
    pub fn beat(&mut self, now: Now) -> usize {
        let since = self
            .beat
            .map_or(BEAT, |beat| now.mono.saturating_duration_since(beat));
        self.beat = Some(now.mono);
        let cap = if self.queue > QUEUE_LOW {
            (self.target / 8.0 * 0.02).max(3_000.0)
        } else {
            BUCKET
        };
        self.bucket = (self.bucket + since.as_secs_f64() * self.target * 2.0 / 8.0).min(cap);
        self.bucket.max(0.0) as usize
    }

    /// So many bytes left at this beat.
    pub fn spent(&mut self, bytes: usize) {
        self.bucket -= bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::tests::base;

    /// A wire of `capacity` bit/s with a queue in virtual time: target after `secs`, longest queue in the last half.
    fn run(rate: &mut Rate, start: Now, capacity: f64, loss: usize, secs: u32) -> (u32, Duration) {
        let (mut free, mut pending, mut worst) = (start.mono, Vec::new(), Duration::ZERO);
        for beat in 0..secs * 200 {
            let now = start.after(BEAT * beat);
            let bytes = (f64::from(rate.target()) / 8.0 * 0.005) as usize + 60;
            free = free.max(now.mono) + Duration::from_secs_f64(bytes as f64 * 8.0 / capacity);
            let lost = loss > 0 && (beat as usize).is_multiple_of(loss);
            pending.push((
                now.mono,
                bytes,
                (!lost).then_some(free + Duration::from_millis(25)),
            ));
            if beat > secs * 100 {
                worst = worst.max(free - now.mono);
            }
            if beat % 16 == 15 {
                let at = now.mono;
                let (arrived, rest): (Vec<_>, Vec<_>) = pending
                    .into_iter()
                    .partition(|(_, _, arrives)| arrives.is_none_or(|arrives| arrives <= at));
                pending = rest;
                let feedback: Vec<_> = arrived
                    .iter()
                    .map(|(sent, _, arrives)| Packet {
                        kind: Kind::Audio,
                        sent: *sent,
                        fate: arrives.map_or(Fate::Lost, |arrives| {
                            let since = (arrives - start.mono).as_micros();
                            Fate::Arrived(Some(i64::try_from(since).unwrap()))
                        }),
                    })
                    .collect();
                let feedback = Feedback {
                    at: i64::try_from((at - start.mono).as_micros()).unwrap(),
                    packets: feedback,
                };
                rate.report(now.after(Duration::from_millis(25)), &feedback);
            }
        }
        (rate.target(), worst)
    }

    // covers: SUORA-MED-013
    #[test]
    fn a_narrow_wire_takes_the_target_down_and_a_wide_one_lets_it_grow() {
        let start = base();
        let mut rate = Rate::new(1_000_000, (50_000, 2_000_000));
        let (target, worst) = run(&mut rate, start, 500_000.0, 0, 20);
        assert!((200_000..600_000).contains(&target), "{target}");
        assert!(worst < Duration::from_millis(400), "{worst:?}");
        let (target, _) = run(
            &mut rate,
            start.after(Duration::from_secs(20)),
            10_000_000.0,
            0,
            20,
        );
        assert!(target > 1_500_000, "{target}");
    }

    #[test]
    fn heavy_loss_takes_the_target_down_and_light_loss_does_not() {
        let mut rate = Rate::new(1_000_000, (50_000, 1_000_000));
        assert!(run(&mut rate, base(), 10_000_000.0, 4, 5).0 < 200_000);
        let mut rate = Rate::new(1_000_000, (50_000, 1_000_000));
        assert_eq!(run(&mut rate, base(), 10_000_000.0, 100, 5).0, 1_000_000);
    }

    #[test]
    fn the_first_keyframe_may_leave_at_once() {
        let mut rate = Rate::new(600_000, (50_000, 600_000));
        assert!(rate.beat(base()) >= 20_000);
    }
}
