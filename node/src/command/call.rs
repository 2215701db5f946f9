//! `suora call`: a citizen asks to be served.

use std::path::PathBuf;

use clap::Args;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Seed;

use super::common::Common;
use crate::config::Config;
use crate::engine::Role;
use crate::{keys, memory};

/// Call a desk of an agency.
#[derive(Debug, Args)]
pub struct Call {
    /// This device's key file. By default one of your own, made at the first call.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Come as somebody whom this agency has never seen. The place in the queue then ends with this program.
    #[arg(long)]
    fresh: bool,
    /// Wait for the intent `join` on the control socket instead of calling at once.
    #[arg(long, requires = "control")]
    wait: bool,
    /// Dial private addresses beyond the networks of this machine: offices whose networks are joined by routers.
    #[arg(long)]
    routed: bool,
    /// Hide your address from the other end: everything goes through the agency's relay.
    #[arg(long)]
    relay_only: bool,
    #[command(flatten)]
    common: Common,
}

impl Call {
    pub(super) fn config(self) -> Result<Config, Fault> {
        let seed = match &self.key {
            Some(path) => keys::load(path)?,
            None => own_key()?,
        };
        let role = Role::Citizen { join: !self.wait };
        let mut config = self.common.config(role, seed, false)?;
        config.fresh = self.fresh;
        config.listen.routed = self.routed;
        config.listen.hidden = self.relay_only;
        Ok(config)
    }
}

/// Where the key of this person on this device is.
pub(super) fn own_key_file() -> Result<PathBuf, Fault> {
    let folder = memory::folder().ok_or_else(|| {
        Fault::new(Code::BadConfig).with("no home folder for the key: give --key FILE")
    })?;
    Ok(folder.join("suora.key"))
}

/// That key, made when it is first needed.
fn own_key() -> Result<Seed, Fault> {
    let path = own_key_file()?;
    if path.exists() {
        return keys::load(&path);
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|error| {
            Fault::new(Code::BadFile).with(format!("{}: {error}", dir.display()))
        })?;
    }
    match keys::create(&path) {
        // another call made it meanwhile
        Err(_) if path.exists() => keys::load(&path),
        made => made,
    }
}
