//! Keys under a passphrase, as the command line opens and makes them.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use suora_protocol::fault::Fault;
use suora_protocol::identity::Key;

use crate::keys::{self, Passphrase};

/// Where passphrases come from: a file, or the person at the terminal.
#[derive(Debug, Args)]
pub struct Phrases {
    /// Read the passphrase of keys from the first line of this private file, instead of asking.
    #[arg(long, global = true, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// What to do with a key file.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Put a key under a passphrase, or under another one.
    Protect {
        /// The key file.
        file: PathBuf,
        /// The passphrase that it is under now, if --passphrase-file names the new one.
        #[arg(long, value_name = "FILE")]
        old_passphrase_file: Option<PathBuf>,
    },
    /// Take the passphrase away, for a machine that nobody else can use.
    Unprotect {
        /// The key file.
        file: PathBuf,
    },
}

impl Phrases {
    /// Reads a key file, and asks for its passphrase if it is under one.
    pub(super) fn open(&self, path: &Path) -> Result<Key, Fault> {
        open(path, self.passphrase_file.as_deref())
    }

    /// A passphrase for a new key.
    pub(super) fn choose(&self, what: &str) -> Result<Passphrase, Fault> {
        match &self.passphrase_file {
            Some(file) => Passphrase::read(file)?.long_enough(),
            None => Passphrase::choose(what),
        }
    }
}

fn open(path: &Path, file: Option<&Path>) -> Result<Key, Fault> {
    keys::open(path, || match file {
        Some(file) => Passphrase::read(file),
        None => Passphrase::ask(&format!("Passphrase for {}", path.display())),
    })
}

impl What {
    pub(super) fn run(self, phrases: &Phrases) -> Result<(), Fault> {
        match self {
            Self::Protect {
                file,
                old_passphrase_file,
            } => {
                let key = open(&file, old_passphrase_file.as_deref())?;
                let passphrase = phrases.choose(&file.display().to_string())?;
                let _held = super::hold(keys::folder(&file))?;
                keys::reseal(&file, &key, Some(&passphrase))?;
                println!("{} opens with the passphrase from now on.", file.display());
                println!("Copies that you made before do not: replace them.");
            }
            Self::Unprotect { file } => {
                let key = phrases.open(&file)?;
                let _held = super::hold(keys::folder(&file))?;
                keys::reseal(&file, &key, None)?;
                println!("{} opens without a passphrase from now on.", file.display());
            }
        }
        Ok(())
    }
}
