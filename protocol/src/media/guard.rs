//! How sound is guarded against loss (`spec/media.md`, section 6): the loss of sound alone,
//! measured from arrival reports, says how much redundancy the encoder puts into the next
//! packet, and whether each packet leaves a second time two packets later, as RFC 7198
//! does with RTP. A copy leaves together with a new packet and shares its QUIC packet.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Kind;
use super::rate::{Fate, Packet};

/// How many packets lie between a packet and its copy.
const APART: usize = 2;
/// Copies begin over the first share of loss, and end under the second.
const COPIES: (f64, f64) = (0.04, 0.02);
/// The loss is a mean of about so many packets: three seconds.
const MEAN: f64 = 150.0;
/// The redundancy is for at least and at most so many per cent of loss.
const PERCENT: (f64, f64) = (5.0, 30.0);

/// The guard of one track of sound.
#[derive(Debug, Default)]
pub struct Guard {
    told: f64,
    loss: f64,
    copies: bool,
    last: VecDeque<Bytes>,
}

impl Guard {
    /// Takes what a report tells of packets.
    pub fn told(&mut self, packets: &[Packet]) {
        for packet in packets.iter().filter(|packet| packet.kind == Kind::Audio) {
            self.told = (self.told + 1.0).min(MEAN);
            let lost = if packet.fate == Fate::Lost { 1.0 } else { 0.0 };
            // the first packets alone tell little: begin at none
            self.loss += (lost - self.loss) / self.told.max(MEAN / 3.0);
        }
        self.copies = if self.copies {
            self.loss > COPIES.1
        } else {
            self.loss > COPIES.0
        };
    }

    /// The share of sound that is lost, 0 to 1.
    pub const fn loss(&self) -> f64 {
        self.loss
    }

    /// The loss in per cent for which the encoder is to make redundancy.
    pub fn percent(&self) -> u8 {
        // a little more than was seen: loss is not even
        (self.loss * 120.0).ceil().clamp(PERCENT.0, PERCENT.1) as u8
    }

    /// A packet leaves: the earlier one that leaves with it once more, if any.
    pub fn leaves(&mut self, packet: Bytes) -> Option<Bytes> {
        self.last.push_back(packet);
        if self.last.len() <= APART {
            return None;
        }
        self.last.pop_front().filter(|_| self.copies)
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

    fn tell(guard: &mut Guard, count: usize, every: usize) {
        let now = base();
        for n in 0..count {
            let lost = every > 0 && n.is_multiple_of(every);
            let fate = if lost {
                Fate::Lost
            } else {
                Fate::Arrived(None)
            };
            let packet = |kind, fate| Packet {
                bytes: 80,
                kind,
                sent: now.mono,
                fate,
            };
            guard.told(&[
                packet(Kind::Audio, fate),
                packet(Kind::Video, Fate::Arrived(None)),
            ]);
        }
    }

    fn leave(guard: &mut Guard, n: u8) -> Option<u8> {
        guard.leaves(vec![n].into()).map(|copy| copy[0])
    }

    // covers: SUORA-MED-048
    #[test]
    fn redundancy_follows_the_loss_of_sound_alone() {
        let mut guard = Guard::default();
        assert_eq!(guard.percent(), 5);
        tell(&mut guard, 600, 5);
        assert!((20..=28).contains(&guard.percent()), "{}", guard.percent());
        tell(&mut guard, 1_000, 0);
        assert_eq!(guard.percent(), 5);
        tell(&mut guard, 1_000, 1);
        assert_eq!(guard.percent(), 30);
    }

    // covers: SUORA-MED-046
    #[test]
    fn copies_leave_two_packets_later_while_much_is_lost() {
        let mut guard = Guard::default();
        assert!((0..10).all(|n| leave(&mut guard, n).is_none()));
        tell(&mut guard, 300, 10);
        assert_eq!(
            (10..13).map(|n| leave(&mut guard, n)).collect::<Vec<_>>(),
            [Some(8), Some(9), Some(10)]
        );
        guard.mute();
        assert_eq!([leave(&mut guard, 13), leave(&mut guard, 14)], [None, None]);
        assert_eq!(leave(&mut guard, 15), Some(13));
        // between the two bounds it goes on, under both it ends
        tell(&mut guard, 300, 35);
        assert!(leave(&mut guard, 16).is_some());
        tell(&mut guard, 600, 0);
        assert!(leave(&mut guard, 17).is_none());
    }
}
