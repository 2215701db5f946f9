//! What `suora call` and `suora officer` have in common.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use suora_protocol::documents::DeskId;
use suora_protocol::fault::Fault;
use suora_protocol::identity::Seed;

use crate::capture::{self, Spec};
use crate::config::{Config, Reports};
use crate::devices::choice::Typed;
use crate::endpoint::Listen;
use crate::engine::Role;
use crate::fetch::Agency;
use crate::memory;

/// The agency, the desk, sound and picture, and where results go.
#[derive(Debug, Args)]
pub struct Common {
    /// The agency: its web address (https://…, or http://…#root=ID), or a descriptor's file that you trust.
    #[arg(long, value_name = "AGENCY")]
    pub agency: Agency,
    /// The desk's id.
    #[arg(long, value_name = "ID", value_parser = DeskId::new)]
    pub desk: DeskId,
    /// Hang up so many seconds after the officer accepted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: Option<u32>,
    /// What the other one sees: a camera's name or a part of it (`suora devices` lists them), default, none, pattern, or a file (Y4M, MP4 or Annex B with H.264).
    #[arg(long, value_name = "SOURCE", default_value = "default")]
    pub camera: Spec,
    /// What the other one hears: a microphone's name or a part of it, default, none, pattern, or a file (WAV, Ogg Opus, MP4). By default the sound of the camera's file or pattern, else the default microphone.
    #[arg(long, value_name = "SOURCE")]
    pub mic: Option<Spec>,
    /// Send what the microphone hears as it is: with echo and noise, and as loud as it is.
    #[arg(long)]
    pub raw_mic: bool,
    /// Where you hear the other one: a loudspeaker's name or a part of it, default, or none.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub speaker: Typed,
    /// Pixels of your picture, both even.
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "640x360", value_parser = size)]
    pub size: (u32, u32),
    /// Most kilobits of picture a second.
    #[arg(long, value_name = "KBIT", default_value_t = 600, value_parser = clap::value_parser!(u32).range(80..=20_000))]
    pub bitrate: u32,
    /// Record what was seen and heard, as MP4 in this folder.
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
    /// Write the call report, as JSON: into a file, or with a slash at the end into a folder.
    #[arg(long, value_name = "PATH")]
    pub report: Option<PathBuf>,
    /// Open a control socket here: JSON lines, intents in, views out.
    #[arg(long, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
    /// Listen for media at this address. Repeat for more; by default a free port of every interface.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Allow loopback addresses: both ends on this machine.
    #[arg(long)]
    pub loopback: bool,
}

impl Common {
    /// The configuration of a node in this role. `many`: more than one consultation may come.
    pub fn config(self, role: Role, seed: Seed, many: bool) -> Result<Config, Fault> {
        let folder = |path: &PathBuf| {
            many || path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/')
        };
        Ok(Config {
            role,
            seed,
            agency: self.agency,
            desk: self.desk,
            talk: self.seconds.map(|secs| Duration::from_secs(secs.into())),
            listen: Listen {
                addresses: self.listen,
                loopback: self.loopback,
                routed: false,
                hidden: false,
                announce: Vec::new(),
            },
            capture: capture::Settings {
                camera: self.camera,
                mic: self.mic,
                raw_mic: self.raw_mic,
                width: self.size.0,
                height: self.size.1,
                fps: 30,
            },
            speaker: self.speaker.0,
            devices: super::devices::backend()?,
            bitrate: self.bitrate * 1_000,
            record: self.record,
            reports: self.report.map(|path| {
                if folder(&path) {
                    Reports::Folder(path)
                } else {
                    Reports::File(path)
                }
            }),
            credential: None,
            fresh: false,
            memory: memory::folder(),
            control: self.control,
        })
    }
}

/// Width and height of `640x360`; which of them can be sent is the capture's to say.
fn size(text: &str) -> Result<(u32, u32), String> {
    let read = |part: &str| part.parse::<u32>().ok();
    text.split_once('x')
        .and_then(|(width, height)| Some((read(width)?, read(height)?)))
        .ok_or_else(|| "write it as 640x360".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_two_numbers() {
        assert_eq!(size("1280x720"), Ok((1_280, 720)));
        for wrong in ["", "640", "640x", "x360", "640x-2", "640X360", "1x2x3"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
