//! `suora officer`: an officer attends a desk.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use suora_protocol::fault::{Code, Fault};

use super::common::Common;
use crate::config::Config;
use crate::engine::Role;
use crate::keys;

/// Serve at a desk of your agency.
#[derive(Debug, Args)]
pub struct Officer {
    /// Your key file, of `suora keygen`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Your credential, from your agency's administrator.
    #[arg(long, value_name = "FILE")]
    credential: Option<PathBuf>,
    /// Take every offer as soon as the citizen's proof stands.
    #[arg(long)]
    auto_accept: bool,
    /// Serve on after a consultation, until SIGTERM; reports go into a folder.
    #[arg(long)]
    stay: bool,
    #[command(flatten)]
    common: Common,
}

impl Officer {
    pub(super) fn config(self) -> Result<Config, Fault> {
        let seed = keys::load(&self.key)?;
        let credential = match &self.credential {
            Some(path) => std::fs::read(path).map(Bytes::from).map_err(|error| {
                Fault::new(Code::BadFile).with(format!("{}: {error}", path.display()))
            })?,
            None => Bytes::new(),
        };
        let role = Role::Officer {
            credential,
            auto_accept: self.auto_accept,
            // without --auto-accept a person is there, who decides when to go
            stay: self.stay || !self.auto_accept,
        };
        let many = self.stay;
        self.common.config(role, seed, many)
    }
}
