//! Recorded speech held against what was spoken: how intelligible it is by STOI (Taal et al.
//! 2011, by PyPI `pystoi`, pinned in `requirements.txt`), and how late it was at each moment.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::peer::Failure;

/// What does the work, run by the Python of `make deps`.
const JUDGE: &str = include_str!("speech/judge.py");

/// How late recorded speech was at one moment.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
pub struct Lag {
    /// In the recording, in ms.
    pub at: f64,
    /// Behind the spoken round, modulo its length, in ms.
    pub lag: f64,
    /// How alike both are there, at most 1.
    pub alike: f64,
}

/// What was heard of what was spoken.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
pub struct Speech {
    /// Intelligibility, about 0 to 1; `None`: nothing of what was spoken was found.
    pub stoi: Option<f64>,
    /// Where what was spoken was found.
    pub lags: Vec<Lag>,
    /// Time of the recording in which there was speech to be heard.
    pub spoken_ms: f64,
    /// Of that, time in which nothing like it was heard.
    pub lost_ms: f64,
}

/// The Python of this workspace's tools, as `make deps` installs it.
pub fn python() -> PathBuf {
    crate::vectors::cddl::tool().with_file_name("python")
}

/// Holds a recording against one round of what was spoken round and round; both are mono at 48
/// kHz.
pub fn judge(python: &Path, spoken: &[i16], recorded: &[i16]) -> Result<Speech, Failure> {
    let failed = |error: std::io::Error| format!("{}: {error}", python.display());
    let dir = tempfile::tempdir().map_err(failed)?;
    let file = |name: &str, samples: &[i16]| -> Result<PathBuf, Failure> {
        let path = dir.path().join(name);
        let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
        std::fs::write(&path, bytes).map_err(failed)?;
        Ok(path)
    };
    let output = std::process::Command::new(python)
        .args(["-W", "ignore", "-c", JUDGE])
        .args([file("spoken", spoken)?, file("recorded", recorded)?])
        // as many of these run as there are tests
        .env("OPENBLAS_NUM_THREADS", "1")
        .output()
        .map_err(failed)?;
    if !output.status.success() {
        return Err(format!(
            "{} cannot judge speech (`make deps` installs what it needs): {}",
            python.display(),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}
