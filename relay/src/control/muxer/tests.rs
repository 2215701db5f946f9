//! A hostile end that fills every window it has, against this multiplexer and the library's own.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, StreamExt as _};
use libp2p::core::Endpoint;
use libp2p::core::muxing::StreamMuxerExt as _;
use libp2p::core::transport::{
    DialOpts, ListenerId, MemoryTransport, PortUse, Transport as _, TransportEvent,
};

use super::*;

/// Opens streams, and sends to each in turn until its window is full; says nothing more.
struct Hostile {
    bytes: Vec<u8>,
    seen: Arc<Seen>,
}

/// What is seen of it, and whether it takes what is written to it.
#[derive(Default)]
struct Seen {
    sent: AtomicUsize,
    is_stuck: AtomicBool,
}

impl Seen {
    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    fn stick(&self, is_stuck: bool) {
        self.is_stuck.store(is_stuck, Ordering::Relaxed);
    }
}

impl Hostile {
    fn new() -> (Self, Arc<Seen>) {
        Self::saying(yamux::DEFAULT_CREDIT / 16_384, 16_384)
    }

    /// So many frames of so many bytes to each stream.
    fn saying(frames: u32, length: u32) -> (Self, Arc<Seen>) {
        let mut bytes = Vec::new();
        let mut frame = |kind: u8, flags: u8, stream: usize, length: u32| {
            bytes.extend([0, kind, 0, flags]);
            bytes.extend(u32::try_from(2 * stream + 1).unwrap().to_be_bytes());
            bytes.extend(length.to_be_bytes());
            if kind == 0 {
                bytes.resize(bytes.len() + length as usize, 0);
            }
        };
        for stream in 0..STREAMS {
            frame(1, 1, stream, 0);
        }
        for _ in 0..frames {
            for stream in 0..STREAMS {
                frame(0, 0, stream, length);
            }
        }
        let seen = Arc::new(Seen::default());
        let hostile = Self {
            bytes,
            seen: seen.clone(),
        };
        (hostile, seen)
    }
}

impl AsyncRead for Hostile {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let rest = &self.bytes[self.seen.sent()..];
        let length = rest.len().min(buffer.len());
        if length == 0 {
            return Poll::Pending;
        }
        buffer[..length].copy_from_slice(&rest[..length]);
        self.seen.sent.fetch_add(length, Ordering::Relaxed);
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for Hostile {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.seen.is_stuck.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Looks after a connection, without asking for its streams, as often as it ever needs.
fn look_after(muxer: &mut (impl StreamMuxer + Unpin)) {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        assert!(Pin::new(&mut *muxer).poll(&mut cx).is_pending());
    }
}

/// A stream that came.
fn accept(muxer: &mut Muxer<Hostile>) -> Stream {
    let mut cx = Context::from_waker(Waker::noop());
    match muxer.poll_inbound_unpin(&mut cx) {
        Poll::Ready(Ok(stream)) => stream,
        other => panic!("no stream: {other:?}"),
    }
}

// covers: SUORA-SEC-271
#[test]
fn a_connection_takes_no_more_than_its_bound_until_streams_are_read() {
    let (hostile, seen) = Hostile::new();
    let sent = || seen.sent();
    let mut muxer = Muxer::new(hostile, Mode::Server);
    look_after(&mut muxer);
    let heads = 12 * (STREAMS + UNREAD / 16_384);
    assert_eq!(sent(), UNREAD + heads);

    // who reads one stream gets what is its own, and the next bytes come
    let mut cx = Context::from_waker(Waker::noop());
    let mut stream = accept(&mut muxer);
    let mut buffer = [0; 10_000];
    let before = sent();
    let read = Pin::new(&mut stream).poll_read(&mut cx, &mut buffer);
    assert!(matches!(read, Poll::Ready(Ok(10_000))));
    look_after(&mut muxer);
    assert!((10_000..10_000 + 2 * 12).contains(&(sent() - before)));

    // what waits on a stream that is given up makes room too
    let before = sent();
    drop(stream);
    look_after(&mut muxer);
    assert!(sent() - before >= 16_384 - 10_000);
}

// covers: SUORA-SEC-271
#[test]
fn frames_of_a_byte_are_taken_in_small_number() {
    let (hostile, seen) = Hostile::saying(2 * u32::try_from(FRAMES).unwrap(), 1);
    let mut muxer = Muxer::new(hostile, Mode::Server);
    look_after(&mut muxer);
    assert_eq!(seen.sent(), 12 * STREAMS + 13 * FRAMES);

    // as many more as were read
    let mut cx = Context::from_waker(Waker::noop());
    let mut stream = accept(&mut muxer);
    let mut buffer = [0; 10_000];
    let each = FRAMES / STREAMS;
    let read = Pin::new(&mut stream).poll_read(&mut cx, &mut buffer);
    assert!(matches!(read, Poll::Ready(Ok(bytes)) if bytes == each));
    look_after(&mut muxer);
    assert_eq!(seen.sent(), 12 * STREAMS + 13 * (FRAMES + each));
}

// covers: SUORA-SEC-271
#[test]
fn while_nothing_can_be_written_nothing_comes_for_streams_that_are_gone() {
    let (hostile, seen) = Hostile::new();
    let all = hostile.bytes.len();
    let mut muxer = Muxer::new(hostile, Mode::Server);
    look_after(&mut muxer);
    let full = seen.sent();
    let streams: Vec<_> = (0..STREAMS).map(|_| accept(&mut muxer)).collect();
    seen.stick(true);
    drop(streams);
    look_after(&mut muxer);
    assert_eq!(seen.sent(), full);
    // once it can, nobody keeps the rest
    seen.stick(false);
    look_after(&mut muxer);
    assert_eq!(seen.sent(), all);
}

/// The two ends of a connection.
async fn pipe() -> (
    impl AsyncRead + AsyncWrite + Unpin + Send,
    impl AsyncRead + AsyncWrite + Unpin + Send,
) {
    let mut transport = MemoryTransport::new().boxed();
    let any = "/memory/0".parse().unwrap();
    transport.listen_on(ListenerId::next(), any).unwrap();
    let Some(TransportEvent::NewAddress { listen_addr, .. }) = transport.next().await else {
        panic!("no address");
    };
    let options = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::New,
    };
    let near = transport.dial(listen_addr, options).unwrap().await.unwrap();
    let Some(TransportEvent::Incoming { upgrade, .. }) = transport.next().await else {
        panic!("nobody came");
    };
    (near, upgrade.await.unwrap())
}

// covers: SUORA-SEC-271
#[tokio::test]
async fn all_comes_to_those_who_read_late_however_much_it_is() {
    const EACH: usize = 100 * 1_024;
    let (near, far) = pipe().await;
    let mut sender = Muxer::new(near, Mode::Client);
    let mut muxer = Muxer::new(far, Mode::Server);
    for number in [1, 2] {
        let mut stream = poll_fn(|cx| sender.poll_outbound_unpin(cx)).await.unwrap();
        tokio::spawn(async move {
            stream.write_all(&[number; EACH]).await.unwrap();
            stream.close().await.unwrap();
        });
    }
    tokio::spawn(async move { poll_fn(|cx| sender.poll_unpin(cx)).await });
    let mut streams = Vec::new();
    for _ in 0..2 {
        let stream = poll_fn(|cx| muxer.poll_inbound_unpin(cx)).await;
        streams.push(stream.unwrap());
    }
    let count = muxer.count.clone();
    tokio::spawn(async move { poll_fn(|cx| muxer.poll_unpin(cx)).await });
    let full = async {
        while !lock(&count).is_full() {
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, full).await.expect("full");
    // nobody wakes it but those who read
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let read = streams.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            all
        })
    });
    let read = futures::future::try_join_all(read);
    let mut read = tokio::time::timeout(patience, read).await.expect("in time");
    let read = read.as_mut().unwrap();
    read.sort();
    assert_eq!(*read, [vec![1; EACH], vec![2; EACH]]);
}

/// The control of the tests above: without the count, every window is full.
#[test]
fn the_librarys_own_multiplexer_takes_all_that_windows_hold() {
    let (hostile, seen) = Hostile::new();
    let mut config = libp2p::yamux::Config::default();
    config.set_max_num_streams(STREAMS);
    let upgrade = config.upgrade_inbound(hostile, "/yamux/1.0.0");
    let mut muxer = upgrade.now_or_never().unwrap().unwrap();
    look_after(&mut muxer);
    let windows = STREAMS * yamux::DEFAULT_CREDIT as usize;
    assert!(seen.sent() > windows);
}
