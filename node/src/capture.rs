//! DOOR: sources of sound and picture. A [`Source`] is opened and checked once, so that
//! a bad file is found before anybody talks; [`Source::start`] paces it by the monotonic
//! clock, sound and picture on one time base. Picture n is due at n / fps after the
//! start, and its capture time is that moment, not the one at which a thread woke up; a
//! picture that is late is skipped, never bunched with the next.

pub mod file;

pub mod mp4;
pub mod ogg;
pub mod pattern;
pub mod wav;
pub mod y4m;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::SOUND_FRAME;
use suora_protocol::media::jitter::FRAME;
use suora_protocol::time::{Now, Timestamp};

use crate::clock::Clock;
use crate::fit::Fit;
use crate::worker::{Mailbox, Post, Slot, Stop, Worker, mailbox};
use pattern::Pattern;

/// Blocks of sound that wait for the encoder.
const SOUNDS_WAITING: usize = 8;
/// A source of sound that is later than this leaves a hole instead of a burst.
const SOUND_LATE: Duration = Duration::from_millis(200);

/// One picture, I420 without padding: `width × height` luma, then two quarter planes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// Its nominal time.
    pub captured: Timestamp,
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// The planes.
    pub data: Bytes,
}

/// 20 ms of sound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sound {
    /// The nominal time of its first sample.
    pub captured: Timestamp,
    /// 960 samples, mono, 48 kHz.
    pub samples: Vec<i16>,
}

/// What a person names as a camera or a microphone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Spec {
    /// Nothing.
    None,
    /// The test pattern, or its beep.
    Pattern,
    /// A media file, looped.
    File(PathBuf),
}

impl FromStr for Spec {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "none" => Self::None,
            "pattern" => Self::Pattern,
            path => Self::File(path.into()),
        })
    }
}

/// What to capture, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Where pictures come from.
    pub camera: Spec,
    /// Where sound comes from; `None`: from the camera's source (a file's own sound track,
    /// the pattern's beep).
    pub mic: Option<Spec>,
    /// Pixels, even, 64 to 3840.
    pub width: u32,
    /// Pixels, even, 64 to 2160.
    pub height: u32,
    /// Pictures a second, 1 to 60.
    pub fps: u32,
}

#[derive(Clone, Debug)]
enum Pictures {
    None,
    Pattern,
    Clip(file::Clip),
}

#[derive(Clone, Debug)]
enum Sounds {
    None,
    Beep,
    Track(file::Track),
}

/// A source that was opened and checked.
#[derive(Clone, Debug)]
pub struct Source {
    settings: Settings,
    pictures: Pictures,
    sounds: Sounds,
}

/// Opens and checks all that the settings name. A file that cannot be used is
/// [`Code::BadMediaFile`], which names the file and what to do; a size or rate outside its
/// range is [`Code::BadConfig`].
pub fn open(settings: &Settings) -> Result<Source, Fault> {
    let Settings {
        width, height, fps, ..
    } = *settings;
    if !(64..=3840).contains(&width)
        || !(64..=2160).contains(&height)
        || width % 2 == 1
        || height % 2 == 1
    {
        return Err(Fault::new(Code::BadConfig).with(format!(
            "{width}x{height}: pictures are even in width and height, 64x64 to 3840x2160"
        )));
    }
    if !(1..=60).contains(&fps) {
        return Err(
            Fault::new(Code::BadConfig).with(format!("{fps} pictures a second: choose 1 to 60"))
        );
    }
    let (pictures, own) = match &settings.camera {
        Spec::None => (Pictures::None, Sounds::None),
        Spec::Pattern => (Pictures::Pattern, Sounds::Beep),
        Spec::File(path) => {
            let media = file::open(path, fps, settings.mic.is_none())?;
            let clip = media.pictures.ok_or_else(|| {
                file::bad(path, "has no pictures; name it as the microphone instead")
            })?;
            let track = media.sound.map(|track| track.last(clip.period()));
            (
                Pictures::Clip(clip),
                track.map_or(Sounds::None, Sounds::Track),
            )
        }
    };
    let sounds = match &settings.mic {
        None => own,
        Some(Spec::None) => Sounds::None,
        Some(Spec::Pattern) => Sounds::Beep,
        Some(Spec::File(path)) => Sounds::Track(
            file::open(path, fps, true)?
                .sound
                .ok_or_else(|| file::bad(path, "has no sound; name another microphone"))?,
        ),
    };
    Ok(Source {
        settings: settings.clone(),
        pictures,
        sounds,
    })
}

impl Source {
    /// Starts capturing. Sound and picture begin at the same moment.
    pub fn start(&self, clock: Clock) -> Result<Capture, Fault> {
        let start = clock.now();
        let slot = Slot::default();
        let (post, sounds) = mailbox(SOUNDS_WAITING);
        let mut running = Running {
            slot: slot.clone(),
            workers: Vec::new(),
        };
        let Settings {
            width, height, fps, ..
        } = self.settings;
        let draw: Option<Box<dyn FnMut(u64) -> Option<Bytes> + Send>> = match &self.pictures {
            Pictures::None => None,
            Pictures::Pattern => {
                let pattern = Pattern::new(width, height, fps);
                Some(Box::new(move |n| Some(pattern.draw(n))))
            }
            Pictures::Clip(clip) => {
                let mut reader = clip.reader()?;
                let mut fit = Fit::new(width, height);
                let mut last = None;
                Some(Box::new(move |n| {
                    if let Some(frame) = reader.at(media_time(n, fps)) {
                        last = Some(fit.fit(frame));
                    }
                    last.clone()
                }))
            }
        };
        match draw {
            None => slot.close(),
            Some(draw) => {
                let slot = slot.clone();
                running.workers.push(Worker::start("camera", move |stop| {
                    pictures(&stop, clock, start, &slot, (width, height, fps), draw);
                })?);
            }
        }
        let fill: Option<Box<dyn Fn(u64) -> Vec<i16> + Send>> = match &self.sounds {
            Sounds::None => None,
            Sounds::Beep => Some(Box::new(pattern::beep)),
            Sounds::Track(track) => {
                let track = track.clone();
                Some(Box::new(move |block| track.block(block)))
            }
        };
        if let Some(fill) = fill {
            running
                .workers
                .push(Worker::start("microphone", move |stop| {
                    blocks(&stop, clock, start, &post, &*fill);
                })?);
        }
        Ok(Capture {
            pictures: slot,
            sounds,
            running,
        })
    }

    /// Whether it gives pictures.
    pub fn has_video(&self) -> bool {
        !matches!(self.pictures, Pictures::None)
    }

    /// Whether it gives sound.
    pub fn has_audio(&self) -> bool {
        !matches!(self.sounds, Sounds::None)
    }
}

/// A running source.
#[derive(Debug)]
pub struct Capture {
    /// The latest picture; closed when there is no camera, or none any more.
    pub pictures: Slot<Picture>,
    /// Sound, in order; ends when there is no microphone, or none any more.
    pub sounds: Mailbox<Sound>,
    /// Keeps it running.
    pub running: Running,
}

/// Keeps a source running; dropping it ends its threads and closes the slot.
#[derive(Debug)]
pub struct Running {
    slot: Slot<Picture>,
    workers: Vec<Worker>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.workers.iter().for_each(Worker::stop);
        self.workers.clear();
        self.slot.close();
    }
}

fn pictures(
    stop: &Stop,
    clock: Clock,
    start: Now,
    slot: &Slot<Picture>,
    (width, height, fps): (u32, u32, u32),
    mut draw: impl FnMut(u64) -> Option<Bytes>,
) {
    let mut n = 0;
    loop {
        // made ahead, so that it is there when it is due
        let data = draw(n);
        if stop.wait_until(start.mono + due(n, fps)) {
            return;
        }
        if let Some(data) = data {
            slot.put(Picture {
                captured: start.utc + due(n, fps),
                width,
                height,
                data,
            });
        }
        let elapsed = clock.now().mono.saturating_duration_since(start.mono);
        n = next(n, elapsed, fps);
    }
}

fn blocks(
    stop: &Stop,
    clock: Clock,
    start: Now,
    post: &Post<Sound>,
    fill: &dyn Fn(u64) -> Vec<i16>,
) {
    let mut block = 0;
    loop {
        // like a microphone: a block is there when its last sample was heard
        let end = start.mono + due(block + 1, BLOCKS);
        if stop.wait_until(end) {
            return;
        }
        let elapsed = clock.now().mono.saturating_duration_since(start.mono);
        if elapsed > due(block + 1, BLOCKS) + SOUND_LATE {
            block = latest(elapsed, BLOCKS).max(block + 1);
            continue;
        }
        let sound = Sound {
            captured: start.utc + due(block, BLOCKS),
            samples: fill(block),
        };
        if post.post(sound).is_err() && post.is_closed() {
            return;
        }
        block += 1;
    }
}

/// Blocks of sound a second.
const BLOCKS: u32 = 50;
const _: () = assert!(BLOCKS as u128 * FRAME.as_millis() == 1_000 && SOUND_FRAME == 960);

const NANOS: u128 = 1_000_000_000;

/// When number `n` of `rate` a second is due, after the start.
fn due(n: u64, rate: u32) -> Duration {
    let nanos = (u128::from(n) * NANOS).div_ceil(u128::from(rate));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The latest number that is due.
fn latest(elapsed: Duration, rate: u32) -> u64 {
    u64::try_from(elapsed.as_nanos() * u128::from(rate) / NANOS).unwrap_or(u64::MAX)
}

/// The number after `n`: those whose time is over are left out.
fn next(n: u64, elapsed: Duration, rate: u32) -> u64 {
    latest(elapsed, rate).max(n + 1)
}

/// The place in a looped file, in microseconds, of picture `n`.
fn media_time(n: u64, fps: u32) -> u64 {
    u64::try_from(u128::from(n) * 1_000_000 / u128::from(fps)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(camera: Spec, mic: Option<Spec>) -> Settings {
        Settings {
            camera,
            mic,
            width: 128,
            height: 96,
            fps: 25,
        }
    }

    #[test]
    fn numbers_are_due_without_drift() {
        for fps in [1, 7, 24, 25, 30, 60] {
            for n in [0, 1, 2, 29, 30, 1_000, 86_400 * 60] {
                assert_eq!(latest(due(n, fps), fps), n);
                assert_eq!(latest(due(n + 1, fps) - Duration::from_nanos(1), fps), n);
            }
            assert_eq!(due(u64::from(fps) * 3_600, fps), Duration::from_secs(3_600));
        }
    }

    #[test]
    fn late_pictures_are_left_out() {
        let ms = Duration::from_millis;
        assert_eq!(next(0, ms(1), 25), 1);
        assert_eq!(next(0, ms(39), 25), 1);
        assert_eq!(next(0, ms(130), 25), 3);
        assert_eq!(next(5, ms(130), 25), 6);
    }

    #[test]
    fn specs_are_read() {
        assert_eq!("none".parse(), Ok(Spec::None));
        assert_eq!("pattern".parse(), Ok(Spec::Pattern));
        assert_eq!("a.mp4".parse(), Ok(Spec::File("a.mp4".into())));
    }

    #[test]
    fn sizes_and_rates_out_of_range_are_refused() {
        for (width, height, fps) in [
            (127, 96, 25),
            (128, 95, 25),
            (32, 96, 25),
            (8_000, 96, 25),
            (128, 96, 0),
            (128, 96, 61),
        ] {
            let settings = Settings {
                width,
                height,
                fps,
                ..settings(Spec::Pattern, None)
            };
            assert_eq!(open(&settings).unwrap_err().code, Code::BadConfig);
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let fault = open(&settings(Spec::File("no-such.mp4".into()), None)).unwrap_err();
        assert_eq!(fault.code, Code::BadMediaFile);
        assert!(fault.detail.unwrap().contains("no-such.mp4"));
    }

    #[test]
    fn without_camera_and_microphone_both_ends_are_closed() {
        let source = open(&settings(Spec::None, None)).unwrap();
        assert!(!source.has_video() && !source.has_audio());
        let mut capture = source.start(Clock::start()).unwrap();
        assert_eq!(capture.pictures.wait(), None);
        assert_eq!(capture.sounds.wait(), None);
    }

    #[test]
    fn the_pattern_runs_in_real_time_and_stops() {
        let clock = Clock::start();
        let source = open(&settings(Spec::Pattern, None)).unwrap();
        let Capture {
            pictures,
            mut sounds,
            running,
        } = source.start(clock).unwrap();
        let first = pictures.wait().unwrap();
        let start = first.captured;
        let mut seen = Vec::new();
        for _ in 0..5 {
            let picture = pictures.wait().unwrap();
            let reading = pattern::read(128, 96, &picture.data);
            let number = u64::from(reading.counter.unwrap());
            assert_eq!(picture.captured, start + due(number, 25));
            assert!(clock.now().utc >= picture.captured);
            seen.push(number);
        }
        assert!(seen.is_sorted());
        let sound = sounds.wait().unwrap();
        assert_eq!((sound.captured, sound.samples.len()), (start, 960));
        drop(running);
        while sounds.wait().is_some() {}
        pictures.take();
        assert_eq!(pictures.wait(), None);
    }
}
