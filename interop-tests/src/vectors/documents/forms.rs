//! What can be wrong with the form of any document, whatever its kind: the envelope, the
//! signature, the encoding of the payload.

use ciborium::Value;
use serde_json::json;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Key;

use super::super::Vectors;
use super::super::raw::{self, Envelope, array, bstr, flip, head, hex, map, tstr};

/// A document of some kind and its signer.
#[derive(Clone, Copy, Debug)]
pub struct Form<'a> {
    /// Its kind.
    pub kind: &'static str,
    /// Its good payload.
    pub payload: &'a [u8],
    /// Who signs it.
    pub key: &'a Key,
    /// Who may not sign it.
    pub stranger: &'a Key,
    /// A required field.
    pub field: &'static str,
}

/// The group order L of Ed25519, little endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The same signature with S + L in place of S: lenient verifiers take both.
fn malleable(signature: [u8; 64]) -> Vec<u8> {
    let mut out = signature;
    let mut carry = 0u16;
    for (byte, order) in out.iter_mut().skip(32).zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        [*byte, _] = sum.to_le_bytes();
        carry = sum >> 8;
    }
    out.to_vec()
}

/// Adds what every kind must refuse, and what none may.
pub fn add(vectors: &mut Vectors, form: Form<'_>) -> Result<(), Fault> {
    known_and_unknown_keys(vectors, form)?;
    envelopes(vectors, form);
    headers(vectors, form);
    signatures(vectors, form);
    encodings(vectors, form);
    payloads(vectors, form)
}

fn put(vectors: &mut Vectors, name: &str, code: Code, reason: &str, bytes: &[u8]) {
    vectors.invalid(name, code, reason, json!({"document": hex(bytes)}));
}

fn known_and_unknown_keys(vectors: &mut Vectors, form: Form<'_>) -> Result<(), Fault> {
    let extended = raw::with(form.payload, "zebra", 1)?;
    let bytes = Envelope::new(form.kind, extended.clone()).sign(form.key);
    vectors.valid(
        "unknown-key",
        "a key that this version does not know is ignored",
        json!({
            "document": hex(&bytes),
            "payload": hex(&extended),
            "cddl": {"document": format!("signed-{}", form.kind), "payload": form.kind},
        }),
    );
    let known = Value::Array(vec![form.field.into()]);
    let bytes =
        Envelope::new(form.kind, raw::with(form.payload, "critical", known)?).sign(form.key);
    vectors.valid(
        "known-critical-key",
        "a critical key that this version knows changes nothing",
        json!({"document": hex(&bytes)}),
    );
    let unknown = Value::Array(vec!["zebra".into()]);
    let bytes = Envelope::new(form.kind, raw::with(&extended, "critical", unknown)?).sign(form.key);
    put(
        vectors,
        "unknown-critical-key",
        Code::UnknownCritical,
        "critical lists a key that this version does not know",
        &bytes,
    );
    Ok(())
}

fn envelopes(vectors: &mut Vectors, form: Form<'_>) {
    let envelope = Envelope::new(form.kind, form.payload.to_vec());
    let good = envelope.sign(form.key);
    let parts = envelope.parts(form.key);
    let mut add = |name: &str, code, reason: &str, bytes: Vec<u8>| {
        put(vectors, name, code, reason, &bytes);
    };
    use Code::{Malformed, NotDeterministic};
    add("empty", Malformed, "no bytes", Vec::new());
    add(
        "tagged",
        Malformed,
        "the tagged form: tag 18 before the array",
        [&[0xd2], &good[..]].concat(),
    );
    add(
        "trailing-byte",
        Malformed,
        "a byte after the end",
        [&good[..], &[0]].concat(),
    );
    add(
        "cut-short",
        Malformed,
        "the last byte is missing",
        good[..good.len() - 1].to_vec(),
    );
    add(
        "five-parts",
        Malformed,
        "an array of five",
        array(&[&parts[..], &[vec![0xa0]]].concat()),
    );
    add(
        "three-parts",
        Malformed,
        "an array of three",
        array(&parts[..3]),
    );
    add(
        "indefinite-array",
        NotDeterministic,
        "the array has an indefinite length",
        [&[0x9f], &parts.concat()[..], &[0xff]].concat(),
    );
    add(
        "long-array-head",
        NotDeterministic,
        "the array's length in two bytes instead of one",
        [&[0x98, 0x04], &parts.concat()[..]].concat(),
    );
    add(
        "long-signature-head",
        NotDeterministic,
        "the signature's length in three bytes instead of two",
        [
            &head(4, 4),
            &parts[..3].concat()[..],
            &[0x59, 0, 64],
            &parts[3][2..],
        ]
        .concat(),
    );
    add(
        "no-payload",
        Malformed,
        "nil in place of the payload",
        array(&[
            parts[0].clone(),
            parts[1].clone(),
            vec![0xf6],
            parts[3].clone(),
        ]),
    );
    add(
        "short-signature",
        Malformed,
        "a signature of 63 bytes",
        array(&[
            parts[0].clone(),
            parts[1].clone(),
            parts[2].clone(),
            bstr(&parts[3][2..65]),
        ]),
    );
    add(
        "unprotected-header",
        Malformed,
        "the unprotected header holds a key id",
        array(&[
            parts[0].clone(),
            map(&[(vec![4], bstr(b"key"))]),
            parts[2].clone(),
            parts[3].clone(),
        ]),
    );
}

fn headers(vectors: &mut Vectors, form: Form<'_>) {
    let good = Envelope::new(form.kind, form.payload.to_vec());
    let typ = (vec![0x10], tstr(&good.aad));
    let alg = (vec![0x01], vec![0x27]);
    let mut add = |name: &str, code, reason: &str, protected: Vec<u8>, aad: &str| {
        let envelope = Envelope {
            protected,
            aad: aad.into(),
            ..good.clone()
        };
        put(vectors, name, code, reason, &envelope.sign(form.key));
    };
    use Code::{BadSignature, Malformed, NotDeterministic, UnknownCritical, WrongKind};
    let aad = good.aad.as_str();
    let other = if form.kind == "hello" {
        "welcome"
    } else {
        "hello"
    };
    let other = format!("suora/1/{other}");
    add(
        "crit-header",
        UnknownCritical,
        "the protected header has crit",
        map(&[alg.clone(), (vec![0x02], vec![0x81, 0x10]), typ.clone()]),
        aad,
    );
    add(
        "key-id-header",
        Malformed,
        "the protected header holds more than alg and typ",
        map(&[alg.clone(), (vec![0x04], bstr(b"key")), typ.clone()]),
        aad,
    );
    add(
        "other-algorithm",
        Malformed,
        "alg is ES256 (-7)",
        map(&[(vec![0x01], vec![0x26]), typ.clone()]),
        aad,
    );
    add(
        "fully-specified-algorithm",
        Malformed,
        "alg is Ed25519 (-19) of RFC 9864 and not EdDSA (-8)",
        map(&[(vec![0x01], vec![0x32]), typ.clone()]),
        aad,
    );
    add(
        "no-algorithm",
        Malformed,
        "no alg",
        map(std::slice::from_ref(&typ)),
        aad,
    );
    add(
        "no-typ",
        Malformed,
        "no typ",
        map(std::slice::from_ref(&alg)),
        aad,
    );
    add(
        "empty-header",
        Malformed,
        "the protected header is the empty byte string",
        Vec::new(),
        aad,
    );
    add(
        "unsorted-header",
        NotDeterministic,
        "typ stands before alg",
        map(&[typ.clone(), alg.clone()]),
        aad,
    );
    add(
        "unknown-typ",
        Malformed,
        "typ names no kind of this version",
        raw::protected("suora/1/zebra"),
        "suora/1/zebra",
    );
    add(
        "other-version",
        Malformed,
        "typ is of another version",
        raw::protected(&format!("suora/2/{}", form.kind)),
        aad,
    );
    add(
        "wrong-kind",
        WrongKind,
        "signed, rightly, as another kind",
        raw::protected(&other),
        &other,
    );
    add(
        "other-external-data",
        BadSignature,
        "the external data is of another kind than typ",
        good.protected.clone(),
        &other,
    );
    add(
        "no-external-data",
        BadSignature,
        "signed without external data",
        good.protected.clone(),
        "",
    );
}

fn signatures(vectors: &mut Vectors, form: Form<'_>) {
    let envelope = Envelope::new(form.kind, form.payload.to_vec());
    let parts = envelope.parts(form.key);
    let signed_by = |signature: &[u8]| {
        array(&[
            parts[0].clone(),
            parts[1].clone(),
            parts[2].clone(),
            bstr(signature),
        ])
    };
    let signature = envelope.signature(form.key);
    use Code::BadSignature;
    put(
        vectors,
        "changed-signature",
        BadSignature,
        "a bit of the signature is changed",
        &signed_by(&flip(&signature, 10)),
    );
    put(
        vectors,
        "changed-payload",
        BadSignature,
        "a bit of the payload is changed",
        &{
            let mut changed = envelope.clone();
            let last = changed.payload.len() - 1;
            changed.payload = flip(&changed.payload, last);
            array(&[
                parts[0].clone(),
                parts[1].clone(),
                bstr(&changed.payload),
                parts[3].clone(),
            ])
        },
    );
    put(
        vectors,
        "signed-by-a-stranger",
        BadSignature,
        "signed by a key that has no say here",
        &envelope.sign(form.stranger),
    );
    put(
        vectors,
        "malleable-signature",
        BadSignature,
        "S + L in place of S: a second signature of the same message",
        &signed_by(&malleable(signature)),
    );
    put(
        vectors,
        "zero-signature",
        BadSignature,
        "64 zero bytes",
        &signed_by(&[0; 64]),
    );
}

fn encodings(vectors: &mut Vectors, form: Form<'_>) {
    let entries = raw::entries(form.payload);
    let mut add = |name: &str, code, reason: &str, payload: Vec<u8>| {
        let reason = format!("{reason} (the signature is good)");
        put(
            vectors,
            name,
            code,
            &reason,
            &Envelope::new(form.kind, payload).sign(form.key),
        );
    };
    use Code::{Malformed, NotDeterministic};
    let mut swapped = entries.clone();
    swapped.swap(0, 1);
    add(
        "payload-keys-out-of-order",
        NotDeterministic,
        "two keys of the payload are out of order",
        map(&swapped),
    );
    let mut twice = entries.clone();
    twice.extend(entries.last().cloned());
    add(
        "payload-key-twice",
        NotDeterministic,
        "the payload's last key stands twice",
        map(&twice),
    );
    let body: Vec<u8> = form.payload[1..].to_vec();
    add(
        "payload-indefinite-length",
        NotDeterministic,
        "the payload's map has an indefinite length",
        [&[0xbf], &body[..], &[0xff]].concat(),
    );
    let count = form.payload[0] & 0x1f;
    add(
        "payload-long-head",
        NotDeterministic,
        "the payload's map has a longer head than needed",
        [&[0xb8, count], &body[..]].concat(),
    );
    add(
        "payload-trailing-byte",
        Malformed,
        "a byte after the payload's map",
        [form.payload, &[0]].concat(),
    );
}

fn payloads(vectors: &mut Vectors, form: Form<'_>) -> Result<(), Fault> {
    let mut add = |name: &str, reason: &str, payload: Vec<u8>| {
        let reason = format!("{reason} (the signature is good)");
        put(
            vectors,
            name,
            Code::Malformed,
            &reason,
            &Envelope::new(form.kind, payload).sign(form.key),
        );
    };
    add(
        "missing-field",
        &format!("no {}", form.field),
        raw::without(form.payload, form.field)?,
    );
    add(
        "field-of-another-type",
        &format!("{} is a number", form.field),
        raw::with(form.payload, form.field, 5)?,
    );
    let tag = Value::Tag(1, Box::new(1.into()));
    add(
        "tag",
        "a tag in the payload",
        raw::with(form.payload, "zebra", tag)?,
    );
    add(
        "float",
        "a floating-point number in the payload",
        raw::with(form.payload, "zebra", 1.5)?,
    );
    let deep = (0..8).fold(Value::Array(Vec::new()), |inner, _| {
        Value::Array(vec![inner])
    });
    add(
        "deep",
        "an item within nine containers",
        raw::with(form.payload, "zebra", deep)?,
    );
    add(
        "critical-is-no-list",
        "critical is a text",
        raw::with(form.payload, "critical", form.field)?,
    );
    Ok(())
}
