//! DOOR: what this device remembers of agencies, one file for each web address and for each root
//! of a file that the person names: the root id that was learnt at first contact, and the newest
//! descriptor (`spec/documents.md`, section 7).

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use suora_protocol::documents::{self, Signed, chain};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{AgencyId, Hash};
use suora_protocol::time::Timestamp;

use crate::engine::ports::{Proof, Recalled};
use crate::engine::trust;
use crate::fetch::{Agency, SIZE_MAX};
use crate::keys;

/// The most agencies that are remembered: at each call all are held against the page.
const AGENCIES_MAX: usize = 1_024;
/// The most proofs of one kind that are kept.
const PROOFS_MAX: usize = 16;

/// The memory of one agency.
#[derive(Debug)]
pub struct Memory {
    folder: PathBuf,
    name: Option<String>,
    /// The agency is a file's: its root names its memory, and the file is read each time.
    given: bool,
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
    /// The memory of an agency in this folder; of a file that holds no descriptor there is none.
    pub fn of(agency: &Agency, folder: PathBuf) -> Self {
        let name = match agency {
            Agency::File(path) => root_of(path).map(|root| given(&root)),
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
        Self {
            folder,
            name,
            given: matches!(agency, Agency::File(_)),
        }
    }

    /// Its file, which need not be there yet; none: it has no file.
    pub fn path(&self) -> Option<PathBuf> {
        Some(self.agencies().join(self.name.as_ref()?))
    }

    fn agencies(&self) -> PathBuf {
        self.folder.join("agencies")
    }

    /// What a former run left. A file that cannot be read is [`Code::BadFile`]: to go on without it
    /// would be to trust whoever answers now.
    pub fn recall(&self) -> Result<Option<Recalled>, Fault> {
        let Some(path) = self.path() else {
            return Ok(None);
        };
        let mut recalled = load(&path)?;
        // a file is at hand: what it holds now counts, not what it held within the hour
        if let Some(recalled) = recalled.as_mut().filter(|_| self.given) {
            recalled.fetched = Timestamp::default();
        }
        Ok(recalled)
    }

    /// What is remembered of agencies, this one or others, under all other addresses. More than can
    /// be held against a page at each call are [`Code::BadFile`], and so is one that cannot be
    /// read: it may be the one whose domain a stranger takes.
    pub fn others(&self) -> Result<Vec<Recalled>, Fault> {
        let all = self.beside(self.path().as_deref())?.into_iter();
        Ok(all.map(|(_, recalled)| recalled).collect())
    }

    /// All memories but this.
    fn beside(&self, own: Option<&Path>) -> Result<Vec<(PathBuf, Recalled)>, Fault> {
        let folder = self.agencies();
        let bad =
            |what: String| Fault::new(Code::BadFile).with(format!("{}: {what}", folder.display()));
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(bad(error.to_string())),
        };
        let mut others = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| bad(error.to_string()))?;
            // another program is writing it
            let is_part = entry.file_name().to_string_lossy().starts_with('.');
            let path = entry.path();
            if is_part || own == Some(&path) {
                continue;
            }
            if others.len() >= AGENCIES_MAX {
                return Err(bad(format!(
                    "more than {AGENCIES_MAX} agencies; delete those that you do not need"
                )));
            }
            if let Some(recalled) = load(&path)? {
                others.push((path, recalled));
            }
        }
        Ok(others)
    }

    /// Remembers for the next run; under other addresses too, where an older page is of this root, or
    /// names it as its next: so none of them contradicts what follows.
    pub fn keep(&self, recalled: &Recalled) -> Result<(), Fault> {
        let path = match self.given {
            true => self.agencies().join(given(&recalled.root)),
            false => match self.path() {
                Some(path) => path,
                None => return Ok(()),
            },
        };
        let Ok(page) = trust::read(recalled) else {
            return store(&path, recalled);
        };
        // another program of this person may know more, the next root even
        let knows_more = |there: &Recalled| {
            trust::read(there).is_ok_and(|there| {
                !trust::continues(&page, &there) || there.sequence > page.sequence
            })
        };
        if !load(&path)?.is_some_and(|there| knows_more(&there)) {
            store(&path, recalled)?;
        }
        for (other, known) in self.beside(Some(&path))? {
            let is_older = trust::read(&known).is_ok_and(|known| {
                trust::continues(&page, &known) && page.sequence > known.sequence
            });
            if is_older {
                // when that source had it is another matter
                let fetched = known.fetched;
                let recalled = Recalled {
                    fetched,
                    ..recalled.clone()
                };
                store(&other, &recalled)?;
            }
        }
        Ok(())
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

/// The name of the memory of a file's root.
fn given(root: &AgencyId) -> String {
    format!("file-{}", root.to_text())
}

/// The root of the descriptor in a file, whatever its time.
fn root_of(path: &Path) -> Option<AgencyId> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(SIZE_MAX as u64).read_to_end(&mut bytes).ok()?;
    let page = Signed::from_bytes(bytes).and_then(|signed| chain::descriptor_once_given(&signed));
    Some(page.ok()?.agency)
}

fn load(path: &Path) -> Result<Option<Recalled>, Fault> {
    let bad = |what: &dyn std::fmt::Display| {
        Fault::new(Code::BadFile).with(format!(
            "{}: {what}; delete it only if you are sure of this agency's address",
            path.display()
        ))
    };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(bad(&error)),
    };
    parse(&bytes).map(Some).map_err(|fault| bad(&fault))
}

fn store(path: &Path, recalled: &Recalled) -> Result<(), Fault> {
    let file = File {
        root: recalled.root,
        descriptor: recalled.bytes.to_vec(),
        fetched: u64::try_from(recalled.fetched.as_secs()).unwrap_or(0),
    };
    write(path, &documents::encode(&file)?)
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
    use suora_protocol::identity::Key;

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
    fn a_file_that_is_no_page_has_none_and_a_damaged_memory_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file: Agency = "agency.cose".parse().unwrap();
        let file = Memory::of(&file, dir.path().to_path_buf());
        assert_eq!((file.path(), file.recall().unwrap()), (None, None));
        let address: Agency = "https://a.example".parse().unwrap();
        let memory = Memory::of(&address, dir.path().to_path_buf());
        memory.keep(&recalled(1)).unwrap();
        let path = memory.path().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.pop();
        fs::write(&path, bytes).unwrap();
        assert_eq!(memory.recall().unwrap_err().code, Code::BadFile);
        // nor by who asks for another agency
        assert_eq!(file.others().unwrap_err().code, Code::BadFile);
    }

    /// A page of this root, as it would be remembered.
    fn page(root: u8, sequence: u64, next: Option<u8>) -> Recalled {
        let key = |seed: u8| Key::from_secret(&[seed; 32]);
        let (root, heir) = (key(root), next.map(key));
        let mut page = trust::tests::page(&root, sequence);
        let id = |heir: Key| AgencyId::of_root(&heir.peer_id());
        page.next_root = heir.map(|heir| Hash::from_bytes(*id(heir).as_bytes()));
        Recalled {
            root: page.agency,
            bytes: documents::sign(&page, &root).unwrap().bytes().clone(),
            fetched: page.issued_at,
        }
    }

    // covers: SUORA-DOC-103
    #[test]
    fn of_a_file_the_newest_page_is_remembered_under_its_root() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agency.cose");
        let of = |held: &Recalled| {
            fs::write(&path, &held.bytes).unwrap();
            let file: Agency = path.to_str().unwrap().parse().unwrap();
            Memory::of(&file, dir.path().to_path_buf())
        };
        let (old, new) = (page(1, 1, None), page(1, 2, None));
        of(&new).keep(&new).unwrap();
        // the older file again: read anew, and held against the newer page
        let known = of(&old).recall().unwrap().unwrap();
        assert_eq!((known.root, &known.bytes), (new.root, &new.bytes));
        assert_eq!(known.fetched, Timestamp::default());
        // another root's file is another agency's
        let other = of(&page(2, 1, None));
        assert_eq!(other.recall().unwrap(), None);
        assert_eq!(other.others().unwrap(), [new]);
    }

    // covers: SUORA-DOC-106
    #[test]
    fn all_addresses_of_an_agency_remember_the_page_that_any_of_them_brought() {
        let dir = tempfile::tempdir().unwrap();
        let root = page(1, 1, None).root.to_text();
        let of = |text: &str| {
            let agency: Agency = text.parse().unwrap();
            Memory::of(&agency, dir.path().to_path_buf())
        };
        let link = of(&format!("https://a.example/x#root={root}"));
        let (domain, stranger) = (of("https://agency.example"), of("https://b.example"));
        link.keep(&page(1, 1, None)).unwrap();
        stranger.keep(&page(9, 1, None)).unwrap();
        // by the domain the root changes twice while nobody follows the link
        for brought in [page(1, 2, Some(2)), page(2, 3, Some(3)), page(3, 4, None)] {
            domain.keep(&brought).unwrap();
        }
        let bytes = |memory: &Memory| memory.recall().unwrap().unwrap().bytes;
        assert_eq!(bytes(&link), page(3, 4, None).bytes);
        // and no older page takes its place, nor another root's
        link.keep(&page(1, 1, None)).unwrap();
        assert_eq!(bytes(&link), page(3, 4, None).bytes);
        assert_eq!(bytes(&domain), page(3, 4, None).bytes);
        assert_eq!(bytes(&stranger), page(9, 1, None).bytes);
    }

    #[test]
    fn of_a_file_whose_root_changed_twice_in_one_run_one_page_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agency.cose");
        fs::write(&path, page(1, 1, None).bytes).unwrap();
        let agency: Agency = path.to_str().unwrap().parse().unwrap();
        let memory = Memory::of(&agency, dir.path().to_path_buf());
        for taken in [page(1, 2, Some(2)), page(2, 3, Some(3)), page(3, 4, None)] {
            memory.keep(&taken).unwrap();
        }
        let all = memory.beside(None).unwrap();
        assert!(
            all.iter()
                .all(|(_, recalled)| recalled.bytes == page(3, 4, None).bytes)
        );
    }

    #[test]
    fn more_agencies_than_can_be_compared_are_said_to_be_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let address: Agency = "https://a.example".parse().unwrap();
        let memory = Memory::of(&address, dir.path().to_path_buf());
        memory.keep(&recalled(1)).unwrap();
        let bytes = fs::read(memory.path().unwrap()).unwrap();
        for number in 0..AGENCIES_MAX {
            fs::write(memory.agencies().join(number.to_string()), &bytes).unwrap();
        }
        assert_eq!(memory.others().unwrap().len(), AGENCIES_MAX);
        // what a killed program left half-way is none
        fs::write(memory.agencies().join(".a.0123456789abcdef.part"), "").unwrap();
        assert_eq!(memory.others().unwrap().len(), AGENCIES_MAX);
        fs::write(memory.agencies().join("more"), &bytes).unwrap();
        assert_eq!(memory.others().unwrap_err().code, Code::BadFile);
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
