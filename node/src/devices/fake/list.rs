//! The list of made-up devices, as it is written.

use std::path::PathBuf;

use serde::Deserialize;

use super::VARIABLE;
use crate::devices::{Trouble, Why};

/// A list as it is written.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Written {
    /// Cameras.
    pub cameras: Vec<Camera>,
    /// Microphones.
    pub microphones: Vec<Microphone>,
    /// Loudspeakers.
    pub speakers: Vec<Speaker>,
}

/// What a device answers instead of opening.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Another program uses it.
    Busy,
    /// This account may not use it.
    Denied,
    /// It does not work.
    Broken,
    /// It opens, and gives or takes nothing.
    Silent,
    /// It opens, gives or takes nothing, and does not close.
    Stuck,
}

impl Answer {
    pub(super) fn trouble(self) -> Option<Trouble> {
        let why = match self {
            Self::Busy => Why::Busy,
            Self::Denied => Why::Denied,
            Self::Broken => Why::Broken,
            Self::Silent | Self::Stuck => return None,
        };
        Some(Trouble::new(why, format!("so says {VARIABLE}")))
    }
}

/// A camera of the list.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Its name.
    pub name: String,
    /// `pattern`, or a file with pictures.
    #[serde(default = "pattern_source")]
    pub source: String,
    /// What it answers when it is opened.
    #[serde(default)]
    pub answer: Option<Answer>,
}

fn pattern_source() -> String {
    "pattern".into()
}

/// A microphone of the list.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Microphone {
    /// Its name.
    pub name: String,
    /// `beep`, `silence`, or a file with sound.
    #[serde(default = "beep_source")]
    pub source: String,
    /// Samples a second.
    #[serde(default = "usual_rate")]
    pub rate: u32,
    /// Whether what it hears is cleaned of echo and noise, as with a real one.
    #[serde(default)]
    pub clean: bool,
    /// The loudspeaker that it hears as well.
    #[serde(default)]
    pub hears: Option<Hears>,
    /// What it answers when it is opened.
    #[serde(default)]
    pub answer: Option<Answer>,
}

fn beep_source() -> String {
    "beep".into()
}

const fn usual_rate() -> u32 {
    48_000
}

/// A loudspeaker in the same room.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hears {
    /// Its name.
    pub speaker: String,
    /// How long the sound is on its way, in ms, up to 500.
    pub delay_ms: u32,
    /// How much of it arrives, 0 to 1.
    pub part: f32,
}

/// A loudspeaker of the list.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speaker {
    /// Its name.
    pub name: String,
    /// The WAV file that it writes; none: what it plays is only heard in its room.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Samples a second.
    #[serde(default = "usual_rate")]
    pub rate: u32,
    /// How long sound waits in it until it is heard, in ms.
    #[serde(default = "usual_buffer")]
    pub buffer_ms: u32,
    /// What it answers when it is opened.
    #[serde(default)]
    pub answer: Option<Answer>,
}

const fn usual_buffer() -> u32 {
    20
}

/// Reads a list, or says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Written, String> {
    let written: Written = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let rates = written.microphones.iter().map(|device| device.rate);
    for rate in rates.chain(written.speakers.iter().map(|device| device.rate)) {
        if !(8_000..=192_000).contains(&rate) {
            return Err(format!("rate {rate}: choose 8000 to 192000"));
        }
    }
    let hears = |device: &Microphone| device.hears.as_ref().is_some_and(|h| h.delay_ms > 500);
    if written.microphones.iter().any(hears) {
        return Err("delay_ms: choose 0 to 500".into());
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_list_says_what_is_wrong() {
        for (text, says) in [
            (r#"{"cameras": [{"nmae": "Front"}]}"#, "nmae"),
            (r#"{"microphones": [{"name": "a", "rate": 1}]}"#, "rate 1"),
            ("{", "EOF"),
        ] {
            let reason = parse(text).unwrap_err();
            assert!(reason.contains(says), "{reason}");
        }
    }
}
