//! WAV: sound of any rate and number of channels becomes mono at 48 kHz.

use std::path::Path;

use hound::{SampleFormat, WavReader};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler};

use super::file::SOUND_MAX;

/// The samples of a file.
pub fn read(path: &Path) -> Result<Vec<i16>, String> {
    let mut reader = WavReader::open(path).map_err(|error| error.to_string())?;
    let spec = reader.spec();
    if !(8_000..=192_000).contains(&spec.sample_rate) || !(1..=16).contains(&spec.channels) {
        return Err(format!(
            "has {} channels at {} Hz; 1 to 16 at 8 to 192 kHz can be used",
            spec.channels, spec.sample_rate
        ));
    }
    if u64::from(reader.duration()) * 48_000 > SOUND_MAX as u64 * u64::from(spec.sample_rate) {
        return Err("is longer than ten minutes; cut it".into());
    }
    let channels = usize::from(spec.channels);
    let mut mono = Vec::new();
    let mut sum = 0.0;
    let mut add = |at: usize, sample: f32| {
        sum += sample;
        if at % channels == channels - 1 {
            mono.push(sum / channels as f32);
            sum = 0.0;
        }
    };
    match spec.sample_format {
        SampleFormat::Float => {
            for (at, sample) in reader.samples::<f32>().enumerate() {
                add(at, sample.map_err(|error| error.to_string())?);
            }
        }
        SampleFormat::Int => {
            let full = (1_u64 << spec.bits_per_sample.clamp(1, 32).saturating_sub(1)) as f32;
            for (at, sample) in reader.samples::<i32>().enumerate() {
                add(at, sample.map_err(|error| error.to_string())? as f32 / full);
            }
        }
    }
    resample(&mono, spec.sample_rate)
}

/// Mono sound of −1 to 1 at another rate, at 48 kHz.
fn resample(mono: &[f32], rate: u32) -> Result<Vec<i16>, String> {
    let whole = |sample: &f32| (sample * 32_767.0).clamp(-32_768.0, 32_767.0) as i16;
    if rate == 48_000 || mono.is_empty() {
        return Ok(mono.iter().map(whole).collect());
    }
    let run = || -> Result<Vec<f32>, Box<dyn std::error::Error>> {
        let mut fft = Fft::<f32>::new(rate as usize, 48_000, 1_024, 1, FixedSync::Both)?;
        let input = InterleavedSlice::new(mono, 1, mono.len())?;
        Ok(fft.process_all(&input, mono.len(), None)?.take_data())
    };
    let samples = run().map_err(|error| format!("cannot be resampled: {error}"))?;
    Ok(samples.iter().map(whole).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tone(rate: u32, channels: u16, bits: u16, seconds: f32) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let spec = hound::WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: bits,
            sample_format: if bits == 32 {
                SampleFormat::Float
            } else {
                SampleFormat::Int
            },
        };
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        for at in 0..(rate as f32 * seconds) as u32 {
            let turn = at as f32 / rate as f32 * 440.0 * std::f32::consts::TAU;
            for _ in 0..channels {
                if bits == 32 {
                    writer.write_sample(turn.sin() * 0.5).unwrap();
                } else {
                    let full = (1_i64 << (bits - 1)) as f32;
                    writer
                        .write_sample((turn.sin() * 0.5 * full) as i32)
                        .unwrap();
                }
            }
        }
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    fn read_bytes(bytes: &[u8]) -> Result<Vec<i16>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read(file.path())
    }

    #[test]
    fn any_rate_and_number_of_channels_becomes_mono_at_48_khz() {
        for (rate, channels, bits) in [
            (48_000, 1, 16),
            (44_100, 2, 16),
            (16_000, 1, 24),
            (96_000, 6, 32),
            (8_000, 1, 8),
        ] {
            let samples = read_bytes(&tone(rate, channels, bits, 1.0)).unwrap();
            assert!(samples.len().abs_diff(48_000) < 10, "{}", samples.len());
            // 440 Hz crosses zero 880 times a second, and starts without delay
            let crossings = samples
                .windows(2)
                .filter(|pair| pair[0] < 0 && pair[1] >= 0)
                .count();
            assert!(crossings.abs_diff(440) <= 2, "{rate}: {crossings}");
            let peak = samples.iter().map(|sample| sample.abs()).max().unwrap();
            assert!((15_000..18_500).contains(&peak), "{rate}: {peak}");
        }
    }

    #[test]
    fn a_file_of_more_than_ten_minutes_is_refused() {
        let bytes = tone(8_000, 1, 8, 601.0);
        assert!(read_bytes(&bytes).unwrap_err().contains("ten minutes"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_files_do_no_harm(at in 0_usize..80, byte: u8, cut in 0_usize..400) {
            let mut bytes = tone(44_100, 2, 16, 0.01);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            let _ = read_bytes(&bytes);
        }
    }
}
