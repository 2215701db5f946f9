//! The `suora-interop` program: nodes and relays with a fault, and figures.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use suora_interop::{bench, faults};

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
        #[arg(long, default_value_t = 10)]
        seconds: u32,
    },
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
        Command::Bench { runs, seconds } => figures(runs.max(1), seconds),
    }
}

fn named(program: &str, arguments: Vec<OsString>) -> Vec<OsString> {
    std::iter::once(program.into()).chain(arguments).collect()
}

fn usage(error: &str) -> ExitCode {
    eprintln!("suora-interop: {error}");
    ExitCode::from(2)
}

fn figures(runs: usize, seconds: u32) -> ExitCode {
    let program = std::env::current_exe();
    let runtime = tokio::runtime::Runtime::new();
    let printed = match (program, runtime) {
        (Ok(program), Ok(runtime)) => runtime.block_on(bench::print(&program, runs, seconds)),
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
