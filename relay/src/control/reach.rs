//! DOOR: a relay's control plane as nodes meet it, for the doctor: each address is dialled
//! alone, and it counts as reached once the key that it names was proven.

use std::time::Duration;

use futures::StreamExt;
use libp2p::core::Multiaddr;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{DialError, SwarmEvent, dummy};
use libp2p::{SwarmBuilder, noise, tcp};
use suora_protocol::fault::{Code, Fault, root_cause};
use suora_protocol::identity::{Key, PeerId};

use super::muxer::Yamux;
use crate::clock::Clock;
use crate::config::Config;

/// How long one address may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What an address is dialled over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// QUIC, on UDP.
    Quic,
    /// TCP.
    Tcp,
    /// WebSocket, on TCP.
    WebSocket,
}

/// What an address is over; none: it is of no kind that nodes dial.
pub fn over(address: &str) -> Option<Over> {
    let address: Multiaddr = address.parse().ok()?;
    let parts: Vec<Protocol<'_>> = address.iter().skip(1).collect();
    match parts[..] {
        [Protocol::Udp(_), Protocol::QuicV1, Protocol::P2p(_)] => Some(Over::Quic),
        [Protocol::Tcp(_), Protocol::P2p(_)] => Some(Over::Tcp),
        [Protocol::Tcp(_), Protocol::Ws(_), Protocol::P2p(_)] => Some(Over::WebSocket),
        _ => None,
    }
}

/// The addresses of this machine at which a relay with these settings listens; one that
/// listens on every interface is asked on loopback.
pub fn own(config: &Config, peer: &PeerId) -> Vec<String> {
    let at = |address: std::net::SocketAddr| {
        let ip = match address.ip() {
            ip if !ip.is_unspecified() => ip,
            std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        (Multiaddr::from(ip), address.port())
    };
    let (ip, port) = at(config.control);
    let mut own = vec![
        ip.clone().with(Protocol::Udp(port)).with(Protocol::QuicV1),
        ip.with(Protocol::Tcp(port)),
    ];
    own.extend(config.websocket.map(|address| {
        let (ip, port) = at(address);
        ip.with(Protocol::Tcp(port)).with(Protocol::Ws("/".into()))
    }));
    own.into_iter()
        .map(|address| format!("{address}/p2p/{}", peer.to_text()))
        .collect()
}

/// Dials an address under a passing key and hangs up; how long it took until the key that
/// the address names was proven.
pub async fn reach(address: &str, passing: &Key, clock: &Clock) -> Result<Duration, Fault> {
    let failed =
        |what: String| Fault::new(Code::RelayUnreachable).with(format!("{address}: {what}"));
    let target: Multiaddr = address
        .parse()
        .map_err(|error| failed(format!("{error}")))?;
    let internal = |error: String| Fault::new(Code::Internal).with(error);
    let identity = libp2p::identity::Keypair::ed25519_from_bytes(passing.secret().to_vec())
        .map_err(|error| internal(error.to_string()))?;
    let mut swarm = SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, || Yamux)
        .map_err(|error| internal(error.to_string()))?
        .with_quic()
        .with_other_transport(|key| Ok(super::over_websocket(key)?))
        .map_err(|error| internal(error.to_string()))?
        .with_dns()
        .map_err(|error| internal(error.to_string()))?
        .with_behaviour(|_| dummy::Behaviour)
        .map_err(|error| internal(error.to_string()))?
        .build();
    let begun = clock.now().mono;
    swarm
        .dial(target)
        .map_err(|error| failed(error.to_string()))?;
    let stands = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => return Ok(()),
                SwarmEvent::OutgoingConnectionError { error, .. } => {
                    return Err(failed(cause(&error)));
                }
                _ => {}
            }
        }
    };
    match tokio::time::timeout(PATIENCE, stands).await {
        Ok(stands) => stands.map(|()| clock.now().mono.duration_since(begun)),
        Err(_) => Err(failed("no answer in time".into())),
    }
}

/// What is at the bottom of a dial's failure.
fn cause(error: &DialError) -> String {
    if let DialError::Transport(failures) = error
        && let Some((_, failure)) = failures.first()
    {
        return root_cause(failure);
    }
    root_cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_asked_where_it_listens() {
        let mut config = Config {
            control: "0.0.0.0:4433".parse().unwrap(),
            websocket: Some("[::]:4434".parse().unwrap()),
            http: "127.0.0.1:0".parse().unwrap(),
            metrics: "127.0.0.1:0".parse().unwrap(),
            connections_per_prefix: 1,
            connections: 1,
            tickets_per_prefix: 1,
            turn: None,
        };
        let peer = Key::from_secret(&[1; 32]).peer_id();
        let own_addresses = own(&config, &peer);
        let end = peer.to_text();
        assert_eq!(
            own_addresses,
            [
                format!("/ip4/127.0.0.1/udp/4433/quic-v1/p2p/{end}"),
                format!("/ip4/127.0.0.1/tcp/4433/p2p/{end}"),
                format!("/ip6/::1/tcp/4434/ws/p2p/{end}"),
            ]
        );
        let kinds: Vec<_> = own_addresses.iter().filter_map(|one| over(one)).collect();
        assert_eq!(kinds, [Over::Quic, Over::Tcp, Over::WebSocket]);
        config.websocket = None;
        assert_eq!(own(&config, &peer).len(), 2);
        assert_eq!(over("/ip4/127.0.0.1/tcp/4433/wss"), None);
    }
}
