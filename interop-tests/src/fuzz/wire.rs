//! Control messages and their framing.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use suora_protocol::fault::Code;
use suora_protocol::limits;
use suora_protocol::wire::{self, Framer, citizen, guest, officer};

/// Everything that a framer makes of a stream in these pieces, and how it ended.
fn messages<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, Option<Code>) {
    let mut framer = Framer::new();
    let mut all = Vec::new();
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next_message() {
                Ok(Some(body)) => {
                    assert!(body.len() <= limits::MESSAGE_MAX);
                    all.push(body);
                }
                Ok(None) => break,
                Err(fault) => return (all, Some(fault.code)),
            }
        }
    }
    (all, None)
}

/// The same messages come of a stream however it is cut: at once, by the byte, in pieces that
/// its first byte chooses.
pub fn framing(bytes: &[u8]) {
    let whole = messages(std::iter::once(bytes));
    assert_eq!(messages(bytes.chunks(1)), whole);
    let size = usize::from(bytes.first().copied().unwrap_or(0)) + 2;
    assert_eq!(messages(bytes.chunks(size)), whole);
}

/// What is read can be written, and is then read as the same.
fn again<M: Serialize + DeserializeOwned>(body: &[u8]) {
    let Ok(message) = wire::decode::<M>(body) else {
        return;
    };
    // what is understood of a long message may be short, never the other way round
    let Ok(framed) = wire::encode(&message) else {
        panic!("a message that was read cannot be written");
    };
    let mut framer = Framer::new();
    framer.push(&framed);
    let Ok(Some(written)) = framer.next_message() else {
        // a message of an unknown type reads as nothing and is never said
        return;
    };
    let Ok(read) = wire::decode::<M>(&written) else {
        panic!("a message that was written cannot be read");
    };
    assert_eq!(wire::encode(&read).ok(), Some(framed));
}

/// Messages between nodes and relay, in every direction.
pub fn control(body: &[u8]) {
    again::<citizen::ToRelay>(body);
    again::<citizen::FromRelay>(body);
    again::<officer::ToRelay>(body);
    again::<officer::FromRelay>(body);
}

/// Messages between host and guest, in both directions.
pub fn session(body: &[u8]) {
    again::<guest::ToHost>(body);
    again::<guest::FromHost>(body);
}
