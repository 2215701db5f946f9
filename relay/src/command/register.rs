//! The register beside an issuing key: whom it has signed a credential for, so that all can
//! be renewed in one go. It names people, so it is private like the key. Whoever changes it holds
//! its folder meanwhile ([`keys::hold`]).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use suora_protocol::documents::{DeskId, Role};
use suora_protocol::fault::{Code, Fault};

use crate::keys;

/// One person in the register.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The peer id of the person's node.
    pub peer: String,
    /// As what.
    pub role: Role,
    /// The name that citizens see.
    pub name: String,
    /// Where.
    pub desks: Vec<DeskId>,
    /// How long each credential holds, in days.
    pub days: i64,
    /// Until when the last one holds.
    pub until: String,
}

/// All to whom an issuing key gave a credential.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// By name, as they came.
    #[serde(default)]
    pub person: Vec<Person>,
}

fn path(issuing: &Path) -> PathBuf {
    issuing.join("register.toml")
}

impl Register {
    /// Reads the register of an issuing folder; a folder without one has an empty one.
    pub fn read(issuing: &Path) -> Result<Self, Fault> {
        let path = path(issuing);
        let bad =
            |what: String| Fault::new(Code::BadFile).with(format!("{}: {what}", path.display()));
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map_err(bad),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(bad(error.to_string())),
        }
    }

    /// Reads its text, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// Writes it back, whole or not at all.
    pub fn write(&self, issuing: &Path) -> Result<(), Fault> {
        let text = toml::to_string_pretty(self)
            .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))?;
        let text = format!(
            "# Whom issuing.key has signed credentials for: `issue renew` reads it, `issue` writes it.\n\
             # It belongs into your backup, beside the key.\n\n{text}"
        );
        keys::replace(&path(issuing), text.as_bytes(), 0o600)
    }

    /// Puts a person in, in place of an older entry of the same node and role.
    pub fn put(&mut self, person: Person) {
        let same = |old: &&mut Person| old.peer == person.peer && old.role == person.role;
        match self.person.iter_mut().find(same) {
            Some(old) => *old = person,
            None => self.person.push(person),
        }
    }

    /// Takes a node out; whether it was there.
    pub fn forget(&mut self, peer: &str) -> bool {
        let before = self.person.len();
        self.person.retain(|person| person.peer != peer);
        self.person.len() < before
    }
}
