//! What the program prints arrives, or it says so.

use std::process::{Command, Output, Stdio};

/// Makes a key, and prints its peer id there.
fn keygen(printed: impl Into<Stdio>) -> Output {
    let home = tempfile::tempdir().unwrap();
    let key = home.path().join("key");
    let output = Command::new(env!("CARGO_BIN_EXE_suora"))
        .args(["keygen", "--language", "en", "--out"])
        .arg(&key)
        .stdout(printed)
        .output()
        .unwrap();
    assert!(key.exists());
    output
}

#[test]
fn output_that_a_full_disk_loses_is_a_fault_and_a_reader_who_has_enough_is_none() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let output = keygen(full.unwrap());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("standard output: ") && said.contains("[bad-file]"),
        "{said}"
    );

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = keygen(writer);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
}
