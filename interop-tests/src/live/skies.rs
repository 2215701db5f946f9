//! PURE: the named weathers, and what a consultation under each should reach.

use std::time::Duration;

use crate::weather::line::{Loss, Weather};

/// What is measured of a consultation; of what both ends measure the worse counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// Freezes, of the recording.
    Freezes,
    /// Longest time between two pictures, of the recording, in ms.
    LongestGap,
    /// Pictures a second, of the recording.
    Pictures,
    /// Lines of the last picture, as reported.
    Lines,
    /// Capture to screen, p95, as reported, in ms.
    PictureLatency,
    /// Capture to loudspeaker, p95, as reported, in ms.
    MouthToEar,
    /// Speech that was made up, as reported, in percent of what was played.
    Concealed,
    /// Intelligibility of the recorded speech.
    Stoi,
    /// Speech of which nothing was heard, of the recording, in ms.
    Lost,
    /// Pictures behind or ahead of speech, p95 of the recording, in ms.
    Lips,
    /// The same, the median.
    LipsMedian,
}

impl Measure {
    /// All, in the order of the table.
    pub const ALL: [Self; 11] = [
        Self::Freezes,
        Self::LongestGap,
        Self::Pictures,
        Self::Lines,
        Self::PictureLatency,
        Self::MouthToEar,
        Self::Concealed,
        Self::Stoi,
        Self::Lost,
        Self::LipsMedian,
        Self::Lips,
    ];

    /// Its name and unit in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Freezes => "freezes",
            Self::LongestGap => "longest gap between pictures, ms",
            Self::Pictures => "pictures a second",
            Self::Lines => "lines of the last picture",
            Self::PictureLatency => "picture latency p95, ms",
            Self::MouthToEar => "mouth to ear p95, ms",
            Self::Concealed => "concealed speech, %",
            Self::Stoi => "STOI of the recorded speech",
            Self::Lost => "speech that was not heard, ms",
            Self::LipsMedian => "lips and voice apart, median, ms",
            Self::Lips => "lips and voice apart p95, ms",
        }
    }

    /// Whether more of it is better.
    pub const fn more_is_better(self) -> bool {
        matches!(self, Self::Pictures | Self::Lines | Self::Stoi)
    }
}

/// A named weather.
#[derive(Clone, Debug)]
pub struct Sky {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// The wire, in both directions.
    pub weather: Weather,
    /// Arguments of both nodes.
    pub arguments: &'static [&'static str],
    /// What should be reached, beside [`COMMON`].
    pub aims: &'static [(Measure, &'static str)],
}

/// What should be reached in every weather.
pub const COMMON: &[(Measure, &str)] = &[(Measure::LipsMedian, "≤ 80"), (Measure::Lips, "≤ 80")];

impl Sky {
    /// What a measure should reach; empty: it is shown only.
    pub fn aim(&self, measure: Measure) -> &'static str {
        let mut aims = self.aims.iter().chain(COMMON);
        aims.find(|aim| aim.0 == measure).map_or("", |aim| aim.1)
    }
}

const S: fn(u64) -> Duration = Duration::from_secs;

/// Most kilobits of picture a second, where a weather says nothing else.
const USUAL: &[&str] = &["--bitrate", "600"];

/// All weathers.
pub fn all() -> Vec<Sky> {
    use Measure::{
        Concealed, Freezes, Lines, LongestGap, Lost, MouthToEar, PictureLatency, Pictures, Stoi,
    };
    let sky = |name, title, weather, aims| Sky {
        name,
        title,
        weather,
        arguments: USUAL,
        aims,
    };
    vec![
        sky(
            "clean",
            "nothing but a wire of 1 ms",
            Weather::delay(1),
            &[
                (Freezes, "0"),
                (Pictures, "≥ 29"),
                (Concealed, "≤ 0.1"),
                (MouthToEar, "≤ 150"),
                (Stoi, "≥ 0.95"),
                (Lost, "0"),
            ],
        ),
        sky(
            "far",
            "50 ms one way",
            Weather::delay(50),
            &[
                (Freezes, "0"),
                (Pictures, "≥ 29"),
                (Concealed, "≤ 0.1"),
                (MouthToEar, "≤ 200"),
                (PictureLatency, "≤ 190"),
                (Stoi, "≥ 0.95"),
                (Lost, "0"),
            ],
        ),
        sky(
            "lossy",
            "50 ms one way, 5 % lost at random, 1 Mbit/s",
            Weather::delay(50)
                .losing(Loss::Random(0.05))
                .narrow(1_000_000),
            &[
                (Freezes, "0"),
                (Pictures, "≥ 20"),
                (Concealed, "≤ 0.3"),
                (MouthToEar, "≤ 250"),
                (PictureLatency, "≤ 190"),
                (Stoi, "≥ 0.95"),
                (Lost, "0"),
            ],
        ),
        sky(
            "storm",
            "50 ms one way, 20 % lost at random, 1 Mbit/s",
            Weather::delay(50)
                .losing(Loss::Random(0.2))
                .narrow(1_000_000),
            &[
                (LongestGap, "≤ 1000"),
                (Pictures, "≥ 15"),
                (MouthToEar, "≤ 300"),
                (Stoi, "≥ 0.9"),
                (Lost, "≤ 500"),
            ],
        ),
        sky(
            "narrow",
            "50 ms one way, 1 % lost at random, 300 kbit/s",
            Weather::delay(50)
                .losing(Loss::Random(0.01))
                .narrow(300_000),
            &[
                (LongestGap, "≤ 1000"),
                (Pictures, "≥ 15"),
                (Concealed, "≤ 0.3"),
                (Stoi, "≥ 0.95"),
                (Lost, "0"),
                (MouthToEar, "≤ 250"),
            ],
        ),
        sky(
            "dark",
            "25 ms one way, nothing passes for 3 s after 10 s, 4 Mbit/s",
            Weather {
                blackouts: vec![(S(10), S(13))],
                ..Weather::delay(25).narrow(4_000_000)
            },
            &[
                (LongestGap, "≤ 3500"),
                (Pictures, "≥ 20"),
                (Lost, "≤ 3500"),
                (MouthToEar, "≤ 250"),
            ],
        ),
        sky(
            "steps",
            "40 ms one way, 2 Mbit/s, 0.5 for the second third of 30 s, and 2 again",
            Weather {
                capacity: vec![(S(0), 2_000_000), (S(10), 500_000), (S(20), 2_000_000)],
                ..Weather::delay(40)
            },
            &[
                (LongestGap, "≤ 1000"),
                (Pictures, "≥ 15"),
                (Concealed, "≤ 0.5"),
                (MouthToEar, "≤ 250"),
                (Stoi, "≥ 0.95"),
                // a quarter of the way is left at once: what waits before it is 100 ms of sound
                (Lost, "≤ 250"),
            ],
        ),
        sky(
            "wireless",
            "15 ms one way and up to 60 more, 1.5 % lost in bursts, 5 Mbit/s",
            Weather {
                jitter: Duration::from_millis(60),
                ..Weather::delay(15)
                    .losing(Loss::Bursts(0.005, 0.33))
                    .narrow(5_000_000)
            },
            &[
                (LongestGap, "≤ 1000"),
                (Pictures, "≥ 15"),
                (Concealed, "≤ 1"),
                (MouthToEar, "≤ 250"),
                (Stoi, "≥ 0.95"),
                (Lost, "0"),
            ],
        ),
        Sky {
            arguments: &["--bitrate", "1350", "--size", "1280x720"],
            ..sky(
                "large",
                "30 ms one way, 1280x720 on 1.5 Mbit/s",
                Weather::delay(30).narrow(1_500_000),
                &[
                    (LongestGap, "≤ 1000"),
                    (Pictures, "≥ 24"),
                    (Lines, "≥ 720"),
                    (Concealed, "≤ 0.3"),
                    (MouthToEar, "≤ 250"),
                    (Stoi, "≥ 0.95"),
                    (Lost, "0"),
                ],
            )
        },
    ]
}

/// The weathers of these names, or all; an unknown name is the error.
pub fn named(names: &[String]) -> Result<Vec<Sky>, String> {
    let all = all();
    if names.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| {
        all.iter()
            .find(|sky| sky.name == name)
            .cloned()
            .ok_or_else(|| {
                let known: Vec<_> = all.iter().map(|sky| sky.name).collect();
                format!("no weather {name}; there are {}", known.join(", "))
            })
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_weather_and_others_say_what_there_is() {
        let names: Vec<String> = all().iter().map(|sky| sky.name.to_string()).collect();
        let found = named(&names).unwrap();
        assert!(
            found
                .iter()
                .zip(&names)
                .all(|(sky, name)| sky.name == *name)
        );
        assert_eq!(named(&[]).unwrap().len(), names.len());
        assert!(named(&["sunny".into()]).unwrap_err().contains("storm"));
    }

    #[test]
    fn lips_pictures_and_speech_are_held_to_something_in_every_weather() {
        for sky in all() {
            assert_eq!(sky.aim(Measure::Lips), "≤ 80", "{}", sky.name);
            for measure in [Measure::Pictures, Measure::MouthToEar, Measure::Lost] {
                assert!(!sky.aim(measure).is_empty(), "{} {measure:?}", sky.name);
            }
        }
    }
}
