//! The figures of real consultations on this machine, median of some runs: what `make
//! bench` prints beside the benchmarks of single parts. Nothing is asserted here that
//! depends on how busy the machine is; each line says what it should reach.

use std::path::Path;

use serde_json::Value;

use crate::peer::Failure;
use crate::recording;
use crate::rig::{Plan, Rig};

/// One figure of a run.
type Figure = (&'static str, &'static str, f64);

fn number(report: &Value, pointer: &str) -> f64 {
    report
        .pointer(pointer)
        .and_then(Value::as_f64)
        .unwrap_or(f64::NAN)
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
    let movie = rig.agency.file("record/citizen-saw.mp4");
    let summary = recording::check(
        &recording::read(&movie).map_err(|e| e.to_string())?,
        &citizen,
    )
    .map_err(|problems| problems.join("; "))?;
    let of = |pointer: &str| number(&citizen, pointer);
    Ok(vec![
        ("pictures a second", "≥ 29.5", of("/video/received/fps")),
        ("freezes", "0", of("/video/received/freezes")),
        ("longest gap, ms", "≤ 100", summary.longest_gap_ms),
        ("concealed, ms", "0", of("/audio/received/concealed_ms")),
        (
            "accept to first picture, ms",
            "≤ 100",
            of("/timing_ms/accept_to_first_frame"),
        ),
        (
            "accept to first sound, ms",
            "",
            of("/timing_ms/accept_to_first_audio"),
        ),
        (
            "match to session, ms",
            "",
            of("/timing_ms/match_to_session"),
        ),
        (
            "button to first picture, ms",
            "",
            of("/timing_ms/button_to_first_frame"),
        ),
        (
            "picture latency p95, ms",
            "",
            of("/video/received/latency_ms/p95"),
        ),
        (
            "sound latency p95, ms",
            "",
            of("/audio/received/latency_ms/p95"),
        ),
        (
            "lips and voice apart p95, ms",
            "≤ 80",
            of("/audio/av_skew_ms/p95"),
        ),
        (
            "CPU of the citizen's node, % of a core",
            "",
            of("/cpu_seconds") * 100.0 / f64::from(seconds),
        ),
        (
            "CPU of the officer's node, % of a core",
            "",
            number(&officer, "/cpu_seconds") * 100.0 / f64::from(seconds),
        ),
        (
            "memory of the citizen's node, MiB",
            "",
            of("/max_rss_bytes") / 1_048_576.0,
        ),
    ])
}

/// Prints each figure of `runs` consultations, median first.
pub async fn print(program: &Path, runs: usize, seconds: u32) -> Result<(), Failure> {
    for (kill, title) in [
        (false, "A consultation on loopback"),
        (true, "The same, the relay killed in its middle"),
    ] {
        println!("\n{title} ({seconds} s, {runs} runs, recorded)");
        println!("  {:<40} {:>9}  {:<8} all runs", "", "median", "aim");
        let mut all: Vec<Vec<Figure>> = Vec::new();
        for run in 1..=runs {
            eprintln!("  run {run} of {runs} …");
            all.push(consultation(program, seconds, kill).await?);
        }
        for at in 0..all.first().map_or(0, Vec::len) {
            let mut values: Vec<f64> = all.iter().map(|run| run[at].2).collect();
            values.sort_by(f64::total_cmp);
            let list: Vec<String> = values.iter().map(|value| format!("{value:.1}")).collect();
            let (name, aim, _) = all[0][at];
            println!(
                "  {name:<40} {:>9.1}  {aim:<8} {}",
                values[values.len() / 2],
                list.join(" ")
            );
        }
    }
    Ok(())
}
