//! DOOR: the cameras of Linux, by V4L2. A device file is probed once, when it appears.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use moq_v4l::buffer::Type;
use moq_v4l::frameinterval::FrameIntervalEnum;
use moq_v4l::framesize::FrameSizeEnum;
use moq_v4l::io::traits::CaptureStream;
use moq_v4l::prelude::{Device, MmapStream};
use moq_v4l::video::Capture;
use moq_v4l::video::capture::Parameters;
use moq_v4l::{Format, FourCC};
use nix::time::{ClockId, clock_gettime};

use super::pixels::{self, Layout};
use super::{Event, Named, Open, Opened, Pictures, Shape, Shot, Trouble, Why};
use crate::clock::Clock;
use crate::worker::Worker;

/// Buffers that the kernel fills by turns.
const BUFFERS: u32 = 4;
/// How long a camera may take to its first picture.
const FIRST: Duration = Duration::from_secs(4);
/// How long it may pause afterwards.
const PAUSE: Duration = Duration::from_secs(1);
/// Where the kernel names video devices.
const NAMES: &str = "/sys/class/video4linux";

/// Device files that were probed: the name of each, and whether it gives pictures.
#[derive(Debug, Default)]
pub(super) struct Cameras(Mutex<BTreeMap<PathBuf, (String, bool)>>);

impl Cameras {
    /// The cameras that are there, in the order of their numbers.
    pub(super) fn list(&self) -> Vec<Named> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(NAMES).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let number = file.to_str().and_then(|name| name.strip_prefix("video"));
            let Some(number) = number.and_then(|number| number.parse::<u32>().ok()) else {
                continue;
            };
            let name = std::fs::read(entry.path().join("name")).unwrap_or_default();
            let name = String::from_utf8_lossy(&name).trim().to_string();
            found.push((number, name, PathBuf::from(format!("/dev/video{number}"))));
        }
        found.sort();
        let mut probed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there: Vec<_> = found
            .into_iter()
            .map(|(_, name, path)| {
                let known = probed.get(&path).filter(|(before, _)| *before == name);
                let gives = match known {
                    Some((_, gives)) => *gives,
                    None => gives_pictures(&path),
                };
                (path, (name, gives))
            })
            .collect();
        *probed = there.iter().cloned().collect();
        there
            .into_iter()
            .filter(|(_, (_, gives))| *gives)
            .map(|(path, (name, _))| {
                let id = path.display().to_string();
                let name = if name.is_empty() { id.clone() } else { name };
                Named { name, id }
            })
            .collect()
    }
}

/// Whether a device file is a camera with a layout that can be used. One that cannot be
/// opened may be: opening it for good says what is wrong.
fn gives_pictures(path: &PathBuf) -> bool {
    match Device::with_path(path) {
        Ok(device) => device.enum_formats().is_ok_and(|formats| {
            let mut formats = formats.iter();
            formats.any(|format| Layout::of(format.fourcc.repr).is_some())
        }),
        Err(error) => Trouble::of_io(&error).why != Why::Gone,
    }
}

/// A way in which a camera can give pictures.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Mode {
    code: [u8; 4],
    layout: Layout,
    width: u32,
    height: u32,
    /// The most pictures a second; 0: not known.
    fps: f32,
}

/// Pictures a second below which a mode is taken only if there is no other.
const SLOW: f32 = 15.0;

/// The mode that comes nearest: fast enough, not smaller than asked for, then the smallest,
/// the fastest and the cheapest to read.
fn best(modes: &[Mode], shape: Shape) -> Option<Mode> {
    let wanted = shape.fps as f32;
    let rank = |mode: &Mode| {
        let fps = if mode.fps == 0.0 { wanted } else { mode.fps };
        let slow = fps < SLOW.min(wanted);
        let small = mode.width < shape.width || mode.height < shape.height;
        let area = i64::from(mode.width) * i64::from(mode.height);
        let away = if small { -area } else { area };
        let missing = (wanted - fps).max(0.0) as i64;
        (slow, small, away, missing, mode.layout)
    };
    modes.iter().copied().min_by_key(rank)
}

fn modes(device: &Device, shape: Shape) -> std::io::Result<Vec<Mode>> {
    let mut modes = Vec::new();
    for format in device.enum_formats()? {
        let Some(layout) = Layout::of(format.fourcc.repr) else {
            continue;
        };
        let sizes = device.enum_framesizes(format.fourcc).unwrap_or_default();
        let sizes = sizes.into_iter().map(|size| match size.size {
            FrameSizeEnum::Discrete(size) => (size.width, size.height),
            FrameSizeEnum::Stepwise(range) => {
                let step = |value: u32, least: u32, most: u32, step: u32| {
                    let step = step.max(1);
                    let value = value.clamp(least, most.max(least));
                    (least + (value - least).div_ceil(step) * step).min(most)
                };
                (
                    step(
                        shape.width,
                        range.min_width,
                        range.max_width,
                        range.step_width,
                    ),
                    step(
                        shape.height,
                        range.min_height,
                        range.max_height,
                        range.step_height,
                    ),
                )
            }
        });
        for (width, height) in sizes {
            let intervals = device.enum_frameintervals(format.fourcc, width, height);
            let fps = intervals
                .unwrap_or_default()
                .into_iter()
                .map(|interval| {
                    let shortest = match interval.interval {
                        FrameIntervalEnum::Discrete(interval) => interval,
                        FrameIntervalEnum::Stepwise(range) => range.min,
                    };
                    shortest.denominator as f32 / shortest.numerator.max(1) as f32
                })
                .fold(0.0, f32::max);
            modes.push(Mode {
                code: format.fourcc.repr,
                layout,
                width,
                height,
                fps,
            });
        }
    }
    Ok(modes)
}

struct Running(#[expect(dead_code, reason = "ends its thread when it is dropped")] Worker);

impl Open for Running {}

/// Opens a camera by its device file.
pub(super) fn open(id: &str, shape: Shape, mut out: Pictures) -> Result<Opened, Trouble> {
    let io = |error: std::io::Error| Trouble::of_io(&error);
    let device = Device::with_path(id).map_err(io)?;
    let mode = best(&modes(&device, shape).map_err(io)?, shape)
        .ok_or_else(|| Trouble::new(Why::Broken, "gives no YUYV, NV12, I420 or MJPEG"))?;
    let wanted = Format::new(mode.width, mode.height, FourCC::new(&mode.code));
    let format = device.set_format(&wanted).map_err(io)?;
    let layout = Layout::of(format.fourcc.repr)
        .ok_or_else(|| Trouble::new(Why::Broken, format!("gives {} instead", format.fourcc)))?;
    // a camera whose rate cannot be set keeps its own
    if let Err(error) = device.set_params(&Parameters::with_fps(shape.fps)) {
        tracing::debug!(%error, "the camera keeps its rate");
    }
    let mut stream =
        MmapStream::<'static>::with_buffers(&device, Type::VideoCapture, BUFFERS).map_err(io)?;
    stream.set_timeout(FIRST);
    let clock = Clock::start();
    let size = (format.width & !1, format.height & !1);
    let worker = Worker::start("camera", move |stop| {
        let mut broken = 0;
        while !stop.is_set() {
            let shot = match stream.next() {
                Ok((bytes, meta)) => {
                    let used = bytes.get(..meta.bytesused as usize).unwrap_or(bytes);
                    let captured = captured(clock.now().mono, meta.timestamp);
                    pixels::read(layout, size, format.stride, used)
                        .map(|frame| Shot { frame, captured })
                }
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                    out(Event::Lost(Trouble::new(Why::Broken, "gives no pictures")));
                    return;
                }
                Err(error) => {
                    out(Event::Lost(Trouble::of_io(&error)));
                    return;
                }
            };
            stream.set_timeout(PAUSE);
            match shot {
                Some(shot) => {
                    broken = 0;
                    out(Event::Got(shot));
                }
                // the first pictures of many cameras are damaged
                None => broken += 1,
            }
            if broken == 90 {
                out(Event::Lost(Trouble::new(
                    Why::Broken,
                    "gives damaged pictures",
                )));
                return;
            }
        }
    });
    match worker {
        Ok(worker) => Ok(Box::new(Running(worker))),
        Err(fault) => Err(Trouble::new(Why::Broken, fault)),
    }
}

/// When a picture was taken: the kernel stamps it by the monotonic clock. A stamp that
/// cannot be of that clock is not believed.
fn captured(now: Instant, stamp: moq_v4l::Timestamp) -> Instant {
    let age = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .ok()
        .and_then(|time| {
            let micros = |secs: i64, micros: i64| secs.checked_mul(1_000_000)?.checked_add(micros);
            let now = micros(time.tv_sec(), time.tv_nsec() / 1_000)?;
            now.checked_sub(micros(stamp.sec, stamp.usec)?)
        })
        .and_then(|age| u64::try_from(age).ok())
        .map(Duration::from_micros)
        .filter(|age| *age < Duration::from_secs(1))
        .unwrap_or_default();
    now.checked_sub(age).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(code: &[u8; 4], width: u32, height: u32, fps: f32) -> Mode {
        Mode {
            code: *code,
            layout: Layout::of(*code).unwrap(),
            width,
            height,
            fps,
        }
    }

    const SHAPE: Shape = Shape {
        width: 640,
        height: 360,
        fps: 30,
    };

    #[test]
    fn the_mode_is_fast_enough_large_enough_and_cheap() {
        // an ordinary webcam of USB 2
        let modes = [
            mode(b"MJPG", 1920, 1080, 30.0),
            mode(b"MJPG", 640, 480, 30.0),
            mode(b"YUYV", 1920, 1080, 5.0),
            mode(b"YUYV", 1280, 720, 10.0),
            mode(b"YUYV", 640, 480, 30.0),
            mode(b"YUYV", 320, 180, 30.0),
        ];
        assert_eq!(best(&modes, SHAPE), Some(modes[4]));
        let large = Shape {
            width: 1280,
            height: 720,
            fps: 30,
        };
        assert_eq!(best(&modes, large), Some(modes[0]));
        // only small ones: the largest
        assert_eq!(best(&modes[5..], large), Some(modes[5]));
        assert_eq!(best(&[], SHAPE), None);
    }

    #[test]
    fn slow_modes_are_a_last_resort() {
        let modes = [mode(b"YUYV", 640, 360, 5.0), mode(b"YUYV", 320, 240, 30.0)];
        assert_eq!(best(&modes, SHAPE), Some(modes[1]));
        assert_eq!(best(&modes[..1], SHAPE), Some(modes[0]));
        let unknown = mode(b"NV12", 640, 360, 0.0);
        assert_eq!(best(&[modes[1], unknown], SHAPE), Some(unknown));
    }

    #[test]
    fn a_stamp_of_another_clock_is_not_believed() {
        let now = Clock::start().now().mono;
        for sec in [0, -5, 4_000_000_000] {
            assert_eq!(captured(now, moq_v4l::Timestamp::new(sec, 0)), now);
        }
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
        let stamp = moq_v4l::Timestamp::new(time.tv_sec(), time.tv_nsec() / 1_000);
        let age = now.saturating_duration_since(captured(now, stamp));
        assert!(age < Duration::from_millis(500), "{age:?}");
    }

    #[test]
    fn a_device_file_that_is_not_there_is_gone() {
        let opened = open("/dev/video-none", SHAPE, Box::new(|_| {}));
        assert_eq!(opened.err().map(|trouble| trouble.why), Some(Why::Gone));
    }

    #[test]
    fn listing_a_machine_without_cameras_is_no_trouble() {
        let cameras = Cameras::default();
        assert_eq!(cameras.list(), cameras.list());
    }
}
