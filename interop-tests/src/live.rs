//! The bad network in real time: real processes on a wire that delays, loses, narrows and goes
//! dark as in [`crate::weather`], but by this machine's clock. Both ends play the real clips;
//! what people would have seen and heard is read out of the recordings of both.

pub mod judge;
pub mod skies;
pub mod wire;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use suora_node::intent::Intent;
use suora_node::play::sheet::contact_sheet;

use self::judge::{Measured, measure};
use self::skies::Sky;
use self::wire::Tally;
use crate::figures::{self, Figure};
use crate::film::{Clip, Film};
use crate::peer::Failure;
use crate::rig::{Plan, Rig, STEP};
use crate::speech;

/// Each of both ends: its name, and whose clip it sees.
const ENDS: [(&str, &str); 2] = [("citizen", "officer"), ("officer", "citizen")];
/// Ends of seconds until the officer accepts, as a person at a desk takes a moment: until then the
/// way is warm.
const ANSWERS: u32 = 2;
/// A busy machine holds up more than this share of packets: the figures are not the weather's.
const BUSY: f64 = 0.01;

/// What to run.
#[derive(Clone, Debug)]
pub struct Ask {
    /// This crate's program.
    pub program: PathBuf,
    /// The Python of `make deps`.
    pub python: PathBuf,
    /// Under which weathers.
    pub skies: Vec<Sky>,
    /// How long each consultation is, in seconds, 5 to 600.
    pub seconds: u32,
    /// How many of each; the median counts.
    pub runs: usize,
    /// Where recordings, reports, logs and contact sheets are kept.
    pub keep: Option<PathBuf>,
    /// Faults of both nodes, by name: what the figures should show.
    pub faults: Vec<String>,
}

/// One consultation.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its figures, with their aims.
    pub figures: Vec<Figure>,
    /// What the wire did, both ways.
    pub wire: [Tally; 2],
}

/// The clips: the citizen's, and the officer's.
#[derive(Debug)]
pub struct Clips([(PathBuf, Clip); 2]);

impl Clips {
    /// Reads both.
    pub fn read() -> Result<Self, Failure> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/assets/clips");
        let read = |name: &str| -> Result<(PathBuf, Clip), Failure> {
            let path = folder.join(format!("{name}.mp4"));
            let clip = Clip::read(&path).map_err(|fault| fault.to_string())?;
            Ok((path, clip))
        };
        Ok(Self([read("citizen")?, read("officer")?]))
    }

    /// Where an end's own clip is, and it.
    pub fn of(&self, name: &str) -> (&Path, &Clip) {
        let [citizen, officer] = &self.0;
        let (path, clip) = if name == "citizen" { citizen } else { officer };
        (path, clip)
    }
}

/// Runs one consultation under a weather; `seed` decides its chance.
pub async fn run(
    ask: &Ask,
    clips: &Clips,
    sky: &Sky,
    seed: u8,
    told: &mut impl FnMut(u32),
) -> Result<Run, Failure> {
    let seconds = ask.seconds.to_string();
    let faults: Vec<&str> = ask.faults.iter().map(String::as_str).collect();
    let [citizen, officer] = ["citizen", "officer"].map(|name| {
        let path = clips.of(name).0.display().to_string();
        let mut arguments = vec!["--camera".to_string(), path];
        arguments.extend(sky.arguments.iter().map(ToString::to_string));
        arguments
    });
    let mut citizen: Vec<&str> = citizen.iter().map(String::as_str).collect();
    let officer: Vec<&str> = officer.iter().map(String::as_str).collect();
    citizen.extend(["--seconds", &seconds]);
    let plan = Plan {
        officer: &officer,
        citizen: &citizen,
        officer_faults: &faults,
        citizen_faults: &faults,
        weather: Some((&sky.weather, seed)),
        ..Plan::default()
    };
    let mut rig = Rig::start(&ask.program, plan).await?;
    rig.both("warm").await?;
    for _ in 0..ANSWERS {
        let second = |view: &Value| view["view"] == "stats";
        rig.officer.until("a warm second", STEP, second).await?;
    }
    rig.officer.say(Intent::Accept).await?;
    watch(&mut rig, told).await?;
    // an officer who answers by hand stays until told to go
    let over = |view: &Value| view["view"] == "report";
    rig.officer.until("the report", STEP, over).await?;
    rig.officer.process.terminate()?;
    let (citizen, officer) = rig.reports().await?;
    let mut ends = Vec::new();
    for ((name, other), report) in ENDS.into_iter().zip([&citizen, &officer]) {
        if let Some(keep) = &ask.keep {
            keep_end(&rig, keep, &format!("{}-{seed}", sky.name), name, report)?;
        }
        let movie = rig.agency.file(&format!("record/{name}-saw.mp4"));
        ends.push(end(ask, clips.of(other).1, &movie, report).await?);
    }
    let ends = ends
        .try_into()
        .map_err(|_| "a consultation has two ends".to_string())?;
    Ok(Run {
        figures: judge::figures(sky, ends),
        wire: rig
            .wire
            .as_ref()
            .map(wire::Wire::tallies)
            .unwrap_or_default(),
    })
}

/// Tells the seconds that went by, until the citizen's end is over.
async fn watch(rig: &mut Rig, told: &mut impl FnMut(u32)) -> Result<(), Failure> {
    for second in 0.. {
        told(second);
        let next = rig.citizen.until("a second of figures", STEP, |view| {
            view["view"] == "stats" || view["view"] == "report"
        });
        if next.await?["view"] == "report" {
            break;
        }
    }
    Ok(())
}

/// What one end saw and heard.
async fn end(ask: &Ask, clip: &Clip, movie: &Path, report: &Value) -> Result<Measured, Failure> {
    let film = Film::read(movie).map_err(|fault| fault.to_string())?;
    if film.broken > 0 {
        return Err(format!(
            "{}: {} pictures that were shown cannot be decoded",
            movie.display(),
            film.broken
        ));
    }
    let speech = speech::judge(&ask.python, &clip.spoken, &film.heard)?;
    Ok(measure(report, clip, &film, &speech))
}

fn keep_end(rig: &Rig, keep: &Path, run: &str, name: &str, report: &Value) -> Result<(), Failure> {
    let failed = |error: std::io::Error| format!("{}: {error}", keep.display());
    std::fs::create_dir_all(keep).map_err(failed)?;
    let movie = keep.join(format!("{run}-{name}-saw.mp4"));
    std::fs::copy(rig.agency.file(&format!("record/{name}-saw.mp4")), &movie).map_err(failed)?;
    let peer = if name == "citizen" {
        &rig.citizen
    } else {
        &rig.officer
    };
    let log = movie.with_extension("log");
    std::fs::copy(peer.process.log_file(), &log).map_err(failed)?;
    let text = serde_json::to_vec_pretty(report).map_err(|error| error.to_string())?;
    std::fs::write(keep.join(format!("{run}-{name}.json")), text).map_err(failed)?;
    contact_sheet(&movie, &movie.with_extension("png"), 4, 4).map_err(|fault| fault.to_string())
}

/// Runs all that is asked and prints a table a weather. What misses its aim is marked, and an
/// error at the end.
pub async fn print(ask: &Ask) -> Result<(), Failure> {
    let mut missed = Vec::new();
    tables(ask, &mut missed).await?;
    if let Some(keep) = &ask.keep {
        println!(
            "\nRecordings, reports and contact sheets: {}",
            keep.display()
        );
    }
    figures::judged(&missed)
}

/// Runs all that is asked and prints a table a weather; adds what misses its aim.
pub async fn tables(ask: &Ask, missed: &mut Vec<String>) -> Result<(), Failure> {
    let clips = Clips::read()?;
    for sky in &ask.skies {
        println!("\n{}: {}", sky.name, sky.title);
        println!(
            "  {} s, {} runs, recorded at both ends; of each run the worse end",
            ask.seconds, ask.runs
        );
        let mut runs = Vec::new();
        for number in 1..=ask.runs {
            let title = format!("  {}, run {number} of {}", sky.name, ask.runs);
            let mut told = |second| tell(&title, second, ask.seconds);
            let seed = u8::try_from(number).unwrap_or(0);
            let result = run(ask, &clips, sky, seed, &mut told).await;
            clear();
            match result {
                Ok(run) => runs.push(run),
                Err(why) => {
                    println!("  run {number} failed: {why}");
                    missed.push(format!("{}: run {number} failed", sky.name));
                }
            }
        }
        let figures: Vec<_> = runs.iter().map(|run| run.figures.clone()).collect();
        let table = figures::table(&figures);
        println!("{}", figures::head());
        table.lines.iter().for_each(|line| println!("{line}"));
        runs.iter()
            .for_each(|run| println!("  {}", wire(&run.wire)));
        let note = match runs.iter().any(|run| busy(&run.wire)) {
            true => " (the machine was busy)",
            false => "",
        };
        let named = |line: &String| format!("{}: {line}{note}", sky.name);
        missed.extend(table.missed.iter().map(named));
    }
    Ok(())
}

/// Of both directions together.
fn both(tallies: &[Tally; 2], of: fn(&Tally) -> u64) -> u64 {
    tallies.iter().map(of).sum()
}

/// The share of packets that a busy machine held up.
fn held_up(tallies: &[Tally; 2]) -> f64 {
    both(tallies, |t| t.late) as f64 / both(tallies, |t| t.sent).max(1) as f64
}

/// Whether the machine was too busy for the wire to be the weather that it says.
fn busy(tallies: &[Tally; 2]) -> bool {
    held_up(tallies) > BUSY || both(tallies, |t| t.dropped) > 0
}

/// What a wire did, in words.
fn wire(tallies: &[Tally; 2]) -> String {
    let packets = both(tallies, |t| t.packets);
    let lost = both(tallies, |t| t.lost) as f64 / packets.max(1) as f64;
    let mut text = format!("the wire lost {:.1} % of {packets} packets", 100.0 * lost);
    if busy(tallies) {
        text += &format!(
            "; THE MACHINE WAS BUSY: {:.1} % left more than {} ms late, {} were dropped",
            100.0 * held_up(tallies),
            wire::LATE.as_millis(),
            both(tallies, |t| t.dropped)
        );
    }
    text
}

/// Shows progress: at a terminal each second on one line, elsewhere a line at the begin.
fn tell(title: &str, second: u32, of: u32) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{title}: {second} of {of} s ");
        let _ = std::io::stderr().flush();
    } else if second == 0 {
        eprintln!("{title} …");
    }
}

fn clear() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_is_told_from_a_wire_that_loses() {
        let tally = Tally {
            packets: 1_000,
            lost: 200,
            sent: 800,
            late: 4,
            ..Tally::default()
        };
        assert_eq!(wire(&[tally; 2]), "the wire lost 20.0 % of 2000 packets");
        for late in [
            Tally { late: 40, ..tally },
            Tally {
                dropped: 1,
                ..tally
            },
        ] {
            assert!(wire(&[tally, late]).contains("BUSY"), "{late:?}");
        }
    }
}
