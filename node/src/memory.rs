//! DOOR: what this device remembers of agencies, one file for each web address: the root id
//! that was learnt at first contact, and the newest descriptor (`spec/documents.md`, section 7).
//! A file that the person names is its own memory.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use suora_protocol::documents;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{AgencyId, Hash};
use suora_protocol::time::Timestamp;

use crate::engine::ports::{Proof, Recalled};
use crate::fetch::Agency;
use crate::keys;

/// The most proofs of one kind that are kept.
const PROOFS_MAX: usize = 16;

/// The memory of one agency.
#[derive(Debug)]
pub struct Memory {
    folder: PathBuf,
    name: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    root: AgencyId,
    #[serde(with = "serde_bytes")]
    descriptor: Vec<u8>,
    /// In seconds since 1970.
    fetched: u64,
}

/// The folder of this person's data on this device, if there is one.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")))
        .map(|data| data.join("suora"))
}

impl Memory {
    /// The memory of an agency in this folder; of one in a file there is none.
    pub fn of(agency: &Agency, folder: PathBuf) -> Self {
        let name = match agency {
            Agency::File(_) => None,
            Agency::Url {
                root: Some(root), ..
            } => Some(root.to_text()),
            Agency::Url { url, root: None } => url.authority().map(|authority| {
                let plain = |c: char| match c {
                    'a'..='z' | '0'..='9' | '.' | '-' => c,
                    _ => '_',
                };
                let authority = authority.as_str().to_ascii_lowercase();
                // two authorities of one plain form stay two
                let hash = Hash::of(authority.as_bytes()).to_hex();
                let text: String = authority.chars().map(plain).take(80).collect();
                format!("{text}-{}", hash.get(..8).unwrap_or_default())
            }),
        };
        Self { folder, name }
    }

    /// Its file, which need not be there yet; none: it has no file.
    pub fn path(&self) -> Option<PathBuf> {
        let name = self.name.as_ref()?;
        Some(self.folder.join("agencies").join(name))
    }

    /// What a former run left. A file that cannot be read is [`Code::BadFile`]: to go on without it
    /// would be to trust whoever answers now.
    pub fn recall(&self) -> Result<Option<Recalled>, Fault> {
        let Some(path) = self.path() else {
            return Ok(None);
        };
        let bad = |what: &dyn std::fmt::Display| {
            Fault::new(Code::BadFile).with(format!(
                "{}: {what}; delete it only if you are sure of this agency's address",
                path.display()
            ))
        };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(bad(&error)),
        };
        parse(&bytes).map(Some).map_err(|fault| bad(&fault))
    }

    /// Remembers for the next run.
    pub fn keep(&self, recalled: &Recalled) -> Result<(), Fault> {
        let Some(path) = self.path() else {
            return Ok(());
        };
        let file = File {
            root: recalled.root,
            descriptor: recalled.bytes.to_vec(),
            fetched: u64::try_from(recalled.fetched.as_secs()).unwrap_or(0),
        };
        write(&path, &documents::encode(&file)?)
    }

    /// Keeps two documents that cannot both be true; the folder. None: as many of
    /// this kind as are kept are there already. Each kind has its own, so that free keys crowd no two pages out.
    pub fn prove(&self, proof: &Proof) -> Result<Option<PathBuf>, Fault> {
        let kind = self.folder.join("proof").join(proof.what.name());
        let hash = Hash::of(&proof.other).to_hex();
        let folder = kind.join(hash.get(..16).unwrap_or_default());
        let kept = match fs::read_dir(&kind) {
            Ok(entries) => entries.count(),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => {
                let what = format!("{}: {error}", kind.display());
                return Err(Fault::new(Code::BadFile).with(what));
            }
        };
        if kept >= PROOFS_MAX && !folder.exists() {
            return Ok(None);
        }
        write(&folder.join("known.cose"), &proof.known)?;
        write(&folder.join("other.cose"), &proof.other)?;
        Ok(Some(folder))
    }
}

/// What the file of a memory says.
pub fn parse(bytes: &[u8]) -> Result<Recalled, Fault> {
    let file: File = documents::decode(bytes)?;
    let fetched = i64::try_from(file.fetched)
        .map_err(|error| Fault::new(Code::Malformed).with(error.to_string()))?;
    Ok(Recalled {
        root: file.root,
        bytes: file.descriptor.into(),
        fetched: Timestamp::from_secs(fetched),
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| {
            Fault::new(Code::BadFile).with(format!("{}: {error}", folder.display()))
        })?;
    }
    keys::write_private(path, bytes)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::ports::Contradiction;

    fn recalled(root: u8) -> Recalled {
        Recalled {
            root: AgencyId::from_bytes([root; 32]),
            bytes: Bytes::from_static(b"a descriptor"),
            fetched: Timestamp::from_secs(1_800_000_000),
        }
    }

    // covers: SUORA-DOC-101
    #[test]
    fn each_web_address_has_a_memory_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let root = "11".repeat(32);
        let memories: Vec<Memory> = [
            "https://a.example",
            "https://b.example",
            "https://b.example:444",
            "https://b.example_444",
            &format!("http://a.example#root={root}"),
        ]
        .iter()
        .filter_map(|text| text.parse().ok())
        .map(|agency| Memory::of(&agency, dir.path().to_path_buf()))
        .collect();
        for (number, memory) in (0..).zip(&memories) {
            assert_eq!(memory.recall().unwrap(), None);
            memory.keep(&recalled(number)).unwrap();
        }
        for (number, memory) in (0..).zip(&memories) {
            assert_eq!(memory.recall().unwrap(), Some(recalled(number)));
        }
        assert!(memories.len() >= 4);
        // how the address of the page is written does not matter
        let same: Agency = "https://A.example/.well-known/suora".parse().unwrap();
        let same = Memory::of(&same, dir.path().to_path_buf());
        assert_eq!(same.recall().unwrap(), Some(recalled(0)));
    }

    #[test]
    fn a_file_has_none_and_a_damaged_one_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file: Agency = "agency.cose".parse().unwrap();
        let file = Memory::of(&file, dir.path().to_path_buf());
        file.keep(&recalled(1)).unwrap();
        assert_eq!(file.recall().unwrap(), None);
        let address: Agency = "https://a.example".parse().unwrap();
        let memory = Memory::of(&address, dir.path().to_path_buf());
        memory.keep(&recalled(1)).unwrap();
        let path = memory.path().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.pop();
        fs::write(&path, bytes).unwrap();
        assert_eq!(memory.recall().unwrap_err().code, Code::BadFile);
    }

    // covers: SUORA-DOC-104
    #[test]
    fn a_proof_is_both_documents() {
        let dir = tempfile::tempdir().unwrap();
        let file: Agency = "agency.cose".parse().unwrap();
        let memory = Memory::of(&file, dir.path().to_path_buf());
        let proof = Proof {
            known: Bytes::from_static(b"one page"),
            other: Bytes::from_static(b"another"),
            what: Contradiction::Page,
        };
        let folder = memory.prove(&proof).unwrap().unwrap();
        assert_eq!(fs::read(folder.join("known.cose")).unwrap(), proof.known);
        assert_eq!(fs::read(folder.join("other.cose")).unwrap(), proof.other);
    }

    // covers: SUORA-DOC-104
    #[test]
    fn guests_fill_no_disk_with_proofs_and_crowd_no_page_out() {
        let dir = tempfile::tempdir().unwrap();
        let file: Agency = "agency.cose".parse().unwrap();
        let memory = Memory::of(&file, dir.path().to_path_buf());
        let prove = |number: u8, what| {
            let proof = Proof {
                known: Bytes::from_static(b"one page"),
                other: Bytes::from(vec![number]),
                what,
            };
            memory.prove(&proof).unwrap()
        };
        let kept = (0..100).filter_map(|number| prove(number, Contradiction::Hello));
        assert_eq!(kept.count(), PROOFS_MAX);
        assert!(prove(0, Contradiction::Hello).is_some(), "it is there");
        for what in [Contradiction::Page, Contradiction::Invite] {
            assert!(prove(100, what).is_some(), "{what:?}");
        }
        let hellos = fs::read_dir(dir.path().join("proof/hello")).unwrap();
        assert_eq!(hellos.count(), PROOFS_MAX);
    }
}
