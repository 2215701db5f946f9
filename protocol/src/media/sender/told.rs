//! What left of a track, and what reports told of it: each packet's fate once.

use std::collections::VecDeque;
use std::time::Instant;

use crate::limits;
use crate::media::Kind;
use crate::media::rate::{Fate, Packet};
use crate::media::rtcp::{AGE_MAX, Arrivals};

/// What the other end told of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Nothing,
    /// One report did not have it.
    Missing,
    /// Its fate is known.
    All,
}

#[derive(Debug)]
struct Left {
    sequence: u16,
    bytes: usize,
    at: Instant,
    told: Told,
}

#[derive(Debug)]
pub(super) struct Track {
    pub(super) ssrc: u32,
    sequence: u16,
    pub(super) packets: u32,
    pub(super) bytes: u32,
    sent: VecDeque<Left>,
}

impl Track {
    pub(super) fn new(ssrc: u32) -> Self {
        Self {
            ssrc,
            sequence: u16::try_from(ssrc >> 17).unwrap_or(0),
            packets: 0,
            bytes: 0,
            sent: VecDeque::new(),
        }
    }

    pub(super) fn next(&mut self, len: usize) -> u16 {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(u32::try_from(len).unwrap_or(0));
        sequence
    }

    pub(super) fn left(&mut self, sequence: u16, bytes: usize, at: Instant) {
        self.sent.push_back(Left {
            sequence,
            bytes,
            at,
            told: Told::Nothing,
        });
        if self.sent.len() > 4 * limits::REPORT_PACKETS_MAX {
            self.sent.pop_front();
        }
    }
}

/// Tells the fates that a block of a report decides. Sound is lost once a packet after it
/// had come [`limits::SOUND_LATE`] before, or two reports miss it. A picture's packet never is: its
/// stream brings it later.
pub(super) fn join(
    track: &mut Track,
    kind: Kind,
    arrivals: &Arrivals,
    at: i64,
    packets: &mut Vec<Packet>,
) {
    let overtaken = arrivals
        .ages
        .iter()
        .rposition(|age| age.is_some_and(|age| age >= limits::SOUND_LATE));
    let mut sequence = arrivals.begin;
    for (position, age) in arrivals.ages.iter().enumerate() {
        let left = track
            .sent
            .iter_mut()
            .rev()
            .find(|left| left.sequence == sequence);
        sequence = sequence.wrapping_add(1);
        let Some(left) = left.filter(|left| left.told != Told::All) else {
            continue;
        };
        let fate = match age {
            Some(age) if *age >= AGE_MAX => Fate::Arrived(None),
            Some(age) => {
                let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
                Fate::Arrived(Some(at.saturating_sub(age)))
            }
            None if kind == Kind::Video => continue,
            None if left.told == Told::Missing || overtaken > Some(position) => Fate::Lost,
            None => {
                left.told = Told::Missing;
                continue;
            }
        };
        left.told = Told::All;
        packets.push(Packet {
            kind,
            sent: left.at,
            bytes: left.bytes,
            fate,
        });
    }
}
