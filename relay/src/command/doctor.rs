//! `suora-relay doctor`: what stands between this relay and its agency's citizens.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::finding::{Said, State};

use crate::clock::Clock;
use crate::doctor::web::Web;
use crate::text::Texts;

/// Check a relay's set-up, whether it can be reached, and the agency's web page.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The data directory, `relay/` of `init`.
    dir: PathBuf,
    /// Ask nothing of web servers: neither the relay's own page nor the domain's.
    #[arg(long)]
    no_web: bool,
    /// The agency's web server is there, wherever its domain leads.
    #[arg(long, value_name = "IP:PORT", conflicts_with = "no_web")]
    web_at: Option<SocketAddr>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Prints the findings; 1 when one of them is bad.
    pub(super) async fn run(self, texts: &Texts) -> Result<u8, Fault> {
        let web = if self.no_web {
            None
        } else {
            Some(Web::new(self.web_at)?)
        };
        let doctor = crate::doctor::Doctor {
            dir: self.dir,
            key_log: std::env::var_os("SSLKEYLOGFILE").is_some(),
            web,
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
