//! PURE: what was shown and played, as figures of the call report
//! (`spec/consultation.md`, section 6). A freeze is a gap between shown pictures longer
//! than max(3 × mean interval, mean + 150 ms), as WebRTC's statistics define it.

use std::collections::VecDeque;

use hdrhistogram::Histogram;
use suora_protocol::media::receiver::Received;
use suora_protocol::time::Timestamp;

use super::since_capture;
use crate::play::{Event, SoundKind};
use crate::report::{
    Audio, AudioReceived, AudioSent, Latency, Skew, Video, VideoReceived, VideoSent,
};

/// Intervals whose mean tells what a freeze is.
const INTERVALS: usize = 30;
/// Longest time that a distribution tells apart, in microseconds.
const LONGEST: u64 = 60_000_000;

/// Times in microseconds.
#[derive(Debug)]
struct Times(Histogram<u32>);

impl Default for Times {
    fn default() -> Self {
        // the bounds are constants that the library accepts
        Self(
            Histogram::new_with_bounds(1, LONGEST, 3)
                .unwrap_or_else(|_| Histogram::new(3).unwrap_or_else(|_| unreachable!())),
        )
    }
}

impl Times {
    fn add(&mut self, micros: i64) {
        self.0
            .saturating_record(u64::try_from(micros).unwrap_or(0).max(1));
    }

    fn quantile(&self, q: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(q) as f64 / 1_000.0)
    }

    fn latency(&self) -> Latency {
        Latency {
            p50: self.quantile(0.5),
            p95: self.quantile(0.95),
            max: self.quantile(1.0),
        }
    }
}

/// What was shown and played so far.
#[derive(Debug, Default)]
pub struct Figures {
    offset: i64,
    decoded: u64,
    shown: u64,
    undecodable: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    intervals: VecDeque<i64>,
    freezes: u64,
    freeze: i64,
    size: Option<(u32, u32)>,
    picture: Times,
    latency: Option<f64>,
    heard: bool,
    played: u64,
    concealed: u64,
    sound: Times,
    /// "Played − captured" of the last sound.
    voice: Option<i64>,
    skew: Times,
}

impl Figures {
    /// The other end's clock minus ours, in microseconds.
    pub const fn offset(&mut self, offset: i64) {
        self.offset = offset;
    }

    /// Whether the other end sends pictures: the time without is no freeze.
    pub fn peer_media(&mut self, _video: bool) {
        self.last = None;
        self.intervals.clear();
    }

    /// Takes what a decoder tells; true for the first picture and the first sound.
    pub fn take(&mut self, event: &Event) -> bool {
        match event {
            Event::Shown {
                captured,
                at,
                width,
                height,
                show,
            } => {
                self.decoded += 1;
                self.size = Some((*width, *height));
                if *show {
                    self.show(*captured, *at);
                }
                self.decoded == 1
            }
            Event::Undecodable => {
                self.undecodable += 1;
                false
            }
            Event::Played { captured, at, kind } => {
                let first = !self.heard && *kind == SoundKind::Packet;
                self.heard |= first;
                match kind {
                    SoundKind::Packet => self.played += 20,
                    SoundKind::Concealed if self.heard => {
                        self.played += 20;
                        self.concealed += 20;
                    }
                    SoundKind::Concealed | SoundKind::Silence => {}
                }
                if let Some(captured) = captured {
                    let delay = since_capture(*at, *captured, self.offset);
                    self.sound.add(delay);
                    self.voice = Some(delay);
                }
                first
            }
            Event::Failed(_) => false,
        }
    }

    fn show(&mut self, captured: Timestamp, at: Timestamp) {
        self.shown += 1;
        self.first.get_or_insert(at);
        let delay = since_capture(at, captured, self.offset);
        self.picture.add(delay);
        self.latency = Some(delay as f64 / 1_000.0);
        if let Some(voice) = self.voice {
            self.skew.add((delay - voice).abs());
        }
        if let Some(last) = self.last.replace(at) {
            let interval = at.micros_since(last);
            let count = i64::try_from(self.intervals.len()).unwrap_or(1);
            if count > 0 {
                let mean = self.intervals.iter().sum::<i64>() / count;
                if interval > (3 * mean).max(mean + 150_000) {
                    self.freezes += 1;
                    self.freeze += interval;
                }
            }
            self.intervals.push_back(interval);
            if self.intervals.len() > INTERVALS {
                self.intervals.pop_front();
            }
        }
    }

    /// Pictures shown so far.
    pub const fn shown(&self) -> u64 {
        self.shown
    }

    /// Capture to sink of the last picture, in ms.
    pub const fn last_latency(&self) -> Option<f64> {
        self.latency
    }

    /// Pictures, for the report.
    pub fn video(&self, sent: VideoSent, received: Received) -> Video {
        let span = self
            .first
            .zip(self.last)
            .map(|(first, last)| last.micros_since(first) as f64 / 1_000_000.0);
        Video {
            sent,
            received: VideoReceived {
                frames_decoded: self.decoded,
                frames_dropped: received.dropped + self.undecodable,
                freezes: self.freezes,
                freeze_ms: self.freeze as f64 / 1_000.0,
                width: self.size.map(|size| size.0),
                height: self.size.map(|size| size.1),
                fps: span
                    .filter(|span| *span > 0.0 && self.shown > 1)
                    .map(|span| (self.shown - 1) as f64 / span),
                latency_ms: self.picture.latency(),
            },
        }
    }

    /// Sound, for the report.
    pub fn audio(&self, sent: AudioSent, received: Received) -> Audio {
        Audio {
            sent,
            received: AudioReceived {
                packets: received.packets,
                concealed_ms: self.concealed,
                played_ms: self.played,
                latency_ms: self.sound.latency(),
            },
            av_skew_ms: Skew {
                p50: self.skew.quantile(0.5),
                p95: self.skew.quantile(0.95),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(figures: &mut Figures, at_ms: i64, delay_ms: i64) -> bool {
        let at = Timestamp::from_millis(1_000_000 + at_ms);
        figures.take(&Event::Shown {
            captured: at.shift(-delay_ms * 1_000),
            at,
            width: 640,
            height: 360,
            show: true,
        })
    }

    fn received() -> Received {
        Received::default()
    }

    // covers: SUORA-CON-006
    #[test]
    fn a_freeze_is_a_gap_over_three_intervals_and_150_ms() {
        let mut figures = Figures::default();
        let mut at = 0;
        for _ in 0..30 {
            shown(&mut figures, at, 40);
            at += 33;
        }
        // 33 + 150 ms is the bound here
        at += 145;
        shown(&mut figures, at, 40);
        assert_eq!(
            figures
                .video(VideoSent::default(), received())
                .received
                .freezes,
            0
        );
        at += 200;
        shown(&mut figures, at, 40);
        let video = figures.video(VideoSent::default(), received()).received;
        assert_eq!((video.freezes, video.freeze_ms), (1, 200.0));
    }

    #[test]
    fn a_camera_that_was_off_is_no_freeze() {
        let mut figures = Figures::default();
        for at in 0..30 {
            shown(&mut figures, at * 33, 40);
        }
        figures.peer_media(false);
        shown(&mut figures, 60_000, 40);
        assert_eq!(
            figures
                .video(VideoSent::default(), received())
                .received
                .freezes,
            0
        );
    }

    // covers: SUORA-CON-007
    #[test]
    fn latency_is_corrected_by_the_clock_offset_and_skew_compares_lips_with_voice() {
        let mut figures = Figures::default();
        // their clock is an hour ahead
        figures.offset(3_600_000_000);
        let at = Timestamp::from_secs(10_000);
        let captured = |delay_ms: i64| Some(at.shift(3_600_000_000 - delay_ms * 1_000));
        assert!(figures.take(&Event::Played {
            captured: captured(60),
            at,
            kind: SoundKind::Packet
        }));
        assert!(figures.take(&Event::Shown {
            captured: captured(90).unwrap(),
            at,
            width: 1,
            height: 1,
            show: true
        }));
        let audio = figures.audio(AudioSent::default(), received());
        let near = |value: Option<f64>, ms: f64| value.is_some_and(|v| (v - ms).abs() < 0.2);
        assert!(near(audio.received.latency_ms.p50, 60.0), "{audio:?}");
        assert!(near(audio.av_skew_ms.p95, 30.0), "{audio:?}");
        assert!(near(figures.last_latency(), 90.0));
        assert_eq!(audio.received.played_ms, 20);
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let figures = Figures::default();
        let video = figures.video(VideoSent::default(), received());
        assert_eq!(video.received.latency_ms.p50, None);
        assert_eq!(video.received.fps, None);
    }
}
