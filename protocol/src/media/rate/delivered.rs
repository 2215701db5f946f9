//! What reached the other end, by its own clock: the one figure that a queue cannot flatter.

use std::collections::VecDeque;
use std::time::Duration;

use super::Feedback;
use super::delay::arrival;
use crate::media::Kind;

/// Arrivals are kept for so long.
const KEPT: Duration = Duration::from_secs(1);
/// As many arrivals at most: the other end's clock decides how long they are kept.
const ARRIVED_MAX: usize = 1_024;
/// Rates are over this.
pub(super) const WINDOW: Duration = Duration::from_millis(400);

/// Bytes of pictures that arrived lately.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    first: Option<i64>,
    at: i64,
    /// Arrival in microseconds, bytes.
    arrived: VecDeque<(i64, usize)>,
}

impl Delivered {
    /// Takes a report.
    pub(super) fn report(&mut self, feedback: &Feedback) {
        self.at = feedback.at;
        for packet in &feedback.packets {
            if let Some(at) = arrival(packet).filter(|_| packet.kind == Kind::Video) {
                self.first.get_or_insert(at);
                self.arrived.push_back((at, packet.bytes));
            }
        }
        let kept = self.at.saturating_sub(micros(KEPT));
        self.arrived.retain(|(at, _)| *at > kept);
        let over = self.arrived.len().saturating_sub(ARRIVED_MAX);
        self.arrived.drain(..over);
    }

    /// Bits of pictures a second over the last 400 ms or the last second, whatever is more:
    /// what is sent again comes late and together. 0 before anything arrived.
    pub(super) fn most(&self) -> f64 {
        self.rate().max(self.over(KEPT))
    }

    /// Bits of pictures a second over the last 400 ms.
    pub(super) fn rate(&self) -> f64 {
        self.over(WINDOW)
    }

    fn over(&self, window: Duration) -> f64 {
        let from = self.at.saturating_sub(micros(window));
        let bytes: usize = self
            .arrived
            .iter()
            .filter(|(at, _)| *at > from)
            .map(|(_, bytes)| bytes)
            .sum();
        let since = self.first.map_or(0, |first| self.at - first);
        let span = since.clamp(100_000, micros(window));
        bytes as f64 * 8.0 * 1e6 / span as f64
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
