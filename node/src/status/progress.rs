//! PURE: what happened, in a line that stays: for a terminal that is read afterwards.

use suora_protocol::quality::{Cause, Word};

use super::{cause, exchange, path_text, whole, word};
use crate::text::{Texts, plain};
use crate::view::{Device, DeviceState, Quality, Stage, View};

/// Tells each step of a contact once.
#[derive(Debug)]
pub struct Progress {
    officer: bool,
    agency: Option<String>,
    peer: Option<String>,
    linked: Option<bool>,
    stage: Stage,
    /// The word that was told last, and its cause.
    quality: (Word, Option<Cause>),
}

impl Progress {
    /// The steps of an officer, or of a citizen.
    pub const fn new(officer: bool) -> Self {
        Self {
            officer,
            agency: None,
            peer: None,
            linked: None,
            stage: Stage::Idle,
            quality: (Word::Good, None),
        }
    }

    /// The agency's name, from its verified descriptor.
    pub fn agency(&mut self, name: impl Into<String>) {
        self.agency = Some(name.into());
    }

    /// The line of a view; `None` where there is nothing new to say.
    pub fn take(&mut self, view: &View, texts: &Texts) -> Option<String> {
        match view {
            View::Link { up, code } => {
                // a redial that fails again is no news
                if self.linked.replace(*up) == Some(*up) {
                    return None;
                }
                match code.filter(|_| !*up) {
                    None => Some(texts.get("progress-link")),
                    Some(code) => Some(format!("{} {}", texts.sentence(code), texts.next(code))),
                }
            }
            View::Queue { position } => {
                let number = (u64::from(*position) + 1).to_string();
                Some(texts.with("progress-waiting", &[("number", &number)]))
            }
            View::Attending { waiting } => {
                Some(texts.with("progress-attending", &[("waiting", &waiting.to_string())]))
            }
            View::Credential { until } => {
                let until = jiff::Timestamp::from_second(*until).ok()?;
                let until = until.strftime("%Y-%m-%d").to_string();
                Some(texts.with("progress-credential", &[("until", &until)]))
            }
            View::Offer { waited } => {
                Some(texts.with("progress-offer", &[("seconds", &waited.to_string())]))
            }
            View::Session {
                stage,
                peer,
                security,
                path,
            } => {
                if let Some(peer) = peer {
                    self.peer = peer.verified_as.clone();
                }
                let peer = peer
                    .as_ref()
                    .map(|peer| whole(peer.verified_as.as_deref(), self.agency.as_deref(), texts));
                if *stage != Stage::Accepted {
                    self.quality = (Word::Good, None);
                }
                match (std::mem::replace(&mut self.stage, *stage), stage) {
                    (Stage::Accepted, Stage::Idle) => Some(texts.get("progress-over")),
                    (_, Stage::Idle) => None,
                    (_, Stage::Connecting) => Some(texts.get("progress-connecting")),
                    (_, Stage::Warm) => {
                        let id = if self.officer {
                            "progress-warm-officer"
                        } else {
                            "progress-warm-citizen"
                        };
                        Some(texts.with(id, &[("peer", &peer?)]))
                    }
                    (_, Stage::Accepted) => {
                        let id = if self.officer {
                            "progress-accepted-officer"
                        } else {
                            "progress-accepted-citizen"
                        };
                        let path = path_text(path.as_ref()?, texts);
                        let exchange = exchange(&security.as_ref()?.key_exchange, texts);
                        Some(texts.with(id, &[("path", &path), ("exchange", &exchange)]))
                    }
                }
            }
            View::Chat { from: "me", text } => {
                Some(texts.with("progress-chat-me", &[("text", text)]))
            }
            View::Chat { text, .. } => {
                let nobody = texts.get("progress-other-end");
                let name = self.peer.as_deref().unwrap_or(&nobody);
                Some(texts.with("progress-chat-peer", &[("name", name), ("text", text)]))
            }
            View::PeerMedia { audio, video } => Some(texts.get(match (audio, video) {
                (true, true) => "progress-media-both",
                (true, false) => "progress-media-voice",
                (false, true) => "progress-media-picture",
                (false, false) => "progress-media-none",
            })),
            View::Device {
                device,
                state,
                name,
                detail,
            } => Some(device_text(
                *device,
                *state,
                name.as_deref(),
                detail.as_deref(),
                texts,
            )),
            View::Fault { code, detail, own } => {
                let (what, next) = texts.told(*code, *own);
                Some(match detail {
                    Some(detail) => format!("{what} ({}) {next}", plain(detail)),
                    None => format!("{what} {next}"),
                })
            }
            View::Stats(stats) => self.quality(stats.quality?, texts),
            View::Report { .. } => None,
        }
    }

    /// Tells a word and its cause when they change, and what helps where that is in one's hands.
    fn quality(&mut self, quality: Quality, texts: &Texts) -> Option<String> {
        let new = (quality.word, quality.cause);
        if std::mem::replace(&mut self.quality, new) == new {
            return None;
        }
        let Some(named) = quality.cause else {
            return Some(texts.get("progress-quality-good"));
        };
        let args = (word(quality.word, texts), cause(named, texts));
        let args = [("word", args.0.as_str()), ("cause", args.1.as_str())];
        Some(if named == Cause::Own {
            texts.with("progress-quality-own", &args)
        } else {
            texts.with("progress-quality", &args)
        })
    }
}

/// What became of a device, and what to do.
fn device_text(
    device: Device,
    state: DeviceState,
    name: Option<&str>,
    detail: Option<&str>,
    texts: &Texts,
) -> String {
    use Device::{Camera, Microphone, Speaker};
    use DeviceState::{Broken, Busy, Denied, Lost, Missing, Unbuilt, Using};
    let Some(name) = name.or(matches!(state, Missing | Unbuilt).then_some("")) else {
        let detail = detail.unwrap_or_default();
        return texts.with("devices-unlisted", &[("detail", detail)]);
    };
    let id = match (state, device) {
        (Using, Camera) => "device-using-camera",
        (Using, Microphone) => "device-using-microphone",
        (Using, Speaker) => "device-using-speaker",
        (Lost, Camera) => "device-lost-camera",
        (Lost, Microphone) => "device-lost-microphone",
        (Lost, Speaker) => "device-lost-speaker",
        (Missing, Camera) => "device-missing-camera",
        (Missing, Microphone) => "device-missing-microphone",
        (Missing, Speaker) => "device-missing-speaker",
        (Busy, Camera) => "device-busy-camera",
        (Busy, Microphone) => "device-busy-microphone",
        (Busy, Speaker) => "device-busy-speaker",
        (Denied, Camera) => "device-denied-camera",
        (Denied, Microphone) => "device-denied-microphone",
        (Denied, Speaker) => "device-denied-speaker",
        (Broken, Camera) => "device-broken-camera",
        (Broken, Microphone) => "device-broken-microphone",
        (Broken, Speaker) => "device-broken-speaker",
        (Unbuilt, Camera) => "device-unbuilt-camera",
        (Unbuilt, Microphone) => "device-unbuilt-microphone",
        (Unbuilt, Speaker) => "device-unbuilt-speaker",
    };
    let text = texts.with(id, &[("name", name)]);
    match detail.filter(|_| state == Broken) {
        Some(detail) => format!("{text} ({})", plain(detail)),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use suora_protocol::fault::Code;

    use super::*;
    use crate::report::{Path, Peer, Security};

    fn session(stage: Stage, name: Option<&str>) -> View {
        View::Session {
            stage,
            peer: Some(Peer {
                peer_id: "12D3Koo".into(),
                verified_as: name.map(Into::into),
            }),
            security: Some(Security {
                tls: "1.3",
                key_exchange: "X25519MLKEM768".into(),
                fingerprint: "00".into(),
            }),
            path: Some(Path {
                kind: "direct",
                transport: "udp",
                local: None,
                remote: None,
                relay: None,
                rtt_ms: None,
            }),
        }
    }

    fn link(up: bool) -> View {
        View::Link {
            up,
            code: (!up).then_some(Code::RelayUnreachable),
        }
    }

    #[test]
    fn a_citizens_contact_reads_as_a_story() {
        let texts = Texts::new("en");
        let mut progress = Progress::new(false);
        progress.agency("Tax Agency");
        let views = [
            link(true),
            View::Queue { position: 0 },
            session(Stage::Warm, Some("Matti")),
            session(Stage::Accepted, Some("Matti")),
            View::Chat {
                from: "peer",
                text: "Hello".into(),
            },
            session(Stage::Idle, Some("Matti")),
        ];
        let told: Vec<String> = views
            .iter()
            .filter_map(|view| progress.take(view, &texts))
            .collect();
        assert_eq!(
            told,
            [
                "The agency's relay answers.",
                "You wait as number 1.",
                "Connected with Matti from Tax Agency, verified by credential. Waiting for the officer's yes.",
                "The officer accepted. The conversation begins: direct (UDP), post-quantum key exchange.",
                "Matti: Hello",
                "The conversation is over.",
            ]
        );
    }

    #[test]
    fn an_officer_reads_that_the_citizen_is_not_identified() {
        let texts = Texts::new("en");
        let told = Progress::new(true).take(&session(Stage::Warm, None), &texts);
        assert_eq!(
            told.unwrap(),
            "Connected with a citizen, not identified. Waiting for your yes."
        );
    }

    #[test]
    fn each_failed_redial_is_not_told_again() {
        let texts = Texts::new("en");
        let mut progress = Progress::new(false);
        let told: Vec<bool> = [false, false, true, true, false]
            .into_iter()
            .map(|up| progress.take(&link(up), &texts).is_some())
            .collect();
        assert_eq!(told, [true, false, true, false, true]);
    }

    #[test]
    fn a_fault_says_what_exactly_and_what_to_do() {
        let texts = Texts::new("en");
        let view = View::Fault {
            code: Code::BadFile,
            detail: Some("a.cose:\u{1b}[2J no such file".into()),
            own: false,
        };
        assert_eq!(
            Progress::new(false).take(&view, &texts).unwrap(),
            "A file cannot be read or written. (a.cose: [2J no such file) \
             Check the file's name, its folder and who may use it."
        );
    }

    #[test]
    fn an_officer_whose_credential_is_refused_reads_of_the_credential() {
        let texts = Texts::new("en");
        let told = |own| {
            let view = View::Fault {
                code: Code::BadSignature,
                detail: None,
                own,
            };
            Progress::new(true).take(&view, &texts).unwrap()
        };
        assert_eq!(
            told(true),
            "Your credential was refused: its signature is not this agency's. \
             Ask your administrator to renew your credential: the relay hands it to you, or you \
             name its file with --credential."
        );
        assert!(told(false).starts_with("A proof that the other end showed"));
    }

    fn judged(word: Word, cause: Option<Cause>) -> View {
        View::Stats(crate::view::Stats {
            quality: Some(Quality {
                word,
                cause,
                theirs: None,
            }),
            ..Default::default()
        })
    }

    #[test]
    fn a_word_of_quality_is_told_when_it_changes_and_what_helps_where_one_can_help() {
        let texts = Texts::new("en");
        let mut progress = Progress::new(false);
        let told: Vec<String> = [
            judged(Word::Good, None),
            judged(Word::Fair, Some(Cause::Unknown)),
            judged(Word::Fair, Some(Cause::Unknown)),
            judged(Word::Poor, Some(Cause::Own)),
            judged(Word::Good, None),
        ]
        .iter()
        .filter_map(|view| progress.take(view, &texts))
        .collect();
        assert_eq!(
            told,
            [
                "The connection is fair: nobody can say why.",
                "The connection is poor: your network is slow. Move closer to your router, or end what else uses your network.",
                "The connection is good again.",
            ]
        );
    }

    #[test]
    fn no_line_lacks_a_variable() {
        for language in ["fi", "sv", "en"] {
            let texts = Texts::new(language);
            for officer in [true, false] {
                let mut progress = Progress::new(officer);
                for view in [
                    link(true),
                    link(false),
                    View::Queue { position: 1 },
                    View::Attending { waiting: 1 },
                    View::Offer { waited: 3 },
                    session(Stage::Connecting, None),
                    session(Stage::Warm, Some("Matti")),
                    session(Stage::Accepted, None),
                    View::Chat {
                        from: "me",
                        text: "x".into(),
                    },
                    View::Chat {
                        from: "peer",
                        text: "x".into(),
                    },
                    View::PeerMedia {
                        audio: false,
                        video: false,
                    },
                    judged(Word::SoundOnly, Some(Cause::Own)),
                    judged(Word::Lost, Some(Cause::Other)),
                    judged(Word::Good, None),
                ] {
                    let line = progress.take(&view, &texts).unwrap();
                    assert!(!line.contains('{') && line.contains(' '), "{line}");
                }
            }
        }
    }

    #[test]
    fn a_device_in_trouble_is_named_with_what_to_do() {
        let texts = Texts::new("en");
        let mut progress = Progress::new(false);
        let mut told = |device, state, name: Option<&str>| {
            let view = View::Device {
                device,
                state,
                name: name.map(Into::into),
                detail: Some("the system's words".into()),
            };
            progress.take(&view, &texts).unwrap()
        };
        assert_eq!(
            told(Device::Camera, DeviceState::Using, Some("Front")),
            "Camera: Front."
        );
        assert_eq!(
            told(Device::Camera, DeviceState::Missing, None),
            "No camera was found: voice only. One that you plug in is used at once."
        );
        let busy = told(Device::Microphone, DeviceState::Busy, Some("Headset"));
        assert!(busy.contains("Headset") && busy.contains("Close it there"));
        let unlisted = told(Device::Speaker, DeviceState::Broken, None);
        assert!(unlisted.contains("the system's words"), "{unlisted}");
    }
}
