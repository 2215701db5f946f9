//! Bytes that nobody meant, through every step of the chain: none of them panics, none is
//! believed without its signature, and what a good signature covers is still read strictly.

use std::sync::LazyLock;

use ciborium::Value;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// What the steps of the chain take beside the document.
struct Known {
    descriptor: Verified<Descriptor>,
    invited: Invited,
    hello: Hello,
    welcome: Welcome,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let (invited, hello, welcome) = proofs();
    Known {
        descriptor: trusted(&page()),
        invited,
        hello,
        welcome,
    }
});

/// A kind of document, with a good one, who signs it, and its step of the chain.
trait Step: Document {
    fn good() -> Self;
    fn signer() -> Key;
    fn take(signed: &Signed<Self>) -> Result<Verified<Self>, Fault>;
}

impl Step for Descriptor {
    fn good() -> Self {
        page()
    }
    fn signer() -> Key {
        root()
    }
    fn take(signed: &Signed<Self>) -> Result<Verified<Self>, Fault> {
        let known = &KNOWN.descriptor;
        let as_given = descriptor_as_given(signed, now());
        let taken = descriptor(signed, &known.agency, now(), Some(known));
        // a file from anybody may be a descriptor; ours is one in both ways
        assert!(taken.is_err() || as_given.is_ok());
        taken
    }
}

impl Step for Credential {
    fn good() -> Self {
        claim()
    }
    fn signer() -> Key {
        issuing()
    }
    fn take(signed: &Signed<Self>) -> Result<Verified<Self>, Fault> {
        let (peer, desk) = (officer_key().peer_id(), desk("tax"));
        let any = credential(signed, &KNOWN.descriptor, now());
        let taken = officer(signed, &KNOWN.descriptor, &peer, &desk, now());
        assert!(taken.is_err() || any.is_ok());
        taken
    }
}

impl Step for Invite {
    fn good() -> Self {
        call()
    }
    fn signer() -> Key {
        officer_key()
    }
    fn take(signed: &Signed<Self>) -> Result<Verified<Self>, Fault> {
        let own = own_invite(signed, &KNOWN.descriptor, now());
        let taken = invite(signed, &KNOWN.descriptor, &waiting(), now());
        assert!(taken.is_err() || own.is_ok());
        taken.map(|invited| invited.invite)
    }
}

impl Step for Hello {
    fn good() -> Self {
        KNOWN.hello.clone()
    }
    fn signer() -> Key {
        guest_key()
    }
    fn take(signed: &Signed<Self>) -> Result<Verified<Self>, Fault> {
        hello(signed, &KNOWN.invited, &binding(), ALPN, &KNOWN.descriptor)
    }
}

impl Step for Welcome {
    fn good() -> Self {
        KNOWN.welcome.clone()
    }
    fn signer() -> Key {
        officer_key()
    }
    fn take(signed: &Signed<Self>) -> Result<Verified<Self>, Fault> {
        welcome(signed, &KNOWN.invited, &KNOWN.welcome.hello, &binding())
    }
}

/// Bytes that no key signed are refused, and for nothing that they say.
fn unsigned<T: Step>(bytes: &[u8]) {
    let refusal = match Signed::<T>::from_bytes(bytes.to_vec()) {
        Ok(signed) => code(T::take(&signed)),
        Err(fault) => Some(fault.code),
    };
    let form = [
        Code::TooLarge,
        Code::Malformed,
        Code::NotDeterministic,
        Code::WrongKind,
        Code::UnknownCritical,
        Code::NoCredential,
        Code::BadSignature,
    ];
    assert!(
        refusal.is_some_and(|code| form.contains(&code)),
        "{}: {refusal:?}",
        T::KIND
    );
}

/// A payload under a good signature is read strictly, and what is read of it is no longer
/// than what was sent. Says whether it was read.
fn signed_well<T: Step>(payload: Vec<u8>) -> bool {
    let sent = payload.len();
    let Ok(signed) = documents::sign_payload::<T>(payload, &T::signer()) else {
        return false;
    };
    let taken = T::take(&signed);
    // the payload may name no signer: the parser behind the signature takes it all the same
    let opened = open(&signed).unwrap();
    match opened.verify(&signed, &T::signer().peer_id()) {
        Ok(read) => {
            assert_eq!(read.check(), Ok(()), "{}", T::KIND);
            assert!(documents::encode(&*read).unwrap().len() <= sent);
            true
        }
        Err(fault) => {
            assert!(taken.is_err(), "{}", T::KIND);
            let form = [
                Code::Malformed,
                Code::NotDeterministic,
                Code::UnknownCritical,
            ];
            assert!(form.contains(&fault.code), "{}: {fault}", T::KIND);
            false
        }
    }
}

/// One change of some bytes: where, what, and how.
type Edit = (Index, Index, u8);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    vec(any::<Edit>(), 1..6)
}

/// Bytes overwritten, put in, taken out, copied to elsewhere, or cut off.
fn edited(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, other, how) in edits {
        let at = at.index(bytes.len() + 1);
        let byte = u8::try_from(other.index(256)).unwrap();
        let end = bytes.len().min(at + 1 + usize::from(byte % 8));
        match how % 16 {
            0..=6 => bytes.splice(at..bytes.len().min(at + 1), [byte]).count(),
            7..=9 => bytes.splice(at..at, [byte]).count(),
            10..=12 => bytes.drain(at..end).count(),
            13 | 14 => {
                let piece = bytes[at..end].to_vec();
                let to = other.index(bytes.len() + 1);
                bytes.splice(to..to, piece).count()
            }
            _ => bytes.drain(at..).count(),
        };
    }
    bytes
}

/// A good document's bytes with edits, and its payload with edits under a new signature.
fn changed<T: Step>(edits: &[Edit]) {
    let good = signed(&T::good(), &T::signer());
    let bytes = edited(good.bytes(), edits);
    if bytes == *good.bytes() {
        assert_eq!(code(T::take(&good)), None);
    } else {
        unsigned::<T>(&bytes);
    }
    signed_well::<T>(edited(&documents::encode(&T::good()).unwrap(), edits));
}

/// Any CBOR value, of a few levels.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u64..70).prop_map(Value::from),
        vec(any::<u8>(), 0..80).prop_map(Value::Bytes),
        Just(Value::Bytes(vec![7; 32])),
        ".{0,12}".prop_map(Value::Text),
        "[a-z-]{1,8}".prop_map(Value::Text),
        any::<f64>().prop_map(Value::Float),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let key = prop_oneof!["[a-z_]{1,6}".prop_map(Value::Text), inner.clone()];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec((key, inner.clone()), 0..6).prop_map(Value::Map),
            (any::<u64>(), inner).prop_map(|(tag, item)| Value::Tag(tag, Box::new(item))),
        ]
    })
}

/// A good document with other values under some of its keys, signed well.
fn with_values<T: Step>(values: &[(Index, Value)]) {
    let good = Value::serialized(&T::good()).unwrap();
    let mut entries = good.into_map().unwrap();
    for (at, value) in values {
        let key = at.get(T::KEYS);
        entries.retain(|(name, _)| name.as_text() != Some(*key));
        entries.push((Value::Text((*key).into()), value.clone()));
    }
    signed_well::<T>(documents::encode(&Value::Map(entries)).unwrap());
}

proptest! {
    // covers: SUORA-DOC-005, SUORA-DOC-007
    #[test]
    fn arbitrary_bytes_are_no_document(bytes in vec(any::<u8>(), 0..600)) {
        unsigned::<Descriptor>(&bytes);
        unsigned::<Credential>(&bytes);
        unsigned::<Invite>(&bytes);
        unsigned::<Hello>(&bytes);
        unsigned::<Welcome>(&bytes);
    }

    #[test]
    fn arbitrary_payloads_are_read_strictly_behind_a_good_signature(
        bytes in vec(any::<u8>(), 0..600)
    ) {
        signed_well::<Descriptor>(bytes.clone());
        signed_well::<Credential>(bytes.clone());
        signed_well::<Invite>(bytes.clone());
        signed_well::<Hello>(bytes.clone());
        signed_well::<Welcome>(bytes);
    }

    // covers: SUORA-DOC-005, SUORA-DOC-007
    #[test]
    fn changed_documents_are_refused_and_changed_payloads_read_strictly(edits in edits()) {
        changed::<Descriptor>(&edits);
        changed::<Credential>(&edits);
        changed::<Invite>(&edits);
        changed::<Hello>(&edits);
        changed::<Welcome>(&edits);
    }

    #[test]
    fn any_value_under_any_key_is_read_strictly(values in vec((any::<Index>(), value()), 1..4)) {
        with_values::<Descriptor>(&values);
        with_values::<Credential>(&values);
        with_values::<Invite>(&values);
        with_values::<Hello>(&values);
        with_values::<Welcome>(&values);
    }
}

/// The control of the properties above: what they start from is taken and read.
#[test]
fn good_documents_are_taken_and_read() {
    fn good<T: Step>() {
        let signed = signed(&T::good(), &T::signer());
        assert_eq!(code(T::take(&signed)), None, "{}", T::KIND);
        let payload = documents::encode(&T::good()).unwrap();
        assert!(signed_well::<T>(payload.clone()), "{}", T::KIND);
        assert!(!signed_well::<T>(payload[1..].to_vec()), "{}", T::KIND);
    }
    good::<Descriptor>();
    good::<Credential>();
    good::<Invite>();
    good::<Hello>();
    good::<Welcome>();
}

/// Depth without end and lengths that nobody could hold, as envelope and as payload, alone
/// and under the key that names the signer.
#[test]
fn bombs_are_refused_without_stack_or_room() {
    fn bomb<T: Step>(bytes: &[u8]) {
        unsigned::<T>(bytes);
        assert!(!signed_well::<T>(bytes.to_vec()), "{}", T::KIND);
    }
    // array, map of maps, tag; then bytes, text, array and map of 2^64 − 1 and of 2^62
    let deep = [0x81, 0xa1, 0xc1].map(|head| vec![head; 40_000]);
    let long = [0x5b, 0x7b, 0x9b, 0xbb].into_iter().flat_map(|head| {
        [[0xff; 8], [0x40, 0, 0, 0, 0, 0, 0, 0]].map(|len| [&[head][..], &len, &[0x61]].concat())
    });
    let names: [&[u8]; 5] = [
        b"",
        b"\xa1\x64root",
        b"\xa1\x63key",
        b"\xa1\x6acredential",
        b"\xa1\x61x",
    ];
    for bomb_bytes in deep.into_iter().chain(long) {
        for name in names {
            let bytes = [name, &bomb_bytes].concat();
            bomb::<Descriptor>(&bytes);
            bomb::<Credential>(&bytes);
            bomb::<Invite>(&bytes);
            bomb::<Hello>(&bytes);
            bomb::<Welcome>(&bytes);
        }
    }
}
