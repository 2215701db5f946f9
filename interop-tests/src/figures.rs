//! Figures of some runs beside what each should reach.

use crate::peer::Failure;

/// One figure of a run: its name, what it should reach, its value. Not a number: it was not
/// measured.
pub type Figure = (&'static str, &'static str, f64);

/// Whether a median reaches its aim: `≥ n`, `≤ n`, `n`, or none. What was not measured does not.
pub fn holds(aim: &str, median: f64) -> bool {
    let number = |text: &str| text.trim().parse::<f64>().unwrap_or(f64::NAN);
    match (aim.strip_prefix('≥'), aim.strip_prefix('≤')) {
        _ if aim.is_empty() => true,
        (Some(least), _) => median >= number(least),
        (_, Some(most)) => median <= number(most),
        _ => median == number(aim),
    }
}

/// The figures of some runs, line by line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// A line a figure: its name, the median, the aim and all runs, with a mark at a miss.
    pub lines: Vec<String>,
    /// The lines that miss their aim: name, median and aim.
    pub missed: Vec<String>,
}

/// The table of some runs; all have the same figures, in the same order. A figure that one run
/// lacks is the worst that it can be: it stands behind all others.
pub fn table(runs: &[Vec<Figure>]) -> Table {
    let mut table = Table::default();
    for at in 0..runs.first().map_or(0, Vec::len) {
        let all: Vec<Figure> = runs.iter().filter_map(|run| run.get(at).copied()).collect();
        let Some((name, aim, _)) = all.first().copied() else {
            continue;
        };
        let mut values: Vec<f64> = all.iter().map(|figure| figure.2).collect();
        // a NaN comes last; where more is better it has to come first
        values.sort_by(f64::total_cmp);
        if aim.starts_with('≥') {
            let lacking = values.iter().filter(|value| value.is_nan()).count();
            values.rotate_right(lacking);
        }
        let median = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
        let number = |value: f64| match value {
            value if value.is_nan() => "none".to_string(),
            value if name.starts_with("STOI") => format!("{value:.3}"),
            value => format!("{value:.1}"),
        };
        let list: Vec<String> = all.iter().map(|figure| number(figure.2)).collect();
        let mark = if holds(aim, median) { "" } else { "  MISSED" };
        if !mark.is_empty() {
            table
                .missed
                .push(format!("{name}: {}, should be {aim}", number(median)));
        }
        table.lines.push(format!(
            "  {name:<40} {:>9}  {aim:<8} {}{mark}",
            number(median),
            list.join(" ")
        ));
    }
    table
}

/// The head of a table's lines.
pub fn head() -> String {
    format!("  {:<40} {:>9}  {:<8} all runs", "", "median", "aim")
}

/// An error that names what was missed, where something was.
pub fn judged(missed: &[String]) -> Result<(), Failure> {
    match missed {
        [] => Ok(()),
        missed => Err(format!(
            "{} aims were missed:\n  {}",
            missed.len(),
            missed.join("\n  ")
        )),
    }
}

/// Of both ends the worse. What one of them lacks, both lack: min and max would pass over it.
pub fn worse(one: f64, other: f64, more_is_better: bool) -> f64 {
    match more_is_better {
        _ if one.is_nan() || other.is_nan() => f64::NAN,
        true => one.min(other),
        false => one.max(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_held_against_its_aim() {
        assert!(holds("≥ 29.5", 29.5) && !holds("≥ 29.5", 29.4));
        assert!(holds("≤ 100", 100.0) && !holds("≤ 100", 100.1));
        assert!(holds("0", 0.0) && !holds("0", 1.0));
        assert!(holds("", f64::NAN) && !holds("≤ 100", f64::NAN) && !holds("0", f64::NAN));
    }

    #[test]
    fn a_table_marks_and_names_what_its_median_misses() {
        let run = |gap: f64, fps: f64| vec![("gap, ms", "≤ 100", gap), ("fps", "≥ 15", fps)];
        let good = table(&[run(90.0, 30.0), run(500.0, 30.0), run(80.0, 1.0)]);
        assert!(good.missed.is_empty(), "{good:?}");
        let bad = table(&[run(90.0, 30.0), run(500.0, 2.0), run(101.0, 1.0)]);
        assert_eq!(bad.missed.len(), 2);
        assert!(bad.missed[0].contains("gap, ms: 101.0, should be ≤ 100"));
        assert!(bad.lines.iter().all(|line| line.ends_with("MISSED")));
        assert!(judged(&bad.missed).unwrap_err().contains("gap, ms"));
        judged(&good.missed).unwrap();
    }

    #[test]
    fn a_figure_that_most_runs_lack_is_missed_whichever_way_is_better() {
        let run = |value: f64| vec![("a", "≤ 1", value), ("b", "≥ 0.1", value)];
        let lacking = table(&[run(0.5), run(f64::NAN), run(f64::NAN)]);
        assert_eq!(lacking.missed.len(), 2, "{lacking:?}");
        let once = table(&[run(0.5), run(0.6), run(f64::NAN)]);
        assert!(once.missed.is_empty(), "{once:?}");
    }
}
