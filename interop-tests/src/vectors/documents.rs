//! The vectors of `spec/documents.md` and of the documents of `spec/setup.md`.

pub mod cbor;
pub mod chain;
pub mod credential;
pub mod descriptor;
pub mod forms;
pub mod hello;
pub mod identity;
pub mod invite;
pub mod signature;
pub mod welcome;

use serde_json::{Value, json};
use suora_protocol::documents::{self, Document};
use suora_protocol::fault::Fault;
use suora_protocol::identity::Key;

use super::Vectors;
use super::raw::hex;
use super::walk::diagnostic;

/// What a case of a document holds besides its name.
pub(super) fn whole<T: Document>(
    document: &T,
    key: &Key,
    schema: [&str; 2],
) -> Result<Value, Fault> {
    let payload = documents::encode(document)?;
    let signed = documents::sign(document, key)?;
    Ok(json!({
        "document": hex(signed.bytes()),
        "payload": hex(&payload),
        "diagnostic": diagnostic(&payload)?,
        "hash": signed.hash().to_hex(),
        "cddl": {"document": schema[0], "payload": schema[1]},
    }))
}

/// A case that holds only the signed bytes.
pub(super) fn only<T: Document>(document: &T, key: &Key) -> Result<Value, Fault> {
    let signed = documents::sign(document, key)?;
    Ok(json!({"document": hex(signed.bytes())}))
}

/// The same case with more fields, or others.
pub(super) fn and(case: Value, more: Value) -> Value {
    let mut case = super::fields(case);
    case.extend(super::fields(more));
    Value::Object(case)
}

/// The texts that all documents share.
pub(super) fn describe(vectors: &mut Vectors) {
    vectors.cddl = Some("documents.cddl");
    vectors.format.extend([
        ("document", "the signed bytes as received, hexadecimal"),
        ("payload", "the payload alone, hexadecimal"),
        (
            "diagnostic",
            "the payload in the diagnostic notation of RFC 8949, section 8",
        ),
        ("hash", "SHA-256 of the signed bytes, hexadecimal"),
        ("cddl", "which rule of the schema a field's bytes match"),
        ("name", "the case's name in this file"),
        ("comment", "what a valid case shows"),
        ("reason", "what is wrong with an invalid case"),
        (
            "code",
            "the code of registries.md with which a verifier refuses an invalid case",
        ),
        ("now", "the verifier's clock, seconds since 1970"),
    ]);
}
