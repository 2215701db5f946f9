//! What a node begins with, once the command line was read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use suora_protocol::documents::DeskId;
use suora_protocol::identity::Seed;

use crate::capture;
use crate::devices::Backend;
use crate::devices::choice::Wish;
use crate::endpoint::Listen;
use crate::engine::Role;
use crate::fetch::Agency;

/// Where call reports go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reports {
    /// One report, into this file.
    File(PathBuf),
    /// One report a consultation, into this folder.
    Folder(PathBuf),
}

/// The settings of a node.
#[derive(Debug)]
pub struct Config {
    /// Who the person is.
    pub role: Role,
    /// The device's secret.
    pub seed: Seed,
    /// Where the agency's descriptor comes from.
    pub agency: Agency,
    /// The desk.
    pub desk: DeskId,
    /// Hangs up so long after the accept.
    pub talk: Option<Duration>,
    /// Where media connections come in.
    pub listen: Listen,
    /// Our own sound and picture.
    pub capture: capture::Settings,
    /// The loudspeaker, if any.
    pub speaker: Option<Wish>,
    /// Where cameras, microphones and loudspeakers come from.
    pub devices: Arc<dyn Backend>,
    /// Most bits of picture a second.
    pub bitrate: u32,
    /// Where recordings go.
    pub record: Option<PathBuf>,
    /// Where reports go.
    pub reports: Option<Reports>,
    /// Where an officer's renewed credential is kept.
    pub credential: Option<PathBuf>,
    /// A citizen comes with a key that nobody has seen.
    pub fresh: bool,
    /// The folder where agencies are remembered.
    pub memory: Option<PathBuf>,
    /// The control socket.
    pub control: Option<PathBuf>,
}
