//! Quinn's congestion controller: a window that floats 16 kB above what is in flight,
//! and never under 32 kB, so that sound never waits behind it. How much leaves is decided
//! by the rate control above, from arrival reports; this is the safety under it.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;
use suora_protocol::media::rate::Way;

/// Above what is in flight.
const ABOVE: u64 = 16 * 1_024;
/// Never under this.
const LEAST: u64 = 32 * 1_024;

/// Makes the controller of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Floating;

impl ControllerFactory for Floating {
    fn build(self: Arc<Self>, _: Instant, _: u16) -> Box<dyn Controller> {
        Box::new(Window::default())
    }
}

/// What a connection with this controller sent; nothing with another one.
pub fn way(controller: Box<dyn Controller>) -> Way {
    let window = controller.into_any().downcast::<Window>();
    window.map_or_else(
        |_| Way::default(),
        |window| {
            let under_way = usize::try_from(window.in_flight).unwrap_or(usize::MAX);
            let Window { acked, lost, .. } = *window;
            Way {
                under_way,
                acked,
                lost,
            }
        },
    )
}

#[derive(Clone, Debug, Default)]
struct Window {
    in_flight: u64,
    acked: u64,
    lost: u64,
}

impl Controller for Window {
    fn on_sent(&mut self, _: Instant, bytes: u64, _: u64) {
        self.in_flight = self.in_flight.saturating_add(bytes);
    }

    fn on_ack(&mut self, _: Instant, _: Instant, bytes: u64, _: bool, _: &RttEstimator) {
        self.acked = self.acked.saturating_add(bytes);
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    fn on_end_acks(&mut self, _: Instant, in_flight: u64, _: bool, _: Option<u64>) {
        self.in_flight = in_flight;
    }

    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, lost: u64) {
        self.lost = self.lost.saturating_add(lost);
        self.in_flight = self.in_flight.saturating_sub(lost);
    }

    fn on_mtu_update(&mut self, _: u16) {}

    fn window(&self) -> u64 {
        (self.in_flight + ABOVE).max(LEAST)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        LEAST
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: SUORA-SES-008
    #[test]
    fn the_window_stays_above_what_is_in_flight() {
        let mut window = Window::default();
        assert_eq!(window.window(), LEAST);
        #[expect(clippy::disallowed_methods, reason = "door: a moment for quinn's API")]
        let now = Instant::now();
        window.on_sent(now, 100_000, 1);
        assert_eq!(window.window(), 100_000 + ABOVE);
        window.on_congestion_event(now, now, true, 100_000);
        assert_eq!(window.window(), LEAST);
        assert_eq!(way(window.clone_box()).lost, 100_000);
    }
}
