//! The H.264 encoder of a track. Size, rate and bits of its pictures follow the target
//! while it runs: the [ladder](suora_protocol::media::ladder) chooses size and rate,
//! pictures over the rate are left out evenly by their capture times, the others are
//! scaled and go to a [codec] of one size. A new size begins with a keyframe.

pub mod codec;
pub mod quantiser;

use std::time::Duration;

use suora_protocol::fault::{Code, Fault};
use suora_protocol::media::ladder::{Format, Ladder, Source};
use suora_protocol::media::{EncodedFrame, Kind};
use suora_protocol::time::Timestamp;

use self::codec::{Codec, Planes};
use super::Control;
use crate::capture::Picture;
use crate::fit::{Frame, Shrink};

/// An encoder of one track.
#[derive(Debug)]
pub struct Encoder {
    fps: u32,
    ladder: Option<Ladder>,
    pace: Pace,
    shrink: Shrink,
    codec: Option<Codec>,
}

impl Encoder {
    /// An encoder for a source of so many pictures a second.
    pub fn new(fps: u32) -> Self {
        Self {
            fps,
            ladder: None,
            pace: Pace::default(),
            shrink: Shrink::default(),
            codec: None,
        }
    }

    /// Encodes a picture; `None` where it was left out, because the rate or the target asks
    /// for that or, with a line in the log, because the library refused it. Pictures that
    /// follow in another size begin with a keyframe.
    pub fn encode(&mut self, picture: &Picture, control: &Control) -> Option<EncodedFrame> {
        match self.try_encode(picture, control) {
            Ok(frame) => frame,
            Err(fault) => {
                tracing::error!(%fault, "cannot encode a picture");
                self.codec = None;
                None
            }
        }
    }

    /// A picture of this moment is not wanted: what comes next is no slower source.
    pub const fn skip(&mut self, captured: Timestamp) {
        self.pace.last = captured;
    }

    fn try_encode(
        &mut self,
        picture: &Picture,
        control: &Control,
    ) -> Result<Option<EncodedFrame>, Fault> {
        let (width, height) = (picture.width, picture.height);
        if picture.data.len() != Frame::size(width, height) || width % 2 + height % 2 > 0 {
            return Err(Fault::new(Code::Internal).with("a picture of another size than it says"));
        }
        let (now, target) = (picture.captured, control.target());
        let fps = self.fps;
        let source = Source { width, height, fps };
        let ladder = match &mut self.ladder {
            Some(ladder) if ladder.source() == source => ladder,
            ladder => ladder.insert(Ladder::new(source)),
        };
        let Format { width, height, fps } = ladder.decide(now, target);
        let size = (width, height);
        let codec = self.codec.take().filter(|codec| codec.size() == size);
        if codec.is_some() && !self.pace.takes(now, fps, self.fps) {
            self.codec = codec;
            return Ok(None);
        }
        let mut codec = match codec {
            Some(codec) => codec,
            None => {
                self.pace.restart(now, fps);
                Codec::new(size, self.fps, now)?
            }
        };
        if codec.is_full(now, target) {
            // a keyframe that was asked for stays so
            self.codec = Some(codec);
            return Ok(None);
        }
        let data = if size == (picture.width, picture.height) {
            &picture.data[..]
        } else {
            self.shrink
                .shrink(&picture.data, (picture.width, picture.height), size)
        };
        let planes = Planes {
            width,
            height,
            data,
        };
        let keyframe = control.take_keyframe();
        let unit = codec.encode(planes, now, (target, self.pace.rate(fps)), keyframe)?;
        self.codec = Some(codec);
        Ok((!unit.data.is_empty()).then(|| EncodedFrame {
            kind: Kind::Video,
            captured: now,
            keyframe: unit.keyframe,
            data: unit.data.into(),
            width: u16::try_from(width).unwrap_or(0),
            height: u16::try_from(height).unwrap_or(0),
            duration: Duration::from_secs(1) / fps.max(1),
        }))
    }
}

/// Leaves pictures out evenly, and knows how many a second there really are.
#[derive(Debug, Default)]
struct Pace {
    /// When the next picture is to be taken, and when the last was.
    next: Timestamp,
    last: Timestamp,
    /// Smoothed time between those that were taken, in seconds.
    interval: f64,
}

impl Pace {
    /// From now on `fps` a second; the picture of now was taken.
    fn restart(&mut self, now: Timestamp, fps: u32) {
        self.interval = 1.0 / f64::from(fps.max(1));
        self.last = now;
        self.next = now + Duration::from_secs_f64(self.interval);
    }

    /// Whether a picture of a source of `source` a second is among `fps` a second.
    fn takes(&mut self, now: Timestamp, fps: u32, source: u32) -> bool {
        let slack = Duration::from_secs_f64(0.5 / f64::from(source.max(1)));
        if now + slack < self.next {
            return false;
        }
        let step = Duration::from_secs_f64(1.0 / f64::from(fps.max(1)));
        self.next = if self.next + step + slack < now {
            // a pause is not caught up with
            now + step
        } else {
            self.next + step
        };
        let interval = now.since(self.last).as_secs_f64().min(1.0);
        self.interval += (interval - self.interval) / 8.0;
        self.last = now;
        true
    }

    /// Pictures a second, at most `fps`.
    fn rate(&self, fps: u32) -> f64 {
        (1.0 / self.interval.max(0.001)).min(f64::from(fps))
    }
}

#[cfg(test)]
mod tests {

    use suora_protocol::media::h264;

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

    /// The pattern's flash began or ended.
    fn flashes(frame: &EncodedFrame) -> bool {
        (frame.captured.as_micros() * 30 + 500_000) / 1_000_000 % 30 < 2
    }

    fn bits_per_second(frames: &[EncodedFrame], count: u64) -> u32 {
        let bits: usize = frames.iter().map(|frame| frame.data.len() * 8).sum();
        u32::try_from(bits * 30 / count as usize).unwrap()
    }

    #[test]
    fn it_is_constrained_baseline_in_one_slice_and_only_the_first_and_a_flash_are_keyframes() {
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
            let kinds: Vec<u8> = units.iter().map(|unit| h264::unit_type(unit)).collect();
            assert_eq!(
                kinds,
                if frame.keyframe {
                    vec![7, 8, 5]
                } else {
                    vec![1]
                }
            );
            assert!(!frame.keyframe || flashes(frame));
            assert_eq!((frame.width, frame.height), (640, 360));
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
    fn the_bitrate_follows_its_target_without_keyframes() {
        let (mut encoder, control) = (Encoder::new(30), Control::new(900_000));
        run(&mut encoder, &control, 0, 90);
        let mut at = 90;
        for target in [300_000, 600_000, 250_000] {
            control.set_target(target);
            run(&mut encoder, &control, at, 60);
            let frames = run(&mut encoder, &control, at + 60, 120);
            at += 180;
            let rate = bits_per_second(&frames, 120);
            assert!(rate < target * 5 / 4, "{rate} of {target}");
            assert!(frames.iter().all(|frame| !frame.keyframe || flashes(frame)));
        }
    }

    #[test]
    fn the_pattern_can_be_read_at_100_kbit() {
        let (mut encoder, control) = (Encoder::new(30), Control::new(100_000));
        let mut decoder = Decoder::new().unwrap();
        let frames = run(&mut encoder, &control, 0, 90);
        assert!(frames.len() > 40, "{}", frames.len());
        for frame in frames {
            let number = (frame.captured.as_micros() * 30 + 500_000) / 1_000_000;
            let decoded = decoder
                .decode(&frame.data, frame.keyframe)
                .unwrap()
                .unwrap();
            let decoded = decoded.frame();
            assert_eq!((decoded.width, decoded.height), (480, 270));
            let reading = pattern::read(decoded.width, decoded.height, &decoded.data);
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

    /// Pictures of a sample clip, 25 a second.
    fn clip(name: &str, count: u64) -> Vec<Picture> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = path.join("assets/clips").join(name);
        let clip = crate::capture::file::open(&path, 25, false).unwrap();
        let mut reader = clip.pictures.unwrap().reader().unwrap();
        (0..count)
            .map(|n| {
                let at = n * 40_000;
                Picture {
                    captured: Timestamp::from_micros(i64::try_from(at).unwrap()),
                    width: SIZE.0,
                    height: SIZE.1,
                    data: reader.at(at).unwrap().data.clone().into(),
                }
            })
            .collect()
    }

    fn encode(pictures: &[Picture], control: &Control) -> Vec<EncodedFrame> {
        let mut encoder = Encoder::new(25);
        let pictures = pictures.iter();
        pictures
            .filter_map(|picture| encoder.encode(picture, control))
            .collect()
    }

    #[test]
    fn any_second_of_a_clip_has_its_target_and_no_picture_is_far_over_the_mean() {
        let pictures = clip("citizen.mp4", 120);
        for target in [300_000, 600_000] {
            let frames = encode(&pictures, &Control::new(target));
            assert_eq!(frames.len(), pictures.len());
            let sizes: Vec<f64> = frames.iter().map(|f| f.data.len() as f64).collect();
            for second in sizes[20..].windows(25) {
                let rate = second.iter().sum::<f64>() * 8.0 / f64::from(target);
                assert!((0.85..1.15).contains(&rate), "{rate} of {target}");
            }
            let mean = sizes[1..].iter().sum::<f64>() / (sizes.len() - 1) as f64;
            let most = sizes[1..].iter().copied().fold(0.0, f64::max);
            assert!(most < 3.5 * mean, "{most} over {mean}");
        }
    }

    #[test]
    fn a_cut_out_of_a_still_scene_has_a_tenth_of_a_second_at_most() {
        let still = clip("officer.mp4", 1).remove(0);
        let moving = clip("citizen.mp4", 30);
        // a covered lens
        let mut black = still.data.to_vec();
        black.fill(16);
        let black = Picture {
            data: black.into(),
            ..still.clone()
        };
        let scenes = [still, black];
        for (target, still) in [300_000, 600_000, 1_200_000]
            .into_iter()
            .flat_map(|target| scenes.iter().map(move |still| (target, still)))
        {
            let mut pictures = vec![still.clone(); 60];
            pictures.extend(moving.iter().cloned());
            for (n, picture) in pictures.iter_mut().enumerate() {
                picture.captured = Timestamp::from_micros(i64::try_from(n).unwrap() * 40_000);
            }
            let frames = encode(&pictures, &Control::new(target));
            let cut = frames.iter().find(|f| f.captured == pictures[60].captured);
            let cut = cut.unwrap();
            let bits = cut.data.len() * 8;
            // or of pictures at 25 a second two and a half
            assert!(bits <= target as usize / 10, "{bits}");
            // and it is no picture of mud
            assert!(bits >= target as usize / 40, "{bits}");
            let after = frames.iter().filter(|f| f.captured > cut.captured);
            assert!(after.count() >= 28);
        }
    }

    #[test]
    fn a_camera_that_begins_black_does_not_make_the_next_picture_large() {
        let mut pictures = clip("citizen.mp4", 4);
        let mut black = pictures[0].data.to_vec();
        black.fill(16);
        pictures[0].data = black.into();
        let frames = encode(&pictures, &Control::new(600_000));
        let sizes: Vec<usize> = frames.iter().map(|frame| frame.data.len()).collect();
        assert_eq!(sizes.len(), 4);
        assert!(sizes[1] * 8 <= 600_000 / 10, "{sizes:?}");
        assert!(sizes[2] < sizes[1], "{sizes:?}");
    }

    // covers: SUORA-MED-031
    #[test]
    fn the_first_keyframe_of_a_clip_is_small_and_others_have_half_a_second_at_most() {
        for name in ["citizen.mp4", "officer.mp4"] {
            let pictures = clip(name, 50);
            let first = encode(&pictures[..1], &Control::new(600_000)).remove(0);
            assert!(first.keyframe && first.data.len() <= 10_000);
            for target in [60_000, 150_000, 300_000] {
                let control = Control::new(target);
                let mut encoder = Encoder::new(25);
                for (n, picture) in pictures.iter().enumerate() {
                    if n == 40 {
                        control.keyframe();
                    }
                    let Some(frame) = encoder.encode(picture, &control) else {
                        continue;
                    };
                    let most = (target as usize / 16).max(3_000);
                    assert!(!frame.keyframe || frame.data.len() <= most);
                }
            }
        }
    }

    // covers: SUORA-MED-032
    #[test]
    fn requests_that_come_together_get_one_keyframe_and_many_do_not_break_the_target() {
        let pictures = clip("citizen.mp4", 100);
        let control = Control::new(150_000);
        let mut encoder = Encoder::new(25);
        let (mut bytes, mut keyframes) = (0, 0);
        for (n, picture) in pictures.iter().enumerate() {
            if n < 75 {
                control.keyframe();
                control.keyframe();
            }
            if let Some(frame) = encoder.encode(picture, &control) {
                bytes += frame.data.len();
                keyframes += usize::from(frame.keyframe);
            }
        }
        // four seconds, and at most one of them ahead
        assert!(bytes * 8 <= 150_000 * 5, "{bytes}");
        assert!((4..=20).contains(&keyframes), "{keyframes}");
        // without requests none follows
        assert!(!control.take_keyframe());
    }

    // covers: SUORA-MED-030
    #[test]
    fn the_size_follows_the_target_and_each_new_one_begins_with_a_keyframe() {
        let pictures = clip("citizen.mp4", 100);
        let control = Control::new(400_000);
        let (mut encoder, mut decoder) = (Encoder::new(25), Decoder::new().unwrap());
        let mut sizes: Vec<(u16, u64)> = Vec::new();
        for (n, picture) in pictures.iter().enumerate() {
            control.set_target([400_000, 120_000, 50_000, 50_000][n / 25]);
            let Some(frame) = encoder.encode(picture, &control) else {
                continue;
            };
            match sizes.last_mut() {
                Some((width, count)) if *width == frame.width => *count += 1,
                _ => {
                    assert!(frame.keyframe);
                    sizes.push((frame.width, 1));
                }
            }
            let decoded = decoder.decode(&frame.data, frame.keyframe);
            let decoded = decoded.unwrap().unwrap().size();
            assert_eq!(decoded, (frame.width.into(), frame.height.into()));
        }
        let widths: Vec<u16> = sizes.iter().map(|(width, _)| *width).collect();
        assert_eq!(widths, [640, 480, 320]);
        // two seconds of 15 pictures, less what keyframes cost
        assert!((24..=31).contains(&sizes[2].1), "{sizes:?}");
    }

    #[test]
    fn scenes_that_change_all_the_time_are_few_keyframes() {
        let (mut pictures, others) = (clip("citizen.mp4", 50), clip("officer.mp4", 50));
        for (picture, other) in pictures.iter_mut().zip(others).skip(15).step_by(2) {
            picture.data = other.data;
        }
        let frames = encode(&pictures, &Control::new(600_000));
        let keyframes = frames.iter().filter(|frame| frame.keyframe);
        let at: Vec<i64> = keyframes.map(|frame| frame.captured.as_millis()).collect();
        assert!(at.len() > 1, "such pictures have little in common");
        assert!(at.windows(2).all(|two| two[1] - two[0] >= 250), "{at:?}");
    }

    #[test]
    fn a_scene_on_a_narrow_way_is_one_keyframe_for_each_size() {
        let pictures = clip("officer.mp4", 100);
        for target in [80_000, 150_000, 300_000] {
            let frames = encode(&pictures, &Control::new(target));
            let widths: std::collections::BTreeSet<u16> = frames.iter().map(|f| f.width).collect();
            let keyframes = frames.iter().filter(|frame| frame.keyframe).count();
            assert!(keyframes <= widths.len() + 1, "{keyframes} at {target}");
        }
    }

    #[test]
    fn pictures_that_were_not_wanted_make_the_next_no_larger() {
        let pictures = clip("citizen.mp4", 60);
        let control = Control::new(300_000);
        let after = |skip: bool| {
            let mut encoder = Encoder::new(25);
            for picture in &pictures[..20] {
                encoder.encode(picture, &control);
            }
            for picture in &pictures[20..45] {
                if skip {
                    encoder.skip(picture.captured);
                }
            }
            let frames = pictures[45..55]
                .iter()
                .filter_map(|picture| encoder.encode(picture, &control));
            frames.map(|frame| frame.data.len()).sum::<usize>() * 8
        };
        // ten pictures are 0.4 s
        let (held, slow) = (after(true), after(false));
        assert!(held < 300_000 * 55 / 100, "{held}");
        assert!(held < slow, "{held} {slow}: a slow source has larger ones");
    }

    #[test]
    fn pictures_over_the_rate_are_left_out_evenly() {
        for (source, fps, gaps) in [(30, 15, [2, 2]), (25, 15, [1, 2]), (30, 24, [1, 2])] {
            let at = |n: i64| Timestamp::from_micros(n * 1_000_000 / source);
            let mut pace = Pace::default();
            pace.restart(at(0), fps);
            let taken: Vec<i64> = (1..source * 4)
                .filter(|n| pace.takes(at(*n), fps, u32::try_from(source).unwrap()))
                .collect();
            let count = i64::from(fps) * 4 - 1;
            assert!((taken.len() as i64 - count).abs() <= 1, "{}", taken.len());
            for two in taken.windows(2) {
                assert!(gaps.contains(&(two[1] - two[0])), "{two:?}");
            }
            assert!((pace.rate(60) - f64::from(fps)).abs() < f64::from(fps) / 4.0);
        }
    }

    #[test]
    fn a_large_picture_can_be_read_at_1500_kbit() {
        let size = (1_280, 720);
        let pattern = pattern::Pattern::new(size.0, size.1, 30);
        let control = Control::new(1_500_000);
        let (mut encoder, mut decoder) = (Encoder::new(30), Decoder::new().unwrap());
        let mut bytes = 0;
        for n in 0..60 {
            let picture = picture(n, size, pattern.draw(n));
            let frame = encoder.encode(&picture, &control).unwrap();
            bytes += frame.data.len();
            let decoded = decoder.decode(&frame.data, frame.keyframe);
            let decoded = decoded.unwrap().unwrap().frame();
            assert_eq!((decoded.width, decoded.height), size);
            let reading = pattern::read(size.0, size.1, &decoded.data);
            assert_eq!(reading.counter, u32::try_from(n).ok());
        }
        assert!(bytes * 8 <= 1_500_000 * 2 * 115 / 100, "{bytes}");
    }
}
