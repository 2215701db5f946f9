//! `suora-relay issue`: credentials, on the administrator's machine.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use suora_protocol::documents::{self, Credential, DeskId, KeyUse, Role, Signed, chain};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::PeerId;
use suora_protocol::limits::{CREDENTIAL_DAYS_MAX, TEXT_MAX};
use suora_protocol::time::Timestamp;

use super::descriptor::date;
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

/// What a credential says.
#[derive(Debug, Args)]
pub struct Issue {
    /// The folder issuing/ of `init`.
    #[arg(long)]
    issuing: PathBuf,
    /// The agency's signed descriptor.
    #[arg(long)]
    descriptor: PathBuf,
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

impl Whom {
    pub(super) fn run(self) -> Result<(), Fault> {
        match self {
            Self::Officer(issue) => issue.run(Role::Officer),
            Self::Partner { role, issue } => issue.run(match role {
                PartnerRole::Interpreter => Role::Interpreter,
                PartnerRole::Guardian => Role::Guardian,
                PartnerRole::Expert => Role::Expert,
                PartnerRole::Colleague => Role::Colleague,
            }),
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

impl Issue {
    fn run(self, role: Role) -> Result<(), Fault> {
        let bad = |what: String| Fault::new(Code::BadConfig).with(what);
        let now = Clock::start().now().utc;
        if self.name.is_empty() || self.name.len() > TEXT_MAX {
            return Err(bad(format!("--name: 1 to {TEXT_MAX} bytes")));
        }
        let bytes = std::fs::read(&self.descriptor).map_err(|error| {
            Fault::new(Code::BadFile).with(format!("{}: {error}", self.descriptor.display()))
        })?;
        let descriptor = chain::descriptor_as_given(&Signed::from_bytes(bytes)?, now)?;
        let key = keys::load(&self.issuing.join("issuing.key"))?;
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
        let desks = self.desks.iter().map(|desk| {
            let desk = DeskId::new(desk)?;
            descriptor
                .desk(&desk)
                .map(|found| found.id.clone())
                .ok_or_else(|| {
                    let known: Vec<_> = descriptor
                        .desks
                        .iter()
                        .map(|desk| desk.id.as_str())
                        .collect();
                    let what = format!("--desk {desk}: the descriptor lists {}", known.join(", "));
                    Fault::new(Code::UnknownDesk).with(what)
                })
        });
        let end = Timestamp::from_secs(now.as_secs() + self.days * 86_400);
        let credential = Credential {
            agency: descriptor.agency,
            peer: PeerId::parse(&self.peer)?,
            role,
            desks: desks.collect::<Result<_, _>>()?,
            name: self.name.clone(),
            key: id,
            issued_at: now,
            not_before: now,
            not_after: end,
        };
        let signed = documents::sign(&credential, &key)?;
        // what citizens will do with it
        chain::credential(&signed, &descriptor, now)?;
        keys::replace(&self.out, signed.bytes(), 0o644)?;
        println!(
            "{} may act as {} at {} until {}.",
            self.name,
            word(role),
            self.desks.join(", "),
            date(end)
        );
        println!("Credential: {}", self.out.display());
        Ok(())
    }
}
