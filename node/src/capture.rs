//! DOOR: sources of sound and picture. A [`Source`] is opened and checked once, so that
//! a bad file is found before anybody talks; [`Source::start`] paces it by the monotonic
//! clock, sound and picture on one time base. Picture n is due at n / fps after the
//! start, and its capture time is that moment, not the one at which a thread woke up; a
//! picture that is late is skipped, never bunched with the next. Devices pace themselves:
//! `camera` and `microphone` take what they give, when they give it.

mod camera;
pub mod clean;
pub mod file;
mod microphone;
pub mod mp4;
pub mod ogg;
pub mod pattern;
pub mod wav;
pub mod y4m;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::SOUND_FRAME;
use suora_protocol::media::jitter::FRAME;
use suora_protocol::time::{Now, Timestamp};

use crate::clock::Clock;
use crate::devices::choice::Wish;
use crate::devices::reference::Reference;
use crate::devices::watch::{self, Notice};
use crate::devices::{Backend, Kind, Shape};
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
    /// A device.
    Device(Wish),
}

/// Endings of media files: what has one is no device.
const FILES: &[&str] = &[
    "mp4", "m4v", "y4m", "h264", "264", "wav", "ogg", "opus", "oga",
];

impl FromStr for Spec {
    type Err = std::convert::Infallible;

    /// `none`, `pattern`, `default` for the first device that can be used, a media file's
    /// path, or a device's name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = Path::new(text);
        let file = path.extension().is_some_and(|ending| {
            let mut files = FILES.iter();
            files.any(|file| ending.eq_ignore_ascii_case(file))
        });
        Ok(match text {
            "none" => Self::None,
            "pattern" => Self::Pattern,
            "default" => Self::Device(Wish::Default),
            _ if file || text.contains('/') && !text.starts_with("/dev/") => {
                Self::File(path.into())
            }
            name => Self::Device(Wish::Name(name.into())),
        })
    }
}

/// What to capture, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Where pictures come from.
    pub camera: Spec,
    /// Where sound comes from; `None`: from the camera's source (a file's own sound track,
    /// the pattern's beep), else from the first microphone that can be used.
    pub mic: Option<Spec>,
    /// What a microphone hears stays as it is: with echo and noise.
    pub raw_mic: bool,
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
    Device(Wish),
}

#[derive(Clone, Debug)]
enum Sounds {
    None,
    Beep,
    Track(file::Track),
    Device(Wish),
}

/// A source that was opened and checked.
#[derive(Clone, Debug)]
pub struct Source {
    settings: Settings,
    pictures: Pictures,
    sounds: Sounds,
    backend: Arc<dyn Backend>,
    found: Vec<Notice>,
}

/// Opens and checks all that the settings name. A file that cannot be used is
/// [`Code::BadMediaFile`], which names the file and what to do; a size or rate outside its
/// range, and a device whose name nobody has, is [`Code::BadConfig`]. Devices themselves
/// are opened by [`Source::start`]; without one the source gives nothing, and goes on.
pub fn open(settings: &Settings, backend: &Arc<dyn Backend>) -> Result<Source, Fault> {
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
    let listed = backend.list();
    let mut found = Vec::new();
    let (pictures, own) = match &settings.camera {
        Spec::None => (Pictures::None, None),
        Spec::Pattern => (Pictures::Pattern, Some(Sounds::Beep)),
        Spec::Device(wish) => {
            let wish = watch::find(Kind::Camera, wish, &listed, &mut found)?;
            (Pictures::Device(wish), None)
        }
        Spec::File(path) => {
            let media = file::open(path, fps, settings.mic.is_none())?;
            let clip = media.pictures.ok_or_else(|| {
                file::bad(path, "has no pictures; name it as the microphone instead")
            })?;
            let track = media.sound.map(|track| track.last(clip.period()));
            let own = track.map_or(Sounds::None, Sounds::Track);
            (Pictures::Clip(clip), Some(own))
        }
    };
    let microphone = Spec::Device(Wish::Default);
    let sounds = match (settings.mic.as_ref().unwrap_or(&microphone), own) {
        (_, Some(own)) if settings.mic.is_none() => own,
        (Spec::None, _) => Sounds::None,
        (Spec::Pattern, _) => Sounds::Beep,
        (Spec::Device(wish), _) => {
            Sounds::Device(watch::find(Kind::Microphone, wish, &listed, &mut found)?)
        }
        (Spec::File(path), _) => Sounds::Track(
            file::open(path, fps, true)?
                .sound
                .ok_or_else(|| file::bad(path, "has no sound; name another microphone"))?,
        ),
    };
    Ok(Source {
        settings: settings.clone(),
        pictures,
        sounds,
        backend: backend.clone(),
        found,
    })
}

impl Source {
    /// Starts capturing. Sound and picture begin at the same moment. What happens to devices
    /// goes to `notices`; `played` is what a microphone hears of the loudspeaker.
    pub fn start(
        &self,
        clock: Clock,
        notices: &Post<Notice>,
        played: &Reference,
    ) -> Result<Capture, Fault> {
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
        let mut live = false;
        let draw: Option<Box<dyn FnMut(u64) -> Option<Bytes> + Send>> = match &self.pictures {
            Pictures::None => None,
            Pictures::Device(wish) => {
                live = true;
                let shape = Shape { width, height, fps };
                let (wish, backend) = (wish.clone(), self.backend.clone());
                running.workers.push(camera::start(
                    wish,
                    backend,
                    shape,
                    clock,
                    slot.clone(),
                    notices.clone(),
                )?);
                None
            }
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
            None if live => {}
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
            Sounds::Device(wish) => {
                running.workers.push(microphone::start(
                    wish.clone(),
                    self.backend.clone(),
                    clock,
                    post.clone(),
                    notices.clone(),
                    (!self.settings.raw_mic).then(|| played.clone()),
                )?);
                None
            }
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

    /// Whether it gives pictures, as far as is known before it runs.
    pub fn has_video(&self) -> bool {
        match self.pictures {
            Pictures::None => false,
            Pictures::Pattern | Pictures::Clip(_) => true,
            Pictures::Device(_) => self.found(Kind::Camera),
        }
    }

    /// Whether it gives sound, as far as is known before it runs.
    pub fn has_audio(&self) -> bool {
        match self.sounds {
            Sounds::None => false,
            Sounds::Beep | Sounds::Track(_) => true,
            Sounds::Device(_) => self.found(Kind::Microphone),
        }
    }

    fn found(&self, kind: Kind) -> bool {
        let mut found = self.found.iter();
        found.any(|notice| notice.kind == kind && notice.running)
    }

    /// What is known of its devices before it runs.
    pub fn devices(&self) -> &[Notice] {
        &self.found
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
mod tests;
