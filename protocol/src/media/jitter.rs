//! How long sound waits (`spec/media.md`, section 8). Packets come when they come; the
//! sink pulls 20 ms every 20 ms. The buffer holds as much as the arrival times of the
//! last seconds ask for, conceals what is missing, and lets go of what it no longer needs.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::receiver::AudioPacket;
use crate::time::{Now, Timestamp};

/// One packet's duration.
pub const FRAME: Duration = Duration::from_millis(20);
/// The least and the most that the buffer aims to hold.
const TARGET: (Duration, Duration) = (Duration::from_millis(40), Duration::from_millis(240));
/// Packets whose arrival decides the target: five seconds.
const WINDOW: usize = 250;
/// Most packets held.
const HELD_MAX: usize = 50;

/// What the sink plays for 20 ms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sound {
    /// Decode this.
    Packet {
        /// When it was captured, by the sender's clock.
        captured: Timestamp,
        /// The Opus packet.
        data: Bytes,
    },
    /// The packet is missing; the next one carries its in-band redundancy.
    Fec {
        /// The next packet.
        data: Bytes,
    },
    /// The packet is missing: conceal.
    Conceal,
    /// Nobody speaks to us: nothing came yet, or the track stopped.
    Silence,
}

/// The buffer of one sound track.
#[derive(Debug, Default)]
pub struct Jitter {
    held: BTreeMap<i64, AudioPacket>,
    /// Sequence number that is played next.
    next: Option<i64>,
    /// Arrival minus capture of the last packets, in microseconds.
    delays: VecDeque<i64>,
    concealed: u32,
    deep: u32,
    filled: Option<Instant>,
}

impl Jitter {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a packet. One whose time is over, or a copy, is dropped.
    pub fn push(&mut self, now: Now, packet: AudioPacket) {
        self.delays.push_back(now.utc.micros_since(packet.captured));
        if self.delays.len() > WINDOW {
            self.delays.pop_front();
        }
        if self.next.is_some_and(|next| packet.sequence < next) {
            return;
        }
        self.filled.get_or_insert(now.mono);
        self.held.insert(packet.sequence, packet);
        while self.held.len() > HELD_MAX {
            self.held.pop_first();
            self.next = self.held.first_key_value().map(|(sequence, _)| *sequence);
        }
    }

    /// How much the buffer aims to hold.
    pub fn target(&self) -> Duration {
        let least = self.delays.iter().min().copied().unwrap_or(0);
        let most = self.delays.iter().max().copied().unwrap_or(0);
        let jitter = Duration::from_micros(u64::try_from(most - least).unwrap_or(0));
        (jitter + FRAME).clamp(TARGET.0, TARGET.1)
    }

    /// The next 20 ms. Called every 20 ms by the sink's clock.
    pub fn pull(&mut self, now: Now) -> Sound {
        let Some(next) = self.next else {
            return self.start(now);
        };
        if let Some(packet) = self.held.remove(&next) {
            self.concealed = 0;
            self.next = Some(next + 1);
            self.catch_up();
            return Sound::Packet {
                captured: packet.captured,
                data: packet.data,
            };
        }
        self.deep = 0;
        match self.held.first_key_value() {
            Some((&first, packet)) => {
                self.next = Some(next + 1);
                self.concealed += 1;
                if first == next + 1 {
                    Sound::Fec {
                        data: packet.data.clone(),
                    }
                } else {
                    Sound::Conceal
                }
            }
            // ran dry: conceal without passing over packets that are only late
            None if self.concealed < 5 => {
                self.concealed += 1;
                Sound::Conceal
            }
            None => {
                self.next = None;
                self.filled = None;
                self.concealed = 0;
                Sound::Silence
            }
        }
    }

    /// Playing begins when the first packet has waited for the target.
    fn start(&mut self, now: Now) -> Sound {
        let waited = self.filled.is_some_and(|filled| {
            now.mono.saturating_duration_since(filled) + FRAME >= self.target()
        });
        if waited && let Some((&first, _)) = self.held.first_key_value() {
            self.next = Some(first);
            return self.pull(now);
        }
        Sound::Silence
    }

    /// Holds more than it aims for, for half a second: one packet is let go.
    fn catch_up(&mut self) {
        let held = FRAME * u32::try_from(self.held.len()).unwrap_or(0);
        self.deep = if held > self.target() + 2 * FRAME {
            self.deep + 1
        } else {
            0
        };
        if self.deep >= 25 {
            self.deep = 0;
            self.held.pop_first();
            self.next = self
                .held
                .first_key_value()
                .map(|(sequence, _)| *sequence)
                .or(self.next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::tests::base;

    /// Plays a trace of arrival delays (ms; `None`: lost): slots that were not the packet itself.
    fn play(delays: &[Option<u64>], jitter: &mut Jitter) -> usize {
        let start = base();
        let mut arrivals: Vec<(Duration, i64)> = delays
            .iter()
            .enumerate()
            .filter_map(|(at, delay)| {
                delay.map(|delay| {
                    (
                        FRAME * u32::try_from(at).unwrap() + Duration::from_millis(delay),
                        at as i64,
                    )
                })
            })
            .collect();
        arrivals.sort();
        let mut arrivals = arrivals.into_iter().peekable();
        let (mut bad, mut started) = (0, false);
        for slot in 0..delays.len() {
            let elapsed = FRAME * u32::try_from(slot).unwrap() + Duration::from_millis(10);
            while let Some((at, sequence)) = arrivals.next_if(|(at, _)| *at <= elapsed) {
                let captured = start.utc + FRAME * u32::try_from(sequence).unwrap();
                jitter.push(
                    start.after(at),
                    AudioPacket {
                        sequence,
                        captured,
                        data: Bytes::from_static(b"x"),
                    },
                );
            }
            match jitter.pull(start.after(elapsed)) {
                Sound::Packet { .. } => started = true,
                _ if started => bad += 1,
                _ => {}
            }
        }
        bad
    }

    // covers: SUORA-MED-011
    #[test]
    fn a_steady_track_plays_without_concealment() {
        assert_eq!(play(&vec![Some(30); 500], &mut Jitter::new()), 0);
        let wobble: Vec<_> = (0..500).map(|at| Some(30 + (at * 7 % 19))).collect();
        assert_eq!(play(&wobble, &mut Jitter::new()), 0);
    }

    #[test]
    fn a_lost_packet_costs_one_slot() {
        let mut trace = vec![Some(30); 300];
        trace[100] = None;
        trace[200] = None;
        assert_eq!(play(&trace, &mut Jitter::new()), 2);
    }

    #[test]
    fn the_target_grows_with_jitter_and_shrinks_again() {
        let mut jitter = Jitter::new();
        let mut trace: Vec<_> = (0..400)
            .map(|at| Some(if at % 10 == 9 { 110 } else { 30 }))
            .collect();
        assert!(play(&trace, &mut jitter) < 40);
        assert!(jitter.target() >= Duration::from_millis(90));
        trace = vec![Some(30); 600];
        let mut calm = Jitter {
            delays: jitter.delays.clone(),
            ..Jitter::new()
        };
        play(&trace, &mut calm);
        assert_eq!(calm.target(), TARGET.0);
    }

    #[test]
    fn a_buffer_that_never_waits_fails_the_trace() {
        // the control: without waiting for the target, a wobble must be heard
        let wobble: Vec<_> = (0..500)
            .map(|at| Some(if at % 50 == 49 { 75 } else { 12 }))
            .collect();
        let mut broken = Jitter {
            next: Some(0),
            ..Jitter::new()
        };
        assert!(play(&wobble, &mut broken) > 0);
    }
}
