//! The Opus encoder of a voice: 20 ms a packet, mono, 48 kHz.

use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::SOUND_FRAME;
use suora_protocol::media::allot::SOUND;
use suora_protocol::media::opus::is_pause;

/// The redundancy is made for this loss before any was measured, in per cent.
const LOSS: u8 = 5;
/// Marks of a pause that are sent before packets are left out.
const MARKS: u32 = 2;
/// Longest packet that the encoder may make.
const PACKET_MAX: usize = 1_275;

/// An encoder of one track.
#[derive(Debug)]
pub struct Encoder {
    opus: opus::Encoder,
    /// Bits a second.
    bitrate: u32,
    loss: u8,
    /// Marks of the pause that is now.
    marks: u32,
    /// Silence is sent like speech.
    silence: bool,
}

fn fault(error: opus::Error) -> Fault {
    Fault::new(Code::Internal).with(format!("Opus encoder: {error}"))
}

impl Encoder {
    /// An encoder of all of a track: speech, 32 kbit/s.
    pub fn new() -> Result<Self, Fault> {
        let new = || {
            let mut encoder =
                opus::Encoder::new(48_000, opus::Channels::Mono, opus::Application::Voip)?;
            encoder.set_signal(opus::Signal::Voice)?;
            Ok(encoder)
        };
        let mut encoder = Self {
            opus: new().map_err(fault)?,
            bitrate: 0,
            loss: 0,
            marks: 0,
            silence: false,
        };
        encoder.set_bitrate(SOUND);
        Ok(encoder)
    }

    /// The same for a network: with in-band FEC, and with [`Self::speak`] without pauses.
    pub fn live() -> Result<Self, Fault> {
        let mut encoder = Self::new()?;
        let opus = &mut encoder.opus;
        opus.set_inband_fec(true)
            .and_then(|()| opus.set_dtx(true))
            .map_err(fault)?;
        encoder.set_loss(LOSS);
        Ok(encoder)
    }

    /// From now on so many bits a second.
    pub fn set_bitrate(&mut self, bits_per_second: u32) {
        if bits_per_second != self.bitrate {
            let bits = i32::try_from(bits_per_second).unwrap_or(i32::MAX);
            match self.opus.set_bitrate(opus::Bitrate::Bits(bits)) {
                Ok(()) => self.bitrate = bits_per_second,
                Err(error) => tracing::error!(%error, "cannot set the bitrate of sound"),
            }
        }
    }

    /// From now on the redundancy is for so many per cent of loss.
    pub fn set_loss(&mut self, percent: u8) {
        let percent = percent.clamp(LOSS, 100);
        if percent.abs_diff(self.loss) > 1 {
            match self.opus.set_packet_loss_perc(percent.into()) {
                Ok(()) => self.loss = percent,
                Err(error) => tracing::error!(%error, "cannot set the loss"),
            }
        }
    }

    /// From now on silence is sent like speech: there are no pauses.
    pub fn send_silence(&mut self) {
        if !self.silence {
            match self.opus.set_dtx(false) {
                Ok(()) => self.silence = true,
                Err(error) => tracing::error!(%error, "cannot send silence"),
            }
        }
    }

    /// The packet of 960 samples, if it is to be sent: of a pause only the first two marks
    /// are, and what refreshes it, unless silence is sent like speech.
    pub fn speak(&mut self, samples: &[i16]) -> Option<Vec<u8>> {
        let packet = self.encode(samples)?;
        if self.silence {
            return Some(packet);
        }
        if is_pause(&packet) {
            self.marks += 1;
        } else {
            self.marks = 0;
        }
        (self.marks <= MARKS).then_some(packet)
    }

    /// One packet of 960 samples; `None`, and a line in the log, where the library refuses.
    pub fn encode(&mut self, samples: &[i16]) -> Option<Vec<u8>> {
        debug_assert_eq!(samples.len(), SOUND_FRAME);
        match self.opus.encode_vec(samples, PACKET_MAX) {
            Ok(packet) => Some(packet),
            Err(error) => {
                tracing::error!(%error, "cannot encode sound");
                None
            }
        }
    }

    /// Samples by which what comes out lies behind what went in.
    pub fn lookahead(&mut self) -> usize {
        self.opus
            .get_lookahead()
            .ok()
            .and_then(|samples| usize::try_from(samples).ok())
            .unwrap_or(312)
    }
}

#[cfg(test)]
mod tests {
    use suora_protocol::limits::DATAGRAM_MAX;
    use suora_protocol::media::jitter::FRAME;
    use suora_protocol::media::opus::{has_fec, samples};
    use suora_protocol::media::sender::{Input, Output, Sender};
    use suora_protocol::media::{EncodedFrame, Kind, flow, rtp};

    use super::*;
    use crate::capture::{file, mp4};
    use crate::clock::Clock;

    fn speech() -> Vec<i16> {
        let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/clips/officer.mp4");
        let movie = mp4::read(&file::bytes(clip.as_ref()).unwrap()).unwrap();
        movie.sound.unwrap().decode().unwrap()
    }

    // covers: SUORA-MED-006, SUORA-MED-042
    #[test]
    fn speech_brings_its_redundancy_and_silence_is_left_out_behind_two_marks() {
        let mut encoder = Encoder::live().unwrap();
        encoder.set_loss(10);
        let mut speech = speech();
        speech.truncate(5 * 48_000);
        let mut packets: Vec<_> = speech
            .chunks_exact(960)
            .map(|frame| encoder.speak(frame))
            .collect();
        let spoken = packets.iter().flatten().count();
        let guarded = packets.iter().flatten().filter(|packet| has_fec(packet));
        assert!(guarded.count() * 2 > spoken, "of {spoken}");
        packets.clear();
        for _ in 0..150 {
            packets.push(encoder.speak(&[0; 960]));
        }
        let pause = &packets[50..];
        let sent: Vec<_> = pause.iter().map(Option::is_some).collect();
        assert!(pause.iter().flatten().count() <= 20, "{sent:?}");
        assert!(pause.iter().flatten().any(|packet| is_pause(packet)));
        assert!(pause.iter().flatten().any(|packet| !is_pause(packet)));
        // never longer than 420 ms without one
        let longest = sent.split(|sent| *sent).map(<[bool]>::len).max().unwrap();
        assert!(longest <= 20, "{longest}");
    }

    // covers: SUORA-SEC-280
    #[test]
    fn at_a_sensitive_desk_silence_is_sent_like_speech_and_all_packets_have_whole_steps() {
        let mut encoder = Encoder::live().unwrap();
        encoder.send_silence();
        let mut sounds = speech();
        sounds.truncate(5 * 48_000);
        let spoken = sounds.len() / SOUND_FRAME;
        sounds.resize(8 * 48_000, 0);
        let start = Clock::start().now();
        let mut sender = Sender::new(0, [1, 2]);
        sender.handle_input(start, Input::Pad).unwrap();
        sender.handle_input(start, Input::Open).unwrap();
        let (mut sent, mut lengths) = (0, Vec::new());
        for (number, samples) in (0_u32..).zip(sounds.chunks_exact(SOUND_FRAME)) {
            let data = encoder.speak(samples).expect("50 packets a second");
            let now = start.after(FRAME * number);
            let frame = EncodedFrame {
                kind: Kind::Audio,
                captured: now.utc,
                data: data.clone().into(),
                keyframe: true,
                width: 0,
                height: 0,
                duration: FRAME,
            };
            sender.handle_input(now, Input::Frame(frame)).unwrap();
            loop {
                match sender.poll_output() {
                    Output::Datagram(bytes) => {
                        let (_, packet) = flow::datagram(&bytes).unwrap();
                        assert_eq!(rtp::read(packet).unwrap().payload, data);
                        assert!(packet.len() <= DATAGRAM_MAX);
                        lengths.push(packet.len());
                        sent += 1;
                    }
                    Output::Wait(..) => break,
                    _ => {}
                }
            }
        }
        assert_eq!(sent, 8 * 50);
        // behind a header of 28 bytes
        assert!(lengths.iter().all(|len| (len - 28) % rtp::STEP == 0));
        let most = |of: &[usize]| of.iter().copied().max().unwrap();
        let silent = &lengths[spoken + 25..];
        assert!(most(silent) < most(&lengths[..spoken]), "{lengths:?}");
        // the control: otherwise hardly a packet of the silence leaves
        let mut encoder = Encoder::live().unwrap();
        let left = (0..150).filter_map(|_| encoder.speak(&[0; SOUND_FRAME]));
        assert!(left.count() < 75);
    }

    #[test]
    fn speech_becomes_thinner_while_it_is_spoken() {
        let mut encoder = Encoder::live().unwrap();
        let speech = speech();
        let bytes = [SOUND, SOUND / 2, SOUND].map(|bitrate| {
            encoder.set_bitrate(bitrate);
            let packets = speech
                .chunks_exact(SOUND_FRAME)
                .filter_map(|frame| encoder.speak(frame));
            packets.map(|packet| packet.len()).sum::<usize>()
        });
        assert!(
            bytes[1] * 3 < bytes[0] * 2 && bytes[2] * 4 > bytes[0] * 3,
            "{bytes:?}"
        );
    }

    #[test]
    fn a_packet_is_20_ms_and_within_its_bitrate() {
        let mut encoder = Encoder::new().unwrap();
        let mut bytes = 0;
        for n in 0..250_i32 {
            let speech: Vec<i16> = (0..960)
                .map(|at| ((n * 960 + at) * (n % 7 + 3) % 8_000 - 4_000) as i16)
                .collect();
            let packet = encoder.encode(&speech).unwrap();
            assert_eq!(samples(&packet), Some(960));
            bytes += packet.len();
        }
        // five seconds
        assert!((10_000..25_000).contains(&bytes), "{bytes}");
        assert_eq!(encoder.lookahead(), 312);
    }
}
