//! One desk stream: a bounded reader and a bounded writer. A node that does not read
//! what it is told loses its stream; it never holds up the hub.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::PeerId;
use suora_protocol::wire::Framer;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::hub::LinkId;
use crate::hub::admission::refusal;
use crate::hub::crowd::Prefix;

/// Messages to one node that may wait to be written.
pub const OUTBOX: usize = 64;
/// How long a node may take to read what it is told.
const UNREAD: Duration = Duration::from_secs(10);
/// How long a stream that ends may take to say its last words.
const FAREWELL: Duration = Duration::from_secs(2);

/// Bytes of an unfinished message that count for nothing: nearly every message is shorter.
const SMALL: usize = 4_096;
/// Bytes beyond, of all unfinished messages of one prefix.
pub const UNFINISHED: usize = 2 << 20;

/// What the unfinished messages of each prefix hold.
#[derive(Debug, Default)]
pub struct Unfinished(Mutex<BTreeMap<Prefix, usize>>);

/// One stream's share of it, until dropped.
#[derive(Debug)]
struct Share {
    all: Arc<Unfinished>,
    prefix: Prefix,
    bytes: usize,
}

impl Share {
    const fn new(all: Arc<Unfinished>, prefix: Prefix) -> Self {
        Self {
            all,
            prefix,
            bytes: 0,
        }
    }

    /// Says how much the stream holds now. More than the prefix may is [`Code::Busy`].
    fn set(&mut self, unfinished: usize) -> Result<(), Fault> {
        let bytes = unfinished.saturating_sub(SMALL);
        if bytes == self.bytes {
            return Ok(());
        }
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = all.entry(self.prefix).or_default();
        let others = held.saturating_sub(self.bytes);
        if bytes > self.bytes && others + bytes > UNFINISHED {
            return Err(Fault::new(Code::Busy).with("too many unfinished messages from there"));
        }
        *held = others + bytes;
        if *held == 0 {
            all.remove(&self.prefix);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // less is never refused
        let _ = self.set(0);
    }
}

/// What a stream tells the loop.
#[derive(Debug)]
pub enum Envelope {
    /// A node opened its stream; this is where to write to it.
    Up {
        /// The stream.
        link: LinkId,
        /// Who, as the transport proved.
        peer: PeerId,
        /// Whether it speaks as an officer.
        officer: bool,
        /// Where it comes from.
        prefix: Prefix,
        /// Framed messages to the node. Dropping it closes the stream once they are out.
        outbox: mpsc::Sender<Bytes>,
    },
    /// A message came.
    Message(LinkId, Bytes),
    /// The stream ended.
    Down(LinkId),
}

/// Says one thing and closes.
pub async fn turn_away(mut stream: impl AsyncWrite + Unpin, last: Bytes) {
    let _ = timeout(FAREWELL, async {
        stream.write_all(&last).await?;
        stream.close().await
    })
    .await;
}

/// Serves one stream until it ends, is closed, or breaks a bound.
pub async fn serve(
    link: LinkId,
    (peer, officer, prefix): (PeerId, bool, Prefix),
    stream: impl AsyncRead + AsyncWrite,
    envelopes: mpsc::Sender<Envelope>,
    unfinished: Arc<Unfinished>,
) {
    let share = Share::new(unfinished, prefix);
    let (outbox, outgoing) = mpsc::channel::<Bytes>(OUTBOX);
    let last_words = outbox.downgrade();
    let up = Envelope::Up {
        link,
        peer,
        officer,
        prefix,
        outbox,
    };
    if envelopes.send(up).await.is_err() {
        return;
    }
    let (reader, writer) = stream.split();
    let (reading, writing) = (
        read(link, reader, &envelopes, share),
        write(writer, outgoing),
    );
    futures::pin_mut!(reading, writing);
    tokio::select! {
        broken = &mut reading => {
            if let Some(fault) = broken
                && let Some(outbox) = last_words.upgrade()
            {
                tracing::debug!(link = link.0, %fault, "stream closed");
                let _ = outbox.try_send(refusal(officer, &fault));
            }
            // the loop drops the outbox, and the writer ends when all is out
            let _ = envelopes.send(Envelope::Down(link)).await;
            let _ = timeout(FAREWELL, writing).await;
        }
        () = &mut writing => {
            let _ = envelopes.send(Envelope::Down(link)).await;
        }
    }
}

/// Reads messages until the stream ends (`None`) or breaks a bound.
async fn read(
    link: LinkId,
    mut reader: impl AsyncRead + Unpin,
    envelopes: &mpsc::Sender<Envelope>,
    mut share: Share,
) -> Option<Fault> {
    let mut framer = Framer::new();
    // small, since many streams wait here: nearly every message fits
    let mut buffer = [0u8; 1_024];
    loop {
        match reader.read(&mut buffer).await {
            Ok(read @ 1..) => framer.push(buffer.get(..read).unwrap_or_default()),
            _ => return None,
        }
        loop {
            match framer.next_message() {
                Ok(Some(body)) => {
                    let message = Envelope::Message(link, body);
                    if envelopes.send(message).await.is_err() {
                        return None;
                    }
                }
                Ok(None) => break,
                Err(fault) => return Some(fault),
            }
        }
        if let Err(fault) = share.set(framer.unfinished()) {
            return Some(fault);
        }
    }
}

/// Writes what is said until nobody has more to say, or the node does not read.
async fn write(mut writer: impl AsyncWrite + Unpin, mut outgoing: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = outgoing.recv().await {
        let written = timeout(UNREAD, async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        });
        if !matches!(written.await, Ok(Ok(()))) {
            return;
        }
    }
    let _ = timeout(FAREWELL, writer.close()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: SUORA-SEC-133
    #[test]
    fn a_prefix_holds_so_much_of_unfinished_messages_and_takes_nothing_from_others() {
        let all = Arc::new(Unfinished::default());
        let place = |last| Prefix::of([10, 0, last, 1].into());
        let full = SMALL + 60_000;
        let mut many = Vec::new();
        let refused = loop {
            let mut share = Share::new(all.clone(), place(1));
            match share.set(full) {
                Ok(()) => many.push(share),
                Err(fault) => break fault.code,
            }
        };
        assert_eq!((refused, many.len()), (Code::Busy, UNFINISHED / 60_000));
        // small ones, and those from elsewhere, go on
        let mut small = Share::new(all.clone(), place(1));
        assert!(small.set(SMALL).is_ok());
        let mut other = Share::new(all.clone(), place(2));
        assert!(other.set(full).is_ok());
        // one that grew whole, and one that ended, make room
        assert!(many[0].set(0).is_ok());
        assert!(small.set(full).is_ok());
        assert_eq!(other.set(full).map(|()| other.bytes), Ok(60_000));
        drop((many, small, other));
        assert!(all.0.lock().unwrap().is_empty(), "nobody is remembered");
    }
}
