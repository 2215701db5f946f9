//! DOOR: entropy and key files. A key file is one line of 64 hexadecimal digits, the
//! 32-byte secret of an Ed25519 key, readable by its owner only and written whole or not at all.
#![expect(clippy::disallowed_methods, reason = "door: entropy")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Key;
use zeroize::Zeroizing;

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
    if path.exists() {
        return Err(Fault::new(Code::BadFile).with(format!(
            "{} exists already and is not overwritten",
            path.display()
        )));
    }
    replace(path, bytes, mode)
}

/// Writes a file whole or not at all, over an older one.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Fault> {
    let failed = |error: std::io::Error| {
        Fault::new(Code::BadFile).with(format!("{} cannot be written: {error}", path.display()))
    };
    let part = path.with_extension("part");
    let _ = fs::remove_file(&part);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&part)
        .map_err(failed)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&part, path).map_err(failed)
}

/// Writes a key file.
pub fn save(path: &Path, key: &Key) -> Result<(), Fault> {
    let line: Zeroizing<String> = Zeroizing::new(
        key.secret()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .chain(["\n".into()])
            .collect(),
    );
    write_new(path, line.as_bytes(), 0o600)
}

/// Reads a key file. One that is damaged or open to others is [`Code::BadKeyFile`].
pub fn load(path: &Path) -> Result<Key, Fault> {
    let bad =
        |what: String| Fault::new(Code::BadKeyFile).with(format!("{}: {what}", path.display()));
    let mode = fs::metadata(path)
        .map_err(|error| bad(error.to_string()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(bad(
            "others can read it; make it private with chmod 600".into()
        ));
    }
    let text = Zeroizing::new(fs::read(path).map_err(|error| bad(error.to_string()))?);
    parse(&text).ok_or_else(|| bad("a key file is one line of 64 hexadecimal digits".into()))
}

/// The key in a file, if there is one, whoever may read it: to find keys where none should be.
pub fn peek(path: &Path) -> Option<Key> {
    const LONGEST: u64 = 256;
    let file = fs::metadata(path).ok()?;
    if !file.is_file() || file.len() > LONGEST {
        return None;
    }
    parse(&Zeroizing::new(fs::read(path).ok()?))
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
        assert_eq!(peek(&path).unwrap().peer_id(), key.peer_id());
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
