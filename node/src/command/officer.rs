//! `suora officer`: an officer attends a desk.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::ADDRESSES_MAX;

use super::common::Common;
use crate::config::Config;
use crate::engine::Role;
use crate::{keys, path};

/// Serve at a desk of your agency.
#[derive(Debug, Args)]
pub struct Officer {
    /// Your key file, of `suora keygen`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Your credential, from your agency's administrator. By default the file beside your key that ends in .credential, else the relay hands it to you; renewed ones are kept there.
    #[arg(long, value_name = "FILE")]
    credential: Option<PathBuf>,
    /// Take every offer as soon as the citizen's proof stands.
    #[arg(long)]
    auto_accept: bool,
    /// Serve on after a consultation, until SIGTERM; reports go into a folder.
    #[arg(long)]
    stay: bool,
    /// Citizens reach you at this address, not at the one you listen on: behind a port forward. Repeat, or separate by commas, for more.
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',')]
    announce: Vec<SocketAddr>,
    #[command(flatten)]
    common: Common,
}

impl Officer {
    pub(super) fn config(self) -> Result<Config, Fault> {
        let seed = keys::load(&self.key)?;
        let beside = self.key.with_extension("credential");
        let credential = credential(self.credential.as_deref(), &beside)?;
        let role = Role::Officer {
            credential,
            auto_accept: self.auto_accept,
            // without --auto-accept a person is there, who decides when to go
            stay: self.stay || !self.auto_accept,
        };
        let many = self.stay;
        announced(&self.announce, self.common.loopback)?;
        let mut config = self.common.config(role, seed, many)?;
        config.listen.announce = self.announce;
        config.credential = Some(beside);
        Ok(config)
    }
}

/// The credential in the named file; else in the one beside the key, if there is one.
fn credential(named: Option<&Path>, beside: &Path) -> Result<Bytes, Fault> {
    match std::fs::read(named.unwrap_or(beside)) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => Ok(Bytes::new()),
        Err(error) => Err(Fault::new(Code::BadFile)
            .with(format!("{}: {error}", named.unwrap_or(beside).display()))),
    }
}

/// Addresses that citizens would not dial, or too many of them, are a mistake of the one who
/// typed them: [`Code::BadConfig`].
fn announced(addresses: &[SocketAddr], loopback: bool) -> Result<(), Fault> {
    let wrong = |detail: String| Err(Fault::new(Code::BadConfig).with(detail));
    if addresses.len() > ADDRESSES_MAX {
        return wrong(format!(
            "--announce: {} addresses, but an invite holds {ADDRESSES_MAX}",
            addresses.len()
        ));
    }
    for address in addresses {
        if let Some(why) = path::refusal(*address, loopback) {
            return wrong(format!("--announce {address}: {why}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_citizens_would_not_dial_is_refused_by_name() {
        let said = |texts: &[&str], loopback| {
            let addresses: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
            announced(&addresses, loopback)
        };
        said(&[], false).unwrap();
        said(&["198.51.100.7:4433", "[2001:db8::7]:4433"], false).unwrap();
        said(&["127.0.0.1:4433"], true).unwrap();
        for wrong in ["127.0.0.1:4433", "0.0.0.0:4433", "198.51.100.7:0"] {
            let fault = said(&["198.51.100.7:4433", wrong], false).unwrap_err();
            assert_eq!(fault.code, Code::BadConfig);
            assert!(fault.detail.unwrap().contains(wrong), "{wrong}");
        }
        let fault = said(&["198.51.100.7:4433"; 9], false).unwrap_err();
        assert_eq!(fault.code, Code::BadConfig);
    }
}
