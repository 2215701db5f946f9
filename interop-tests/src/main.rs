//! The `suora-interop` program: nodes and relays with a fault, figures, and what keeps
//! spec and code in step.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use suora_interop::{
    bench, durable, evil, faults, flood, fuzz, lab, live, peer, relaying, requirements, soak,
    speech, vectors,
};
use suora_protocol::fault::Fault;

/// Suora's interoperability tools. Not for production: it can break rules on purpose.
#[derive(Debug, Parser)]
#[command(name = "suora-interop", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run `suora`, with faults: suora-interop node --fault drop-tenth -- call …
    Node(Faulty),
    /// Run `suora-relay`, with faults.
    Relay(Faulty),
    /// Run whole consultations and print their figures.
    Bench {
        /// How many; the median counts.
        #[arg(long, default_value_t = 3)]
        runs: usize,
        /// How long each, in seconds.
        #[arg(long, default_value_t = 30)]
        seconds: u32,
    },
    /// Run whole consultations on bad networks, in real time, and judge what was recorded.
    Weather(Weather),
    /// Run one long consultation: memory has to stay, and delays must not grow.
    Soak {
        /// How long, in minutes.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(i64::from(soak::SHORTEST)..=1_440))]
        minutes: u32,
        /// How many of a hundred packets are lost.
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=20))]
        loss: u8,
        /// Write what was measured into this file, as JSON.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Let a hostile relay tell its lies to real engines, and print who refused each, and how.
    EvilRelay {
        /// Which lies. An unknown name lists them.
        #[arg(value_name = "MODE", required_unless_present = "all")]
        modes: Vec<String>,
        /// All of them.
        #[arg(long, conflicts_with = "modes")]
        all: bool,
    },
    /// Let strangers loose on a relay and nodes, and measure what the honest ones notice.
    Flood {
        /// How long, in seconds.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=3_600))]
        seconds: u32,
        /// How hard.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
        strength: u32,
        /// A rule that the relay breaks, to see that it is noticed. Repeat for more.
        #[arg(long = "fault", value_name = "NAME")]
        faults: Vec<String>,
    },
    /// Measure the relay's TURN beside coturn's and a bare loop, on one core each.
    RelayBench {
        /// How long each measurement is, in seconds.
        #[arg(long, default_value_t = 1.5)]
        seconds: f64,
        /// The core of what is measured, and the core that loads it.
        #[arg(long, num_args = 2, default_values_t = [0, 1])]
        cores: Vec<usize>,
        /// Be what is measured: bare, ours or ours-plain.
        #[arg(long, hide = true, requires_all = ["at", "to"])]
        serve: Option<String>,
        /// Where.
        #[arg(long, hide = true)]
        at: Option<std::net::SocketAddr>,
        /// Where packets go.
        #[arg(long, hide = true)]
        to: Option<std::net::SocketAddr>,
    },
    /// Build networks of every kind in namespaces, let each prove itself, and let pairs meet in
    /// them; print the path that each pair got beside the one that it must get.
    Lab(Networks),
    /// Write tickets into a store until killed, and say what stands.
    #[command(hide = true)]
    WriteStore {
        /// Which tickets.
        seed: u64,
        /// The store's file.
        file: PathBuf,
    },
    /// Make or check spec/vectors.
    Vectors {
        #[command(subcommand)]
        what: Vectors,
    },
    /// Throw bytes at every parser for a while, by libFuzzer, and print what came of it.
    Fuzz(Fuzz),
    /// Compare the requirements of spec/ with the tests that cover them.
    Requirements,
    /// Check spec/vectors against spec/cddl by an independent tool.
    Cddl {
        /// The program cddl-verify; by default the one of `make deps`.
        #[arg(long)]
        tool: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct Weather {
    /// Which; by default all. An unknown name lists them.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How long each consultation is, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=600))]
    seconds: u32,
    /// How many of each; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    runs: u8,
    /// Keep recordings, reports and contact sheets in this folder.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// A rule that both nodes break, to see that it is noticed. Repeat for more.
    #[arg(long = "fault", value_name = "NAME")]
    faults: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Networks {
    /// Which cells: a kind of network for all with it, or OFFICER:CITIZEN; by default all. An
    /// unknown name lists the kinds.
    #[arg(value_name = "KIND")]
    cells: Vec<String>,
    /// A short run: few cells, no long waits.
    #[arg(long)]
    short: bool,
    /// One way from each end of a line to the open, in milliseconds: half of what two ends see.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(0..=500))]
    delay: u64,
    /// A network that lies, to see that it is noticed: built as the first kind, it claims to be
    /// the second.
    #[arg(long = "claim", value_name = "KIND=KIND", value_parser = claim)]
    claims: Vec<(String, String)>,
    /// Ends that lie about their path, to see that it is noticed.
    #[arg(long)]
    lies: bool,
    /// Strike a network with each fault of a running consultation, and prove that the wire did it.
    #[arg(long)]
    faults: bool,
    /// Let real nodes meet, in the cells where the officer can be reached without help.
    #[arg(long)]
    nodes: bool,
}

fn claim(text: &str) -> Result<(String, String), String> {
    let (built, claimed) = text.split_once('=').ok_or("say it as KIND=KIND")?;
    Ok((built.into(), claimed.into()))
}

impl Networks {
    fn ask(self) -> lab::Ask {
        lab::Ask {
            cells: self.cells,
            short: self.short,
            delay: self.delay,
            claims: self.claims,
            lies: self.lies,
            faults: self.faults,
            nodes: self.nodes,
        }
    }
}

#[derive(Debug, clap::Args)]
struct Fuzz {
    /// Which parsers; by default all. An unknown name lists them.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How long each, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// The program suora-fuzz, as `make fuzz` builds it.
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// Where corpora, logs and crashes of this machine are.
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// Write the smallest inputs that reach most into interop-tests/fuzz/corpus.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Subcommand)]
enum Vectors {
    /// Write all files.
    Make,
    /// Make all files again, compare byte for byte, and verify every case.
    Check,
}

#[derive(Debug, clap::Args)]
struct Faulty {
    /// A rule to break. Repeat for more.
    #[arg(long = "fault", value_name = "NAME")]
    faults: Vec<String>,
    /// The program's own arguments.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Node(faulty) => match faults::parse(&faulty.faults) {
            Ok((faults, _)) => suora_node::command::run(named("suora", faulty.arguments), faults),
            Err(error) => usage(&error),
        },
        Command::Relay(faulty) => match faults::parse(&faulty.faults) {
            Ok((_, faults)) => {
                suora_relay::command::run(named("suora-relay", faulty.arguments), faults)
            }
            Err(error) => usage(&error),
        },
        Command::Bench { runs, seconds } => figures(async |program| {
            bench::print(live::Ask {
                program,
                python: speech::python(),
                skies: Vec::new(),
                seconds,
                runs: runs.max(1),
                keep: None,
                faults: Vec::new(),
            })
            .await
        }),
        Command::Weather(weather) => match weather.skies() {
            Ok(skies) => figures(async |program| live::print(&weather.ask(program, skies)).await),
            Err(error) => usage(&error),
        },
        Command::Flood {
            seconds,
            strength,
            faults: broken,
        } => figures(async |program| {
            faults::parse(&broken)?;
            let ask = flood::Ask {
                program,
                seconds,
                strength,
                faults: broken,
            };
            flood::print(&ask).await
        }),
        Command::Lab(networks) => lab::run(&networks.ask()),
        Command::WriteStore { seed, file } => figures(async |_| {
            let written = durable::write(&file, seed).await;
            written.map_err(|fault| fault.to_string())
        }),
        Command::EvilRelay { modes, all } => {
            let modes = if all {
                Ok(evil::MODES.iter().collect())
            } else {
                evil::table::named(&modes)
            };
            match modes {
                Ok(modes) => judged(Ok(evil::table::print(&modes))),
                Err(error) => usage(&error),
            }
        }
        Command::Vectors { what } => judged(vectors(&what)),
        Command::Soak { minutes, loss, out } => figures(async |program| {
            let ask = soak::Ask {
                program,
                minutes,
                loss,
                out,
            };
            soak::print(&ask).await
        }),
        Command::Fuzz(fuzz) => ended(fuzz::run::run(&fuzz.ask())),
        Command::RelayBench {
            serve: Some(what),
            at: Some(at),
            to: Some(to),
            ..
        } => ended(relaying::subject::serve(&what, at, to)),
        Command::RelayBench { seconds, cores, .. } => {
            let [relays, loads] = cores[..] else {
                return usage("--cores takes two");
            };
            ended(relaying::run(&relaying::Ask {
                seconds: seconds.clamp(0.2, 60.0),
                cores: (relays, loads),
            }))
        }
        Command::Requirements => judged(requirements()),
        Command::Cddl { tool } => judged(cddl(tool)),
    }
}

fn named(program: &str, arguments: Vec<OsString>) -> Vec<OsString> {
    std::iter::once(program.into()).chain(arguments).collect()
}

fn usage(error: &str) -> ExitCode {
    eprintln!("suora-interop: {error}");
    ExitCode::from(2)
}

fn ended(how: Result<(), String>) -> ExitCode {
    match how {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("suora-interop: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a check found wrong, line by line.
fn judged(found: Result<Vec<String>, Fault>) -> ExitCode {
    match found {
        Ok(wrong) if wrong.is_empty() => ExitCode::SUCCESS,
        Ok(wrong) => {
            wrong.iter().for_each(|what| eprintln!("{what}"));
            eprintln!("{} faults", wrong.len());
            ExitCode::FAILURE
        }
        Err(fault) => {
            eprintln!("suora-interop: {fault}");
            ExitCode::FAILURE
        }
    }
}

impl Fuzz {
    fn ask(self) -> fuzz::run::Ask {
        fuzz::run::Ask {
            program: self.program,
            folder: self.folder,
            seconds: self.seconds,
            names: self.names,
            keep: self.keep,
        }
    }
}

fn vectors(what: &Vectors) -> Result<Vec<String>, Fault> {
    let dir = vectors::spec().join("vectors");
    match what {
        Vectors::Make => {
            println!("{} files in {}", vectors::make(&dir)?, dir.display());
            Ok(Vec::new())
        }
        Vectors::Check => {
            let mut wrong = vectors::differences(&dir)?;
            wrong.extend(vectors::failures(&dir)?);
            Ok(wrong)
        }
    }
}

fn requirements() -> Result<Vec<String>, Fault> {
    let spec = vectors::spec();
    let report = requirements::check(&spec, &spec.join(".."))?;
    println!(
        "{} requirements, {} named by tests",
        report.stated.len(),
        report.covered.len()
    );
    Ok(report.faults)
}

fn cddl(tool: Option<PathBuf>) -> Result<Vec<String>, Fault> {
    let items = vectors::cddl::items(&vectors::spec().join("vectors"))?;
    let mut wrong = vectors::cddl::by_crate(&items)?;
    let tool = tool.unwrap_or_else(vectors::cddl::tool);
    wrong.extend(vectors::cddl::by_tool(&tool, &items)?);
    println!("{} items checked", items.len());
    Ok(wrong)
}

impl Weather {
    fn skies(&self) -> Result<Vec<live::skies::Sky>, String> {
        faults::parse(&self.faults)?;
        live::skies::named(&self.names)
    }

    fn ask(self, program: PathBuf, skies: Vec<live::skies::Sky>) -> live::Ask {
        live::Ask {
            program,
            python: speech::python(),
            skies,
            seconds: self.seconds,
            runs: self.runs.into(),
            keep: self.keep,
            faults: self.faults,
        }
    }
}

/// Runs what prints figures of real processes, which this program starts.
fn figures(print: impl AsyncFnOnce(PathBuf) -> Result<(), peer::Failure>) -> ExitCode {
    let program = std::env::current_exe();
    let runtime = tokio::runtime::Runtime::new();
    let printed = match (program, runtime) {
        (Ok(program), Ok(runtime)) => runtime.block_on(print(program)),
        (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
    };
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("suora-interop: {error}");
            ExitCode::FAILURE
        }
    }
}
