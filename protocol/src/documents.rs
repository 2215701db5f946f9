//! Signed documents (`spec/documents.md`): COSE_Sign1 (RFC 9052) over deterministic
//! CBOR (RFC 8949, section 4.2.1). A [`Signed<T>`] is bytes that somebody sent;
//! only [`chain`] makes a [`Verified<T>`] of it, and machines take nothing else.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod cbor;
pub mod chain;
pub mod credential;
pub mod descriptor;
pub mod desk;
pub mod hello;
pub mod invite;
pub mod server;

use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use ciborium::Value;
use coset::{CborSerializable, CoseSign1, CoseSign1Builder, HeaderBuilder, iana};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use credential::{Credential, Role};
pub use descriptor::{Descriptor, KeyUse, UseKey};
pub use desk::{AddressPolicy, Desk, DeskId, Names};
pub use hello::{Hello, Welcome};
pub use invite::{
    Challenge, ConsultationId, Dcid, DescriptorRef, Invite, Nonce, SessionId, TicketId,
};
pub use server::{Server, Transport};

use crate::fault::{Code, Fault};
use crate::identity::{Hash, Key, PeerId};
use crate::limits;
use crate::time::Timestamp;

/// COSE header label `typ` (RFC 9596).
const TYP: i64 = 16;

/// A kind of document.
pub trait Document: Serialize + DeserializeOwned + Clone {
    /// The kind, as in `typ` and in the external data: `suora/1/<kind>`.
    const KIND: &'static str;
    /// All keys that this version knows, for `critical`.
    const KEYS: &'static [&'static str];
    /// What the schema alone does not say: bounds of texts and lists, and the order of times.
    /// The error says what is wrong.
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

/// Whether every text keeps the bound of texts.
fn short<'a>(texts: impl IntoIterator<Item = &'a String>) -> bool {
    texts.into_iter().all(|text| text.len() <= limits::TEXT_MAX)
}

fn domain(kind: &str) -> String {
    format!("suora/1/{kind}")
}

/// Bytes that claim to be a document of kind `T`. Nothing in them is to be believed.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed<T> {
    bytes: Bytes,
    kind: PhantomData<fn() -> T>,
}

impl<T: Document> std::fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signed<{}>({} bytes)", T::KIND, self.bytes.len())
    }
}

impl<T: Document> Signed<T> {
    /// Takes received bytes. Over [`limits::DOCUMENT_MAX`] is [`Code::TooLarge`].
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, Fault> {
        let bytes = bytes.into();
        if bytes.len() > limits::DOCUMENT_MAX {
            return Err(Fault::new(Code::TooLarge).with(format!(
                "a {} of {} bytes",
                T::KIND,
                bytes.len()
            )));
        }
        Ok(Self {
            bytes,
            kind: PhantomData,
        })
    }

    /// The exact bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// SHA-256 of the exact bytes.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.bytes)
    }
}

/// A document whose whole chain of signatures stood when it was verified.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    document: T,
    bytes: Bytes,
    hash: Hash,
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.document
    }
}

impl<T> Verified<T> {
    /// The exact bytes that were verified.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// SHA-256 of the exact bytes.
    pub const fn hash(&self) -> Hash {
        self.hash
    }
}

/// Deterministic CBOR of any value that serde can write.
/// A value that CBOR cannot hold is [`Code::Internal`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Fault> {
    let value = Value::serialized(value)
        .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))?;
    let mut out = Vec::new();
    ciborium::into_writer(&cbor::sort(value)?, &mut out)
        .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))?;
    Ok(out)
}

/// Reads one deterministic CBOR item; unknown map keys are ignored.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    cbor::scan(bytes)?;
    ciborium::from_reader(bytes)
        .map_err(|_| Fault::new(Code::Malformed).with("the fields do not fit the schema"))
}

/// Signs `document` with `key` (`spec/documents.md`, section 3).
pub fn sign<T: Document>(document: &T, key: &Key) -> Result<Signed<T>, Fault> {
    sign_payload(encode(document)?, key)
}

/// Signs an already encoded payload, right or wrong: for vectors and tests.
pub fn sign_payload<T: Document>(payload: Vec<u8>, key: &Key) -> Result<Signed<T>, Fault> {
    let domain = domain(T::KIND);
    let protected = HeaderBuilder::new()
        .algorithm(iana::Algorithm::EdDSA)
        .value(TYP, Value::Text(domain.clone()))
        .build();
    let message = CoseSign1Builder::new()
        .protected(protected)
        .payload(payload)
        .create_signature(domain.as_bytes(), |message| key.sign(message).to_vec())
        .build();
    let bytes = message
        .to_vec()
        .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))?;
    Signed::from_bytes(bytes)
}

/// An envelope whose form is right: the signature is not yet checked.
struct Opened {
    message: CoseSign1,
    domain: String,
}

/// Checks the form of the envelope, before any key is chosen.
fn open<T: Document>(signed: &Signed<T>) -> Result<Opened, Fault> {
    let malformed = |what: &str| Fault::new(Code::Malformed).with(format!("{}: {what}", T::KIND));
    cbor::scan(&signed.bytes)?;
    let message =
        CoseSign1::from_slice(&signed.bytes).map_err(|_| malformed("not a COSE_Sign1"))?;
    if !message.unprotected.is_empty() {
        return Err(malformed("the unprotected header is not empty"));
    }
    let header = &message.protected.header;
    if let Some(original) = &message.protected.original_data {
        cbor::scan(original)?;
    }
    if !header.crit.is_empty() {
        return Err(Fault::new(Code::UnknownCritical).with("a critical header"));
    }
    if header.alg != Some(coset::Algorithm::Assigned(iana::Algorithm::EdDSA)) {
        return Err(malformed("the algorithm is not EdDSA"));
    }
    let typ = match header.rest.as_slice() {
        [(coset::Label::Int(TYP), Value::Text(typ))] => typ,
        _ => return Err(malformed("the protected header is not alg and typ")),
    };
    let domain = domain(T::KIND);
    if *typ != domain {
        let known = ["descriptor", "credential", "invite", "hello", "welcome"];
        return Err(match typ.strip_prefix("suora/1/") {
            Some(kind) if known.contains(&kind) => {
                Fault::new(Code::WrongKind).with(format!("{kind} instead of {}", T::KIND))
            }
            _ => malformed("the typ is unknown"),
        });
    }
    let plain = HeaderBuilder::new()
        .algorithm(iana::Algorithm::EdDSA)
        .value(TYP, Value::Text(domain.clone()))
        .build();
    if *header != plain {
        return Err(malformed("the protected header is not alg and typ"));
    }
    if message.signature.len() != 64 {
        return Err(malformed("the signature is not 64 bytes"));
    }
    if message.payload.is_none() {
        return Err(malformed("no payload"));
    }
    Ok(Opened { message, domain })
}

impl Opened {
    fn payload(&self) -> &[u8] {
        self.message.payload.as_deref().unwrap_or_default()
    }

    /// Reads a field that names the signer. Nothing read here is believed: the signature is
    /// checked next, and then the same bytes are read again, strictly.
    fn peek<F: DeserializeOwned>(&self) -> Result<F, Fault> {
        ciborium::de::from_reader_with_recursion_limit(self.payload(), 2 * limits::CBOR_DEPTH_MAX)
            .map_err(|_| Fault::new(Code::BadSignature).with("the payload names no signer"))
    }

    /// Checks the signature.
    fn signed_by(&self, signer: &PeerId) -> Result<(), Fault> {
        self.message
            .verify_signature(self.domain.as_bytes(), |signature, message| {
                signer.verify(message, signature)
            })
            .map_err(|fault: Fault| fault.with(self.domain.clone()))
    }

    /// Checks the signature, then the encoding, then `critical`, then the schema and its bounds.
    fn verify<T: Document>(
        &self,
        signed: &Signed<T>,
        signer: &PeerId,
    ) -> Result<Verified<T>, Fault> {
        #[derive(serde::Deserialize)]
        struct Critical {
            #[serde(default)]
            critical: Vec<String>,
        }
        self.signed_by(signer)?;
        let payload = self.payload();
        let critical: Critical = decode(payload)?;
        if let Some(key) = critical
            .critical
            .iter()
            .find(|key| !T::KEYS.contains(&key.as_str()))
        {
            return Err(Fault::new(Code::UnknownCritical).with(format!("{}: {key}", T::KIND)));
        }
        let document: T = decode(payload)?;
        document
            .check()
            .map_err(|what| Fault::new(Code::Malformed).with(format!("{}: {what}", T::KIND)))?;
        Ok(Verified {
            document,
            bytes: signed.bytes.clone(),
            hash: signed.hash(),
        })
    }
}

/// Checks that a validity does not end before it begins, and lasts `most` at most.
fn lasts(from: Timestamp, until: Timestamp, most: Duration) -> Result<(), &'static str> {
    if until < from {
        return Err("it ends before it begins");
    }
    if until.since(from) > most {
        return Err("it is valid for too long");
    }
    Ok(())
}

/// Days, as a length of time.
fn days(days: i64) -> Duration {
    Duration::from_secs(u64::try_from(days).unwrap_or(0).saturating_mul(86_400))
}

/// Times in documents: whole seconds since 1970 as a CBOR unsigned integer.
pub(crate) mod secs {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::Timestamp;

    pub(crate) fn serialize<S: Serializer>(
        time: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_secs()).unwrap_or(0))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        let secs = u64::deserialize(deserializer)?;
        // Year 9999: later ones are no dates that a person meant.
        if secs > 253_402_300_799 {
            return Err(serde::de::Error::custom("time out of range"));
        }
        Ok(Timestamp::from_secs(i64::try_from(secs).unwrap_or(0)))
    }
}
