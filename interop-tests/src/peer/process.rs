//! A real process, which ends with its handle.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::Failure;

/// A process that ends with this handle; its standard error is a file.
#[derive(Debug)]
pub struct Process {
    pub(super) child: Child,
    log: PathBuf,
}

impl Process {
    pub(super) fn start(mut command: Command, log: &Path) -> Result<Self, Failure> {
        let file = std::fs::File::create(log).map_err(|error| error.to_string())?;
        let child = command
            // tests read English
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            child,
            log: log.into(),
        })
    }

    /// What it said on standard error, the last 2000 bytes.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(2_000);
        let start = (start..text.len())
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text[start..].to_string()
    }

    /// The file of what it said on standard error.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Its number; none: it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// `kill -9`.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|error| error.to_string())
    }

    /// SIGTERM.
    pub fn terminate(&self) -> Result<(), Failure> {
        self.signal(Signal::SIGTERM)
    }

    /// SIGHUP: the descriptor on disk is new.
    pub fn hang_up(&self) -> Result<(), Failure> {
        self.signal(Signal::SIGHUP)
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let id = self.child.id().ok_or("it has ended")?;
        let id = i32::try_from(id).map_err(|error| error.to_string())?;
        kill(Pid::from_raw(id), signal).map_err(|error| error.to_string())
    }

    /// Waits for its end.
    pub async fn exit(&mut self, within: Duration) -> Result<ExitStatus, Failure> {
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(status) => status.map_err(|error| error.to_string()),
            Err(_) => Err(format!("it did not end within {within:?}: {}", self.log())),
        }
    }
}
