use proptest::prelude::*;

use super::*;
use crate::capture::{Picture, pattern};
use crate::encode::{Control, h264::Encoder};
use suora_protocol::time::Timestamp;

const SIZE: (u32, u32) = (160, 90);

/// An Annex B stream of the pattern, a keyframe each ten pictures.
fn stream(count: u64) -> Vec<u8> {
    let pattern = pattern::Pattern::new(SIZE.0, SIZE.1, 25);
    let (mut encoder, control) = (Encoder::new(25), Control::new(2_000_000));
    let mut out = Vec::new();
    for n in 0..count {
        if n % 10 == 0 {
            control.keyframe();
        }
        let picture = Picture {
            captured: Timestamp::from_millis(i64::try_from(n).unwrap() * 40),
            width: SIZE.0,
            height: SIZE.1,
            data: pattern.draw(n),
        };
        out.extend_from_slice(&encoder.encode(&picture, &control).unwrap().data);
    }
    out
}

fn y4m(count: u64, colours: &str) -> Vec<u8> {
    let pattern = pattern::Pattern::new(SIZE.0, SIZE.1, 25);
    let mut out = format!("YUV4MPEG2 W160 H90 F25:1 Ip A1:1{colours}\n").into_bytes();
    for n in 0..count {
        out.extend_from_slice(b"FRAME\n");
        out.extend_from_slice(&pattern.draw(n));
    }
    out
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

fn open_bytes(bytes: &[u8]) -> Result<Media, Fault> {
    open(file(bytes).path(), 25, true)
}

/// The numbers of the pictures that are shown at these times, in milliseconds.
fn numbers(clip: &Clip, times: &[u64]) -> Vec<Option<u32>> {
    let mut reader = clip.reader().unwrap();
    times
        .iter()
        .map(|ms| {
            let frame = reader.at(ms * 1_000)?;
            pattern::read(frame.width, frame.height, &frame.data).counter
        })
        .collect()
}

#[test]
fn pictures_loop_without_a_gap_and_are_left_out_or_repeated_as_time_asks() {
    let raw = file(&y4m(30, " C420mpeg2"));
    for clip in [
        open(raw.path(), 30, true).unwrap().pictures.unwrap(),
        open_bytes(&stream(30)).unwrap().pictures.unwrap(),
    ] {
        assert_eq!(clip.period(), 1_200_000);
        assert_eq!(
            numbers(
                &clip,
                &[0, 39, 40, 400, 1_190, 1_200, 1_240, 2_390, 36_001_200]
            ),
            [
                Some(0),
                None,
                Some(1),
                Some(10),
                Some(29),
                Some(0),
                Some(1),
                Some(29),
                Some(0)
            ]
        );
    }
}

#[test]
fn the_bundled_clips_give_picture_and_speech() {
    let clips = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/clips");
    for (name, period) in [("officer.mp4", 10_560_000), ("citizen.mp4", 9_600_000)] {
        let media = open(&clips.join(name), 30, true).unwrap();
        let clip = media.pictures.unwrap();
        assert_eq!(clip.period(), period);
        let mut reader = clip.reader().unwrap();
        for time in [0, period / 2, period - 1, period + 40_000] {
            let frame = reader.at(time).unwrap();
            assert_eq!((frame.width, frame.height), (640, 360));
        }
        let track = media.sound.unwrap().last(period);
        assert!(track.samples.len().abs_diff(period as usize * 48 / 1_000) < 1_000);
        // speech: loud blocks and quiet ones
        let loud = |n: &u64| track.block(*n).iter().any(|sample| sample.abs() > 3_000);
        let loud = (0..450).filter(loud).count();
        assert!((100..430).contains(&loud), "{loud}");
    }
}

#[test]
fn what_cannot_be_used_is_named_with_what_to_do() {
    let mut high = stream(3);
    let sps = find_start(&high, 0).unwrap() + 4;
    high[sps] = 100;
    for (bytes, says) in [
        (high, "-profile:v baseline"),
        (y4m(1, " C444"), "yuv420p"),
        (y4m(1, "")[..500].to_vec(), "no whole picture"),
        (b"hello".to_vec(), "ffmpeg"),
        (Vec::new(), "ffmpeg"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2".to_vec(), "no index"),
        (vec![0, 0, 1, 0x41, 9, 9], "decoding can begin"),
    ] {
        let fault = open_bytes(&bytes).unwrap_err();
        assert_eq!(fault.code, Code::BadMediaFile);
        let detail = fault.detail.unwrap();
        assert!(detail.contains(says), "{detail}");
    }
}

#[test]
fn damage_in_mid_stream_is_found_when_the_file_is_opened() {
    // a picture is missing: those after it refer to it
    let mut units = annex_b(&stream(30).into(), 25);
    units.remove(13);
    let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.data.to_vec()).collect();
    let detail = open_bytes(&bytes).unwrap_err().detail.unwrap();
    assert!(detail.contains("damaged at picture 13"), "{detail}");
}

#[test]
fn a_damaged_picture_leaves_the_one_before_until_the_next_keyframe() {
    let bytes = stream(30);
    let mut units = annex_b(&bytes.into(), 25);
    units[13].data = Bytes::from_static(&[0, 0, 1, 0x41, 0xff]);
    let clip = Clip::unchecked(units).unwrap();
    let times: Vec<_> = (0..30).map(|n| n * 40).collect();
    let shown = numbers(&clip, &times);
    for (n, number) in (0..30).zip(shown) {
        assert_eq!(number, Some(n).filter(|n| !(13..20).contains(n)));
    }
}

#[test]
fn sound_loops_in_step_with_the_pictures() {
    let samples: Vec<i16> = (0..4_000).map(|at| at as i16 + 1).collect();
    let path = Path::new("a");
    let alone = Track::new(path, samples.clone()).unwrap();
    let sound = |track: &Track, blocks: u64| -> Vec<i16> {
        (0..blocks).flat_map(|n| track.block(n)).collect()
    };
    let all = sound(&alone, 100);
    assert_eq!(all[..4_000], samples);
    assert_eq!(all[4_000..8_000], samples);
    // pictures of 100 ms: silence until they begin again
    let longer = alone.clone().last(100_000);
    let all = sound(&longer, 50);
    assert_eq!(all[4_000..4_800], [0; 800]);
    assert_eq!(all[4_800], 1);
    assert_eq!(all[9_600], 1);
    // pictures of 1/30 s: cut, and after a minute still in step
    let shorter = alone.last(33_333);
    assert_eq!(
        shorter.block(3_000)[..3],
        [all[0] + 28, all[0] + 29, all[0] + 30]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn damaged_files_do_no_harm(kind in 0..2, places: Vec<(usize, u8)>, cut in 0_usize..3_000) {
        let mut bytes = if kind == 0 { y4m(2, "") } else { stream(4) };
        let len = bytes.len();
        for (place, byte) in places {
            bytes[place % len] = byte;
        }
        bytes.truncate(len - cut);
        let file = file(&bytes);
        if let Ok(Media { pictures: Some(clip), .. }) = open(file.path(), 25, true) {
            numbers(&clip, &[0, 100, 10_000]);
        }
    }
}
