//! PURE: whether two people who tried a consultation really saw, heard and wrote to each
//! other: the judgement of `suora demo`, over the report and the recording of an end.

use serde_json::Value;

use crate::text::Texts;

/// Pictures a second that a demo's clip has at least.
const RATE: u64 = 25;
/// Lines that each end writes to the other.
pub const LINES: u64 = 2;

/// What a recording holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recorded {
    /// Pictures.
    pub pictures: u64,
    /// Packets of sound.
    pub sounds: u64,
}

/// What an end lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The consultation was not completed.
    Consultation,
    /// Fewer pictures were shown than half of what was sent in the time.
    Picture {
        /// Pictures that were decoded.
        shown: u64,
        /// At least so many would do.
        wanted: u64,
    },
    /// Less sound was heard than half of the time.
    Sound {
        /// Milliseconds that came from packets.
        heard: u64,
        /// At least so many would do.
        wanted: u64,
    },
    /// Lines did not come.
    Chat {
        /// Lines that came.
        received: u64,
    },
    /// The recording has no pictures.
    RecordedPicture,
    /// The recording has no sound.
    RecordedSound,
}

impl Missing {
    /// In words.
    pub fn text(self, texts: &Texts) -> String {
        match self {
            Self::Consultation => texts.get("missing-consultation"),
            Self::Picture { shown, wanted } => texts.with(
                "missing-picture",
                &[
                    ("shown", &shown.to_string()),
                    ("wanted", &wanted.to_string()),
                ],
            ),
            Self::Sound { heard, wanted } => texts.with(
                "missing-sound",
                &[
                    ("heard", &heard.to_string()),
                    ("wanted", &wanted.to_string()),
                ],
            ),
            Self::Chat { received } => texts.with(
                "missing-chat",
                &[
                    ("received", &received.to_string()),
                    ("wanted", &LINES.to_string()),
                ],
            ),
            Self::RecordedPicture => texts.get("missing-recorded-picture"),
            Self::RecordedSound => texts.get("missing-recorded-sound"),
        }
    }
}

/// What an end lacks after a talk of `seconds`: nothing when it saw and heard at least half of
/// it. The bounds are wide, since a busy machine may stutter; the figures are in the report.
pub fn missing(report: &Value, recorded: Recorded, seconds: u32) -> Vec<Missing> {
    let number = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let mut missing = Vec::new();
    if report["outcome"] != "completed" {
        missing.push(Missing::Consultation);
    }
    let seconds = u64::from(seconds);
    let (shown, wanted) = (number("/video/received/frames_decoded"), seconds * RATE / 2);
    let rate = report
        .pointer("/video/received/fps")
        .and_then(Value::as_f64);
    if shown < wanted || rate.is_none() {
        missing.push(Missing::Picture { shown, wanted });
    }
    let concealed = number("/audio/received/concealed_ms");
    let heard = number("/audio/received/played_ms").saturating_sub(concealed);
    let wanted = seconds * 1_000 / 2;
    if heard < wanted || number("/audio/received/packets") == 0 {
        missing.push(Missing::Sound { heard, wanted });
    }
    let received = number("/chat/received");
    if received != LINES {
        missing.push(Missing::Chat { received });
    }
    if recorded.pictures == 0 {
        missing.push(Missing::RecordedPicture);
    }
    if recorded.sounds == 0 {
        missing.push(Missing::RecordedSound);
    }
    missing
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RECORDED: Recorded = Recorded {
        pictures: 290,
        sounds: 500,
    };

    fn report() -> Value {
        json!({
            "outcome": "completed",
            "video": {"received": {"frames_decoded": 290, "fps": 29.9}},
            "audio": {"received": {"packets": 500, "played_ms": 10_000, "concealed_ms": 40}},
            "chat": {"received": 2},
        })
    }

    fn with(path: &str, value: Value) -> Vec<Missing> {
        let mut report = report();
        *report.pointer_mut(path).unwrap() = value;
        missing(&report, RECORDED, 10)
    }

    #[test]
    fn who_saw_heard_and_read_lacks_nothing() {
        assert_eq!(missing(&report(), RECORDED, 10), []);
    }

    #[test]
    fn each_part_that_did_not_come_is_named() {
        let picture = |shown| [Missing::Picture { shown, wanted: 125 }];
        assert_eq!(with("/video/received/frames_decoded", json!(1)), picture(1));
        assert_eq!(with("/video/received/fps", Value::Null), picture(290));
        let sound = |heard| {
            [Missing::Sound {
                heard,
                wanted: 5_000,
            }]
        };
        assert_eq!(
            with("/audio/received/played_ms", json!(4_000)),
            sound(3_960)
        );
        assert_eq!(
            with("/audio/received/concealed_ms", json!(6_000)),
            sound(4_000)
        );
        assert_eq!(with("/audio/received/packets", json!(0)), sound(9_960));
        assert_eq!(
            with("/chat/received", json!(1)),
            [Missing::Chat { received: 1 }]
        );
        assert_eq!(with("/outcome", json!("failed")), [Missing::Consultation]);
        let silent = Recorded {
            sounds: 0,
            ..RECORDED
        };
        assert_eq!(missing(&report(), silent, 10), [Missing::RecordedSound]);
        let blind = Recorded {
            pictures: 0,
            ..RECORDED
        };
        assert_eq!(missing(&report(), blind, 10), [Missing::RecordedPicture]);
    }

    #[test]
    fn a_report_of_nothing_lacks_everything() {
        assert_eq!(missing(&Value::Null, Recorded::default(), 3).len(), 6);
        let texts = Texts::new("en");
        for missing in missing(&Value::Null, Recorded::default(), 3) {
            let text = missing.text(&texts);
            assert!(!text.contains('{') && text.contains(' '), "{text}");
        }
    }
}
