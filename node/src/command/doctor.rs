//! `suora doctor`: what stands between this device and a call.

use std::path::PathBuf;

use clap::Args;
use suora_protocol::documents::DeskId;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::finding::{Said, State};

use super::call;
use crate::clock::Clock;
use crate::fetch::{self, Agency};
use crate::link::Times;
use crate::memory;
use crate::text::Texts;

/// Check this device's set-up, and whether the agency's relay can be reached.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The agency, as for a call. Without it only this device is looked at.
    #[arg(long, value_name = "AGENCY")]
    agency: Option<Agency>,
    /// A desk that the agency should have.
    #[arg(long, value_name = "ID", value_parser = DeskId::new, requires = "agency")]
    desk: Option<DeskId>,
    /// The key file; by default the one that calls use.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// An officer's credential; by default the one beside the key, if there is one.
    #[arg(long, value_name = "FILE", requires = "agency")]
    credential: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Prints the findings; 1 when one of them is bad.
    pub(super) async fn run(self, texts: &Texts) -> Result<u8, Fault> {
        let key = match self.key {
            Some(key) => key,
            None => call::own_key_file()?,
        };
        let beside = Some(key.with_extension("credential")).filter(|path| path.exists());
        let doctor = crate::doctor::Doctor {
            key,
            agency: self.agency,
            desk: self.desk,
            credential: self.credential.or(beside),
            memory: memory::folder(),
            key_log: std::env::var_os("SSLKEYLOGFILE").is_some(),
            fetcher: fetch::fetcher()?,
            times: Times::default(),
        };
        let findings = doctor.look(&Clock::start()).await;
        let said: Vec<Said> = findings.iter().map(|found| texts.finding(found)).collect();
        if self.json {
            let json = serde_json::to_string_pretty(&said)
                .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))?;
            println!("{json}");
        } else {
            said.iter().for_each(|said| println!("{said}"));
        }
        let worst = findings.iter().map(|found| found.state).max();
        Ok(u8::from(worst == Some(State::Bad)))
    }
}
