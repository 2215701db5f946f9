//! DOOR: the loudspeaker. Decoded sound waits in a bounded ring until the device asks
//! for it; how long that takes, the device's own buffer with it, is told to playout, so
//! that lips go with the voice that is heard. What is played goes to the echo canceller too.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use suora_protocol::fault::Fault;

use crate::clock::Clock;
use crate::devices::choice::Wish;
use crate::devices::reference::{BLOCK, Block, Reference};
use crate::devices::resample::{Resample, lasts};
use crate::devices::watch::{self, Notice};
use crate::devices::{Backend, Event, Kind, Trouble, Wanted, Why};
use crate::worker::{Post, Worker};

/// The rate of what is decoded.
const RATE: u32 = 48_000;
/// What stays in the ring behind each request, at first: 10 ms.
const MARGIN: usize = 480;
/// By how much more after the ring ran dry, and by how much less after it did not for long.
const STEP: usize = 240;
/// The most that stays: 60 ms.
const MARGIN_MAX: usize = 2_880;
/// The most that the ring holds: 300 ms.
const RING_MAX: usize = 14_400;
/// Over so many samples the ring looks how low it gets: two seconds.
const WINDOW: usize = 96_000;
/// After so many windows without running dry the margin shrinks: 20 seconds.
const CALM: u32 = 10;

/// A loudspeaker; it falls silent when this is dropped, which waits for its threads.
#[derive(Debug)]
pub struct Speaker {
    out: Out,
    _watch: Worker,
}

/// Where sound goes to the loudspeaker.
#[derive(Clone, Debug)]
pub struct Out(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    ring: Mutex<Ring>,
    /// How long what is handed over now takes until it is heard, in microseconds.
    delay: AtomicU64,
}

impl Shared {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Speaker {
    /// Plays on the loudspeaker that is wished for, for as long as this lives. What it plays
    /// goes to `played`, what happens to it to `notices`.
    pub fn start(
        wish: Wish,
        backend: Arc<dyn Backend>,
        clock: Clock,
        notices: Post<Notice>,
        played: Reference,
    ) -> Result<Self, Fault> {
        let out = Out(Arc::new(Shared {
            clock,
            ring: Mutex::new(Ring::new()),
            delay: AtomicU64::new(0),
        }));
        let (shared, speakers) = (out.0.clone(), backend.clone());
        let open: watch::Opener = Box::new(move |named, line| {
            let mut mouth = Mouth::new(shared.clone(), played.clone());
            let fill = move |event: Event<Wanted<'_>>| match event {
                Event::Lost(trouble) => {
                    mouth.shared.ring().idle();
                    mouth.shared.delay.store(0, Ordering::Relaxed);
                    line.lost(trouble);
                }
                Event::Got(wanted) if line.takes() => {
                    if let Err(reason) = mouth.fill(wanted) {
                        line.lost(Trouble::new(Why::Broken, reason));
                    }
                }
                Event::Got(_) => {}
            };
            speakers.speaker(named, Box::new(fill))
        });
        let watch = watch::watch(Kind::Speaker, wish, backend, clock, notices, open)?;
        Ok(Self { out, _watch: watch })
    }

    /// Where sound goes.
    pub fn out(&self) -> Out {
        self.out.clone()
    }
}

impl Out {
    /// Plays 20 ms of 48 kHz, behind what waits already.
    pub fn play(&self, samples: &[i16]) {
        let now = self.0.clock.now().mono;
        let mut ring = self.0.ring();
        if let Some(delay) = ring.delay(now) {
            let delay = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
            // smoothed, so that no picture trembles
            let last = self.0.delay.load(Ordering::Relaxed);
            let smoothed = match last {
                0 => delay,
                last => (15 * last + delay) / 16,
            };
            self.0.delay.store(smoothed, Ordering::Relaxed);
        }
        ring.push(samples);
    }

    /// How long what is handed over now takes until it is heard; none while nothing plays.
    pub fn delay(&self) -> Duration {
        Duration::from_micros(self.0.delay.load(Ordering::Relaxed))
    }
}

/// Fills what a device asks for.
struct Mouth {
    shared: Arc<Shared>,
    played: Reference,
    /// For a device of another rate.
    resample: Option<Resample>,
    /// Resampled, not yet asked for.
    made: Vec<f32>,
    /// Played, not yet a whole block.
    block: Vec<f32>,
}

impl Mouth {
    fn new(shared: Arc<Shared>, played: Reference) -> Self {
        Self {
            shared,
            played,
            resample: None,
            made: Vec::new(),
            block: Vec::with_capacity(BLOCK),
        }
    }

    fn fill(&mut self, wanted: Wanted<'_>) -> Result<(), String> {
        let Wanted {
            samples,
            rate,
            delay,
        } = wanted;
        let now = self.shared.clock.now().mono;
        if rate == RATE {
            let heard = now + delay + lasts(samples.len(), RATE);
            self.shared.ring().pull(heard, samples);
            self.remember(samples);
            return Ok(());
        }
        let mut resample = match self.resample.take() {
            Some(resample) if resample.rates() == (RATE, rate) => resample,
            _ => Resample::new(RATE, rate)?,
        };
        let mut taken = [0.0; BLOCK];
        while self.made.len() < samples.len() {
            let behind = lasts(self.made.len() + resample.delay(), rate)
                + lasts(resample.waiting() + BLOCK, RATE);
            self.shared.ring().pull(now + delay + behind, &mut taken);
            resample.push(&taken, &mut self.made);
            self.remember(&taken);
        }
        self.resample = Some(resample);
        let count = samples.len();
        for (to, from) in samples.iter_mut().zip(self.made.drain(..count)) {
            *to = from;
        }
        Ok(())
    }

    /// Tells the echo canceller.
    fn remember(&mut self, samples: &[f32]) {
        for sample in samples {
            self.block.push(*sample);
            if let Ok(block) = Block::try_from(self.block.as_slice()) {
                self.played.put(block);
                self.block.clear();
            }
        }
    }
}

/// Sound that waits for the device. It keeps a margin against threads that come late: the
/// margin grows when the ring ran dry and shrinks again in calm. Where the device's clock is
/// slower than ours, 5 ms are taken out now and then, blended over, so that no delay grows.
#[derive(Debug)]
struct Ring {
    samples: VecDeque<f32>,
    margin: usize,
    /// Whether the device gets sound; otherwise it waits for the margin.
    playing: bool,
    /// The last sample that was played.
    last: f32,
    /// When the sample behind those that were pulled is heard.
    heard: Option<Instant>,
    /// The lowest level of this window, and how much of it is over.
    low: usize,
    passed: usize,
    calm: u32,
}

impl Ring {
    fn new() -> Self {
        Self {
            samples: VecDeque::new(),
            margin: MARGIN,
            playing: false,
            last: 0.0,
            heard: None,
            low: usize::MAX,
            passed: 0,
            calm: 0,
        }
    }

    /// No device plays.
    fn idle(&mut self) {
        *self = Self::new();
    }

    /// How long what is pushed now takes until it is heard; `None` while no device plays.
    fn delay(&self, now: Instant) -> Option<Duration> {
        let heard = self.heard?;
        let level = if self.playing {
            self.samples.len()
        } else {
            self.samples.len().max(self.margin)
        };
        Some(heard.saturating_duration_since(now) + lasts(level, RATE))
    }

    fn push(&mut self, samples: &[i16]) {
        if self.heard.is_none() {
            return;
        }
        let samples = samples.iter().map(|sample| f32::from(*sample) / 32_768.0);
        self.samples.extend(samples);
        // a device that stands still: the newest counts
        let over = self.samples.len().saturating_sub(RING_MAX);
        self.samples.drain(..over);
    }

    /// Fills `out`; the sample behind it is heard at `heard`.
    fn pull(&mut self, heard: Instant, out: &mut [f32]) {
        self.heard = Some(heard);
        if !self.playing {
            if self.samples.len() < out.len() + self.margin {
                self.decay(out);
                return;
            }
            self.playing = true;
            (self.low, self.passed) = (usize::MAX, 0);
            for (n, sample) in self.samples.iter_mut().take(STEP).enumerate() {
                *sample *= n as f32 / STEP as f32;
            }
        }
        if self.samples.len() < out.len() {
            // it ran dry: what there is fades out
            let len = self.samples.len();
            for (n, (to, from)) in out.iter_mut().zip(self.samples.drain(..)).enumerate() {
                *to = from * (len - n) as f32 / len as f32;
                self.last = *to;
            }
            if let Some(rest) = out.get_mut(len..) {
                self.decay(rest);
            }
            self.playing = false;
            self.margin = (self.margin + STEP).min(MARGIN_MAX);
            self.calm = 0;
            return;
        }
        let count = out.len();
        for (to, from) in out.iter_mut().zip(self.samples.drain(..count)) {
            *to = from;
        }
        self.last = out.last().copied().unwrap_or(0.0);
        self.watch(count);
    }

    /// Silence, without a click.
    fn decay(&mut self, out: &mut [f32]) {
        for sample in out {
            self.last *= 0.98;
            *sample = self.last;
        }
    }

    /// Looks whether more waits than has to.
    fn watch(&mut self, pulled: usize) {
        self.low = self.low.min(self.samples.len());
        self.passed += pulled;
        if self.passed < WINDOW {
            return;
        }
        self.calm += 1;
        if self.calm >= CALM {
            self.calm = 0;
            self.margin = self.margin.saturating_sub(STEP).max(MARGIN);
        }
        if self.low > self.margin + STEP {
            let excess = (self.low - self.margin) / STEP;
            for _ in 0..excess {
                self.cut();
            }
        }
        (self.low, self.passed) = (usize::MAX, 0);
    }

    /// Takes 5 ms out: the sound before and behind are blended.
    fn cut(&mut self) {
        if self.samples.len() < 2 * STEP {
            return;
        }
        let first: Vec<f32> = self.samples.drain(..STEP).collect();
        for (n, (sample, before)) in self.samples.iter_mut().zip(first).enumerate() {
            let part = n as f32 / STEP as f32;
            *sample = *sample * part + before * (1.0 - part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TONE: f32 = 8_000.0;

    /// 20 ms of a tone of 500 Hz: any number of blocks follow each other smoothly.
    fn tone() -> Vec<i16> {
        (0..960)
            .map(|n| (TONE * (n as f32 / 96.0 * std::f32::consts::TAU).sin()) as i16)
            .collect()
    }

    /// What a device plays that asks for `period` samples at a time, by a clock that is so
    /// many ppm fast, while a block comes every 20 ms, late by what `late` says.
    struct Run {
        played: Vec<f32>,
        /// What the ring says of its delay at each push.
        delays: Vec<Duration>,
        dry: usize,
    }

    fn run(seconds: u64, period: usize, ppm: i64, late: impl Fn(u64) -> u64) -> Run {
        let start = Clock::start().now().mono;
        let micros = Duration::from_micros;
        let mut ring = Ring::new();
        let (mut played, mut delays, mut dry) = (Vec::new(), Vec::new(), 0);
        let (mut pushes, mut pulls) = (0_u64, 0_u64);
        let pull_at = |n: u64| {
            let nominal = n * period as u64 * 1_000_000 / u64::from(RATE);
            nominal.saturating_add_signed(-(nominal as i64 * ppm / 1_000_000))
        };
        let push_at = |n: u64| 7_000 + n * 20_000 + late(n);
        while push_at(pushes) < seconds * 1_000_000 {
            if pull_at(pulls) <= push_at(pushes) {
                let mut out = vec![0.0; period];
                let was = ring.playing;
                // the device itself holds a period
                let heard = start + micros(pull_at(pulls)) + 2 * lasts(period, RATE);
                ring.pull(heard, &mut out);
                dry += usize::from(was && !ring.playing);
                played.extend(out);
                pulls += 1;
            } else {
                delays.extend(ring.delay(start + micros(push_at(pushes))));
                ring.push(&tone());
                pushes += 1;
            }
        }
        Run {
            played,
            delays,
            dry,
        }
    }

    fn worst_step(played: &[f32]) -> f32 {
        let steps = played.windows(2).map(|pair| (pair[1] - pair[0]).abs());
        steps.fold(0.0, f32::max)
    }

    #[test]
    fn a_steady_device_plays_without_a_hole_and_without_much_delay() {
        for period in [240, 480, 960, 1_024] {
            let run = run(30, period, 0, |_| 0);
            assert!(run.dry <= 2, "{period}: {}", run.dry);
            let delay = run.delays.last().unwrap();
            // two periods of the device, a block, the margin, and where the two meet
            let most = lasts(3 * period + 960 + 2 * MARGIN + STEP, RATE);
            assert!(*delay < most, "{period}: {delay:?}");
            let loud = run.played.iter().skip(48_000).filter(|s| s.abs() > 0.1);
            assert!(loud.count() > 29 * 48_000 / 2);
        }
    }

    #[test]
    fn the_delay_is_the_time_until_a_sample_is_heard() {
        let start = Clock::start().now().mono;
        let ms = Duration::from_millis;
        let mut ring = Ring::new();
        assert_eq!(ring.delay(start), None);
        ring.pull(start + ms(10), &mut [0.0; 480]);
        ring.push(&tone());
        ring.push(&tone());
        // 40 ms wait; at 5 ms the device still has 5 ms of what it pulled before
        assert_eq!(ring.delay(start + ms(5)), Some(ms(45)));
        ring.pull(start + ms(20), &mut [0.0; 480]);
        assert_eq!(ring.delay(start + ms(10)), Some(ms(40)));
    }

    #[test]
    fn a_slow_or_fast_device_makes_no_delay_grow_and_no_click() {
        let clean = worst_step(&run(5, 480, 0, |_| 0).played[48_000..]);
        for ppm in [-300, 300] {
            let run = run(300, 480, ppm, |_| 0);
            let worst = run.delays.iter().skip(100).max().unwrap();
            assert!(*worst < Duration::from_millis(75), "{ppm}: {worst:?}");
            assert!(run.dry <= 6, "{ppm}: {}", run.dry);
            if run.dry == 0 {
                assert!(worst_step(&run.played[48_000..]) < 1.5 * clean, "{ppm}");
            }
        }
    }

    #[test]
    fn a_thread_that_comes_late_runs_it_dry_only_until_the_margin_is_learnt() {
        let late = |n: u64| if n % 50 == 49 { 18_000 } else { 0 };
        let run = run(60, 480, 0, late);
        assert!(run.dry <= 8, "{}", run.dry);
        // control: without the margin's growth it would be dry each second
        let half = run.delays.len() / 2;
        let late_delays = run.delays.iter().skip(half);
        assert!(late_delays.max().unwrap() < &Duration::from_millis(110));
    }

    #[test]
    fn a_device_that_stands_still_holds_the_newest_only() {
        let start = Clock::start().now().mono;
        let mut ring = Ring::new();
        ring.pull(start, &mut [0.0; 480]);
        for _ in 0..1_000 {
            ring.push(&tone());
        }
        assert_eq!(ring.samples.len(), RING_MAX);
        ring.idle();
        ring.push(&tone());
        assert_eq!((ring.samples.len(), ring.delay(start)), (0, None));
    }
}
