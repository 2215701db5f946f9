//! Opus packets: their duration, by the table of contents.

use serde_json::json;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::media::opus;

use super::super::raw::hex;
use super::super::verify::{Case, bytes};
use super::super::{Facts, Vectors, fields};
use super::{describe, refuse};

/// Durations.
pub fn make() -> Result<Vectors, Fault> {
    let mut vectors = Vectors::new("media", "opus", "spec/media.md, section 6");
    describe(&mut vectors);
    vectors.format.extend([
        ("packet", "an Opus packet; only its first two bytes matter"),
        ("samples", "its duration in samples at 48 kHz"),
    ]);
    vectors.verification = vec!["Compute the duration of packet; compare with samples."];
    for config in 0..32u8 {
        let sizes: &[u32] = match config {
            0..=11 => &[480, 960, 1_920, 2_880],
            12..=15 => &[480, 960],
            _ => &[120, 240, 480, 960],
        };
        let samples = sizes.get(usize::from(config) % sizes.len()).copied();
        let case = json!({"packet": hex(&[config << 3, 0xaa]), "samples": samples});
        vectors.valid(&format!("configuration-{config}"), "one frame", case);
    }
    let mut add = |name: &str, comment: &str, packet: &[u8], samples: u32| {
        vectors.valid(
            name,
            comment,
            json!({"packet": hex(packet), "samples": samples}),
        );
    };
    add(
        "speech",
        "20 ms of mono speech, hybrid: what a sender sends",
        &[0x78, 1, 2],
        960,
    );
    add(
        "stereo",
        "the stereo bit does not change the duration",
        &[0x7c, 1, 2],
        960,
    );
    add("silence", "a table of contents alone", &[0x78], 960);
    add(
        "two-equal",
        "two frames of the same size",
        &[0x79, 1, 2],
        1_920,
    );
    add("two", "two frames of two sizes", &[0x7a, 1, 2, 3], 1_920);
    add("three", "three frames by count", &[0x7b, 3, 1, 2, 3], 2_880);
    add(
        "count-flags",
        "the upper two bits of the count are flags",
        &[0x7b, 0xc3, 0],
        2_880,
    );
    add("longest", "120 ms: 48 frames of 2.5 ms", &[0x83, 48], 5_760);
    let v = &mut vectors;
    refuse(v, "empty", "no byte", "packet", &[]);
    refuse(
        v,
        "no-count",
        "frames by count, and no count",
        "packet",
        &[0x7b],
    );
    refuse(v, "no-frame", "a count of nothing", "packet", &[0x7b, 0]);
    refuse(
        v,
        "too-long",
        "49 frames of 2.5 ms are more than 120 ms",
        "packet",
        &[0x83, 49],
    );
    refuse(
        v,
        "two-of-60-ms-and-one",
        "three frames of 60 ms",
        "packet",
        &[0x1b, 3],
    );
    Ok(vectors)
}

/// Verifies a case.
pub fn verify(case: &Case) -> Result<Facts, Fault> {
    let samples = opus::samples(&bytes(case, "packet")?)
        .ok_or_else(|| Fault::new(Code::Malformed).with("no Opus packet"))?;
    Ok(fields(json!({ "samples": samples })))
}
