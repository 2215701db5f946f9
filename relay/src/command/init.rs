//! `suora-relay init`: three folders, of which only `relay/` belongs on the relay.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;
use suora_protocol::fault::{Code, Fault};

use super::descriptor::{self, Page};
use super::phrase::Phrases;
use crate::clock::Clock;
use crate::config::Config;
use crate::grant::Secret;
use crate::keys::{self, Passphrase};

/// Make an agency.
#[derive(Debug, Args)]
pub struct Init {
    /// A new folder for root/, issuing/ and relay/.
    dir: PathBuf,
    /// The agency's domain, where /.well-known/suora will be served.
    #[arg(long)]
    domain: String,
    /// The agency's name in a language: en=…, fi=… or sv=…. Repeat for each.
    #[arg(long = "name", value_name = "LANG=NAME")]
    names: Vec<String>,
    /// A desk: tax, tax:Taxation, or tax:en=Taxation,fi=Verotus,sv=Beskattning. Repeat for more.
    #[arg(long = "desk", required = true, value_name = "ID[:NAMES]")]
    desks: Vec<String>,
    /// The IP address at which nodes reach the relay.
    #[arg(long, default_value = "127.0.0.1")]
    host: std::net::IpAddr,
    /// Port of the control plane, UDP and TCP.
    #[arg(long, default_value_t = 4433)]
    control_port: u16,
    /// Port of the control plane's WebSocket; without it none is listened on.
    #[arg(long)]
    websocket_port: Option<u16>,
    /// Port of STUN and TURN by UDP; without it there is none.
    #[arg(long)]
    turn_port: Option<u16>,
    /// Port of the public HTTP pages.
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// Port of the metrics, on loopback.
    #[arg(long, default_value_t = 9090)]
    metrics_port: u16,
    /// Put the root key and the issuing key under passphrases.
    #[arg(long)]
    passphrase: bool,
}

pub(super) fn make(dir: &Path) -> Result<(), Fault> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| {
            Fault::new(Code::BadFile).with(format!("{} cannot be made: {error}", dir.display()))
        })
}

impl Init {
    pub(super) fn run(self, phrases: &Phrases) -> Result<(), Fault> {
        let (root, issuing, relay) = (
            self.dir.join("root"),
            self.dir.join("issuing"),
            self.dir.join("relay"),
        );
        if [&root, &issuing, &relay].iter().any(|dir| dir.exists()) {
            return Err(Fault::new(Code::BadFile).with(format!(
                "{} holds an agency already; nothing was changed",
                self.dir.display()
            )));
        }
        let (root_key, issuing_key, relay_key, pass_key) = (
            keys::generate()?,
            keys::generate()?,
            keys::generate()?,
            keys::generate()?,
        );
        let page = Page::first(
            &self.domain,
            &self.names,
            &self.desks,
            self.host,
            self.control_port,
            self.websocket_port,
            self.turn_port,
            &issuing_key,
            &relay_key,
            &pass_key,
        )?;
        let signed = descriptor::sign(&page, &root_key, Clock::start().now().utc)?;
        let choose = |what| self.passphrase.then(|| phrases.choose(what)).transpose();
        let (root_phrase, issuing_phrase) = (choose("the root key")?, choose("the issuing key")?);
        let save = |path: &Path, key, phrase: Option<Passphrase>| match phrase {
            Some(phrase) => keys::seal(path, key, &phrase),
            None => keys::save(path, key),
        };
        for dir in [&root, &issuing, &relay] {
            make(dir)?;
        }
        save(&root.join("root.key"), &root_key, root_phrase)?;
        keys::write_new(
            &root.join("descriptor.toml"),
            page.to_toml()?.as_bytes(),
            0o600,
        )?;
        save(&issuing.join("issuing.key"), &issuing_key, issuing_phrase)?;
        keys::save(&relay.join("relay.key"), &relay_key)?;
        keys::save(&relay.join("pass.key"), &pass_key)?;
        let config = Config::template(
            self.host,
            self.control_port,
            self.websocket_port,
            self.http_port,
            self.metrics_port,
            self.turn_port,
        );
        keys::write_new(&relay.join("relay.toml"), config.as_bytes(), 0o600)?;
        keys::write_new(&relay.join("descriptor.cose"), signed.bytes(), 0o644)?;
        let secret = Secret::from_seed(&keys::draw()?);
        let line = zeroize::Zeroizing::new(format!("{}\n", secret.text()));
        keys::write_new(&relay.join("turn.secret"), line.as_bytes(), 0o600)?;
        let agency = suora_protocol::identity::AgencyId::of_root(&root_key.peer_id());
        println!("Made the agency {} in {}.", self.domain, self.dir.display());
        println!(
            "Its root id, by which citizens know it: {}",
            agency.to_text()
        );
        println!();
        println!("  root/     signs the descriptor: move it offline.");
        println!("  issuing/  signs credentials: move it to the administrator's machine.");
        println!("  relay/    is all that the relay needs, on its machine.");
        println!();
        println!(
            "Keep a copy of root/ and issuing/ in two places that cannot burn or be stolen together:"
        );
        println!(
            "without the root key the agency needs a new name, without the issuing key new credentials."
        );
        println!();
        println!("Next:");
        println!("  suora-relay serve {}", relay.display());
        println!(
            "  suora-relay issue officer --issuing {} --descriptor {} --peer PEER --desk {} --name NAME --out officer.credential",
            issuing.display(),
            relay.join("descriptor.cose").display(),
            page.first_desk(),
        );
        println!("The descriptor holds for 30 days; sign the next one before that:");
        println!(
            "  suora-relay descriptor sign --root {} --out {}",
            root.display(),
            relay.join("descriptor.cose").display()
        );
        Ok(())
    }
}
