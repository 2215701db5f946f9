//! DOOR: whether STUN is answered at an address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use stun_types::attribute::XorMappedAddress;
use stun_types::message::{self, Message, MessageClass, MessageWriteVec};
use stun_types::prelude::*;
use tokio::net::UdpSocket;

/// How long an answer may take, and how often it is asked for.
const PATIENCE: Duration = Duration::from_millis(500);
const TRIES: usize = 4;

/// Asks for this machine's address there.
#[expect(clippy::disallowed_methods, reason = "door: a socket that asks")]
pub async fn probe(at: SocketAddr) -> io::Result<SocketAddr> {
    let any: IpAddr = match at {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(at).await?;
    let request = Message::builder_request(message::BINDING, MessageWriteVec::new()).finish();
    let mut answer = [0; 1_024];
    for _ in 0..TRIES {
        socket.send(&request).await?;
        let heard = tokio::time::timeout(PATIENCE, socket.recv(&mut answer)).await;
        let Ok(len) = heard else {
            continue;
        };
        let bytes = answer.get(..len?).unwrap_or_default();
        let Some(message) = crate::turn::message::read(bytes) else {
            continue;
        };
        let asked = crate::turn::message::read(&request).map(|one| one.transaction_id());
        let mapped = message.attribute::<XorMappedAddress>();
        if message.class() == MessageClass::Success
            && Some(message.transaction_id()) == asked
            && let Ok(mapped) = mapped
        {
            return Ok(mapped.addr(message.transaction_id()));
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}
