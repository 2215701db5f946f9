//! How sound is guarded against loss (`spec/media.md`, section 6): the loss of sound alone,
//! measured from arrival reports, says how much redundancy the encoder puts into the next
//! packet, and whether each packet leaves a second time two packets later, as RFC 7198
//! does with RTP. A copy leaves together with a new packet and shares its QUIC packet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// How many packets lie between a packet and its copy.
const APART: usize = 2;
/// One that left longer ago is not sent again: what was said before a pause is played by then.
const LATE: Duration = Duration::from_millis(60);
/// Copies begin over the first share of loss, and end under the second.
const COPIES: (f64, f64) = (0.04, 0.02);
/// The redundancy is for at least and at most so many per cent of loss.
const PERCENT: (f64, f64) = (5.0, 30.0);

/// The guard of one track of sound.
#[derive(Debug, Default)]
pub struct Guard {
    loss: f64,
    copies: bool,
    last: VecDeque<(Instant, Bytes)>,
}

impl Guard {
    /// From now on this share of sound is lost, 0 to 1. Beside a queue it may be our own doing, and
    /// copies would lose more.
    pub fn loses(&mut self, share: f64, queues: bool) {
        self.loss = share;
        self.copies = if self.copies {
            share > COPIES.1
        } else {
            share > COPIES.0 && !queues
        };
    }

    /// The loss in per cent for which the encoder is to make redundancy.
    pub fn percent(&self) -> u8 {
        // a little more than was seen: loss is not even
        (self.loss * 120.0).ceil().clamp(PERCENT.0, PERCENT.1) as u8
    }

    /// A packet leaves: the earlier one that leaves with it once more, if any.
    pub fn leaves(&mut self, now: Instant, packet: Bytes) -> Option<Bytes> {
        self.last.push_back((now, packet));
        if self.last.len() <= APART {
            return None;
        }
        let (left, packet) = self.last.pop_front()?;
        let late = now.saturating_duration_since(left) > LATE;
        Some(packet).filter(|_| self.copies && !late)
    }

    /// What left before is not to leave again: the person is mute.
    pub fn mute(&mut self) {
        self.last.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::tests::base;

    /// The packet of this number leaves, 20 ms after the one before.
    fn leave(guard: &mut Guard, n: u8) -> Option<u8> {
        leave_at(guard, n, u64::from(n) * 20)
    }

    fn leave_at(guard: &mut Guard, n: u8, ms: u64) -> Option<u8> {
        let now = base().after(Duration::from_millis(ms));
        guard.leaves(now.mono, vec![n].into()).map(|copy| copy[0])
    }

    // covers: SUORA-MED-048
    #[test]
    fn redundancy_follows_the_loss_of_sound() {
        let mut guard = Guard::default();
        assert_eq!(guard.percent(), 5);
        let percent = [0.2, 0.0, 1.0].map(|share| {
            guard.loses(share, false);
            guard.percent()
        });
        assert_eq!(percent, [24, 5, 30]);
    }

    // covers: SUORA-MED-046
    #[test]
    fn copies_leave_two_packets_later_while_much_is_lost() {
        let mut guard = Guard::default();
        assert!((0..10).all(|n| leave(&mut guard, n).is_none()));
        guard.loses(0.1, true);
        assert!((10..13).all(|n| leave(&mut guard, n).is_none()));
        guard.loses(0.1, false);
        assert_eq!(
            (13..16).map(|n| leave(&mut guard, n)).collect::<Vec<_>>(),
            [Some(11), Some(12), Some(13)]
        );
        guard.mute();
        assert_eq!([leave(&mut guard, 16), leave(&mut guard, 17)], [None, None]);
        assert_eq!(leave(&mut guard, 18), Some(16));
        // between the two bounds it goes on, under both it ends
        guard.loses(0.03, true);
        assert!(leave(&mut guard, 19).is_some());
        guard.loses(0.0, false);
        assert!(leave(&mut guard, 20).is_none());
    }

    // covers: SUORA-MED-046
    #[test]
    fn what_was_said_before_a_pause_is_not_sent_again_after_it() {
        let mut guard = Guard::default();
        guard.loses(0.1, false);
        assert_eq!((0..3).filter_map(|n| leave(&mut guard, n)).last(), Some(0));
        let after = [(3, 440), (4, 460), (5, 480)];
        assert_eq!(
            after.map(|(n, ms)| leave_at(&mut guard, n, ms)),
            [None, None, Some(3)]
        );
    }
}
