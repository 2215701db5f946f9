//! PURE: a person who speaks on the bad network: a real voice through the real encoder, by
//! the loss that it is told, beside pictures of a model.

use std::path::Path;
use std::time::Instant;

use suora_node::capture::{file, mp4};
use suora_node::encode::opus::Encoder;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::SOUND_FRAME;
use suora_protocol::media::{EncodedFrame, Kind, jitter};
use suora_protocol::time::Now;

use super::end::{Model, Source};

/// The sound of a clip, at 48 kHz; a clip without is [`Code::BadFile`].
pub fn clip(path: &Path) -> Result<Vec<i16>, Fault> {
    let bad = |error: String| Fault::new(Code::BadFile).with(error);
    let sound = mp4::read(&file::bytes(path)?).map_err(bad)?.sound;
    let sound = sound.ok_or_else(|| bad("a clip without sound".into()))?;
    sound.decode().map_err(bad)
}

/// Says the same clip again and again.
pub struct Voice {
    clip: Vec<i16>,
    encoder: Encoder,
    frames: usize,
    start: Instant,
    /// The pictures beside it.
    pub pictures: Model,
}

impl Voice {
    /// Begins to speak at `start`.
    pub fn new(start: Now, clip: Vec<i16>) -> Result<Self, Fault> {
        Ok(Self {
            clip,
            encoder: Encoder::live()?,
            frames: 0,
            start: start.mono,
            pictures: Model::new(start, 30),
        })
    }

    fn at(&self) -> Instant {
        // what was said since is captured whole only now
        self.start + jitter::FRAME * u32::try_from(self.frames + 1).unwrap_or(u32::MAX)
    }
}

impl Source for Voice {
    fn due(&mut self, now: Now, target: Option<u32>, keyframe: bool) -> Vec<EncodedFrame> {
        let mut frames = self.pictures.due(now, target, keyframe);
        frames.retain(|frame| frame.kind == Kind::Video);
        while self.at() <= now.mono {
            let late = now.mono - self.at() + jitter::FRAME;
            let from = self.frames * SOUND_FRAME;
            let samples: Vec<i16> = (from..from + SOUND_FRAME)
                .map(|at| self.clip[at % self.clip.len()])
                .collect();
            self.frames += 1;
            if let Some(data) = self.encoder.speak(&samples) {
                frames.push(EncodedFrame {
                    kind: Kind::Audio,
                    captured: now.utc - late,
                    data: data.into(),
                    keyframe: true,
                    width: 0,
                    height: 0,
                    duration: jitter::FRAME,
                });
            }
        }
        frames
    }

    fn next(&self) -> Option<Instant> {
        let pictures = self.pictures.next_picture();
        Some(self.at().min(pictures))
    }

    fn sound(&mut self, bits_per_second: u32, percent: u8) {
        self.encoder.set_bitrate(bits_per_second);
        self.encoder.set_loss(percent);
    }
}
