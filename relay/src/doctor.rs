//! `suora-relay doctor`: looks at a data directory, the relay that serves it and the
//! agency's web page, and says of each part how it stands. It changes nothing.

pub mod web;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use suora_protocol::documents::{Descriptor, Signed, Verified, chain};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::finding::{Finding, State};
use suora_protocol::identity::Key;
use suora_protocol::limits::CLOCK_TOLERANCE;
use suora_protocol::time::Timestamp;
use tokio::sync::mpsc;

use crate::Faults;
use crate::clock::Clock;
use crate::config::Config;
use crate::control::Control;
use crate::control::reach::{self, Over};
use crate::net::probe::probe;
use crate::serve::boot;
use crate::store::sqlite::Sqlite;
use crate::{http, keys};
use web::Web;

/// Every check, and the states that it can have beside good; the texts have a sentence each.
pub const CHECKS: &[(&str, &[State])] = &[
    ("environment", &[State::Bad]),
    ("settings", &[State::Bad]),
    ("key", &[State::Bad]),
    ("pass-key", &[State::Bad]),
    ("permissions", &[State::Warning, State::Bad]),
    ("descriptor", &[State::Warning, State::Bad]),
    ("powers", &[State::Bad]),
    ("listed", &[State::Bad]),
    ("store", &[State::Bad]),
    ("credentials", &[State::Warning, State::Bad]),
    ("metrics", &[State::Warning]),
    ("running", &[State::Warning]),
    ("ports", &[State::Bad]),
    ("quic", &[State::Bad]),
    ("tcp", &[State::Bad]),
    ("websocket", &[State::Bad]),
    ("stun", &[State::Bad]),
    ("page", &[State::Warning, State::Bad]),
    ("web", &[State::Warning, State::Bad]),
    ("clock", &[State::Bad]),
];

/// Below this a descriptor's end is near.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// Below this an officer's credential should have been renewed: they last a week.
const RENEW: Duration = Duration::from_secs(2 * 86_400);

/// What to look at.
#[derive(Debug)]
pub struct Doctor {
    /// The data directory.
    pub dir: PathBuf,
    /// Whether `SSLKEYLOGFILE` is set.
    pub key_log: bool,
    /// How web servers are asked; none: not at all.
    pub web: Option<Web>,
}

impl Doctor {
    /// Looks at everything, in the order of [`CHECKS`].
    pub async fn look(&self, clock: &Clock) -> Vec<Finding> {
        let now = clock.now().utc;
        let mut findings = vec![environment(self.key_log)];
        let config = Config::read(&self.dir.join("relay.toml"));
        findings.push(Finding::of("settings", &config));
        let key = keys::load(&self.dir.join("relay.key"));
        findings.push(Finding::of("key", &key));
        let pass = self.dir.join("pass.key");
        if pass.exists() {
            findings.push(Finding::of("pass-key", &keys::load(&pass)));
        }
        findings.push(kept(&self.dir));
        let page = boot::signed(&self.dir).and_then(|page| chain::descriptor_as_given(&page, now));
        findings.push(match &page {
            Ok(page) => ending(page.not_after, now),
            Err(fault) => Finding::bad("descriptor", fault.clone()),
        });
        if let Ok(page) = &page {
            let powers = boot::refuse_powers(&self.dir, page, None);
            findings.push(Finding::of("powers", &powers));
            if let Ok(key) = &key {
                findings.push(Finding::of("listed", &listed(page, key)));
            }
        }
        let store = self.store().await;
        let is_whole = store.state == State::Good;
        findings.push(store);
        if is_whole {
            findings.push(self.credentials(now).await);
        }
        if let (Ok(config), Ok(key)) = (&config, &key) {
            findings.push(metrics(config));
            findings.extend(self.listeners(config, key, page.as_ref().ok(), clock).await);
        }
        let (web, theirs) = match (&page, &self.web) {
            (Ok(page), Some(web)) => web_page(page, web).await,
            _ => (None, None),
        };
        findings.extend(web);
        findings.extend(time(&page, theirs, now));
        findings
    }

    async fn store(&self) -> Finding {
        let path = self.dir.join("relay.db");
        if !path.exists() {
            // made at the first start
            return Finding::good("store").naming("tickets", 0);
        }
        match Sqlite::examine(&path).await {
            Ok(tickets) => Finding::good("store").naming("tickets", tickets),
            Err(fault) => Finding::bad("store", fault),
        }
    }

    /// Officers who are handed no newer credential in time can serve no more.
    async fn credentials(&self, now: Timestamp) -> Finding {
        let path = self.dir.join("relay.db");
        let kept = match path.exists() {
            true => Sqlite::credentials(&path, now).await,
            false => Ok((0, None)),
        };
        let (count, first) = match kept {
            Ok(kept) => kept,
            Err(fault) => return Finding::bad("credentials", fault),
        };
        let left = first.map(|first| first.since(now));
        let finding = match left {
            Some(left) if left < RENEW => {
                Finding::warning("credentials", Fault::new(Code::EndsSoon))
            }
            _ => Finding::good("credentials"),
        };
        let hours = left.unwrap_or_default().as_secs() / 3_600;
        finding.naming("count", count).naming("hours", hours)
    }

    /// Is it running, and can it be reached? If it is not, can it listen?
    async fn listeners(
        &self,
        config: &Config,
        key: &Key,
        page: Option<&Verified<Descriptor>>,
        clock: &Clock,
    ) -> Vec<Finding> {
        let passing = match keys::generate() {
            Ok(passing) => passing,
            Err(fault) => return vec![Finding::bad("running", fault)],
        };
        let mut runs = false;
        for address in reach::own(config, &key.peer_id()) {
            runs |= reach::reach(&address, &passing, clock).await.is_ok();
        }
        if !runs {
            let silent = Fault::new(Code::RelayUnreachable).with(format!(
                "no relay with this key answers at {}",
                config.control
            ));
            return vec![
                Finding::warning("running", silent),
                Finding::of("ports", &ports(config, key).await),
            ];
        }
        let mut findings = vec![Finding::good("running")];
        findings.extend(stun(config).await);
        let Some(page) = page else {
            return findings;
        };
        let end = format!("/p2p/{}", key.peer_id().to_text());
        let own = page.relays.iter().filter(|relay| relay.ends_with(&end));
        for address in own {
            let check = match reach::over(address) {
                Some(Over::Quic) => "quic",
                Some(Over::Tcp) => "tcp",
                Some(Over::WebSocket) => "websocket",
                None => continue,
            };
            findings.push(match reach::reach(address, &passing, clock).await {
                Ok(took) => Finding::good(check).naming("ms", took.as_millis()),
                Err(fault) => Finding::bad(check, fault),
            });
        }
        if let Some(web) = &self.web
            && config.http.port() != 0
        {
            let served = web.relay(on_this_machine(config.http)).await;
            findings.push(same("page", served.map(|(bytes, _)| bytes), page));
        }
        findings
    }
}

/// Whether STUN is answered wherever the settings say so, which is TURN's port too.
async fn stun(config: &Config) -> Option<Finding> {
    let turn = config.turn.as_ref()?;
    let mut ports = Vec::new();
    for at in turn.listen() {
        if let Err(error) = probe(at).await {
            let silent = Fault::new(Code::RelayUnreachable).with(format!("{at}: {error}"));
            return Some(Finding::bad("stun", silent));
        }
        ports.push(at.port().to_string());
    }
    Some(Finding::good("stun").naming("port", ports.join(", ")))
}

fn environment(key_log: bool) -> Finding {
    let result = boot::no_key_log(key_log);
    Finding::of("environment", &result)
}

/// Whether what lies there is the relay's alone, and nothing else does.
fn kept(dir: &Path) -> Finding {
    let is_closed = permissions(dir);
    match keys::parts(dir).unwrap_or_default().as_slice() {
        [part, ..] if is_closed.is_ok() => {
            let what = format!("{}: by a program that was killed", part.display());
            Finding::warning("permissions", Fault::new(Code::BadFile).with(what))
        }
        _ => Finding::of("permissions", &is_closed),
    }
}

/// What others must not read or change, beside the key files, which look after themselves.
fn permissions(dir: &Path) -> Result<(), Fault> {
    let mode = |path: &Path| fs::metadata(path).map(|meta| meta.permissions().mode());
    let refuse = |path: &Path, what: &str| {
        Err(Fault::new(Code::UnsafePermissions).with(format!("{}: {what}", path.display())))
    };
    let all = mode(dir)
        .map_err(|error| Fault::new(Code::BadFile).with(format!("{}: {error}", dir.display())))?;
    if all & 0o022 != 0 {
        return refuse(
            dir,
            "others can write there; chmod go-w takes that from them",
        );
    }
    // who waits is in the store; who may not enter the folder reads nothing in it
    let is_closed = all & 0o077 == 0;
    for (name, forbidden) in [
        ("relay.toml", 0o022),
        ("descriptor.cose", 0o022),
        ("relay.db", if is_closed { 0o022 } else { 0o077 }),
        ("relay.db-wal", if is_closed { 0o022 } else { 0o077 }),
        ("relay.db-shm", if is_closed { 0o022 } else { 0o077 }),
    ] {
        let path = dir.join(name);
        if mode(&path).is_ok_and(|mode| mode & forbidden != 0) {
            return refuse(
                &path,
                "others can read or write it; chmod go= makes it private",
            );
        }
    }
    Ok(())
}

/// Good, or near its end.
fn ending(until: Timestamp, now: Timestamp) -> Finding {
    let left = until.since(now);
    let finding = if left < SOON {
        Finding::warning("descriptor", Fault::new(Code::EndsSoon))
    } else {
        Finding::good("descriptor")
    };
    let (days, hours) = (left.as_secs() / 86_400, left.as_secs() / 3_600);
    finding.naming("days", days).naming("hours", hours)
}

fn listed(page: &Verified<Descriptor>, key: &Key) -> Result<(), Fault> {
    if boot::lists(page, key) {
        return Ok(());
    }
    Err(Fault::new(Code::BadConfig).with(format!(
        "no address of the descriptor ends in /p2p/{}",
        key.peer_id().to_text()
    )))
}

fn metrics(config: &Config) -> Finding {
    if config.metrics.ip().is_loopback() {
        return Finding::good("metrics");
    }
    let open = Fault::new(Code::BadConfig).with(format!("metrics = {}", config.metrics));
    Finding::warning("metrics", open)
}

/// Whether all listeners can be opened; they are closed again.
async fn ports(config: &Config, key: &Key) -> Result<(), Fault> {
    let (envelopes, _unheard) = mpsc::channel(1);
    let listen = async {
        drop(Control::listen(key, config, envelopes, Faults::default()).await?);
        drop(http::listen("http", config.http).await?);
        drop(http::listen("metrics", config.metrics).await?);
        Ok(())
    };
    listen.await.map_err(|fault: Fault| Fault {
        code: Code::CannotListen,
        ..fault
    })
}

fn on_this_machine(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// Holds a page that is served against the one on disk.
fn same(
    check: &'static str,
    served: Result<bytes::Bytes, Fault>,
    page: &Verified<Descriptor>,
) -> Finding {
    let bytes = match served {
        Ok(bytes) => bytes,
        Err(fault) => return Finding::bad(check, fault),
    };
    if bytes == *page.bytes() {
        return Finding::good(check);
    }
    let other = Signed::<Descriptor>::from_bytes(bytes)
        .and_then(|signed| chain::descriptor(&signed, &page.agency, page.issued_at, None));
    match other {
        Ok(other) if other.sequence < page.sequence => {
            let older = format!("sequence {} instead of {}", other.sequence, page.sequence);
            Finding::warning(check, Fault::new(Code::LowerSequence).with(older))
        }
        Ok(other) if other.sequence == page.sequence => {
            let two = format!("two descriptors of sequence {}", page.sequence);
            Finding::bad(check, Fault::new(Code::Equivocation).with(two))
        }
        Ok(other) => {
            let newer = format!("it serves sequence {}, newer than the file", other.sequence);
            Finding::warning(check, Fault::new(Code::LowerSequence).with(newer))
        }
        Err(fault) => Finding::bad(check, fault),
    }
}

/// What the domain serves by HTTPS, and what time it is there.
async fn web_page(page: &Verified<Descriptor>, web: &Web) -> (Option<Finding>, Option<Timestamp>) {
    let (served, date) = match web.domain(&page.domain).await {
        Ok((bytes, date)) => (Ok(bytes), date),
        Err(fault) => (Err(fault), None),
    };
    let finding = same("web", served, page).naming("domain", &page.domain);
    (Some(finding), date)
}

/// The web server has a clock too; a descriptor of the future tells as much.
fn time(
    page: &Result<Verified<Descriptor>, Fault>,
    theirs: Option<Timestamp>,
    now: Timestamp,
) -> Option<Finding> {
    let wrong = |what: String| Finding::bad("clock", Fault::new(Code::WrongClock).with(what));
    if let Err(fault) = page
        && fault.code == Code::NotYetValid
    {
        return Some(wrong("the descriptor is of the future".into()));
    }
    let theirs = theirs?;
    let apart = theirs.since(now).max(now.since(theirs));
    if apart > CLOCK_TOLERANCE {
        return Some(wrong(format!(
            "{} s from the clock of the agency's web server",
            apart.as_secs()
        )));
    }
    Some(Finding::good("clock"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::text::Texts;

    #[test]
    fn every_finding_has_its_sentence_and_its_next_step() {
        let mut wanted = BTreeSet::new();
        for (check, states) in CHECKS {
            wanted.insert(Finding::good(check).id());
            for state in *states {
                let fault = Fault::new(Code::Internal);
                let finding = match state {
                    State::Good => Finding::good(check),
                    State::Warning => Finding::warning(check, fault),
                    State::Bad => Finding::bad(check, fault),
                };
                for language in ["fi", "sv", "en"] {
                    let said = Texts::new(language).finding(&finding);
                    assert_ne!(said.sentence, finding.id(), "{language}");
                    assert!(said.next.is_some(), "{}", finding.id());
                }
                wanted.insert(finding.id());
            }
        }
        let source = include_str!("../locales/en.ftl");
        let ids = source.lines().filter_map(|line| line.split_once(" = "));
        let ids = ids.filter(|(id, _)| id.starts_with("doctor-"));
        let have: BTreeSet<String> = ids.map(|(id, _)| id.to_string()).collect();
        assert_eq!(have, wanted);
    }

    #[test]
    fn what_others_may_write_or_read_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let set = |name: &str, mode| {
            let path = dir.path().join(name);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for name in ["relay.toml", "relay.db"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let found = || permissions(dir.path()).map_err(|fault| fault.code);
        set("", 0o700);
        set("relay.db", 0o644);
        assert_eq!(found(), Ok(()), "nobody else enters the folder");
        set("", 0o755);
        assert_eq!(found(), Err(Code::UnsafePermissions));
        set("relay.db", 0o600);
        assert_eq!(found(), Ok(()));
        set("relay.toml", 0o664);
        assert_eq!(found(), Err(Code::UnsafePermissions));
        set("relay.toml", 0o600);
        set("", 0o770);
        assert_eq!(found(), Err(Code::UnsafePermissions));
        set("", 0o700);
        assert_eq!(kept(dir.path()).state, State::Good);
        let part = ".relay.key.0123456789abcdef.part";
        fs::write(dir.path().join(part), "half").unwrap();
        let left = kept(dir.path());
        assert_eq!(left.state, State::Warning);
        let detail = left.fault.and_then(|fault| fault.detail);
        assert!(detail.is_some_and(|detail| detail.contains(part)));
        set("", 0o770);
        assert_eq!(kept(dir.path()).state, State::Bad);
        let none = permissions(&dir.path().join("none"));
        assert_eq!(none.unwrap_err().code, Code::BadFile);
    }
}
