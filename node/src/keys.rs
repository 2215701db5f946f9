//! DOOR: entropy, key files and other files that belong to one person. A key file is one
//! line of 64 hexadecimal digits, the device's 32-byte seed from which all its keys come
//! (`spec/documents.md`, section 2); only its owner can read it.
#![expect(clippy::disallowed_methods, reason = "door: entropy")]

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Seed;
use zeroize::Zeroizing;

/// Bytes of a key file: 64 digits, one line feed and room for a carriage return.
const KEY_FILE_MAX: usize = 66;

/// 32 bytes of the system's entropy. A system that gives none is [`Code::Internal`].
pub fn draw() -> Result<[u8; 32], Fault> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Fault::new(Code::Internal).with(format!("no entropy: {error}")))?;
    Ok(bytes)
}

/// Reads a key file. One that is missing, damaged or open to others is [`Code::BadKeyFile`],
/// with what to do about it.
pub fn load(path: &Path) -> Result<Seed, Fault> {
    let bad = |what: &str| Fault::new(Code::BadKeyFile).with(format!("{}: {what}", path.display()));
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => bad("there is no such file; `suora keygen` makes one"),
        _ => bad(&error.to_string()),
    })?;
    let meta = file.metadata().map_err(|error| bad(&error.to_string()))?;
    if !meta.is_file() {
        return Err(bad("not a file"));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(bad(
            "others can read it; make it private with `chmod 600`, or make a new one if others may have read it",
        ));
    }
    // one byte of room more, so that a longer file shows
    let mut text = Zeroizing::new(Vec::with_capacity(KEY_FILE_MAX + 1));
    file.take(KEY_FILE_MAX as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|error| bad(&error.to_string()))?;
    parse(&text)
        .ok_or_else(|| bad("damaged: a key file is one line of 64 hexadecimal digits; bring back a copy, or make a new one with `suora keygen`"))
}

fn parse(text: &[u8]) -> Option<Seed> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    let mut seed = Zeroizing::new([0u8; 32]);
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let digit = char::from(*digit).to_digit(16)?;
            *byte = *byte << 4 | u8::try_from(digit).ok()?;
        }
    }
    Some(Seed::from_bytes(*seed))
}

/// Makes a new seed and its key file, whole or not at all. A file that exists is never
/// overwritten: that is [`Code::BadFile`].
pub fn create(path: &Path) -> Result<Seed, Fault> {
    let seed = Seed::from_bytes(*Zeroizing::new(draw()?));
    let mut line = Zeroizing::new(String::with_capacity(KEY_FILE_MAX));
    for byte in seed.as_bytes() {
        for digit in [byte >> 4, byte & 15] {
            line.extend(char::from_digit(digit.into(), 16));
        }
    }
    line.push('\n');
    let part = write_part(path, line.as_bytes()).map_err(|error| not_written(path, &error))?;
    // a hard link never replaces what is there, as a rename would
    let linked = fs::hard_link(&part, path);
    let _ = fs::remove_file(&part);
    match linked.and_then(|()| sync_folder(path)) {
        Ok(()) => Ok(seed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Fault::new(Code::BadFile).with(format!(
                "{} exists already and is never overwritten; name another file with --out",
                path.display()
            )))
        }
        Err(error) => Err(not_written(path, &error)),
    }
}

/// Writes a file for its owner alone, whole or not at all; replaces an older one.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    write_part(path, bytes)
        .and_then(|part| fs::rename(part, path))
        .and_then(|()| sync_folder(path))
        .map_err(|error| not_written(path, &error))
}

fn not_written(path: &Path, error: &io::Error) -> Fault {
    Fault::new(Code::BadFile).with(format!("{} cannot be written: {error}", path.display()))
}

/// Writes a new private file beside `path`, and waits until the disk has it. Its name is of this
/// call alone: whoever writes at the same time has a part of its own.
fn write_part(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let random = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    let mut part = OsString::from(".");
    part.push(name);
    part.push(format!(".{:016x}.part", random));
    let part = path.with_file_name(part);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)?;
    match file.write_all(bytes).and_then(|()| file.sync_all()) {
        Ok(()) => Ok(part),
        Err(error) => {
            let _ = fs::remove_file(&part);
            Err(error)
        }
    }
}

/// A part of this file that a killed program left beside it, perhaps a whole secret.
pub fn part_of(path: &Path) -> Option<PathBuf> {
    let begins = format!(".{}.", path.file_name()?.to_string_lossy());
    let is_part = |name: &str| {
        let random = name.strip_prefix(&begins)?.strip_suffix(".part")?;
        let is_random = random.len() == 16 && random.bytes().all(|it| it.is_ascii_hexdigit());
        is_random.then_some(())
    };
    let entries = fs::read_dir(folder(path)).ok()?;
    let mut parts = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        is_part(&name.to_string_lossy()).is_some()
    });
    parts.next().map(|entry| entry.path())
}

/// Where a file lies.
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Waits until the disk has the folder's new entry.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    // covers: SUORA-SEC-002
    #[test]
    fn a_new_key_file_is_private_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("officer.key");
        let seed = create(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(load(&path).unwrap().as_bytes(), seed.as_bytes());
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no part stays"
        );
    }

    #[test]
    fn a_key_file_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let seed = create(&path).unwrap();
        assert_eq!(create(&path).unwrap_err().code, Code::BadFile);
        assert_eq!(load(&path).unwrap().as_bytes(), seed.as_bytes());
    }

    #[test]
    fn what_a_killed_program_left_behind_does_not_hinder() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join(".key.0123456789abcdef.part");
        fs::write(&part, "half").unwrap();
        let key = dir.path().join("key");
        assert!(create(&key).is_ok());
        // and is found
        assert_eq!(part_of(&key), Some(part));
        assert_eq!(part_of(&dir.path().join("other")), None);
    }

    // covers: SUORA-SEC-102
    #[test]
    fn of_many_who_make_one_key_file_one_does_and_says_which_key() {
        for _ in 0..30 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("key");
            let begin = std::sync::Barrier::new(8);
            let made: Vec<Seed> = std::thread::scope(|scope| {
                let make = || {
                    begin.wait();
                    create(&path)
                };
                let all: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
                all.into_iter()
                    .filter_map(|one| match one.join().unwrap() {
                        Ok(seed) => Some(seed),
                        Err(fault) => {
                            assert!(fault.to_string().contains("never overwritten"), "{fault}");
                            None
                        }
                    })
                    .collect()
            });
            assert_eq!(made.len(), 1);
            assert_eq!(load(&path).unwrap().as_bytes(), made[0].as_bytes());
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn of_many_who_replace_a_file_the_last_one_stands_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory");
        std::thread::scope(|scope| {
            for byte in 0..8u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..10 {
                        write_private(path, &[byte; 30_000]).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 30_000 && bytes.iter().all(|byte| *byte == bytes[0]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    // covers: SUORA-SEC-002
    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path).unwrap();
        for open in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let fault = load(&path).unwrap_err();
            assert_eq!(fault.code, Code::BadKeyFile);
            assert!(fault.to_string().contains("chmod 600"), "{fault}");
        }
    }

    #[test]
    fn a_damaged_or_missing_key_file_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let good = "0f".repeat(32);
        for bad in [
            String::new(),
            good[1..].to_string(),
            format!("{good}0"),
            format!("{good}\n\n"),
            format!("+{}", &good[1..]),
            format!("{}ä", &good[2..]),
            format!("{good}\n{good}"),
        ] {
            write_private(&path, bad.as_bytes()).unwrap();
            let fault = load(&path).unwrap_err();
            assert_eq!(fault.code, Code::BadKeyFile, "{bad:?}");
            assert!(fault.to_string().contains("suora keygen"), "{fault}");
        }
        for good in [good.clone(), format!("{good}\n"), format!("{good}\r\n")] {
            write_private(&path, good.as_bytes()).unwrap();
            assert_eq!(load(&path).unwrap().as_bytes(), &[0x0f; 32]);
        }
        let missing = load(&dir.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("suora keygen"), "{missing}");
    }

    #[test]
    fn a_private_file_replaces_an_open_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
