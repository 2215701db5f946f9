//! PURE: a call report as a person reads it. The report is taken as JSON, so that it may
//! come from this program or from the file of another.

use serde_json::Value;
use suora_protocol::fault::Code;
use suora_protocol::quality::{Cause, Word};

use super::verdict::Missing;
use super::{cause, exchange, whole, word};
use crate::text::{Texts, plain};

/// A step of the demo.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Keys and documents are made.
    Keys,
    /// The relay starts.
    Relay,
    /// The officer's node starts.
    Officer,
    /// The citizen's node starts.
    Citizen,
    /// The two talk.
    Talk,
    /// The recordings are looked at.
    Files,
}

impl Step {
    /// The step in words.
    pub fn text(self, texts: &Texts) -> String {
        texts.get(match self {
            Self::Keys => "demo-keys",
            Self::Relay => "demo-relay",
            Self::Officer => "demo-officer",
            Self::Citizen => "demo-citizen",
            Self::Talk => "demo-talk",
            Self::Files => "demo-files",
        })
    }
}

/// What the demo is about to do.
pub fn demo_begins(seconds: u64, texts: &Texts) -> String {
    texts.with("demo-begin", &[("seconds", &seconds.to_string())])
}

/// How the demo ended, what each side (`citizen` or `officer`) lacks, and where to look.
pub fn demo_ended(missing: &[(&str, Missing)], folder: &str, texts: &Texts) -> String {
    let mut lines = vec![texts.get(if missing.is_empty() {
        "demo-worked"
    } else {
        "demo-failed"
    })];
    lines.extend(
        missing
            .iter()
            .map(|(who, missing)| format!("  {}: {}", side(Some(who), texts), missing.text(texts))),
    );
    lines.push(texts.with("demo-left", &[("folder", folder)]));
    lines.join("\n")
}

fn side(role: Option<&str>, texts: &Texts) -> String {
    texts.get(match role {
        Some("officer") => "summary-officer",
        _ => "summary-citizen",
    })
}

/// The lines of a report: a title, then label and value in two columns. What was not
/// measured says so.
pub fn lines(report: &Value, texts: &Texts) -> Vec<String> {
    let report = Report {
        value: report,
        texts,
    };
    let rows = [
        ("summary-outcome", report.outcome()),
        ("summary-peer", report.peer()),
        ("summary-path", report.path()),
        ("summary-encryption", report.encryption()),
        ("summary-first-picture", report.first_picture()),
        ("summary-picture", report.picture()),
        ("summary-freezes", report.freezes()),
        ("summary-sound", report.sound()),
        ("summary-quality", report.quality()),
        ("summary-skew", report.ms("/audio/av_skew_ms/p50")),
        ("summary-chat", report.chat()),
        ("summary-lost", report.lost()),
        ("summary-cost", report.cost()),
    ];
    let labels: Vec<String> = rows.iter().map(|(id, _)| texts.get(id)).collect();
    let width = labels.iter().map(|label| label.chars().count()).max();
    let width = width.unwrap_or_default();
    let title = side(report.text("/role"), texts);
    let rows = labels.iter().zip(rows).map(|(label, (_, value))| {
        let value = value.unwrap_or_else(|| texts.get("not-measured"));
        format!("  {label:width$}  {value}")
    });
    std::iter::once(title).chain(rows).collect()
}

struct Report<'a> {
    value: &'a Value,
    texts: &'a Texts,
}

impl Report<'_> {
    fn text(&self, path: &str) -> Option<&str> {
        self.value.pointer(path)?.as_str()
    }

    fn number(&self, path: &str, decimals: usize) -> Option<String> {
        let value = self.value.pointer(path)?.as_f64()?;
        Some(self.texts.number(value, decimals))
    }

    fn ms(&self, path: &str) -> Option<String> {
        Some(format!("{} ms", self.number(path, 0)?))
    }

    fn outcome(&self) -> Option<String> {
        let outcome = self.texts.get(match self.text("/outcome")? {
            "completed" => "outcome-completed",
            "refused" => "outcome-refused",
            _ => "outcome-failed",
        });
        let Some(code) = self.text("/error/code") else {
            return Some(outcome);
        };
        let code = Code::parse(code).unwrap_or(Code::Internal);
        // an officer who was refused before any connection stood showed a credential that does not do
        let own = self.text("/role") == Some("officer")
            && code.is_refusal()
            && self.text("/security/tls").is_none();
        let (what, next) = self.texts.told(code, own);
        Some(match self.text("/error/message") {
            Some(detail) => format!("{outcome}: {what} ({}) {next}", plain(detail)),
            None => format!("{outcome}: {what} {next}"),
        })
    }

    fn peer(&self) -> Option<String> {
        self.text("/peer/peer_id")?;
        Some(whole(self.text("/peer/verified_as"), None, self.texts))
    }

    fn path(&self) -> Option<String> {
        let transport = self.text("/path/transport")?.to_uppercase();
        let texts = self.texts;
        let path = match (self.text("/path/kind")?, self.text("/path/relay")) {
            ("direct", _) => texts.with("path-direct", &[("transport", &transport)]),
            (_, Some(relay)) => texts.with(
                "path-relayed",
                &[("relay", relay), ("transport", &transport)],
            ),
            (_, None) => texts.with("path-relayed-unknown", &[("transport", &transport)]),
        };
        Some(match self.number("/path/rtt_ms", 1) {
            Some(ms) => texts.with("summary-round-trip", &[("path", &path), ("ms", &ms)]),
            None => path,
        })
    }

    fn encryption(&self) -> Option<String> {
        let group = self.text("/security/key_exchange")?;
        let exchange = exchange(group, self.texts);
        let tls = self.text("/security/tls")?;
        Some(format!("TLS {}, {exchange} ({})", plain(tls), plain(group)))
    }

    fn first_picture(&self) -> Option<String> {
        self.ms("/timing_ms/accept_to_first_frame")
    }

    fn picture(&self) -> Option<String> {
        let unknown = || "–".to_string();
        let args = [
            ("width", self.number("/video/received/width", 0)?),
            ("height", self.number("/video/received/height", 0)?),
            (
                "fps",
                self.number("/video/received/fps", 1)
                    .unwrap_or_else(unknown),
            ),
            (
                "ms",
                self.latency("/video/received/latency_ms")
                    .unwrap_or_else(unknown),
            ),
        ];
        Some(self.with("summary-picture-value", &args))
    }

    /// The median of a latency, and how far it may be wrong: one that is smaller than that
    /// is only known to be under the two together.
    fn latency(&self, path: &str) -> Option<String> {
        let value = |key: &str| self.value.pointer(&format!("{path}/{key}"))?.as_f64();
        let median = value("p50")?;
        // whole milliseconds, rounded up: a claim is not to be exacter than it is
        let unsure = value("uncertainty")?.ceil();
        Some(if median < unsure {
            self.texts.with(
                "summary-latency-under",
                &[
                    ("ms", &self.texts.number((median + unsure).ceil(), 0)),
                    ("unsure", &self.texts.number(unsure, 0)),
                ],
            )
        } else {
            let (median, unsure) = (self.texts.number(median, 0), self.texts.number(unsure, 0));
            format!("{median} ± {unsure} ms")
        })
    }

    fn freezes(&self) -> Option<String> {
        let count = self.number("/video/received/freezes", 0)?;
        let ms = self.ms("/video/received/freeze_ms")?;
        Some(format!("{count} ({ms})"))
    }

    fn sound(&self) -> Option<String> {
        let args = [
            ("ms", self.latency("/audio/received/latency_ms")?),
            ("concealed", self.number("/audio/received/concealed_ms", 0)?),
            ("played", self.number("/audio/received/played_ms", 0)?),
        ];
        Some(self.with("summary-sound-value", &args))
    }

    /// The share of the time at each word, and of each cause.
    fn quality(&self) -> Option<String> {
        let seconds = |path: String| self.value.pointer(&path)?.as_f64();
        let words = Word::ALL.iter().filter_map(|named| {
            let key = named.as_str().replace('-', "_");
            let share = seconds(format!("/quality/words/{key}"))?;
            (share > 0.0).then(|| (word(*named, self.texts), share))
        });
        let words: Vec<(String, f64)> = words.collect();
        let causes = Cause::ALL.iter().filter_map(|named| {
            let share = seconds(format!("/quality/causes/{named}"))?;
            (share > 0.0).then(|| (cause(*named, self.texts), share))
        });
        let whole: f64 = words.iter().map(|(_, share)| share).sum();
        let part = |(what, share): (String, f64)| {
            let percent = self.texts.number(share * 100.0 / whole, 0);
            self.with(
                "summary-quality-share",
                &[("word", what), ("percent", percent)],
            )
        };
        let causes: Vec<String> = causes.map(part).collect();
        let words: Vec<String> = words.into_iter().map(part).collect();
        match (words.is_empty(), causes.is_empty()) {
            (true, _) => None,
            (false, true) => Some(words.join(", ")),
            (false, false) => {
                let args = [("words", words.join(", ")), ("causes", causes.join(", "))];
                Some(self.with("summary-quality-causes", &args))
            }
        }
    }

    fn chat(&self) -> Option<String> {
        let args = [
            ("sent", self.number("/chat/sent", 0)?),
            ("received", self.number("/chat/received", 0)?),
        ];
        Some(self.with("summary-chat-value", &args))
    }

    fn lost(&self) -> Option<String> {
        let args = [
            ("lost", self.number("/wire/lost_packets", 0)?),
            ("sent", self.number("/wire/sent_packets", 0)?),
        ];
        Some(self.with("summary-lost-value", &args))
    }

    fn cost(&self) -> Option<String> {
        let bytes = self.value.pointer("/max_rss_bytes")?.as_f64()?;
        let args = [
            ("cpu", self.number("/cpu_seconds", 1)?),
            ("memory", self.texts.number(bytes / 1e6, 0)),
        ];
        Some(self.with("summary-cost-value", &args))
    }

    fn with(&self, id: &str, args: &[(&str, String)]) -> String {
        let args: Vec<(&str, &str)> = args
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        self.texts.with(id, &args)
    }
}

#[cfg(test)]
mod tests {
    use suora_protocol::fault::Fault;

    use super::*;
    use crate::engine::sessions;
    use crate::report::{Path, Peer, Security, Timing};

    fn whole_report() -> Value {
        let mut report = sessions::failed("citizen", &Fault::new(Code::Ended), Timing::default());
        report.outcome = crate::report::Outcome::Completed;
        report.error = None;
        report.peer = Some(Peer {
            peer_id: "12D3Koo".into(),
            verified_as: Some("Maija Virtanen".into()),
        });
        report.path = Some(Path {
            kind: "direct",
            transport: "udp",
            local: None,
            remote: None,
            relay: None,
            rtt_ms: Some(1.25),
        });
        report.security = Some(Security {
            tls: "1.3",
            key_exchange: "X25519MLKEM768".into(),
            fingerprint: "00".into(),
        });
        report.timing_ms.accept_to_first_frame = Some(61.2);
        let video = &mut report.video.received;
        (video.width, video.height, video.fps) = (Some(640), Some(360), Some(29.96));
        video.latency_ms.p50 = Some(48.4);
        video.latency_ms.uncertainty = Some(1.2);
        report.audio.received.latency_ms.p50 = Some(61.0);
        report.audio.received.latency_ms.uncertainty = Some(1.0);
        report.audio.received.played_ms = 10_020;
        report.audio.av_skew_ms.p50 = Some(4.0);
        report.quality.words.good = 95;
        report.quality.words.sound_only = 5;
        report.quality.causes.own = 5;
        report.chat.sent = 2;
        report.wire.sent_packets = 900;
        report.cpu_seconds = Some(1.72);
        report.max_rss_bytes = Some(81_000_000);
        serde_json::to_value(report).unwrap()
    }

    #[test]
    fn a_person_reads_how_it_went() {
        let text = lines(&whole_report(), &Texts::new("en")).join("\n");
        assert_eq!(
            text,
            "The citizen's side\n\
            \x20 Result                   completed\n\
            \x20 Other end                Maija Virtanen, verified by credential\n\
            \x20 Path                     direct (UDP), round trip 1.2 ms\n\
            \x20 Encryption               TLS 1.3, post-quantum key exchange (X25519MLKEM768)\n\
            \x20 Accept to first picture  61 ms\n\
            \x20 Picture                  640 × 360, 30.0 pictures/s, 48 ± 2 ms from camera to screen\n\
            \x20 Freezes                  0 (0 ms)\n\
            \x20 Sound                    61 ± 1 ms from mouth to ear, 0 of 10020 ms made up\n\
            \x20 Connection               good 95 %, too weak for a picture 5 % (your network is slow 5 %)\n\
            \x20 Lips and voice apart     4 ms\n\
            \x20 Chat lines               2 sent, 0 received\n\
            \x20 Lost packets             0 of 900\n\
            \x20 This program used        1.7 s of processor time, 81 MB of memory"
        );
    }

    #[test]
    fn what_was_not_measured_says_so_and_a_failure_says_why() {
        let fault = Fault::new(Code::Revoked).with("credential");
        let report = sessions::failed("officer", &fault, Timing::default());
        let report = serde_json::to_value(report).unwrap();
        let text = lines(&report, &Texts::new("en")).join("\n");
        assert!(text.starts_with("The officer's side\n"), "{text}");
        assert!(
            text.contains("refused: Your credential was refused: the agency has withdrawn it."),
            "{text}"
        );
        assert!(text.contains("(credential)"), "{text}");
        for label in ["Other end", "Path", "Picture", "Sound", "This program used"] {
            let line = text.lines().find(|line| line.trim().starts_with(label));
            assert!(line.unwrap().ends_with("not measured"), "{text}");
        }
    }

    // covers: SUORA-CON-014
    #[test]
    fn a_latency_that_the_clocks_cannot_tell_says_so() {
        let mut report = whole_report();
        report["video"]["received"]["latency_ms"]["uncertainty"] = 70.5.into();
        let text = lines(&report, &Texts::new("en")).join("\n");
        assert!(
            text.contains("under 120 ms (the clocks are known to ± 71 ms) from camera"),
            "{text}"
        );
        report["video"]["received"]["latency_ms"]["uncertainty"] = Value::Null;
        let text = lines(&report, &Texts::new("en")).join("\n");
        assert!(text.contains("– from camera"), "{text}");
    }

    #[test]
    fn one_picture_alone_has_a_size_and_no_rate() {
        let mut report = whole_report();
        report["video"]["received"]["fps"] = Value::Null;
        let text = lines(&report, &Texts::new("en")).join("\n");
        assert!(
            text.contains("640 × 360, – pictures/s, 48 ± 2 ms"),
            "{text}"
        );
    }

    #[test]
    fn any_json_gives_a_summary_without_gaps() {
        for language in ["fi", "sv", "en"] {
            let texts = Texts::new(language);
            for report in [
                Value::Null,
                serde_json::json!({ "role": 3 }),
                whole_report(),
            ] {
                let lines = lines(&report, &texts);
                assert_eq!(lines.len(), 14);
                assert!(!lines.iter().any(|line| line.contains('{')), "{lines:?}");
            }
        }
    }

    #[test]
    fn the_demo_tells_its_steps() {
        let texts = Texts::new("en");
        let steps = [
            Step::Keys,
            Step::Relay,
            Step::Officer,
            Step::Citizen,
            Step::Talk,
            Step::Files,
        ];
        for step in steps {
            assert!(!step.text(&texts).starts_with("demo-"));
        }
        assert!(demo_begins(10, &texts).contains("10 s"));
        let ended = demo_ended(&[], "target/demo", &texts);
        assert!(ended.starts_with("It worked") && ended.ends_with("target/demo"));
        let lacks = [("officer", Missing::RecordedSound)];
        assert_eq!(
            demo_ended(&lacks, "d", &texts),
            "It did not work. What is missing:\n  \
             The officer's side: the recording has no sound\nWhat they saw is in d"
        );
    }
}
