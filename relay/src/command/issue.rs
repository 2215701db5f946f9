//! `suora-relay issue`: credentials, on the administrator's machine.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use suora_protocol::documents::{
    self, Credential, Descriptor, DeskId, KeyUse, Role, Signed, Verified, chain,
};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{Key, PeerId};
use suora_protocol::limits::{CREDENTIAL_DAYS_MAX, TEXT_MAX};
use suora_protocol::time::Timestamp;

use super::descriptor::{date, read};
use super::init;
use super::phrase::Phrases;
use super::register::{Person, Register};
use crate::clock::Clock;
use crate::keys;

/// For whom.
#[derive(Debug, Subcommand)]
pub enum Whom {
    /// An officer, who serves at desks.
    Officer(Issue),
    /// A partner, who joins consultations.
    Partner {
        /// As what.
        #[arg(long, value_enum)]
        role: PartnerRole,
        /// What the credential says.
        #[command(flatten)]
        issue: Issue,
    },
    /// Sign anew for people in the register, as before, from now on.
    Renew(Renew),
    /// Renew somebody's credential no more: the last one ends by itself.
    Forget {
        /// The folder issuing/ of `init`.
        #[arg(long)]
        issuing: PathBuf,
        /// The peer id.
        peer: String,
    },
}

/// What a partner joins as.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PartnerRole {
    /// Interprets.
    Interpreter,
    /// Acts for the citizen by law.
    Guardian,
    /// Advises.
    Expert,
    /// Serves beside the officer.
    Colleague,
}

/// What a credential is signed with and under.
#[derive(Debug, Args)]
pub struct Signer {
    /// The folder issuing/ of `init`.
    #[arg(long)]
    issuing: PathBuf,
    /// The agency's signed descriptor.
    #[arg(long)]
    descriptor: PathBuf,
}

/// What a credential says.
#[derive(Debug, Args)]
pub struct Issue {
    #[command(flatten)]
    signer: Signer,
    /// The peer id that `suora keygen` printed.
    #[arg(long)]
    peer: String,
    /// A desk's id. Repeat for more.
    #[arg(long = "desk", required = true)]
    desks: Vec<String>,
    /// The name that citizens see.
    #[arg(long)]
    name: String,
    /// Days until it ends, 1 to 30.
    #[arg(long, default_value_t = 7, allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..=CREDENTIAL_DAYS_MAX))]
    days: i64,
    /// Where to write the credential.
    #[arg(long)]
    out: PathBuf,
}

/// Whose credentials are renewed.
#[derive(Debug, Args)]
pub struct Renew {
    #[command(flatten)]
    signer: Signer,
    /// Everybody in the register.
    #[arg(long, conflicts_with = "peers", required_unless_present = "peers")]
    all: bool,
    /// This peer id. Repeat for more.
    #[arg(long = "peer")]
    peers: Vec<String>,
    /// The folder for the credentials, a file each.
    #[arg(long)]
    out: PathBuf,
}

impl Whom {
    pub(super) fn run(self, phrases: &Phrases) -> Result<(), Fault> {
        match self {
            Self::Officer(issue) => issue.run(Role::Officer, phrases),
            Self::Partner { role, issue } => {
                let role = match role {
                    PartnerRole::Interpreter => Role::Interpreter,
                    PartnerRole::Guardian => Role::Guardian,
                    PartnerRole::Expert => Role::Expert,
                    PartnerRole::Colleague => Role::Colleague,
                };
                issue.run(role, phrases)
            }
            Self::Renew(renew) => renew.run(phrases),
            Self::Forget { issuing, peer } => forget(&issuing, &peer),
        }
    }
}

const fn word(role: Role) -> &'static str {
    match role {
        Role::Citizen => "citizen",
        Role::Officer => "officer",
        Role::Interpreter => "interpreter",
        Role::Guardian => "guardian",
        Role::Expert => "expert",
        Role::Colleague => "colleague",
    }
}

fn bad(what: String) -> Fault {
    Fault::new(Code::BadConfig).with(what)
}

/// An issuing key, as the descriptor lists it.
struct Issuing {
    key: Key,
    id: String,
    descriptor: Verified<Descriptor>,
    now: Timestamp,
}

impl Signer {
    fn open(&self, phrases: &Phrases) -> Result<Issuing, Fault> {
        let now = Clock::start().now().utc;
        let descriptor = Signed::from_bytes(read(&self.descriptor)?)
            .and_then(|signed| chain::descriptor_as_given(&signed, now))
            .map_err(|fault| fault.lies_in(self.descriptor.display()))?;
        let key = phrases.open(&self.issuing.join("issuing.key"))?;
        let listed = descriptor
            .keys
            .iter()
            .find(|listed| listed.key == key.peer_id() && listed.use_ == KeyUse::Issuing);
        let id = listed
            .ok_or_else(|| {
                bad("--issuing: the descriptor does not list this key; add it to root/descriptor.toml and sign it".into())
            })?
            .id
            .clone();
        Ok(Issuing {
            key,
            id,
            descriptor,
            now,
        })
    }
}

impl Issuing {
    fn desk(&self, desk: &DeskId) -> Result<DeskId, Fault> {
        let found = self.descriptor.desk(desk).map(|found| found.id.clone());
        found.ok_or_else(|| {
            let desks = self.descriptor.desks.iter();
            let known: Vec<_> = desks.map(|desk| desk.id.as_str()).collect();
            let what = format!("--desk {desk}: the descriptor lists {}", known.join(", "));
            Fault::new(Code::UnknownDesk).with(what)
        })
    }

    /// Signs for a person from now on, and says in the entry until when.
    fn sign(&self, person: &mut Person) -> Result<Signed<Credential>, Fault> {
        let now = self.now;
        let end = Timestamp::from_secs(now.as_secs().saturating_add(person.days * 86_400));
        let desks = person.desks.iter().map(|desk| self.desk(desk));
        let credential = Credential {
            agency: self.descriptor.agency,
            peer: PeerId::parse(&person.peer)?,
            role: person.role,
            desks: desks.collect::<Result<_, _>>()?,
            name: person.name.clone(),
            key: self.id.clone(),
            issued_at: now,
            not_before: now,
            not_after: end,
        };
        let signed = documents::sign(&credential, &self.key)?;
        // what citizens will do with it
        chain::credential(&signed, &self.descriptor, now)?;
        person.until = date(end);
        Ok(signed)
    }
}

impl Issue {
    fn run(self, role: Role, phrases: &Phrases) -> Result<(), Fault> {
        if self.name.is_empty() || self.name.len() > TEXT_MAX {
            return Err(bad(format!("--name: 1 to {TEXT_MAX} bytes")));
        }
        keys::refuse_over(&self.out)?;
        let issuing = self.signer.open(phrases)?;
        let desks = self
            .desks
            .iter()
            .map(|desk| issuing.desk(&DeskId::new(desk)?));
        let mut person = Person {
            peer: PeerId::parse(&self.peer)?.to_text(),
            role,
            name: self.name,
            desks: desks.collect::<Result<_, _>>()?,
            days: self.days,
            until: String::new(),
        };
        let signed = issuing.sign(&mut person)?;
        // the register first: who has a credential is renewed
        let _held = super::hold(&self.signer.issuing)?;
        let mut register = Register::read(&self.signer.issuing)?;
        register.put(person.clone());
        register.write(&self.signer.issuing)?;
        keys::publish(&self.out, signed.bytes())?;
        println!(
            "{} may act as {} at {} until {}.",
            person.name,
            word(role),
            self.desks.join(", "),
            person.until
        );
        println!("Credential: {}", self.out.display());
        Ok(())
    }
}

impl Renew {
    fn run(self, phrases: &Phrases) -> Result<(), Fault> {
        let issuing = self.signer.open(phrases)?;
        let _held = super::hold(&self.signer.issuing)?;
        let mut register = Register::read(&self.signer.issuing)?;
        let unknown = |peer: &&String| register.person.iter().all(|p| p.peer != **peer);
        if let Some(peer) = self.peers.iter().find(unknown) {
            return Err(bad(format!(
                "--peer {peer}: not in the register; issue first"
            )));
        }
        init::make(&self.out)?;
        let (mut renewed, mut skipped) = (Vec::new(), 0);
        let (mut officers, mut partners) = (0, 0);
        for person in &mut register.person {
            if !self.all && !self.peers.contains(&person.peer) {
                continue;
            }
            // two roles of one node are two credentials
            let name = match person.role {
                Role::Officer => format!("{}.credential", person.peer),
                role => format!("{}-{}.credential", person.peer, word(role)),
            };
            match issuing.sign(person) {
                Ok(signed) => {
                    match person.role {
                        Role::Officer => officers += 1,
                        _ => partners += 1,
                    }
                    let says = format!("{}: until {}.", person.name, person.until);
                    renewed.push((name, signed, says));
                }
                Err(fault) if fault.code == Code::Revoked => {
                    println!("{}: revoked, not renewed.", person.name);
                }
                Err(fault) => {
                    skipped += 1;
                    eprintln!("{}: not renewed: {fault}", person.name);
                }
            }
        }
        // nothing is given out that is not written down
        register.write(&self.signer.issuing)?;
        for (name, signed, says) in &renewed {
            keys::publish(&self.out.join(name), signed.bytes())?;
            println!("{says}");
        }
        if officers > 0 {
            println!("Next, on the relay: suora-relay credential add --relay DIR FILE…");
        }
        if partners > 0 {
            println!("Partners get theirs from you, not from the relay: PEER-ROLE.credential.");
        }
        if skipped > 0 {
            return Err(bad(format!(
                "{skipped} were not renewed; issue them anew, or forget them"
            )));
        }
        Ok(())
    }
}

fn forget(issuing: &Path, peer: &str) -> Result<(), Fault> {
    let _held = super::hold(issuing)?;
    let mut register = Register::read(issuing)?;
    if !register.forget(peer) {
        return Err(bad(format!("{peer} is not in the register")));
    }
    register.write(issuing)?;
    println!("Renewed no more. To end the last credential at once: suora-relay descriptor revoke.");
    Ok(())
}
