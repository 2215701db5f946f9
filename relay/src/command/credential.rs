//! `suora-relay credential`: on the relay's machine, hands credentials to the running relay.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Subcommand;
use suora_protocol::documents::{Credential, Signed};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::time::Timestamp;

use super::descriptor::{date, read};
use crate::http::local;

/// What to do with credentials.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Bring officers' credentials: the relay keeps the newest of each officer and hands it on.
    /// A partner's among them is left alone: it is for the partner.
    Add {
        /// The data directory of the running relay.
        #[arg(long, value_name = "DIR")]
        relay: PathBuf,
        /// The credentials, of `issue`.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

impl What {
    pub(super) async fn run(self) -> Result<(), Fault> {
        let Self::Add { relay, files } = self;
        let (mut faults, mut partners, mut kept) = (Vec::new(), Vec::new(), 0);
        for file in &files {
            let taken = async {
                let signed: Signed<Credential> = Signed::from_bytes(read(file)?)?;
                local::enrol(&relay, Bytes::clone(signed.bytes())).await
            };
            match taken.await.map_err(|fault| fault.lies_in(file.display())) {
                Ok(taken) => {
                    kept += 1;
                    let until = date(Timestamp::from_secs(taken.until));
                    match taken.newest {
                        true => println!("{}: taken, valid until {until}.", taken.name),
                        false => println!("{}: one as new is kept already.", taken.name),
                    }
                }
                Err(fault) if fault.code == Code::RelayUnreachable => return Err(fault),
                // `issue renew --all` writes these beside the officers'
                Err(fault) if fault.code == Code::WrongRole => {
                    println!(
                        "{}: a partner's, which no relay keeps: give it to the partner.",
                        file.display()
                    );
                    partners.push((file, fault));
                }
                Err(fault) => faults.push((file, fault)),
            }
        }
        if kept == 0 {
            // whoever meant to bring something brought nothing
            faults.append(&mut partners);
        }
        let Some((_, first)) = faults.first() else {
            return Ok(());
        };
        let lines: Vec<String> = faults
            .iter()
            .map(|(file, fault)| format!("\n  {}: {fault}", file.display()))
            .collect();
        Err(Fault::new(first.code).with(format!(
            "{} of {} were not taken:{}",
            faults.len(),
            files.len(),
            lines.concat()
        )))
    }
}
