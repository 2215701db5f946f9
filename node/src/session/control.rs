//! The control stream (`spec/session.md`, section 2): the first bidirectional stream,
//! opened by the guest, ahead of everything else. One task reads, one writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::time::Timestamp;
use suora_protocol::wire::Framer;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::worker::{Mailbox, Post, mailbox};

/// Messages that wait to be written: the other end reads text at once, or is gone.
const OUTBOX: usize = 64;
/// Messages that were read and not yet taken.
const INBOX: usize = 32;
/// Text goes ahead of pictures.
const PRIORITY: i32 = 10;

/// What the control stream tells.
#[derive(Debug)]
pub enum Heard {
    /// A message, without its length.
    Message {
        /// The message.
        body: Bytes,
        /// When its last byte was read.
        at: Timestamp,
    },
    /// The other end broke a rule of framing.
    Broken(Fault),
}

/// Bytes of the control stream so far.
#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    read: AtomicU64,
}

/// Both directions of the control stream.
#[derive(Debug)]
pub struct Control {
    outbox: Option<Post<Bytes>>,
    inbox: Mailbox<Heard>,
    counts: Arc<Counts>,
    finished: oneshot::Receiver<()>,
}

/// Opens the stream (guest) or waits for it (host), in tasks of `tasks`.
pub fn open(connection: Connection, host: bool, clock: Clock, tasks: &mut JoinSet<()>) -> Control {
    let (outbox, outgoing) = mailbox(OUTBOX);
    let (incoming, inbox) = mailbox(INBOX);
    let counts = Arc::new(Counts::default());
    let count = counts.clone();
    let (done, finished) = oneshot::channel();
    tasks.spawn(async move {
        let streams = if host {
            connection.accept_bi().await
        } else {
            connection.open_bi().await
        };
        if let Ok((send, recv)) = streams {
            tokio::join!(
                read(recv, incoming, clock, &count.read),
                write(send, outgoing, &count.written, done)
            );
        }
    });
    Control {
        outbox: Some(outbox),
        inbox,
        counts,
        finished,
    }
}

impl Control {
    /// Sends a framed message. An end that does not read is [`Code::PeerSilent`].
    pub fn send(&self, bytes: Bytes) -> Result<(), Fault> {
        let full = || Fault::new(Code::PeerSilent).with("the other end does not read its messages");
        self.outbox
            .as_ref()
            .ok_or_else(full)?
            .post(bytes)
            .map_err(|_| full())
    }

    /// The next thing that was heard; `None`: the stream ended. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Heard> {
        self.inbox.recv().await
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.counts.written.load(Ordering::Relaxed)
    }

    /// Bytes of the other end that were read so far.
    pub fn read(&self) -> u64 {
        self.counts.read.load(Ordering::Relaxed)
    }

    /// Ends our direction and waits, at most so long, until the other end has everything.
    pub async fn finish(&mut self, at_most: Duration) {
        self.outbox = None;
        let _ = tokio::time::timeout(at_most, &mut self.finished).await;
    }
}

async fn read(mut recv: RecvStream, inbox: Post<Heard>, clock: Clock, count: &AtomicU64) {
    let mut framer = Framer::new();
    while let Ok(Some(chunk)) = recv.read_chunk(16 * 1_024, true).await {
        count.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
        framer.push(&chunk.bytes);
        loop {
            let heard = match framer.next_message() {
                Ok(Some(body)) => Heard::Message {
                    body,
                    at: clock.now().utc,
                },
                Ok(None) => break,
                Err(fault) => Heard::Broken(fault),
            };
            let broken = matches!(heard, Heard::Broken(_));
            if !inbox.send(heard).await || broken {
                return;
            }
        }
    }
}

async fn write(
    mut send: SendStream,
    mut outbox: Mailbox<Bytes>,
    written: &AtomicU64,
    done: oneshot::Sender<()>,
) {
    let _ = send.set_priority(PRIORITY);
    while let Some(bytes) = outbox.recv().await {
        if send.write_all(&bytes).await.is_err() {
            return;
        }
        written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    if send.finish().is_ok() {
        let _ = send.stopped().await;
    }
    let _ = done.send(());
}
