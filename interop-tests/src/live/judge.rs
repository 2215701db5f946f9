//! PURE: what one end of a consultation saw and heard, as figures, and of both ends the worse.

use serde_json::Value;

use super::skies::{Measure, Sky};
use crate::figures::{Figure, worse};
use crate::film::{Clip, Film, apart};
use crate::recording::{freezes, shown};
use crate::speech::Speech;

/// The figures of one end, in the order of [`Measure::ALL`]; not a number: not measured.
pub type Measured = [f64; Measure::ALL.len()];

fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    let last = values.len().saturating_sub(1);
    values.get(at.min(last)).copied().unwrap_or(f64::NAN)
}

/// What an end saw and heard of the other's clip: its report, its recording, and the speech in
/// that.
pub fn measure(report: &Value, clip: &Clip, film: &Film, speech: &Speech) -> Measured {
    let reported = |pointer: &str| {
        let value = report.pointer(pointer).and_then(Value::as_f64);
        value.unwrap_or(f64::NAN)
    };
    let gaps = still(&shown(&film.recording), film.lasts_ms());
    let spans: f64 = gaps.iter().sum();
    let lips = apart(clip.round, &clip.lags(film), speech);
    let lips: Vec<f64> = lips.iter().map(|apart| apart.abs()).collect();
    let heard = speech.stoi.is_some();
    Measure::ALL.map(|measure| match measure {
        Measure::Freezes if gaps.is_empty() => f64::NAN,
        Measure::Freezes => freezes(gaps.iter().copied()) as f64,
        Measure::LongestGap => gaps.iter().copied().fold(f64::NAN, f64::max),
        Measure::Pictures => gaps.len() as f64 * 1_000.0 / spans,
        Measure::Lines => reported("/video/received/height"),
        Measure::PictureLatency => reported("/video/received/latency_ms/p95"),
        Measure::MouthToEar => reported("/audio/received/latency_ms/p95"),
        Measure::Concealed => {
            let played = reported("/audio/received/played_ms");
            100.0 * reported("/audio/received/concealed_ms") / played
        }
        Measure::Stoi => speech.stoi.unwrap_or(f64::NAN),
        Measure::Lost if heard => speech.lost_ms,
        Measure::Lost => f64::NAN,
        Measure::LipsMedian => quantile(lips.clone(), 0.5),
        Measure::Lips => quantile(lips.clone(), 0.95),
    })
}

/// How long each picture stood, of those shown at these times in ms: the first counts from the
/// beginning, the last to the end, so that a picture that never came or stopped for good is seen.
fn still(shown: &[f64], end: f64) -> Vec<f64> {
    let (Some(first), Some(last)) = (shown.first(), shown.last()) else {
        return Vec::new();
    };
    let between = shown.windows(2).map(|two| two[1] - two[0]);
    let first = std::iter::once(*first);
    first
        .chain(between)
        .chain([(end - last).max(0.0)])
        .collect()
}

/// The figures of a consultation, with the aims of its weather: of both ends the worse. What
/// one end lacks, the consultation lacks.
pub fn figures(sky: &Sky, ends: [Measured; 2]) -> Vec<Figure> {
    let [one, other] = ends;
    let both = Measure::ALL.into_iter().zip(one.into_iter().zip(other));
    both.map(|(measure, (one, other))| {
        let worse = worse(one, other, measure.more_is_better());
        (measure.name(), sky.aim(measure), worse)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::table;
    use crate::live::skies;

    #[test]
    fn a_picture_that_stops_for_good_or_comes_late_is_a_gap_and_lost_pictures() {
        let whole: Vec<f64> = (0..300).map(|n| f64::from(n) * 33.0).collect();
        let figures = |shown: &[f64]| {
            let gaps = still(shown, 10_000.0);
            let longest = gaps.iter().copied().fold(0.0, f64::max);
            (
                freezes(gaps.iter().copied()),
                longest,
                gaps.iter().sum::<f64>(),
            )
        };
        let (none, longest, spans) = figures(&whole);
        assert!(
            none == 0 && longest < 150.0 && spans >= 9_999.0,
            "{longest} {spans}"
        );
        assert_eq!(
            figures(&whole[..100]),
            (1, 10_000.0 - 99.0 * 33.0, 10_000.0)
        );
        let (_, longest, spans) = figures(&whole[100..]);
        assert_eq!((longest, spans), (3_300.0, 10_000.0));
        assert_eq!(still(&[], 10_000.0), Vec::<f64>::new());
    }

    /// A consultation in which all is as good as can be.
    fn good() -> Measured {
        Measure::ALL.map(|measure| match measure {
            Measure::Pictures => 30.0,
            Measure::Lines => 720.0,
            Measure::Stoi => 1.0,
            Measure::MouthToEar | Measure::PictureLatency => 60.0,
            _ => 0.0,
        })
    }

    #[test]
    fn every_aim_of_every_weather_is_missed_where_one_end_is_bad_or_was_not_measured() {
        for sky in skies::all() {
            assert!(table(&[figures(&sky, [good(), good()])]).missed.is_empty());
            for (at, measure) in Measure::ALL.into_iter().enumerate() {
                if sky.aim(measure).is_empty() {
                    continue;
                }
                let bad = if measure.more_is_better() { 0.1 } else { 9e9 };
                for bad in [bad, f64::NAN] {
                    let mut lame = good();
                    lame[at] = bad;
                    for ends in [[good(), lame], [lame, good()]] {
                        let missed = table(&[figures(&sky, ends)]).missed;
                        assert_eq!(missed.len(), 1, "{} {measure:?}", sky.name);
                        assert!(missed[0].starts_with(measure.name()));
                    }
                }
            }
        }
    }
}
