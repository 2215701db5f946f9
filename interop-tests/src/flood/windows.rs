//! A stranger that fills the windows of streams which nobody reads yet.

use std::net::SocketAddr;

use futures::future::poll_fn;
use futures::{AsyncWriteExt as _, StreamExt as _};
use libp2p::core::muxing::StreamMuxerExt as _;
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::{Endpoint, Transport as _, upgrade};
use libp2p::{Multiaddr, noise, tcp, yamux};
use suora_protocol::identity::Draw;
use tokio::time::timeout;

use super::strangers::{PATIENCE, Shared};

/// Streams at once, one less than there may be.
const STREAMS: usize = 15;
/// Those of them on which the choice of a protocol is begun: the relay looks at no more at a time.
const BEGUN: usize = 4;
/// What a window holds.
const WINDOW: usize = 262_144;

/// Opens streams by a fresh key, begins on some and fills the others, and stays.
pub(super) async fn fills(s: &Shared, draw: &mut Draw, via: SocketAddr) -> Option<()> {
    let pair = libp2p::identity::Keypair::ed25519_from_bytes(draw.bytes::<32>()).ok()?;
    let mut tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(&pair).ok()?)
        .multiplex(yamux::Config::default())
        .boxed();
    let address: Multiaddr = format!("/ip4/{}/tcp/{}", via.ip(), via.port())
        .parse()
        .ok()?;
    let options = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::New,
    };
    let dialled = timeout(PATIENCE, tcp.dial(address, options).ok()?).await;
    let (_, mut muxer) = dialled.ok()?.ok()?;
    let mut writing = futures::stream::FuturesUnordered::new();
    for number in 0..STREAMS {
        let mut stream = poll_fn(|cx| muxer.poll_outbound_unpin(cx)).await.ok()?;
        writing.push(async move {
            let what = if number < BEGUN {
                &[0x13][..]
            } else {
                &[0x13; WINDOW]
            };
            // the last bytes may wait for ever
            let _ = stream.write_all(what).await;
            let _ = stream.flush().await;
            stream
        });
        s.count(|counts| &counts.windows);
    }
    let mut held = Vec::new();
    loop {
        tokio::select! {
            end = poll_fn(|cx| muxer.poll_unpin(cx)) => { end.ok()?; }
            Some(stream) = writing.next() => held.push(stream),
        }
    }
}
