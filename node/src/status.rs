//! PURE: the live status line. It is computed from the views, which tell only what was
//! verified and the route in use, never a setting: nobody is named before the proof.

pub mod progress;
pub mod summary;
pub mod verdict;

use suora_protocol::quality::{Cause, Word};

use crate::report::{Path, Peer, Security};
use crate::text::Texts;
use crate::view::{Quality, Stage, Stats, View};

/// The only hybrid group of the protocol (`spec/session.md`).
const HYBRID: &str = "X25519MLKEM768";

/// What the line tells.
#[derive(Debug)]
pub struct Status {
    officer: bool,
    link: Option<bool>,
    position: Option<u32>,
    waiting: Option<u32>,
    offered: bool,
    stage: Option<Stage>,
    peer: Option<Peer>,
    security: Option<Security>,
    path: Option<Path>,
    voice_only: bool,
    stats: Option<Stats>,
}

impl Status {
    /// The line of an officer, or of a citizen.
    pub const fn new(officer: bool) -> Self {
        Self {
            officer,
            link: None,
            position: None,
            waiting: None,
            offered: false,
            stage: None,
            peer: None,
            security: None,
            path: None,
            voice_only: false,
            stats: None,
        }
    }

    /// Something changed.
    pub fn take(&mut self, view: &View) {
        match view {
            View::Link { up, .. } => self.link = Some(*up),
            View::Queue { position } => {
                self.position = Some(*position);
                self.stage = None;
            }
            View::Attending { waiting } => self.waiting = Some(*waiting),
            View::Offer { .. } => self.offered = true,
            View::Session {
                stage,
                peer,
                security,
                path,
            } => {
                self.stage = match stage {
                    // an offer came to nothing, and the citizen waits again already
                    Stage::Idle if self.position.is_some() => None,
                    stage => Some(*stage),
                };
                if *stage == Stage::Connecting {
                    self.position = None;
                }
                self.peer.clone_from(peer);
                self.security.clone_from(security);
                self.path.clone_from(path);
                if *stage != Stage::Accepted {
                    self.voice_only = false;
                    self.stats = None;
                }
                if matches!(stage, Stage::Accepted | Stage::Idle) {
                    self.offered = false;
                }
            }
            View::PeerMedia { audio, video } => self.voice_only = *audio && !*video,
            View::Stats(stats) => self.stats = Some(*stats),
            View::Credential { .. }
            | View::Device { .. }
            | View::Chat { .. }
            | View::Fault { .. }
            | View::Report { .. } => {}
        }
    }

    /// The line, its parts joined by `·`.
    pub fn line(&self, texts: &Texts) -> String {
        let mut parts = vec![self.state(texts)];
        if matches!(self.stage, Some(Stage::Warm | Stage::Accepted)) {
            parts.extend(self.path.as_ref().map(|path| path_text(path, texts)));
            if let Some(security) = &self.security {
                parts.extend(self.peer.as_ref().map(|peer| {
                    let peer = short(peer, texts);
                    texts.with("encrypted-to", &[("peer", &peer)])
                }));
                parts.push(match security.key_exchange.as_str() {
                    HYBRID => "ML-KEM".into(),
                    _ => texts.get("exchange-classical"),
                });
            }
        }
        if self.stage == Some(Stage::Accepted) {
            if self.voice_only {
                parts.push(texts.get("line-voice-only"));
            }
            let quality = self.stats.and_then(|stats| stats.quality);
            parts.extend(quality.map(|quality| quality_text(quality, texts)));
            parts.extend(self.stats.iter().flat_map(|stats| figures(stats, texts)));
        }
        parts.join(" · ")
    }

    fn state(&self, texts: &Texts) -> String {
        match (self.stage, self.officer) {
            (Some(Stage::Accepted), _) => return texts.get("state-talking"),
            (Some(Stage::Warm), true) => return texts.get("state-warm-officer"),
            (Some(Stage::Warm), false) => return texts.get("state-warm-citizen"),
            (Some(Stage::Connecting), _) => return texts.get("state-connecting"),
            (Some(Stage::Idle), false) => return texts.get("state-over"),
            (Some(Stage::Idle), true) | (None, _) => {}
        }
        match (self.link, self.officer, self.position, self.waiting) {
            (None, ..) => texts.get("state-starting"),
            (Some(false), ..) => texts.get("state-no-relay"),
            _ if self.offered => texts.get("state-offer"),
            (_, false, Some(position), _) => {
                let number = (u64::from(position) + 1).to_string();
                texts.with("state-waiting", &[("number", &number)])
            }
            (_, true, _, Some(waiting)) => {
                texts.with("state-attending", &[("waiting", &waiting.to_string())])
            }
            _ => texts.get("state-starting"),
        }
    }
}

fn figures(stats: &Stats, texts: &Texts) -> Vec<String> {
    let loss = texts.number(stats.loss * 100.0, 1);
    let mut parts = vec![
        format!("{} kbit/s", (stats.sent_bps + 500) / 1_000),
        texts.with("line-loss", &[("percent", &loss)]),
        format!("{} ms", texts.number(stats.rtt_ms, 0)),
    ];
    parts.extend(stats.latency_ms.map(|ms| {
        let unsure = stats.clock.uncertainty_ms.unwrap_or(f64::INFINITY).ceil();
        let ms = if ms < unsure {
            format!("< {}", texts.number((ms + unsure).ceil(), 0))
        } else {
            format!("{} ± {}", texts.number(ms, 0), texts.number(unsure, 0))
        };
        texts.with("line-latency", &[("ms", &ms)])
    }));
    parts
}

/// How well the two see and hear each other, and why not better.
fn quality_text(quality: Quality, texts: &Texts) -> String {
    let word = word(quality.word, texts);
    match quality.cause {
        None => texts.with("line-quality", &[("word", &word)]),
        Some(named) => {
            let cause = cause(named, texts);
            texts.with("line-quality-cause", &[("word", &word), ("cause", &cause)])
        }
    }
}

fn word(word: Word, texts: &Texts) -> String {
    texts.get(match word {
        Word::Good => "word-good",
        Word::Fair => "word-fair",
        Word::Poor => "word-poor",
        Word::SoundOnly => "word-sound-only",
        Word::Lost => "word-lost",
    })
}

fn cause(cause: Cause, texts: &Texts) -> String {
    texts.get(match cause {
        Cause::Own => "cause-own",
        Cause::Other => "cause-other",
        Cause::Relay => "cause-relay",
        Cause::Unknown => "cause-unknown",
    })
}

fn path_text(path: &Path, texts: &Texts) -> String {
    let transport = path.transport.to_uppercase();
    match (path.kind, &path.relay) {
        ("direct", _) => texts.with("path-direct", &[("transport", &transport)]),
        (_, Some(relay)) => texts.with(
            "path-relayed",
            &[("relay", relay), ("transport", &transport)],
        ),
        (_, None) => texts.with("path-relayed-unknown", &[("transport", &transport)]),
    }
}

/// A proven other end, in few words.
fn short(peer: &Peer, texts: &Texts) -> String {
    match &peer.verified_as {
        Some(name) => texts.with("peer-short", &[("name", name)]),
        None => texts.get("peer-unidentified"),
    }
}

/// A proven other end, and how it was proven.
fn whole(verified_as: Option<&str>, agency: Option<&str>, texts: &Texts) -> String {
    match (verified_as, agency) {
        (Some(name), Some(agency)) => texts.with(
            "peer-verified-agency",
            &[("name", name), ("agency", agency)],
        ),
        (Some(name), None) => texts.with("peer-verified", &[("name", name)]),
        (None, _) => texts.get("peer-unidentified"),
    }
}

/// Post-quantum or classical, as TLS negotiated.
fn exchange(group: &str, texts: &Texts) -> String {
    match group {
        HYBRID => texts.get("exchange-post-quantum"),
        _ => texts.get("exchange-classical"),
    }
}

#[cfg(test)]
mod tests {
    use suora_protocol::fault::Code;

    use super::*;

    fn session(stage: Stage, name: Option<&str>, group: &str) -> View {
        View::Session {
            stage,
            peer: Some(Peer {
                peer_id: "12D3Koo".into(),
                verified_as: name.map(Into::into),
            }),
            security: Some(Security {
                tls: "1.3",
                key_exchange: group.into(),
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

    fn connecting() -> View {
        View::Session {
            stage: Stage::Connecting,
            peer: None,
            security: None,
            path: None,
        }
    }

    fn stats() -> View {
        View::Stats(Stats {
            sent_bps: 612_300,
            loss: 0.0004,
            rtt_ms: 1.2,
            latency_ms: Some(47.6),
            clock: crate::report::Clock {
                offset_ms: Some(-3.0),
                uncertainty_ms: Some(0.7),
            },
            ..Stats::default()
        })
    }

    #[test]
    fn the_word_of_quality_stands_first_among_the_figures_with_its_cause() {
        let with = |word, cause| {
            View::Stats(Stats {
                quality: Some(Quality {
                    word,
                    cause,
                    theirs: None,
                }),
                ..Stats::default()
            })
        };
        let talk = session(Stage::Accepted, Some("Maija"), HYBRID);
        let shown =
            |language, word, cause| line(false, language, &[UP, talk.clone(), with(word, cause)]);
        let good = shown("en", Word::Good, None);
        assert!(
            good.contains("ML-KEM · connection good · 0 kbit/s"),
            "{good}"
        );
        let poor = shown("fi", Word::Poor, Some(Cause::Own));
        assert!(
            poor.contains(" · yhteys heikko – oma verkkosi hidastaa · "),
            "{poor}"
        );
        for cause in Cause::ALL {
            for (word, language) in Word::ALL.iter().zip(["fi", "sv", "en", "fi", "sv"]) {
                let shown = shown(language, *word, Some(*cause));
                assert!(!shown.contains('$') && !shown.contains("cause-"), "{shown}");
            }
        }
    }

    fn line(officer: bool, language: &str, views: &[View]) -> String {
        let mut status = Status::new(officer);
        for view in views {
            status.take(view);
        }
        status.line(&Texts::new(language))
    }

    const UP: View = View::Link {
        up: true,
        code: None,
    };

    #[test]
    fn the_whole_line_of_a_talk() {
        let views = [
            UP,
            session(Stage::Accepted, Some("Maija Virtanen"), HYBRID),
            stats(),
        ];
        assert_eq!(
            line(false, "en", &views),
            "Talking · direct (UDP) · encrypted to Maija Virtanen, verified · ML-KEM \
             · 612 kbit/s · loss 0.0 % · 1 ms · picture 48 ± 1 ms"
        );
        assert_eq!(
            line(false, "fi", &views),
            "Keskustelu käynnissä · suoraan (UDP) · salattu, toisessa päässä Maija Virtanen, todennettu · ML-KEM \
             · 612 kbit/s · hukka 0,0 % · 1 ms · kuva 48 ± 1 ms"
        );
    }

    // covers: SUORA-CON-014
    #[test]
    fn a_latency_under_what_the_clocks_tell_is_shown_as_a_bound() {
        let View::Stats(mut second) = stats() else {
            panic!()
        };
        second.clock.uncertainty_ms = Some(80.2);
        let talk = session(Stage::Accepted, Some("Maija"), HYBRID);
        let shown = line(false, "en", &[UP, talk, View::Stats(second)]);
        assert!(shown.ends_with("picture < 129 ms"), "{shown}");
    }

    // covers: SUORA-CON-001
    #[test]
    fn nobody_is_named_before_the_proof() {
        let views = [UP, View::Queue { position: 2 }, connecting()];
        assert_eq!(line(false, "en", &views[..2]), "Waiting as number 3");
        assert_eq!(line(false, "en", &views), "Making the connection");
    }

    #[test]
    fn a_citizen_without_attestation_is_not_identified() {
        let views = [UP, session(Stage::Warm, None, "X25519")];
        assert_eq!(
            line(true, "en", &views),
            "Waiting for your yes · direct (UDP) · encrypted to a citizen, not identified \
             · classical key exchange"
        );
    }

    #[test]
    fn the_relay_of_a_relayed_path_is_named() {
        let mut view = session(Stage::Accepted, Some("Maija"), HYBRID);
        if let View::Session {
            path: Some(path), ..
        } = &mut view
        {
            path.kind = "relayed";
            path.transport = "tls";
            path.relay = Some("relay.example.fi".into());
        }
        let shown = line(false, "sv", &[UP, view]);
        assert!(shown.contains("via relay.example.fi (TLS)"), "{shown}");
    }

    #[test]
    fn figures_of_one_talk_do_not_show_in_the_next() {
        let views = [
            UP,
            session(Stage::Accepted, Some("Maija"), HYBRID),
            View::PeerMedia {
                audio: true,
                video: false,
            },
            stats(),
        ];
        assert!(line(true, "en", &views).contains("voice only"));
        let mut next = views.to_vec();
        next.extend([
            session(Stage::Idle, None, HYBRID),
            View::Attending { waiting: 4 },
        ]);
        assert_eq!(line(true, "en", &next), "Available, people waiting: 4");
        next.extend([connecting(), session(Stage::Accepted, None, HYBRID)]);
        let shown = line(true, "en", &next);
        assert!(
            !shown.contains("voice") && !shown.contains("kbit"),
            "{shown}"
        );
    }

    #[test]
    fn a_lost_relay_shows_only_outside_a_talk() {
        let down = View::Link {
            up: false,
            code: Some(Code::RelayUnreachable),
        };
        assert_eq!(line(false, "en", &[]), "Connecting to the agency");
        assert_eq!(
            line(
                false,
                "en",
                &[UP, View::Queue { position: 0 }, down.clone()]
            ),
            "Looking for the agency's relay"
        );
        let talk = session(Stage::Accepted, Some("Maija"), HYBRID);
        assert!(line(false, "en", &[UP, talk, down]).starts_with("Talking"));
    }

    #[test]
    fn who_waits_again_after_an_offer_sees_the_place_in_the_queue() {
        let views = [
            UP,
            View::Queue { position: 0 },
            connecting(),
            session(Stage::Warm, Some("Maija"), HYBRID),
            View::Queue { position: 0 },
            session(Stage::Idle, Some("Maija"), HYBRID),
        ];
        assert_eq!(line(false, "en", &views), "Waiting as number 1");
        let over = [&views[..4], &views[5..]].concat();
        assert_eq!(line(false, "en", &over), "The conversation is over");
    }

    #[test]
    fn an_offer_shows_until_it_is_answered() {
        let offer = View::Offer { waited: 12 };
        let attending = View::Attending { waiting: 1 };
        let mut views = vec![UP, attending.clone(), offer];
        assert_eq!(line(true, "en", &views), "A citizen asks for you");
        views.extend([session(Stage::Idle, None, HYBRID), attending]);
        assert_eq!(line(true, "en", &views), "Available, people waiting: 1");
    }
}
