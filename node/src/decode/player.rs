//! PURE: the sound of one track as it is heard: [`Jitter`] decides, this decodes, stretches
//! time and fills pauses, and gives 20 ms whenever it is asked. What it decoded and did not
//! play yet keeps its capture time, so that lips follow the voice while time is stretched.

use std::collections::VecDeque;
use std::time::Duration;

use suora_protocol::fault::Fault;
use suora_protocol::limits::SOUND_FRAME;
use suora_protocol::media::jitter::{Jitter, Ledger, Pace, Step};
use suora_protocol::media::receiver::AudioPacket;
use suora_protocol::time::{Now, Timestamp};

use super::noise::Noise;
use super::opus::Decoder;
use super::stretch::{self, Ease, Splice};
use crate::play::SoundKind;

/// From made-up sound to noise: after the first 20 ms, within so many samples.
const FADE: f32 = 4_800.0;
/// From the last sound before a pause to noise, and from noise to the next sound.
const EDGE: (f32, usize) = (960.0, 240);
/// What there is to be before a period is left out.
const ROOM: usize = 1_680;

/// 20 ms as they are heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// The samples.
    pub samples: Vec<i16>,
    /// When the first of them was captured, by the sender's clock; `None` where nothing comes.
    pub captured: Option<Timestamp>,
    /// Where the first of them came from.
    pub kind: SoundKind,
}

/// Sound of one origin that is not yet played.
#[derive(Clone, Copy, Debug)]
struct Piece {
    samples: usize,
    kind: SoundKind,
    captured: Option<Timestamp>,
    /// How long it took to speak, in microseconds.
    lasted: i64,
}

/// Plays one track.
#[derive(Debug)]
pub struct Player {
    jitter: Jitter,
    decoder: Decoder,
    noise: Noise,
    samples: Vec<i16>,
    pieces: VecDeque<Piece>,
    /// How much of the decoder's own continuation is heard, 1 to 0; the rest is noise.
    voice: f32,
    /// Samples made up in a row.
    made_up: usize,
}

fn micros(samples: usize) -> i64 {
    i64::try_from(samples).unwrap_or(0) * 1_000 / 48
}

impl Player {
    /// Of a track of which nothing came yet.
    pub fn new() -> Result<Self, Fault> {
        Ok(Self {
            jitter: Jitter::new(),
            decoder: Decoder::new()?,
            noise: Noise::default(),
            samples: Vec::new(),
            pieces: VecDeque::new(),
            voice: 1.0,
            made_up: 0,
        })
    }

    /// Takes a packet.
    pub fn push(&mut self, now: Now, packet: AudioPacket) {
        self.jitter.push(now, packet);
    }

    /// What became of the time so far.
    pub const fn ledger(&self) -> Ledger {
        self.jitter.ledger()
    }

    /// How long sound is to wait.
    pub fn target(&self) -> Duration {
        self.jitter.target()
    }

    /// The next 20 ms, which are played now.
    pub fn pull(&mut self, now: Now) -> Block {
        while self.samples.len() < SOUND_FRAME {
            match self.step(now) {
                Pace::Even => {}
                pace => self.stretch(now, pace),
            }
        }
        let front = self.pieces.front();
        let (captured, kind) = front.map_or((None, SoundKind::Silence), |piece| {
            (piece.captured, piece.kind)
        });
        let rest = self.samples.split_off(SOUND_FRAME);
        let samples = std::mem::replace(&mut self.samples, rest);
        self.played(SOUND_FRAME);
        Block {
            samples,
            captured,
            kind,
        }
    }

    /// Forgets so many samples at the begin.
    fn played(&mut self, mut samples: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            if piece.samples > samples {
                let share = piece.lasted * i64::try_from(samples).unwrap_or(0)
                    / i64::try_from(piece.samples).unwrap_or(1);
                piece.captured = piece.captured.map(|captured| captured.shift(share));
                piece.lasted -= share;
                piece.samples -= samples;
                return;
            }
            samples -= piece.samples;
            self.pieces.pop_front();
        }
    }

    fn left(&self) -> Duration {
        Duration::from_micros(u64::try_from(micros(self.samples.len())).unwrap_or(0))
    }

    /// Takes one step of the buffer; whether to stretch.
    fn step(&mut self, now: Now) -> Pace {
        match self.jitter.pull(now, self.left()) {
            Step::Play {
                captured,
                data,
                pace,
                torn,
            } => {
                if torn {
                    self.voice = 0.0;
                }
                match self.decoder.any(&data) {
                    Some(samples) => self.heard(samples, captured, SoundKind::Packet),
                    None => self.continued(Some(captured), SoundKind::Concealed),
                }
                return pace;
            }
            Step::Rebuild { captured, data } => {
                let samples = self.decoder.rebuild(&data);
                self.heard(samples, captured, SoundKind::Rebuilt);
            }
            Step::Conceal { captured } => self.continued(Some(captured), SoundKind::Concealed),
            Step::Quiet { captured } => self.continued(captured, SoundKind::Quiet),
            Step::Nothing => self.add(vec![0; SOUND_FRAME], None, SoundKind::Silence),
        }
        Pace::Even
    }

    fn add(&mut self, samples: Vec<i16>, captured: Option<Timestamp>, kind: SoundKind) {
        self.pieces.push_back(Piece {
            samples: samples.len(),
            kind,
            captured,
            lasted: micros(samples.len()),
        });
        self.samples.extend_from_slice(&samples);
    }

    /// Sound of the other end: it takes over from what was made up.
    fn heard(&mut self, mut samples: Vec<i16>, captured: Timestamp, kind: SoundKind) {
        self.noise.learn(&samples);
        if self.voice < 1.0 {
            let noise = self.noise.make(EDGE.1);
            for (n, (sample, noise)) in samples.iter_mut().zip(noise).enumerate() {
                let share = (n as f32 + 0.5) / EDGE.1 as f32;
                let share = share + (1.0 - share) * self.voice;
                *sample = mix(*sample, noise, share);
            }
        }
        (self.voice, self.made_up) = (1.0, 0);
        self.add(samples, Some(captured), kind);
    }

    /// 20 ms that continue what was heard and fade to noise: slowly where something is
    /// missing, soon where a pause begins.
    fn continued(&mut self, captured: Option<Timestamp>, kind: SoundKind) {
        let mut samples = self.noise.make(SOUND_FRAME);
        if self.voice > 0.0 {
            let fall = match kind {
                SoundKind::Quiet => 1.0 / EDGE.0,
                _ => 1.0 / FADE,
            };
            let voice = self.decoder.conceal();
            for (sample, voice) in samples.iter_mut().zip(voice) {
                self.made_up += 1;
                if kind == SoundKind::Quiet || self.made_up > SOUND_FRAME {
                    self.voice = (self.voice - fall).max(0.0);
                }
                *sample = mix(voice, *sample, self.voice);
            }
        }
        self.add(samples, captured, kind);
    }

    /// Makes what is not yet played shorter or longer.
    fn stretch(&mut self, now: Now, pace: Pace) {
        let ease = Ease {
            quiet: self.noise.floor() * 2.0,
            hurry: pace == Pace::Hurry,
        };
        if pace == Pace::Slower {
            if let Some(splice) = stretch::slower(&mut self.samples, ease) {
                self.spliced(splice, true);
            }
            return;
        }
        while self.samples.len() < ROOM && self.jitter.ready() {
            self.step(now);
        }
        let times = if ease.hurry { 2 } else { 1 };
        for _ in 0..times {
            if let Some(splice) = stretch::faster(&mut self.samples, ease) {
                self.spliced(splice, false);
            }
        }
    }

    /// The pieces follow a splice.
    fn spliced(&mut self, splice: Splice, longer: bool) {
        let (mut before, mut rest) = (0, splice.samples);
        for piece in &mut self.pieces {
            let end = before + piece.samples;
            if end > splice.at {
                if longer {
                    piece.samples += rest;
                    rest = 0;
                } else {
                    // a piece keeps a sample, and with it its time
                    let some = rest.min(piece.samples.saturating_sub(1));
                    piece.samples -= some;
                    rest -= some;
                }
            }
            if rest == 0 {
                break;
            }
            before = end;
        }
        let change = micros(splice.samples);
        self.jitter.stretched(if longer { change } else { -change });
    }
}

/// So much of one, the rest of the other.
fn mix(one: i16, other: i16, share: f32) -> i16 {
    (f32::from(one) * share + f32::from(other) * (1.0 - share)).round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{file, mp4};
    use crate::clock::Clock;
    use crate::encode::opus::Encoder;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Packets of a real voice with their sequence numbers, as a sender makes them.
    fn packets(seconds: usize) -> Vec<(u64, i64, Vec<u8>)> {
        let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/clips/officer.mp4");
        let movie = mp4::read(&file::bytes(clip.as_ref()).unwrap()).unwrap();
        let samples = movie.sound.unwrap().decode().unwrap();
        let mut encoder = Encoder::live().unwrap();
        let frames = samples.chunks_exact(SOUND_FRAME).take(seconds * 50);
        let spoken = (0..)
            .zip(frames)
            .filter_map(|(n, frame)| Some((n, encoder.speak(frame)?)));
        let spoken: Vec<(u64, Vec<u8>)> = spoken.collect();
        (0..)
            .zip(spoken)
            .map(|(sequence, (n, data))| (n * 20, sequence, data))
            .collect()
    }

    /// Plays packets that arrive by `way` ms after their capture (`None`: never); blocks by time in ms.
    fn play(
        packets: &[(u64, i64, Vec<u8>)],
        way: impl Fn(u64) -> Option<u64>,
    ) -> (Vec<(u64, Block)>, Ledger, Now) {
        let start = Clock::start().now();
        let mut player = Player::new().unwrap();
        let mut arrivals: Vec<_> = packets
            .iter()
            .filter_map(|packet| Some((packet.0 + way(packet.0)?, packet)))
            .collect();
        arrivals.sort();
        let mut arrivals = arrivals.into_iter().peekable();
        let end = packets.last().unwrap().0;
        let mut blocks = Vec::new();
        for at in (7..end).step_by(20) {
            while let Some((at, (captured, sequence, data))) =
                arrivals.next_if(|(then, _)| *then <= at)
            {
                player.push(
                    start.after(MS(at)),
                    AudioPacket {
                        sequence: *sequence,
                        captured: start.utc + MS(*captured),
                        data: data.clone().into(),
                    },
                );
            }
            blocks.push((at, player.pull(start.after(MS(at)))));
        }
        (blocks, player.ledger(), start)
    }

    /// Played − captured in ms of every block that has a capture time.
    fn delays(blocks: &[(u64, Block)], start: Now) -> Vec<f64> {
        let delay = |(at, block): &(u64, Block)| {
            let captured = block.captured?.micros_since(start.utc) as f64 / 1_000.0;
            Some(*at as f64 - captured)
        };
        blocks.iter().filter_map(delay).collect()
    }

    // covers: SUORA-MED-012, SUORA-MED-041
    #[test]
    fn capture_times_follow_a_voice_while_it_is_stretched() {
        // two seconds of calm, three in which every tenth packet is late, and calm again
        let way = |at: u64| {
            Some(if (2_000..5_000).contains(&at) && at.is_multiple_of(200) {
                110
            } else {
                30
            })
        };
        let (blocks, ledger, start) = play(&packets(10), way);
        assert!(
            ledger.faster > MS(20) || ledger.slower > MS(20),
            "{ledger:?}"
        );
        assert_eq!(ledger.skipped, Duration::ZERO);
        let delays = delays(&blocks, start);
        let changed = delays[delays.len() - 1] - delays[0];
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        // what was made up while nothing was there was won as well, and pauses are cut or drawn out
        let won = ms(ledger.slower) - ms(ledger.faster);
        let other = ms(ledger.concealed) + 60.0;
        assert!(
            (won - 60.0..=won + other).contains(&changed),
            "{changed} {ledger:?}"
        );
        // from one block to the next no more than a period of the voice at a time
        let step = |two: &[f64]| (two[1] - two[0]).abs();
        let most = delays.windows(2).map(step).fold(0.0, f64::max);
        assert!(most <= 45.0, "{most}");
    }

    #[test]
    fn what_is_missing_is_heard_as_if_it_were_there_and_silence_follows_a_voice_that_is_gone() {
        let packets = packets(6);
        let (whole, ..) = play(&packets, |_| Some(30));
        let (holes, ledger, _) = play(&packets, |at| (!at.is_multiple_of(140)).then_some(30));
        assert!(ledger.rebuilt > ledger.concealed, "{ledger:?}");
        let loud = |blocks: &[(u64, Block)]| {
            let samples = blocks.iter().flat_map(|(_, block)| block.samples.iter());
            samples
                .map(|sample| f64::from(*sample).powi(2))
                .sum::<f64>()
        };
        let ratio = loud(&holes) / loud(&whole);
        assert!((0.8..1.2).contains(&ratio), "{ratio}");
        let (gone, ..) = play(&packets, |at| (at < 3_000).then_some(30));
        let end = &gone[gone.len() - 50..];
        let peak = end.iter().flat_map(|(_, block)| block.samples.iter());
        let peak = peak.map(|sample| sample.unsigned_abs()).max().unwrap();
        assert!(peak < 3_000, "{peak}");
        assert!(end.iter().all(|(_, block)| block.kind == SoundKind::Quiet));
    }

    #[test]
    fn a_damaged_packet_is_concealed() {
        let mut packets = packets(3);
        for packet in packets.iter_mut().skip(50).step_by(10) {
            packet.2 = vec![0xff; 40];
        }
        let (blocks, ..) = play(&packets, |_| Some(30));
        assert!(
            blocks
                .iter()
                .all(|(_, block)| block.samples.len() == SOUND_FRAME)
        );
    }
}
