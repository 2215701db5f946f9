//! DOOR: a microphone's sound as blocks of 20 ms at 48 kHz. Their times follow the device's
//! clock smoothly: a thread that woke up late is no jitter, a hole is one.

use std::sync::Arc;

use suora_protocol::fault::Fault;
use suora_protocol::limits::SOUND_FRAME;
use suora_protocol::time::Timestamp;

use super::Sound;
use super::clean::{self, Clean};
use crate::clock::Clock;
use crate::devices::choice::Wish;
use crate::devices::reference::{BLOCK, Reference};
use crate::devices::resample::{Resample, lasts};
use crate::devices::watch::{self, Notice};
use crate::devices::{Backend, Event, Heard, Kind, Trouble, Why};
use crate::worker::{Post, Worker};

/// The rate of all that leaves.
const RATE: u32 = 48_000;
/// Sound whose time is so far from what was expected follows a hole.
const HOLE: i64 = 60_000;
/// The part of a difference of times that is taken over at once.
const FOLLOW: i64 = 64;

/// Posts a microphone's sound for as long as the worker lives. With `played`, echo of it
/// and noise are taken out, and the voice is made even.
pub(super) fn start(
    wish: Wish,
    backend: Arc<dyn Backend>,
    clock: Clock,
    post: Post<Sound>,
    notices: Post<Notice>,
    played: Option<Reference>,
) -> Result<Worker, Fault> {
    let microphones = backend.clone();
    let open: watch::Opener = Box::new(move |named, line| {
        let clean = match &played {
            Some(played) if microphones.cleans(named) => {
                clean::cleaner(clean::Parts::ALL).map(|cleaner| (cleaner, played.clone()))
            }
            _ => None,
        };
        let mut ear = Ear::new(clean);
        let post = post.clone();
        let out = move |event: Event<Heard<'_>>| match event {
            Event::Lost(trouble) => line.lost(trouble),
            Event::Got(heard) if line.takes() => {
                let now = clock.now();
                let captured = now.utc - now.mono.saturating_duration_since(heard.captured);
                let taken = ear.hear(heard.samples, heard.rate, captured, &mut |sound| {
                    // an encoder that is behind gets the next
                    let _ = post.post(sound);
                });
                if let Err(reason) = taken {
                    line.lost(Trouble::new(Why::Broken, reason));
                }
            }
            Event::Got(_) => {}
        };
        microphones.microphone(named, Box::new(out))
    });
    watch::watch(Kind::Microphone, wish, backend, clock, notices, open)
}

/// Makes blocks of what a device gives.
struct Ear {
    resample: Option<Resample>,
    clean: Option<(Box<dyn Clean>, Reference)>,
    /// Resampled, not yet cleaned.
    waiting: Vec<f32>,
    /// Cleaned, not yet a whole block.
    block: Vec<i16>,
    /// The time of the first sample of `waiting`.
    next: Option<Timestamp>,
}

impl Ear {
    fn new(clean: Option<(Box<dyn Clean>, Reference)>) -> Self {
        Self {
            resample: None,
            clean,
            waiting: Vec::new(),
            block: Vec::with_capacity(SOUND_FRAME),
            next: None,
        }
    }

    fn hear(
        &mut self,
        samples: &[f32],
        rate: u32,
        captured: Timestamp,
        out: &mut dyn FnMut(Sound),
    ) -> Result<(), String> {
        let resample = match &mut self.resample {
            Some(resample) if resample.rates() == (rate, RATE) => resample,
            other => other.insert(Resample::new(rate, RATE)?),
        };
        // the time of the first sample that waits, as this portion tells it
        let behind = lasts(resample.waiting(), rate)
            + lasts(resample.delay(), RATE)
            + lasts(self.waiting.len(), RATE);
        let told = captured - behind;
        resample.push(samples, &mut self.waiting);
        let mut next = match self.next {
            Some(next) => match told.micros_since(next) {
                off if off.abs() <= HOLE => next.shift(off / FOLLOW),
                _ => {
                    self.block.clear();
                    told
                }
            },
            None => told,
        };
        let blocks = self.waiting.len() / BLOCK;
        for block in self.waiting.chunks_exact(BLOCK) {
            let Ok(mut block) = <[f32; BLOCK]>::try_from(block) else {
                continue;
            };
            let mut late = 0;
            if let Some((cleaner, played)) = &mut self.clean {
                while let Some(played) = played.take() {
                    cleaner.played(&played);
                }
                cleaner.heard(&mut block);
                late = cleaner.delay();
            }
            let whole = |sample: &f32| (sample * 32_767.0).clamp(-32_768.0, 32_767.0) as i16;
            self.block.extend(block.iter().map(whole));
            next = next + lasts(BLOCK, RATE);
            if self.block.len() >= SOUND_FRAME {
                out(Sound {
                    captured: next - lasts(SOUND_FRAME + late, RATE),
                    samples: std::mem::take(&mut self.block),
                });
            }
        }
        self.waiting.drain(..blocks * BLOCK);
        self.next = Some(next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an ear makes of portions that begin at these times, in ms of a device's clock
    /// and of ours.
    fn hear(rate: u32, portions: &[(usize, i64)]) -> Vec<Sound> {
        let mut ear = Ear::new(None);
        let mut sounds = Vec::new();
        for (len, at) in portions {
            let samples = vec![0.25; *len];
            let at = Timestamp::from_micros(*at);
            ear.hear(&samples, rate, at, &mut |sound| sounds.push(sound))
                .unwrap();
        }
        sounds
    }

    fn micros(n: usize, len: usize, rate: u32) -> i64 {
        i64::try_from(n * len * 1_000_000 / rate as usize).unwrap()
    }

    #[test]
    fn blocks_are_20_ms_and_follow_each_other_whatever_the_portions() {
        for (rate, len) in [(48_000, 480), (48_000, 1_024), (44_100, 441), (44_100, 256)] {
            let portions: Vec<_> = (0..400)
                .map(|n| (len, 1_000_000 + micros(n, len, rate)))
                .collect();
            let sounds = hear(rate, &portions);
            let seconds = 400.0 * len as f64 / f64::from(rate);
            assert!((sounds.len() as f64 - seconds * 50.0).abs() < 3.0);
            for pair in sounds.windows(2) {
                assert_eq!(pair[0].samples.len(), SOUND_FRAME);
                let step = pair[1].captured.micros_since(pair[0].captured);
                assert!((step - 20_000).abs() <= 60, "{rate} {len}: {step}");
            }
            // without a resampler the first block begins with the first sample
            if rate == RATE {
                assert_eq!(sounds[0].captured, Timestamp::from_micros(1_000_000));
            }
        }
    }

    #[test]
    fn a_thread_that_wakes_up_late_moves_no_block() {
        let late = |n: usize| i64::try_from(n % 3).unwrap() * 8_000;
        let portions: Vec<_> = (0..500)
            .map(|n| (480, micros(n, 480, RATE) + late(n)))
            .collect();
        for pair in hear(RATE, &portions).windows(2) {
            let step = pair[1].captured.micros_since(pair[0].captured);
            assert!((step - 20_000).abs() <= 600, "{step}");
        }
    }

    #[test]
    fn a_slow_clock_is_followed() {
        // 200 ppm slow, for ten minutes
        let portions: Vec<_> = (0..60_000)
            .map(|n| (480, micros(n, 480, RATE) * 10_002 / 10_000))
            .collect();
        let sounds = hear(RATE, &portions);
        let last = sounds.last().unwrap();
        let right = micros(sounds.len() - 1, SOUND_FRAME, RATE) * 10_002 / 10_000;
        assert!((last.captured.as_micros() - right).abs() < 1_000);
    }

    #[test]
    fn a_hole_is_a_jump_in_time() {
        let portions: Vec<_> = (0..100)
            .map(|n| {
                let pause = if n < 50 { 0 } else { 500_000 };
                (480, micros(n, 480, RATE) + pause)
            })
            .collect();
        let sounds = hear(RATE, &portions);
        let jumps = sounds
            .windows(2)
            .filter(|pair| pair[1].captured.micros_since(pair[0].captured) > 400_000)
            .count();
        assert_eq!(jumps, 1);
    }
}
