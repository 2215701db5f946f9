//! What those who never finish a handshake keep from others: nothing, at any listener.

use std::net::Ipv4Addr;
use std::time::Duration;

use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::{Endpoint, Transport as _};
use suora_relay::Faults;
use suora_relay::config::Config;
use suora_relay::control::{Control, HANDSHAKE, PROVEN, RETRY, UNPROVEN};
use suora_relay::http;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::agency::key;
use crate::rig::{self, Agency, By, Node, PATIENCE};

/// A control plane in this process, until dropped.
struct Listening {
    agency: Agency,
    _stop: oneshot::Sender<()>,
    _envelopes: mpsc::Receiver<suora_relay::control::streams::Envelope>,
}

async fn listen(faults: Faults) -> Listening {
    let agency = Agency::new();
    let config = Config::read(&agency.path("relay/relay.toml")).unwrap();
    let (envelope, envelopes) = mpsc::channel(64);
    let key = agency.key("relay/relay.key");
    let control = Control::listen(&key, &config, envelope, faults).await;
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(control.unwrap().run(stopped));
    Listening {
        agency,
        _stop: stop,
        _envelopes: envelopes,
    }
}

/// Connections that say nothing, each from a prefix of its own, as far as there are any.
async fn silent(ports: &[u16], count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for number in 0..count {
        let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
        let from = Ipv4Addr::new(127, 64 + high, low, 1);
        held.push(rig::connect_from(from, ports[number % ports.len()]).await);
    }
    held
}

// covers: SUORA-SEC-270
#[tokio::test(flavor = "multi_thread")]
async fn silent_ones_from_everywhere_keep_no_newcomer_out() {
    let listening = listen(Faults::default()).await;
    let agency = &listening.agency;
    let before = Node::connect(agency, &key(1), By::Tcp).await;
    let held = silent(&[agency.port, agency.websocket], PROVEN.all + 300).await;
    let mut nodes = vec![before];
    for (number, by) in [(2, By::Tcp), (3, By::WebSocket), (4, By::Quic)] {
        let node = timeout(HANDSHAKE / 2, Node::try_connect(agency, &key(number), by)).await;
        nodes.push(
            node.expect("in time")
                .unwrap_or_else(|| panic!("{by:?}: kept out")),
        );
    }
    // those who came first went, and whose handshake is done is not one of them
    let mut first = held.into_iter().next().unwrap();
    assert!(closes(&mut first, PATIENCE).await);
    for node in &mut nodes {
        assert!(!*node.closed_yet());
    }
}

// covers: SUORA-SEC-270
#[tokio::test(flavor = "multi_thread")]
async fn where_those_who_came_first_stay_a_newcomer_is_kept_out() {
    let faults = Faults {
        first_stay: true,
        ..Faults::default()
    };
    let listening = listen(faults).await;
    let agency = &listening.agency;
    let kept_out = async {
        let held = silent(&[agency.port, agency.websocket], PROVEN.all + 300).await;
        for by in [By::Tcp, By::WebSocket] {
            let node = Node::try_connect(agency, &key(1), by).await;
            assert!(node.is_none(), "{by:?}: let in");
        }
        held
    };
    // later those who are silent have had their time
    let _held = timeout(HANDSHAKE, kept_out).await.expect("in time");
    // the other porch has room
    let node = Node::try_connect(agency, &key(1), By::Quic).await;
    assert!(node.is_some());
}

/// First packets of handshakes over QUIC, each of one of its own.
async fn first_packets(count: usize) -> Vec<Vec<u8>> {
    let key = libp2p::identity::Keypair::generate_ed25519();
    let mut quic = libp2p::quic::tokio::Transport::new(libp2p::quic::Config::new(&key));
    let taker = rig::datagrams(Ipv4Addr::LOCALHOST).await;
    let port = taker.local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1");
    let address: libp2p::Multiaddr = address.parse().unwrap();
    let mut packets = std::collections::BTreeMap::new();
    let mut dialling = tokio::task::JoinSet::new();
    let mut buffer = [0; 2_048];
    while packets.len() < count {
        let options = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        dialling.spawn(quic.dial(address.clone(), options).unwrap());
        let read = timeout(PATIENCE, taker.recv(&mut buffer)).await;
        let packet = &buffer[..read.unwrap().unwrap()];
        // by its connection id: they come again where nobody answers
        let id = &packet[6..][..usize::from(packet[5])];
        packets.entry(id.to_vec()).or_insert(packet.to_vec());
    }
    packets.into_values().collect()
}

/// The first byte of what the relay answers to a first packet.
async fn answer(agency: &Agency, from: Ipv4Addr, packet: &[u8]) -> u8 {
    let socket = rig::datagrams(from).await;
    let to = (Ipv4Addr::LOCALHOST, agency.port);
    socket.send_to(packet, to).await.unwrap();
    let mut buffer = [0; 2_048];
    let read = timeout(PATIENCE, socket.recv(&mut buffer)).await;
    read.unwrap().unwrap();
    buffer[0]
}

// covers: SUORA-SEC-272
#[tokio::test(flavor = "multi_thread")]
async fn where_many_begin_over_quic_a_newcomer_proves_its_address_first() {
    const RETRY_PACKET: u8 = 0xf0;
    let listening = listen(Faults::default()).await;
    let agency = &listening.agency;
    let mut retries = Vec::new();
    for (number, packet) in (1..).zip(first_packets(RETRY + 20).await) {
        let answer = answer(agency, Ipv4Addr::new(127, 64, number, 1), &packet).await;
        retries.push(answer & 0xf0 == RETRY_PACKET);
    }
    let asked = retries.iter().filter(|is_retry| **is_retry).count();
    assert!((10..=20).contains(&asked), "{asked}: {retries:?}");
    assert!(!retries[..RETRY].contains(&true), "{retries:?}");
    // an honest one does, and comes in
    let node = Node::try_connect(agency, &key(1), By::Quic).await;
    assert!(node.is_some());
}

// covers: SUORA-SEC-270
#[tokio::test(flavor = "multi_thread")]
async fn handshakes_over_quic_keep_no_newcomer_out_but_where_the_first_stay() {
    // where nobody proves its address, the newcomer pushes somebody out
    for (first_stay, no_retry) in [(false, false), (false, true), (true, true)] {
        let faults = Faults {
            first_stay,
            no_retry,
            ..Faults::default()
        };
        let listening = listen(faults).await;
        let agency = &listening.agency;
        let packets: Vec<_> = (0_u16..)
            .zip(first_packets(UNPROVEN.all + 20).await)
            .collect();
        // few at once: an answer shows that none was lost
        for some in packets.chunks(20) {
            let answers = some.iter().map(|(number, packet)| {
                let [high, low] = number.to_be_bytes();
                answer(agency, Ipv4Addr::new(127, 64 + high, low, 1), packet)
            });
            futures::future::join_all(answers).await;
        }
        // over QUIC a node may be done before it hears that the relay is not
        let quic = match Node::try_connect(agency, &key(1), By::Quic).await {
            Some(mut node) => {
                node.closed_within(HANDSHAKE / 4).await;
                !*node.closed_yet()
            }
            None => false,
        };
        assert_eq!(quic, !first_stay);
        let tcp = Node::try_connect(agency, &key(2), By::Tcp).await;
        assert!(tcp.is_some());
    }
}

/// Whether the relay closes it.
async fn closes(stream: &mut TcpStream, within: Duration) -> bool {
    let mut rest = [0; 256];
    let end = async { while let Ok(1..) = stream.read(&mut rest).await {} };
    timeout(within, end).await.is_ok()
}

// covers: SUORA-SEC-270
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_has_its_time_however_far_it_came() {
    let listening = listen(Faults::default()).await;
    let agency = &listening.agency;
    let mut done = Node::connect(agency, &key(1), By::Tcp).await;
    let begun: [(u16, &[u8]); 4] = [
        (agency.port, b""),
        (agency.port, b"\x13/multistream/1.0.0\n\x07/noise\n"),
        (agency.websocket, b"GET / HTTP/1.1\r\nhost: x\r\n"),
        (
            agency.websocket,
            b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
          sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
        ),
    ];
    let mut watched = Vec::new();
    for (port, bytes) in begun {
        let mut stream = rig::connect(port).await;
        stream.write_all(bytes).await.unwrap();
        watched.push(tokio::spawn(async move {
            let early = closes(&mut stream, HANDSHAKE / 2).await;
            !early && closes(&mut stream, 2 * HANDSHAKE).await
        }));
    }
    for closed in watched {
        assert!(closed.await.unwrap());
    }
    assert!(!*done.closed_yet());
}

// covers: SUORA-SEC-270
#[tokio::test(flavor = "multi_thread")]
async fn pages_come_however_many_ask_and_never_end() {
    for first_stay in [false, true] {
        let listener = http::listen("http", ([127, 0, 0, 1], 0).into()).await;
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        let (_page, pages) = tokio::sync::watch::channel(bytes::Bytes::from_static(b"page"));
        let (question, _questions) = mpsc::channel(1);
        let faults = Faults {
            first_stay,
            ..Faults::default()
        };
        let router = http::public(pages, question);
        let serving = tokio::spawn(http::serve(listener, router, http::CONNECTIONS, faults));
        let _held = silent(&[address.port()], http::CONNECTIONS + 50).await;
        let mut asks = rig::connect(address.port()).await;
        let request = b"GET /.well-known/suora HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let _ = asks.write_all(request).await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, asks.read_to_end(&mut answer)).await;
        assert_eq!(answer.ends_with(b"page"), !first_stay);
        serving.abort();
    }
}
