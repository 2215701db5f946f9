//! The call report: one JSON object a node and consultation (`spec/consultation.md`,
//! section 6). What was not measured is null, never invented.

use serde::Serialize;
use suora_protocol::consultation::clock::Offset;
use suora_protocol::consultation::quality::Shares;
use suora_protocol::fault::{Code, Fault};

/// How a consultation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Both ends talked, and one hung up.
    Completed,
    /// Something broke, or it never began.
    Failed,
    /// A proof was refused, by this end or the other.
    Refused,
}

/// Why it did not complete.
#[derive(Clone, Debug, Serialize)]
pub struct Error {
    /// The code of the registry.
    pub code: Code,
    /// What exactly.
    pub message: Option<String>,
}

impl From<&Fault> for Error {
    fn from(fault: &Fault) -> Self {
        Self {
            code: fault.code,
            message: fault.detail.clone(),
        }
    }
}

/// The other end.
#[derive(Clone, Debug, Serialize)]
pub struct Peer {
    /// Its peer id.
    pub peer_id: String,
    /// The name that its credential gives it; null for a citizen, who is not identified.
    pub verified_as: Option<String>,
}

/// The route in use.
#[derive(Clone, Debug, Serialize)]
pub struct Path {
    /// `direct` or `relayed`.
    pub kind: &'static str,
    /// `udp`, `tcp` or `tls`.
    pub transport: &'static str,
    /// Our address.
    pub local: Option<String>,
    /// Theirs.
    pub remote: Option<String>,
    /// The relay, of a relayed path.
    pub relay: Option<String>,
    /// Round trip, in ms.
    pub rtt_ms: Option<f64>,
}

/// As TLS negotiated.
#[derive(Clone, Debug, Serialize)]
pub struct Security {
    /// The TLS version.
    pub tls: &'static str,
    /// The key exchange group.
    pub key_exchange: String,
    /// SHA-256 of the host's certificate.
    pub fingerprint: String,
}

/// The other end's clock against ours.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Clock {
    /// Theirs minus ours, in ms.
    pub offset_ms: Option<f64>,
    /// How far that may be wrong, in ms.
    pub uncertainty_ms: Option<f64>,
}

impl From<Option<Offset>> for Clock {
    fn from(offset: Option<Offset>) -> Self {
        let ms = |of: fn(Offset) -> i64| offset.map(|offset| of(offset) as f64 / 1_000.0);
        Self {
            offset_ms: ms(|offset| offset.offset),
            uncertainty_ms: ms(|offset| offset.uncertainty),
        }
    }
}

/// How long things took, in ms.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Timing {
    /// Button to the relay's link.
    pub button_to_relay: Option<f64>,
    /// Button to the place in the queue.
    pub button_to_queue: Option<f64>,
    /// The hub's match to this end verified.
    pub match_to_session: Option<f64>,
    /// The officer's accept to the first sound received.
    pub accept_to_first_audio: Option<f64>,
    /// The officer's accept to the first picture decoded.
    pub accept_to_first_frame: Option<f64>,
    /// Button to the first picture decoded.
    pub button_to_first_frame: Option<f64>,
}

/// A distribution, in ms.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// Largest.
    pub max: Option<f64>,
    /// How far these may be wrong: the largest uncertainty of the clocks meanwhile.
    pub uncertainty: Option<f64>,
}

/// Half of a distribution, in ms.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Skew {
    /// Median.
    pub p50: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
}

/// Pictures sent.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct VideoSent {
    /// Pictures whose bytes left.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pixels.
    pub width: Option<u32>,
    /// Pixels.
    pub height: Option<u32>,
    /// Keyframes among them.
    pub keyframes: u64,
}

/// Pictures received.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct VideoReceived {
    /// Pictures decoded.
    pub frames_decoded: u64,
    /// Pictures that came too late or could not be decoded.
    pub frames_dropped: u64,
    /// Gaps as WebRTC's statistics define them.
    pub freezes: u64,
    /// Their time in all.
    pub freeze_ms: f64,
    /// Pixels.
    pub width: Option<u32>,
    /// Pixels.
    pub height: Option<u32>,
    /// Pictures a second.
    pub fps: Option<f64>,
    /// Capture to sink.
    pub latency_ms: Latency,
}

/// Pictures.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Video {
    /// Sent.
    pub sent: VideoSent,
    /// Received.
    pub received: VideoReceived,
}

/// Sound sent.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct AudioSent {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Sound received.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct AudioReceived {
    /// Packets.
    pub packets: u64,
    /// Sound that was made up.
    pub concealed_ms: u64,
    /// Sound that was played.
    pub played_ms: u64,
    /// Capture to sink.
    pub latency_ms: Latency,
}

/// Sound.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Audio {
    /// Sent.
    pub sent: AudioSent,
    /// Received.
    pub received: AudioReceived,
    /// How far picture and sound are apart, without sign, in ms.
    pub av_skew_ms: Skew,
}

/// Seconds by the word of quality that was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Words {
    /// `good`.
    pub good: u32,
    /// `fair`.
    pub fair: u32,
    /// `poor`.
    pub poor: u32,
    /// `sound-only`.
    pub sound_only: u32,
    /// `lost`.
    pub lost: u32,
}

/// Seconds by the cause that was named.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Causes {
    /// `own`.
    pub own: u32,
    /// `other`.
    pub other: u32,
    /// `relay`.
    pub relay: u32,
    /// `unknown`.
    pub unknown: u32,
}

/// How well the two saw and heard each other, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Quality {
    /// By word.
    pub words: Words,
    /// By cause.
    pub causes: Causes,
}

impl From<Shares> for Quality {
    fn from(shares: Shares) -> Self {
        let [good, fair, poor, sound_only, lost] = shares.words;
        let [own, other, relay, unknown] = shares.causes;
        Self {
            words: Words {
                good,
                fair,
                poor,
                sound_only,
                lost,
            },
            causes: Causes {
                own,
                other,
                relay,
                unknown,
            },
        }
    }
}

/// Chat lines.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Chat {
    /// Sent.
    pub sent: u64,
    /// Received.
    pub received: u64,
}

/// What crossed the wire.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Wire {
    /// UDP payload bytes.
    pub sent_bytes: u64,
    /// UDP payload bytes.
    pub received_bytes: u64,
    /// QUIC packets.
    pub sent_packets: u64,
    /// Of these, lost.
    pub lost_packets: u64,
}

/// The call report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `citizen` or `officer`.
    pub role: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it did not complete.
    pub error: Option<Error>,
    /// The other end.
    pub peer: Option<Peer>,
    /// The route in use at the end.
    pub path: Option<Path>,
    /// As TLS negotiated.
    pub security: Option<Security>,
    /// The other end's clock.
    pub clock: Clock,
    /// How long things took.
    pub timing_ms: Timing,
    /// Pictures.
    pub video: Video,
    /// Sound.
    pub audio: Audio,
    /// How well the two saw and heard each other.
    pub quality: Quality,
    /// Chat lines.
    pub chat: Chat,
    /// What crossed the wire.
    pub wire: Wire,
    /// CPU time of this process.
    pub cpu_seconds: Option<f64>,
    /// Largest resident memory of this process.
    pub max_rss_bytes: Option<u64>,
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::Value;

    use super::*;

    /// All keys of a report, as paths.
    pub(crate) fn keys(value: &Value, at: &str, out: &mut Vec<String>) {
        match value.as_object() {
            Some(object) => {
                for (key, value) in object {
                    keys(value, &format!("{at}{key}."), out);
                }
            }
            None => out.push(at.trim_end_matches('.').into()),
        }
    }

    fn report() -> Report {
        Report {
            role: "citizen",
            outcome: Outcome::Failed,
            error: None,
            peer: None,
            path: None,
            security: None,
            clock: Clock::default(),
            timing_ms: Timing::default(),
            video: Video::default(),
            audio: Audio::default(),
            quality: Quality::default(),
            chat: Chat::default(),
            wire: Wire::default(),
            cpu_seconds: None,
            max_rss_bytes: None,
        }
    }

    /// The keys of the table of a chapter.
    pub(crate) fn table(chapter: &str) -> Vec<String> {
        let mut keys = Vec::new();
        for line in chapter.lines() {
            let Some(rest) = line.strip_prefix("| `") else {
                continue;
            };
            let names = rest.split(" | ").next().unwrap_or_default();
            let mut first = String::new();
            for name in names.split("`, `") {
                let name = name.trim_matches('`').to_string();
                if let Some(last) = name.strip_prefix('.') {
                    let front = first.rsplit_once('.').map_or("", |(front, _)| front);
                    keys.push(format!("{front}.{last}"));
                } else {
                    first.clone_from(&name);
                    keys.push(name);
                }
            }
        }
        // an object's own row says when it is null
        let inner = keys.clone();
        keys.retain(|key| {
            !inner
                .iter()
                .any(|other| other.starts_with(&format!("{key}.")))
        });
        keys.sort();
        keys
    }

    // covers: SUORA-CON-009
    #[test]
    fn a_report_has_the_keys_of_its_contract_and_null_for_what_was_not_measured() {
        let nothing = serde_json::to_value(report()).unwrap();
        for key in [
            "error",
            "peer",
            "path",
            "security",
            "cpu_seconds",
            "max_rss_bytes",
        ] {
            assert_eq!(nothing.get(key), Some(&Value::Null), "{key}");
        }
        assert!(nothing["clock"]["offset_ms"].is_null());
        assert!(nothing["timing_ms"]["accept_to_first_frame"].is_null());
        assert!(nothing["video"]["received"]["latency_ms"]["p95"].is_null());
        let whole = Report {
            error: Some(Error {
                code: Code::Timeout,
                message: None,
            }),
            peer: Some(Peer {
                peer_id: String::new(),
                verified_as: None,
            }),
            path: Some(Path {
                kind: "direct",
                transport: "udp",
                local: None,
                remote: None,
                relay: None,
                rtt_ms: None,
            }),
            security: Some(Security {
                tls: "1.3",
                key_exchange: String::new(),
                fingerprint: String::new(),
            }),
            ..report()
        };
        let mut found = Vec::new();
        keys(&serde_json::to_value(whole).unwrap(), "", &mut found);
        found.sort();
        let chapter = include_str!("../../spec/consultation.md");
        assert_eq!(found, table(chapter));
    }
}
