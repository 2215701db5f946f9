//! DOOR: a camera's pictures, in the size and at most the rate that was asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use suora_protocol::fault::Fault;

use super::Picture;
use crate::clock::Clock;
use crate::devices::choice::Wish;
use crate::devices::watch::{self, Notice};
use crate::devices::{Backend, Event, Kind, Shape};
use crate::fit::Fit;
use crate::worker::{Post, Slot, Worker};

/// Puts a camera's pictures into the slot for as long as the worker lives.
pub(super) fn start(
    wish: Wish,
    backend: Arc<dyn Backend>,
    shape: Shape,
    clock: Clock,
    slot: Slot<Picture>,
    notices: Post<Notice>,
) -> Result<Worker, Fault> {
    let cameras = backend.clone();
    let open: watch::Opener = Box::new(move |named, line| {
        let mut fit = Fit::new(shape.width, shape.height);
        let mut pace = Pace::new(shape.fps);
        let slot = slot.clone();
        let out = move |event| match event {
            Event::Lost(trouble) => line.lost(trouble),
            Event::Got(shot) => {
                let shot: crate::devices::Shot = shot;
                if line.takes() && pace.takes(shot.captured) {
                    let now = clock.now();
                    slot.put(Picture {
                        captured: now.utc - now.mono.saturating_duration_since(shot.captured),
                        width: shape.width,
                        height: shape.height,
                        data: fit.fit(&shot.frame),
                    });
                }
            }
        };
        cameras.camera(named, shape, Box::new(out))
    });
    watch::watch(Kind::Camera, wish, backend, clock, notices, open)
}

/// Leaves pictures out where a camera is faster than was asked for.
struct Pace {
    interval: Duration,
    next: Option<Instant>,
}

impl Pace {
    fn new(fps: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / fps.max(1),
            next: None,
        }
    }

    fn takes(&mut self, at: Instant) -> bool {
        let early = self.next.is_some_and(|next| at + self.interval / 2 < next);
        if !early {
            // a camera that pauses does not catch up
            let next = self
                .next
                .map_or(at, |next| next.max(at - self.interval / 2));
            self.next = Some(next + self.interval);
        }
        !early
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(fps: u32, interval: Duration, count: u32) -> usize {
        let mut pace = Pace::new(fps);
        let start = Clock::start().now().mono + Duration::from_secs(1);
        // up to 3 ms of jitter
        let jitter = |n: u32| Duration::from_millis(u64::from(n * 7 % 4));
        (0..count)
            .filter(|n| pace.takes(start + interval * *n + jitter(*n)))
            .count()
    }

    #[test]
    fn a_faster_camera_is_thinned_out_and_a_slower_one_is_taken_whole() {
        assert_eq!(taken(30, Duration::from_micros(33_333), 300), 300);
        assert_eq!(taken(30, Duration::from_micros(66_667), 300), 300);
        assert!(taken(30, Duration::from_micros(16_667), 600).abs_diff(300) <= 2);
    }
}
