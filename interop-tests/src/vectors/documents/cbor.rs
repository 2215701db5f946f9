//! Deterministic CBOR (`spec/documents.md`, section 3).

use serde_json::json;
use suora_protocol::documents::cbor;
use suora_protocol::fault::{Code, Fault};

use super::super::raw::{head, hex};
use super::super::verify::{Case, bytes};
use super::super::walk::diagnostic;
use super::super::{Facts, Vectors, fields};

/// The file.
pub fn make() -> Result<Vectors, Fault> {
    let mut vectors = Vectors::new("documents", "cbor", "spec/documents.md, section 3");
    vectors.format.extend([
        ("bytes", "one item, or what claims to be one"),
        ("diagnostic", "the item in diagnostic notation"),
    ]);
    vectors.verification =
        vec!["Read exactly one deterministic item from bytes; compare its diagnostic notation."];
    let good: [(&str, &[u8]); 9] = [
        ("zero", &[0x00]),
        ("one-byte-number", &[0x18, 24]),
        ("eight-byte-number", &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0]),
        ("negative-number", &[0x38, 99]),
        ("bytes", &[0x43, 1, 2, 3]),
        ("text", "\u{63}äb".as_bytes()),
        ("array", &[0x83, 0xf4, 0xf5, 0xf6]),
        (
            "sorted-map",
            &[0xa3, 0x61, b'b', 1, 0x61, b'c', 2, 0x62, b'a', b'a', 3],
        ),
        (
            "eight-containers",
            &[0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x00],
        ),
    ];
    for (name, bytes) in good {
        vectors.valid(
            name,
            "deterministic",
            json!({"bytes": hex(bytes), "diagnostic": diagnostic(bytes)?}),
        );
    }
    use Code::{Malformed, NotDeterministic};
    let long_array = [head(4, 100_000), vec![0]].concat();
    let bad: [(&str, Code, &str, &[u8]); 25] = [
        (
            "number-in-two-bytes",
            NotDeterministic,
            "23 fits the first byte",
            &[0x18, 23],
        ),
        (
            "number-in-three-bytes",
            NotDeterministic,
            "255 fits two bytes",
            &[0x19, 0, 255],
        ),
        (
            "number-in-five-bytes",
            NotDeterministic,
            "65535 fits three bytes",
            &[0x1a, 0, 0, 255, 255],
        ),
        (
            "number-in-nine-bytes",
            NotDeterministic,
            "4294967295 fits five bytes",
            &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255],
        ),
        (
            "long-text-head",
            NotDeterministic,
            "a text's length in two bytes",
            &[0x78, 1, b'a'],
        ),
        (
            "indefinite-array",
            NotDeterministic,
            "an indefinite length",
            &[0x9f, 1, 0xff],
        ),
        (
            "indefinite-map",
            NotDeterministic,
            "an indefinite length",
            &[0xbf, 0xff],
        ),
        (
            "indefinite-text",
            NotDeterministic,
            "an indefinite length",
            &[0x7f, 0x61, b'a', 0xff],
        ),
        (
            "indefinite-bytes",
            NotDeterministic,
            "an indefinite length",
            &[0x5f, 0x41, 1, 0xff],
        ),
        (
            "keys-out-of-order",
            NotDeterministic,
            "b before a",
            &[0xa2, 0x61, b'b', 1, 0x61, b'a', 2],
        ),
        (
            "longer-key-first",
            NotDeterministic,
            "keys are sorted by their encoded bytes: a shorter text stands before a longer one",
            &[0xa2, 0x62, b'a', b'a', 1, 0x61, b'b', 2],
        ),
        (
            "key-twice",
            NotDeterministic,
            "a twice",
            &[0xa2, 0x61, b'a', 1, 0x61, b'a', 1],
        ),
        (
            "trailing-byte",
            Malformed,
            "a byte after the item",
            &[0x01, 0x01],
        ),
        ("nothing", Malformed, "no byte", &[]),
        (
            "cut-short",
            Malformed,
            "three bytes announced, two there",
            &[0x43, 1, 2],
        ),
        (
            "reserved-head",
            Malformed,
            "additional information 28",
            &[0x1c],
        ),
        ("break", Malformed, "a break without a beginning", &[0xff]),
        ("tag", Malformed, "a tag", &[0xc0, 0x60]),
        (
            "half-float",
            Malformed,
            "a floating-point number",
            &[0xf9, 0x3c, 0x00],
        ),
        (
            "undefined",
            Malformed,
            "the simple value undefined",
            &[0xf7],
        ),
        (
            "simple-value",
            Malformed,
            "an unassigned simple value",
            &[0xf0],
        ),
        (
            "text-not-utf-8",
            Malformed,
            "text that is not UTF-8",
            &[0x61, 0xff],
        ),
        (
            "nine-containers",
            Malformed,
            "an item within nine containers",
            &[0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x00],
        ),
        (
            "length-over-all-bounds",
            Malformed,
            "a text of 2^64 - 1 bytes",
            &[0x7b, 255, 255, 255, 255, 255, 255, 255, 255],
        ),
        (
            "long-array",
            Malformed,
            "100000 items announced, one there",
            &long_array,
        ),
    ];
    for (name, code, reason, bytes) in bad {
        vectors.invalid(name, code, reason, json!({"bytes": hex(bytes)}));
    }
    Ok(vectors)
}

/// Verifies a case.
pub fn verify(case: &Case) -> Result<Facts, Fault> {
    let bytes = bytes(case, "bytes")?;
    cbor::scan(&bytes)?;
    Ok(fields(json!({"diagnostic": diagnostic(&bytes)?})))
}
