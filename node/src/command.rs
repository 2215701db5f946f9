//! The command line of `suora`: the citizen's call, the officer's desk, and what they need.

// As those of std, but no panic when whoever read the lines has stopped: `… | head`. Where lines
// of the output are lost otherwise, the program fails at its end.
macro_rules! println {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        $crate::command::heed(writeln!(std::io::stdout(), $($line)*));
    }};
}
macro_rules! eprintln {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($line)*);
    }};
}

pub mod call;
pub mod common;
pub mod demo;
pub mod devices;
pub mod doctor;
pub mod keygen;
mod log;
pub mod officer;
pub mod screen;

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Parser, Subcommand};
use nix::sys::stat::{Mode, umask};
use suora_protocol::fault::{Code, Fault};

use crate::Faults;
use crate::text::Texts;

/// Talk with a public agency by video, directly from device to device.
#[derive(Debug, Parser)]
#[command(name = "suora", version, about)]
struct Arguments {
    /// Language of texts: fi, sv or en. By default that of the environment.
    #[arg(long, global = true, value_name = "LANG", value_parser = ["fi", "sv", "en"])]
    language: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key file for this device.
    Keygen(keygen::Keygen),
    /// Call a desk of an agency.
    Call(call::Call),
    /// Serve at a desk of your agency.
    Officer(officer::Officer),
    /// List the cameras, microphones and loudspeakers that can be chosen.
    Devices(devices::Devices),
    /// Check this device's set-up, and whether the agency's relay can be reached.
    Doctor(doctor::Doctor),
    /// See it work: a relay, an officer and a citizen on this machine, with real media.
    Demo(demo::Demo),
}

/// Why a line of the output was lost, the first time.
static LOST: OnceLock<String> = OnceLock::new();

/// Remembers that a line could not be written; a reader who had enough lost nothing.
fn heed(written: std::io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = LOST.set(error.to_string());
    }
}

/// Whether all that was to be written to the output is there.
fn whole() -> Result<(), Fault> {
    heed(std::io::stdout().flush());
    let lost = |why: &String| Fault::new(Code::BadFile).with(format!("standard output: {why}"));
    LOST.get().map_or(Ok(()), |why| Err(lost(why)))
}

/// Runs the command line of this process. What it writes is its owner's alone.
pub fn main(faults: Faults) -> ExitCode {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    run(std::env::args_os().collect(), faults)
}

/// Runs a command line, program name first.
pub fn run(arguments: Vec<std::ffi::OsString>, faults: Faults) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let texts = match &arguments.language {
        Some(language) => Texts::new(language),
        None => Texts::from_env(|name| std::env::var(name).ok()),
    };
    match execute(arguments.command, texts, faults) {
        Ok(status) => ExitCode::from(status),
        Err(failed) => {
            let (texts, fault) = *failed;
            eprintln!("suora: {}", texts.sentence(fault.code));
            let detail = fault.detail.as_deref().unwrap_or_default();
            eprintln!("       {detail} [{}]", fault.code);
            eprintln!("       {}", texts.next(fault.code));
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command, texts: Texts, faults: Faults) -> Result<u8, Box<(Texts, Fault)>> {
    let result = match command {
        Command::Keygen(keygen) => keygen.run(&texts).map(|()| 0),
        Command::Call(call) => call
            .config()
            .and_then(|config| start(config, &texts, faults)),
        Command::Officer(officer) => officer
            .config()
            .and_then(|config| start(config, &texts, faults)),
        Command::Devices(devices) => devices.run(&texts).map(|()| 0),
        Command::Doctor(doctor) => runtime().and_then(|runtime| {
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            runtime.block_on(doctor.run(&texts))
        }),
        Command::Demo(demo) => runtime().and_then(|runtime| runtime.block_on(demo.run(&texts))),
    };
    let result = result.and_then(|status| whole().map(|()| status));
    result.map_err(|fault| Box::new((texts, fault)))
}

fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))
}

/// Runs a node in the foreground.
fn start(config: crate::config::Config, texts: &Texts, faults: Faults) -> Result<u8, Fault> {
    if std::env::var_os("SSLKEYLOGFILE").is_some() {
        return Err(Fault::new(Code::BadConfig)
            .with("SSLKEYLOGFILE is set: it would write session keys to a file"));
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    log::start("suora_node=warn");
    let runtime = runtime()?;
    let mut screen = screen::Screen::new(texts, config.role.name());
    let status = runtime.block_on(async {
        let (post, intents) = crate::run::intents();
        screen::read_terminal(post.clone());
        crate::run::run(config, (post, intents), faults, |view| screen.show(view)).await
    });
    // a blocked read of the terminal must not hold up the end
    runtime.shutdown_background();
    screen.end();
    status
}
