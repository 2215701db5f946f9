//! Allocations of a node on a stock server: Debian's `coturn`, with the secret of TURN REST.
#![expect(clippy::disallowed_methods, reason = "door: sockets of the test")]

use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use suora_node::clock::Clock;
use suora_node::path::turn::{Grant, Output, Received, Turn};
use suora_protocol::identity::Draw;

const SECRET: &str = "suora-test-secret";
const USER: &str = "2000000000:00112233445566778899aabbccddeeff";
/// The base64 of HMAC-SHA1 of the user under the secret.
const PASSWORD: &str = "cJCBAQbPinPAi0lPpatGUdaotxU=";

pub(crate) struct Coturn {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Coturn {
    /// On a free port.
    pub(crate) fn start() -> Self {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        Self::start_at(address)
    }

    fn start_at(address: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |option: &str| format!("--{option}={}/{option}", folder.path().display());
        let (port, secret) = (
            address.port().to_string(),
            format!("--static-auth-secret={SECRET}"),
        );
        let child = Command::new("turnserver")
            .args([
                "-n",
                "--no-tls",
                "--no-dtls",
                "--no-tcp",
                "--no-cli",
                "--no-stdout-log",
            ])
            .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1"])
            .args(["--listening-port", &port, "--relay-threads", "1"])
            .args(["--use-auth-secret", &secret, "--realm=suora.test"])
            .args(["--allow-loopback-peers", &file("pidfile")])
            .args([&file("userdb"), &file("log-file")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("turnserver is Debian's package coturn: make deps FOREIGN=1");
        Self {
            child,
            address,
            _folder: folder,
        }
    }

    pub(crate) fn grant(&self) -> Grant {
        Grant {
            user: USER.into(),
            password: PASSWORD.into(),
            // a stock server has its own
            realm: "unknown".into(),
            nonce: "unknown".into(),
            servers: vec![self.address],
        }
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A socket with its allocations.
struct End {
    socket: UdpSocket,
    turn: Turn,
    clock: Clock,
    heard: Vec<(SocketAddr, Vec<u8>)>,
    lost: usize,
}

impl End {
    fn new(seed: u8) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(10)))
            .unwrap();
        Self {
            socket,
            turn: Turn::new(Draw::from_seed([seed; 32]), vec![true]),
            clock: Clock::start(),
            heard: Vec::new(),
            lost: 0,
        }
    }

    fn now(&self) -> Instant {
        self.clock.now().mono
    }

    /// Serves until something holds.
    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = self.now() + Duration::from_secs(10);
        while !holds(self) {
            assert!(self.now() < end, "{what}");
            self.serve();
        }
    }

    fn serve(&mut self) {
        let now = self.now();
        self.turn.tick(now);
        while let Some(output) = self.turn.poll_output() {
            match output {
                Output::Send(packet) => {
                    self.socket.send_to(&packet.bytes, packet.to).unwrap();
                }
                Output::Lost(..) => self.lost += 1,
                Output::Changed => {}
            }
        }
        let mut buffer = [0; 2_000];
        let Ok((len, from)) = self.socket.recv_from(&mut buffer) else {
            return;
        };
        let now = self.now();
        match self.turn.received(now, (0, from), &buffer[..len]) {
            Received::Data { peer, range, .. } => self.heard.push((peer, buffer[range].to_vec())),
            Received::Taken => {}
            Received::Other => self.heard.push((from, buffer[..len].to_vec())),
        }
    }

    fn relayed(&self) -> Option<(usize, SocketAddr)> {
        self.turn.relayed().first().copied()
    }
}

// covers: SUORA-SET-201, SUORA-SET-202
#[test]
fn a_node_allocates_on_a_stock_server_and_two_ends_hear_each_other_through_it() {
    let server = Coturn::start();
    let (mut one, mut other) = (End::new(1), End::new(2));
    for end in [&mut one, &mut other] {
        end.turn.grant(end.now(), server.grant()).unwrap();
        end.until("an allocation stands", |end| end.relayed().is_some());
    }
    let ((index, relayed), (other_index, other_relayed)) =
        (one.relayed().unwrap(), other.relayed().unwrap());
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = stranger.local_addr().unwrap();

    // nobody gets in unasked: by its own address the relay lets only the other allocation in
    one.turn.permit(one.now(), peer);
    one.until("the channel is bound", |end| {
        end.turn.channel(index, peer).is_some()
    });
    stranger.send_to(b"from outside", relayed).unwrap();
    one.until("a peer is heard", |end| !end.heard.is_empty());
    assert_eq!(one.heard.remove(0), (peer, b"from outside".to_vec()));

    // out by the channel, and outside it to the other end's allocation
    let channel = one.turn.channel(index, peer).unwrap();
    let [high, low] = channel.number.to_be_bytes();
    let framed = [&[high, low, 0, 2][..], b"hi"].concat();
    one.socket.send_to(&framed, channel.server).unwrap();
    let mut buffer = [0; 100];
    stranger
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let (len, from) = stranger.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..len], from), (&b"hi"[..], relayed));
    other.turn.permit(other.now(), relayed);
    other.until("the other end lets it in", |end| {
        end.turn.channel(other_index, relayed).is_some()
    });
    let packet = one
        .turn
        .indication(index, other_relayed, b"relay to relay")
        .unwrap();
    one.socket.send_to(&packet.bytes, packet.to).unwrap();
    other.until("the other end hears", |end| !end.heard.is_empty());
    assert_eq!(other.heard.remove(0), (relayed, b"relay to relay".to_vec()));

    // a server that was killed and is back knows nothing: a probe finds it out, and all is as before
    let address = server.address;
    drop(server);
    let again = Coturn::start_at(address);
    one.turn.probe(one.now(), None);
    one.until("the loss is seen, and another allocation stands", |end| {
        end.lost > 0 && end.relayed().is_some_and(|(other, _)| other != index)
    });
    let (index, relayed) = one.relayed().unwrap();
    one.until("the channel is bound again", |end| {
        end.turn.channel(index, peer).is_some()
    });
    stranger.send_to(b"again", relayed).unwrap();
    one.until("the peer is heard again", |end| !end.heard.is_empty());
    assert_eq!(one.heard.remove(0), (peer, b"again".to_vec()));
    drop(again);
}
