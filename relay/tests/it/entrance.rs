//! What those who never finish a handshake keep from others: nothing, at any listener.

use std::net::Ipv4Addr;
use std::time::Duration;

use suora_relay::Faults;
use suora_relay::config::Config;
use suora_relay::control::{Control, HANDSHAKE, PROVEN};
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
