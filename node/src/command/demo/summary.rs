//! PURE: what the demo says of two reports, so that a person understands it.

use std::fmt::Write;

use serde_json::Value;

use crate::text::Texts;

fn number(value: &Value, digits: usize) -> String {
    value
        .as_f64()
        .map_or_else(|| "–".into(), |number| format!("{number:.digits$}"))
}

/// One second of the consultation.
pub(super) fn second(texts: &Texts, view: &Value, at: u32, of: u32) -> String {
    let kbit = |value: &Value| number(&Value::from(value.as_f64().unwrap_or(0.0) / 1_000.0), 0);
    texts.with(
        "demo-second",
        &[
            ("at", &at.min(of).to_string()),
            ("of", &of.to_string()),
            ("fps", &number(&view["fps"], 0)),
            ("sent", &kbit(&view["sent_bps"])),
            ("received", &kbit(&view["received_bps"])),
            ("latency", &number(&view["latency_ms"], 0)),
        ],
    )
}

/// The whole consultation: first what both ends have in common, then what each saw and heard.
pub(super) fn text(texts: &Texts, citizen: &Value, officer: &Value) -> String {
    let mut out = String::new();
    let mut line = |label: &str, value: String| {
        let label = texts.get(label);
        let pad = 26usize.saturating_sub(label.chars().count());
        // writing to a string cannot fail
        let _ = writeln!(out, "  {label}{:pad$} {value}", "");
    };
    let outcome = |report: &Value| {
        texts.get(match report["outcome"].as_str() {
            Some("completed") => "demo-completed",
            Some("refused") => "demo-refused",
            _ => "demo-failed",
        })
    };
    line("demo-label-outcome", outcome(citizen));
    let peer = &citizen["peer"]["verified_as"];
    line(
        "demo-label-officer",
        texts.with("demo-verified", &[("name", peer.as_str().unwrap_or("–"))]),
    );
    let (path, security) = (&citizen["path"], &citizen["security"]);
    let exchange = security["key_exchange"].as_str().unwrap_or("–");
    line(
        "demo-label-security",
        texts.with(
            if exchange.contains("MLKEM") {
                "demo-hybrid"
            } else {
                "demo-classical"
            },
            &[("group", exchange)],
        ),
    );
    line(
        "demo-label-path",
        texts.with(
            if path["kind"] == "direct" {
                "demo-direct"
            } else {
                "demo-relayed"
            },
            &[("rtt", &number(&path["rtt_ms"], 1))],
        ),
    );
    let timing = &citizen["timing_ms"];
    for (label, key) in [
        ("demo-label-queue", "button_to_queue"),
        ("demo-label-session", "match_to_session"),
        ("demo-label-audio", "accept_to_first_audio"),
        ("demo-label-accept", "accept_to_first_frame"),
        ("demo-label-button", "button_to_first_frame"),
    ] {
        line(label, format!("{} ms", number(&timing[key], 1)));
    }
    for (label, report) in [
        ("demo-label-citizen", citizen),
        ("demo-label-officer-saw", officer),
    ] {
        let (video, audio) = (&report["video"]["received"], &report["audio"]["received"]);
        line(
            label,
            texts.with(
                "demo-saw",
                &[
                    ("frames", &number(&video["frames_decoded"], 0)),
                    ("fps", &number(&video["fps"], 1)),
                    ("width", &number(&video["width"], 0)),
                    ("height", &number(&video["height"], 0)),
                    ("freezes", &number(&video["freezes"], 0)),
                    ("latency", &number(&video["latency_ms"]["p95"], 0)),
                ],
            ),
        );
        line(
            "demo-label-heard",
            texts.with(
                "demo-heard",
                &[
                    (
                        "played",
                        &number(
                            &Value::from(audio["played_ms"].as_f64().unwrap_or(0.0) / 1_000.0),
                            1,
                        ),
                    ),
                    ("concealed", &number(&audio["concealed_ms"], 0)),
                    ("latency", &number(&audio["latency_ms"]["p95"], 0)),
                    ("skew", &number(&report["audio"]["av_skew_ms"]["p95"], 0)),
                ],
            ),
        );
        line(
            "demo-label-cost",
            texts.with(
                "demo-cost",
                &[
                    ("cpu", &number(&report["cpu_seconds"], 2)),
                    (
                        "memory",
                        &number(
                            &Value::from(
                                report["max_rss_bytes"].as_f64().unwrap_or(0.0) / 1_048_576.0,
                            ),
                            0,
                        ),
                    ),
                ],
            ),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_that_was_not_measured_is_a_dash() {
        assert_eq!(number(&Value::Null, 1), "–");
        let text = text(&Texts::new("en"), &json!({}), &json!({}));
        assert!(text.contains('–'), "{text}");
    }
}
