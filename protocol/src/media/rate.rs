//! How much may leave (`spec/media.md`, section 9): arrival reports become the encoder's
//! target and the bytes of each beat. Sound is never held back.
//!
//! The rooms: `delay` how long packets queue, `delivered` what reached the other end,
//! `loss` whose loss it is, `cuts` what each cut found, `compete` our part beside flows that fill every
//! queue.
//!
//! Chosen from its elders: that a queue of one-way delay over a base decides, and a drop of
//! the rate comes from what was delivered, is SCReAM's (RFC 8298 and its bis draft) and Google
//! Congestion Control's (draft-ietf-rmcat-gcc), which libwebrtc and so RingRTC run, and str0m
//! ports. Neither was taken whole. Both need QUIC to tell each packet's fate, which arrival reports
//! do here for media alone; a calm time that makes probing bolder stands for GCC's probe clusters,
//! which need padding, and one train before the accept for those of its start. Their drafts take
//! loss over a bound for their own doing, so whose it is is an experiment here; and neither
//! holds its own beside CUBIC in a long queue, so that is a mode of its own, as in Copa (NSDI
//! 2018). What all of it together is worth, the rows of `cargo bench --bench realtime` say, beside
//! QUIC's CUBIC and a constant window.

mod compete;
mod cuts;
mod delay;
mod delivered;
mod loss;
mod piece;

use std::time::{Duration, Instant};

use self::compete::Compete;
use self::cuts::Cuts;
use self::delay::Delay;
use self::delivered::Delivered;
use self::loss::{Loss, Verdict};
use super::Kind;
use super::allot::{Allot, Share};
use crate::limits::{BEAT, REPORT_INTERVAL};
use crate::time::Now;

/// A queue of this length takes the target down...
const QUEUE_HIGH: Duration = Duration::from_millis(35);
/// ...one that grows, from this on...
const QUEUE_GROWS: Duration = Duration::from_millis(25);
/// ...and of this no picture leaves until it is short again.
const QUEUE_HOLD: Duration = Duration::from_millis(80);
/// A hold ends at this.
const QUEUE_SHORT: Duration = Duration::from_millis(30);
/// A queue under this lets the target grow.
const QUEUE_LOW: Duration = Duration::from_millis(15);
/// What of the delivered rate is kept when a queue grows.
const KEEP: f64 = 0.85;
/// The most that sound takes on a wire, headers included, in bits a second.
const SOUND: f64 = 60_000.0;
/// A round trip before one was seen.
const FIRST_TRIP: Duration = Duration::from_millis(200);
/// Bytes of a packet that may leave whenever one may, about.
const PACKET: f64 = 1_500.0;
/// What may leave at once at the start: QUIC's initial window (RFC 9002, section 7.2) of packets of
/// 1 200 bytes, which holds a first keyframe...
const BURST: f64 = 12_000.0;
/// ...and what may leave faster than the target asks, at the pace that a train found.
const BURST_TOLD: f64 = 40_000.0;
/// A queue grows by itself from this many seconds a second of sending on...
const SLOPE: f64 = 0.15;
/// ...and so steeply that its growth tells what the way carries from this on.
const SLOPE_STEEP: f64 = 0.5;
/// A short queue that stands takes this share of the target a second.
const DRAIN: f64 = 0.2;
/// The target grows only where at least this share of it is used.
const USED: f64 = 0.6;
/// Growth a second, as a share of the target: before the first cut...
const GROW_FIRST: f64 = 1.0;
/// ...right after one, and what each second since adds...
const GROW_CALM: (f64, f64) = (0.10, 0.15);
/// ...up to this...
const GROW_MAX: f64 = 0.5;
/// ...and, where the last cut found that the way carries about the target, at most this.
const GROW_NEAR: f64 = 0.15;
/// The target over what the last cut found, where it is near.
const NEAR: std::ops::Range<f64> = 0.8..1.25;
/// How much faster than the target pictures leave: as a rule...
const PACE: f64 = 2.0;
/// ...soon after a cut, and of what it found the way to carry...
const PACE_CUT: (f64, f64) = (1.5, 1.1);
/// ...and while packets queue.
const PACE_QUEUED: f64 = 1.25;
/// Bytes that may be under way whatever the target is.
const UNDER_WAY_LEAST: f64 = 4_000.0;
/// What was not sent of the target's bytes may be sent later, as much as these seconds gave.
const CREDIT: f64 = 0.2;
/// The first target at most, in bits a second...
const START: f64 = 500_000.0;
/// ...and this as long as no train was answered.
const START_UNTOLD: f64 = 300_000.0;
/// The target under this share of the most that cuts of half a minute found is little: a queue that stands
/// then is none of ours.
const LIGHT: f64 = 0.65;
/// The rate of the last cut is remembered so long.
const REMEMBERED: Duration = Duration::from_secs(30);
/// More may be under way by what the target sends in this time: acknowledgements wait for 25 ms.
const UNDER_WAY: Duration = Duration::from_millis(65);
/// What is under way too much for so long takes the target down.
const BRAKED: Duration = Duration::from_millis(150);
/// The queue of a hold may grow for so long before it counts.
const HOLD_MAX: Duration = Duration::from_millis(1_500);
/// A hold of this length after that and a round trip that did not shorten the queue shows another flow.
const HOLD_TELLS: Duration = Duration::from_millis(400);

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
    /// Its length.
    pub bytes: usize,
    /// What became of it.
    pub fate: Fate,
}

/// What QUIC knows of all that it sent, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Way {
    /// Sent, and neither acknowledged nor taken for lost.
    pub under_way: usize,
    /// Acknowledged so far.
    pub acked: u64,
    /// Taken for lost so far.
    pub lost: u64,
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

/// No picture leaves.
#[derive(Clone, Copy, Debug)]
struct Hold {
    began: Instant,
    /// When the queue was longest.
    since: Instant,
    queue: Duration,
    /// The most that came in while there was a queue, in bits a second.
    carried: f64,
}

/// The rate control of one session.
#[derive(Debug)]
pub struct Rate {
    target: f64,
    bounds: (f64, f64),
    delay: Delay,
    delivered: Delivered,
    loss: Loss,
    compete: Option<Compete>,
    allot: Allot,
    /// What an experiment leaves of the target.
    share: f64,
    hold: Option<Hold>,
    cuts: Cuts,
    report: Option<Instant>,
    /// Since when pictures leave without a hold.
    flows: Option<Instant>,
    /// Since when more is under way than the target puts there.
    braked: Option<Instant>,
    /// Since when, by the other end's clock, there is a queue.
    busy: Option<i64>,
    /// When something was sent that no report told of; from then to then.
    dark: Option<(Instant, Option<Instant>)>,
    /// The first picture left.
    begun: bool,
    /// What a train found for pictures, in bits a second.
    room: Option<f64>,
    bucket: f64,
    /// Bytes that may leave faster than the target asks.
    credit: f64,
    beat: Option<Instant>,
}

impl Rate {
    /// Within these bits a second of picture. Begins at the most, but not over 300 kbit/s until an
    /// answer to a train tells more.
    pub fn new(bounds: (u32, u32)) -> Self {
        let (least, most) = (f64::from(bounds.0), f64::from(bounds.1));
        Self {
            target: START_UNTOLD.clamp(least, most.max(least)),
            bounds: (least, most.max(least)),
            delay: Delay::default(),
            delivered: Delivered::default(),
            loss: Loss::new(),
            compete: None,
            allot: Allot::default(),
            share: 1.0,
            hold: None,
            cuts: Cuts::default(),
            report: None,
            flows: None,
            braked: None,
            busy: None,
            dark: None,
            begun: false,
            room: None,
            bucket: BURST,
            credit: BURST,
            beat: None,
        }
    }

    /// The way carries so many bits a second, as far as a train of packets could tell: begin with
    /// what is there. Reports know better.
    pub fn probed(&mut self, now: Now, bits: u64) {
        if self.report.is_some() {
            return;
        }
        let room = (bits as f64 - SOUND).max(self.bounds.0);
        self.room = Some(room);
        self.bucket = self.bucket.min(PACKET);
        self.credit = BURST_TOLD;
        self.set(START.min(room * KEEP));
        if room * KEEP < START.min(self.bounds.1) {
            self.cuts.take(now, room);
        }
    }

    /// The picture encoder's target, in bits a second.
    pub fn target(&self) -> u32 {
        (self.target * self.share / self.copies() as f64).clamp(self.bounds.0, self.bounds.1) as u32
    }

    /// How often small pictures are to be sent: one that has to be sent again after its loss
    /// comes a round trip later, and all that refer to it wait. Each has the least target at least.
    pub fn copies(&self) -> usize {
        let fit = self.target * self.share / self.bounds.0;
        self.loss.copies().min((fit as usize).max(1))
    }

    /// Bits a second of pictures that are to leave, copies counted.
    fn leaving(&self) -> f64 {
        f64::from(self.target()) * self.copies() as f64
    }

    /// Bits a second of pictures, copies counted, that came in.
    fn came_most(&self) -> f64 {
        self.delivered.most() * self.copies() as f64
    }

    /// Smoothed share of sound lost, 0 to 1.
    pub const fn loss(&self) -> f64 {
        self.loss.share()
    }

    /// The same of some seconds, for what is not to change with each burst.
    pub const fn steady_loss(&self) -> f64 {
        self.loss.steady()
    }

    /// Whether packets queue on the way so long that what is lost may be our own doing.
    pub fn queues(&self) -> bool {
        self.delay.queue() > QUEUE_SHORT
    }

    /// How long packets queue on the way.
    pub fn queue(&self) -> Duration {
        self.delay.queue()
    }

    /// The least round trip that reports showed, if there was one.
    pub const fn round_trip(&self) -> Option<Duration> {
        self.delay.round_trip()
    }

    /// Whether pictures wait for a queue to drain or for a sign of life.
    pub fn holds(&self) -> bool {
        !self.allot.share().picture
            || self.hold.is_some()
            || self.dark.is_some_and(|(_, until)| until.is_none())
    }

    /// Who gets something of what the way carries.
    pub const fn allotted(&self) -> Share {
        self.allot.share()
    }

    /// What was sent since `since` did not get through.
    pub fn silence(&mut self, since: Instant) {
        self.dark = Some((since, None));
    }

    /// Something got through, though no report can tell of it: nothing that reports name leaves.
    pub fn heard(&mut self, now: Now) {
        if let Some((_, until @ None)) = &mut self.dark {
            *until = Some(now.mono);
            self.flows = None;
            self.set(self.target * KEEP);
        }
    }

    /// Takes an arrival report that was received now.
    pub fn report(&mut self, now: Now, feedback: &Feedback) {
        if feedback.packets.is_empty() {
            return;
        }
        self.heard(now);
        let seen = self.without_dark(feedback);
        self.delivered.report(feedback);
        let passed = self.report.map_or(REPORT_INTERVAL, |last| {
            now.mono.saturating_duration_since(last)
        });
        self.report = Some(now.mono);
        let queues = self.queues();
        match self.loss.report(now, &seen, queues, self.settle()) {
            // a queue is no moment to send more
            Verdict::Go => self.share = if queues { self.share } else { 1.0 },
            Verdict::Less(share) => self.share = share,
            Verdict::Caused(share) => {
                self.share = 1.0;
                self.set(self.target * share);
                self.cuts.take(now, self.target);
            }
        }
        let light = self.is_light(now);
        if !self.delay.report(now, &seen, light) {
            return;
        }
        if let Some(compete) = &mut self.compete {
            let lost = seen.packets.iter().any(|packet| packet.fate == Fate::Lost);
            let trip = self.delay.round_trip().unwrap_or_default();
            let queue = self.delay.queue();
            match compete.report(now, self.target, queue, trip, lost && queue > QUEUE_HOLD) {
                Some(target) => self.set(target),
                None => self.compete = None,
            }
            // a queue that stands whatever the picture leaves may be of our own sound
            self.allot
                .report(now, self.target <= self.bounds.0 * 1.5, queue);
            return;
        }
        self.judge(now, feedback.at, passed);
        let least = self.target <= self.bounds.0 && self.compete.is_none();
        let queue = self.hold.map_or(self.delay.queue(), |hold| hold.queue);
        self.allot.report(now, least, queue);
    }

    /// Packets that were sent while nothing got through say nothing of loss.
    fn without_dark(&self, feedback: &Feedback) -> Feedback {
        let dark = |packet: &Packet| {
            self.dark.is_some_and(|(since, until)| {
                packet.sent >= since && until.is_none_or(|until| packet.sent <= until)
            })
        };
        let packets = feedback.packets.iter().copied();
        Feedback {
            at: feedback.at,
            packets: packets.filter(|packet| !dark(packet)).collect(),
        }
    }

    /// From a change to the first report that shows it.
    fn settle(&self) -> Duration {
        let trip = self.delay.round_trip().unwrap_or(REPORT_INTERVAL);
        trip + self.delay.queue() + REPORT_INTERVAL * 2
    }

    fn judge(&mut self, now: Now, at: i64, passed: Duration) {
        let since = |at: Instant| now.mono.saturating_duration_since(at);
        let (queue, newest, slope) = (self.delay.queue(), self.delay.newest(), self.delay.slope());
        if queue > QUEUE_GROWS {
            self.busy.get_or_insert(at);
        } else {
            self.busy = None;
        }
        let came = self.delivered.rate() * self.copies() as f64;
        if let Some(hold) = &mut self.hold {
            // what was under way when it began still comes
            if queue > hold.queue && since(hold.began) < HOLD_MAX {
                hold.queue = queue;
                hold.since = now.mono;
            }
            if self
                .busy
                .is_some_and(|busy| at - busy >= delivered::WINDOW.as_micros() as i64)
            {
                // a window of nothing but queue tells what the way carries
                hold.carried = hold.carried.max(came);
            }
            let hold = *hold;
            if queue < QUEUE_SHORT {
                self.hold = None;
                if hold.carried > 0.0 {
                    self.set((hold.carried * KEEP).min(self.target));
                }
            } else if since(hold.since) >= HOLD_TELLS + self.settle().saturating_sub(queue) {
                self.hold = None;
                let shorter = hold.queue.saturating_sub(queue);
                if shorter < HOLD_TELLS.mul_f64(0.15) {
                    self.compete = Some(Compete::new(now.mono, queue));
                    self.delay.is_theirs();
                    let carried = self.cuts.last().map_or(0.0, |cut| cut.carried);
                    self.set(self.target.max(carried / 2.0));
                    return;
                }
            }
        }
        let over = queue > QUEUE_HIGH || (newest > QUEUE_GROWS && slope > SLOPE);
        let settled = self
            .cuts
            .last()
            .is_none_or(|cut| since(cut.at) >= self.settle());
        if over && settled && self.hold.is_none() {
            let flows = self
                .flows
                .is_some_and(|at| since(at) > delivered::WINDOW + self.settle());
            let mut carried = if flows {
                self.came_most().min(self.target)
            } else {
                self.target
            };
            if slope > SLOPE_STEEP {
                // what came in is what left times one and the growth of the queue
                let all = (self.target + SOUND) / (1.0 + slope);
                carried = carried.min((all - SOUND).max(0.0));
            }
            self.set(KEEP * carried);
            self.cuts.take(now, carried);
        }
        if newest > QUEUE_HOLD && self.hold.is_none() {
            self.hold = Some(Hold {
                began: now.mono,
                since: now.mono,
                queue: newest,
                carried: 0.0,
            });
        }
        if !over && queue >= QUEUE_LOW && self.hold.is_none() {
            // a short queue that stands goes slowly
            self.set(self.target * (1.0 - DRAIN * passed.as_secs_f64().min(0.5)));
        }
        let used = self.came_most() >= USED * self.target;
        if !over && queue < QUEUE_LOW && settled && used && self.share >= 1.0 {
            let growth = match self.cuts.last() {
                None => GROW_FIRST,
                Some(cut) => {
                    let calm = GROW_CALM.0 + GROW_CALM.1 * since(cut.at).as_secs_f64();
                    let calm = calm.min(GROW_MAX);
                    let near = since(cut.at) < REMEMBERED
                        && NEAR.contains(&(self.target / cut.carried.max(1.0)));
                    if near { calm.min(GROW_NEAR) } else { calm }
                }
            };
            // the less, the nearer the queue is to where growth ends
            let growth = growth * (1.0 - queue.as_secs_f64() / QUEUE_LOW.as_secs_f64());
            self.set(self.target * (1.0 + growth * passed.as_secs_f64().min(0.5)));
        }
    }

    /// Whether so little leaves that a queue is none of ours.
    fn is_light(&self, now: Now) -> bool {
        let little = self.leaving() < self.cuts.most(now) * LIGHT;
        self.hold.is_none() && self.compete.is_none() && little
    }

    fn set(&mut self, target: f64) {
        self.target = target.clamp(self.bounds.0, self.bounds.1);
    }

    /// What a train found for pictures, in bits a second, as long as no report knows better.
    fn found(&self) -> Option<f64> {
        self.room.filter(|_| self.report.is_none())
    }

    /// Bits a second at which pictures leave.
    fn pace(&self, now: Now) -> f64 {
        let target = self.leaving();
        if let Some(room) = self.found() {
            return room;
        }
        if self.delay.queue() > QUEUE_LOW && self.compete.is_none() {
            return target * PACE_QUEUED;
        }
        match self.cuts.last() {
            // about what the way was found to carry
            Some(cut) if now.mono.saturating_duration_since(cut.at) < REMEMBERED => {
                (target * PACE_CUT.0).min(cut.carried.max(target) * PACE_CUT.1)
            }
            _ => target * PACE,
        }
    }

    /// Bytes of pictures that may leave at this beat.
    pub fn beat(&mut self, now: Now, way: Way) -> usize {
        self.loss.way(way);
        let settle = self.settle();
        if self.dark.is_some_and(|(_, until)| {
            until.is_none_or(|until| now.mono.saturating_duration_since(until) < settle)
        }) {
            self.loss.pass_over();
        }
        let since = self
            .beat
            .map_or(BEAT, |beat| now.mono.saturating_duration_since(beat));
        self.beat = Some(now.mono);
        self.forgive(now);
        if self.holds() {
            self.flows = None;
            self.bucket = self.bucket.min(0.0);
            return 0;
        }
        self.flows.get_or_insert(now.mono);
        if self.begun && self.brakes(now, way.under_way) {
            return 0;
        }
        let pace = self.pace(now) / 8.0;
        if self.begun || self.room.is_some() {
            let most = (pace * 2.0 * BEAT.as_secs_f64()).max(PACKET);
            self.bucket = (self.bucket + since.as_secs_f64() * pace).min(most);
            let mean = self.leaving() / 8.0;
            let most = match self.report {
                Some(_) => mean * CREDIT,
                None => self.credit.max(mean * CREDIT),
            };
            self.credit = (self.credit + since.as_secs_f64() * mean * 1.1).min(most);
        }
        self.bucket.min(self.credit).max(0.0) as usize
    }

    /// Where no sound flows, only pictures bring reports, and none leaves: what no report ends, time
    /// does.
    fn forgive(&mut self, now: Now) {
        self.allot.unheard(now);
        let Some(hold) = self.hold else {
            return;
        };
        let told = self.report.unwrap_or(hold.began);
        if now.mono.saturating_duration_since(told) > hold.queue + self.settle() {
            self.hold = None;
            // what came in it is known better than what to try next
            let carried = Some(hold.carried).filter(|carried| *carried > 0.0);
            self.set(carried.unwrap_or(self.target).min(self.target) * KEEP);
        }
    }

    /// Whether more is under way than the target puts there: long before a report tells, the
    /// way has become narrow, or the way back is.
    fn brakes(&mut self, now: Now, under_way: usize) -> bool {
        let mut time = self.delay.usual_trip().unwrap_or(FIRST_TRIP) + UNDER_WAY;
        if self.compete.is_some() {
            time += self.delay.queue();
        }
        // before the first report more than the target leaves where a train found room
        let leaving = self.leaving().max(self.found().unwrap_or(0.0));
        let rate = (leaving + SOUND) / 8.0;
        if (under_way as f64) < (rate * time.as_secs_f64()).max(UNDER_WAY_LEAST) {
            self.braked = None;
            return false;
        }
        let braked = *self.braked.get_or_insert(now.mono);
        let long = now.mono.saturating_duration_since(braked) >= BRAKED;
        if long && self.report.is_some() {
            self.braked = Some(now.mono);
            self.flows = None;
            self.set(self.target * KEEP);
            self.cuts.take(now, self.target);
        }
        true
    }

    /// Bytes of a picture that are worth a packet of their own.
    pub fn piece(&self, now: Now) -> usize {
        piece::of(self.pace(now))
    }

    /// So many bytes left at this beat.
    pub fn spent(&mut self, bytes: usize) {
        self.begun = true;
        self.bucket -= bytes as f64;
        self.credit -= bytes as f64;
    }

    /// How long so many bytes take to leave.
    pub fn takes(&self, now: Now, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 * 8.0 / self.pace(now).max(1.0))
    }
}

#[cfg(test)]
mod tests;
