//! The vectors of `spec/media.md`: flows, RTP, RTCP, streams of pictures, Opus. What a
//! sender writes is made by the public API; what nobody should write is made by hand.

pub mod opus;
pub mod picture;
pub mod playout;
pub mod reports;
pub mod rtp;

use serde_json::{Value, json};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::media::flow::{self, Flow, Part};
use suora_protocol::time::Timestamp;

use super::raw::hex;
use super::verify::{Case, bytes};
use super::{Facts, Vectors, fields};

/// When the frames of these vectors were captured: 24 November 2026, 14:20:00.123456 UTC.
const CAPTURED: Timestamp = Timestamp::from_micros(1_795_530_000_123_456);
/// The host's sound.
const SOUND: u32 = 0x1111_1111;
/// The host's picture.
const PICTURE: u32 = 0x2222_2222;
/// The guest's reports.
const REPORTS: u32 = 0x3333_3333;

/// What the words of every file mean.
fn describe(vectors: &mut Vectors) {
    vectors.format.extend([
        ("name", "the case's name in this file"),
        ("comment", "what a valid case shows"),
        ("reason", "what is wrong with an invalid case"),
        ("code", "the code of registries.md for an invalid case"),
    ]);
}

fn refuse(vectors: &mut Vectors, name: &str, reason: &str, field: &str, bytes: &[u8]) {
    let case = json!({ field: hex(bytes) });
    vectors.invalid(name, Code::Malformed, reason, case);
}

/// Flow ids in front of datagrams.
pub fn flow() -> Result<Vectors, Fault> {
    let mut vectors = Vectors::new("media", "flow", "spec/media.md, section 2");
    describe(&mut vectors);
    vectors.format.extend([
        ("datagram", "the payload of a DATAGRAM frame"),
        ("flow", "the flow id, in decimal digits"),
        (
            "participant",
            "whose flow it is; null: of a flow that is not known",
        ),
        (
            "part",
            "rtcp, audio, video or again; null: of a flow that is not known",
        ),
        ("packet", "what follows the flow id"),
        ("written", "the flow id as a sender writes it"),
    ]);
    vectors.verification = vec![
        "Read the flow id at the start of datagram; compare flow, participant, part and packet.",
        "Write the flow id; compare with written.",
    ];
    let mut add = |name: &str, comment: &str, head: &[u8], known: Option<(u8, &str)>| {
        let (id, len) = flow::varint(head).unwrap_or_default();
        let mut written = Vec::new();
        flow::put_varint(&mut written, id);
        let case = json!({
            "datagram": hex(&[head, &[0xab, 0xcd]].concat()),
            "flow": id.to_string(),
            "participant": known.map(|(participant, _)| participant),
            "part": known.map(|(_, part)| part),
            "packet": hex(&[&head[len..], &[0xab, 0xcd]].concat()),
            "written": hex(&written),
        });
        vectors.valid(name, comment, case);
    };
    for (participant, who) in [(0, "host"), (1, "guest")] {
        for (kind, part) in ["rtcp", "audio", "video"].into_iter().enumerate() {
            let id = participant * 16 + u8::try_from(kind).unwrap_or(0);
            add(
                &format!("{who}-{part}"),
                "one byte",
                &[id],
                Some((participant, part)),
            );
        }
    }
    add(
        "two-bytes",
        "participant 4, sound: 65 takes two bytes",
        &[0x40, 0x41],
        Some((4, "audio")),
    );
    add(
        "last-participant",
        "participant 255, picture",
        &[0x4f, 0xf2],
        Some((255, "video")),
    );
    add(
        "longer-than-needed",
        "1 in two bytes is read all the same",
        &[0x40, 0x01],
        Some((0, "audio")),
    );
    add(
        "longest-form",
        "1 in eight bytes is read all the same",
        &[0xc0, 0, 0, 0, 0, 0, 0, 1],
        Some((0, "audio")),
    );
    add(
        "again",
        "a copy of the guest's sound",
        &[0x19],
        Some((1, "again")),
    );
    add("probe", "a train of the host", &[0x0a], Some((0, "probe")));
    add(
        "probed",
        "the guest's answer to it",
        &[0x1b],
        Some((1, "probed")),
    );
    add("unknown-kind", "kind 3 is ignored", &[0x03], None);
    add(
        "unknown-participant",
        "participant 256 is ignored",
        &[0x50, 0x01],
        None,
    );
    add("greatest", "2^62 - 1 is ignored", &[0xff; 8], None);
    let nothing = json!({"datagram": "01", "flow": "1", "participant": 0, "part": "audio", "packet": "", "written": "01"});
    vectors.valid(
        "no-packet",
        "a flow id alone; its packet is malformed",
        nothing,
    );
    let v = &mut vectors;
    refuse(v, "empty", "no flow id", "datagram", &[]);
    refuse(
        v,
        "cut-in-two",
        "a flow id of two bytes, one is there",
        "datagram",
        &[0x40],
    );
    refuse(
        v,
        "cut-in-four",
        "a flow id of four bytes, three are there",
        "datagram",
        &[0x80, 0, 0],
    );
    refuse(
        v,
        "cut-in-eight",
        "a flow id of eight bytes, seven are there",
        "datagram",
        &[0xc0, 0, 0, 0, 0, 0, 0],
    );
    Ok(vectors)
}

/// Verifies a case of flows.
pub fn verify_flow(case: &Case) -> Result<Facts, Fault> {
    let datagram = bytes(case, "datagram")?;
    let (id, packet) = flow::datagram(&datagram)?;
    let known = Flow::from_id(id);
    let part = known.map(|known| match known.part {
        Part::Rtcp => "rtcp",
        Part::Audio => "audio",
        Part::Video => "video",
        Part::Again => "again",
        Part::Probe => "probe",
        Part::Probed => "probed",
    });
    let mut written = Vec::new();
    flow::put_varint(&mut written, known.map_or(id, Flow::id));
    Ok(fields(json!({
        "flow": id.to_string(),
        "participant": known.map(|known| known.participant),
        "part": part,
        "packet": hex(packet),
        "written": hex(&written),
    })))
}

/// An absent value is null, never left out.
fn micros(time: Option<Timestamp>) -> Value {
    time.map_or(Value::Null, |time| time.as_micros().into())
}
