//! PURE: what a call report says, so that a person understands it.

use std::fmt::Write;

use serde_json::Value;

use crate::text::Texts;

/// Columns of the labels.
const LABELS: usize = 24;

/// A number for people; a dash for what was not measured.
fn number(value: &Value, digits: usize) -> String {
    value
        .as_f64()
        .map_or_else(|| "–".into(), |number| format!("{number:.digits$}"))
}

fn divided(value: &Value, by: f64, digits: usize) -> String {
    value
        .as_f64()
        .map_or_else(|| "–".into(), |number| format!("{:.digits$}", number / by))
}

/// One second of the consultation.
pub(super) fn second(texts: &Texts, view: &Value, at: u32, of: u32) -> String {
    texts.with(
        "demo-second",
        &[
            ("at", &at.min(of).to_string()),
            ("of", &of.to_string()),
            ("fps", &number(&view["fps"], 0)),
            ("sent", &divided(&view["sent_bps"], 1_000.0, 0)),
            ("received", &divided(&view["received_bps"], 1_000.0, 0)),
            ("ms", &number(&view["latency_ms"], 0)),
        ],
    )
}

/// The lines of one report.
pub(super) fn text(texts: &Texts, report: &Value) -> String {
    let mut out = String::new();
    let mut line = |label: &str, value: String| {
        let label = texts.get(label);
        let pad = LABELS.saturating_sub(label.chars().count());
        // writing to a string cannot fail
        let _ = writeln!(out, "  {label}{:pad$} {value}", "");
    };
    line(
        "summary-outcome",
        texts.get(match report["outcome"].as_str() {
            Some("completed") => "outcome-completed",
            Some("refused") => "outcome-refused",
            _ => "outcome-failed",
        }),
    );
    let peer = match report["peer"]["verified_as"].as_str() {
        Some(name) => texts.with("peer-verified", &[("name", name)]),
        None => texts.get("peer-unidentified"),
    };
    line("summary-peer", peer);
    line("summary-path", path(texts, &report["path"]));
    let group = report["security"]["key_exchange"].as_str().unwrap_or("–");
    let exchange = texts.get(if group.contains("MLKEM") {
        "exchange-post-quantum"
    } else {
        "exchange-classical"
    });
    line("summary-encryption", format!("{exchange} ({group})"));
    let timing = &report["timing_ms"];
    if report["role"] == "citizen" {
        let ms = number(&timing["button_to_first_frame"], 0);
        line("summary-button", format!("{ms} ms"));
    }
    let ms = number(&timing["accept_to_first_frame"], 0);
    line("summary-first-picture", format!("{ms} ms"));
    let (video, audio) = (&report["video"]["received"], &report["audio"]["received"]);
    line(
        "summary-picture",
        texts.with(
            "summary-picture-value",
            &[
                ("width", &number(&video["width"], 0)),
                ("height", &number(&video["height"], 0)),
                ("fps", &number(&video["fps"], 1)),
                ("ms", &number(&video["latency_ms"]["p50"], 0)),
            ],
        ),
    );
    line("summary-freezes", number(&video["freezes"], 0));
    line(
        "summary-sound",
        texts.with(
            "summary-sound-value",
            &[
                ("ms", &number(&audio["latency_ms"]["p50"], 0)),
                ("concealed", &number(&audio["concealed_ms"], 0)),
                ("played", &number(&audio["played_ms"], 0)),
            ],
        ),
    );
    let ms = number(&report["audio"]["av_skew_ms"]["p95"], 0);
    line("summary-skew", format!("{ms} ms"));
    let chat = &report["chat"];
    line(
        "summary-chat",
        texts.with(
            "summary-chat-value",
            &[
                ("sent", &number(&chat["sent"], 0)),
                ("received", &number(&chat["received"], 0)),
            ],
        ),
    );
    let wire = &report["wire"];
    line(
        "summary-lost",
        texts.with(
            "summary-lost-value",
            &[
                ("lost", &number(&wire["lost_packets"], 0)),
                ("of", &number(&wire["sent_packets"], 0)),
            ],
        ),
    );
    line(
        "summary-cost",
        texts.with(
            "summary-cost-value",
            &[
                ("cpu", &number(&report["cpu_seconds"], 2)),
                ("memory", &divided(&report["max_rss_bytes"], 1_048_576.0, 0)),
            ],
        ),
    );
    out
}

fn path(texts: &Texts, path: &Value) -> String {
    let transport = path["transport"].as_str().unwrap_or("–").to_uppercase();
    let kind = if path["kind"] == "relayed" {
        texts.with("path-relayed-unknown", &[("transport", &transport)])
    } else {
        texts.with("path-direct", &[("transport", &transport)])
    };
    texts.with(
        "summary-round-trip",
        &[("path", &kind), ("ms", &number(&path["rtt_ms"], 1))],
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_measured_is_a_dash_and_no_text_is_missing() {
        for language in ["fi", "sv", "en"] {
            let text = text(&Texts::new(language), &json!({ "role": "citizen" }));
            assert!(text.contains('–') && !text.contains("summary-"), "{text}");
        }
    }
}
