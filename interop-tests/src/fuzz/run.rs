//! `suora-interop fuzz`: runs libFuzzer on each target for a while, after it has found a bug
//! that was put there, and prints what came of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{PLANTED, TARGETS, Target, corpus, corpus_file, seeds};
use crate::vectors::raw::hex;

/// Longest input that is committed, and most inputs and bytes of a target.
const KEPT: (usize, usize, usize) = (1_024, 96, 16_384);
/// How long the planted bug may stay unfound, in seconds.
const CONTROL: u64 = 120;

/// What to run.
#[derive(Debug)]
pub struct Ask {
    /// `suora-fuzz`, built with coverage.
    pub program: PathBuf,
    /// Where corpora and crashes of this machine are.
    pub folder: PathBuf,
    /// Seconds a target.
    pub seconds: u64,
    /// Which; none: all.
    pub names: Vec<String>,
    /// Write the smallest inputs that cover most into the committed corpus.
    pub keep: bool,
}

/// What came of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    runs: u64,
    per_second: u64,
    /// Edges of this workspace's code that were reached, and features beside them.
    edges: u64,
    features: u64,
    rss: u64,
    crash: Option<PathBuf>,
}

/// Runs all, prints a table; an error names what crashed, or that the control did not.
pub fn run(ask: &Ask) -> Result<(), String> {
    let chosen: Vec<&Target> = if ask.names.is_empty() {
        TARGETS.iter().collect()
    } else {
        let find = |name: &String| {
            TARGETS
                .iter()
                .find(|target| target.name == *name)
                .ok_or_else(|| {
                    let all: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
                    format!("no target {name}; there are {}", all.join(", "))
                })
        };
        ask.names.iter().map(find).collect::<Result<_, _>>()?
    };
    let control = fuzz(ask, &PLANTED, CONTROL)?;
    if control.crash.is_none() {
        return Err(format!(
            "the planted bug was not found in {CONTROL} s: this fuzzer finds nothing"
        ));
    }
    println!(
        "control: the planted bug was found after {} runs",
        control.runs
    );
    println!(
        "\n{:<9} {:>10} {:>7} {:>6} {:>8} {:>6} {:>7}  reads",
        "target", "runs", "per s", "edges", "features", "corpus", "RSS MB"
    );
    let mut crashes = Vec::new();
    for target in chosen {
        let outcome = fuzz(ask, target, ask.seconds)?;
        let corpus = files(&work(ask, target))?.len();
        println!(
            "{:<9} {:>10} {:>7} {:>6} {:>8} {corpus:>6} {:>7}  {}",
            target.name,
            outcome.runs,
            outcome.per_second,
            outcome.edges,
            outcome.features,
            outcome.rss,
            target.reads
        );
        match outcome.crash {
            Some(crash) => crashes.push(format!("{}: {}", target.name, crash.display())),
            None if ask.keep => keep(ask, target)?,
            None => {}
        }
    }
    if crashes.is_empty() {
        return Ok(());
    }
    Err(format!(
        "crashed, see the log beside each input:\n{}",
        crashes.join("\n")
    ))
}

fn work(ask: &Ask, target: &Target) -> PathBuf {
    ask.folder.join(target.name).join("corpus")
}

fn make(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// Runs one target; its log lies beside its corpus.
fn fuzz(ask: &Ask, target: &Target, seconds: u64) -> Result<Outcome, String> {
    let (folder, corpus_folder) = (ask.folder.join(target.name), work(ask, target));
    make(&corpus_folder)?;
    let begin = seeds(target)?.into_iter().chain(corpus(target)?);
    for (number, seed) in begin.enumerate() {
        write(&corpus_folder.join(format!("seed-{number:04}")), &seed)?;
    }
    let old = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ["crash-", "timeout-", "oom-", "leak-"]
            .iter()
            .any(|kind| name.starts_with(kind))
    };
    for crash in files(&folder)?.iter().filter(|path| old(path)) {
        std::fs::remove_file(crash).map_err(|error| error.to_string())?;
    }
    let log = std::fs::File::create(folder.join("log")).map_err(|error| error.to_string())?;
    let status = Command::new(&ask.program)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={}", target.longest))
        .args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", folder.display()))
        .arg(&corpus_folder)
        .env("SUORA_FUZZ", target.name)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .status()
        .map_err(|error| format!("{}: {error}", ask.program.display()))?;
    let bytes = std::fs::read(folder.join("log")).map_err(|error| error.to_string())?;
    let mut outcome = read(&String::from_utf8_lossy(&bytes));
    outcome.crash = files(&folder)?.into_iter().find(old);
    if !status.success() && outcome.crash.is_none() {
        return Err(format!(
            "{} {status}; see {}/log",
            target.name,
            folder.display()
        ));
    }
    Ok(outcome)
}

/// The figures of libFuzzer's log.
fn read(log: &str) -> Outcome {
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut outcome = Outcome::default();
    for line in log.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).copied()
        };
        if let Some(runs) = line.strip_prefix('#') {
            outcome.runs = number(runs.split_whitespace().next());
            outcome.edges = number(after("cov:")).max(outcome.edges);
            outcome.features = number(after("ft:")).max(outcome.features);
        }
        match words.first() {
            Some(&"stat::number_of_executed_units:") => {
                outcome.runs = number(words.get(1).copied())
            }
            Some(&"stat::average_exec_per_sec:") => {
                outcome.per_second = number(words.get(1).copied())
            }
            Some(&"stat::peak_rss_mb:") => outcome.rss = number(words.get(1).copied()),
            _ => {}
        }
    }
    outcome
}

/// The committed corpus: of all inputs, the smallest ones that reach everything, as many as may be kept.
fn keep(ask: &Ask, target: &Target) -> Result<(), String> {
    let least = ask.folder.join(target.name).join("least");
    let _ = std::fs::remove_dir_all(&least);
    make(&least)?;
    let merged = Command::new(&ask.program)
        .arg("-merge=1")
        .arg(format!("-max_len={}", target.longest))
        .args([&least, &work(ask, target)])
        .env("SUORA_FUZZ", target.name)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| error.to_string())?;
    if !merged.success() {
        return Err(format!("{}: merge {merged}", target.name));
    }
    let mut inputs = Vec::new();
    for file in files(&least)? {
        inputs.push(std::fs::read(file).map_err(|error| error.to_string())?);
    }
    inputs.sort_by_key(|input| (input.len(), input.clone()));
    let (longest, most, mut bytes) = KEPT;
    let mut text = String::new();
    for input in inputs
        .iter()
        .filter(|input| input.len() <= longest)
        .take(most)
    {
        if input.len() > bytes {
            break;
        }
        bytes -= input.len();
        text.push_str(&hex(input));
        text.push('\n');
    }
    write(&corpus_file(target), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_a_log_are_read() {
        let log = "INFO: Loaded 1 modules\n\
            #2\tINITED cov: 120 ft: 130 corp: 1/1b exec/s: 0 rss: 40Mb\n\
            #4096\tpulse  cov: 350 ft: 900 corp: 20/1Kb lim: 100 exec/s: 2048 rss: 50Mb\n\
            stat::number_of_executed_units: 5000\n\
            stat::average_exec_per_sec:     2500\n\
            stat::peak_rss_mb:              61\n";
        let expected = Outcome {
            runs: 5_000,
            per_second: 2_500,
            edges: 350,
            features: 900,
            rss: 61,
            crash: None,
        };
        assert_eq!(read(log), expected);
        assert_eq!(read("no log"), Outcome::default());
    }
}
