//! Yamux with a bound on what a connection holds unread. A window of Yamux is 256 KiB at least, one
//! a stream, and a stream that nobody reads yet holds its own in full. So while [`UNREAD`] bytes
//! wait, for whichever streams, or [`FRAMES`] frames, nothing more is read from the connection: who
//! sent them waits for itself. Nor is it while nothing can be written: the library forgets no
//! stream meanwhile, and would keep what comes for those that are gone. `unread` counts by looking
//! at the heads of frames that pass by.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod unread;

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use yamux::{Connection, ConnectionError, Mode};

use unread::Unread;

/// Streams of a connection at once, of both ends.
pub const STREAMS: usize = 16;
/// Bytes that wait on a connection's streams to be read: the longest frame that libraries send.
pub const UNREAD: usize = 65_536;
/// Frames with bytes that wait there: the library keeps each apart, however short it is.
pub const FRAMES: usize = 512;

/// The upgrade.
#[derive(Clone, Copy, Debug)]
pub(super) struct Yamux;

impl UpgradeInfo for Yamux {
    type Info = &'static str;
    type InfoIter = std::iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, io: C, _: &'static str) -> Self::Future {
        std::future::ready(Ok(Muxer::new(io, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, io: C, _: &'static str) -> Self::Future {
        std::future::ready(Ok(Muxer::new(io, Mode::Client)))
    }
}

/// What a connection and its streams share.
type Count = Arc<Mutex<Unread>>;

fn lock(count: &Mutex<Unread>) -> MutexGuard<'_, Unread> {
    count.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connection beneath, read only while there is room and it takes what is written.
#[derive(Debug)]
struct Counted<C> {
    io: C,
    count: Count,
    /// Whether something waits to be written. Then the library tries to write it in each turn, before
    /// it reads, so that it is woken for it.
    is_stuck: bool,
}

impl<C: AsyncRead + Unpin> AsyncRead for Counted<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_stuck {
            return Poll::Pending;
        }
        let Some(room) = lock(&self.count).room(cx) else {
            return Poll::Pending;
        };
        let most = buffer.len().min(room);
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        lock(&self.count).came(buffer.get(..read).unwrap_or_default())?;
        Poll::Ready(Ok(read))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Counted<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.is_stuck = written.is_pending();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// A stream; its bytes count until they are read or it is gone.
#[derive(Debug)]
pub(super) struct Stream {
    stream: yamux::Stream,
    count: Count,
}

impl Drop for Stream {
    fn drop(&mut self) {
        lock(&self.count).gone(self.stream.id().val());
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        lock(&self.count).read(self.stream.id().val(), read);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// A connection of Yamux.
pub(super) struct Muxer<C> {
    connection: Connection<Counted<C>>,
    count: Count,
    /// Streams that came while nobody asked for any; the connection bounds them.
    parked: VecDeque<Stream>,
    asks: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(io: C, mode: Mode) -> Self {
        let count = Count::default();
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS);
        // the least there is, so that no window grows
        let least = STREAMS * yamux::DEFAULT_CREDIT as usize;
        config.set_max_connection_receive_window(Some(least));
        let counted = Counted {
            io,
            count: count.clone(),
            is_stuck: false,
        };
        Self {
            connection: Connection::new(counted, config, mode),
            count,
            parked: VecDeque::new(),
            asks: None,
        }
    }

    fn stream(&self, stream: yamux::Stream) -> Stream {
        Stream {
            stream,
            count: self.count.clone(),
        }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let next = ready!(self.connection.poll_next_inbound(cx));
        let stream = next.ok_or(ConnectionError::Closed).and_then(|next| next);
        Poll::Ready(stream.map(|new| self.stream(new)).map_err(broken))
    }
}

fn broken(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        if let Some(parked) = self.parked.pop_front() {
            return Poll::Ready(Ok(parked));
        }
        if let Poll::Ready(next) = self.next(cx) {
            return Poll::Ready(next);
        }
        self.asks = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let new = ready!(self.connection.poll_new_outbound(cx)).map_err(broken)?;
        lock(&self.count).opened(new.id().val())?;
        Poll::Ready(Ok(self.stream(new)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_close(cx).map_err(broken)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let new = ready!(self.next(cx))?;
        self.parked.push_back(new);
        if let Some(asks) = self.asks.take() {
            asks.wake();
        }
        // once more, after others
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
