//! DOOR: real things for tests. An agency on disk, a relay's process, and nodes that
//! reach it by libp2p over QUIC, TCP or WebSocket. Nothing sleeps: everything waits for what it
//! wants to see, with a deadline.
#![expect(
    clippy::disallowed_methods,
    reason = "door: free ports, sockets and the deadlines of real processes"
)]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::core::{Transport as _, upgrade};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, StreamProtocol, SwarmBuilder, noise, tcp, websocket, yamux};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use suora_protocol::documents::{Challenge, Credential, Descriptor, Role, Signed, Verified, chain};
use suora_protocol::identity::Key;
use suora_protocol::time::Timestamp;
use suora_protocol::wire::{self, Framer, citizen, officer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::agency::desk;

/// Longer than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_suora-relay");

/// Runs the program to its end.
pub(crate) fn run<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_remove("SSLKEYLOGFILE");
    command.output().unwrap()
}

/// What a failed run said.
pub(crate) fn failure<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "it should have failed");
    String::from_utf8(output.stderr).unwrap()
}

/// What a good run said.
pub(crate) fn success<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> String {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Starts the program: the first line that it says beside its output.
pub(crate) fn begins<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> (Child, String) {
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (said, line) = mpsc::sync_channel(1);
    // ends when the program does
    std::thread::spawn(move || said.send(lines.next()));
    match line.recv_timeout(PATIENCE) {
        Ok(Some(line)) => (child, line.unwrap()),
        silent => {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it said nothing: {silent:?}");
        }
    }
}

/// Runs the program at a terminal, which `script` of util-linux makes, and types each line when
/// its question stands there and the terminal does not show what is typed. Whether it ended well,
/// and all that the terminal showed.
pub(crate) fn typed(arguments: &str, lines: &[(&str, &str)]) -> (bool, String) {
    let command = format!("tty; exec {PROGRAM} {arguments}");
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let shown = Arc::new(Mutex::new(Vec::new()));
    let seen = shown.clone();
    // ends when the terminal does
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(read @ 1..) = screen.read(&mut bytes) {
            seen.lock().unwrap().extend_from_slice(&bytes[..read]);
        }
    });
    let text = || String::from_utf8_lossy(&shown.lock().unwrap()).into_owned();
    let hides = || {
        let text = text();
        let tty = text.lines().next().unwrap_or_default().trim_end();
        let modes = Command::new("stty").args(["-F", tty, "-a"]).output();
        modes.is_ok_and(|modes| String::from_utf8_lossy(&modes.stdout).contains("-echo "))
    };
    for (question, line) in lines {
        let end = Instant::now() + PATIENCE;
        while !(text().contains(question) && hides()) {
            assert!(Instant::now() < end, "never asked {question}: {}", text());
            std::thread::sleep(Duration::from_millis(5));
        }
        writeln!(keyboard, "{line}").unwrap();
    }
    let ended = child.wait().unwrap();
    reader.join().unwrap();
    (ended.success(), text())
}

pub(crate) fn now() -> Timestamp {
    suora_relay::clock::Clock::start().now().utc
}

/// A port that is free for UDP and TCP.
pub(crate) fn free_port() -> u16 {
    // below the ports that the system gives to whoever asks for any: between now and the
    // relay's start nobody is given it
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() * 64 % 20_000).unwrap_or(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(begin);
        let port = 12_000 + next % 20_000;
        let address = ("127.0.0.1", port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
}

/// An agency on disk, as `init` made it, with the desks `tax` and `job`.
pub(crate) struct Agency {
    dir: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) websocket: u16,
}

impl Agency {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// Made by `init` with these options besides.
    pub(crate) fn with(options: &[&OsStr]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (port, websocket) = (free_port(), free_port());
        let (text, websocket_text) = (port.to_string(), websocket.to_string());
        let path = dir.path().join("agency");
        let arguments = [
            "init".as_ref(),
            path.as_os_str(),
            "--domain".as_ref(),
            "agency.example".as_ref(),
            "--name".as_ref(),
            "fi=Virasto".as_ref(),
            "--desk".as_ref(),
            "tax:en=Taxation,fi=Verotus,sv=Beskattning".as_ref(),
            "--desk".as_ref(),
            "job".as_ref(),
            "--control-port".as_ref(),
            text.as_ref(),
            "--websocket-port".as_ref(),
            websocket_text.as_ref(),
            "--http-port".as_ref(),
            "0".as_ref(),
            "--metrics-port".as_ref(),
            OsStr::new("0"),
        ];
        success(arguments.iter().chain(options));
        Self {
            dir,
            port,
            websocket,
        }
    }

    /// A path under root/, issuing/ or relay/.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("agency").join(path)
    }

    pub(crate) fn key(&self, path: &str) -> Key {
        suora_relay::keys::load(&self.path(path)).unwrap()
    }

    /// What a credential says: this officer may serve at `tax`, from when until when.
    pub(crate) fn claim(&self, officer: &Key, (from, until): (Timestamp, Timestamp)) -> Credential {
        Credential {
            agency: self.descriptor().agency,
            peer: officer.peer_id(),
            role: Role::Officer,
            desks: vec![desk("tax")],
            name: "Officer".into(),
            key: "issuing-1".into(),
            issued_at: from,
            not_before: from,
            not_after: until,
        }
    }

    pub(crate) fn descriptor(&self) -> Verified<Descriptor> {
        let bytes = std::fs::read(self.path("relay/descriptor.cose")).unwrap();
        let signed: Signed<Descriptor> = Signed::from_bytes(bytes).unwrap();
        chain::descriptor_as_given(&signed, now()).unwrap()
    }

    /// A credential for desk `tax`, as `issue` makes it.
    pub(crate) fn issue(&self, officer: &Key) -> Vec<u8> {
        let out = self.dir.path().join(officer.peer_id().to_text());
        success([
            "issue".as_ref(),
            "officer".as_ref(),
            "--issuing".as_ref(),
            self.path("issuing").as_os_str(),
            "--descriptor".as_ref(),
            self.path("relay/descriptor.cose").as_os_str(),
            "--peer".as_ref(),
            officer.peer_id().to_text().as_ref(),
            "--desk".as_ref(),
            "tax".as_ref(),
            "--name".as_ref(),
            "Officer".as_ref(),
            "--out".as_ref(),
            out.as_os_str(),
        ]);
        std::fs::read(out).unwrap()
    }

    /// Starts the relay and waits until it is ready.
    pub(crate) fn serve(&self) -> Relay {
        Relay::start(&self.path("relay"))
    }
}

/// A running relay. It dies with this.
pub(crate) struct Relay {
    child: Child,
    pub(crate) http: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Relay {
    pub(crate) fn start(dir: &Path) -> Self {
        let mut child = Command::new(PROGRAM)
            .arg("serve")
            .arg(dir)
            .env_remove("SSLKEYLOGFILE")
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = mpsc::sync_channel(1);
        // ends when the process does
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = out.read_line(&mut text);
            let _ = line.send(text);
            let _ = out.read_to_string(&mut String::new());
        });
        let line = lines.recv_timeout(PATIENCE).unwrap_or_default();
        let field = |name: &str| {
            let field = line.split_whitespace().find_map(|f| f.strip_prefix(name));
            field.and_then(|address| address.strip_prefix('=')?.parse().ok())
        };
        assert!(
            line.starts_with("ready control="),
            "it is not ready: {line}"
        );
        Self {
            child,
            http: field("http").unwrap(),
            metrics: field("metrics").unwrap(),
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    /// SIGTERM; how it ended, and how long that took.
    pub(crate) fn terminate(mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal(Signal::SIGTERM);
        (self.child.wait().unwrap(), start.elapsed())
    }

    /// SIGHUP: the descriptor on disk is new.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::SIGHUP);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes of this, unless it takes too long.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it takes too long")
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let end = tokio::time::Instant::now() + PATIENCE;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    while !is_so().await {
        assert!(tokio::time::Instant::now() < end, "never happened: {what}");
        beat.tick().await;
    }
}

/// A bare connection.
pub(crate) async fn connect(port: u16) -> tokio::net::TcpStream {
    let address = ("127.0.0.1", port);
    tokio::net::TcpStream::connect(address).await.unwrap()
}

/// One from this address of loopback.
pub(crate) async fn connect_from(from: std::net::Ipv4Addr, port: u16) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    socket.connect(to).await.unwrap()
}

/// A socket for datagrams at this address of loopback.
pub(crate) async fn datagrams(at: std::net::Ipv4Addr) -> tokio::net::UdpSocket {
    tokio::net::UdpSocket::bind((at, 0)).await.unwrap()
}

/// An HTTP answer: head and body.
pub(crate) async fn get(address: SocketAddr, path: &str, header: &str) -> (String, Vec<u8>) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    let head = answer.windows(4).position(|at| at == b"\r\n\r\n").unwrap();
    let body = answer.split_off(head + 4);
    (String::from_utf8(answer).unwrap(), body)
}

/// How a node reaches the relay.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    Quic,
    Tcp,
    WebSocket,
}

/// A node's connection to a relay.
pub(crate) struct Node {
    control: libp2p_stream::Control,
    relay: libp2p::PeerId,
    swarm: JoinHandle<()>,
    closed: tokio::sync::watch::Receiver<bool>,
}

impl Node {
    /// Connects.
    pub(crate) async fn connect(agency: &Agency, key: &Key, by: By) -> Self {
        Self::try_connect(agency, key, by).await.unwrap()
    }

    /// Connects, or says that the connection was refused.
    pub(crate) async fn try_connect(agency: &Agency, key: &Key, by: By) -> Option<Self> {
        let keypair = libp2p::identity::Keypair::ed25519_from_bytes(key.secret().to_vec()).unwrap();
        let mut swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(
                tcp::Config::default().nodelay(true),
                noise::Config::new,
                yamux::Config::default,
            )
            .unwrap()
            .with_quic()
            .with_other_transport(|key| {
                let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
                Ok(websocket::Config::new(tcp)
                    .upgrade(upgrade::Version::V1Lazy)
                    .authenticate(noise::Config::new(key)?)
                    .multiplex(yamux::Config::default()))
            })
            .unwrap()
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE * 4))
            .build();
        let relay = agency.key("relay/relay.key").peer_id().to_text();
        let address: Multiaddr = match by {
            By::Quic => format!("/ip4/127.0.0.1/udp/{}/quic-v1/p2p/{relay}", agency.port),
            By::Tcp => format!("/ip4/127.0.0.1/tcp/{}/p2p/{relay}", agency.port),
            By::WebSocket => format!("/ip4/127.0.0.1/tcp/{}/ws/p2p/{relay}", agency.websocket),
        }
        .parse()
        .unwrap();
        swarm.dial(address).unwrap();
        let control = swarm.behaviour().new_control();
        let stands = async {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { .. } => return true,
                    SwarmEvent::OutgoingConnectionError { .. } => return false,
                    _ => {}
                }
            }
        };
        if !timeout(PATIENCE, stands).await.unwrap() {
            return None;
        }
        let (gone, closed) = tokio::sync::watch::channel(false);
        let swarm = tokio::spawn(async move {
            loop {
                if let SwarmEvent::ConnectionClosed { .. } = swarm.select_next_some().await {
                    gone.send_replace(true);
                }
            }
        });
        Some(Self {
            control,
            relay: relay.parse().unwrap(),
            swarm,
            closed,
        })
    }

    /// Opens a desk stream.
    pub(crate) async fn open(&mut self, protocol: &'static str) -> Option<Link> {
        let protocol = StreamProtocol::new(protocol);
        let open = self.control.open_stream(self.relay, protocol);
        let stream = timeout(PATIENCE, open).await.unwrap().ok()?;
        Some(Link {
            stream,
            framer: Framer::new(),
        })
    }

    /// Whether the relay has closed the connection.
    pub(crate) fn closed_yet(&mut self) -> tokio::sync::watch::Ref<'_, bool> {
        self.closed.borrow()
    }

    /// Waits for that, but not longer than this.
    pub(crate) async fn closed_within(&mut self, limit: Duration) {
        let _ = timeout(limit, self.closed.wait_for(|closed| *closed)).await;
    }

    /// Waits until the relay has closed the connection.
    pub(crate) async fn closed(&mut self) {
        let closed = self.closed.wait_for(|closed| *closed);
        timeout(PATIENCE, closed).await.unwrap().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.swarm.abort();
    }
}

/// A desk stream.
pub(crate) struct Link {
    stream: libp2p::Stream,
    framer: Framer,
}

impl Link {
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        // the relay may have closed it already: then there is something to hear
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    pub(crate) async fn say(&mut self, message: &impl serde::Serialize) {
        self.write(&wire::encode(message).unwrap()).await;
    }

    /// The same, if it comes in this time.
    pub(crate) async fn hear_within<M: DeserializeOwned>(
        &mut self,
        limit: Duration,
    ) -> Option<Option<M>> {
        timeout(limit, self.hear()).await.ok()
    }

    /// The next message; `None` when the relay ended the stream.
    pub(crate) async fn hear<M: DeserializeOwned>(&mut self) -> Option<M> {
        loop {
            if let Some(body) = self.framer.next_message().unwrap() {
                return Some(wire::decode(&body).unwrap());
            }
            let mut buffer = [0; 4_096];
            let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await;
            match read.expect("the relay says nothing") {
                Ok(read @ 1..) => self.framer.push(&buffer[..read]),
                _ => return None,
            }
        }
    }
}

/// A citizen's node with its desk stream.
pub(crate) async fn citizen(agency: &Agency, key: &Key, by: By) -> (Node, Link) {
    let mut node = Node::connect(agency, key, by).await;
    let link = node.open(citizen::PROTOCOL).await.unwrap();
    (node, link)
}

/// An officer's node with its attend stream.
pub(crate) async fn officer(agency: &Agency, key: &Key, by: By) -> (Node, Link) {
    let mut node = Node::connect(agency, key, by).await;
    let link = node.open(officer::PROTOCOL).await.unwrap();
    (node, link)
}

pub(crate) fn join(at: &str) -> citizen::ToRelay {
    citizen::ToRelay::Join {
        desk: desk(at),
        challenge: Challenge::from_bytes([5; 16]),
        ticket: None,
        work: None,
    }
}

pub(crate) fn attend(credential: Vec<u8>) -> officer::ToRelay {
    officer::ToRelay::Attend {
        desk: desk("tax"),
        credential,
        status: officer::Status::Available,
        engaged: None,
    }
}
