//! `suora-relay root`: from one root key to the next (`spec/documents.md`, section 7). The old
//! root names the new one while it is still believed; later the new one takes over.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::AgencyId;

use super::descriptor::Draft;
use super::init;
use super::phrase::Phrases;
use super::register::Register;
use crate::clock::Clock;
use crate::keys;

/// A step of the change.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Make the next root key, and name it in the descriptor that the present one signs.
    Next {
        /// The folders.
        #[command(flatten)]
        folders: Folders,
        /// Put the new key under a passphrase.
        #[arg(long)]
        passphrase: bool,
    },
    /// Change: the next root key signs the descriptor from now on.
    Change {
        /// The folders.
        #[command(flatten)]
        folders: Folders,
        /// The folder issuing/ of `init`, whose register says whose credentials end.
        #[arg(long)]
        issuing: Option<PathBuf>,
        /// Change although every credential ends by it.
        #[arg(long)]
        yes: bool,
    },
}

/// The folders of both root keys.
#[derive(Debug, Args)]
pub struct Folders {
    /// The folder root/ of `init`.
    #[arg(long)]
    root: PathBuf,
    /// The folder of the next root key.
    #[arg(long)]
    next: PathBuf,
    /// Where to write the signed descriptor.
    #[arg(long)]
    out: PathBuf,
}

fn bad(what: &str) -> Fault {
    Fault::new(Code::BadConfig).with(what)
}

/// How many people's credentials an issuing folder's register holds.
fn enrolled(issuing: &Path) -> Result<usize, Fault> {
    // a folder that is none would have an empty register
    if !issuing.join("issuing.key").exists() {
        return Err(bad(&format!("{}: no issuing.key", issuing.display())));
    }
    Ok(Register::read(issuing)?.person.len())
}

/// The page, as long as it names no next root.
fn nameless(root: &Path) -> Result<Draft, Fault> {
    let draft = Draft::read(root)?;
    if draft.next_root()?.is_some() {
        return Err(bad(
            "the descriptor names a next root already: suora-relay root change",
        ));
    }
    Ok(draft)
}

impl What {
    pub(super) fn run(self, phrases: &Phrases) -> Result<(), Fault> {
        let now = Clock::start().now().utc;
        match self {
            Self::Next {
                folders: Folders { root, next, out },
                passphrase,
            } => {
                // before anybody is asked anything, and once nobody else changes it
                nameless(&root)?;
                let old = phrases.open(&root.join("root.key"))?;
                let phrase = passphrase.then(|| phrases.choose("the next root key"));
                let phrase = phrase.transpose()?;
                let _held = super::hold(&root)?;
                let mut draft = nameless(&root)?;
                let key = keys::generate()?;
                init::make(&next)?;
                let path = next.join("root.key");
                match phrase {
                    Some(phrase) => keys::seal(&path, &key, &phrase)?,
                    None => keys::save(&path, &key)?,
                }
                let id = AgencyId::of_root(&key.peer_id());
                draft.name_next(&id);
                draft.sign(&old, &out, now)?;
                println!("The next root id is {}.", id.to_text());
                println!(
                    "Publish the descriptor and wait until everybody has it, some days at least. Then:"
                );
                println!(
                    "  suora-relay root change --root {} --next {} --out {}",
                    root.display(),
                    next.display(),
                    out.display()
                );
            }
            Self::Change {
                folders: Folders { root, next, out },
                issuing,
                yes,
            } => {
                let key = phrases.open(&next.join("root.key"))?;
                let _held = super::hold(&root)?;
                let draft = Draft::read(&root)?;
                let id = AgencyId::of_root(&key.peer_id());
                if draft.next_root()? != Some(id) {
                    return Err(bad(
                        "the descriptor does not name this key as its next root: suora-relay root next",
                    ));
                }
                if next.join("descriptor.toml").exists() {
                    return Err(bad(
                        "the change was made already; sign with --root and the new folder",
                    ));
                }
                let enrolled = issuing.as_deref().map(enrolled).transpose()?;
                let whose = match enrolled {
                    Some(count) => format!("credentials of the register: {count}"),
                    None => "every credential (--issuing DIR counts them)".into(),
                };
                if !yes && enrolled != Some(0) {
                    return Err(bad(&format!(
                        "this change ends {whose}; make ready to renew them at once, then say --yes"
                    )));
                }
                draft.moved(&next).sign(&key, &out, now)?;
                if let Some(count) = enrolled {
                    println!("Credentials to renew: {count}.");
                }
                println!(
                    "The root id is {} now. Nodes that know the old one take it.",
                    id.to_text()
                );
                println!(
                    "Every credential names the old one: sign all anew, and bring them to the relay:"
                );
                println!("  suora-relay issue renew --all … and suora-relay credential add …");
            }
        }
        Ok(())
    }
}
