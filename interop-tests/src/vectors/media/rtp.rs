//! RTP packets and the capture time in their header extension.

use serde_json::json;
use suora_protocol::fault::Fault;
use suora_protocol::media::Kind;
use suora_protocol::media::rtp::{self, Out};
use suora_protocol::time::Timestamp;

use super::super::raw::hex;
use super::super::verify::{Case, bytes};
use super::super::{Facts, Vectors, fields};
use super::{CAPTURED, PICTURE, SOUND, describe, micros, refuse};

/// A packet of sound as a sender writes it.
fn sound() -> Out<'static> {
    Out {
        payload_type: rtp::PT_OPUS,
        marker: false,
        sequence: 0x1234,
        time: rtp::rtp_time(Kind::Audio, CAPTURED),
        ssrc: SOUND,
        captured: Some(CAPTURED),
        payload: &[0x78, 1, 2, 3],
    }
}

/// The same packet by hand: its first byte, what follows the fixed header, and the payload.
fn packet(first: u8, middle: &[u8], payload: &[u8]) -> Result<Vec<u8>, Fault> {
    let plain = rtp::write(Out {
        captured: None,
        payload: &[],
        ..sound()
    })?;
    let mut out = [&plain, middle, payload].concat();
    if let Some(head) = out.first_mut() {
        *head = first;
    }
    Ok(out)
}

/// RTP headers.
pub fn make() -> Result<Vectors, Fault> {
    let mut vectors = Vectors::new("media", "rtp", "spec/media.md, section 3");
    describe(&mut vectors);
    vectors.format.extend([
        ("packet", "an RTP packet"),
        ("payload_type", "111 Opus, 96 H.264"),
        ("marker", "the marker bit"),
        ("sequence", "the sequence number"),
        ("time", "the RTP time"),
        ("ssrc", "the track"),
        (
            "captured",
            "the capture time in microseconds since 1970; null: the packet carries none",
        ),
        ("payload", "the payload"),
        ("written", "the packet that a sender writes of these values"),
    ]);
    vectors.verification = vec![
        "Read packet; compare all fields.",
        "Write a packet of the same values; compare with written, where the case has it.",
    ];
    let v = &mut vectors;
    let mut write = |name: &str, comment: &str, out: Out<'_>| {
        let written = hex(&rtp::write(out)?);
        let mut case = said(&written)?;
        case.insert("packet".into(), written.clone().into());
        case.insert("written".into(), written.into());
        v.valid(name, comment, case.into());
        Ok::<_, Fault>(())
    };
    write("sound", "Opus with its capture time", sound())?;
    let picture = Out {
        payload_type: rtp::PT_H264,
        time: rtp::rtp_time(Kind::Video, CAPTURED),
        ssrc: PICTURE,
        payload: &[0x67, 0x42, 0xc0, 0x1f],
        ..sound()
    };
    write("picture-first", "the first NAL unit of a picture", picture)?;
    let last = Out {
        marker: true,
        sequence: 0x1235,
        captured: None,
        payload: &[0x65, 0x88, 0x84],
        ..picture
    };
    write(
        "picture-last",
        "its last: marker, no capture time, same RTP time",
        last,
    )?;
    for (name, comment, time) in [
        ("captured-1970", "the first microsecond of 1970", 0),
        (
            "captured-rounding",
            "a microsecond that is no whole number of 2^-32 s",
            1_795_530_000_999_999,
        ),
        (
            "captured-2036",
            "one second before the 32 bits of NTP seconds wrap",
            2_085_978_495_000_000,
        ),
        (
            "captured-after-2036",
            "one second after they wrapped",
            2_085_978_497_000_000,
        ),
    ] {
        let captured = Timestamp::from_micros(time);
        let time = rtp::rtp_time(Kind::Audio, captured);
        write(
            name,
            comment,
            Out {
                time,
                captured: Some(captured),
                ..sound()
            },
        )?;
    }
    let ntp = rtp::to_ntp(CAPTURED).to_be_bytes();
    let element = [&[0x17][..], &ntp, &[0, 0, 0]].concat();
    let mut read = |name: &str, comment: &str, packet: Vec<u8>| {
        let packet = hex(&packet);
        let mut case = said(&packet)?;
        case.insert("packet".into(), packet.into());
        v.valid(name, comment, case.into());
        Ok::<_, Fault>(())
    };
    let payload = sound().payload;
    let extension = |profile: [u8; 2], data: &[u8]| {
        let words = u8::try_from(data.len() / 4).unwrap_or(0);
        [&profile[..], &[0, words], data].concat()
    };
    let one = [0xbe, 0xde];
    let long = [&[0x1f][..], &ntp, &[0, 0, 0, 0, 0x80, 0, 0, 0], &[0, 0, 0]].concat();
    read(
        "sixteen-bytes",
        "with the sender's clock offset, which is ignored",
        packet(0x90, &extension(one, &long), payload)?,
    )?;
    let second = [&[0x20, 0xff, 0, 0][..], &element].concat();
    read(
        "after-another",
        "behind an element of id 2 and padding",
        packet(0x90, &extension(one, &second), payload)?,
    )?;
    let other = [0x27, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0];
    read(
        "another-id",
        "an element of id 2 is no capture time",
        packet(0x90, &extension(one, &other), payload)?,
    )?;
    let two = [&[1, 8][..], &ntp, &[0, 0]].concat();
    read(
        "two-byte-form",
        "the two-byte form is ignored",
        packet(0x90, &extension([0x10, 0], &two), payload)?,
    )?;
    read(
        "cut-element",
        "an element that ends behind its extension is none",
        packet(0x90, &extension(one, &[0x17, 1, 2, 3]), payload)?,
    )?;
    read(
        "short-element",
        "a capture time of four bytes is none",
        packet(0x90, &extension(one, &[0x13, 1, 2, 3, 4, 0, 0, 0]), payload)?,
    )?;
    read(
        "empty-extension",
        "an extension of no words",
        packet(0x90, &extension(one, &[]), payload)?,
    )?;
    read(
        "csrc",
        "two contributing sources are passed over",
        packet(0x82, &[0, 0, 0, 1, 0, 0, 0, 2], payload)?,
    )?;
    read(
        "padding",
        "three bytes of padding are no payload",
        packet(0xa0, &[], &[0x78, 1, 0, 0, 3])?,
    )?;
    read("no-payload", "a header alone", packet(0x80, &[], &[])?)?;
    let v = &mut vectors;
    let good = rtp::write(sound())?;
    refuse(v, "empty", "no byte", "packet", &[]);
    refuse(
        v,
        "cut-header",
        "eleven bytes of the fixed header",
        "packet",
        &good[..11],
    );
    refuse(
        v,
        "version-1",
        "version 1",
        "packet",
        &packet(0x40, &[], payload)?,
    );
    refuse(
        v,
        "version-0",
        "version 0",
        "packet",
        &packet(0x00, &[], payload)?,
    );
    refuse(
        v,
        "cut-csrc",
        "fifteen contributing sources, one is there",
        "packet",
        &packet(0x8f, &[], payload)?,
    );
    refuse(
        v,
        "cut-extension-head",
        "an extension without its length",
        "packet",
        &packet(0x90, &[0xbe, 0xde], &[])?,
    );
    refuse(
        v,
        "cut-extension",
        "an extension of three words, one is there",
        "packet",
        &packet(0x90, &[0xbe, 0xde, 0, 3], payload)?,
    );
    refuse(
        v,
        "padding-zero",
        "padding of no bytes",
        "packet",
        &packet(0xa0, &[], &[0x78, 0])?,
    );
    refuse(
        v,
        "padding-over",
        "more padding than payload",
        "packet",
        &packet(0xa0, &[], &[0x78, 3])?,
    );
    refuse(
        v,
        "padding-nothing",
        "padding without a byte to say how much",
        "packet",
        &packet(0xa0, &[], &[])?,
    );
    Ok(vectors)
}

fn said(packet: &str) -> Result<Facts, Fault> {
    let mut facts = verify(&Case::from_iter([("packet".into(), packet.into())]))?;
    facts.remove("written");
    Ok(facts)
}

/// Verifies a case.
pub fn verify(case: &Case) -> Result<Facts, Fault> {
    let packet = bytes(case, "packet")?;
    let read = rtp::read(&packet)?;
    let written = rtp::write(Out {
        payload_type: read.payload_type,
        marker: read.marker,
        sequence: read.sequence,
        time: read.time,
        ssrc: read.ssrc,
        captured: read.captured,
        payload: read.payload,
    })?;
    Ok(fields(json!({
        "payload_type": read.payload_type,
        "marker": read.marker,
        "sequence": read.sequence,
        "time": read.time,
        "ssrc": read.ssrc,
        "captured": micros(read.captured),
        "payload": hex(read.payload),
        "written": hex(&written),
    })))
}
