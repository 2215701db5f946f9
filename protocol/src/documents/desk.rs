//! A desk, as the agency's descriptor describes it (`spec/documents.md`, section 4).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::short;
use crate::fault::{Code, Fault};
use crate::limits;

/// A desk's name within its agency: 1 to 64 of `a–z 0–9 -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeskId(String);

impl DeskId {
    /// Checks the form; anything else is [`Code::BadConfig`].
    pub fn new(text: &str) -> Result<Self, Fault> {
        let fits = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(Fault::new(Code::BadConfig).with("a desk is named by 1 to 64 of a-z 0-9 -"))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for DeskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DeskId {
    type Error = Fault;
    fn try_from(text: String) -> Result<Self, Fault> {
        Self::new(&text)
    }
}

impl From<DeskId> for String {
    fn from(desk: DeskId) -> Self {
        desk.0
    }
}

/// A name for people, in three languages.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Names {
    /// English.
    pub en: String,
    /// Finnish.
    pub fi: String,
    /// Swedish.
    pub sv: String,
}

impl Names {
    /// All three.
    pub fn texts(&self) -> [&String; 3] {
        [&self.en, &self.fi, &self.sv]
    }

    /// The name in a language (`fi`, `sv`; everything else reads English).
    pub fn get(&self, language: &str) -> &str {
        match language {
            "fi" if !self.fi.is_empty() => &self.fi,
            "sv" if !self.sv.is_empty() => &self.sv,
            _ => &self.en,
        }
    }
}

/// Which addresses of an end the other one learns, and when (`spec/setup.md`, section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressPolicy {
    /// Direct addresses stand in the invite.
    Open,
    /// Direct addresses are exchanged once the officer accepts.
    AfterAccept,
    /// Neither end learns the other's address.
    RelayOnly,
}

/// A desk of an agency.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Desk {
    /// Its name in messages.
    pub id: DeskId,
    /// Its name for people.
    pub names: Names,
    /// Service kind, `S1` to `S4`.
    pub kind: String,
    /// Channels it serves: `chat`, `voice`, `video`.
    pub channels: Vec<String>,
    /// Languages it serves (BCP 47).
    pub languages: Vec<String>,
    /// IANA time zone of its hours.
    pub time_zone: String,
    /// How long a ticket outlives its owner's link, in seconds (0 to 3600).
    pub grace: u32,
    /// Which addresses the ends learn.
    pub address_policy: AddressPolicy,
    /// Whether only the hybrid post-quantum group is good enough.
    pub require_pq: bool,
    /// Whether citizens come with a fresh key each time.
    pub anonymous: bool,
    /// Whether the rhythm of speech is hidden from observers.
    pub sensitive: bool,
}

impl Desk {
    /// A video desk with the defaults of `spec/documents.md`, section 4.
    pub fn new(id: DeskId, names: Names) -> Self {
        Self {
            id,
            names,
            kind: "S2".into(),
            channels: ["chat", "voice", "video"].map(String::from).to_vec(),
            languages: ["en", "fi", "sv"].map(String::from).to_vec(),
            time_zone: "Europe/Helsinki".into(),
            grace: u32::try_from(limits::GRACE.as_secs()).unwrap_or(120),
            address_policy: AddressPolicy::Open,
            require_pq: false,
            anonymous: false,
            sensitive: false,
        }
    }

    /// Whether its texts and lists keep their bounds.
    pub(super) fn bounded(&self) -> bool {
        let texts = [&self.kind, &self.time_zone].into_iter();
        let lists = self.channels.iter().chain(&self.languages);
        self.channels.len() <= limits::ITEMS_MAX
            && self.languages.len() <= limits::ITEMS_MAX
            && short(texts.chain(lists).chain(self.names.texts()))
    }

    /// The grace of its tickets, bounded to an hour.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(u64::from(self.grace.min(3_600)))
    }
}
