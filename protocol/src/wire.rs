//! Control messages (`spec/control.md`): an unsigned varint length, then one
//! deterministic CBOR map whose key `type` names the message. Unknown keys and
//! unknown types are ignored; everything is bounded.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod citizen;
pub mod grant;
pub mod guest;
pub mod officer;
pub mod path;
pub mod work;

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::documents;
use crate::fault::{Code, Fault};
use crate::limits::MESSAGE_MAX;

/// One framed message. A message that is too large is [`Code::TooLarge`].
pub fn encode<M: Serialize>(message: &M) -> Result<Bytes, Fault> {
    let body = documents::encode(message)?;
    if body.len() > MESSAGE_MAX {
        return Err(Fault::new(Code::TooLarge).with(format!("a message of {} bytes", body.len())));
    }
    let mut out = BytesMut::with_capacity(body.len() + 3);
    let mut len = body.len();
    while len >= 0x80 {
        out.extend_from_slice(&[u8::try_from(len & 0x7f).unwrap_or(0) | 0x80]);
        len >>= 7;
    }
    out.extend_from_slice(&[u8::try_from(len).unwrap_or(0)]);
    out.extend_from_slice(&body);
    Ok(out.freeze())
}

/// Reads one unframed message. Bytes that do not fit the schema are [`Code::Malformed`].
pub fn decode<M: DeserializeOwned>(body: &[u8]) -> Result<M, Fault> {
    documents::decode(body)
}

/// Cuts a stream of bytes into messages. Holds at most one message and what arrived with it.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
}

impl Framer {
    /// An empty framer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes of a message that is not whole, once all that are were taken.
    pub fn unfinished(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole message, without its length.
    /// A length over the bound is [`Code::TooLarge`], one not in its shortest form [`Code::NotDeterministic`].
    pub fn next_message(&mut self) -> Result<Option<Bytes>, Fault> {
        let mut len = 0usize;
        for (at, byte) in self.buffer.iter().enumerate() {
            if at >= 3 {
                return Err(Fault::new(Code::TooLarge).with("a length of more than three bytes"));
            }
            len |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 != 0 {
                continue;
            }
            if at > 0 && *byte == 0 {
                return Err(Fault::new(Code::NotDeterministic)
                    .with("a length in a longer form than needed"));
            }
            if len > MESSAGE_MAX {
                return Err(Fault::new(Code::TooLarge).with(format!("a message of {len} bytes")));
            }
            if self.buffer.len() < at + 1 + len {
                return Ok(None);
            }
            self.buffer.advance(at + 1);
            return Ok(Some(self.buffer.split_to(len).freeze()));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::documents::{DeskId, TicketId};

    fn ticket() -> TicketId {
        TicketId::from_bytes([3; 16])
    }

    // covers: SUORA-CTL-001
    #[test]
    fn a_message_survives_any_cut_of_the_stream() {
        let message = citizen::FromRelay::Queued {
            ticket: ticket(),
            position: 7,
        };
        let bytes = encode(&message).unwrap();
        for cut in 0..bytes.len() {
            let mut framer = Framer::new();
            framer.push(&bytes[..cut]);
            assert_eq!(framer.next_message(), Ok(None));
            framer.push(&bytes[cut..]);
            let body = framer.next_message().unwrap().unwrap();
            assert_eq!(decode::<citizen::FromRelay>(&body), Ok(message.clone()));
            assert_eq!(framer.next_message(), Ok(None));
        }
    }

    // covers: SUORA-CTL-002
    #[test]
    fn lengths_over_the_bound_are_refused_at_once() {
        let mut framer = Framer::new();
        framer.push(&[0x81, 0x80, 0x04]);
        assert_eq!(
            framer.next_message().map_err(|f| f.code),
            Err(Code::TooLarge)
        );
        let mut framer = Framer::new();
        framer.push(&[0x81, 0x00]);
        assert_eq!(
            framer.next_message().map_err(|f| f.code),
            Err(Code::NotDeterministic)
        );
    }

    // covers: SUORA-CTL-003
    #[test]
    fn unknown_keys_and_types_are_ignored() {
        #[derive(Serialize)]
        struct Grease<'a> {
            r#type: &'a str,
            n: u64,
            zebra: [u8; 3],
        }
        let known = documents::encode(&Grease {
            r#type: "pong",
            n: 4,
            zebra: [1, 2, 3],
        })
        .unwrap();
        assert_eq!(
            decode::<citizen::FromRelay>(&known),
            Ok(citizen::FromRelay::Pong { n: 4 })
        );
        let unknown = documents::encode(&Grease {
            r#type: "zebra",
            n: 4,
            zebra: [1, 2, 3],
        })
        .unwrap();
        assert_eq!(
            decode::<citizen::FromRelay>(&unknown),
            Ok(citizen::FromRelay::Unknown)
        );
    }

    #[test]
    fn a_message_without_type_is_malformed() {
        let body = documents::encode(&DeskId::new("tax").unwrap()).unwrap();
        assert_eq!(
            decode::<citizen::ToRelay>(&body).map_err(|f| f.code),
            Err(Code::Malformed)
        );
    }

    // covers: SUORA-CTL-002
    #[test]
    fn a_framer_holds_one_message_and_what_arrived_with_it() {
        let mut framer = Framer::new();
        // 65 536 in three bytes, then a message of that length, again and again
        let stream = [&[0x80, 0x80, 0x04][..], &[0; MESSAGE_MAX]]
            .concat()
            .repeat(3);
        let mut whole = 0;
        for piece in stream.chunks(4_096) {
            framer.push(piece);
            while let Some(body) = framer.next_message().unwrap() {
                assert_eq!(body.len(), MESSAGE_MAX);
                whole += 1;
            }
            assert!(framer.buffer.len() < MESSAGE_MAX + 3);
        }
        assert_eq!((whole, framer.buffer.len()), (3, 0));
    }

    /// Reads a body as a message of one kind. What was read can be said again.
    fn reads<M: Serialize + DeserializeOwned>(body: &[u8]) -> bool {
        decode::<M>(body).is_ok_and(|message| encode(&message).is_ok())
    }

    /// Reads a body as a message of each kind, and says which took it.
    fn reads_all(body: &[u8]) -> [bool; 6] {
        [
            reads::<citizen::ToRelay>(body),
            reads::<citizen::FromRelay>(body),
            reads::<officer::ToRelay>(body),
            reads::<officer::FromRelay>(body),
            reads::<guest::ToHost>(body),
            reads::<guest::FromHost>(body),
        ]
    }

    /// A value of a message.
    #[derive(Clone, Debug, Serialize)]
    #[serde(untagged)]
    enum Scrap {
        Number(u64),
        Signed(i64),
        Flag(bool),
        Text(String),
        Bytes(serde_bytes::ByteBuf),
        List(Vec<u64>),
    }

    fn scrap() -> impl Strategy<Value = Scrap> {
        let bytes = |bytes: Vec<u8>| Scrap::Bytes(serde_bytes::ByteBuf::from(bytes));
        prop_oneof![
            any::<u64>().prop_map(Scrap::Number),
            (0u64..4).prop_map(Scrap::Number),
            any::<i64>().prop_map(Scrap::Signed),
            any::<bool>().prop_map(Scrap::Flag),
            ".{0,12}".prop_map(Scrap::Text),
            proptest::sample::select(vec!["tax", "ended", "available", "left"])
                .prop_map(|text| Scrap::Text(text.into())),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(bytes),
            proptest::sample::select(vec![16usize, 32]).prop_map(move |len| bytes(vec![7; len])),
            proptest::collection::vec(any::<u64>(), 0..20).prop_map(Scrap::List),
        ]
    }

    const TYPES: &[&str] = &[
        "accepted",
        "attend",
        "attending",
        "bye",
        "chat",
        "clock",
        "clock-answer",
        "declined",
        "done",
        "ended",
        "hello",
        "invite",
        "join",
        "leave",
        "matched",
        "media",
        "offer",
        "path",
        "ping",
        "pong",
        "position",
        "queued",
        "refused",
        "status",
        "unknown",
        "waiting",
        "welcome",
        "withdrawn",
        "work",
    ];
    const KEYS: &[&str] = &[
        "at",
        "attempt",
        "audio",
        "bits",
        "candidates",
        "challenge",
        "code",
        "credential",
        "desk",
        "end",
        "engaged",
        "expires_in_ms",
        "generation",
        "guest",
        "hello",
        "id",
        "invite",
        "message",
        "n",
        "participant",
        "position",
        "pwd",
        "slot",
        "status",
        "t1",
        "t2",
        "t3",
        "text",
        "ticket",
        "ufrag",
        "video",
        "waited_ms",
        "waiting",
        "welcome",
        "work",
    ];

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            reads_all(&bytes);
            let (mut framer, mut read) = (Framer::new(), 0);
            framer.push(&bytes);
            while let Ok(Some(body)) = framer.next_message() {
                reads_all(&body);
                read += body.len() + 1;
            }
            prop_assert!(read <= bytes.len());
        }

        #[test]
        fn any_value_under_any_key_of_any_message_never_panics(
            name in proptest::sample::select(TYPES),
            values in proptest::collection::btree_map(proptest::sample::select(KEYS), scrap(), 0..8),
            cut in any::<proptest::sample::Index>(),
        ) {
            let mut message = values;
            message.insert("type", Scrap::Text(name.into()));
            let body = documents::encode(&message).unwrap();
            reads_all(&body);
            // cut short it is no message of any kind
            prop_assert_eq!(reads_all(&body[..cut.index(body.len())]), [false; 6]);
        }
    }

    #[test]
    fn a_message_of_known_keys_is_read_by_its_kind() {
        // the control of the property above
        let ticket = Scrap::Bytes(serde_bytes::ByteBuf::from(vec![7; 16]));
        let message = std::collections::BTreeMap::from([
            ("type", Scrap::Text("queued".into())),
            ("ticket", ticket),
            ("position", Scrap::Number(3)),
        ]);
        let body = documents::encode(&message).unwrap();
        assert_eq!(
            decode(&body),
            Ok(citizen::FromRelay::Queued {
                ticket: TicketId::from_bytes([7; 16]),
                position: 3
            })
        );
        // to all others its type is unknown, and ignored
        assert_eq!(reads_all(&body), [true; 6]);
    }
}
