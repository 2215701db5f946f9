//! PURE: what was shown and played, as figures of the call report
//! (`spec/consultation.md`, section 6). A freeze is a gap between shown pictures longer
//! than max(3 × mean interval, mean + 150 ms), as WebRTC's statistics define it.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;
use suora_protocol::consultation::clock::Offset;
use suora_protocol::media::jitter::Ledger;
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
struct Times {
    values: Histogram<u32>,
    /// The largest uncertainty of the clocks, in microseconds.
    unsure: i64,
}

impl Default for Times {
    fn default() -> Self {
        // the bounds are constants that the library accepts
        Self {
            values: Histogram::new_with_bounds(1, LONGEST, 3)
                .unwrap_or_else(|_| Histogram::new(3).unwrap_or_else(|_| unreachable!())),
            unsure: 0,
        }
    }
}

impl Times {
    fn add(&mut self, micros: i64) {
        self.values
            .saturating_record(u64::try_from(micros).unwrap_or(0).max(1));
    }

    /// One that is as exact as the clocks.
    fn add_unsure(&mut self, micros: i64, unsure: i64) {
        self.add(micros);
        self.unsure = self.unsure.max(unsure);
    }

    fn quantile(&self, q: f64) -> Option<f64> {
        (!self.values.is_empty()).then(|| self.values.value_at_quantile(q) as f64 / 1_000.0)
    }

    fn latency(&self) -> Latency {
        Latency {
            p50: self.quantile(0.5),
            p95: self.quantile(0.95),
            max: self.quantile(1.0),
            uncertainty: (!self.values.is_empty()).then(|| self.unsure as f64 / 1_000.0),
        }
    }
}

/// What was shown and played in a second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Second {
    /// Pictures shown.
    pub shown: u64,
    /// Freezes that ended.
    pub freezes: u64,
    /// How long the picture stood still in freezes, one that lasts included, in ms.
    pub frozen_ms: f64,
    /// Capture to sink of the last picture, in ms.
    pub picture_ms: Option<f64>,
    /// Pixels of the last picture.
    pub size: Option<(u32, u32)>,
    /// Sound played, in ms.
    pub played_ms: u64,
    /// Of it, made up.
    pub concealed_ms: u64,
    /// Of it, rebuilt of redundancy.
    pub rebuilt_ms: u64,
    /// Capture to sink of the last sound, in ms.
    pub sound_ms: Option<f64>,
}

/// Totals at the end of the last second.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    shown: u64,
    freezes: u64,
    frozen: i64,
    played: u64,
    concealed: u64,
    rebuilt: u64,
}

/// What was shown and played so far.
#[derive(Debug, Default)]
pub struct Figures {
    /// The other end's clock; without it no latency is known.
    clock: Option<Offset>,
    decoded: u64,
    shown: u64,
    undecodable: u64,
    /// When the last picture was shown; `None` while there is nothing to wait for.
    last: Option<Timestamp>,
    /// The newest intervals between shown pictures.
    intervals: VecDeque<i64>,
    /// All intervals between shown pictures: how many, and their sum.
    spans: (u32, i64),
    /// Whether the other end sends pictures, as it says.
    video: Option<bool>,
    freezes: u64,
    freeze: i64,
    size: Option<(u32, u32)>,
    picture: Times,
    latency: Option<f64>,
    heard: bool,
    ledger: Ledger,
    sound: Times,
    /// "Played − captured" of the last sound.
    voice: Option<i64>,
    /// The same, of this second.
    heard_ms: Option<f64>,
    skew: Times,
    second: Totals,
}

impl Figures {
    /// The other end's clock.
    pub const fn clock(&mut self, offset: Offset) {
        self.clock = Some(offset);
    }

    /// Microseconds from capture to `at`, right but for what the clocks are apart.
    fn since(&self, at: Timestamp, captured: Timestamp) -> i64 {
        since_capture(at, captured, self.clock.map_or(0, |clock| clock.offset))
    }

    /// Whether the other end sends pictures: the time without is no freeze.
    pub fn peer_media(&mut self, video: bool) {
        if self.video.replace(video).unwrap_or(true) != video {
            self.last = None;
            self.intervals.clear();
        }
    }

    /// Nothing more will be shown: a gap that is open now may be a freeze.
    pub fn ended(&mut self, now: Timestamp) {
        if let Some(last) = self.last.take() {
            self.gap(now.micros_since(last));
        }
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
            Event::Played {
                captured,
                at,
                kind,
                ledger,
            } => {
                let first = !self.heard && *kind == SoundKind::Packet;
                self.heard |= first;
                self.ledger = *ledger;
                if let (Some(captured), SoundKind::Packet | SoundKind::Rebuilt) = (captured, kind) {
                    let delay = self.since(*at, *captured);
                    self.voice = Some(delay);
                    if let Some(clock) = self.clock {
                        self.sound.add_unsure(delay, clock.uncertainty);
                        self.heard_ms = Some(delay as f64 / 1_000.0);
                    }
                }
                first
            }
            Event::Failed(_) => false,
        }
    }

    fn show(&mut self, captured: Timestamp, at: Timestamp) {
        self.shown += 1;
        let delay = self.since(at, captured);
        if let Some(clock) = self.clock {
            self.picture.add_unsure(delay, clock.uncertainty);
            self.latency = Some(delay as f64 / 1_000.0);
        }
        if let Some(voice) = self.voice {
            self.skew.add((delay - voice).abs());
        }
        if self.video == Some(false) {
            // one that was still on its way when the camera went off
            return;
        }
        if let Some(last) = self.last.replace(at) {
            let interval = at.micros_since(last);
            self.gap(interval);
            self.spans.0 += 1;
            self.spans.1 += interval;
            self.intervals.push_back(interval);
            if self.intervals.len() > INTERVALS {
                self.intervals.pop_front();
            }
        }
    }

    fn gap(&mut self, gap: i64) {
        if self.is_freeze(gap) {
            self.freezes += 1;
            self.freeze += gap;
        }
    }

    fn is_freeze(&self, gap: i64) -> bool {
        let count = i64::try_from(self.intervals.len()).unwrap_or(0);
        let mean = self.intervals.iter().sum::<i64>().checked_div(count);
        mean.is_some_and(|mean| gap > (3 * mean).max(mean + 150_000))
    }

    /// What was shown and played since the last call. A freeze that still lasts counts for
    /// the time it took so far.
    pub fn second(&mut self, now: Timestamp) -> Second {
        let open = self.last.map_or(0, |last| now.micros_since(last));
        let open = if self.is_freeze(open) { open } else { 0 };
        let totals = Totals {
            shown: self.shown,
            freezes: self.freezes,
            frozen: self.freeze + open,
            played: millis(self.ledger.heard()),
            concealed: millis(self.ledger.concealed),
            rebuilt: millis(self.ledger.rebuilt),
        };
        let before = std::mem::replace(&mut self.second, totals);
        Second {
            shown: totals.shown - before.shown,
            freezes: totals.freezes - before.freezes,
            frozen_ms: (totals.frozen - before.frozen).max(0) as f64 / 1_000.0,
            picture_ms: self.latency.take(),
            size: self.size,
            // what was taken for lost may turn out to have been a pause
            played_ms: totals.played.saturating_sub(before.played),
            concealed_ms: totals.concealed.saturating_sub(before.concealed),
            rebuilt_ms: totals.rebuilt.saturating_sub(before.rebuilt),
            sound_ms: self.heard_ms.take(),
        }
    }

    /// Pictures, for the report.
    pub fn video(&self, sent: VideoSent, received: Received) -> Video {
        let (intervals, micros) = self.spans;
        Video {
            sent,
            received: VideoReceived {
                frames_decoded: self.decoded,
                frames_dropped: received.dropped + self.undecodable,
                freezes: self.freezes,
                freeze_ms: self.freeze as f64 / 1_000.0,
                width: self.size.map(|size| size.0),
                height: self.size.map(|size| size.1),
                fps: (micros > 0).then(|| f64::from(intervals) * 1_000_000.0 / micros as f64),
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
                concealed_ms: millis(self.ledger.concealed),
                played_ms: millis(self.ledger.heard()),
                latency_ms: self.sound.latency(),
            },
            av_skew_ms: Skew {
                p50: self.skew.quantile(0.5),
                p95: self.skew.quantile(0.95),
            },
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use suora_protocol::media::jitter::FRAME;

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

    /// Freezes, their length in ms, and pictures a second.
    fn seen(figures: &Figures) -> (u64, f64, Option<f64>) {
        let video = figures.video(VideoSent::default(), received()).received;
        (video.freezes, video.freeze_ms, video.fps.map(f64::round))
    }

    // covers: SUORA-CON-006
    #[test]
    fn a_camera_that_was_off_is_no_freeze_and_counts_for_no_rate() {
        let mut figures = Figures::default();
        figures.peer_media(true);
        for at in 0..31 {
            shown(&mut figures, at * 40, 40);
        }
        figures.peer_media(false);
        shown(&mut figures, 1_240, 40);
        assert_eq!(seen(&figures), (0, 0.0, Some(25.0)));
        figures.peer_media(true);
        for at in 0..30 {
            shown(&mut figures, 60_000 + at * 40, 40);
        }
        assert_eq!(seen(&figures), (0, 0.0, Some(25.0)));
        figures.peer_media(false);
        figures.ended(Timestamp::from_millis(1_200_000));
        assert_eq!(seen(&figures), (0, 0.0, Some(25.0)));
    }

    #[test]
    fn who_mutes_does_not_hide_a_freeze() {
        let mut figures = Figures::default();
        for at in 0..30 {
            shown(&mut figures, at * 40, 40);
        }
        // said again, with the sound's part changed
        figures.peer_media(true);
        shown(&mut figures, 3_000, 40);
        assert_eq!(seen(&figures).0, 1);
    }

    // covers: SUORA-CON-006
    #[test]
    fn a_freeze_that_lasts_to_the_end_counts() {
        let mut figures = Figures::default();
        for at in 0..30 {
            shown(&mut figures, at * 40, 40);
        }
        figures.ended(Timestamp::from_millis(1_000_000 + 29 * 40 + 190));
        assert_eq!(seen(&figures), (0, 0.0, Some(25.0)));
        shown(&mut figures, 2_000, 40);
        shown(&mut figures, 2_040, 40);
        figures.ended(Timestamp::from_millis(1_000_000 + 4_040));
        assert_eq!(seen(&figures), (1, 2_000.0, Some(25.0)));
    }

    // covers: SUORA-CON-009
    #[test]
    fn without_the_other_ends_clock_no_latency_is_told_and_lips_are_compared_all_the_same() {
        let mut figures = Figures::default();
        let at = Timestamp::from_secs(10_000);
        figures.take(&Event::Played {
            captured: Some(at.shift(5_000_000)),
            at,
            kind: SoundKind::Packet,
            ledger: Ledger::default(),
        });
        figures.take(&Event::Shown {
            captured: at.shift(4_970_000),
            at,
            width: 1,
            height: 1,
            show: true,
        });
        let audio = figures.audio(AudioSent::default(), received());
        assert_eq!(audio.received.latency_ms.p50, None);
        assert!(
            audio
                .av_skew_ms
                .p50
                .is_some_and(|ms| (ms - 30.0).abs() < 0.2)
        );
        assert_eq!(figures.second(at).picture_ms, None);
    }

    // covers: SUORA-CON-007, SUORA-CON-014
    #[test]
    fn latency_is_corrected_by_the_clock_offset_and_skew_compares_lips_with_voice() {
        let mut figures = Figures::default();
        // their clock is an hour ahead
        figures.clock(Offset {
            offset: 3_600_000_000,
            uncertainty: 2_500,
        });
        let at = Timestamp::from_secs(10_000);
        let captured = |delay_ms: i64| Some(at.shift(3_600_000_000 - delay_ms * 1_000));
        assert!(figures.take(&Event::Played {
            captured: captured(60),
            at,
            kind: SoundKind::Packet,
            ledger: Ledger {
                played: Duration::from_millis(20),
                ..Ledger::default()
            },
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
        assert_eq!(audio.received.latency_ms.uncertainty, Some(2.5));
        assert_eq!(audio.received.played_ms, 20);
        let second = figures.second(at);
        assert!(near(second.picture_ms, 90.0) && near(second.sound_ms, 60.0));
        let second = figures.second(at);
        assert_eq!(
            (second.picture_ms, second.sound_ms, second.shown),
            (None, None, 0),
            "nothing new was shown"
        );
    }

    fn played(figures: &mut Figures, at_ms: i64, kind: SoundKind) {
        let mut ledger = figures.ledger;
        match kind {
            SoundKind::Packet => ledger.played += FRAME,
            SoundKind::Rebuilt => ledger.rebuilt += FRAME,
            _ => ledger.concealed += FRAME,
        }
        figures.take(&Event::Played {
            captured: None,
            at: Timestamp::from_millis(1_000_000 + at_ms),
            kind,
            ledger,
        });
    }

    // covers: SUORA-MED-050
    #[test]
    fn each_second_tells_its_own_part_and_a_freeze_as_far_as_it_went() {
        let mut figures = Figures::default();
        let at = |ms: i64| Timestamp::from_millis(1_000_000 + ms);
        for ms in (0..1_000).step_by(40) {
            shown(&mut figures, ms, 40);
            played(&mut figures, ms, SoundKind::Packet);
        }
        played(&mut figures, 990, SoundKind::Rebuilt);
        played(&mut figures, 995, SoundKind::Concealed);
        let second = figures.second(at(1_000));
        assert_eq!((second.shown, second.frozen_ms), (25, 0.0));
        let sound = (second.played_ms, second.concealed_ms, second.rebuilt_ms);
        assert_eq!(sound, (540, 20, 20));
        // the last picture came at 960
        let second = figures.second(at(2_000));
        assert_eq!((second.shown, second.frozen_ms), (0, 1_040.0));
        shown(&mut figures, 2_500, 40);
        let second = figures.second(at(2_510));
        assert_eq!((second.freezes, second.frozen_ms), (1, 500.0));
        assert_eq!(seen(&figures).1, 1_540.0, "the seconds add up to the whole");
    }

    #[test]
    fn lost_sound_that_turns_out_to_have_been_a_pause_takes_nothing_from_the_next_second() {
        let mut figures = Figures::default();
        let at = Timestamp::from_millis(1_000_000);
        played(&mut figures, 0, SoundKind::Packet);
        played(&mut figures, 20, SoundKind::Concealed);
        let second = figures.second(at);
        assert_eq!((second.played_ms, second.concealed_ms), (40, 20));
        figures.ledger.concealed = Duration::ZERO;
        let second = figures.second(at);
        assert_eq!((second.played_ms, second.concealed_ms), (0, 0));
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let figures = Figures::default();
        let video = figures.video(VideoSent::default(), received());
        assert_eq!(video.received.latency_ms.p50, None);
        assert_eq!(video.received.fps, None);
    }
}
