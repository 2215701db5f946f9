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
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|error| bad(error.to_string()))?);
    let digits = text.trim_end_matches('\n');
    let mut secret = Zeroizing::new([0u8; 32]);
    if digits.len() != 64 || !digits.is_ascii() {
        return Err(bad("a key file is one line of 64 hexadecimal digits".into()));
    }
    for (at, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16)
            .map_err(|_| bad("not hexadecimal".into()))?;
    }
    Ok(Key::from_secret(&secret))
}
