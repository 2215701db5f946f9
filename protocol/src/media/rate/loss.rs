//! Loss that a wire has anyway, told from loss that we cause: an experiment. Where a tenth
//! is lost and no queue is seen, the rate goes down by a third for two seconds. If less than half
//! as much is lost then, something on the way drops what is over its rate: the rate stays
//! down. Else the loss is the wire's, and slowing down would help nobody: the rate comes back.
//!
//! Google Congestion Control takes any loss over a tenth for its own doing and sends almost
//! nothing at 20 %; SCReAM (RFC 8298) backs off at each loss.

use std::time::{Duration, Instant};

use super::{Fate, Feedback, Way};
use crate::media::Kind;
use crate::time::Now;

/// Loss under this is not looked into.
const NOTABLE: f64 = 0.1;
/// Loss is counted for so long before and in an experiment.
const COUNT: Duration = Duration::from_secs(2);
/// From the end of an experiment to the next, doubled as long as they show nothing.
const REST: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(160));
/// The rate in an experiment, of the one before.
const LESS: f64 = 0.67;
/// Pictures are sent twice from the second share on, until the first.
const TWICE: (f64, f64) = (0.01, 0.03);
/// Likewise three times.
const THRICE: (f64, f64) = (0.015, 0.04);
/// Packets of sound that the steady share is made of, at most and at least.
const STEADY: u32 = 200;
const FEW: u32 = 40;
/// Least packets that a share is made of.
const PACKETS: u32 = 60;

/// Bytes of a packet of QUIC, about.
const PACKET: u64 = 1_200;

/// What the rate control is to do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Verdict {
    /// Nothing.
    Go,
    /// Send this share of the target for a while.
    Less(f64),
    /// What is over this share of the target is dropped on the way.
    Caused(f64),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    Watch,
    /// Waits until the lower rate is seen.
    Settle(Instant, f64),
    Try(f64),
    Rest(Instant),
}

/// Loss of sound; while none flows, of all that QUIC sends.
#[derive(Debug)]
pub(super) struct Loss {
    share: f64,
    /// The same, of some seconds.
    steady: f64,
    seen: u32,
    copies: usize,
    since: Option<Instant>,
    packets: u32,
    lost: u32,
    phase: Phase,
    rest: Duration,
    way: Way,
    /// Of `way` when packets were last counted.
    before: Way,
}

impl Loss {
    pub(super) fn new() -> Self {
        Self {
            share: 0.0,
            steady: 0.0,
            seen: 0,
            copies: 1,
            since: None,
            packets: 0,
            lost: 0,
            phase: Phase::Watch,
            rest: REST.0,
            way: Way::default(),
            before: Way::default(),
        }
    }

    /// Smoothed share of sound that is lost, 0 to 1.
    pub(super) const fn share(&self) -> f64 {
        self.share
    }

    /// The same of some seconds.
    pub(super) const fn steady(&self) -> f64 {
        self.steady
    }

    /// How often it pays to send a picture.
    pub(super) const fn copies(&self) -> usize {
        self.copies
    }

    /// What QUIC knows now.
    pub(super) const fn way(&mut self, way: Way) {
        self.way = way;
    }

    /// What QUIC knows so far is not to be counted: nothing got through.
    pub(super) const fn pass_over(&mut self) {
        self.before = self.way;
    }

    /// Packets of QUIC since the last call, and how many of them are lost.
    fn packets(&mut self) -> (u32, u32) {
        let packets = |now: u64, before: &mut u64| {
            let whole = now.saturating_sub(*before) / PACKET;
            *before += whole * PACKET;
            u32::try_from(whole).unwrap_or(u32::MAX)
        };
        let lost = packets(self.way.lost, &mut self.before.lost);
        let acked = packets(self.way.acked, &mut self.before.acked);
        (acked.saturating_add(lost), lost)
    }

    /// Takes a report. `feedback` is without what was sent while nothing got through; `queues`:
    /// a queue is seen, which has its own remedy; `settle`: until a change is seen.
    pub(super) fn report(
        &mut self,
        now: Now,
        feedback: &Feedback,
        queues: bool,
        settle: Duration,
    ) -> Verdict {
        let sound = feedback
            .packets
            .iter()
            .filter(|packet| packet.kind == Kind::Audio);
        let (mut packets, mut lost) = (0, 0);
        for packet in sound {
            packets += 1;
            lost += u32::from(packet.fate == Fate::Lost);
        }
        let of_all = self.packets();
        if packets == 0 {
            (packets, lost) = of_all;
        }
        if packets > 0 {
            let share = f64::from(lost) / f64::from(packets);
            self.share += (share - self.share) * (f64::from(packets) / 32.0).min(0.5);
            // at first all that was seen, later the last seconds
            self.seen = (self.seen + packets).min(STEADY);
            self.steady +=
                (share - self.steady) * f64::from(packets) / f64::from(self.seen.max(FEW));
            let pays = |copies| {
                let (until, from) = if copies == 2 { TWICE } else { THRICE };
                self.steady > if self.copies >= copies { until } else { from }
            };
            let copies = 1 + usize::from(pays(2)) + usize::from(pays(3));
            // what is lost beside a queue may be our own doing: more would lose more
            self.copies = if queues {
                copies.min(self.copies)
            } else {
                copies
            };
        }
        self.packets += packets;
        self.lost += lost;
        let since = *self.since.get_or_insert(now.mono);
        let counted = now.mono.saturating_duration_since(since) >= COUNT && self.packets >= PACKETS;
        match self.phase {
            Phase::Watch if counted => {
                let share = self.count(now.mono);
                if share >= NOTABLE && !queues {
                    self.phase = Phase::Settle(now.mono + settle, share);
                }
            }
            Phase::Settle(until, share) if now.mono >= until => {
                self.count(now.mono);
                self.phase = Phase::Try(share);
            }
            Phase::Try(before) if counted => {
                if self.count(now.mono) < before / 2.0 {
                    self.rest = REST.0;
                    self.phase = Phase::Rest(now.mono + self.rest);
                    return Verdict::Caused(LESS);
                }
                self.phase = Phase::Rest(now.mono + self.rest);
                self.rest = (self.rest * 2).min(REST.1);
            }
            Phase::Rest(until) if now.mono >= until => {
                self.count(now.mono);
                self.phase = Phase::Watch;
            }
            _ => {}
        }
        match self.phase {
            Phase::Settle(..) | Phase::Try(_) => Verdict::Less(LESS),
            Phase::Watch | Phase::Rest(_) => Verdict::Go,
        }
    }

    /// The share since the last count, and begins a new one.
    fn count(&mut self, now: Instant) -> f64 {
        let share = f64::from(self.lost) / f64::from(self.packets.max(1));
        self.since = Some(now);
        self.packets = 0;
        self.lost = 0;
        share
    }
}
