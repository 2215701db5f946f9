//! One desk stream: a bounded reader and a bounded writer. A node that does not read
//! what it is told loses its stream; it never holds up the hub.

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::Stream;
use suora_protocol::identity::PeerId;
use suora_protocol::wire::Framer;
use tokio::sync::mpsc;

use crate::hub::LinkId;

/// Messages to one node that may wait to be written.
const OUTBOX: usize = 64;

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
        /// Framed messages to the node.
        outbox: mpsc::Sender<Bytes>,
    },
    /// A message came.
    Message(LinkId, Bytes),
    /// The stream ended.
    Down(LinkId),
}

/// Serves one stream until it ends, is closed, or breaks a bound.
pub async fn serve(
    number: u64,
    peer: PeerId,
    officer: bool,
    stream: Stream,
    envelopes: mpsc::Sender<Envelope>,
) {
    let link = LinkId(number);
    let (outbox, mut outgoing) = mpsc::channel::<Bytes>(OUTBOX);
    if envelopes
        .send(Envelope::Up {
            link,
            peer,
            officer,
            outbox,
        })
        .await
        .is_err()
    {
        return;
    }
    let (mut reader, mut writer) = stream.split();
    let reading = async {
        let mut framer = Framer::new();
        let mut buffer = [0u8; 4_096];
        loop {
            match reader.read(&mut buffer).await {
                Ok(read @ 1..) => framer.push(buffer.get(..read).unwrap_or_default()),
                _ => return,
            }
            loop {
                match framer.next_message() {
                    Ok(Some(body)) => {
                        if envelopes.send(Envelope::Message(link, body)).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(fault) => {
                        tracing::debug!(link = number, %fault, "stream closed");
                        return;
                    }
                }
            }
        }
    };
    let writing = async {
        while let Some(bytes) = outgoing.recv().await {
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
        let _ = writer.close().await;
    };
    futures::pin_mut!(reading, writing);
    futures::future::select(reading, writing).await;
    let _ = envelopes.send(Envelope::Down(link)).await;
}
