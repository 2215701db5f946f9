//! One desk stream: a bounded reader and a bounded writer. A node that does not read
//! what it is told loses its stream; it never holds up the hub.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use suora_protocol::fault::Fault;
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
) {
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
    let (reading, writing) = (read(link, reader, &envelopes), write(writer, outgoing));
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
) -> Option<Fault> {
    let mut framer = Framer::new();
    let mut buffer = [0u8; 4_096];
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
