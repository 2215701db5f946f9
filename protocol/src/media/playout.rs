//! When a picture is due (`spec/media.md`, section 8): lips go with the voice. The voice
//! waits in its jitter buffer; a picture waits as long as the voice that was captured
//! with it, and never longer than [`HOLD_MAX`]. Both capture times are of the sender's
//! clock, so the two clocks of the ends need not agree.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::EncodedFrame;
use crate::time::{Now, Timestamp};

/// The longest that a picture waits for the voice.
pub const HOLD_MAX: Duration = Duration::from_millis(400);
/// Most pictures that wait.
const HELD_MAX: usize = 32;
/// How far pictures may stay behind the voice so that late ones come in time; lips and voice
/// that are 80 ms apart are noticed.
const BEHIND_MAX: i64 = 40_000;
/// The lateness of so many last pictures is looked at, five seconds...
const LATE: usize = 150;
/// ...of which so many, the latest, need not come in time.
const TOO_LATE: usize = 5;
/// The voice of so long ago no longer tells when a picture is due.
const VOICE_AGE: Duration = Duration::from_millis(500);

/// A picture to decode now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Due {
    /// The picture.
    pub frame: EncodedFrame,
    /// Whether to show it: false when a later one is due as well.
    pub show: bool,
}

/// Decides when pictures are due.
#[derive(Debug, Default)]
pub struct Playout {
    held: VecDeque<(Instant, EncodedFrame)>,
    /// Smoothed "played − captured" of the voice, in microseconds, and when it was last fed.
    voice: Option<(i64, Instant)>,
    /// "Whole − captured" of the last pictures, in microseconds.
    late: VecDeque<i64>,
    /// When the last picture is due, and when it was captured.
    last: Option<(Instant, Timestamp)>,
}

impl Playout {
    /// Nothing waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sink plays the sound that was captured at `captured` from now on.
    pub fn voice(&mut self, now: Now, captured: Timestamp) {
        let delay = now.utc.micros_since(captured);
        let smoothed = match self.voice {
            Some((last, at))
                if now.mono.saturating_duration_since(at) < VOICE_AGE
                    && (delay - last).abs() < 100_000 =>
            {
                last + (delay - last) / 4
            }
            _ => delay,
        };
        self.voice = Some((smoothed, now.mono));
    }

    /// Takes a picture.
    pub fn push(&mut self, now: Now, frame: EncodedFrame) {
        let voice = self
            .voice
            .filter(|(_, at)| now.mono.saturating_duration_since(*at) < VOICE_AGE);
        let late = now.utc.micros_since(frame.captured);
        self.late.push_back(late);
        if self.late.len() > LATE {
            self.late.pop_front();
        }
        let wait = voice.map_or(0, |(delay, _)| delay + self.behind(delay) - late);
        let wait = Duration::from_micros(u64::try_from(wait).unwrap_or(0)).min(HOLD_MAX);
        let mut due = now.mono + wait;
        if let Some((last, captured)) = self.last {
            // where the voice begins, or becomes later, pictures follow in longer steps: to wait for
            // it at once would stop the screen
            let step = frame.captured.since(captured).saturating_mul(3) / 2;
            let soon = last.checked_add(step).unwrap_or(due);
            // and order is kept where it becomes earlier
            due = due.min(soon).max(last).max(now.mono);
        }
        self.last = Some((due, frame.captured));
        self.held.push_back((due, frame));
        if self.held.len() > HELD_MAX
            && let Some((due, _)) = self.held.front_mut()
        {
            *due = now.mono;
        }
    }

    /// How far pictures stay behind a voice of this delay: where many come late, because they were
    /// lost and sent again, a little more patience makes even steps of them.
    fn behind(&self, voice: i64) -> i64 {
        let mut late: Vec<i64> = self.late.iter().copied().collect();
        late.sort_unstable_by(|a, b| b.cmp(a));
        let latest = late.get(TOO_LATE).copied().unwrap_or(voice);
        (latest - voice).clamp(0, BEHIND_MAX)
    }

    /// The next picture that is due, in order.
    pub fn pull(&mut self, now: Now) -> Option<Due> {
        if self.held.front()?.0 > now.mono {
            return None;
        }
        let (_, frame) = self.held.pop_front()?;
        let show = self.held.front().is_none_or(|(due, _)| *due > now.mono);
        Some(Due { frame, show })
    }

    /// When to pull next.
    pub fn deadline(&self) -> Option<Instant> {
        self.held.front().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::Kind;
    use crate::media::tests::base;

    fn frame(captured: Timestamp) -> EncodedFrame {
        EncodedFrame {
            kind: Kind::Video,
            captured,
            data: Bytes::new(),
            keyframe: false,
            width: 0,
            height: 0,
            duration: Duration::from_millis(33),
        }
    }

    // covers: SUORA-MED-012
    #[test]
    fn a_picture_is_shown_with_the_voice_that_was_captured_with_it() {
        let start = base();
        let mut playout = Playout::new();
        // The voice plays 120 ms after capture; the picture arrives after 40 ms, by a clock that is an hour off.
        let captured = start.utc.shift(-3_600_000_000);
        playout.voice(start, captured - Duration::from_millis(120));
        playout.push(start, frame(captured - Duration::from_millis(40)));
        assert_eq!(playout.pull(start.after(Duration::from_millis(79))), None);
        assert!(
            playout
                .pull(start.after(Duration::from_millis(80)))
                .is_some_and(|due| due.show)
        );
    }

    #[test]
    fn pictures_stay_a_little_behind_the_voice_where_many_of_them_come_late() {
        let start = base();
        let ms = Duration::from_millis;
        // every tenth picture comes after 200 ms, the others after 60; the voice plays after 120
        let mut due = Vec::new();
        for few in [false, true] {
            let mut playout = Playout::new();
            for n in 0..200 {
                let now = start.after(ms(33) * n);
                playout.voice(now, now.utc - ms(120));
                let late = if few && n % 10 == 0 { 200 } else { 60 };
                playout.push(now, frame(now.utc - ms(late)));
            }
            let last = playout.held.back().map(|(due, _)| *due).unwrap();
            due.push(last - start.after(ms(33) * 199).mono);
        }
        assert_eq!(due, [ms(60), ms(100)]);
    }

    // covers: SUORA-MED-012
    #[test]
    fn a_voice_that_begins_or_becomes_later_does_not_stop_the_screen() {
        let start = base();
        let ms = Duration::from_millis;
        let mut playout = Playout::new();
        let mut due = Vec::new();
        for n in 0..60 {
            let now = start.after(ms(40) * n);
            let voice = [None, Some(100), Some(180)][n as usize / 20];
            if let Some(voice) = voice {
                playout.voice(now, now.utc - ms(voice));
            }
            playout.push(now, frame(now.utc - ms(20)));
            due.push(playout.held.back().map(|(due, _)| *due - now.mono).unwrap());
        }
        let steps = due.windows(2).map(|two| ms(40) + two[1] - two[0]);
        assert_eq!(steps.max(), Some(ms(60)));
        // 80 ms in four pictures, and 80 more
        assert_eq!([due[19], due[24], due[39]], [ms(0), ms(80), ms(80)]);
        assert!(due[59] > ms(159));
    }

    #[test]
    fn without_voice_a_picture_is_shown_at_once() {
        let start = base();
        let mut playout = Playout::new();
        playout.push(start, frame(start.utc));
        assert!(playout.pull(start).is_some());
    }

    #[test]
    fn of_two_pictures_that_are_due_only_the_later_is_shown() {
        let start = base();
        let mut playout = Playout::new();
        playout.push(start, frame(start.utc));
        playout.push(start, frame(start.utc));
        assert_eq!(playout.pull(start).map(|due| due.show), Some(false));
        assert_eq!(playout.pull(start).map(|due| due.show), Some(true));
    }

    #[test]
    fn no_picture_waits_longer_than_the_bound() {
        let start = base();
        let mut playout = Playout::new();
        playout.voice(start, start.utc - Duration::from_secs(5));
        playout.push(start, frame(start.utc));
        assert!(playout.pull(start.after(HOLD_MAX)).is_some());
    }
}
