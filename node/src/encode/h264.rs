//! The H.264 encoder: constrained baseline, one slice a picture, no periodic keyframes.
//! The library holds its target by coarser pictures, never by leaving one out; where even
//! the coarsest are too many bits, a picture is left out here.

use std::time::Duration;

use openh264::encoder::{
    BitRate, Complexity, Encoder as Library, EncoderConfig, FrameRate, IntraFramePeriod, Level,
    Profile, QpRange, RateControlMode, UsageType,
};
use openh264::formats::YUVSource;
use openh264_sys2::{
    ENCODER_OPTION, ENCODER_OPTION_BITRATE, ENCODER_OPTION_MAX_BITRATE, ENCODER_OPTION_TRACE_LEVEL,
    SBitrateInfo, SPATIAL_LAYER_ALL, WELS_LOG_QUIET,
};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::media::{EncodedFrame, Kind, h264};
use suora_protocol::time::Timestamp;

use super::Control;
use crate::capture::Picture;

/// How far the bits may run ahead of the target, in seconds of it.
const AHEAD: f64 = 0.5;

/// An encoder of one track.
pub struct Encoder {
    fps: u32,
    running: Option<Running>,
}

struct Running {
    codec: Library,
    size: (u32, u32),
    target: u32,
    first: Timestamp,
    /// Bits over the target, and when it was counted.
    ahead: (f64, Timestamp),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = self.running.as_ref().map(|running| running.size);
        f.debug_struct("Encoder")
            .field("fps", &self.fps)
            .field("size", &size)
            .finish_non_exhaustive()
    }
}

/// A picture as the library reads it.
struct Planes<'a>(&'a Picture);

impl Planes<'_> {
    fn plane(&self, index: usize) -> &[u8] {
        let luma = self.0.width as usize * self.0.height as usize;
        match index {
            0 => &self.0.data[..luma],
            1 => &self.0.data[luma..luma * 5 / 4],
            _ => &self.0.data[luma * 5 / 4..],
        }
    }
}

impl YUVSource for Planes<'_> {
    fn dimensions(&self) -> (usize, usize) {
        (self.0.width as usize, self.0.height as usize)
    }

    fn strides(&self) -> (usize, usize, usize) {
        let width = self.0.width as usize;
        (width, width / 2, width / 2)
    }

    fn y(&self) -> &[u8] {
        self.plane(0)
    }

    fn u(&self) -> &[u8] {
        self.plane(1)
    }

    fn v(&self) -> &[u8] {
        self.plane(2)
    }
}

impl Encoder {
    /// An encoder for so many pictures a second.
    pub fn new(fps: u32) -> Self {
        Self { fps, running: None }
    }

    /// Encodes a picture; `None` where the rate control skipped it, or, with a line in the
    /// log, where the library refused it. A picture of another size begins anew with a keyframe.
    pub fn encode(&mut self, picture: &Picture, control: &Control) -> Option<EncodedFrame> {
        match self.try_encode(picture, control) {
            Ok(frame) => frame,
            Err(fault) => {
                tracing::error!(%fault, "cannot encode a picture");
                self.running = None;
                None
            }
        }
    }

    fn try_encode(
        &mut self,
        picture: &Picture,
        control: &Control,
    ) -> Result<Option<EncodedFrame>, Fault> {
        let size = (picture.width, picture.height);
        if picture.data.len() != size.0 as usize * size.1 as usize * 3 / 2 {
            return Err(Fault::new(Code::Internal).with("a picture of another size than it says"));
        }
        let target = control.target();
        let running = match &mut self.running {
            Some(running) if running.size == size => running,
            running => running.insert(Running::start(size, self.fps, target, picture.captured)?),
        };
        if running.target != target {
            running.set_target(target);
        }
        if control.take_keyframe() {
            running.codec.force_intra_frame();
        } else if running.too_far_ahead(picture.captured) {
            return Ok(None);
        }
        let at = picture.captured.since(running.first);
        let stream = running
            .codec
            .encode_at(
                &Planes(picture),
                openh264::Timestamp::from_millis(u64::try_from(at.as_millis()).unwrap_or(0)),
            )
            .map_err(fault)?;
        let data = stream.to_vec();
        if data.is_empty() {
            return Ok(None);
        }
        running.ahead.0 += data.len() as f64 * 8.0;
        Ok(Some(EncodedFrame {
            kind: Kind::Video,
            captured: picture.captured,
            keyframe: h264::is_keyframe(&data),
            data: data.into(),
            width: u16::try_from(size.0).unwrap_or(0),
            height: u16::try_from(size.1).unwrap_or(0),
            duration: Duration::from_secs(1) / self.fps.max(1),
        }))
    }
}

impl Running {
    fn start(size: (u32, u32), fps: u32, target: u32, first: Timestamp) -> Result<Self, Fault> {
        let config = EncoderConfig::new()
            .profile(Profile::Baseline)
            .level(level(size, fps))
            .usage_type(UsageType::CameraVideoRealTime)
            .complexity(Complexity::Low)
            .num_threads(1)
            .max_frame_rate(FrameRate::from_hz(fps as f32))
            .bitrate(BitRate::from_bps(target))
            .rate_control_mode(RateControlMode::Bitrate)
            .skip_frames(false)
            .qp(QpRange::new(12, 51))
            // a cut or a flash needs no keyframe: only a lost picture does
            .scene_change_detect(false)
            .intra_frame_period(IntraFramePeriod::from_num_frames(0));
        let codec = Library::with_api_config(openh264::OpenH264API::from_source(), config)
            .map_err(fault)?;
        let mut running = Self {
            codec,
            size,
            target,
            first,
            ahead: (0.0, first),
        };
        // it writes its warnings to the person's terminal
        let mut quiet = WELS_LOG_QUIET;
        running.set_option(ENCODER_OPTION_TRACE_LEVEL, &mut quiet);
        Ok(running)
    }

    /// Whether the bits ran so far ahead of the target that a picture has to be left out.
    fn too_far_ahead(&mut self, now: Timestamp) -> bool {
        let (ahead, counted) = self.ahead;
        let paid = now.since(counted).as_secs_f64() * f64::from(self.target);
        self.ahead = ((ahead - paid).max(0.0), now);
        self.ahead.0 > AHEAD * f64::from(self.target)
    }

    /// Sets an option that the library takes as a pointer to a `T`.
    #[expect(
        unsafe_code,
        reason = "door: the library's safe calls cannot set its options"
    )]
    fn set_option<T>(&mut self, option: ENCODER_OPTION, value: &mut T) {
        // SAFETY: each caller passes the type that its option takes; the library reads it
        // and keeps nothing.
        let code = unsafe {
            self.codec
                .raw_api()
                .set_option(option, std::ptr::from_mut(value).cast())
        };
        if code != 0 {
            tracing::warn!(option, code, "the encoder does not take an option");
        }
    }

    /// Follows the target without a keyframe.
    fn set_target(&mut self, target: u32) {
        let mut info = SBitrateInfo {
            iLayer: SPATIAL_LAYER_ALL,
            iBitrate: i32::try_from(target).unwrap_or(i32::MAX),
        };
        // the maximum never lies under the target
        let order = if target > self.target {
            [ENCODER_OPTION_MAX_BITRATE, ENCODER_OPTION_BITRATE]
        } else {
            [ENCODER_OPTION_BITRATE, ENCODER_OPTION_MAX_BITRATE]
        };
        for option in order {
            self.set_option(option, &mut info);
        }
        self.target = target;
    }
}

/// The least level that holds this size and rate (H.264, table A-1).
fn level((width, height): (u32, u32), fps: u32) -> Level {
    let blocks = width.div_ceil(16) * height.div_ceil(16);
    match (blocks, blocks * fps) {
        (..=1_620, ..=40_500) => Level::Level_3_0,
        (..=3_600, ..=108_000) => Level::Level_3_1,
        (..=5_120, ..=216_000) => Level::Level_3_2,
        (..=8_192, ..=245_760) => Level::Level_4_0,
        (..=8_704, ..=522_240) => Level::Level_4_2,
        (..=36_864, ..=983_040) => Level::Level_5_1,
        _ => Level::Level_5_2,
    }
}

fn fault(error: openh264::Error) -> Fault {
    Fault::new(Code::Internal).with(format!("H.264 encoder: {error}"))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::capture::pattern;
    use crate::decode::h264::Decoder;

    const SIZE: (u32, u32) = (640, 360);

    fn picture(n: u64, size: (u32, u32), data: bytes::Bytes) -> Picture {
        Picture {
            captured: Timestamp::from_micros(i64::try_from(n * 1_000_000 / 30).unwrap()),
            width: size.0,
            height: size.1,
            data,
        }
    }

    /// Pictures of the pattern through an encoder, from number `from` on.
    fn run(encoder: &mut Encoder, control: &Control, from: u64, count: u64) -> Vec<EncodedFrame> {
        let pattern = pattern::Pattern::new(SIZE.0, SIZE.1, 30);
        (from..from + count)
            .filter_map(|n| encoder.encode(&picture(n, SIZE, pattern.draw(n)), control))
            .collect()
    }

    fn bits_per_second(frames: &[EncodedFrame], count: u64) -> u32 {
        let bits: usize = frames.iter().map(|frame| frame.data.len() * 8).sum();
        u32::try_from(bits * 30 / count as usize).unwrap()
    }

    #[test]
    fn it_is_constrained_baseline_in_one_slice_and_only_the_first_is_a_keyframe() {
        let control = Control::new(600_000);
        let frames = run(&mut Encoder::new(30), &control, 0, 150);
        let first = h264::split(&frames[0].data);
        let kinds: Vec<u8> = first.iter().map(|unit| h264::unit_type(unit)).collect();
        assert_eq!(kinds, [7, 8, 5]);
        // profile 66, constraint_set1, level 3.0
        assert_eq!(
            (first[0][1], first[0][2] & 0x40, first[0][3]),
            (66, 0x40, 30)
        );
        for frame in &frames[1..] {
            let units = h264::split(&frame.data);
            assert_eq!((units.len(), h264::unit_type(units[0])), (1, 1));
            assert!(!frame.keyframe && (frame.width, frame.height) == (640, 360));
        }
    }

    #[test]
    fn the_pattern_holds_30_pictures_a_second_at_600_kbit() {
        let control = Control::new(600_000);
        let frames = run(&mut Encoder::new(30), &control, 0, 150);
        assert_eq!(frames.len(), 150);
    }

    #[test]
    fn a_keyframe_comes_when_it_is_asked_for() {
        let (mut encoder, control) = (Encoder::new(30), Control::new(600_000));
        run(&mut encoder, &control, 0, 10);
        control.keyframe();
        let frames = run(&mut encoder, &control, 10, 3);
        let keyframes: Vec<bool> = frames.iter().map(|frame| frame.keyframe).collect();
        assert_eq!(keyframes, [true, false, false]);
    }

    #[test]
    fn the_bitrate_follows_its_target_without_a_keyframe() {
        let (mut encoder, control) = (Encoder::new(30), Control::new(900_000));
        run(&mut encoder, &control, 0, 90);
        let mut at = 90;
        for target in [300_000, 600_000, 200_000] {
            control.set_target(target);
            run(&mut encoder, &control, at, 60);
            let frames = run(&mut encoder, &control, at + 60, 120);
            at += 180;
            let rate = bits_per_second(&frames, 120);
            assert!(rate < target * 5 / 4, "{rate} of {target}");
            assert!(frames.iter().all(|frame| !frame.keyframe));
        }
    }

    #[test]
    fn the_pattern_can_be_read_at_100_kbit() {
        let (mut encoder, control) = (Encoder::new(30), Control::new(100_000));
        let mut decoder = Decoder::new().unwrap();
        let frames = run(&mut encoder, &control, 0, 90);
        assert!(frames.len() > 30, "{}", frames.len());
        for frame in frames {
            let number = (frame.captured.as_micros() * 30 + 500_000) / 1_000_000;
            let decoded = decoder
                .decode(&frame.data, frame.keyframe)
                .unwrap()
                .unwrap();
            let reading = pattern::read(SIZE.0, SIZE.1, &decoded.frame().data);
            assert_eq!(reading.counter, u32::try_from(number).ok());
            assert_eq!(reading.flash, number % 30 == 0);
        }
    }

    #[test]
    fn another_size_begins_with_a_keyframe_and_a_torn_picture_is_left_out() {
        let (mut encoder, control) = (Encoder::new(30), Control::new(300_000));
        for (n, size) in [(0, (640, 360)), (1, (320, 180)), (2, (640, 360))] {
            let data = pattern::Pattern::new(size.0, size.1, 30).draw(n);
            let frame = encoder.encode(&picture(n, size, data), &control).unwrap();
            assert!(frame.keyframe);
            assert_eq!(u32::from(frame.width), size.0);
        }
        let torn = picture(3, SIZE, bytes::Bytes::from_static(&[0; 99]));
        assert_eq!(encoder.encode(&torn, &control), None);
    }

    #[test]
    fn the_level_is_the_least_that_holds_the_pictures() {
        let idc = |size, fps| level(size, fps) as u32;
        assert_eq!(idc((640, 360), 30), Level::Level_3_0 as u32);
        assert_eq!(idc((1280, 720), 30), Level::Level_3_1 as u32);
        assert_eq!(idc((1280, 720), 60), Level::Level_3_2 as u32);
        assert_eq!(idc((1920, 1080), 30), Level::Level_4_0 as u32);
        assert_eq!(idc((3840, 2160), 30), Level::Level_5_1 as u32);
    }
}
