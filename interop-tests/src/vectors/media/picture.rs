//! Streams of pictures: RTP packets behind lengths, a NAL unit each.

use serde_json::{Value, json};
use suora_node::clock::Clock;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::FRAME_MAX;
use suora_protocol::media::receiver::{Input, Output, Receiver};
use suora_protocol::media::rtp::{self, Out};
use suora_protocol::media::sender::{self, Sender};
use suora_protocol::media::{EncodedFrame, Kind, flow, h264};
use suora_protocol::time::Timestamp;

use super::super::raw::hex;
use super::super::verify::{self, Case, bytes, lacks};
use super::super::{Facts, Vectors, fields};
use super::{CAPTURED, PICTURE, REPORTS, SOUND, describe, micros, refuse};

const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0xda];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];
const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x21, 0xa0];
const SLICE: &[u8] = &[0x41, 0x9a, 0x21, 0x6c];
/// The sequence number of a picture's first packet.
const FIRST: u16 = 0x0200;

/// One packet of a stream, right or wrong.
fn packet(at: u16, marker: bool, payload: &[u8]) -> Out<'_> {
    Out {
        payload_type: rtp::PT_H264,
        marker,
        sequence: FIRST.wrapping_add(at),
        time: rtp::rtp_time(Kind::Video, CAPTURED),
        ssrc: PICTURE,
        captured: (at == 0).then_some(CAPTURED),
        payload,
    }
}

fn stream(packets: &[Out<'_>]) -> Result<Vec<u8>, Fault> {
    let mut out = vec![2];
    for packet in packets {
        let packet = rtp::write(*packet)?;
        flow::put_varint(&mut out, packet.len() as u64);
        out.extend_from_slice(&packet);
    }
    Ok(out)
}

/// A picture of these units, as it should be.
fn picture(units: &[&[u8]]) -> Result<Vec<u8>, Fault> {
    let packets: Vec<Out<'_>> = (0..)
        .zip(units)
        .map(|(at, unit)| packet(at, usize::from(at) + 1 == units.len(), unit))
        .collect();
    stream(&packets)
}

fn join(units: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for unit in units {
        h264::join(&mut out, unit);
    }
    out
}

/// What a sender writes for an access unit, and the number of its first packet.
fn sent(units: &[&[u8]]) -> Result<Vec<u8>, Fault> {
    let now = Clock::start().now();
    let mut sender = Sender::new(0, [SOUND, PICTURE]);
    sender.handle_input(now, sender::Input::Open)?;
    let frame = EncodedFrame {
        kind: Kind::Video,
        captured: CAPTURED,
        data: join(units).into(),
        keyframe: true,
        width: 0,
        height: 0,
        duration: std::time::Duration::ZERO,
    };
    sender.handle_input(now, sender::Input::Frame(frame))?;
    sender.handle_input(now, sender::Input::Beat(FRAME_MAX))?;
    let mut out = Vec::new();
    loop {
        match sender.poll_output() {
            sender::Output::Write(_, bytes) => out.extend_from_slice(&bytes),
            sender::Output::Wait(..) => return Ok(out),
            _ => {}
        }
    }
}

/// Streams of pictures.
pub fn make() -> Result<Vectors, Fault> {
    let mut vectors = Vectors::new("media", "picture", "spec/media.md, sections 2 to 4");
    describe(&mut vectors);
    vectors.format.extend([
        (
            "stream",
            "all bytes of a unidirectional stream of the host's, up to its end",
        ),
        (
            "head",
            "the first bytes of a stream; `fill` zero bytes follow",
        ),
        ("fill", "how many zero bytes follow head"),
        (
            "before",
            "the stream of the keyframe that came before; absent: none is needed",
        ),
        (
            "access_unit",
            "the picture as an Annex B access unit; null: the stream is ignored",
        ),
        (
            "keyframe",
            "whether decoding can start here; null: the stream is ignored",
        ),
        (
            "captured",
            "the capture time in microseconds since 1970; null: the stream is ignored",
        ),
    ]);
    vectors.verification = vec![
        "A guest whose gate is open reads before, if there is one, then stream, or head and fill, in whatever pieces it comes; compare access_unit, keyframe and captured.",
    ];
    let v = &mut vectors;
    let mut add =
        |name: &str, comment: &str, stream: Vec<u8>, units: &[&[u8]], before: Option<&[u8]>| {
            let mut case = fields(json!({
                "stream": hex(&stream),
                "access_unit": hex(&join(units)),
                "keyframe": units.iter().any(|unit| h264::unit_type(unit) == 5),
                "captured": micros(Some(CAPTURED)),
            }));
            if let Some(before) = before {
                case.insert("before".into(), hex(before).into());
            }
            v.valid(name, comment, Value::Object(case));
        };
    let keyframe = [SPS, PPS, IDR];
    let good = picture(&keyframe)?;
    add(
        "keyframe",
        "parameter sets and an IDR slice, a packet each",
        good.clone(),
        &keyframe,
        None,
    );
    add(
        "as-sent",
        "what a sender writes for the same access unit",
        sent(&keyframe)?,
        &keyframe,
        None,
    );
    let next = stream(&[Out {
        sequence: FIRST + 3,
        ..packet(0, true, SLICE)
    }])?;
    add(
        "delta",
        "a picture that refers to the one before",
        next,
        &[SLICE],
        Some(&good),
    );
    let wrap = stream(&[
        Out {
            sequence: u16::MAX,
            ..packet(0, false, SPS)
        },
        Out {
            sequence: 0,
            captured: None,
            ..packet(0, true, IDR)
        },
    ])?;
    add(
        "wrap",
        "over the wrap of sequence numbers",
        wrap,
        &[SPS, IDR],
        None,
    );
    let long = [IDR, &[0x55; 3_000][..]].concat();
    add(
        "long-unit",
        "a NAL unit of 3005 bytes is one packet",
        picture(&[&long])?,
        &[&long],
        None,
    );
    let wide = [&[0x40, 2][..], &good[1..]].concat();
    add(
        "wide-flow-id",
        "the flow id in two bytes",
        wide,
        &keyframe,
        None,
    );
    add(
        "types-1-and-23",
        "the first and the last type of single NAL units",
        picture(&[IDR, &[0x41, 9], &[0x77, 9]])?,
        &[IDR, &[0x41, 9], &[0x77, 9]],
        None,
    );
    let v = &mut vectors;
    let ignored = json!({"access_unit": null, "keyframe": null, "captured": null});
    for (name, comment, id) in [
        ("unknown-flow", "a flow of kind 3", 3),
        ("own-flow", "the guest's own picture", 18),
        ("sound-flow", "sound does not come on streams", 1),
    ] {
        let mut case = fields(ignored.clone());
        case.insert(
            "stream".into(),
            hex(&[&[id][..], &good[1..]].concat()).into(),
        );
        v.valid(name, comment, Value::Object(case));
    }
    let mut bad = |name: &str, reason: &str, bytes: &[u8]| refuse(v, name, reason, "stream", bytes);
    bad("empty", "no flow id", &[]);
    bad(
        "cut-flow-id",
        "a flow id of two bytes, one is there",
        &[0x40],
    );
    bad("no-packet", "a flow id alone", &[2]);
    bad(
        "cut-length",
        "a length of two bytes, one is there",
        &[2, 0x40],
    );
    bad(
        "cut-packet",
        "the last byte is missing",
        &good[..good.len() - 1],
    );
    bad(
        "byte-behind",
        "a byte behind the last packet",
        &[&good[..], &[0]].concat(),
    );
    bad("no-rtp", "a packet of four bytes", &[2, 4, 0x80, 96, 0, 0]);
    bad(
        "fragment",
        "FU-A (type 28) is not used",
        &picture(&[&[0x7c, 0x85, 1, 2]])?,
    );
    bad(
        "aggregate",
        "STAP-A (type 24) is not used",
        &picture(&[&[0x78, 0, 2, 0x67, 1, 0, 2, 0x68, 1]])?,
    );
    bad("type-0", "NAL unit type 0", &picture(&[&[0x60, 1]])?);
    bad("type-30", "NAL unit type 30", &picture(&[&[0x7e, 1]])?);
    bad(
        "forbidden-bit",
        "the forbidden bit is set",
        &picture(&[&[0xe5, 0x88]])?,
    );
    bad("no-unit", "a packet without payload", &picture(&[&[]])?);
    bad(
        "payload-type",
        "Opus on a flow of pictures",
        &stream(&[Out {
            payload_type: rtp::PT_OPUS,
            ..packet(0, true, IDR)
        }])?,
    );
    bad(
        "no-marker",
        "no packet is the last",
        &stream(&[packet(0, false, SPS), packet(1, false, IDR)])?,
    );
    bad(
        "behind-the-marker",
        "a packet behind the last",
        &stream(&[packet(0, true, SPS), packet(1, true, IDR)])?,
    );
    bad(
        "gap",
        "a sequence number is missing",
        &stream(&[packet(0, false, SPS), packet(2, true, IDR)])?,
    );
    bad(
        "out-of-order",
        "sequence numbers go down",
        &stream(&[
            packet(0, false, SPS),
            Out {
                sequence: FIRST - 1,
                ..packet(1, true, IDR)
            },
        ])?,
    );
    bad(
        "two-times",
        "two RTP times in one picture",
        &stream(&[
            packet(0, false, SPS),
            Out {
                time: 1,
                ..packet(1, true, IDR)
            },
        ])?,
    );
    bad(
        "no-capture-time",
        "a picture without capture time",
        &stream(&[Out {
            captured: None,
            ..packet(0, true, IDR)
        }])?,
    );
    let mut head = vec![2, 0x80, 0x10, 0, 0];
    head.extend(rtp::write(packet(0, true, IDR))?);
    let case = json!({"head": hex(&head), "fill": FRAME_MAX + 1 - head.len()});
    v.invalid(
        "over-the-bound",
        Code::TooLarge,
        "1048577 bytes: the session ends",
        case,
    );
    Ok(vectors)
}

/// A guest reads a stream in pieces; `None`: it is ignored.
fn read(before: Option<&[u8]>, stream: &[u8], piece: usize) -> Result<Option<EncodedFrame>, Fault> {
    let now = Clock::start().now();
    let mut guest = Receiver::new(1, 0, REPORTS);
    guest.handle_input(now, Input::Accepted)?;
    if let Some(before) = before {
        guest.handle_input(now, Input::StreamData(0, before))?;
        guest.handle_input(now, Input::StreamEnd(0))?;
    }
    guest.handle_input(now, Input::StreamData(1, &[]))?;
    for piece in stream.chunks(piece) {
        guest.handle_input(now, Input::StreamData(1, piece))?;
    }
    guest.handle_input(now, Input::StreamEnd(1))?;
    if guest.received().malformed > 0 {
        return Err(Fault::new(Code::Malformed).with("the stream is dropped"));
    }
    let mut last = None;
    let mut pictures = 0;
    loop {
        match guest.poll_output() {
            Output::Frame(frame) => {
                pictures += 1;
                last = Some(frame);
            }
            Output::Wait(..) => break,
            _ => {}
        }
    }
    Ok(last.filter(|_| pictures == 1 + u8::from(before.is_some())))
}

/// Verifies a case, in one piece and in small ones.
pub fn verify(case: &Case) -> Result<Facts, Fault> {
    let stream = verify::stream(case)?;
    let before = case
        .contains_key("before")
        .then(|| bytes(case, "before"))
        .transpose()?;
    let whole = read(before.as_deref(), &stream, stream.len().max(1))?;
    if read(before.as_deref(), &stream, 7)? != whole {
        return Err(lacks("cut: pieces change the picture"));
    }
    Ok(fields(json!({
        "access_unit": whole.as_ref().map(|frame| hex(&frame.data)),
        "keyframe": whole.as_ref().map(|frame| frame.keyframe),
        "captured": micros(whole.map(|frame: EncodedFrame| -> Timestamp { frame.captured })),
    })))
}
