use bytes::Bytes;

use super::*;
use crate::Faults;
use crate::capture::mp4::{self, Movie};
use crate::capture::{Picture, file, pattern};
use crate::encode::Control;
use crate::play::{Sink, SoundKind};

/// Encoded pictures of the pattern, 30 a second.
fn pictures(size: (u32, u32), count: u64) -> Vec<EncodedFrame> {
    let pattern = pattern::Pattern::new(size.0, size.1, 30);
    let mut encoder = crate::encode::h264::Encoder::new(30);
    let control = Control::new(400_000);
    let encode = |n| {
        let picture = Picture {
            captured: at(n as f64 / 30.0),
            width: size.0,
            height: size.1,
            data: pattern.draw(n),
        };
        encoder.encode(&picture, &control)
    };
    (0..count).filter_map(encode).collect()
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_micros(1_795_525_200_000_000 + (seconds * 1e6) as i64)
}

fn record(write: impl FnOnce(&Sink)) -> (tempfile::TempDir, PathBuf, Movie) {
    let dir = tempfile::tempdir().unwrap();
    let (sink, recorder) = Sink::record(dir.path().join("a.mp4"), Faults::default()).unwrap();
    write(&sink);
    let file = recorder.finish().unwrap().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let movie = mp4::read(&file::bytes(&file).unwrap()).unwrap();
    (dir, file, movie)
}

fn hear(sink: &Sink, blocks: std::ops::Range<u64>, from: f64) {
    for n in blocks {
        let at = at(from + n as f64 * 0.02);
        sink.sound(pattern::beep(n), at, SoundKind::Packet).unwrap();
    }
}

fn beep(movie: &Movie) -> f64 {
    let samples = movie.sound.as_ref().unwrap().decode().unwrap();
    let first = samples.iter().position(|sample| sample.abs() > 4_000);
    first.unwrap() as f64 / 48_000.0
}

#[test]
fn access_units_stand_as_received_at_their_display_times() {
    let frames = pictures((160, 90), 30);
    let (_dir, _, movie) = record(|sink| {
        for (n, frame) in frames.iter().enumerate() {
            let shown = at(n as f64 / 30.0 + 0.1);
            sink.picture(frame.clone(), shown, true).unwrap();
        }
    });
    let units = movie.video.unwrap();
    assert_eq!(units.len(), frames.len());
    for (n, (unit, frame)) in units.iter().zip(&frames).enumerate() {
        assert_eq!(unit.keyframe, frame.keyframe);
        assert!(
            unit.at.abs_diff(n as u64 * 1_000_000 / 30) < 20,
            "{}",
            unit.at
        );
        let of = |data: &Bytes| -> Vec<Vec<u8>> {
            let units = h264::split(data).into_iter();
            units.map(Vec::from).collect()
        };
        assert_eq!(of(&unit.data), of(&frame.data));
    }
}

#[test]
fn a_picture_that_is_not_shown_gets_the_least_time() {
    let frames = pictures((160, 90), 6);
    let (_dir, _, movie) = record(|sink| {
        for (n, frame) in frames.iter().enumerate() {
            let shown = at(n as f64 / 30.0);
            sink.picture(frame.clone(), shown, n != 2 && n != 3)
                .unwrap();
        }
    });
    let units = movie.video.unwrap();
    let lasts: Vec<_> = units.iter().map(|unit| unit.lasts).collect();
    assert!(lasts[2] < 20 && lasts[3] < 20, "{lasts:?}");
    assert!(lasts[1].abs_diff(100_000) < 50, "{lasts:?}");
    assert!(units[4].at.abs_diff(4_000_000 / 30) < 20);
}

#[test]
fn sound_that_came_later_begins_with_silence() {
    let frames = pictures((160, 90), 30);
    let (_dir, _, movie) = record(|sink| {
        for (n, frame) in frames.iter().enumerate() {
            let shown = at(n as f64 / 30.0);
            sink.picture(frame.clone(), shown, true).unwrap();
        }
        sink.sound(vec![0; 960], at(0.1), SoundKind::Silence)
            .unwrap();
        hear(sink, 0..30, 0.25);
    });
    assert_eq!(movie.video.as_ref().unwrap()[0].at, 0);
    assert!((beep(&movie) - 0.25).abs() < 0.002, "{}", beep(&movie));
}

#[test]
fn pictures_that_came_later_begin_later() {
    let frames = pictures((160, 90), 10);
    let (_dir, _, movie) = record(|sink| {
        hear(sink, 45..100, 0.0);
        for (n, frame) in frames.iter().enumerate() {
            let shown = at(2.0 + n as f64 / 30.0);
            sink.picture(frame.clone(), shown, true).unwrap();
        }
    });
    // the file begins with block 45, the beep is in block 50
    assert!((beep(&movie) - 0.1).abs() < 0.002, "{}", beep(&movie));
    let first = movie.video.unwrap()[0].at;
    assert!(first.abs_diff(1_100_000) < 100, "{first}");
}

#[test]
fn holes_in_sound_are_silence_and_overlaps_are_cut() {
    let (_dir, _, movie) = record(|sink| {
        hear(sink, 10..20, 0.0);
        // eight seconds of nothing, then the beep; its first block comes late by a jitter of 5 ms
        hear(sink, 400..401, 0.005);
        hear(sink, 401..410, 0.0);
        // the same time again
        hear(sink, 405..450, 0.0);
    });
    // where it was played, that jitter included, and no later
    let began = beep(&movie);
    assert!((7.798..7.807).contains(&began), "{began}");
    let samples = movie.sound.unwrap().decode().unwrap();
    let length = samples.len() as f64 / 48_000.0;
    assert!((8.8..8.85).contains(&length), "{length}");
}

#[test]
fn another_size_in_mid_recording_gets_its_own_entry() {
    let mut frames = pictures((160, 90), 5);
    frames.extend(pictures((320, 180), 5));
    let (_dir, file, _) = record(|sink| {
        for (n, frame) in frames.iter().enumerate() {
            let shown = at(n as f64 / 30.0);
            sink.picture(frame.clone(), shown, true).unwrap();
        }
    });
    let movie = mp4::read(&file::bytes(&file).unwrap()).unwrap();
    let mut decoder = crate::decode::h264::Decoder::new().unwrap();
    let sizes: Vec<_> = movie
        .video
        .unwrap()
        .iter()
        .map(|unit| {
            let picture = decoder.decode(&unit.data, unit.keyframe).unwrap().unwrap();
            picture.size().0
        })
        .collect();
    assert_eq!(sizes, [160, 160, 160, 160, 160, 320, 320, 320, 320, 320]);
}

#[test]
fn nothing_is_recorded_before_a_keyframe() {
    let frames = pictures((160, 90), 5);
    let dir = tempfile::tempdir().unwrap();
    let (sink, recorder) = Sink::record(dir.path().join("a.mp4"), Faults::default()).unwrap();
    for frame in &frames[1..] {
        sink.picture(frame.clone(), at(0.0), true).unwrap();
    }
    assert_eq!(recorder.finish(), Ok(None));
}

#[test]
fn a_contact_sheet_shows_it() {
    let frames = pictures((160, 90), 40);
    let (dir, file, _) = record(|sink| {
        for (n, frame) in frames.iter().enumerate() {
            let shown = at(n as f64 / 30.0);
            sink.picture(frame.clone(), shown, true).unwrap();
        }
    });
    let png = dir.path().join("a.png");
    crate::play::sheet::contact_sheet(&file, &png, 4, 2).unwrap();
    let decoder = png::Decoder::new(std::io::BufReader::new(File::open(&png).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut rgb).unwrap();
    assert_eq!((info.width, info.height), (4 * 324 + 4, 2 * 184 + 4));
    // the first cell is a picture, not grey
    let line = &rgb[info.line_size * 90..][..info.line_size];
    assert!(line[12..960].iter().any(|value| value.abs_diff(128) > 40));
}
