//! PURE: whether figures of a long run stay where they are.

use std::time::Duration;

/// Until then caches fill and buffers find their size.
pub const WARM_UP: Duration = Duration::from_secs(120);
/// Most that memory may move away from where it was after the warm-up, as a share.
pub const MEMORY: f64 = 0.05;
/// Most that a delay may move over the whole run, in ms.
pub const DELAY: f64 = 20.0;

/// Values at moments in seconds.
pub type Series = Vec<(f64, f64)>;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median of each whole minute after the warm-up; a minute without values is not there.
pub fn minutes(series: &Series) -> Vec<f64> {
    let begin = WARM_UP.as_secs_f64();
    let end = series.iter().map(|(at, _)| *at).fold(0.0, f64::max);
    let whole = ((end - begin) / 60.0 + 0.2).max(0.0) as u32;
    let minute = |number: u32| {
        let from = begin + 60.0 * f64::from(number);
        let inside = series
            .iter()
            .filter(|(at, _)| (from..from + 60.0).contains(at));
        inside.map(|(_, value)| *value).collect::<Vec<_>>()
    };
    let filled = (0..whole).map(minute).filter(|values| !values.is_empty());
    filled.map(median).collect()
}

/// The slope through all pairs' median (Theil and Sen), a step of one minute.
pub fn slope(minutes: &[f64]) -> f64 {
    let mut slopes = Vec::new();
    for (at, value) in minutes.iter().enumerate() {
        for (later, other) in minutes.iter().enumerate().skip(at + 1) {
            slopes.push((other - value) / (later - at) as f64);
        }
    }
    median(slopes)
}

/// Whether a value is over its bound; what is no number was not measured, and counts as that.
pub const fn beyond(value: f64, most: f64) -> bool {
    value.is_nan() || value > most
}

/// What is not flat of memory: no minute may lie further from the first after the warm-up than
/// [`MEMORY`].
pub fn flat(what: &str, series: &Series) -> Vec<String> {
    let minutes = minutes(series);
    let Some((first, rest)) = minutes.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return vec![format!("{what}: fewer than two minutes after the warm-up")];
    };
    let moved = |value: &f64| (value - first) / first;
    let worst = rest
        .iter()
        .map(moved)
        .max_by(|a, b| a.abs().total_cmp(&b.abs()));
    match worst {
        Some(worst) if worst.abs() <= MEMORY => Vec::new(),
        worst => vec![format!(
            "{what}: {:+.1} % from {first:.1} after the warm-up, should be within ±{:.0} %",
            100.0 * worst.unwrap_or(f64::NAN),
            100.0 * MEMORY
        )],
    }
}

/// What drifts of a delay: neither its slope over the whole run nor its last third against the
/// first may move it by more than [`DELAY`].
pub fn steady(what: &str, series: &Series) -> Vec<String> {
    let minutes = minutes(series);
    if minutes.len() < 2 {
        return vec![format!("{what}: fewer than two minutes after the warm-up")];
    }
    let mut faults = Vec::new();
    let drift = slope(&minutes) * (minutes.len() - 1) as f64;
    if beyond(drift.abs(), DELAY) {
        faults.push(format!(
            "{what}: drifts by {drift:+.1} ms over {} minutes, should be within ±{DELAY} ms",
            minutes.len()
        ));
    }
    let third = minutes.len().div_ceil(3);
    let begin = median(minutes[..third].to_vec());
    let end = median(minutes[minutes.len() - third..].to_vec());
    if beyond(end - begin, DELAY) {
        faults.push(format!(
            "{what}: grew from {begin:.1} to {end:.1} ms, should be {DELAY} ms at most"
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half an hour, a value each ten seconds.
    fn series(value: impl Fn(f64) -> f64) -> Series {
        (0..=180)
            .map(|n| f64::from(n) * 10.0)
            .map(|at| (at, value(at)))
            .collect()
    }

    #[test]
    fn memory_that_stays_is_flat_and_what_comes_before_the_warm_up_does_not_count() {
        assert!(flat("relay", &series(|_| 40.0)).is_empty());
        // a moment's peak in each minute is no leak
        let peaks = series(|at| if at % 60.0 == 0.0 { 60.0 } else { 40.0 });
        assert!(flat("relay", &peaks).is_empty());
        let filling = series(|at| 40.0 * (at / 110.0).min(1.0));
        assert!(flat("relay", &filling).is_empty());
    }

    #[test]
    fn a_leak_of_one_percent_a_minute_is_named_and_so_is_memory_that_shrinks() {
        let leak = flat("citizen", &series(|at| 40.0 * (1.0 + 0.01 * at / 60.0)));
        assert!(leak[0].contains("citizen: +"), "{leak:?}");
        assert_eq!(flat("a", &series(|at| 40.0 - 0.005 * at)).len(), 1);
        let step = series(|at| if at > 900.0 { 43.0 } else { 40.0 });
        assert_eq!(flat("a", &step).len(), 1);
    }

    #[test]
    fn a_delay_that_swings_is_steady_and_one_that_drifts_or_jumps_is_not() {
        let swings = series(|at| 80.0 + 8.0 * (at / 37.0).sin());
        assert!(steady("sound", &swings).is_empty());
        // a clock that is 20 ppm off for half an hour: 36 ms
        let drift = steady("sound", &series(|at| 80.0 + at * 0.02));
        assert!(
            drift.iter().any(|fault| fault.contains("drifts")),
            "{drift:?}"
        );
        assert!(!steady("sound", &series(|at| 120.0 - at * 0.02)).is_empty());
        let jump = series(|at| if at > 1_200.0 { 120.0 } else { 80.0 });
        let jump = steady("picture", &jump);
        assert!(jump.iter().any(|fault| fault.contains("grew")), "{jump:?}");
    }

    #[test]
    fn what_was_hardly_measured_is_no_success() {
        for short in [
            Vec::new(),
            vec![(0.0, 1.0)],
            vec![(130.0, 1.0), (140.0, 1.0)],
        ] {
            assert_eq!(flat("a", &short).len(), 1);
            assert_eq!(steady("a", &short).len(), 1);
        }
        let broken = series(|_| f64::NAN);
        assert!(!flat("a", &broken).is_empty() && !steady("a", &broken).is_empty());
    }
}
