//! `suora doctor`: looks at a person's set-up the way a call would use it, and says of each
//! part how it stands: key file, clock, the agency's descriptor, an officer's credential, the
//! media's TLS, and the relay over each transport. It changes nothing, and the relay sees
//! a passing key only.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use suora_protocol::documents::{Descriptor, DeskId, Signed, Verified, chain};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::finding::{Finding, State};
use suora_protocol::identity::Seed;
use suora_protocol::limits::CLOCK_TOLERANCE;
use suora_protocol::time::Timestamp;

use crate::clock::Clock;
use crate::endpoint;
use crate::engine::ports::SessionEvent;
use crate::engine::trust::Trust;
use crate::fetch::{Agency, Fetcher};
use crate::link::{self, Reached, Times};
use crate::memory::Memory;

/// Below this a document's end is near.
pub const SOON: Duration = Duration::from_secs(3 * 86_400);

/// Every check, and the states that it can have beside good; the texts have a sentence each.
pub const CHECKS: &[(&str, &[State])] = &[
    ("environment", &[State::Bad]),
    ("key", &[State::Bad]),
    ("folder", &[State::Warning, State::Bad]),
    ("tls", &[State::Bad]),
    ("memory", &[State::Bad]),
    ("agency", &[State::Warning, State::Bad]),
    ("clock", &[State::Bad]),
    ("desk", &[State::Bad]),
    ("credential", &[State::Warning, State::Bad]),
    ("relay", &[State::Bad]),
    ("relay-quic", &[State::Warning, State::Bad]),
    ("relay-tcp", &[State::Warning, State::Bad]),
    ("relay-websocket", &[State::Warning, State::Bad]),
];

/// What to look at.
#[derive(Debug)]
pub struct Doctor {
    /// The key file.
    pub key: PathBuf,
    /// Where the agency's descriptor comes from.
    pub agency: Option<Agency>,
    /// A desk that it should have.
    pub desk: Option<DeskId>,
    /// An officer's credential.
    pub credential: Option<PathBuf>,
    /// The folder where agencies are remembered.
    pub memory: Option<PathBuf>,
    /// Whether `SSLKEYLOGFILE` is set.
    pub key_log: bool,
    /// How to fetch.
    pub fetcher: Fetcher,
    /// How long a dial may take.
    pub times: Times,
}

impl Doctor {
    /// Looks at everything, in the order of [`CHECKS`].
    pub async fn look(&self, clock: &Clock) -> Vec<Finding> {
        let mut findings = vec![environment(self.key_log)];
        let seed = crate::keys::load(&self.key);
        findings.push(Finding::of("key", &seed));
        findings.push(place(&self.key));
        findings.push(tls(clock).await);
        let Some(agency) = &self.agency else {
            return findings;
        };
        let now = clock.now().utc;
        let mut trust = Trust::default();
        if let Some(remembered) = self.remembered(agency, &mut trust) {
            findings.push(Finding::of("memory", &remembered));
        }
        let page = self.page(agency, trust, now).await;
        findings.push(match &page {
            Ok(page) => ending("agency", page.not_after, now).naming("domain", &page.domain),
            Err(fault) => Finding::bad("agency", fault.clone()),
        });
        findings.extend(self.clock(agency, &page, now).await);
        let Ok(page) = page else {
            return findings;
        };
        if let Some(desk) = &self.desk {
            findings.push(at_desk(desk, &page));
        }
        if let Some(path) = &self.credential {
            let held = self.held(path, seed.as_ref().ok(), &page, now);
            findings.push(match held {
                Ok(until) => ending("credential", until, now),
                Err(fault) => Finding::bad("credential", fault),
            });
        }
        findings.extend(self.relay(&page, clock).await);
        findings
    }

    /// Takes what former calls left of this agency and of others, if they left something.
    fn remembered(&self, agency: &Agency, trust: &mut Trust) -> Option<Result<(), Fault>> {
        let memory = Memory::of(agency, self.memory.clone()?);
        let held = memory.others().and_then(|others| trust.hold(&others));
        if held.is_err() {
            return Some(held);
        }
        let path = memory.path()?;
        let mode = fs::metadata(&path).ok()?.permissions().mode();
        if mode & 0o022 != 0 {
            let what = format!("{}: others can change it", path.display());
            return Some(Err(Fault::new(Code::UnsafePermissions).with(what)));
        }
        let recalled = memory.recall().transpose()?;
        Some(recalled.and_then(|recalled| trust.recall(&recalled)))
    }

    /// What the source has now, taken or refused as a call would, which remembers.
    async fn page(
        &self,
        agency: &Agency,
        mut trust: Trust,
        now: Timestamp,
    ) -> Result<Verified<Descriptor>, Fault> {
        let fetched = self.fetcher.fetch(agency).await?;
        trust.take(&fetched, now)?;
        trust.get().cloned()
    }

    /// The agency's server has a clock too; a descriptor of the future tells as much.
    async fn clock(
        &self,
        agency: &Agency,
        page: &Result<Verified<Descriptor>, Fault>,
        now: Timestamp,
    ) -> Option<Finding> {
        let wrong = |what: String| Finding::bad("clock", Fault::new(Code::WrongClock).with(what));
        if let Err(fault) = page
            && fault.code == Code::NotYetValid
        {
            return Some(wrong("the agency's descriptor is of the future".into()));
        }
        let theirs = self.fetcher.clock(agency).await?;
        let apart = theirs.since(now).max(now.since(theirs));
        if apart > CLOCK_TOLERANCE {
            return Some(wrong(format!(
                "{} s from the clock of the agency's server",
                apart.as_secs()
            )));
        }
        Some(Finding::good("clock"))
    }

    /// The end of a credential that makes the key's owner an officer.
    fn held(
        &self,
        path: &Path,
        seed: Option<&Seed>,
        page: &Verified<Descriptor>,
        now: Timestamp,
    ) -> Result<Timestamp, Fault> {
        let bytes = fs::read(path).map_err(|error| {
            Fault::new(Code::BadFile).with(format!("{}: {error}", path.display()))
        })?;
        let credential = Signed::from_bytes(bytes)
            .and_then(|signed| chain::credential(&signed, page, now))
            .map_err(|fault| fault.lies_in(path.display()))?;
        if seed.is_some_and(|seed| seed.node_key().peer_id() != credential.peer) {
            return Err(Fault::new(Code::WrongSigner)
                .with("the credential belongs to another key than this key file"));
        }
        if let Some(desk) = &self.desk
            && !credential.desks.contains(desk)
        {
            return Err(Fault::new(Code::WrongDesk)
                .with(format!("the credential does not name the desk {desk}")));
        }
        Ok(credential.not_after)
    }

    /// One transport that answers is enough to talk; the others are for worse days.
    async fn relay(&self, page: &Verified<Descriptor>, clock: &Clock) -> Vec<Finding> {
        let passing = match crate::keys::draw() {
            Ok(seed) => Seed::from_bytes(seed).node_key(),
            Err(fault) => return vec![Finding::bad("relay", fault)],
        };
        let relays = match link::reach(&page.relays, &passing, clock, &self.times).await {
            Ok(relays) if !relays.is_empty() => relays,
            Ok(_) => {
                let none = Fault::new(Code::RelayUnreachable)
                    .with("the descriptor lists no relay that can be used");
                return vec![Finding::bad("relay", none)];
            }
            Err(fault) => return vec![Finding::bad("relay", fault)],
        };
        let mut findings = Vec::new();
        for reached in relays {
            let works = reached.iter().any(|one| one.took.is_ok());
            findings.extend(reached.iter().map(|one| transport(one, works)));
        }
        findings
    }
}

fn transport(reached: &Reached, works: bool) -> Finding {
    let check = match reached.transport {
        "QUIC" => "relay-quic",
        "TCP" => "relay-tcp",
        _ => "relay-websocket",
    };
    match &reached.took {
        Ok(took) => Finding::good(check).naming("ms", took.as_millis()),
        Err(fault) if works => Finding::warning(check, fault.clone()),
        Err(fault) => Finding::bad(check, fault.clone()),
    }
}

fn environment(key_log: bool) -> Finding {
    if key_log {
        let fault = Fault::new(Code::BadConfig)
            .with("SSLKEYLOGFILE is set: it would write session keys to a file");
        Finding::bad("environment", fault)
    } else {
        Finding::good("environment")
    }
}

/// Whether a key's folder is its owner's alone, and holds no other copy of it.
fn place(key: &Path) -> Finding {
    let is_closed = folder(key);
    match crate::keys::part_of(key) {
        Some(part) if is_closed.is_ok() => {
            let what = format!("{}: by a program that was killed", part.display());
            Finding::warning("folder", Fault::new(Code::BadFile).with(what))
        }
        _ => Finding::of("folder", &is_closed),
    }
}

/// Who can change a key's folder can put another key there.
fn folder(key: &Path) -> Result<(), Fault> {
    let folder = crate::keys::folder(key);
    let failed = |code: Code, what: String| {
        Err(Fault::new(code).with(format!("{}: {what}", folder.display())))
    };
    match fs::metadata(folder) {
        Err(error) => failed(Code::BadFile, error.to_string()),
        // others may make files of their own in a folder with the sticky bit
        Ok(meta)
            if meta.permissions().mode() & 0o022 != 0
                && meta.permissions().mode() & 0o1000 == 0 =>
        {
            failed(
                Code::UnsafePermissions,
                "others can write there; chmod go-w takes that from them".into(),
            )
        }
        Ok(_) => Ok(()),
    }
}

fn at_desk(desk: &DeskId, page: &Descriptor) -> Finding {
    let result = if page.desks.iter().any(|known| known.id == *desk) {
        Ok(())
    } else {
        let all: Vec<&str> = page.desks.iter().map(|desk| desk.id.as_str()).collect();
        Err(Fault::new(Code::UnknownDesk).with(format!("the agency has: {}", all.join(", "))))
    };
    Finding::of("desk", &result).naming("desk", desk)
}

/// Good, or near its end.
fn ending(check: &'static str, until: Timestamp, now: Timestamp) -> Finding {
    let left = until.since(now);
    let finding = if left < SOON {
        Finding::warning(check, Fault::new(Code::EndsSoon))
    } else {
        Finding::good(check)
    };
    let (days, hours) = (left.as_secs() / 86_400, left.as_secs() / 3_600);
    finding.naming("days", days).naming("hours", hours)
}

/// A media connection with ourselves: sockets, certificate, pin and key exchange.
async fn tls(clock: &Clock) -> Finding {
    match with_ourselves(clock).await {
        Ok(group) if group == "X25519MLKEM768" => Finding::good("tls").naming("group", group),
        Ok(group) => {
            let fault = Fault::new(Code::PostQuantumRequired).with(format!("negotiated {group}"));
            Finding::bad("tls", fault)
        }
        Err(fault) => Finding::bad("tls", fault),
    }
}

async fn with_ourselves(clock: &Clock) -> Result<String, Fault> {
    let met = endpoint::ourselves(clock.now().utc, crate::keys::draw()?).await?;
    let ([_host, guest], [_, connected]) = met;
    guest.close().await;
    match connected.event {
        SessionEvent::Connected { security, .. } => Ok(security.key_exchange),
        _ => Err(Fault::new(Code::HandshakeFailed)),
    }
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
    fn a_folder_that_others_can_write_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("suora.key");
        let set = |mode| {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            folder(&key).map_err(|fault| fault.code)
        };
        assert_eq!(set(0o755), Ok(()));
        assert_eq!(set(0o1777), Ok(()));
        assert_eq!(set(0o775), Err(Code::UnsafePermissions));
        assert_eq!(set(0o757), Err(Code::UnsafePermissions));
        set(0o700).unwrap();
        assert_eq!(place(&key).state, State::Good);
        let part = dir.path().join(".suora.key.0123456789abcdef.part");
        fs::write(part, "half").unwrap();
        assert_eq!(place(&key).state, State::Warning);
        set(0o757).unwrap_err();
        assert_eq!(place(&key).state, State::Bad);
        let none = folder(&dir.path().join("none/suora.key"));
        assert_eq!(none.unwrap_err().code, Code::BadFile);
    }

    #[test]
    fn what_ends_soon_is_a_warning_with_the_time_that_is_left() {
        let now = Timestamp::from_secs(1_795_525_200);
        let in_hours = |hours: i64| {
            ending(
                "agency",
                Timestamp::from_secs(now.as_secs() + hours * 3_600),
                now,
            )
        };
        assert_eq!(in_hours(72).state, State::Good);
        assert_eq!(in_hours(71).state, State::Warning);
        let said = Texts::new("en").finding(&in_hours(5).naming("domain", "agency.example"));
        assert_eq!(
            said.sentence,
            "The details of agency.example end in 5 hours."
        );
        assert_eq!(said.code, Some(Code::EndsSoon));
    }
}
