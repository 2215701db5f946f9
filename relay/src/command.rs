//! The command line of `suora-relay`.

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

pub mod credential;
pub mod descriptor;
pub mod doctor;
pub mod init;
pub mod issue;
mod log;
pub mod phrase;
pub mod register;
pub mod root;

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Parser, Subcommand};
use nix::sys::stat::{Mode, umask};
use suora_protocol::fault::{Code, Fault};

use crate::text::Texts;
use crate::{Faults, keys, serve};

/// The relay of an agency: who waits, who serves, who is matched with whom. It cannot
/// read a consultation, and no key on it makes officers.
#[derive(Debug, Parser)]
#[command(name = "suora-relay", version, about)]
struct Arguments {
    /// Language of findings and refusals: fi, sv or en. By default that of the environment.
    #[arg(long, global = true, value_name = "LANG", value_parser = ["fi", "sv", "en"])]
    language: Option<String>,
    #[command(flatten)]
    phrases: phrase::Phrases,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an agency: keys, a signed descriptor and the relay's data directory.
    Init(init::Init),
    /// Sign credentials for officers and partners, and renew them.
    Issue {
        #[command(subcommand)]
        whom: issue::Whom,
    },
    /// Hand officers' credentials to a running relay.
    Credential {
        #[command(subcommand)]
        what: credential::What,
    },
    /// Show or sign the agency's descriptor, or revoke somebody in it.
    Descriptor {
        #[command(subcommand)]
        what: descriptor::What,
    },
    /// Change the agency's root key.
    Root {
        #[command(subcommand)]
        what: root::What,
    },
    /// Put a key file under a passphrase, or take it away.
    Key {
        #[command(subcommand)]
        what: phrase::What,
    },
    /// Check a relay's set-up, whether it can be reached, and the agency's web page.
    Doctor(doctor::Doctor),
    /// Run the relay of a data directory until SIGTERM; SIGHUP reads the descriptor again.
    Serve {
        /// The data directory, `relay/` of `init`.
        dir: PathBuf,
    },
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
    let done = execute(arguments, &texts, faults);
    match done.and_then(|status| whole().map(|()| status)) {
        Ok(status) => ExitCode::from(status),
        Err(fault) => {
            let (sentence, next) = texts.code(fault.code);
            eprintln!("suora-relay: {sentence}");
            let detail = fault.detail.as_deref().unwrap_or_default();
            eprintln!("             {detail} [{}]", fault.code);
            eprintln!("             {next}");
            ExitCode::FAILURE
        }
    }
}

/// Holds a folder against others who would change it, and says for whom it waits.
fn hold(folder: &Path) -> Result<std::fs::File, Fault> {
    keys::hold(folder, || {
        let folder = folder.display();
        eprintln!("Waiting for another suora-relay that works in {folder}.");
    })
}

fn execute(arguments: Arguments, texts: &Texts, faults: Faults) -> Result<u8, Fault> {
    let phrases = &arguments.phrases;
    let done = match arguments.command {
        Command::Doctor(doctor) => {
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            return runtime()?.block_on(doctor.run(texts));
        }
        Command::Init(init) => init.run(phrases),
        Command::Issue { whom } => whom.run(phrases),
        Command::Credential { what } => runtime()?.block_on(what.run()),
        Command::Descriptor { what } => what.run(phrases),
        Command::Root { what } => what.run(phrases),
        Command::Key { what } => what.run(phrases),
        Command::Serve { dir } => {
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            log::start("suora_relay=info");
            runtime()?.block_on(serve::serve(&dir, faults))
        }
    };
    done.map(|()| 0)
}

fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))
}
