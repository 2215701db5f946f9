//! The control link against a small relay of this test, over real sockets.
#![expect(clippy::disallowed_methods, reason = "door: sockets of the test")]

use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::{Transport as _, upgrade};
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, Stream, StreamProtocol, SwarmEvent};
use libp2p::{Multiaddr, SwarmBuilder, identify, noise, tcp, websocket, yamux};
use suora_node::clock::Clock;
use suora_node::engine::ports::{LinkCommand, LinkEvent};
use suora_node::link::{Link, Times, start_with};
use suora_protocol::fault::Code;
use suora_protocol::identity::{Key, Seed};
use suora_protocol::wire::{self, Framer, citizen, officer};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Far above what any of these takes.
const DEADLINE: Duration = Duration::from_secs(20);

async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(DEADLINE, work).await.expect("in time")
}

/// Times of a test: short pauses, all else as in the program.
fn times() -> Times {
    Times {
        pause: Duration::from_millis(10),
        pause_max: Duration::from_millis(40),
        ..Times::default()
    }
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct Behaviour {
    stream: libp2p_stream::Behaviour,
    identify: identify::Behaviour,
}

/// A relay that hands each stream to the test.
struct Relay {
    addresses: Vec<String>,
    citizens: libp2p_stream::IncomingStreams,
    officers: libp2p_stream::IncomingStreams,
    /// Addresses of those who connected.
    connected: mpsc::Receiver<Multiaddr>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn keypair(number: u8) -> Keypair {
    Keypair::ed25519_from_bytes([number; 32]).unwrap()
}

fn key() -> Key {
    Seed::from_bytes([9; 32]).node_key()
}

impl Relay {
    async fn listen(identity: Keypair, addresses: &[&str]) -> Self {
        let mut swarm = SwarmBuilder::with_existing_identity(identity)
            .with_tokio()
            .with_tcp(
                tcp::Config::default(),
                noise::Config::new,
                yamux::Config::default,
            )
            .unwrap()
            .with_quic()
            .with_other_transport(|key| {
                let tcp = tcp::tokio::Transport::new(tcp::Config::default());
                Ok(websocket::Config::new(tcp)
                    .upgrade(upgrade::Version::V1Lazy)
                    .authenticate(noise::Config::new(key)?)
                    .multiplex(yamux::Config::default()))
            })
            .unwrap()
            .with_behaviour(|key| Behaviour {
                stream: libp2p_stream::Behaviour::new(),
                identify: identify::Behaviour::new(identify::Config::new(
                    "/suora/1".into(),
                    key.public(),
                )),
            })
            .unwrap()
            .build();
        let mut control = swarm.behaviour().stream.new_control();
        let mut take = |protocol| control.accept(StreamProtocol::new(protocol)).unwrap();
        let (citizens, officers) = (take(citizen::PROTOCOL), take(officer::PROTOCOL));
        for address in addresses {
            swarm.listen_on(address.parse().unwrap()).unwrap();
        }
        let peer = *swarm.local_peer_id();
        let mut listening = Vec::new();
        while listening.len() < addresses.len() {
            if let SwarmEvent::NewListenAddr { address, .. } = soon(swarm.next()).await.unwrap() {
                listening.push(format!("{address}/p2p/{peer}"));
            }
        }
        let (tell, connected) = mpsc::channel(64);
        let task = tokio::spawn(async move {
            loop {
                if let SwarmEvent::ConnectionEstablished { endpoint, .. } =
                    swarm.select_next_some().await
                {
                    let _ = tell.try_send(endpoint.get_remote_address().clone());
                }
            }
        });
        Self {
            addresses: listening,
            citizens,
            officers,
            connected,
            task,
        }
    }

    async fn all() -> Self {
        let addresses = [
            "/ip4/127.0.0.1/udp/0/quic-v1",
            "/ip4/127.0.0.1/tcp/0",
            "/ip4/127.0.0.1/tcp/0/ws",
        ];
        Self::listen(keypair(1), &addresses).await
    }

    async fn citizen(&mut self) -> Desk {
        let (_, stream) = soon(self.citizens.next()).await.unwrap();
        Desk {
            stream,
            framer: Framer::new(),
        }
    }
}

/// A desk stream at the relay.
struct Desk {
    stream: Stream,
    framer: Framer,
}

impl Desk {
    /// The next message; `None`: the node said its last.
    async fn hear(&mut self) -> Option<citizen::ToRelay> {
        let mut buffer = [0; 1_024];
        loop {
            if let Some(body) = self.framer.next_message().unwrap() {
                return Some(wire::decode(&body).unwrap());
            }
            match soon(self.stream.read(&mut buffer)).await {
                // a connection that is closed says no more than a stream that ended
                Ok(0) | Err(_) => return None,
                Ok(count) => self.framer.push(&buffer[..count]),
            }
        }
    }

    async fn say(&mut self, message: &citizen::FromRelay) {
        self.write(&wire::encode(message).unwrap()).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.unwrap();
        soon(self.stream.flush()).await.unwrap();
    }
}

fn open(relays: &[String], times: Times) -> Link {
    let link = start_with([3; 32], Clock::start(), times);
    tell(&link, open_command(relays, false));
    link
}

fn open_command(relays: &[String], officer: bool) -> LinkCommand {
    LinkCommand::Open {
        relays: relays.to_vec(),
        key: key(),
        officer,
    }
}

fn tell(link: &Link, command: LinkCommand) {
    assert!(link.commands.post(command).is_ok(), "the queue is full");
}

fn ping(n: u64) -> LinkCommand {
    LinkCommand::Citizen(citizen::ToRelay::Ping { n })
}

async fn up(link: &mut Link) {
    let event = soon(link.events.recv()).await;
    assert!(matches!(event, Some(LinkEvent::Up)), "{event:?}");
}

/// Waits for the link to stand, however often it fails before.
async fn up_at_last(link: &mut Link) {
    while !matches!(soon(link.events.recv()).await, Some(LinkEvent::Up)) {}
}

async fn down(link: &mut Link) -> (Code, String) {
    match soon(link.events.recv()).await {
        Some(LinkEvent::Down(fault)) => (fault.code, fault.detail.unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn quic_is_taken_first_and_messages_go_both_ways() {
    let mut relay = Relay::all().await;
    let mut link = open(&relay.addresses, times());
    up(&mut link).await;
    tell(&link, ping(7));
    let mut desk = relay.citizen().await;
    assert_eq!(desk.hear().await, Some(citizen::ToRelay::Ping { n: 7 }));
    desk.say(&citizen::FromRelay::Pong { n: 7 }).await;
    let event = soon(link.events.recv()).await;
    assert!(
        matches!(
            event,
            Some(LinkEvent::Citizen(citizen::FromRelay::Pong { n: 7 }))
        ),
        "{event:?}"
    );
    let from = soon(relay.connected.recv()).await.unwrap().to_string();
    assert!(from.contains("/quic-v1"), "{from}");
}

#[tokio::test]
async fn an_officer_speaks_on_the_attend_stream() {
    let mut relay = Relay::all().await;
    let mut link = start_with([3; 32], Clock::start(), times());
    tell(&link, open_command(&relay.addresses, true));
    up(&mut link).await;
    tell(&link, LinkCommand::Officer(officer::ToRelay::Ping { n: 1 }));
    let (peer, mut stream) = soon(relay.officers.next()).await.unwrap();
    assert_eq!(peer.to_base58(), key().peer_id().to_text());
    let answer = wire::encode(&officer::FromRelay::Pong { n: 1 }).unwrap();
    soon(stream.write_all(&answer)).await.unwrap();
    soon(stream.flush()).await.unwrap();
    let event = soon(link.events.recv()).await;
    assert!(
        matches!(
            event,
            Some(LinkEvent::Officer(officer::FromRelay::Pong { n: 1 }))
        ),
        "{event:?}"
    );
}

#[tokio::test]
async fn where_udp_is_blocked_tcp_follows_after_its_head_start() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut relay = Relay::listen(keypair(1), &["/ip4/127.0.0.1/tcp/0"]).await;
    let peer = keypair(1).public().to_peer_id();
    let port = silent.local_addr().unwrap().port();
    let mut addresses = relay.addresses.clone();
    addresses.push(format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{peer}"));
    let begun = Instant::now();
    let mut link = open(&addresses, times());
    up(&mut link).await;
    assert!(begun.elapsed() >= Times::default().head_start);
    assert!(
        begun.elapsed() < Times::default().dial,
        "waited for QUIC to fail"
    );
    let from = soon(relay.connected.recv()).await.unwrap().to_string();
    assert!(from.contains("/tcp/"), "{from}");
}

#[tokio::test]
async fn where_only_web_traffic_passes_websocket_follows_last() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = silent.local_addr().unwrap().port();
    // takes connections and says nothing
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = mute.local_addr().unwrap().port();
    let mut relay = Relay::listen(keypair(1), &["/ip4/127.0.0.1/tcp/0/ws"]).await;
    let peer = keypair(1).public().to_peer_id();
    let addresses = [
        relay.addresses[0].clone(),
        format!("/ip4/127.0.0.1/tcp/{tcp}/p2p/{peer}"),
        format!("/ip4/127.0.0.1/udp/{udp}/quic-v1/p2p/{peer}"),
    ];
    let begun = Instant::now();
    let mut link = open(&addresses, times());
    up(&mut link).await;
    assert!(begun.elapsed() >= 2 * Times::default().head_start);
    assert!(
        begun.elapsed() < Times::default().dial,
        "waited for the others to fail"
    );
    let from = soon(relay.connected.recv()).await.unwrap().to_string();
    assert!(from.contains("/ws"), "{from}");
    let mut desk = relay.citizen().await;
    tell(&link, ping(1));
    assert_eq!(desk.hear().await, Some(citizen::ToRelay::Ping { n: 1 }));
}

#[tokio::test]
async fn only_one_of_several_connections_is_kept() {
    let mut relay = Relay::all().await;
    // no head start: the transports race
    let times = Times {
        head_start: Duration::ZERO,
        ..times()
    };
    let mut link = open(&relay.addresses, times);
    up(&mut link).await;
    let mut desk = relay.citizen().await;
    for n in 1..20 {
        tell(&link, ping(n));
        assert_eq!(desk.hear().await, Some(citizen::ToRelay::Ping { n }));
        desk.say(&citizen::FromRelay::Pong { n }).await;
        let event = soon(link.events.recv()).await;
        assert!(matches!(event, Some(LinkEvent::Citizen(_))), "{event:?}");
    }
    let another = futures::poll!(relay.citizens.next());
    assert!(another.is_pending(), "a second stream was opened");
}

#[tokio::test]
async fn a_relay_with_another_key_is_refused_and_the_next_one_taken() {
    let wrong = Relay::all().await;
    let meant = keypair(2).public().to_peer_id();
    let is = keypair(1).public().to_peer_id();
    let mut addresses: Vec<String> = wrong
        .addresses
        .iter()
        .map(|address| address.replace(&is.to_string(), &meant.to_string()))
        .collect();
    let mut link = open(&addresses, times());
    for _ in 0..2 {
        let (code, detail) = down(&mut link).await;
        assert_eq!(code, Code::RelayUnreachable);
        assert!(detail.contains("another key"), "{detail}");
    }
    let mut right = Relay::listen(keypair(3), &["/ip4/127.0.0.1/tcp/0"]).await;
    addresses.extend(right.addresses.clone());
    let mut link = open(&addresses, times());
    up(&mut link).await;
    right.citizen().await;
}

#[tokio::test]
async fn a_dead_relay_is_dialled_until_it_is_back_and_what_was_said_meanwhile_is_dropped() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let peer = keypair(1).public().to_peer_id();
    let mut link = open(&[format!("{address}/p2p/{peer}")], times());
    for n in 0..5 {
        let (code, detail) = down(&mut link).await;
        assert_eq!(code, Code::RelayUnreachable);
        assert!(detail.starts_with("TCP: "), "{detail}");
        assert!(!detail.contains("127.0.0.1"), "an address: {detail}");
        tell(&link, ping(n));
    }
    let mut relay = Relay::listen(keypair(1), &[&address]).await;
    up_at_last(&mut link).await;
    tell(&link, ping(100));
    let mut desk = relay.citizen().await;
    assert_eq!(desk.hear().await, Some(citizen::ToRelay::Ping { n: 100 }));
}

#[tokio::test]
async fn a_link_that_the_relay_ends_stands_again() {
    let mut relay = Relay::all().await;
    let mut link = open(&relay.addresses, times());
    for n in 0..3 {
        up(&mut link).await;
        tell(&link, ping(n));
        let mut desk = relay.citizen().await;
        assert_eq!(desk.hear().await, Some(citizen::ToRelay::Ping { n }));
        drop(desk);
        assert_eq!(down(&mut link).await.0, Code::RelayUnreachable);
    }
}

// covers: SUORA-CTL-002, SUORA-CTL-006
#[tokio::test]
async fn a_broken_frame_closes_the_link() {
    let mut relay = Relay::all().await;
    let mut link = open(&relay.addresses, times());
    for (bytes, code) in [
        (&[0x81, 0x80, 0x04][..], Code::TooLarge),
        (&[0x81, 0x00][..], Code::NotDeterministic),
        (&[0x02, 0xa1, 0x00][..], Code::Malformed),
    ] {
        up(&mut link).await;
        tell(&link, ping(1));
        let mut desk = relay.citizen().await;
        desk.hear().await;
        desk.write(bytes).await;
        assert_eq!(down(&mut link).await.0, code);
        assert_eq!(desk.hear().await, None, "our half is closed too");
    }
}

// covers: SUORA-CTL-005
#[tokio::test]
async fn a_silent_relay_is_left_and_one_that_answers_is_not() {
    let mut relay = Relay::all().await;
    let times = Times {
        silence: Duration::from_millis(400),
        ..times()
    };
    let mut link = open(&relay.addresses, times);
    up(&mut link).await;
    let begun = Instant::now();
    let mut desk = relay.citizen().await;
    let mut n = 0;
    while begun.elapsed() < times.silence * 2 {
        n += 1;
        tell(&link, ping(n));
        desk.hear().await;
        desk.say(&citizen::FromRelay::Pong { n }).await;
        let event = soon(link.events.recv()).await;
        assert!(matches!(event, Some(LinkEvent::Citizen(_))), "{event:?}");
    }
    let last = Instant::now();
    let (code, detail) = down(&mut link).await;
    assert_eq!(code, Code::RelayUnreachable);
    assert!(detail.contains("silent"), "{detail}");
    assert!(last.elapsed() + Duration::from_millis(50) >= times.silence);
}

#[tokio::test]
async fn what_was_said_goes_out_before_a_close() {
    for transport in [
        "/ip4/127.0.0.1/udp/0/quic-v1",
        "/ip4/127.0.0.1/tcp/0",
        "/ip4/127.0.0.1/tcp/0/ws",
    ] {
        let mut relay = Relay::listen(keypair(1), &[transport]).await;
        let mut link = open(&relay.addresses, times());
        up(&mut link).await;
        for n in 0..50 {
            tell(&link, ping(n));
        }
        tell(&link, LinkCommand::Close);
        let mut desk = relay.citizen().await;
        for n in 0..50 {
            assert_eq!(desk.hear().await, Some(citizen::ToRelay::Ping { n }));
        }
        assert_eq!(desk.hear().await, None);
        drop(desk);
        assert!(soon(link.events.recv()).await.is_none());
    }
}

#[tokio::test]
async fn a_relay_that_does_not_answer_a_close_holds_nobody_up() {
    let mut relay = Relay::all().await;
    let times = Times {
        close: Duration::from_millis(100),
        ..times()
    };
    let mut link = open(&relay.addresses, times);
    up(&mut link).await;
    tell(&link, ping(1));
    let _kept = relay.citizen().await;
    let begun = Instant::now();
    tell(&link, LinkCommand::Close);
    assert!(soon(link.events.recv()).await.is_none());
    assert!(begun.elapsed() >= times.close);
}

#[tokio::test]
async fn a_close_ends_a_dial_at_once_and_so_does_a_dropped_engine() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = keypair(1).public().to_peer_id();
    let port = silent.local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{peer}");
    for close in [true, false] {
        let mut link = open(std::slice::from_ref(&address), times());
        if close {
            tell(&link, LinkCommand::Close);
        }
        let Link {
            commands,
            ref mut events,
        } = link;
        drop(commands);
        let begun = Instant::now();
        assert!(soon(events.recv()).await.is_none());
        assert!(begun.elapsed() < Times::default().dial);
    }
}

#[tokio::test]
async fn a_new_open_replaces_the_old_one() {
    let mut one = Relay::all().await;
    let mut two = Relay::listen(keypair(2), &["/ip4/127.0.0.1/tcp/0"]).await;
    let mut link = open(&one.addresses, times());
    up(&mut link).await;
    tell(&link, ping(1));
    let mut first = one.citizen().await;
    first.hear().await;
    tell(&link, open_command(&two.addresses, false));
    up(&mut link).await;
    tell(&link, ping(2));
    let mut second = two.citizen().await;
    assert_eq!(second.hear().await, Some(citizen::ToRelay::Ping { n: 2 }));
}

#[tokio::test]
async fn a_descriptor_without_usable_relay_is_told_and_waits_for_another() {
    let mut link = open(&["/ip4/127.0.0.1/tcp/4001".into()], times());
    let (code, detail) = down(&mut link).await;
    assert_eq!(code, Code::RelayUnreachable);
    assert!(detail.contains("/p2p/"), "{detail}");
    let mut relay = Relay::all().await;
    tell(&link, open_command(&relay.addresses, false));
    up(&mut link).await;
    relay.citizen().await;
}
