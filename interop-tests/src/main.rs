//! The `suora-interop` program: makes and checks what keeps spec and code in step.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use suora_interop::{requirements, vectors};
use suora_protocol::fault::Fault;

/// Checks of Suora's specification and implementations.
#[derive(Debug, Parser)]
#[command(name = "suora-interop", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make or check spec/vectors.
    Vectors {
        #[command(subcommand)]
        what: Vectors,
    },
    /// Compare the requirements of spec/ with the tests that cover them.
    Requirements,
    /// Check spec/vectors against spec/cddl by an independent tool.
    Cddl {
        /// The program cddl-verify; by default the one of `make deps`.
        #[arg(long)]
        tool: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum Vectors {
    /// Write all files.
    Make,
    /// Make all files again, compare byte for byte, and verify every case.
    Check,
}

fn main() -> ExitCode {
    match run(&Program::parse().command) {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            eprintln!("{} faults", faults.len());
            ExitCode::FAILURE
        }
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<Vec<String>, Fault> {
    let dir = vectors::spec().join("vectors");
    match command {
        Command::Vectors {
            what: Vectors::Make,
        } => {
            println!("{} files in {}", vectors::make(&dir)?, dir.display());
            Ok(Vec::new())
        }
        Command::Vectors {
            what: Vectors::Check,
        } => {
            let mut faults = vectors::differences(&dir)?;
            faults.extend(vectors::failures(&dir)?);
            Ok(faults)
        }
        Command::Requirements => {
            let spec = vectors::spec();
            let report = requirements::check(&spec, &spec.join(".."))?;
            println!(
                "{} requirements, {} named by tests",
                report.stated.len(),
                report.covered.len()
            );
            Ok(report.faults)
        }
        Command::Cddl { tool } => {
            let tool = tool.clone().unwrap_or_else(vectors::cddl::tool);
            let items = vectors::cddl::items(&dir)?;
            let mut faults = vectors::cddl::by_crate(&items)?;
            faults.extend(vectors::cddl::by_tool(&tool, &items)?);
            println!("{} items checked", items.len());
            Ok(faults)
        }
    }
}
