//! Recordings of the test pattern: the numbers, flashes and beeps are read out of the
//! pictures and the sound of an MP4 file, and compared with the call report of the node
//! that recorded it. The report says what was counted, the file what was really there.

use std::collections::VecDeque;
use std::path::Path;

use serde_json::Value;
use suora_node::capture::{file, mp4, pattern};
use suora_node::decode::h264::Decoder;
use suora_protocol::fault::Fault;

/// Most that flash and beep may lie apart, in milliseconds, at the median: a busy machine may
/// stutter once.
const SKEW_MAX: f64 = 80.0;
/// Most that they may lie apart from what the report says, in milliseconds: one picture and
/// what the voice's codec lags.
const REPORT_SKEW_MAX: f64 = 45.0;
/// A flash and a beep that are further apart do not belong together, in milliseconds.
const PAIR_MAX: f64 = 450.0;
/// A picture that lasts less was decoded, but not shown, in milliseconds.
const SHOWN_MIN: f64 = 0.5;
/// Intervals whose mean tells what a freeze is.
const INTERVALS: usize = 30;
/// A beep begins where sound is this loud after so many samples that were not.
const LOUD: i16 = 4_000;
const QUIET: usize = 9_600;

/// One picture of a recording.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Picture {
    /// When it is shown, in milliseconds.
    pub at: f64,
    /// Whether it is shown, or was only decoded.
    pub shown: bool,
    /// What it says; `None`: it cannot be decoded.
    pub reading: Option<pattern::Reading>,
}

impl Picture {
    /// An access unit of a file, with what it says.
    pub fn of(unit: &file::Unit, reading: Option<pattern::Reading>) -> Self {
        Self {
            at: unit.at as f64 / 1_000.0,
            shown: unit.lasts as f64 / 1_000.0 >= SHOWN_MIN,
            reading,
        }
    }
}

/// What was read out of a file.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Recording {
    /// All pictures, in order.
    pub pictures: Vec<Picture>,
    /// When beeps begin, in milliseconds.
    pub beeps: Vec<f64>,
}

/// What a recording says.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Summary {
    /// Pictures in the file.
    pub pictures: usize,
    /// Numbers between the first and the last that are not there.
    pub missing: u64,
    /// Longest time between two pictures that were shown.
    pub longest_gap_ms: f64,
    /// Gaps as WebRTC's statistics define a freeze.
    pub freezes: u64,
    /// Flash minus beep, each pair: above 0 the picture is late.
    pub skews_ms: Vec<f64>,
}

/// Reads a file. Pictures that cannot be decoded are part of what is read.
pub fn read(path: &Path) -> Result<Recording, Fault> {
    let movie = mp4::read(&file::bytes(path)?).map_err(|reason| file::bad(path, reason))?;
    let mut decoder = Decoder::new()?;
    let mut pictures = Vec::new();
    for unit in movie.video.unwrap_or_default() {
        let decoded = decoder.decode(&unit.data, unit.keyframe).ok().flatten();
        let reading = decoded.map(|picture| {
            let frame = picture.frame();
            pattern::read(frame.width, frame.height, &frame.data)
        });
        pictures.push(Picture::of(&unit, reading));
    }
    let beeps = match movie.sound {
        Some(sound) => beeps(&sound.decode().map_err(|reason| file::bad(path, reason))?),
        None => Vec::new(),
    };
    Ok(Recording { pictures, beeps })
}

/// Where loud sound begins after 200 ms that were not loud.
fn beeps(samples: &[i16]) -> Vec<f64> {
    let mut beeps = Vec::new();
    let mut quiet = 0;
    for (at, sample) in samples.iter().enumerate() {
        if sample.saturating_abs() < LOUD {
            quiet += 1;
        } else {
            if quiet >= QUIET || beeps.is_empty() {
                beeps.push(at as f64 / 48.0);
            }
            quiet = 0;
        }
    }
    beeps
}

/// Compares a recording with the report of the node that made it: count, order, gaps, and
/// skew of sound and picture. An error lists all that does not fit.
pub fn check(recording: &Recording, report: &Value) -> Result<Summary, Vec<String>> {
    let mut problems = Vec::new();
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64);
    let summary = Summary {
        pictures: recording.pictures.len(),
        missing: order(recording, &mut problems),
        longest_gap_ms: gaps(recording).fold(0.0, f64::max),
        freezes: freezes(gaps(recording)),
        skews_ms: skews(recording),
    };
    if recording.pictures.is_empty() {
        problems.push("no pictures".into());
    }
    let mut same = |what: &str, pointer: &str, here: f64| {
        let there = number(pointer);
        if there != Some(here) {
            problems.push(format!("{here} {what}, but the report says {there:?}"));
        }
    };
    same(
        "pictures",
        "/video/received/frames_decoded",
        summary.pictures as f64,
    );
    same("freezes", "/video/received/freezes", summary.freezes as f64);
    skew(
        recording,
        &summary,
        number("/audio/av_skew_ms/p50"),
        &mut problems,
    );
    if problems.is_empty() {
        Ok(summary)
    } else {
        Err(problems)
    }
}

/// Every picture can be read, and their numbers rise; how many are missing between.
fn order(recording: &Recording, problems: &mut Vec<String>) -> u64 {
    let mut missing = 0;
    let (mut broken, mut unreadable) = (0, 0);
    let mut last: Option<u32> = None;
    for picture in &recording.pictures {
        let Some(reading) = picture.reading else {
            broken += 1;
            continue;
        };
        let Some(counter) = reading.counter else {
            unreadable += 1;
            continue;
        };
        if let Some(last) = last.replace(counter) {
            let step = counter.wrapping_sub(last) % pattern::NUMBERS;
            if step == 0 || step > pattern::NUMBERS / 2 {
                problems.push(format!("number {counter} follows {last}"));
            } else {
                missing += u64::from(step - 1);
            }
        }
    }
    if broken > 0 {
        problems.push(format!("{broken} pictures cannot be decoded"));
    }
    if unreadable > 0 {
        problems.push(format!(
            "{unreadable} pictures carry no number that can be read"
        ));
    }
    missing
}

/// When pictures were shown, in ms.
pub fn shown(recording: &Recording) -> Vec<f64> {
    let pictures = recording.pictures.iter();
    pictures
        .filter(|picture| picture.shown)
        .map(|picture| picture.at)
        .collect()
}

/// Times between pictures that were shown, in ms.
pub fn gaps(recording: &Recording) -> impl Iterator<Item = f64> {
    let shown = shown(recording);
    (1..shown.len()).map(move |n| shown[n] - shown[n - 1])
}

/// How many of these times between pictures, in ms, are longer than max(3 × mean, mean + 150 ms)
/// of the 30 before.
pub fn freezes(gaps: impl IntoIterator<Item = f64>) -> u64 {
    let mut last: VecDeque<f64> = VecDeque::new();
    let mut freezes = 0;
    for gap in gaps {
        if !last.is_empty() {
            let mean = last.iter().sum::<f64>() / last.len() as f64;
            freezes += u64::from(gap > (3.0 * mean).max(mean + 150.0));
        }
        last.push_back(gap);
        if last.len() > INTERVALS {
            last.pop_front();
        }
    }
    freezes
}

/// Flash minus beep, for each flash that has a beep near it.
fn skews(recording: &Recording) -> Vec<f64> {
    flashes(recording)
        .into_iter()
        .filter_map(|flash| {
            recording
                .beeps
                .iter()
                .map(|beep| flash - beep)
                .min_by(|a, b| a.abs().total_cmp(&b.abs()))
                .filter(|skew| skew.abs() < PAIR_MAX)
        })
        .collect()
}

/// When the pictures with a flash are shown.
fn flashes(recording: &Recording) -> Vec<f64> {
    let mut flashes = Vec::new();
    let mut before = false;
    for picture in recording.pictures.iter().filter(|picture| picture.shown) {
        let flash = picture.reading.is_some_and(|reading| reading.flash);
        if flash && !before {
            flashes.push(picture.at);
        }
        before = flash;
    }
    flashes
}

fn skew(
    recording: &Recording,
    summary: &Summary,
    reported: Option<f64>,
    problems: &mut Vec<String>,
) {
    // sound starts later than pictures and both end somewhere in a second: allow for two
    let seconds = recording
        .pictures
        .last()
        .map_or(0.0, |last| last.at / 1_000.0);
    let pairs = summary.skews_ms.len() as f64;
    if pairs < (seconds - 2.0).max(1.0).floor() {
        problems.push(format!(
            "{pairs} flashes with a beep in {seconds:.1} s ({} flashes, {} beeps)",
            flashes(recording).len(),
            recording.beeps.len()
        ));
    }
    let mut sorted = summary.skews_ms.clone();
    sorted.sort_by(f64::total_cmp);
    if let Some(median) = sorted.get(sorted.len() / 2) {
        if median.abs() > SKEW_MAX {
            problems.push(format!("flash and beep lie {median:.0} ms apart"));
        }
        match reported {
            None => problems.push("the report says no skew of sound and picture".into()),
            Some(reported) if (median.abs() - reported.abs()).abs() > REPORT_SKEW_MAX => {
                problems.push(format!(
                    "flash and beep lie {median:.0} ms apart, but the report says {reported:.0} ms"
                ));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use suora_node::Faults;
    use suora_node::capture;
    use suora_node::decode::opus::Decoder as Ear;
    use suora_node::encode::{Control, h264::Encoder, opus::Encoder as Voice};
    use suora_node::play::{Sink, SoundKind};
    use suora_protocol::time::Timestamp;

    use super::*;

    const SECONDS: u64 = 4;
    const FPS: u64 = 30;
    const SIZE: (u32, u32) = (320, 180);

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_micros(1_795_525_200_000_000 + (seconds * 1e6) as i64)
    }

    /// Records the pattern, picture and sound as they come out of their encoders, shown and
    /// played in step; what the recording and an honest report say. `late` is added to the
    /// display times of the pictures from the middle on.
    fn record(faults: Faults, late: f64) -> (Recording, Value) {
        let dir = tempfile::tempdir().unwrap();
        let (sink, recorder) = Sink::record(dir.path().join("a.mp4"), faults).unwrap();
        let pattern = pattern::Pattern::new(SIZE.0, SIZE.1, FPS as u32);
        let (mut encoder, control) = (Encoder::new(FPS as u32), Control::new(600_000));
        let mut decoded = 0;
        for n in 0..SECONDS * FPS {
            let time = n as f64 / FPS as f64;
            let picture = capture::Picture {
                captured: at(time),
                width: SIZE.0,
                height: SIZE.1,
                data: pattern.draw(n),
            };
            if let Some(frame) = encoder.encode(&picture, &control) {
                decoded += 1;
                let late = if n > SECONDS * FPS / 2 { late } else { 0.0 };
                sink.picture(frame, at(time + 0.1 + late), true).unwrap();
            }
        }
        let (mut voice, mut ear) = (Voice::new().unwrap(), Ear::new().unwrap());
        for n in 0..SECONDS * 50 {
            let packet = voice.encode(&pattern::beep(n)).unwrap();
            let samples = ear.any(&packet).unwrap();
            let played = at(n as f64 / 50.0 + 0.1);
            sink.sound(samples, played, SoundKind::Packet).unwrap();
        }
        let file = recorder.finish().unwrap().unwrap();
        let report = json!({
            "video": {"received": {"frames_decoded": decoded, "freezes": u64::from(late > 0.2)}},
            "audio": {"av_skew_ms": {"p50": 5.0, "p95": 9.0}},
        });
        (read(&file).unwrap(), report)
    }

    fn problems(checked: Result<Summary, Vec<String>>) -> String {
        checked.unwrap_err().join("; ")
    }

    #[test]
    fn a_good_recording_agrees_with_its_report() {
        let (recording, report) = record(Faults::default(), 0.0);
        let summary = check(&recording, &report).unwrap();
        assert_eq!(summary.missing, 0);
        assert!(summary.longest_gap_ms < 35.0, "{summary:?}");
        assert_eq!(summary.skews_ms.len() as u64, SECONDS);
        // the voice's codec lags by 6.5 ms
        let worst = summary.skews_ms.iter().map(|skew| skew.abs());
        assert!(worst.fold(0.0, f64::max) < 12.0, "{summary:?}");
    }

    #[test]
    fn every_tenth_picture_dropped_after_it_was_counted_is_noticed() {
        let faults = Faults {
            drop_every: Some(10),
            ..Faults::default()
        };
        let (recording, report) = record(faults, 0.0);
        let problems = problems(check(&recording, &report));
        assert!(
            problems.contains("pictures, but the report says"),
            "{problems}"
        );
    }

    #[test]
    fn sound_shifted_by_200_ms_is_noticed() {
        let faults = Faults {
            shift_sound: Duration::from_millis(200),
            ..Faults::default()
        };
        let (recording, report) = record(faults, 0.0);
        let problems = problems(check(&recording, &report));
        assert!(problems.contains("ms apart"), "{problems}");
    }

    #[test]
    fn a_freeze_that_the_report_does_not_know_is_noticed() {
        let (recording, mut report) = record(Faults::default(), 0.3);
        assert_eq!(freezes(gaps(&recording)), 1);
        report["video"]["received"]["freezes"] = json!(0);
        let problems = problems(check(&recording, &report));
        assert!(problems.contains("1 freezes"), "{problems}");
    }

    #[test]
    fn order_numbers_and_missing_sound_are_noticed() {
        let (good, report) = record(Faults::default(), 0.0);
        let mut swapped = good.clone();
        let reading = swapped.pictures[40].reading;
        swapped.pictures[40].reading = swapped.pictures[41].reading;
        swapped.pictures[41].reading = reading;
        assert!(problems(check(&swapped, &report)).contains("number 40 follows 41"));
        let mut broken = good.clone();
        broken.pictures[7].reading = None;
        assert!(problems(check(&broken, &report)).contains("1 pictures cannot be decoded"));
        let mut silent = good.clone();
        silent.beeps.clear();
        assert!(problems(check(&silent, &report)).contains("0 flashes with a beep"));
        assert!(problems(check(&Recording::default(), &report)).contains("no pictures"));
        assert!(problems(check(&good, &json!({}))).contains("the report says None"));
    }
}
