//! Mono sound from one rate into another, as it comes.

use std::time::Duration;

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler};

/// How long so many samples last.
pub fn lasts(samples: usize, rate: u32) -> Duration {
    Duration::from_secs(1) * u32::try_from(samples).unwrap_or(u32::MAX) / rate
}

/// A running resampler; where both rates are the same it passes everything through.
pub struct Resample {
    fft: Option<Fft<f32>>,
    rates: (u32, u32),
    waiting: Vec<f32>,
    made: Vec<f32>,
}

impl std::fmt::Debug for Resample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resample({} → {})", self.rates.0, self.rates.1)
    }
}

impl Resample {
    /// From one rate into another, both 8 to 192 kHz, in steps of 10 ms; an error names what
    /// cannot be done.
    pub fn new(from: u32, to: u32) -> Result<Self, String> {
        let range = 8_000..=192_000;
        if !range.contains(&from) || !range.contains(&to) {
            return Err(format!("{from} Hz into {to} Hz: 8 to 192 kHz can be used"));
        }
        let fft = if from == to {
            None
        } else {
            let chunk = (from / 100) as usize;
            let fft = Fft::new(from as usize, to as usize, chunk, 1, FixedSync::Input);
            Some(fft.map_err(|error| format!("{from} Hz into {to} Hz: {error}"))?)
        };
        Ok(Self {
            fft,
            rates: (from, to),
            waiting: Vec::new(),
            made: Vec::new(),
        })
    }

    /// The rates of what goes in and of what comes out.
    pub const fn rates(&self) -> (u32, u32) {
        self.rates
    }

    /// Samples of the rate of what comes out by which it lies behind what goes in, beside
    /// what waits for a whole step.
    pub fn delay(&self) -> usize {
        self.fft.as_ref().map_or(0, Resampler::output_delay)
    }

    /// Samples of the rate of what goes in that wait for a whole step.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes samples and adds what comes of them to `out`.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        let Some(fft) = &mut self.fft else {
            out.extend_from_slice(samples);
            return;
        };
        self.waiting.extend_from_slice(samples);
        loop {
            let need = fft.input_frames_next();
            if self.waiting.len() < need {
                return;
            }
            self.made.resize(fft.output_frames_max(), 0.0);
            let space = self.made.len();
            let done = InterleavedSlice::new(self.waiting.as_slice(), 1, need)
                .ok()
                .zip(InterleavedSlice::new_mut(self.made.as_mut_slice(), 1, space).ok())
                .and_then(|(input, mut output)| {
                    fft.process_into_buffer(&input, &mut output, None).ok()
                });
            let (used, made) = done.unwrap_or((need, 0));
            self.waiting.drain(..used.clamp(1, need));
            out.extend_from_slice(self.made.get(..made).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, seconds: f32) -> Vec<f32> {
        (0..(rate as f32 * seconds) as u32)
            .map(|at| (at as f32 / rate as f32 * 1_000.0 * std::f32::consts::TAU).sin())
            .collect()
    }

    #[test]
    fn a_tone_keeps_its_pitch_and_height_in_any_portions() {
        for (from, to) in [
            (44_100, 48_000),
            (16_000, 48_000),
            (96_000, 48_000),
            (48_000, 44_100),
            (48_000, 48_000),
        ] {
            let mut resample = Resample::new(from, to).unwrap();
            let mut out = Vec::new();
            let tone = tone(from, 2.0);
            for (n, portion) in tone.chunks(333).enumerate() {
                resample.push(portion, &mut out);
                // nothing is held back but a step and the delay
                let given = (n * 333 + portion.len()) as f64 * f64::from(to) / f64::from(from);
                assert!(
                    given - (out.len() as f64) < f64::from(to / 50),
                    "{from} → {to}"
                );
            }
            let steady = &out[to as usize / 2..];
            let crossings = steady
                .windows(2)
                .filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0)
                .count();
            let seconds = steady.len() as f32 / to as f32;
            assert!((crossings as f32 / seconds - 1_000.0).abs() < 2.0);
            let peak = steady.iter().fold(0.0_f32, |peak, s| peak.max(s.abs()));
            assert!((0.95..1.05).contains(&peak), "{from} → {to}: {peak}");
        }
    }

    #[test]
    fn the_delay_is_what_it_says() {
        for (from, to) in [(44_100, 48_000), (16_000, 48_000), (48_000, 44_100)] {
            let mut resample = Resample::new(from, to).unwrap();
            let mut click = vec![0.0; from as usize];
            click[from as usize / 2] = 1.0;
            let mut out = Vec::new();
            resample.push(&click, &mut out);
            let peak = (0..out.len())
                .max_by(|a, b| out[*a].abs().total_cmp(&out[*b].abs()))
                .unwrap();
            let delay = peak.abs_diff(to as usize / 2);
            assert!(delay.abs_diff(resample.delay()) <= 4, "{from}: {delay}");
        }
    }

    #[test]
    fn rates_out_of_range_are_refused() {
        assert!(Resample::new(4_000, 48_000).is_err());
        assert!(Resample::new(48_000, 0).is_err());
    }
}
