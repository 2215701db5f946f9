//! The figures of real consultations on this machine, median of some runs: what `make
//! bench` prints beside the benchmarks of single parts. Of what both ends measure the worse
//! counts; each line says what it should reach.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use suora_node::clock::Clock;

use crate::cpu::{self, PARTS, Threads};
use crate::figures::{Figure, head, judged, table, worse};
use crate::live::{self, Ask};
use crate::peer::{Failure, Peer};
use crate::recording::{self, Summary};
use crate::rig::{Plan, Rig, STEP};
use crate::weather::line::{Loss, Weather};

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
    let least = |pointer: &str| worse(of(pointer), by(pointer), true);
    let most = |pointer: &str| worse(of(pointer), by(pointer), false);
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

/// What a node used of a core, in percent: by its own account (getrusage, from its start to its
/// end), and by part while both talked.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Used {
    whole: f64,
    parts: [f64; PARTS.len()],
}

/// What a node used of a core, in percent; not a number where its pictures were not the pattern's.
fn whole(report: &Value, seconds: u32) -> f64 {
    let of = |pointer: &str| number(report, pointer);
    // a tenth may be lost on the way, and the first second begins small
    let is_like = of("/video/sent/height") >= 360.0 && of("/video/received/fps") >= 27.0;
    match is_like {
        true => of("/cpu_seconds") * 100.0 / f64::from(seconds),
        false => f64::NAN,
    }
}

/// A consultation as above, not recorded: what the citizen's and the officer's node used. Not a
/// number where pictures were smaller or fewer than that.
async fn used(
    program: &Path,
    seconds: u32,
    bitrate: &str,
    weather: Option<(&Weather, u8)>,
) -> Result<[Used; 2], Failure> {
    let clock = Clock::start();
    let seconds_text = seconds.to_string();
    let plan = Plan {
        officer: &["--auto-accept", "--bitrate", bitrate],
        citizen: &["--bitrate", bitrate, "--seconds", &seconds_text],
        weather,
        unrecorded: true,
        ..Plan::default()
    };
    let mut rig = Rig::start(program, plan).await?;
    rig.both("accepted").await?;
    let mut first: Option<(Instant, [Threads; 2])> = None;
    let mut last: Option<(Instant, [Threads; 2])> = None;
    loop {
        let next = rig.citizen.until("the figures of a second", STEP, |view| {
            view["view"] == "stats" || view["view"] == "report"
        });
        if next.await?["view"] == "report" {
            break;
        }
        let threads = |peer: &Peer| cpu::threads(peer.process.id().ok_or("it has ended")?);
        let (Ok(citizen), Ok(officer)) = (threads(&rig.citizen), threads(&rig.officer)) else {
            break;
        };
        let look = (clock.now().mono, [citizen, officer]);
        first.get_or_insert_with(|| look.clone());
        let named = |look: &[Threads; 2]| look.each_ref().map(cpu::named);
        let is_whole = |last: &(Instant, [Threads; 2])| {
            let (then, now) = (named(&last.1), named(&look.1));
            then[0] <= now[0] && then[1] <= now[1]
        };
        if last.as_ref().is_none_or(is_whole) {
            last = Some(look);
        }
    }
    let (citizen, officer) = rig.reports().await?;
    let (Some(first), Some(last)) = (first, last) else {
        return Err("the consultation ended before a node could be looked at".into());
    };
    let time = last.0.duration_since(first.0).as_secs_f64();
    let used = |end: usize, report: &Value| Used {
        whole: whole(report, seconds),
        parts: cpu::parts(&first.1[end], &last.1[end]).map(|part| part * 100.0 / time),
    };
    Ok([used(0, &citizen), used(1, &officer)])
}

/// What both nodes use without recording, by how much more where packets are lost, and what the
/// codecs alone use.
async fn processor(program: &Path, seconds: u32) -> Result<Vec<Figure>, Failure> {
    let weather = Weather::delay(20).losing(Loss::Random(0.05));
    let codecs = move || cpu::codecs(seconds, 600_000);
    let codecs = tokio::task::spawn_blocking(codecs);
    let codecs = codecs.await.map_err(|error| error.to_string())??;
    let calm = used(program, seconds, "600", None).await?;
    // where each picture goes three times, that much holds this size
    let lossy = used(program, seconds, "1200", Some((&weather, 1))).await?;
    Ok(shares(calm, lossy, codecs * 100.0 / f64::from(seconds)))
}

/// The figures of CPU: of both ends the worse, by part the mean.
fn shares(calm: [Used; 2], lossy: [Used; 2], codecs: f64) -> Vec<Figure> {
    let [citizen, officer] = calm;
    let times = [0, 1].map(|end| lossy[end].whole / calm[end].whole);
    let worst = worse(times[0], times[1], false);
    let mut figures = vec![
        ("the citizen's node", "≤ 15", citizen.whole),
        ("the officer's node", "≤ 15", officer.whole),
        ("at 5 % loss, times as much", "≤ 1.3", worst),
        ("the codecs alone, both ways, at this pace", "", codecs),
        (
            "a node without what they use",
            "≤ 7",
            worse(citizen.whole, officer.whole, false) - codecs,
        ),
    ];
    for (ends, lost) in [(&calm, false), (&lossy, true)] {
        for (at, part) in PARTS.iter().enumerate() {
            let name = if lost { part.lossy } else { part.name };
            figures.push((name, "", (ends[0].parts[at] + ends[1].parts[at]) / 2.0));
        }
    }
    figures
}

/// Prints the figures of some runs, and adds what they miss.
fn show(all: &[Vec<Figure>], missed: &mut Vec<String>) {
    let table = table(all);
    table.lines.iter().for_each(|line| println!("{line}"));
    missed.extend(table.missed);
}

/// Prints each figure of `runs` consultations, median first. An aim that a median misses is
/// marked, and an error at the end.
pub async fn print(ask: Ask) -> Result<(), Failure> {
    let Ask { runs, seconds, .. } = ask;
    let program = ask.program.as_path();
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
        show(&all, &mut missed);
    }
    println!("\nThe CPU of a node, % of a core ({seconds} s, {runs} runs, nothing recorded)");
    println!("  By getrusage; then where it goes while both talk, the mean of both ends.");
    println!("{}", head());
    let mut all = Vec::new();
    for run in 1..=runs {
        eprintln!("  run {run} of {runs} …");
        all.push(processor(program, seconds).await?);
    }
    show(&all, &mut missed);
    // the real clips, whose speech can be judged
    let ask = live::Ask {
        skies: live::skies::named(&["clean".into()])?,
        ..ask
    };
    live::tables(&ask, &mut missed).await?;
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
    fn what_one_end_is_asked_for_is_that_ends_and_what_one_of_both_lacks_is_no_number() {
        let citizen = report(&[("/timing_ms/button_to_first_frame", 700.0)]);
        let mut officer = report(&[("/cpu_seconds", 2.0)]);
        officer["timing_ms"]["match_to_session"] = Value::Null;
        let none = gap(0.0);
        let all = figures((&citizen, &none), (&officer, &none), 10);
        assert_eq!(value(&all, "button to first picture"), 700.0);
        assert!(value(&all, "match to session").is_nan());
        assert_eq!(value(&all, "accept to first picture"), 60.0);
        assert_eq!(value(&all, "CPU of the citizen's"), 10.0);
        assert_eq!(value(&all, "CPU of the officer's"), 20.0);
        assert_eq!(value(&all, "memory"), 1.0);
        let all = figures((&Value::Null, &none), (&Value::Null, &none), 10);
        assert!(value(&all, "pictures a second").is_nan());
    }

    #[test]
    fn what_smaller_or_fewer_pictures_cost_is_no_figure() {
        let sends = |height: u32, fps: f64| {
            let mut report = report(&[("/video/received/fps", fps)]);
            report["video"]["sent"] = json!({"height": height});
            whole(&report, 10)
        };
        assert_eq!(sends(360, 29.0), 10.0);
        assert!(sends(270, 29.0).is_nan() && sends(360, 24.0).is_nan());
        assert!(whole(&report(&[]), 10).is_nan());
    }

    #[test]
    fn a_node_that_uses_too_much_or_more_where_packets_are_lost_misses_its_aim() {
        let used = |whole: f64| Used {
            whole,
            parts: [whole / 7.0; PARTS.len()],
        };
        let missed = |calm: [f64; 2], lossy: [f64; 2], codecs: f64| {
            let figures = shares(calm.map(used), lossy.map(used), codecs);
            assert_eq!(figures.len(), 5 + 2 * PARTS.len());
            table(&[figures]).missed.len()
        };
        assert_eq!(missed([12.0, 14.0], [13.0, 15.0], 9.0), 0);
        assert_eq!(missed([12.0, 16.0], [13.0, 15.0], 9.0), 1);
        assert_eq!(missed([16.0, 14.0], [13.0, 15.0], 9.0), 1);
        assert_eq!(missed([10.0, 14.0], [13.5, 15.0], 9.0), 1);
        assert_eq!(missed([10.0, 14.0], [10.0, 20.0], 9.0), 1);
        assert_eq!(missed([10.0, 14.0], [10.0, 14.0], 6.0), 1);
        assert_eq!(missed([10.0, f64::NAN], [10.0, 20.0], 9.0), 1 + 1 + 1);
    }
}
