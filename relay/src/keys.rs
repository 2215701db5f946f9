//! DOOR: entropy and key files. A key file is one line of 64 hexadecimal digits, the
//! 32-byte secret of an Ed25519 key, readable by its owner only and written whole or not at all;
//! or, under a [`Passphrase`], an encrypted private key of PKCS #8 (scrypt, AES-256) as PEM,
//! which other tools read too.
#![expect(clippy::disallowed_methods, reason = "door: entropy")]

mod sealed;

use std::ffi::OsString;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{Key, PeerId};
use zeroize::Zeroizing;

pub use sealed::Passphrase;

/// Longest key file, in bytes.
const LONGEST: usize = 4_096;

/// 32 bytes of the system's entropy.
pub fn draw() -> Result<[u8; 32], Fault> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Fault::new(Code::Internal).with(format!("no entropy: {error}")))?;
    Ok(bytes)
}

/// A new key.
pub fn generate() -> Result<Key, Fault> {
    Ok(Key::from_secret(&Zeroizing::new(draw()?)))
}

/// Writes a file whole or not at all; `mode` as in chmod. An existing file is never overwritten.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Fault> {
    let part = write_part(path, bytes, mode).map_err(|error| not_written(path, &error))?;
    // a hard link never replaces what is there, as a rename would
    let linked = fs::hard_link(&part, path);
    let _ = fs::remove_file(&part);
    match linked.and_then(|()| sync_folder(path)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Fault::new(Code::BadFile)
            .with(format!(
                "{} exists already and is not overwritten",
                path.display()
            ))),
        written => written.map_err(|error| not_written(path, &error)),
    }
}

/// Writes a file whole or not at all, over an older one.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Fault> {
    write_part(path, bytes, mode)
        .and_then(|part| fs::rename(part, path))
        .and_then(|()| sync_folder(path))
        .map_err(|error| not_written(path, &error))
}

/// Makes one who works with what a folder holds of all who would, until dropped: it waits for
/// whoever is at it, and calls `waits` before. Whoever holds asks nobody anything. Parts of keys
/// that killed programs left there are removed: nobody else can be at them now.
pub fn hold(folder: &Path, waits: impl FnOnce()) -> Result<fs::File, Fault> {
    let failed = |error: std::io::Error| {
        Fault::new(Code::BadFile).with(format!("{}: {error}", folder.display()))
    };
    let held = fs::File::open(folder).map_err(failed)?;
    match held.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            waits();
            held.lock().map_err(failed)?;
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    for part in parts(folder).map_err(failed)? {
        fs::remove_file(part).map_err(failed)?;
    }
    Ok(held)
}

/// Parts of key files in a folder, each perhaps a whole secret: while nobody writes there, programs
/// that were killed left them.
pub fn parts(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_part(&entry.file_name().to_string_lossy()) {
            parts.push(entry.path());
        }
    }
    Ok(parts)
}

/// Whether [`write_part`] gives such a name to a part of a file that is called as a key is.
fn is_part(name: &str) -> bool {
    let random = name
        .strip_suffix(".part")
        .and_then(|it| it.rsplit_once('.'));
    random.is_some_and(|(of, random)| {
        of.starts_with('.')
            && of.ends_with(".key")
            && random.len() == 16
            && random.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// Refuses, as [`Code::BadFile`], a place for a signed document where a key or settings are:
/// somebody named the wrong file.
pub fn refuse_over(path: &Path) -> Result<(), Fault> {
    let what = match peek(path)? {
        Some(_) => "a key",
        None if path.extension().is_some_and(|end| end == "toml") => "settings",
        None => return Ok(()),
    };
    Err(Fault::new(Code::BadFile).with(format!(
        "{} holds {what} and is not overwritten: name another file with --out",
        path.display()
    )))
}

/// Writes a signed document, for everybody to read, over an older one. Where it must not be
/// ([`refuse_over`]) is asked before anything is signed, and here again.
pub fn publish(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    refuse_over(path)?;
    replace(path, bytes, 0o644)
}

fn not_written(path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(Code::BadFile).with(format!("{} cannot be written: {error}", path.display()))
}

/// Writes a new file beside `path`, and waits until the disk has it. Its name is of this call
/// alone: whoever writes at the same time has a part of its own.
fn write_part(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<PathBuf> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let random = getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()))?;
    let mut part = OsString::from(".");
    part.push(name);
    part.push(format!(".{:016x}.part", random));
    let part = path.with_file_name(part);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)?;
    let written = file
        .write_all(bytes)
        // what is to be given away is open whatever the process keeps to itself
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all());
    match written {
        Ok(()) => Ok(part),
        Err(error) => {
            let _ = fs::remove_file(&part);
            Err(error)
        }
    }
}

/// Waits until the disk has the folder's new entry.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    fs::File::open(folder(path))?.sync_all()
}

/// Where a file lies.
pub fn folder(path: &Path) -> &Path {
    let folder = path.parent();
    let named = folder.filter(|folder| !folder.as_os_str().is_empty());
    named.unwrap_or(Path::new("."))
}

/// Writes a key file.
pub fn save(path: &Path, key: &Key) -> Result<(), Fault> {
    write_new(path, plain(key).as_bytes(), 0o600)
}

/// Writes a key file under a passphrase.
pub fn seal(path: &Path, key: &Key, passphrase: &Passphrase) -> Result<(), Fault> {
    write_new(path, sealed::write(key, passphrase)?.as_bytes(), 0o600)
}

/// Writes a key file under another passphrase, or none, over the old one.
pub fn reseal(path: &Path, key: &Key, passphrase: Option<&Passphrase>) -> Result<(), Fault> {
    let text = match passphrase {
        Some(passphrase) => sealed::write(key, passphrase)?,
        None => plain(key),
    };
    replace(path, text.as_bytes(), 0o600)
}

fn plain(key: &Key) -> Zeroizing<String> {
    let digits = key
        .secret()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    Zeroizing::new(digits + "\n")
}

/// Reads a key file. One that is damaged or open to others is [`Code::BadKeyFile`], and so is one
/// under a passphrase.
pub fn load(path: &Path) -> Result<Key, Fault> {
    open(path, || {
        Err(Fault::new(Code::BadKeyFile).with(format!(
            "{}: it is under a passphrase, which nobody can be asked for here",
            path.display()
        )))
    })
}

/// Reads a key file; `passphrase` is asked only if it is under one. A wrong passphrase is
/// [`Code::WrongPassphrase`].
pub fn open(
    path: &Path,
    passphrase: impl FnOnce() -> Result<Passphrase, Fault>,
) -> Result<Key, Fault> {
    let bad =
        |what: String| Fault::new(Code::BadKeyFile).with(format!("{}: {what}", path.display()));
    let text = private(path).map_err(bad)?;
    if sealed::is(&text) {
        return sealed::read(&text, &passphrase()?).map_err(|fault| match fault.code {
            Code::BadKeyFile => bad(fault.detail.unwrap_or_default()),
            code => Fault::new(code).with(path.display().to_string()),
        });
    }
    parse(&text).ok_or_else(|| {
        bad("damaged: a key file is one line of 64 hexadecimal digits, or an encrypted private key; bring back a copy".into())
    })
}

/// The bytes of a file that only its owner can read; an error says what is wrong with it.
pub fn private(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("not a file".into());
    }
    if meta.permissions().mode() & 0o077 != 0 {
        return Err("others can read it; make it private with chmod 600".into());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    file.take(LONGEST as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() > LONGEST {
        return Err("too long for a key".into());
    }
    Ok(bytes)
}

/// What a file holds of a key, whoever may read it: to find keys where none should be.
#[derive(Debug)]
pub enum Found {
    /// The key of this peer id.
    Key(PeerId),
    /// Some key under a passphrase.
    Sealed,
}

/// Looks for a key in a file. One that cannot be read is [`Code::BadFile`]: nobody knows what it
/// holds. One that is not there, or is longer than a key, holds none.
pub fn peek(path: &Path) -> Result<Option<Found>, Fault> {
    let text = match short(path) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let what = format!("{} cannot be read: {error}", path.display());
            return Err(Fault::new(Code::BadFile).with(what));
        }
    };
    if sealed::is(&text) {
        return Ok(Some(Found::Sealed));
    }
    let key = parse(&text).or_else(|| sealed::unsealed(&text));
    Ok(key.map(|key| Found::Key(key.peer_id())))
}

/// The bytes of a file that is no longer than a key file.
fn short(path: &Path) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    let meta = fs::metadata(path)?;
    if !meta.is_file() || meta.len() > LONGEST as u64 {
        return Ok(None);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    // its length may be another by now
    fs::File::open(path)?
        .take(LONGEST as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok((bytes.len() <= LONGEST).then_some(bytes))
}

/// One line of 64 hexadecimal digits.
fn parse(text: &[u8]) -> Option<Key> {
    let digits = text.trim_ascii();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut secret = Zeroizing::new([0u8; 32]);
    for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(Key::from_secret(&secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_private_and_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        let key = generate().unwrap();
        save(&path, &key).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(load(&path).unwrap().peer_id(), key.peer_id());
        assert_eq!(save(&path, &key).unwrap_err().code, Code::BadFile);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(load(&path).unwrap_err().code, Code::BadKeyFile);
        let found = peek(&path).unwrap();
        assert!(matches!(found, Some(Found::Key(found)) if found == key.peer_id()));
    }

    // covers: SUORA-SEC-131
    #[test]
    fn what_cannot_be_read_is_not_taken_for_no_key() {
        let dir = tempfile::tempdir().unwrap();
        // a file that no account can read at its beginning
        let unread = dir.path().join("unread");
        std::os::unix::fs::symlink("/proc/self/mem", &unread).unwrap();
        assert_eq!(peek(&unread).unwrap_err().code, Code::BadFile);
        assert_eq!(refuse_over(&unread).unwrap_err().code, Code::BadFile);
        let nothing = dir.path().join("nothing");
        assert!(peek(&nothing).unwrap().is_none());
        let long = dir.path().join("long");
        fs::write(&long, "1".repeat(LONGEST + 1)).unwrap();
        assert!(peek(&long).unwrap().is_none());
        assert!(refuse_over(&long).is_ok());
    }

    // covers: SUORA-SEC-102
    #[test]
    fn keys_that_killed_programs_left_half_way_are_removed_by_who_holds_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let key = generate().unwrap();
        save(&dir.path().join("root.key"), &key).unwrap();
        let left = write_part(&dir.path().join("root.key"), b"half", 0o600).unwrap();
        assert_eq!(parts(dir.path()).unwrap(), [left]);
        let others = [
            ".descriptor.toml.0123456789abcdef.part",
            ".root.key.part",
            "root.key.0123456789abcdef.part",
        ];
        for name in others {
            fs::write(dir.path().join(name), "theirs").unwrap();
        }
        drop(hold(dir.path(), || {}).unwrap());
        assert!(parts(dir.path()).unwrap().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
        assert_eq!(
            load(&dir.path().join("root.key")).unwrap().peer_id(),
            key.peer_id()
        );
    }

    // covers: SUORA-SEC-102
    #[test]
    fn of_many_who_make_one_key_file_one_does() {
        for _ in 0..30 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.key");
            let begin = std::sync::Barrier::new(8);
            let made: Vec<PeerId> = std::thread::scope(|scope| {
                let make = || {
                    let key = generate().unwrap();
                    begin.wait();
                    save(&path, &key).map(|()| key.peer_id())
                };
                let all: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
                all.into_iter()
                    .filter_map(|one| one.join().unwrap().ok())
                    .collect()
            });
            assert_eq!(made, [load(&path).unwrap().peer_id()]);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_damaged_key_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("short", "ab"),
            ("sign", &"+1".repeat(32)),
            ("word", &"xy".repeat(32)),
        ] {
            let path = dir.path().join(name);
            replace(&path, text.as_bytes(), 0o600).unwrap();
            assert_eq!(load(&path).unwrap_err().code, Code::BadKeyFile, "{name}");
        }
    }
}
