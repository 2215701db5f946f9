//! The vectors of framing (`spec/control.md`, section 3): length and body.

use serde_json::json;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::MESSAGE_MAX;
use suora_protocol::wire::Framer;

use crate::vectors::raw::hex;
use crate::vectors::verify::{self, Case, lacks};
use crate::vectors::{Facts, Vectors, fields};

/// Length and body.
pub fn make() -> Result<Vectors, Fault> {
    let mut vectors = Vectors::new("control", "framing", "spec/control.md, section 3");
    vectors.format.extend([
        ("stream", "bytes as they come on a stream"),
        ("lengths", "the lengths of the messages that are whole"),
        ("rest", "how many bytes wait for more"),
        (
            "head",
            "the first bytes of a stream; `fill` zero bytes follow",
        ),
        ("fill", "how many zero bytes follow head"),
    ]);
    vectors.verification = vec![
        "Cut stream, or head and fill, into messages, whatever pieces it comes in; compare lengths and rest.",
    ];
    let mut add = |name: &str, comment: &str, stream: Vec<u8>, lengths: Vec<usize>, rest: usize| {
        let case = json!({"stream": hex(&stream), "lengths": lengths, "rest": rest});
        vectors.valid(name, comment, case);
    };
    add("nothing", "no byte, no message", Vec::new(), Vec::new(), 0);
    add("one", "one message of one byte", vec![1, 0xa0], vec![1], 0);
    add(
        "three",
        "three messages in one piece",
        vec![1, 0xa0, 1, 0xa0, 1, 0xa0],
        vec![1, 1, 1],
        0,
    );
    add(
        "half",
        "the second message is not whole yet",
        vec![1, 0xa0, 2, 0xa0],
        vec![1],
        2,
    );
    add(
        "half-length",
        "the length is not whole yet",
        vec![0x80],
        Vec::new(),
        1,
    );
    add(
        "empty",
        "a message of no bytes is whole (and then malformed)",
        vec![0],
        vec![0],
        0,
    );
    add(
        "one-byte-length",
        "127 bytes",
        [vec![0x7f], vec![0; 127]].concat(),
        vec![127],
        0,
    );
    add(
        "two-byte-length",
        "128 bytes",
        [vec![0x80, 1], vec![0; 128]].concat(),
        vec![128],
        0,
    );
    for (name, comment, head, fill) in [
        (
            "two-bytes-most",
            "16383 bytes",
            [0xff, 0x7f].as_slice(),
            16_383,
        ),
        (
            "three-byte-length",
            "16384 bytes",
            &[0x80, 0x80, 0x01],
            16_384,
        ),
        (
            "longest",
            "65536 bytes, the bound",
            &[0x80, 0x80, 0x04],
            MESSAGE_MAX,
        ),
    ] {
        let case = json!({"head": hex(head), "fill": fill, "lengths": [fill], "rest": 0});
        vectors.valid(name, comment, case);
    }
    let mut refuse = |name: &str, code, reason: &str, stream: &[u8]| {
        vectors.invalid(name, code, reason, json!({"stream": hex(stream)}));
    };
    refuse(
        "over-the-bound",
        Code::TooLarge,
        "65537 bytes: refused before they come",
        &[0x81, 0x80, 0x04],
    );
    refuse(
        "four-byte-length",
        Code::TooLarge,
        "a length of four bytes",
        &[0x80, 0x80, 0x80, 0x01],
    );
    refuse(
        "longer-than-needed",
        Code::NotDeterministic,
        "1 in two bytes",
        &[0x81, 0x00],
    );
    refuse(
        "zero-in-two-bytes",
        Code::NotDeterministic,
        "0 in two bytes",
        &[0x80, 0x00],
    );
    refuse(
        "longer-in-three-bytes",
        Code::NotDeterministic,
        "128 in three bytes",
        &[0x80, 0x81, 0x00],
    );
    refuse(
        "good-then-bad",
        Code::TooLarge,
        "a good message before it changes nothing",
        &[1, 0xa0, 0xff, 0xff, 0x7f],
    );
    Ok(vectors)
}

/// Verifies a case of framing, in one piece and byte by byte.
pub fn verify(case: &Case) -> Result<Facts, Fault> {
    let stream = verify::stream(case)?;
    let cut = |pieces: usize| {
        let mut framer = Framer::new();
        let (mut lengths, mut taken) = (Vec::new(), 0);
        for piece in stream.chunks(pieces) {
            framer.push(piece);
            while let Some(body) = framer.next_message()? {
                let prefix = match body.len() {
                    0..0x80 => 1,
                    0x80..0x4000 => 2,
                    _ => 3,
                };
                taken += prefix + body.len();
                lengths.push(body.len());
            }
        }
        Ok::<_, Fault>((lengths, stream.len() - taken))
    };
    let (lengths, rest) = cut(stream.len().max(1))?;
    if cut(1)? != (lengths.clone(), rest) {
        return Err(lacks("cut: pieces change the messages"));
    }
    Ok(fields(json!({"lengths": lengths, "rest": rest})))
}
