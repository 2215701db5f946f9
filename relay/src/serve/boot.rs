//! What a relay reads before it serves, and all the reasons not to.

use std::fs;
use std::path::Path;

use suora_protocol::documents::{Descriptor, KeyUse, Signed, Verified, chain};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{AgencyId, Key, PeerId};
use suora_protocol::time::Timestamp;

use crate::config::Config;
use crate::keys::{self, Found};

/// Below this a descriptor's end is near.
const RENEW: std::time::Duration = std::time::Duration::from_secs(7 * 86_400);

/// How deep a data directory is searched for keys.
const DEEPEST: usize = 4;

/// A data directory that may be served.
#[derive(Debug)]
pub struct Boot {
    /// `relay.toml`.
    pub config: Config,
    /// `relay.key`, the libp2p identity.
    pub key: Key,
    /// `descriptor.cose`.
    pub descriptor: Verified<Descriptor>,
}

fn bad(what: String) -> Fault {
    Fault::new(Code::BadConfig).with(what)
}

/// TLS libraries write their secrets where `SSLKEYLOGFILE` says.
pub(crate) fn no_key_log(is_set: bool) -> Result<(), Fault> {
    if is_set {
        return Err(bad(
            "SSLKEYLOGFILE is set: it would write session keys to a file; unset it".into(),
        ));
    }
    Ok(())
}

/// Reads a data directory, or says what is wrong with it and how to mend it.
pub fn read(dir: &Path, now: Timestamp) -> Result<Boot, Fault> {
    no_key_log(std::env::var_os("SSLKEYLOGFILE").is_some())?;
    if !dir.join("relay.toml").is_file() {
        return Err(bad(format!(
            "{} is no data directory of a relay (no relay.toml): make one with suora-relay init",
            dir.display()
        )));
    }
    let config = Config::read(&dir.join("relay.toml"))?;
    let key = keys::load(&dir.join("relay.key"))?;
    let descriptor = chain::descriptor_as_given(&signed(dir)?, now).map_err(|fault| match fault.code {
        Code::Expired => Fault::new(Code::Expired).with(
            "the agency's descriptor has ended: sign a new one with suora-relay descriptor sign and put it in place of descriptor.cose",
        ),
        Code::NotYetValid => Fault::new(Code::WrongClock)
            .with("the agency's descriptor is of the future: the clock of this machine is wrong"),
        _ => fault.clone(),
    })?;
    refuse_powers(dir, &descriptor, None)?;
    if !lists(&descriptor, &key) {
        return Err(bad(format!(
            "the descriptor does not list this relay ({}): nodes would not find it; add its addresses to root/descriptor.toml and sign it",
            key.peer_id().to_text()
        )));
    }
    if descriptor.not_after.since(now) < RENEW {
        tracing::warn!(
            days = descriptor.not_after.since(now).as_secs() / 86_400,
            "the descriptor ends soon: sign a new one and send SIGHUP"
        );
    }
    Ok(Boot {
        config,
        key,
        descriptor,
    })
}

/// The descriptor on disk, verified against the one that stands.
pub fn descriptor_again(
    dir: &Path,
    key: &Key,
    known: &Verified<Descriptor>,
    now: Timestamp,
) -> Result<Verified<Descriptor>, Fault> {
    let descriptor = chain::descriptor_after(&signed(dir)?, known, now)?;
    refuse_powers(dir, &descriptor, Some(known))?;
    // what it revokes must count all the same
    if !lists(&descriptor, key) {
        tracing::warn!("the new descriptor does not list this relay: nodes will not find it");
    }
    Ok(descriptor)
}

/// The bytes of `descriptor.cose`.
pub(crate) fn signed(dir: &Path) -> Result<Signed<Descriptor>, Fault> {
    let path = dir.join("descriptor.cose");
    let bytes = fs::read(&path)
        .map_err(|error| Fault::new(Code::BadFile).with(format!("{}: {error}", path.display())))?;
    Signed::from_bytes(bytes)
}

/// Whether the descriptor leads to the relay with this key.
pub(crate) fn lists(descriptor: &Verified<Descriptor>, key: &Key) -> bool {
    let end = format!("/p2p/{}", key.peer_id().to_text());
    descriptor.relays.iter().any(|relay| relay.ends_with(&end))
}

/// What a key may do under a descriptor that its relay must not.
fn power(descriptor: &Descriptor, peer: &PeerId) -> Option<&'static str> {
    let issuing =
        |key: &&suora_protocol::documents::UseKey| key.use_ == KeyUse::Issuing && key.key == *peer;
    let next = descriptor.next_root.as_ref().map(|next| next.as_bytes());
    if descriptor.root == *peer {
        Some("the root key")
    } else if next == Some(AgencyId::of_root(peer).as_bytes()) {
        Some("the next root key")
    } else {
        let mut keys = descriptor.keys.iter();
        keys.find(issuing).map(|_| "an issuing key")
    }
}

/// A relay that could make officers could answer every citizen itself, so no key that
/// can may lie in its data directory, whatever the file is called. What cannot be searched
/// is refused too: what cannot be read, folders deep within folders, and ways to folders elsewhere.
///
/// `former` is the descriptor in whose place this one comes: nodes that do not have the new one
/// yet believe its keys still. A relay that starts has none. A descriptor names the root that
/// comes and never one that went, and the relay keeps no older one: so it cannot know a key that
/// had left the descriptor before it started, unless the file is called as `init` calls it.
pub(crate) fn refuse_powers(
    dir: &Path,
    descriptor: &Descriptor,
    former: Option<&Descriptor>,
) -> Result<(), Fault> {
    let powers = |peer: &PeerId| {
        let once = |page| power(page, peer).map(|what| format!("{what} of the last descriptor"));
        let now = power(descriptor, peer).map(String::from);
        now.or_else(|| former.and_then(once))
    };
    let mut folders = vec![(dir.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let unread = |error: std::io::Error| bad(format!("{}: {error}", folder.display()));
        for entry in fs::read_dir(&folder).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            let path = entry.path();
            // through a link: what it leads to
            if path.is_dir() {
                if depth == DEEPEST || entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                    return Err(bad(format!(
                        "{} cannot be searched for keys that make officers: a data directory holds no links to folders, and no folders more than {DEEPEST} deep",
                        path.display()
                    )));
                }
                folders.push((path, depth + 1));
                continue;
            }
            let name = entry.file_name();
            let by_name = ["root.key", "issuing.key"].iter().find(|key| name == **key);
            let by_content = match keys::peek(&path)? {
                Some(Found::Key(peer)) => powers(&peer),
                // a relay asks nobody for a passphrase: it can only be somebody else's key
                Some(Found::Sealed) => Some("a key under a passphrase".into()),
                None => None,
            };
            let by_name = by_name.map(|name| (*name).into());
            if let Some(what) = by_content.or(by_name) {
                return Err(bad(format!(
                    "{} holds {what}: a relay that can make officers is not safe; move it to the administrator's machine",
                    path.display()
                )));
            }
        }
    }
    Ok(())
}
