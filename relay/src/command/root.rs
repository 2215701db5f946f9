//! `suora-relay root`: from one root key to the next (`spec/documents.md`, section 7). The old
//! root names the new one while it is still believed; later the new one takes over.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{AgencyId, Key};

use super::descriptor::Draft;
use super::init;
use super::phrase::Phrases;
use super::register::Register;
use crate::clock::Clock;
use crate::keys::{self, Found};

/// A step of the change.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Make the next root key, and name it in the descriptor that the present one signs. May be
    /// repeated, with the key that is there, if the descriptor did not come out.
    Next {
        /// The folders.
        #[command(flatten)]
        folders: Folders,
        /// Put the new key under a passphrase.
        #[arg(long)]
        passphrase: bool,
    },
    /// Change: the next root key signs the descriptor from now on. May be repeated, if the
    /// descriptor did not come out.
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

/// The page, as long as it names no next root but this one.
fn nameless(root: &Path, next: Option<&AgencyId>) -> Result<Draft, Fault> {
    let draft = Draft::read(root)?;
    match draft.next_root()? {
        Some(named) if Some(&named) != next => Err(bad(
            "the descriptor names a next root already: suora-relay root change",
        )),
        _ => Ok(draft),
    }
}

/// The key of the next root, if a first try that failed half way left it.
fn left(next: &Path, phrases: &Phrases) -> Result<Option<Key>, Fault> {
    let path = next.join("root.key");
    if next.join("descriptor.toml").exists() {
        return Err(bad(&format!(
            "{} holds a root's page already: name a new folder with --next",
            next.display()
        )));
    }
    path.exists().then(|| phrases.open(&path)).transpose()
}

impl What {
    pub(super) fn run(self, phrases: &Phrases) -> Result<(), Fault> {
        let now = Clock::start().now().utc;
        match self {
            Self::Next {
                folders: Folders { root, next, out },
                passphrase,
            } => {
                keys::refuse_over(&out)?;
                // before anybody is asked anything more, and once nobody else changes it
                let left = left(&next, phrases)?;
                let known = left.as_ref().map(|key| AgencyId::of_root(&key.peer_id()));
                nameless(&root, known.as_ref())?;
                let old = phrases.open(&root.join("root.key"))?;
                let path = next.join("root.key");
                let is_sealed = matches!(keys::peek(&path)?, Some(Found::Sealed));
                let phrase =
                    (passphrase && !is_sealed).then(|| phrases.choose("the next root key"));
                let phrase = phrase.transpose()?;
                let _held = super::hold(&root)?;
                let mut draft = nameless(&root, known.as_ref())?;
                let is_named = draft.next_root()?.is_some();
                let key = match (left, phrase) {
                    (Some(key), Some(phrase)) => {
                        keys::reseal(&path, &key, Some(&phrase))?;
                        key
                    }
                    (Some(key), None) => key,
                    (None, phrase) => {
                        let key = keys::generate()?;
                        init::make(&next)?;
                        match phrase {
                            Some(phrase) => keys::seal(&path, &key, &phrase)?,
                            None => keys::save(&path, &key)?,
                        }
                        key
                    }
                };
                let id = AgencyId::of_root(&key.peer_id());
                draft.name_next(&id);
                draft.sign(&old, &out, now)?;
                if is_named {
                    println!("It was named already; the page is signed and published again.");
                }
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
                // whoever signs with the next root waits
                let _next_held = super::hold(&next)?;
                // it may not have come out, the last time
                let is_made = next.join("descriptor.toml").exists();
                let page = match is_made {
                    true => {
                        // the old root may have revoked somebody since
                        let mut page = Draft::read(&next)?;
                        page.revoke_as(&draft)?;
                        page
                    }
                    false => draft.moved(&next),
                };
                page.sign(&key, &out, now)?;
                if is_made {
                    println!(
                        "The change was made already; the next root's page is signed and published again."
                    );
                }
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
