//! What people see of their node: the whole output for a person, as values. The status
//! line, the control socket and every other screen are drawn from these.

use serde::Serialize;
use suora_protocol::fault::Code;
use suora_protocol::quality::{Cause, Network, Word};

use crate::report::{Path, Peer, Report, Security};

/// Where a consultation stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// No consultation.
    Idle,
    /// Making the connection.
    Connecting,
    /// Both ends are proven; the officer has not accepted.
    Warm,
    /// Sound and picture flow.
    Accepted,
}

/// A kind of device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// Takes pictures.
    Camera,
    /// Hears.
    Microphone,
    /// Plays sound.
    Speaker,
}

/// What became of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// It is in use.
    Using,
    /// It was pulled out or switched off.
    Lost,
    /// There is none of its kind.
    Missing,
    /// Another program uses it.
    Busy,
    /// This account may not use it.
    Denied,
    /// It does not work.
    Broken,
    /// This program was built without devices.
    Unbuilt,
}

/// One thing to show.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "view", rename_all = "kebab-case")]
pub enum View {
    /// The control link to the relay.
    Link {
        /// Whether it stands.
        up: bool,
        /// Why not.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<Code>,
    },
    /// A citizen waits.
    Queue {
        /// People ahead.
        position: u32,
    },
    /// An officer attends.
    Attending {
        /// People who wait.
        waiting: u32,
    },
    /// The relay handed the officer's renewed credential on.
    Credential {
        /// Until when it holds, in seconds since 1970.
        until: i64,
    },
    /// An officer is asked.
    Offer {
        /// How long the citizen has waited, in seconds.
        waited: u64,
    },
    /// The consultation's stage changed.
    Session {
        /// To this.
        stage: Stage,
        /// The other end, once it is proven.
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<Peer>,
        /// As TLS negotiated.
        #[serde(skip_serializing_if = "Option::is_none")]
        security: Option<Security>,
        /// The route in use.
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<Path>,
    },
    /// A line was written.
    Chat {
        /// `me` or `peer`.
        from: &'static str,
        /// The line.
        text: String,
    },
    /// What the other end sends.
    PeerMedia {
        /// Sound.
        audio: bool,
        /// Picture.
        video: bool,
    },
    /// A camera, microphone or loudspeaker of this end.
    Device {
        /// Which kind.
        device: Device,
        /// What became of it.
        state: DeviceState,
        /// What it is called.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// What the system says.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// Figures of the last second.
    Stats(Stats),
    /// Something went wrong.
    Fault {
        /// The code of the registry.
        code: Code,
        /// What exactly.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
        /// Whether it is this end's own proof that was refused.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        own: bool,
    },
    /// A consultation is over.
    Report {
        /// Its report.
        report: Box<Report>,
    },
}

/// Figures of the last second, by the names and units of `spec/media.md`, section 11.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Stats {
    /// Bits a second sent.
    pub sent_bps: u64,
    /// Bits a second received.
    pub received_bps: u64,
    /// Share of our packets lost, 0 to 1.
    pub loss: f64,
    /// Round trip, in ms.
    pub rtt_ms: f64,
    /// Capture to sink of the last picture of this second, in ms; null where none was shown.
    pub latency_ms: Option<f64>,
    /// Pictures shown in the last second.
    pub fps: f64,
    /// Bytes written to the control stream so far.
    pub control_bytes: u64,
    /// Bytes of all streams of the other end that were read so far.
    pub peer_stream_bytes: u64,
    /// DATAGRAM frames sent, without trains and their answers.
    pub datagrams: u64,
    /// Unidirectional streams that the other end opened.
    pub peer_streams: u64,
    /// Sound of the other end.
    pub sound: SoundStats,
    /// Pictures of the other end.
    pub picture: PictureStats,
    /// What the rate control found of our own packets.
    pub rate: RateStats,
    /// Whether a relay passes the media on.
    pub relayed: bool,
    /// The link to the relay, by its heartbeat.
    pub relay: RelayStats,
    /// The other end's clock.
    pub clock: crate::report::Clock,
    /// One word for all of it; null before the accept.
    pub quality: Option<Quality>,
}

/// Sound of the other end in the last second.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct SoundStats {
    /// Played, in ms.
    pub played_ms: u64,
    /// Of it, made up, in ms.
    pub concealed_ms: u64,
    /// Of it, rebuilt of redundancy, in ms.
    pub rebuilt_ms: u64,
    /// Mouth to ear of the last packet, in ms.
    pub delay_ms: Option<f64>,
    /// Jitter of arrival as RFC 3550 smooths it, in ms.
    pub jitter_ms: Option<f64>,
}

/// Pictures of the other end in the last second.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PictureStats {
    /// Shown.
    pub shown: u64,
    /// Freezes that ended.
    pub freezes: u64,
    /// How long the picture stood still in freezes, one that lasts included, in ms.
    pub frozen_ms: f64,
    /// Bits a second received.
    pub received_bps: u64,
    /// Pixels of the last one.
    pub width: Option<u32>,
    /// Pixels of the last one.
    pub height: Option<u32>,
}

/// What the rate control found of our own packets.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RateStats {
    /// Bits a second that our picture may have.
    pub target_bps: u32,
    /// How long packets queue on the way, in ms.
    pub queue_ms: f64,
}

/// The link to the relay.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RelayStats {
    /// Round trip of the newest heartbeat, in ms.
    pub rtt_ms: Option<f64>,
    /// Mean difference of neighbouring round trips, in ms.
    pub jitter_ms: Option<f64>,
    /// Heartbeats that were not answered in time, since the start.
    pub missed: u64,
    /// What they tell of this end's own network.
    pub network: Network,
}

/// One word for how well two people see and hear each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Quality {
    /// The word.
    pub word: Word,
    /// Where the trouble is; null while the word is good.
    pub cause: Option<Cause>,
    /// The other end's word for what it receives; null while it said none.
    pub theirs: Option<Word>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{keys, table};

    // covers: SUORA-MED-050
    #[test]
    fn the_figures_of_a_second_have_the_keys_of_their_contract() {
        let nothing = serde_json::to_value(Stats::default()).unwrap();
        for path in [
            "/latency_ms",
            "/sound/delay_ms",
            "/relay/rtt_ms",
            "/quality",
        ] {
            assert!(nothing.pointer(path).unwrap().is_null(), "{path}");
        }
        let whole = Stats {
            quality: Some(Quality {
                word: Word::Good,
                cause: None,
                theirs: None,
            }),
            ..Stats::default()
        };
        let mut found = Vec::new();
        keys(&serde_json::to_value(whole).unwrap(), "", &mut found);
        found.sort();
        let chapter = include_str!("../../spec/media.md");
        assert_eq!(found, table(chapter));
    }
}
