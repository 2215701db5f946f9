//! DOOR: microphones and loudspeakers, by ALSA. A sound server (PipeWire, PulseAudio) is
//! there as a device of ALSA too; `default` is what the system has chosen.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alsa::Output;
use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    BufferSize, Data, ErrorKind, InputCallbackInfo, OutputCallbackInfo, SampleFormat, Stream,
    StreamConfig, SupportedStreamConfigRange,
};

use super::{Event, Fill, Heard, Named, Open, Opened, Sounds, Trouble, Wanted, Why};
use crate::clock::Clock;

/// The rate of the protocol; a device that has it needs no resampling.
const RATE: u32 = 48_000;
/// How long a period of a device should be.
const PERIOD: Duration = Duration::from_millis(10);

/// Names of ALSA that stand for no device, or for one that is listed by another name.
const PLUGINS: &[&str] = &[
    "null",
    "hw",
    "dmix",
    "dsnoop",
    "front",
    "rear",
    "center_lfe",
    "side",
    "surround21",
    "surround40",
    "surround41",
    "surround50",
    "surround51",
    "surround71",
    "iec958",
    "spdif",
    "hdmi",
    "modem",
    "phoneline",
    "usbstream",
    "lavrate",
    "samplerate",
    "speexrate",
    "speex",
    "jack",
    "oss",
    "upmix",
    "vdownmix",
    "sysdefault",
];

/// What a device is called, or that it is not to be listed.
fn name(id: &str, description: &str) -> Option<String> {
    let plugin = id.split(':').next().unwrap_or(id);
    if PLUGINS.contains(&plugin) {
        return None;
    }
    let first = description.lines().next().unwrap_or_default().trim();
    Some(match plugin {
        "default" => "Default".into(),
        "pipewire" => "PipeWire".into(),
        "pulse" => "PulseAudio".into(),
        _ if first.is_empty() => id.into(),
        _ => first.into(),
    })
}

/// The order of a list: what the system chose, sound servers, cards.
fn order(id: &str) -> u8 {
    match id {
        "default" => 0,
        "pipewire" => 1,
        "pulse" => 2,
        _ => 3,
    }
}

/// From here on ALSA does not write to the terminal on this thread.
fn quiet() {
    if let Err(error) = Output::local_error_handler() {
        tracing::debug!(%error, "ALSA writes to the terminal");
    }
}

fn trouble(error: &cpal::Error) -> Trouble {
    let why = match error.kind() {
        ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable => Why::Gone,
        ErrorKind::DeviceBusy => Why::Busy,
        ErrorKind::PermissionDenied => Why::Denied,
        _ => Why::Broken,
    };
    Trouble::new(why, error)
}

/// Microphones, then loudspeakers.
pub(super) fn list() -> Result<(Vec<Named>, Vec<Named>), Trouble> {
    quiet();
    let host = cpal::default_host();
    let (mut microphones, mut speakers) = (Vec::new(), Vec::new());
    let mut devices: Vec<_> = host
        .devices()
        .map_err(|error| trouble(&error))?
        .filter_map(|device| {
            let id = device.id().ok()?.id().to_string();
            let description = device.description().ok()?;
            let text: Vec<_> = description.extended().collect();
            Some((name(&id, &text.join("\n"))?, id, device))
        })
        .collect();
    devices.sort_by_key(|(_, id, _)| order(id));
    for (name, id, device) in devices {
        // a card is listed by its name and again by its number
        let new = |list: &[Named]| {
            let twin = |named: &Named| named.name == name && number(&named.id) != number(&id);
            !list.iter().any(twin)
        };
        let named = Named {
            name: name.clone(),
            id: id.clone(),
        };
        if device.supports_input() && new(&microphones) {
            microphones.push(named.clone());
        }
        if device.supports_output() && new(&speakers) {
            speakers.push(named);
        }
    }
    Ok((microphones, speakers))
}

/// Whether an id names its card by a number.
fn number(id: &str) -> bool {
    let card = id
        .split("CARD=")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    card.is_some_and(|card| card.parse::<u32>().is_ok())
}

fn device(id: &str) -> Result<cpal::Device, Trouble> {
    let host = cpal::default_host();
    let mut devices = host.devices().map_err(|error| trouble(&error))?;
    devices
        .find(|device| device.id().is_ok_and(|found| found.id() == id))
        .ok_or_else(|| Trouble::new(Why::Gone, format!("{id} is not there")))
}

/// The nearest to mono at 48 kHz, in a format that is read here.
fn choose(
    ranges: impl Iterator<Item = SupportedStreamConfigRange>,
) -> Option<(StreamConfig, SampleFormat)> {
    let usable = |range: &SupportedStreamConfigRange| {
        matches!(
            range.sample_format(),
            SampleFormat::F32 | SampleFormat::I16 | SampleFormat::I32
        ) && range.channels() > 0
            && range.max_sample_rate() >= 8_000
            && range.min_sample_rate() <= 192_000
    };
    let rate = |range: &SupportedStreamConfigRange| {
        RATE.clamp(range.min_sample_rate(), range.max_sample_rate())
    };
    let best = ranges.filter(usable).min_by_key(|range| {
        let format = match range.sample_format() {
            SampleFormat::F32 => 0,
            SampleFormat::I16 => 1,
            _ => 2,
        };
        (rate(range).abs_diff(RATE), range.channels(), format)
    })?;
    let config = StreamConfig {
        channels: best.channels(),
        sample_rate: rate(&best),
        buffer_size: BufferSize::Default,
    };
    Some((config, best.sample_format()))
}

/// The same with short periods, which not every device takes.
fn short(config: StreamConfig) -> StreamConfig {
    let frames = u128::from(config.sample_rate) * PERIOD.as_millis() / 1_000;
    StreamConfig {
        buffer_size: BufferSize::Fixed(u32::try_from(frames).unwrap_or(480)),
        ..config
    }
}

fn none() -> Trouble {
    Trouble::new(Why::Broken, "offers no sound that can be used")
}

struct Running(#[expect(dead_code, reason = "ends its thread when it is dropped")] Stream);

impl Open for Running {}

fn begin(stream: Result<Stream, cpal::Error>) -> Result<Opened, Trouble> {
    let stream = stream.map_err(|error| trouble(&error))?;
    stream.play().map_err(|error| trouble(&error))?;
    Ok(Box::new(Running(stream)))
}

/// Whether a running device is lost by this error. A sound server that wakes up says others
/// that mean nothing; a device that gives nothing any more is found by its silence.
const fn ends(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::DeviceNotAvailable
            | ErrorKind::HostUnavailable
            | ErrorKind::PermissionDenied
            | ErrorKind::StreamInvalidated
    )
}

/// What both callbacks of a stream call.
type Shared<T> = Arc<Mutex<T>>;

fn share<T>(value: T) -> Shared<T> {
    Arc::new(Mutex::new(value))
}

fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a microphone by ALSA's name.
pub(super) fn microphone(id: &str, out: Sounds) -> Result<Opened, Trouble> {
    quiet();
    let device = device(id)?;
    let ranges = device
        .supported_input_configs()
        .map_err(|error| trouble(&error))?;
    let (config, format) = choose(ranges).ok_or_else(none)?;
    let out = share(out);
    let open = |config: StreamConfig| {
        let clock = Clock::start();
        let (sounds, lost) = (out.clone(), out.clone());
        let mut mono = Vec::new();
        device.build_input_stream_raw(
            config,
            format,
            move |data: &Data, info: &InputCallbackInfo| {
                let stamp = info.timestamp();
                let age = stamp.callback.duration_since(stamp.capture);
                mix(data, config.channels.into(), &mut mono);
                lock(&sounds)(Event::Got(Heard {
                    samples: &mono,
                    rate: config.sample_rate,
                    captured: before(clock.now().mono, age),
                }));
            },
            move |error| {
                if ends(error.kind()) {
                    lock(&lost)(Event::Lost(trouble(&error)));
                }
            },
            None,
        )
    };
    begin(open(short(config)).or_else(|_| open(config)))
}

/// Opens a loudspeaker by ALSA's name.
pub(super) fn speaker(id: &str, fill: Fill) -> Result<Opened, Trouble> {
    quiet();
    let device = device(id)?;
    let ranges = device
        .supported_output_configs()
        .map_err(|error| trouble(&error))?;
    let (config, format) = choose(ranges).ok_or_else(none)?;
    let fill = share(fill);
    let open = |config: StreamConfig| {
        let (sounds, lost) = (fill.clone(), fill.clone());
        let mut mono = Vec::new();
        device.build_output_stream_raw(
            config,
            format,
            move |data: &mut Data, info: &OutputCallbackInfo| {
                let stamp = info.timestamp();
                let channels = usize::from(config.channels).max(1);
                mono.clear();
                mono.resize(data.len() / channels, 0.0);
                lock(&sounds)(Event::Got(Wanted {
                    samples: &mut mono,
                    rate: config.sample_rate,
                    delay: stamp.playback.duration_since(stamp.callback),
                }));
                spread(&mono, channels, data);
            },
            move |error| {
                if ends(error.kind()) {
                    lock(&lost)(Event::Lost(trouble(&error)));
                }
            },
            None,
        )
    };
    begin(open(short(config)).or_else(|_| open(config)))
}

fn before(now: Instant, age: Duration) -> Instant {
    now.checked_sub(age.min(Duration::from_secs(1)))
        .unwrap_or(now)
}

const I16: f32 = 32_768.0;
const I32: f32 = 2_147_483_648.0;

/// All channels as one.
fn mix(data: &Data, channels: usize, mono: &mut Vec<f32>) {
    mono.clear();
    if let Some(samples) = data.as_slice::<f32>() {
        mix_of(samples, channels, |sample| sample, mono);
    } else if let Some(samples) = data.as_slice::<i16>() {
        mix_of(samples, channels, |sample| f32::from(sample) / I16, mono);
    } else if let Some(samples) = data.as_slice::<i32>() {
        mix_of(samples, channels, |sample| sample as f32 / I32, mono);
    }
}

fn mix_of<T: Copy>(samples: &[T], channels: usize, read: impl Fn(T) -> f32, mono: &mut Vec<f32>) {
    let channels = channels.max(1);
    let sum = |frame: &[T]| frame.iter().map(|sample| read(*sample)).sum::<f32>();
    let frames = samples.chunks_exact(channels);
    mono.extend(frames.map(|frame| sum(frame) / channels as f32));
}

/// One channel as all.
fn spread(mono: &[f32], channels: usize, data: &mut Data) {
    if let Some(samples) = data.as_slice_mut::<f32>() {
        spread_of(mono, channels, |sample| sample, samples);
    } else if let Some(samples) = data.as_slice_mut::<i16>() {
        // a cast saturates
        spread_of(mono, channels, |sample| (sample * I16) as i16, samples);
    } else if let Some(samples) = data.as_slice_mut::<i32>() {
        spread_of(mono, channels, |sample| (sample * I32) as i32, samples);
    }
}

fn spread_of<T: Copy>(mono: &[f32], channels: usize, write: impl Fn(f32) -> T, samples: &mut [T]) {
    for (frame, sample) in samples.chunks_exact_mut(channels.max(1)).zip(mono) {
        frame.fill(write(*sample));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_of_alsa_are_no_devices() {
        for id in [
            "null",
            "hw:CARD=0,DEV=0",
            "dmix:CARD=PCH",
            "surround51:CARD=PCH,DEV=0",
        ] {
            assert_eq!(name(id, "HDA Intel PCH, ALC257 Analog"), None, "{id}");
        }
        assert_eq!(
            name("default", "Playback/recording").as_deref(),
            Some("Default")
        );
        let card = name(
            "plughw:CARD=PCH,DEV=0",
            "HDA Intel PCH, ALC257 Analog\nHardware device with all software conversions",
        );
        assert_eq!(card.as_deref(), Some("HDA Intel PCH, ALC257 Analog"));
        assert_eq!(name("loop", "").as_deref(), Some("loop"));
    }

    #[test]
    fn only_an_error_that_ends_the_stream_ends_the_device() {
        assert!(ends(ErrorKind::DeviceNotAvailable) && ends(ErrorKind::StreamInvalidated));
        assert!(!ends(ErrorKind::BackendError) && !ends(ErrorKind::Xrun));
    }

    #[test]
    fn a_card_is_named_or_numbered() {
        assert!(number("plughw:CARD=0,DEV=0") && !number("plughw:CARD=PCH,DEV=0"));
        assert!(!number("default"));
    }

    #[test]
    fn channels_become_one_and_one_becomes_all() {
        let mut stereo = [8_192_i16, 16_384, -8_192, -16_384];
        let mut mono = Vec::new();
        mix_of(&stereo, 2, |sample| f32::from(sample) / I16, &mut mono);
        assert_eq!(mono, [0.375, -0.375]);
        spread_of(&[2.0, -0.5], 2, |s| (s * I16) as i16, &mut stereo);
        assert_eq!(stereo, [32_767, 32_767, -16_384, -16_384]);
    }
}
