//! Recordings of real clips. Which moment of a looped clip a picture shows is found by likeness:
//! for each second of the recording, the one delay with which its pictures are most like the
//! clip's. With the delay of speech at the same moments ([`crate::speech`]) that tells how far
//! lips and voice are apart, without marks in picture or sound.

use std::path::Path;

use suora_node::capture::{file, mp4};
use suora_node::decode::h264::Decoder;
use suora_node::fit::Frame;
use suora_protocol::fault::Fault;
use suora_protocol::limits::SOUND_FRAME;

use crate::recording::{Picture, Recording};
use crate::speech::Speech;

/// A picture in little: mean brightness of so many columns and rows.
const COLUMNS: usize = 32;
const ROWS: usize = 18;
/// Pictures that are compared at a time, in ms, and the step to the next.
const WINDOW: f64 = 1_000.0;
const STEP: f64 = 500.0;
/// Least pictures of a window.
const LEAST: usize = 5;
/// Delays are tried this close to each other, in ms.
const GRAIN: f64 = 4.0;
/// A still scene looks the same at many delays: at this distance, in ms, a delay must fit worse
/// by this factor than the best.
const APART: f64 = 160.0;
const WORSE: f32 = 2.0;
/// Most that the best may differ, as mean square of brightness: more is another picture.
const UNLIKE: f32 = 150.0;
/// A sound and a picture that are compared lie no further apart, in ms.
const NEAR: f64 = 500.0;

/// A picture in little.
type Print = Vec<f32>;

fn print(frame: &Frame) -> Print {
    let (luma, width, height) = frame.planes()[0];
    let (width, height) = (width as usize, height as usize);
    let mut print = Vec::with_capacity(COLUMNS * ROWS);
    for row in 0..ROWS {
        // every other line is enough
        let lines = (row * height / ROWS..(row + 1) * height / ROWS).step_by(2);
        for column in 0..COLUMNS {
            let (left, right) = (column * width / COLUMNS, (column + 1) * width / COLUMNS);
            let (mut sum, mut count) = (0_u32, 0_u32);
            for y in lines.clone() {
                let line = luma.get(y * width + left..y * width + right).unwrap_or(&[]);
                sum += line.iter().map(|pixel| u32::from(*pixel)).sum::<u32>();
                count += u32::try_from(line.len()).unwrap_or(0);
            }
            print.push(sum as f32 / count.max(1) as f32);
        }
    }
    print
}

fn unlike(a: &Print, b: &Print) -> f32 {
    let squares: f32 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    squares / a.len().max(1) as f32
}

/// A clip that an end plays round and round.
#[derive(Debug)]
pub struct Clip {
    /// When each picture begins, in ms, and it in little.
    pictures: Vec<(f64, Print)>,
    /// Length of a round, in ms.
    pub round: f64,
    /// What is spoken in a round, mono at 48 kHz.
    pub spoken: Vec<i16>,
}

impl Clip {
    /// Reads a clip with picture and sound as a node would play it.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let media = file::open(path, 25, true)?;
        let clip = media
            .pictures
            .ok_or_else(|| file::bad(path, "no pictures"))?;
        let track = media.sound.ok_or_else(|| file::bad(path, "no sound"))?;
        let round = clip.period();
        let track = track.last(round);
        let samples = usize::try_from(round * 48 / 1_000).unwrap_or(0);
        let blocks = 0..samples.div_ceil(SOUND_FRAME) as u64;
        let mut spoken: Vec<i16> = blocks.flat_map(|n| track.block(n)).collect();
        spoken.truncate(samples);
        let pictures = decoded(path)?.into_iter();
        let pictures = pictures.filter_map(|(picture, print)| Some((picture.at, print?)));
        Ok(Self {
            pictures: pictures.collect(),
            round: round as f64 / 1_000.0,
            spoken,
        })
    }

    /// The picture that is shown at a time of the round, by number.
    fn index(&self, time: f64) -> usize {
        let time = time.rem_euclid(self.round);
        let after = self.pictures.partition_point(|(at, _)| *at <= time);
        after.saturating_sub(1)
    }

    /// How late pictures are, modulo a round, where it can be told: when, and by how much, in ms.
    pub fn lags(&self, film: &Film) -> Vec<(f64, f64)> {
        let unlike: Vec<(f64, Vec<f32>)> = film
            .prints
            .iter()
            .map(|(at, print)| {
                let all = self.pictures.iter().map(|(_, own)| unlike(print, own));
                (*at, all.collect())
            })
            .collect();
        let end = unlike.last().map_or(0.0, |(at, _)| *at);
        let mut lags = Vec::new();
        let mut begin = 0.0;
        while begin + WINDOW <= end {
            let from = unlike.partition_point(|(at, _)| *at < begin);
            let to = unlike.partition_point(|(at, _)| *at < begin + WINDOW);
            let window = &unlike[from..to];
            if window.len() >= LEAST
                && let Some(lag) = self.lag(window)
            {
                lags.push((begin + WINDOW / 2.0, lag));
            }
            begin += STEP;
        }
        lags
    }

    /// The delay with which a window's pictures are most like the clip's, if it is a clear one.
    fn lag(&self, window: &[(f64, Vec<f32>)]) -> Option<f64> {
        let differs = |lag: f64| {
            let each = window.iter().map(|(at, unlike)| {
                unlike
                    .get(self.index(at - lag))
                    .copied()
                    .unwrap_or(f32::MAX)
            });
            each.sum::<f32>() / window.len() as f32
        };
        let steps = (self.round / GRAIN) as usize;
        let all: Vec<f32> = (0..steps)
            .map(|step| differs(step as f64 * GRAIN))
            .collect();
        let least = all.iter().copied().fold(f32::MAX, f32::min);
        // several neighbours fit equally well, as pictures last longer than a step: their middle
        let best = all.iter().position(|value| *value <= least)?;
        let run = all[best..].iter().take_while(|value| **value <= least);
        let lag = (best as f64 + (run.count() as f64 - 1.0) / 2.0) * GRAIN;
        let apart = differs(lag - APART).min(differs(lag + APART));
        (least <= UNLIKE && apart >= WORSE * least.max(1.0)).then_some(lag)
    }
}

/// A recording of a clip.
#[derive(Debug)]
pub struct Film {
    /// Its pictures, without what they say.
    pub recording: Recording,
    /// Pictures that cannot be decoded.
    pub broken: usize,
    /// The pictures that were shown: when, in ms, and in little.
    prints: Vec<(f64, Print)>,
    /// What was heard, mono at 48 kHz.
    pub heard: Vec<i16>,
}

impl Film {
    /// How long it is, in ms, by its sound.
    pub fn lasts_ms(&self) -> f64 {
        self.heard.len() as f64 / 48.0
    }

    /// Reads a recording.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let pictures = decoded(path)?;
        let movie = mp4::read(&file::bytes(path)?).map_err(|why| file::bad(path, why))?;
        let heard = match movie.sound {
            Some(sound) => sound.decode().map_err(|why| file::bad(path, why))?,
            None => Vec::new(),
        };
        let broken = pictures.iter().filter(|(_, print)| print.is_none()).count();
        let shown = pictures.iter().filter(|(picture, _)| picture.shown);
        let prints = shown.filter_map(|(picture, print)| Some((picture.at, print.clone()?)));
        Ok(Self {
            prints: prints.collect(),
            broken,
            recording: Recording {
                pictures: pictures.iter().map(|(picture, _)| *picture).collect(),
                beeps: Vec::new(),
            },
            heard,
        })
    }
}

/// All pictures of a file: when and whether they are shown, and in little.
fn decoded(path: &Path) -> Result<Vec<(Picture, Option<Print>)>, Fault> {
    let movie = mp4::read(&file::bytes(path)?).map_err(|why| file::bad(path, why))?;
    let mut decoder = Decoder::new()?;
    let mut pictures = Vec::new();
    for unit in movie.video.unwrap_or_default() {
        let decoded = decoder.decode(&unit.data, unit.keyframe).ok().flatten();
        pictures.push((
            Picture::of(&unit, None),
            decoded.map(|picture| print(&picture.frame())),
        ));
    }
    Ok(pictures)
}

/// How far pictures are behind speech, modulo a round: each moment at which both are known, in
/// ms; below 0 they are ahead.
pub fn apart(round: f64, pictures: &[(f64, f64)], speech: &Speech) -> Vec<f64> {
    let near = |at: f64| {
        let lags = speech.lags.iter().filter(|lag| (lag.at - at).abs() <= NEAR);
        lags.min_by(|a, b| (a.at - at).abs().total_cmp(&(b.at - at).abs()))
    };
    let skews = pictures.iter().filter_map(|(at, picture)| {
        let apart = (picture - near(*at)?.lag).rem_euclid(round);
        Some(if apart > round / 2.0 {
            apart - round
        } else {
            apart
        })
    });
    skews.collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use suora_node::Faults;
    use suora_node::capture;
    use suora_node::encode::{Control, h264::Encoder};
    use suora_node::fit::Fit;
    use suora_node::play::Sink;
    use suora_protocol::time::Timestamp;

    use super::*;
    use crate::speech::Lag;

    fn clip(name: &str) -> PathBuf {
        let clips = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/assets/clips");
        clips.join(name).with_extension("mp4")
    }

    /// Records four seconds of the clip from `from` on, a quarter as large, each picture so much
    /// late.
    fn film(from: f64, late: impl Fn(f64) -> f64) -> Film {
        let at =
            |seconds: f64| Timestamp::from_micros(1_795_525_200_000_000 + (seconds * 1e6) as i64);
        let dir = tempfile::tempdir().unwrap();
        let (sink, recorder) = Sink::record(dir.path().join("a.mp4"), Faults::default()).unwrap();
        let pictures = file::open(&clip("citizen"), 30, false).unwrap().pictures;
        let mut reader = pictures.unwrap().reader().unwrap();
        let (width, height) = (320, 180);
        let mut fit = Fit::new(width, height);
        let (mut encoder, control) = (Encoder::new(30), Control::new(400_000));
        let mut data = None;
        for n in 0..120_u32 {
            let time = f64::from(n) / 30.0;
            if let Some(frame) = reader.at(((from + time) * 1e6) as u64) {
                data = Some(fit.fit(frame));
            }
            let picture = capture::Picture {
                captured: at(time),
                width,
                height,
                data: data.clone().unwrap(),
            };
            if let Some(frame) = encoder.encode(&picture, &control) {
                sink.picture(frame, at(time + late(time)), true).unwrap();
            }
        }
        Film::read(&recorder.finish().unwrap().unwrap()).unwrap()
    }

    #[test]
    fn the_delay_of_each_second_is_found_in_any_size_and_none_in_another_clip() {
        let own = Clip::read(&clip("citizen")).unwrap();
        assert_eq!((own.round, own.spoken.len()), (9_600.0, 460_800));
        // half way the pictures fall behind by 130 ms
        let film = film(1.0, |time| if time < 2.0 { 0.0 } else { 0.13 });
        assert_eq!(film.broken, 0);
        let lags = own.lags(&film);
        assert!(lags.len() >= 4, "{lags:?}");
        for (at, lag) in lags {
            // a window in the middle of the change is either
            let expected = if at < 2_000.0 { 8_600.0 } else { 8_730.0 };
            let change = (at - 2_000.0).abs() <= 600.0;
            assert!(change || (lag - expected).abs() < 25.0, "{lag} at {at}");
        }
        let other = Clip::read(&clip("officer")).unwrap();
        let lags = other.lags(&film);
        assert!(lags.len() <= 1, "{lags:?}");
    }

    #[test]
    fn lips_and_voice_are_compared_at_the_same_moment_and_round_the_clip() {
        let speech = |lags: &[(f64, f64)]| Speech {
            lags: lags
                .iter()
                .map(|(at, lag)| Lag {
                    at: *at,
                    lag: *lag,
                    alike: 1.0,
                })
                .collect(),
            ..Speech::default()
        };
        let heard = speech(&[(500.0, 9_590.0), (1_500.0, 100.0), (9_000.0, 100.0)]);
        let seen = [(500.0, 20.0), (1_600.0, 90.0), (4_000.0, 100.0)];
        assert_eq!(apart(9_600.0, &seen, &heard), [30.0, -10.0]);
        assert!(apart(9_600.0, &seen, &speech(&[])).is_empty());
    }
}
