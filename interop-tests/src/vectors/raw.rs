//! CBOR and COSE by hand, right or wrong: what a library would not write for us.

use ciborium::Value;
use suora_protocol::documents;
use suora_protocol::fault::Fault;
use suora_protocol::identity::Key;

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads hexadecimal.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

/// A head in its shortest form.
pub fn head(major: u8, argument: usize) -> Vec<u8> {
    let argument = argument as u64;
    let [.., g, h] = argument.to_be_bytes();
    let major = major << 5;
    match argument {
        0..24 => vec![major | h],
        24..0x100 => vec![major | 24, h],
        0x100..0x1_0000 => vec![major | 25, g, h],
        _ => {
            let mut out = vec![major | 26];
            out.extend_from_slice(&argument.to_be_bytes()[4..]);
            out
        }
    }
}

/// A byte string.
pub fn bstr(bytes: &[u8]) -> Vec<u8> {
    [head(2, bytes.len()), bytes.to_vec()].concat()
}

/// A text string.
pub fn tstr(text: &str) -> Vec<u8> {
    [head(3, text.len()), text.as_bytes().to_vec()].concat()
}

/// An array of encoded items.
pub fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [head(4, items.len()), items.concat()].concat()
}

/// A map of encoded entries, in the given order.
pub fn map(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = head(5, entries.len());
    for (key, value) in entries {
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    out
}

/// COSE_Sign1, part by part.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The encoded protected header.
    pub protected: Vec<u8>,
    /// The encoded unprotected header.
    pub unprotected: Vec<u8>,
    /// The payload.
    pub payload: Vec<u8>,
    /// The external data.
    pub aad: String,
}

/// The protected header of a kind: `{1: -8, 16: "suora/1/<kind>"}`.
pub fn protected(typ: &str) -> Vec<u8> {
    map(&[(vec![0x01], vec![0x27]), (vec![0x10], tstr(typ))])
}

impl Envelope {
    /// As the specification says.
    pub fn new(kind: &str, payload: Vec<u8>) -> Self {
        let aad = format!("suora/1/{kind}");
        Self {
            protected: protected(&aad),
            unprotected: vec![0xa0],
            payload,
            aad,
        }
    }

    /// The signature over the Sig_structure of RFC 9052, section 4.4.
    pub fn signature(&self, key: &Key) -> [u8; 64] {
        key.sign(&array(&[
            tstr("Signature1"),
            bstr(&self.protected),
            bstr(self.aad.as_bytes()),
            bstr(&self.payload),
        ]))
    }

    /// The four encoded parts, signed.
    pub fn parts(&self, key: &Key) -> [Vec<u8>; 4] {
        [
            bstr(&self.protected),
            self.unprotected.clone(),
            bstr(&self.payload),
            bstr(&self.signature(key)),
        ]
    }

    /// The signed document.
    pub fn sign(&self, key: &Key) -> Vec<u8> {
        array(&self.parts(key))
    }
}

/// The encoded entries of a map, in its order.
pub fn entries(payload: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let encode = |value: &Value| {
        let mut out = Vec::new();
        // writing to memory cannot fail
        let _ = ciborium::into_writer(value, &mut out);
        out
    };
    match ciborium::from_reader(payload) {
        Ok(Value::Map(entries)) => entries
            .iter()
            .map(|(key, value)| (encode(key), encode(value)))
            .collect(),
        _ => Vec::new(),
    }
}

/// The same map with a field set to another value, deterministic again.
pub fn with(payload: &[u8], key: &str, value: impl Into<Value>) -> Result<Vec<u8>, Fault> {
    let mut entries = without_entry(payload, key);
    entries.push((Value::Text(key.into()), value.into()));
    documents::encode(&Value::Map(entries))
}

/// The same map without a field.
pub fn without(payload: &[u8], key: &str) -> Result<Vec<u8>, Fault> {
    documents::encode(&Value::Map(without_entry(payload, key)))
}

fn without_entry(payload: &[u8], key: &str) -> Vec<(Value, Value)> {
    match ciborium::from_reader(payload) {
        Ok(Value::Map(mut entries)) => {
            entries.retain(|(name, _)| name.as_text() != Some(key));
            entries
        }
        _ => Vec::new(),
    }
}

/// The same bytes with one bit of one byte changed.
pub fn flip(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if let Some(byte) = out.get_mut(at) {
        *byte ^= 1;
    }
    out
}
