//! Which size and how many pictures a second a budget carries (`spec/media.md`, section 4).
//! The budget moves several times a second, the size must not: each change costs a
//! keyframe and is seen. So it goes down at once when the budget no longer carries the
//! rung, and up only after the budget has carried the next one for a while, with a margin.
//! A rung that did not hold is tried again later each time.

use std::time::Duration;

use crate::time::Timestamp;

/// Pictures as a source gives them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Pictures a second.
    pub fps: u32,
}

/// Pictures as an encoder is to make them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// Pictures a second, not more than the source gives.
    pub fps: u32,
}

/// A rung of the ladder.
#[derive(Clone, Copy, Debug)]
struct Rung {
    /// Pixels of a picture, at most.
    pixels: u32,
    /// Pictures a second, at most.
    fps: u32,
    /// The least bits a second that carry it.
    least: u32,
}

/// The last of [`RUNGS`], which any budget has to carry.
const LOWEST: Rung = Rung {
    pixels: 320 * 180,
    fps: 15,
    least: 0,
};
/// For a talking person, the best first. By PSNR of a film's clip over its own size, 640x360
/// is better than 480x270 from about 135 kbit/s on, and that than 320x180 from about 95
/// kbit/s on; a camera's noise costs more than a film's, hence the distance. Above, the least goes with the pixels.
const RUNGS: [Rung; 6] = [
    Rung {
        pixels: 1280 * 720,
        fps: 30,
        least: 900_000,
    },
    Rung {
        pixels: 960 * 540,
        fps: 30,
        least: 500_000,
    },
    Rung {
        pixels: 640 * 360,
        fps: 30,
        least: 220_000,
    },
    Rung {
        pixels: 480 * 270,
        fps: 24,
        least: 100_000,
    },
    // lips are read better of more pictures than of sharper ones
    Rung {
        pixels: 320 * 180,
        fps: 24,
        least: 60_000,
    },
    LOWEST,
];
/// Most pictures a second.
const FPS: u32 = 30;
/// A budget carries the next rung once it is over its least by this factor…
const MARGIN: f64 = 1.25;
/// …for so long.
const PATIENCE: Duration = Duration::from_secs(4);
/// The longest patience after a rung did not hold.
const PATIENCE_MAX: Duration = Duration::from_secs(64);
/// A rung that was left within this time did not hold.
const HELD: Duration = Duration::from_secs(20);

/// Chooses size and rate for one track.
#[derive(Debug)]
pub struct Ladder {
    source: Source,
    rung: Option<usize>,
    /// Since when the budget carries the next rung.
    ready: Option<Timestamp>,
    /// When the rung was climbed.
    climbed: Option<Timestamp>,
    patience: Duration,
}

impl Ladder {
    /// For a source of this size and rate.
    pub const fn new(source: Source) -> Self {
        Self {
            source,
            rung: None,
            ready: None,
            climbed: None,
            patience: PATIENCE,
        }
    }

    /// The source it is for.
    pub const fn source(&self) -> Source {
        self.source
    }

    /// What to make at `now`, of `budget` bits a second. Nothing is above the source, and
    /// the aspect is the source's. `now` is of any clock that never steps back.
    pub fn decide(&mut self, now: Timestamp, budget: u32) -> Format {
        let carried = RUNGS
            .iter()
            .position(|rung| budget >= rung.least)
            .unwrap_or(RUNGS.len() - 1)
            .max(self.top());
        let rung = match self.rung {
            None => carried,
            Some(rung) if carried > rung => {
                let fell = self.climbed.is_some_and(|at| now.since(at) < HELD);
                if fell {
                    self.patience = (self.patience * 2).min(PATIENCE_MAX);
                } else {
                    self.patience = PATIENCE;
                }
                (self.ready, self.climbed) = (None, None);
                carried
            }
            Some(rung) => self.climb(now, budget, rung),
        };
        self.rung = Some(rung);
        self.format(rung)
    }

    /// The next rung, if the budget has carried it long enough.
    fn climb(&mut self, now: Timestamp, budget: u32, rung: usize) -> usize {
        let next = rung.saturating_sub(1).max(self.top());
        let carries = RUNGS
            .get(next)
            .is_some_and(|next| f64::from(budget) >= f64::from(next.least) * MARGIN);
        if next == rung || !carries {
            self.ready = None;
            return rung;
        }
        if now.since(*self.ready.get_or_insert(now)) < self.patience {
            return rung;
        }
        (self.ready, self.climbed) = (None, Some(now));
        next
    }

    /// The rung of the source's own size. It is never the lowest, so that a small source, too,
    /// gives fewer pictures where there is little.
    fn top(&self) -> usize {
        let pixels = self.source.width.saturating_mul(self.source.height);
        RUNGS
            .iter()
            .rposition(|rung| rung.pixels >= pixels)
            .unwrap_or(0)
            .min(RUNGS.len().saturating_sub(2))
    }

    fn format(&self, at: usize) -> Format {
        let Source { width, height, fps } = self.source;
        let rung = RUNGS.get(at).copied().unwrap_or(LOWEST);
        let pixels = f64::from(width) * f64::from(height);
        let scale = (f64::from(rung.pixels) / pixels.max(1.0)).sqrt();
        let most = if at == self.top() { FPS } else { rung.fps };
        let fps = fps.min(most).max(1);
        if scale >= 1.0 {
            return Format { width, height, fps };
        }
        let even = |side: u32| ((f64::from(side) * scale / 2.0).round() as u32 * 2).max(2);
        Format {
            width: even(width),
            height: even(height),
            fps,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAMERA: Source = Source {
        width: 1280,
        height: 720,
        fps: 30,
    };

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_795_525_200_000 + ms)
    }

    fn height(ladder: &mut Ladder, ms: i64, budget: u32) -> u32 {
        ladder.decide(at(ms), budget).height
    }

    #[test]
    fn it_begins_where_the_budget_is() {
        let formats: Vec<_> = [
            1_500_000, 800_000, 450_000, 220_000, 150_000, 60_000, 50_000,
        ]
        .map(|budget| Ladder::new(CAMERA).decide(at(0), budget))
        .map(|format| (format.width, format.height, format.fps))
        .into();
        assert_eq!(
            formats,
            [
                (1280, 720, 30),
                (960, 540, 30),
                (640, 360, 30),
                (640, 360, 30),
                (480, 270, 24),
                (320, 180, 24),
                (320, 180, 15)
            ]
        );
    }

    #[test]
    fn it_goes_down_at_once_and_up_only_after_a_while_with_a_margin() {
        let mut ladder = Ladder::new(CAMERA);
        assert_eq!(height(&mut ladder, 0, 450_000), 360);
        assert_eq!(height(&mut ladder, 100, 150_000), 270);
        // over the rung's least, not over the margin
        for ms in (200..20_000).step_by(33) {
            assert_eq!(height(&mut ladder, ms, 260_000), 270);
        }
        assert_eq!(height(&mut ladder, 20_000, 450_000), 270);
        assert_eq!(height(&mut ladder, 23_900, 450_000), 270);
        assert_eq!(height(&mut ladder, 24_000, 450_000), 360);
    }

    #[test]
    fn a_budget_that_trembles_changes_nothing() {
        let mut ladder = Ladder::new(CAMERA);
        let mut heights = std::collections::BTreeSet::new();
        for n in 0..3_000 {
            let budget = if n % 3 == 0 { 230_000 } else { 300_000 };
            heights.insert(height(&mut ladder, n * 100, budget));
        }
        assert_eq!(heights.len(), 1);
    }

    #[test]
    fn a_rung_that_did_not_hold_is_tried_again_later_each_time() {
        let mut ladder = Ladder::new(CAMERA);
        height(&mut ladder, 0, 150_000);
        let (mut changes, mut last) = (Vec::new(), 270);
        for ms in (0..120_000).step_by(100) {
            // the network carries the rung only until it is used
            let budget = if last == 270 { 300_000 } else { 150_000 };
            let now = height(&mut ladder, ms, budget);
            if now == 360 && last == 270 {
                changes.push(ms);
            }
            last = now;
        }
        let waits: Vec<_> = changes.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(changes.len() <= 6, "{changes:?}");
        assert!(waits.windows(2).all(|two| two[1] > two[0]), "{waits:?}");
    }

    #[test]
    fn a_small_source_gives_fewer_pictures_where_there_is_little() {
        let source = Source {
            width: 160,
            height: 90,
            fps: 30,
        };
        let decide = |budget| Ladder::new(source).decide(at(0), budget);
        assert_eq!((decide(400_000).width, decide(400_000).fps), (160, 30));
        assert_eq!((decide(50_000).width, decide(50_000).fps), (160, 15));
    }

    proptest! {
        #[test]
        fn nothing_is_above_the_source_and_its_aspect_stays(
            width in 32u32..1_920, height in 32u32..1_080, fps in 1u32..60, budget in 0u32..4_000_000
        ) {
            let source = Source { width: width * 2, height: height * 2, fps };
            let made = Ladder::new(source).decide(at(0), budget);
            prop_assert!(made.width <= source.width && made.height <= source.height);
            prop_assert!(made.fps <= fps && made.fps >= fps.min(15));
            prop_assert!((made.width | made.height).is_multiple_of(2));
            let aspect = |w: u32, h: u32| f64::from(w) / f64::from(h);
            let scale = f64::from(made.height.min(made.width));
            let off = aspect(made.width, made.height) / aspect(source.width, source.height);
            prop_assert!((off - 1.0).abs() < 4.0 / scale, "{made:?} of {source:?}");
        }
    }
}
