//! `suora-relay descriptor`: the page of `descriptor.toml`, signed by the root.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use suora_protocol::documents::{
    self, AddressPolicy, Descriptor, Desk, DeskId, KeyUse, Names, Signed, UseKey, Verified, chain,
};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{AgencyId, Hash, Key, PeerId};
use suora_protocol::limits::DESCRIPTOR_DAYS_MAX;
use suora_protocol::time::Timestamp;
use toml_edit::{Array, DocumentMut, Item, TomlError, value};

use super::phrase::Phrases;
use crate::clock::Clock;
use crate::keys;

/// What to do with a descriptor.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Show a signed descriptor, and whether it is valid.
    Show {
        /// The signed file.
        file: PathBuf,
    },
    /// Sign root/descriptor.toml with root/root.key, under the next sequence.
    Sign {
        /// The folder root/ of `init`.
        #[arg(long)]
        root: PathBuf,
        /// Where to write the signed descriptor.
        #[arg(long)]
        out: PathBuf,
    },
    /// Revoke a peer id, and sign: credentials of this node count no more. May be repeated.
    Revoke {
        /// The folder root/ of `init`.
        #[arg(long)]
        root: PathBuf,
        /// Where to write the signed descriptor.
        #[arg(long)]
        out: PathBuf,
        /// The peer id.
        peer: String,
    },
}

/// `descriptor.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    domain: String,
    sequence: u64,
    relays: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    turn: Vec<String>,
    #[serde(default)]
    revoked: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_root: Option<String>,
    names: Names,
    keys: Vec<PageKey>,
    desks: Vec<PageDesk>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageKey {
    id: String,
    #[serde(rename = "use")]
    use_: KeyUse,
    public: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageDesk {
    id: DeskId,
    #[serde(default)]
    kind: Option<String>,
    address_policy: AddressPolicy,
    #[serde(default)]
    require_pq: bool,
    #[serde(default)]
    anonymous: bool,
    #[serde(default)]
    sensitive: bool,
    #[serde(default)]
    grace: Option<u32>,
    names: Names,
}

/// Names from `en=…`, `fi=…`, `sv=…`; without an English one, `fallback`.
fn names<'a>(
    setting: &str,
    texts: impl Iterator<Item = &'a str>,
    fallback: &str,
) -> Result<Names, Fault> {
    let mut names = Names::default();
    for text in texts {
        match text.trim().split_once('=') {
            Some(("en", name)) => names.en = name.into(),
            Some(("fi", name)) => names.fi = name.into(),
            Some(("sv", name)) => names.sv = name.into(),
            _ => {
                return Err(Fault::new(Code::BadConfig)
                    .with(format!("{setting} {text}: write en=…, fi=… or sv=…")));
            }
        }
    }
    if names.en.is_empty() {
        names.en = fallback.into();
    }
    Ok(names)
}

/// A desk from `ID`, `ID:NAME` or `ID:en=…,fi=…,sv=…`.
fn desk(text: &str) -> Result<PageDesk, Fault> {
    let (id, name) = text.split_once(':').unwrap_or((text, text));
    let names = if name.contains('=') {
        names("--desk", name.split(','), id)?
    } else {
        Names {
            en: name.into(),
            ..Names::default()
        }
    };
    Ok(PageDesk {
        id: DeskId::new(id)
            .map_err(|fault| fault.with(format!("--desk {id}: 1 to 64 of a-z 0-9 -")))?,
        kind: None,
        address_policy: AddressPolicy::Open,
        require_pq: false,
        anonymous: false,
        sensitive: false,
        grace: None,
        names,
    })
}

impl Page {
    /// Reads its text, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// The first page of a new agency.
    #[expect(clippy::too_many_arguments, reason = "all that `init` was given")]
    pub(super) fn first(
        domain: &str,
        agency_names: &[String],
        desks: &[String],
        host: IpAddr,
        port: u16,
        websocket: Option<u16>,
        turn: Option<u16>,
        issuing: &Key,
        relay: &Key,
        pass: &Key,
    ) -> Result<Self, Fault> {
        let family = if host.is_ipv4() { "ip4" } else { "ip6" };
        let peer = relay.peer_id().to_text();
        let key = |id: &str, use_, key: &Key| PageKey {
            id: id.into(),
            use_,
            public: key.peer_id().to_text(),
        };
        let mut relays = vec![
            format!("/{family}/{host}/udp/{port}/quic-v1/p2p/{peer}"),
            format!("/{family}/{host}/tcp/{port}/p2p/{peer}"),
        ];
        relays.extend(websocket.map(|port| format!("/{family}/{host}/tcp/{port}/ws/p2p/{peer}")));
        let turn = turn.map(|port| format!("turn:{}?transport=udp", SocketAddr::new(host, port)));
        Ok(Self {
            domain: domain.into(),
            sequence: 1,
            relays,
            turn: turn.into_iter().collect(),
            revoked: Vec::new(),
            next_root: None,
            names: names("--name", agency_names.iter().map(String::as_str), domain)?,
            keys: vec![
                key("issuing-1", KeyUse::Issuing, issuing),
                key("pass-1", KeyUse::Pass, pass),
            ],
            desks: desks
                .iter()
                .map(|text| desk(text))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The desk that was named first.
    pub(super) fn first_desk(&self) -> &str {
        self.desks.first().map_or("DESK", |desk| desk.id.as_str())
    }

    /// The text of `descriptor.toml`.
    pub(super) fn to_toml(&self) -> Result<String, Fault> {
        let text = toml::to_string_pretty(self)
            .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))?;
        Ok(format!(
            "# The agency's page. Change it, then: suora-relay descriptor sign --root DIR --out FILE\n\
             # Signing raises the sequence; peer ids under `revoked` lose their credentials.\n\n{text}"
        ))
    }
}

/// Signs a page with the root key; valid for thirty days.
pub(super) fn sign(page: &Page, root: &Key, now: Timestamp) -> Result<Signed<Descriptor>, Fault> {
    let not_after = Timestamp::from_secs(now.as_secs() + DESCRIPTOR_DAYS_MAX * 86_400);
    let keys = page.keys.iter().map(|key| {
        Ok(UseKey {
            id: key.id.clone(),
            key: PeerId::parse(&key.public)?,
            use_: key.use_,
            not_after,
        })
    });
    let desks = page.desks.iter().map(|desk| {
        let mut full = Desk::new(desk.id.clone(), desk.names.clone());
        full.kind = desk.kind.clone().unwrap_or(full.kind);
        full.grace = desk.grace.unwrap_or(full.grace);
        full.address_policy = desk.address_policy;
        full.require_pq = desk.require_pq;
        full.anonymous = desk.anonymous;
        full.sensitive = desk.sensitive;
        full
    });
    let descriptor = Descriptor {
        agency: AgencyId::of_root(&root.peer_id()),
        root: root.peer_id(),
        names: page.names.clone(),
        domain: page.domain.clone(),
        relays: page.relays.clone(),
        turn: page.turn.clone(),
        keys: keys.collect::<Result<_, Fault>>()?,
        desks: desks.collect(),
        revoked: page
            .revoked
            .iter()
            .map(|peer| PeerId::parse(peer))
            .collect::<Result<_, _>>()?,
        sequence: page.sequence,
        issued_at: now,
        not_after,
        next_root: page
            .next_root
            .as_deref()
            .map(|next| Ok(Hash::from_bytes(*AgencyId::parse(next)?.as_bytes())))
            .transpose()
            .map_err(|fault: Fault| fault.with("next_root is 64 hexadecimal digits"))?,
    };
    let signed = documents::sign(&descriptor, root)?;
    // what every node will do with it
    chain::descriptor_as_given(&signed, now)?;
    Ok(signed)
}

/// `descriptor.toml`, as text whose comments stay where they are.
pub(super) struct Draft {
    path: PathBuf,
    text: DocumentMut,
}

impl Draft {
    pub(super) fn read(root: &Path) -> Result<Self, Fault> {
        let path = root.join("descriptor.toml");
        let wrong = |what: String| bad(format!("{}: {what}", path.display()));
        let text = String::from_utf8(read(&path)?).map_err(|_| wrong("not text".into()))?;
        let text = text
            .parse()
            .map_err(|error: TomlError| wrong(error.to_string()))?;
        Ok(Self { path, text })
    }

    fn page(&self) -> Result<Page, Fault> {
        Page::parse(&self.text.to_string())
            .map_err(|error| bad(format!("{}: {error}", self.path.display())))
    }

    /// Signs it under the next sequence, above that of the descriptor in whose place it comes:
    /// the page may be an older copy, and what was revoked since then stays so. The page is
    /// written before the signed descriptor, and its folder is held: no sequence is used twice.
    /// Where only the second fails, the page has what it should say: signing again mends it.
    pub(super) fn sign(mut self, root: &Key, out: &Path, now: Timestamp) -> Result<Page, Fault> {
        keys::refuse_over(out)?;
        let mut newest = self.page()?.sequence;
        let there = published(out, root);
        if there.is_none() && out.exists() {
            eprintln!(
                "{} holds no descriptor of this root, nor one that names it as the next: it is replaced, and says nothing of the sequences that were used.",
                out.display()
            );
        }
        if let Some(there) = there.filter(|there| there.sequence > newest) {
            println!(
                "{} is newer ({}) than {} ({newest}), which is an older copy: signing above it, with all that it revokes.",
                out.display(),
                there.sequence,
                self.path.display()
            );
            println!("Compare both for what else was changed: suora-relay descriptor show.");
            newest = there.sequence;
            for peer in &there.revoked {
                self.revoke(peer)?;
            }
        }
        let next = i64::try_from(newest.saturating_add(1))
            .map_err(|_| bad("the sequence is too large".into()))?;
        if let Some(Item::Value(sequence)) = self.text.get_mut("sequence") {
            let decor = sequence.decor().clone();
            *sequence = next.into();
            *sequence.decor_mut() = decor;
        }
        let page = self.page()?;
        let signed = sign(&page, root, now)?;
        keys::replace(&self.path, self.text.to_string().as_bytes(), 0o600)?;
        keys::publish(out, signed.bytes())?;
        println!("Signed sequence {} into {}.", page.sequence, out.display());
        println!("A running relay takes it from its data directory on SIGHUP.");
        Ok(page)
    }

    /// The next root that it names.
    pub(super) fn next_root(&self) -> Result<Option<AgencyId>, Fault> {
        let next = self.page()?.next_root;
        next.map(|next| AgencyId::parse(&next)).transpose()
    }

    /// Names the next root.
    pub(super) fn name_next(&mut self, next: &AgencyId) {
        self.text.insert("next_root", value(next.to_text()));
    }

    /// The page of the next root, in its own folder: it names no next one yet.
    pub(super) fn moved(mut self, root: &Path) -> Self {
        self.text.remove("next_root");
        self.path = root.join("descriptor.toml");
        self
    }

    /// Adds a peer id to those that are revoked; false when it is there already.
    fn revoke(&mut self, peer: &PeerId) -> Result<bool, Fault> {
        self.revoke_text(peer.to_text())
    }

    /// Revokes whom another page revokes too.
    pub(super) fn revoke_as(&mut self, other: &Self) -> Result<(), Fault> {
        for peer in other.page()?.revoked {
            self.revoke_text(peer)?;
        }
        Ok(())
    }

    fn revoke_text(&mut self, text: String) -> Result<bool, Fault> {
        if self.page()?.revoked.contains(&text) {
            return Ok(false);
        }
        let revoked = self
            .text
            .entry("revoked")
            .or_insert(Item::Value(Array::new().into()));
        revoked
            .as_array_mut()
            .ok_or_else(|| bad("write `revoked` as a list: revoked = []".into()))?
            .push(text);
        Ok(true)
    }
}

/// The descriptor that a file holds, if it is this root's or names this root as the next one. It
/// may have ended: what it revokes and its sequence count all the same.
fn published(file: &Path, root: &Key) -> Option<Verified<Descriptor>> {
    let signed = Signed::from_bytes(std::fs::read(file).ok()?).ok()?;
    let there = chain::descriptor_once_given(&signed).ok()?;
    let id = AgencyId::of_root(&root.peer_id());
    let next = there.next_root.as_ref().map(|next| next.as_bytes());
    let counts = there.agency == id || next == Some(id.as_bytes());
    counts.then_some(there)
}

fn bad(what: String) -> Fault {
    Fault::new(Code::BadConfig).with(what)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(path)
        .map_err(|error| Fault::new(Code::BadFile).with(format!("{}: {error}", path.display())))
}

/// A time for people, in UTC.
pub(super) fn date(time: Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_secs())
        .map_or_else(|_| "out of range".into(), |time| time.to_string())
}

/// A name in all languages that it has.
fn all(names: &Names) -> String {
    let names = [&names.en, &names.fi, &names.sv];
    let names: Vec<&str> = names
        .into_iter()
        .map(String::as_str)
        .filter(|name| !name.is_empty())
        .collect();
    names.join(" / ")
}

impl What {
    pub(super) fn run(self, phrases: &Phrases) -> Result<(), Fault> {
        let now = Clock::start().now().utc;
        match self {
            Self::Show { file } => {
                let page = Signed::from_bytes(read(&file)?)
                    .and_then(|signed| chain::descriptor_as_given(&signed, now))
                    .map_err(|fault| fault.lies_in(file.display()))?;
                println!("{} ({})", all(&page.names), page.domain);
                println!("root id    {}", page.agency.to_text());
                println!(
                    "sequence   {}, signed {}, valid until {}",
                    page.sequence,
                    date(page.issued_at),
                    date(page.not_after)
                );
                page.relays
                    .iter()
                    .for_each(|relay| println!("relay      {relay}"));
                page.keys.iter().for_each(|key| {
                    let signs = match key.use_ {
                        KeyUse::Issuing => "credentials",
                        KeyUse::Pass => "passes",
                    };
                    println!("key        {} signs {signs}: {}", key.id, key.key.to_text())
                });
                page.desks.iter().for_each(|desk| {
                    let policy = match desk.address_policy {
                        AddressPolicy::Open => "open",
                        AddressPolicy::AfterAccept => "after-accept",
                        AddressPolicy::RelayOnly => "relay-only",
                    };
                    let marks = [
                        (desk.require_pq, ", post-quantum only"),
                        (desk.anonymous, ", anonymous"),
                        (desk.sensitive, ", sensitive"),
                    ];
                    let marks = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark);
                    println!(
                        "desk       {}: {}; addresses {policy}{}",
                        desk.id,
                        all(&desk.names),
                        marks.collect::<String>()
                    )
                });
                if let Some(next) = page.next_root {
                    println!("next root  {next}");
                }
                page.revoked
                    .iter()
                    .for_each(|peer| println!("revoked    {}", peer.to_text()));
                println!("The signature is good.");
            }
            Self::Sign { root, out } => {
                // a passphrase is asked for while nobody has to wait
                let key = phrases.open(&root.join("root.key"))?;
                let _held = super::hold(&root)?;
                Draft::read(&root)?.sign(&key, &out, now)?;
            }
            Self::Revoke { root, out, peer } => {
                let revoked = PeerId::parse(&peer)?;
                let key = phrases.open(&root.join("root.key"))?;
                let _held = super::hold(&root)?;
                let mut draft = Draft::read(&root)?;
                // it may not have come out, the last time
                let is_new = draft.revoke(&revoked)?;
                let page = draft.sign(&key, &out, now)?;
                if !is_new {
                    println!("{peer} was revoked already; the page is signed and published again.");
                }
                println!(
                    "Revoked so far: {}. An entry may go 30 days after it came: by then every credential has ended.",
                    page.revoked.len()
                );
            }
        }
        Ok(())
    }
}
