//! A hostile end that fills every window it has, against this multiplexer and the library's own.

use std::task::Waker;

use futures::FutureExt as _;

use super::*;

/// Opens streams, and sends to each in turn until its window is full; says nothing more.
struct Hostile {
    bytes: Vec<u8>,
    sent: Arc<Mutex<usize>>,
}

impl Hostile {
    fn new() -> (Self, Arc<Mutex<usize>>) {
        let mut bytes = Vec::new();
        let window = yamux::DEFAULT_CREDIT;
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
        for _ in 0..window / 16_384 {
            for stream in 0..STREAMS {
                frame(0, 0, stream, 16_384);
            }
        }
        let sent = Arc::new(Mutex::new(0));
        let hostile = Self {
            bytes,
            sent: sent.clone(),
        };
        (hostile, sent)
    }
}

impl AsyncRead for Hostile {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut sent = self.sent.lock().unwrap();
        let rest = &self.bytes[*sent..];
        let length = rest.len().min(buffer.len());
        if length == 0 {
            return Poll::Pending;
        }
        buffer[..length].copy_from_slice(&rest[..length]);
        *sent += length;
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for Hostile {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
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

// covers: SUORA-SEC-271
#[test]
fn a_connection_takes_no_more_than_its_bound_until_streams_are_read() {
    let (hostile, sent) = Hostile::new();
    let sent = || *sent.lock().unwrap();
    let mut muxer = Muxer::new(hostile, Mode::Server);
    look_after(&mut muxer);
    let heads = 12 * (STREAMS + UNREAD / 16_384);
    assert_eq!(sent(), UNREAD + heads);

    // who reads one stream gets what is its own, and the next bytes come
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(mut stream)) = Pin::new(&mut muxer).poll_inbound(&mut cx) else {
        panic!("no stream");
    };
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

/// The control of the test above: without the count, every window is full.
#[test]
fn the_librarys_own_multiplexer_takes_all_that_windows_hold() {
    let (hostile, sent) = Hostile::new();
    let mut config = libp2p::yamux::Config::default();
    config.set_max_num_streams(STREAMS);
    let upgrade = config.upgrade_inbound(hostile, "/yamux/1.0.0");
    let mut muxer = upgrade.now_or_never().unwrap().unwrap();
    look_after(&mut muxer);
    let windows = STREAMS * yamux::DEFAULT_CREDIT as usize;
    assert!(*sent.lock().unwrap() > windows);
}
