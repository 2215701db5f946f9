//! PURE: speech made shorter or longer by one period of its pitch, so that its pitch stays
//! (WSOLA; NetEq's *accelerate* and *preemptive expand*): where a piece resembles the piece
//! one lag later, the time between them is left out or played twice, and the two are
//! cross-faded. Own, because the crates there are either stretch whole files by a fixed
//! factor with a window of latency (`timestretch`, `ssstretch`), or bring a jitter buffer
//! and a sound device with it (`neteq`); what is needed is one splice in what is not yet
//! played, and to be told how long it was.

/// Shortest and longest lag, in samples at 48 kHz: voices of 80 to 400 Hz.
const LAG: (usize, usize) = (120, 600);
/// Samples that are compared and cross-faded: 8 ms.
const FADE: usize = 384;
/// Every so many samples are looked at in the first round.
const COARSE: usize = 4;
/// Distance of the places where a splice is tried, in these.
const PLACES: usize = 96;
/// How alike two pieces have to be, 1 being the same: as a rule, and in a hurry.
const ALIKE: (f32, f32) = (0.85, 0.5);

/// A splice that was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Splice {
    /// Where time was left out or played twice, in samples from the begin.
    pub at: usize,
    /// How much.
    pub samples: usize,
}

/// What may be spliced.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ease {
    /// Pieces as quiet as this may be spliced anywhere: a mean square.
    pub quiet: f32,
    /// Rather a splice that is heard than none.
    pub hurry: bool,
}

/// Leaves one period out, if there is a place where it is not heard.
pub fn faster(samples: &mut Vec<i16>, ease: Ease) -> Option<Splice> {
    let splice = best(samples, ease)?;
    let Splice { at, samples: lag } = splice;
    for n in 0..FADE {
        samples[at + n] = fade(samples[at + n], samples[at + lag + n], n);
    }
    samples.drain(at + FADE..at + FADE + lag);
    Some(splice)
}

/// Plays one period twice, if there is a place where it is not heard.
pub fn slower(samples: &mut Vec<i16>, ease: Ease) -> Option<Splice> {
    let splice = best(samples, ease)?;
    let Splice { at, samples: lag } = splice;
    let again: Vec<i16> = (0..FADE)
        .map(|n| fade(samples[at + lag + n], samples[at + n], n))
        .chain(samples[at + FADE..].iter().copied())
        .collect();
    samples.truncate(at + lag);
    samples.extend(again);
    Some(splice)
}

/// From `from` to `to`, the `n`th of [`FADE`] samples on the way.
fn fade(from: i16, to: i16, n: usize) -> i16 {
    let share = (n as f32 + 0.5) / FADE as f32;
    (f32::from(from) * (1.0 - share) + f32::from(to) * share).round() as i16
}

/// The place and lag at which two pieces are most alike, if they are enough: first among
/// every fourth sample, then around the best of these.
fn best(samples: &[i16], ease: Ease) -> Option<Splice> {
    let few: Vec<f32> = samples
        .iter()
        .step_by(COARSE)
        .copied()
        .map(f32::from)
        .collect();
    let rough = search(
        &few,
        PLACES,
        LAG.0 / COARSE..LAG.1 / COARSE + 1,
        FADE / COARSE,
        ease,
    )?;
    let at = rough.at * COARSE;
    let lag = rough.samples * COARSE;
    let lags = lag.saturating_sub(COARSE).max(LAG.0)..(lag + COARSE).min(LAG.1) + 1;
    let end = samples.len().min(at + lags.end + FADE);
    let all: Vec<f32> = samples
        .get(at..end)?
        .iter()
        .copied()
        .map(f32::from)
        .collect();
    let fine = search(&all, all.len(), lags, FADE, ease)?;
    Some(Splice {
        at,
        samples: fine.samples,
    })
}

/// The best of all places that lie `apart` and of all these lags, of pieces of `length`.
fn search(
    samples: &[f32],
    apart: usize,
    lags: std::ops::Range<usize>,
    length: usize,
    ease: Ease,
) -> Option<Splice> {
    let least = if ease.hurry { ALIKE.1 } else { ALIKE.0 };
    let power = |piece: &[f32]| piece.iter().map(|sample| sample * sample).sum::<f32>() + 1.0;
    let mut best: Option<(f32, Splice)> = None;
    for at in (0..samples.len()).step_by(apart.max(1)) {
        let Some(one) = samples.get(at..at + length) else {
            break;
        };
        let first = power(one);
        for lag in lags.clone() {
            let Some(two) = samples.get(at + lag..at + lag + length) else {
                break;
            };
            let second = power(two);
            let score = if first.max(second) <= ease.quiet * length as f32 {
                // in a pause all are alike: the longer lag is worth more
                1.0 + lag as f32
            } else {
                let both: f32 = one.iter().zip(two).map(|(one, two)| one * two).sum();
                both / (first * second).sqrt()
            };
            if score >= least && best.is_none_or(|(most, _)| score > most) {
                best = Some((score, Splice { at, samples: lag }));
            }
        }
    }
    best.map(|(_, splice)| splice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{file, mp4};

    /// Loudest that is taken for quiet here.
    const EASE: Ease = Ease {
        quiet: 400.0,
        hurry: false,
    };

    fn sine(hertz: f32, samples: usize) -> Vec<i16> {
        let turn = std::f32::consts::TAU * hertz / 48_000.0;
        (0..samples)
            .map(|n| ((n as f32 * turn).sin() * 9_000.0) as i16)
            .collect()
    }

    fn speech() -> Vec<i16> {
        let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/clips/officer.mp4");
        let movie = mp4::read(&file::bytes(clip.as_ref()).unwrap()).unwrap();
        let mut samples = movie.sound.unwrap().decode().unwrap();
        samples.truncate(6 * 48_000);
        samples
    }

    fn jump(samples: &[i16]) -> u16 {
        let steps = samples.windows(2).map(|two| two[0].abs_diff(two[1]));
        steps.max().unwrap_or(0)
    }

    /// All of it, 20 ms after 20 ms, as a player does; splices, and the result.
    fn stretch(
        source: &[i16],
        by: fn(&mut Vec<i16>, Ease) -> Option<Splice>,
        ease: Ease,
    ) -> (Vec<Splice>, Vec<i16>) {
        let (mut left, mut out, mut splices) = (Vec::new(), Vec::new(), Vec::new());
        for frame in source.chunks(960) {
            left.extend_from_slice(frame);
            splices.extend(by(&mut left, ease));
            while left.len() >= 1_920 {
                out.extend(left.drain(..960));
            }
        }
        out.extend(left);
        (splices, out)
    }

    /// Crossings of zero upwards a second: the pitch of a sine.
    fn crossings(samples: &[i16]) -> f32 {
        let ups = samples.windows(2).filter(|two| two[0] < 0 && two[1] >= 0);
        ups.count() as f32 * 48_000.0 / samples.len() as f32
    }

    #[test]
    fn a_tone_keeps_its_pitch_and_its_course_while_its_length_changes() {
        for hertz in [90.0, 131.0, 220.0, 390.0, 1_000.0] {
            let source = sine(hertz, 48_000);
            for by in [faster, slower] {
                let (splices, out) = stretch(&source, by, EASE);
                assert!(splices.len() > 40, "{hertz}: {}", splices.len());
                let changed: usize = splices.iter().map(|splice| splice.samples).sum();
                assert_eq!(out.len().abs_diff(source.len()), changed);
                assert!(
                    (crossings(&out) - hertz).abs() < hertz * 0.01 + 3.0,
                    "{hertz}"
                );
                assert!(jump(&out) <= jump(&source) + 60, "{hertz}");
            }
        }
    }

    #[test]
    fn speech_gets_shorter_and_longer_without_clicks_and_as_loud_as_it_was() {
        let source = speech();
        let loud = |samples: &[i16]| {
            let squares = samples.iter().map(|sample| f64::from(*sample).powi(2));
            (squares.sum::<f64>() / samples.len() as f64).sqrt()
        };
        for by in [faster, slower] {
            let (splices, out) = stretch(&source, by, EASE);
            let changed: usize = splices.iter().map(|splice| splice.samples).sum();
            assert_eq!(out.len().abs_diff(source.len()), changed);
            let share = changed as f64 / source.len() as f64;
            assert!((0.1..0.7).contains(&share), "{share}");
            assert!(
                f64::from(jump(&out)) <= f64::from(jump(&source)) * 1.02,
                "{}",
                jump(&out)
            );
            let ratio = loud(&out) / loud(&source);
            assert!((0.85..1.15).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn what_resembles_nothing_is_left_alone_unless_it_is_quiet() {
        let noise = |loud: i32| -> Vec<i16> {
            let mut state = 1_u32;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) as i32 % (2 * loud + 1) - loud
            };
            (0..1_920).map(|_| next() as i16).collect()
        };
        let loud = noise(9_000);
        for by in [faster, slower] {
            let mut samples = loud.clone();
            assert_eq!(by(&mut samples, EASE), None);
            assert_eq!(samples, loud);
            assert!(by(&mut noise(20), EASE).is_some_and(|splice| splice.samples > 500));
        }
    }

    #[test]
    fn what_is_too_short_is_left_alone() {
        for len in [0, 1, FADE, FADE + LAG.0 - 1] {
            let mut samples = vec![0; len];
            assert_eq!(faster(&mut samples, EASE), None);
            assert_eq!(slower(&mut samples, EASE), None);
            assert_eq!(samples.len(), len);
        }
        assert!(faster(&mut vec![0; FADE + LAG.0], EASE).is_some());
    }
}
