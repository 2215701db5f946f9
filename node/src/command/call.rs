//! `suora call`: a citizen asks to be served.

use std::path::PathBuf;

use clap::Args;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Seed;

use super::common::Common;
use crate::config::Config;
use crate::engine::Role;
use crate::keys;

/// Call a desk of an agency.
#[derive(Debug, Args)]
pub struct Call {
    /// This device's key file. By default one of your own, made at the first call.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Wait for the intent `join` on the control socket instead of calling at once.
    #[arg(long, requires = "control")]
    wait: bool,
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
        self.common.config(role, seed, false)
    }
}

/// Where the key of this person on this device is.
pub(super) fn own_key_file() -> Result<PathBuf, Fault> {
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")))
        .ok_or_else(|| {
            Fault::new(Code::BadConfig).with("no home folder for the key: give --key FILE")
        })?;
    Ok(data.join("suora/suora.key"))
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
    keys::create(&path)
}
