//! WebRTC's audio processing at 48 kHz, mono.

use sonora::config::{
    AdaptiveDigital, EchoCanceller, GainController2, HighPassFilter, MaxProcessingRate,
    NoiseSuppression, Pipeline,
};
use sonora::{AudioProcessing, Config, StreamConfig};

use super::{Clean, Parts};
use crate::devices::reference::{BLOCK, Block};

/// Samples by which the filters delay sound, whatever else is done; as measured, like those
/// below, by a test on noise.
const FILTERS: usize = 46;
/// Samples more by which the echo canceller does, once before and once more from the first
/// sound that was played.
const ECHO: usize = 192;
/// Samples more by which noise suppression does.
const NOISE: usize = 288;

/// The processing of one microphone.
#[derive(Debug)]
pub(super) struct Apm {
    apm: AudioProcessing,
    parts: Parts,
    played: bool,
    out: Block,
}

impl Apm {
    /// Fresh: it has learnt nothing of the room yet.
    pub(super) fn new(parts: Parts) -> Self {
        let config = Config {
            pipeline: Pipeline {
                // 32 kHz would take the top of the voice away
                maximum_internal_processing_rate: MaxProcessingRate::Rate48kHz,
                multi_channel_render: false,
                multi_channel_capture: false,
                ..Pipeline::default()
            },
            high_pass_filter: Some(HighPassFilter::default()),
            echo_canceller: parts.echo.then(EchoCanceller::default),
            noise_suppression: parts.noise.then(NoiseSuppression::default),
            gain_controller2: parts.gain.then(|| GainController2 {
                adaptive_digital: Some(AdaptiveDigital {
                    // a voice at arm's length; more than this raises the room
                    max_gain_db: 30.0,
                    initial_gain_db: 6.0,
                    ..AdaptiveDigital::default()
                }),
                ..GainController2::default()
            }),
            ..Config::default()
        };
        let stream = StreamConfig::new(48_000, 1);
        let apm = AudioProcessing::builder()
            .config(config)
            .capture_config(stream)
            .render_config(stream)
            .build();
        Self {
            apm,
            parts,
            played: false,
            out: [0.0; BLOCK],
        }
    }
}

impl Clean for Apm {
    fn played(&mut self, block: &Block) {
        self.played = true;
        let done = self.apm.process_render_f32(&[block], &mut [&mut self.out]);
        if let Err(error) = done {
            tracing::debug!(%error, "the echo canceller does not take what was played");
        }
    }

    fn heard(&mut self, block: &mut Block) {
        match self.apm.process_capture_f32(&[block], &mut [&mut self.out]) {
            Ok(()) => *block = self.out,
            Err(error) => tracing::debug!(%error, "sound stays as it was heard"),
        }
    }

    fn delay(&self) -> usize {
        let Parts { echo, noise, .. } = self.parts;
        FILTERS
            + ECHO * usize::from(echo) * (1 + usize::from(self.played))
            + NOISE * usize::from(noise)
    }
}
