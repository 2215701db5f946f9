//! Control messages (`spec/control.md`): an unsigned varint length, then one
//! deterministic CBOR map whose key `type` names the message. Unknown keys and
//! unknown types are ignored; everything is bounded.

pub mod citizen;
pub mod guest;
pub mod officer;

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

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut framer = Framer::new();
            framer.push(&bytes);
            while let Ok(Some(body)) = framer.next_message() {
                let _ = decode::<citizen::ToRelay>(&body);
                let _ = decode::<officer::ToRelay>(&body);
                let _ = decode::<guest::ToHost>(&body);
            }
        }
    }
}
