//! The Opus encoder of a voice: 20 ms a packet, mono, 48 kHz.

use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::SOUND_FRAME;

/// Bits a second.
const BITRATE: i32 = 32_000;
/// The loss that the in-band redundancy is sized for, in percent.
const LOSS: i32 = 10;
/// Longest packet that the encoder may make.
const PACKET_MAX: usize = 1_275;

/// An encoder of one track.
#[derive(Debug)]
pub struct Encoder(opus::Encoder);

impl Encoder {
    /// An encoder: speech, 32 kbit/s, in-band FEC.
    pub fn new() -> Result<Self, Fault> {
        let new = || {
            let mut encoder =
                opus::Encoder::new(48_000, opus::Channels::Mono, opus::Application::Voip)?;
            encoder.set_bitrate(opus::Bitrate::Bits(BITRATE))?;
            encoder.set_signal(opus::Signal::Voice)?;
            encoder.set_inband_fec(true)?;
            encoder.set_packet_loss_perc(LOSS)?;
            Ok(Self(encoder))
        };
        new().map_err(|error: opus::Error| {
            Fault::new(Code::Internal).with(format!("Opus encoder: {error}"))
        })
    }

    /// One packet of 960 samples; `None`, and a line in the log, where the library refuses.
    pub fn encode(&mut self, samples: &[i16]) -> Option<Vec<u8>> {
        debug_assert_eq!(samples.len(), SOUND_FRAME);
        match self.0.encode_vec(samples, PACKET_MAX) {
            Ok(packet) => Some(packet),
            Err(error) => {
                tracing::error!(%error, "cannot encode sound");
                None
            }
        }
    }

    /// Samples by which what comes out lies behind what went in.
    pub fn lookahead(&mut self) -> usize {
        self.0
            .get_lookahead()
            .ok()
            .and_then(|samples| usize::try_from(samples).ok())
            .unwrap_or(312)
    }
}

#[cfg(test)]
mod tests {
    use suora_protocol::media::opus::samples;

    use super::*;

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
