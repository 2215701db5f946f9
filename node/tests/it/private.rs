//! Files of the program that nobody else reads.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::sys::stat::{Mode, umask};

// covers: SUORA-SEC-130
#[test]
fn what_the_program_writes_is_its_owners_alone() {
    // as most systems have it; the program inherits it
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let home = tempfile::tempdir().unwrap();
    let record = home.path().join("films");
    // there is no such agency, but this person's key and the folders are made before
    let output = Command::new(env!("CARGO_BIN_EXE_suora"))
        .args(["call", "--agency", "none.cose", "--desk", "tax"])
        .args(["--camera", "pattern", "--record"])
        .arg(&record)
        .env("XDG_DATA_HOME", home.path())
        .env_remove("SSLKEYLOGFILE")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let mode = |path: &Path| {
        let meta = std::fs::metadata(path);
        let said = String::from_utf8_lossy(&output.stderr);
        let meta = meta.unwrap_or_else(|error| panic!("{path:?}: {error}: {said}"));
        meta.permissions().mode() & 0o777
    };
    let data = home.path().join("suora");
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("suora.key")), 0o600);
    assert_eq!(mode(&record), 0o700);
    // the control: a folder that this process makes is open to others
    let open = home.path().join("open");
    std::fs::create_dir(&open).unwrap();
    assert_eq!(mode(&open), 0o755);
}
