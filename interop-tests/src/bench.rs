//! The figures of real consultations on this machine, median of some runs: what `make
//! bench` prints beside the benchmarks of single parts. Of what both ends measure the worse
//! counts. Nothing is asserted here that depends on how busy the machine is; each line says
//! what it should reach.

use std::path::Path;

use serde_json::Value;

use crate::figures::{Figure, head, judged, table};
use crate::peer::Failure;
use crate::recording::{self, Summary};
use crate::rig::{Plan, Rig};

/// What one end reported, and what its recording says.
type End<'a> = (&'a Value, &'a Summary);

/// NaN when nothing was measured.
fn number(report: &Value, pointer: &str) -> f64 {
    report
        .pointer(pointer)
        .and_then(Value::as_f64)
        .unwrap_or(f64::NAN)
}

/// The figures of one run of `seconds`: of what both ends measured the worse, of what one
/// of them measured that.
fn figures(citizen: End<'_>, officer: End<'_>, seconds: u32) -> Vec<Figure> {
    let (of, by) = (
        |pointer: &str| number(citizen.0, pointer),
        |pointer: &str| number(officer.0, pointer),
    );
    // a figure that one end lacks is NaN, which min and max pass over
    let least = |pointer: &str| of(pointer).min(by(pointer));
    let most = |pointer: &str| of(pointer).max(by(pointer));
    let cpu = |seconds_used: f64| seconds_used * 100.0 / f64::from(seconds);
    vec![
        ("pictures a second", "≥ 29.5", least("/video/received/fps")),
        ("freezes", "0", most("/video/received/freezes")),
        (
            "longest gap, ms",
            "≤ 100",
            citizen.1.longest_gap_ms.max(officer.1.longest_gap_ms),
        ),
        ("concealed, ms", "0", most("/audio/received/concealed_ms")),
        (
            "accept to first picture, ms",
            "≤ 100",
            most("/timing_ms/accept_to_first_frame"),
        ),
        (
            "accept to first sound, ms",
            "",
            most("/timing_ms/accept_to_first_audio"),
        ),
        (
            "match to session, ms",
            "",
            most("/timing_ms/match_to_session"),
        ),
        (
            "button to first picture, ms (citizen)",
            "",
            of("/timing_ms/button_to_first_frame"),
        ),
        (
            "picture latency p95, ms",
            "",
            most("/video/received/latency_ms/p95"),
        ),
        (
            "sound latency p95, ms",
            "",
            most("/audio/received/latency_ms/p95"),
        ),
        (
            "lips and voice apart p95, ms",
            "≤ 80",
            most("/audio/av_skew_ms/p95"),
        ),
        (
            "CPU of the citizen's node, % of a core",
            "",
            cpu(of("/cpu_seconds")),
        ),
        (
            "CPU of the officer's node, % of a core",
            "",
            cpu(by("/cpu_seconds")),
        ),
        (
            "memory of a node, MiB",
            "",
            most("/max_rss_bytes") / 1_048_576.0,
        ),
    ]
}

/// A consultation of `seconds` with the test pattern at 640x360, 30 pictures a second and
/// 600 kbit/s; with `kill`, the relay dies in its middle.
async fn consultation(program: &Path, seconds: u32, kill: bool) -> Result<Vec<Figure>, Failure> {
    let seconds_text = seconds.to_string();
    let plan = Plan {
        officer: &["--auto-accept", "--bitrate", "600"],
        citizen: &["--bitrate", "600", "--seconds", &seconds_text],
        ..Plan::default()
    };
    let mut rig = Rig::start(program, plan).await?;
    rig.both("accepted").await?;
    if kill {
        rig.pictures().await?;
        rig.relay.kill().await?;
    }
    let (citizen, officer) = rig.reports().await?;
    let seen = |name: &str, report: &Value| {
        let movie = rig.agency.file(&format!("record/{name}-saw.mp4"));
        let recording = recording::read(&movie).map_err(|fault| format!("{name}: {fault}"))?;
        recording::check(&recording, report)
            .map_err(|problems| format!("{name}: {}", problems.join("; ")))
    };
    let (at_citizen, at_officer) = (seen("citizen", &citizen)?, seen("officer", &officer)?);
    Ok(figures(
        (&citizen, &at_citizen),
        (&officer, &at_officer),
        seconds,
    ))
}

/// Prints each figure of `runs` consultations, median first. An aim that a median misses is
/// marked, and an error at the end.
pub async fn print(program: &Path, runs: usize, seconds: u32) -> Result<(), Failure> {
    let mut missed = Vec::new();
    for (kill, title) in [
        (false, "A consultation on loopback"),
        (true, "The same, the relay killed in its middle"),
    ] {
        println!("\n{title} ({seconds} s, {runs} runs, recorded at both ends)");
        println!("  Of each run the worse of both ends, where a line names none.");
        println!("{}", head());
        let mut all: Vec<Vec<Figure>> = Vec::new();
        for run in 1..=runs {
            eprintln!("  run {run} of {runs} …");
            all.push(consultation(program, seconds, kill).await?);
        }
        let table = table(&all);
        table.lines.iter().for_each(|line| println!("{line}"));
        missed.extend(table.missed);
    }
    judged(&missed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A report in which all is good but what `with` says.
    fn report(with: &[(&str, f64)]) -> Value {
        let mut report = json!({
            "video": {"received": {"fps": 30.0, "freezes": 0, "latency_ms": {"p95": 40.0}}},
            "audio": {
                "received": {"concealed_ms": 0, "latency_ms": {"p95": 50.0}},
                "av_skew_ms": {"p95": 5.0},
            },
            "timing_ms": {
                "accept_to_first_frame": 60.0,
                "accept_to_first_audio": 30.0,
                "match_to_session": 20.0,
                "button_to_first_frame": null,
            },
            "cpu_seconds": 1.0,
            "max_rss_bytes": 1_048_576,
        });
        for (pointer, value) in with {
            *report.pointer_mut(pointer).unwrap() = json!(value);
        }
        report
    }

    fn gap(longest_gap_ms: f64) -> Summary {
        Summary {
            longest_gap_ms,
            ..Summary::default()
        }
    }

    fn value(figures: &[Figure], name: &str) -> f64 {
        let found = figures.iter().find(|figure| figure.0.starts_with(name));
        found.unwrap().2
    }

    #[test]
    fn what_is_worse_at_one_end_counts_whichever_end_it_is() {
        let (good, even) = (report(&[]), gap(34.0));
        for (name, pointer, worse) in [
            ("pictures a second", "/video/received/fps", 12.0),
            ("freezes", "/video/received/freezes", 2.0),
            ("concealed", "/audio/received/concealed_ms", 120.0),
            (
                "accept to first picture",
                "/timing_ms/accept_to_first_frame",
                300.0,
            ),
            (
                "accept to first sound",
                "/timing_ms/accept_to_first_audio",
                200.0,
            ),
            ("match to session", "/timing_ms/match_to_session", 90.0),
            ("picture latency", "/video/received/latency_ms/p95", 400.0),
            ("sound latency", "/audio/received/latency_ms/p95", 410.0),
            ("lips and voice", "/audio/av_skew_ms/p95", 95.0),
        ] {
            let lame = report(&[(pointer, worse)]);
            for (citizen, officer) in [(&good, &lame), (&lame, &good)] {
                let all = figures((citizen, &even), (officer, &even), 10);
                assert_eq!(value(&all, name), worse, "{name}");
            }
        }
        for (here, there) in [(34.0, 140.0), (140.0, 34.0)] {
            let all = figures((&good, &gap(here)), (&good, &gap(there)), 10);
            assert_eq!(value(&all, "longest gap"), 140.0);
        }
    }

    #[test]
    fn what_one_end_measured_is_that_ends_and_what_none_did_is_no_number() {
        let citizen = report(&[("/timing_ms/button_to_first_frame", 700.0)]);
        let mut officer = report(&[("/cpu_seconds", 2.0)]);
        officer["timing_ms"]["match_to_session"] = Value::Null;
        let none = gap(0.0);
        let all = figures((&citizen, &none), (&officer, &none), 10);
        assert_eq!(value(&all, "button to first picture"), 700.0);
        assert_eq!(value(&all, "match to session"), 20.0);
        assert_eq!(value(&all, "CPU of the citizen's"), 10.0);
        assert_eq!(value(&all, "CPU of the officer's"), 20.0);
        assert_eq!(value(&all, "memory"), 1.0);
        let all = figures((&Value::Null, &none), (&Value::Null, &none), 10);
        assert!(value(&all, "pictures a second").is_nan());
    }
}
