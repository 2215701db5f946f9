//! DOOR: the strangers of a flood, a task a kind. Those with a key come by libp2p through
//! forwards of their own, so that the relay sees them at two prefixes beside the honest ones'.
#![expect(clippy::disallowed_methods, reason = "door: sockets and clock")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coset::{CborSerializable, CoseSign1};
use suora_protocol::documents::{self, Invite};
use suora_protocol::identity::Draw;
use suora_protocol::wire::citizen::{FromRelay, ToRelay};
use suora_protocol::wire::work::Puzzle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::key::{Node, join};
use super::{bad, initial, windows};

/// Where the crowd of keys is.
const CROWD: Ipv4Addr = Ipv4Addr::new(127, 9, 9, 1);
/// Where those are who speak badly.
const BAD: Ipv4Addr = Ipv4Addr::new(127, 8, 8, 1);
/// How long a stranger waits for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// A burst of packets goes out so often.
const BEAT: Duration = Duration::from_millis(10);

/// What they throw things at.
#[derive(Clone, Debug)]
pub struct Targets {
    /// The relay's control plane, UDP and TCP.
    pub relay: SocketAddr,
    /// Its peer id.
    pub relay_peer: String,
    /// Its public pages.
    pub http: SocketAddr,
    /// Its metrics.
    pub metrics: SocketAddr,
    /// Its control plane's WebSocket.
    pub websocket: SocketAddr,
    /// The socket of the officer who talks.
    pub media: SocketAddr,
    /// The socket of the officer at the trap.
    pub trap: SocketAddr,
    /// That one's desk.
    pub trap_desk: &'static str,
    /// The desk where people wait.
    pub queue_desk: &'static str,
    /// The local sockets of the two who talk.
    pub sockets: Vec<PathBuf>,
}

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident: $words:literal,)*) => {
        /// What the strangers did and met.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Tally { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(super) struct Counts { $(pub(super) $name: AtomicU64,)* }

        impl Counts {
            fn read(&self) -> Tally {
                Tally { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl Tally {
            /// Each count, in words.
            pub fn lines(&self) -> Vec<String> {
                vec![$(format!(concat!($words, ": {}"), self.$name),)*]
            }

            /// Strangers who did nothing: a flood without them shows nothing.
            pub fn idle(&self) -> Vec<String> {
                let idle = [$((self.$name, $words),)*];
                let idle: Vec<_> = idle.into_iter().filter(|(count, _)| *count == 0).collect();
                if idle.is_empty() {
                    return Vec::new();
                }
                let what: Vec<_> = idle.into_iter().map(|(_, what)| what).collect();
                vec![format!("strangers who did nothing: {}", what.join(", "))]
            }

            #[cfg(test)]
            pub(super) fn busy() -> Self {
                Self { $($name: 1,)* }
            }
        }
    };
}

tally! {
    /// Packets of noise that look like Initials, with connection ids that nobody expects.
    noise: "noise like Initials, at the officer's and the relay's socket",
    /// Real Initials that nobody expects.
    unknown: "real Initials with unknown connection ids, at the officer's socket",
    /// Handshakes that were begun at the relay, each from a prefix of its own.
    half_open: "handshakes begun at the relay",
    /// Packets with the connection id of an invite that stands.
    outstanding: "Initials with an outstanding connection id",
    /// Invites that the hostile citizen got, and did not take.
    invites: "invites left standing",
    /// Connections by TCP and to the WebSocket of the control plane that say nothing.
    silent: "silent connections by TCP and WebSocket to the control plane",
    /// Requests of pages that do not end.
    slow: "requests by HTTP that never end",
    /// Of these, those that the relay cut.
    cut: "of these, cut by the relay",
    /// Requests with too much in them.
    oversize: "requests by HTTP that are too large",
    /// Keys whose connection stood.
    keys: "connections by fresh keys of one prefix",
    /// Tickets that they got.
    tickets: "tickets that these got",
    /// Joins that were asked to work first.
    asked: "joins that were asked to work first",
    /// Streams that began with a message over the bound.
    large: "messages over the bound on desk streams",
    /// Streams with a message that takes for ever.
    endless: "messages on desk streams that never end",
    /// Streams with almost all of a long message, sent at once.
    heavy: "long messages on desk streams of which the end never comes",
    /// Streams whose windows were filled before anybody reads them.
    windows: "streams with full windows that nobody reads yet",
    /// Streams that were opened and left.
    left: "desk streams opened and left",
    /// Programs at the nodes' local sockets that write without end and do not read.
    local: "programs at the nodes' local sockets",
}

/// Everything that the tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    targets: Targets,
    counts: Counts,
    /// The connection id of an invite that stands.
    dcid: Mutex<Option<[u8; 20]>>,
    over: AtomicBool,
    strength: u32,
}

impl Shared {
    pub(super) fn count(&self, which: impl Fn(&Counts) -> &AtomicU64) {
        which(&self.counts).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn outstanding(&self) -> Option<[u8; 20]> {
        *self.dcid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The strangers, until they are stopped.
#[derive(Debug)]
pub struct Strangers {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Strangers {
    /// Lets them loose.
    pub fn start(targets: Targets, strength: u32) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        descriptors();
        let shared = Arc::new(Shared {
            targets,
            counts: Counts::default(),
            dcid: Mutex::new(None),
            over: AtomicBool::new(false),
            strength: strength.max(1),
        });
        let mut tasks = JoinSet::new();
        let s = || shared.clone();
        tasks.spawn(noise(s()));
        tasks.spawn(begun(s()));
        tasks.spawn(unexpected(s()));
        tasks.spawn(trap(s()));
        tasks.spawn(outstanding(s()));
        tasks.spawn(silent(s(), s().targets.relay));
        tasks.spawn(silent(s(), s().targets.websocket));
        tasks.spawn(pages(s(), s().targets.http));
        tasks.spawn(pages(s(), s().targets.metrics));
        tasks.spawn(pages(s(), s().targets.websocket));
        tasks.spawn(crowd(s()));
        tasks.spawn(bad(s()));
        tasks.spawn(local(s()));
        Self { shared, tasks }
    }

    /// Stops them; what they did and met.
    pub async fn stop(mut self) -> Tally {
        self.shared.over.store(true, Ordering::Relaxed);
        let tally = self.shared.counts.read();
        self.tasks.shutdown().await;
        tally
    }
}

/// As many file descriptors as the system grants.
fn descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn draw(of: &[u8]) -> Draw {
    let mut seed = [0; 32];
    let _ = getrandom::fill(&mut seed);
    for (to, from) in seed.iter_mut().zip(of) {
        *to ^= from;
    }
    Draw::from_seed(seed)
}

/// Some address of loopback, most often at a prefix that nobody else has.
fn somewhere(draw: &mut Draw) -> SocketAddr {
    let [a, b] = draw.bytes();
    SocketAddr::from(([127, 64 | (a & 63), b, 1], 0))
}

fn beat(every: Duration) -> tokio::time::Interval {
    let mut beat = interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    beat
}

async fn noise(s: Arc<Shared>) {
    let mut draw = draw(b"noise");
    let Ok(socket) = UdpSocket::bind(somewhere(&mut draw)).await else {
        return;
    };
    let mut beat = beat(BEAT);
    while !s.over() {
        beat.tick().await;
        for _ in 0..5 * s.strength {
            for to in [s.targets.media, s.targets.relay] {
                let dcid = draw.bytes();
                let _ = socket.send_to(&initial::noise(&mut draw, dcid), to).await;
                s.count(|counts| &counts.noise);
            }
        }
    }
}

/// A real first packet from somewhere; nothing is done with the answer.
async fn begin(
    draw: &mut Draw,
    to: SocketAddr,
    alpn: &str,
    dcid: Option<[u8; 20]>,
) -> Option<UdpSocket> {
    let packet = initial::real(to, alpn, dcid, Instant::now()).ok()?;
    let socket = UdpSocket::bind(somewhere(draw)).await.ok()?;
    socket.send_to(&packet, to).await.ok()?;
    Some(socket)
}

async fn begun(s: Arc<Shared>) {
    let mut draw = draw(b"begun");
    let mut beat = beat(2 * BEAT);
    while !s.over() {
        beat.tick().await;
        for _ in 0..3 * s.strength {
            let to = s.targets.relay;
            if begin(&mut draw, to, "libp2p", None).await.is_some() {
                s.count(|counts| &counts.half_open);
            }
        }
    }
}

async fn unexpected(s: Arc<Shared>) {
    let mut draw = draw(b"unexpected");
    let mut beat = beat(5 * BEAT / s.strength);
    while !s.over() {
        beat.tick().await;
        let dcid = Some(draw.bytes());
        if begin(&mut draw, s.targets.media, "suora/1", dcid)
            .await
            .is_some()
        {
            s.count(|counts| &counts.unknown);
        }
    }
}

/// Noise and real packets that bear the connection id of an invite which was never meant to be taken.
async fn outstanding(s: Arc<Shared>) {
    let mut draw = draw(b"outstanding");
    let mut beat = beat(BEAT);
    let mut turn = 0_u32;
    while !s.over() {
        beat.tick().await;
        let Some(dcid) = s.outstanding() else {
            continue;
        };
        turn += 1;
        if turn.is_multiple_of(20) {
            if begin(&mut draw, s.targets.trap, "suora/1", Some(dcid))
                .await
                .is_some()
            {
                s.count(|counts| &counts.outstanding);
            }
            continue;
        }
        let Ok(socket) = UdpSocket::bind(somewhere(&mut draw)).await else {
            continue;
        };
        for _ in 0..2 * s.strength {
            let packet = initial::noise(&mut draw, dcid);
            let _ = socket.send_to(&packet, s.targets.trap).await;
            s.count(|counts| &counts.outstanding);
        }
    }
}

/// A connection from somewhere.
async fn reach(from: SocketAddr, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind(from).ok()?;
    timeout(PATIENCE, socket.connect(to)).await.ok()?.ok()
}

async fn silent(s: Arc<Shared>, to: SocketAddr) {
    let mut draw = draw(&to.port().to_be_bytes());
    let mut held = std::collections::VecDeque::new();
    let mut beat = beat(2 * BEAT);
    while !s.over() {
        beat.tick().await;
        // as many as fill the place of those whose handshake is not done in a few seconds
        for _ in 0..3 * s.strength {
            if let Some(stream) = reach(somewhere(&mut draw), to).await {
                s.count(|counts| &counts.silent);
                held.push_back(stream);
            }
        }
        while held.len() > 4_000 {
            held.pop_front();
        }
    }
}

/// Asks for pages so slowly that the question never ends, and too much at once.
async fn pages(s: Arc<Shared>, to: SocketAddr) {
    let mut draw = draw(&to.port().to_be_bytes());
    let mut beat = beat(3 * BEAT);
    let mut asking = JoinSet::new();
    let mut turn = 0_u32;
    while !s.over() {
        beat.tick().await;
        while asking.try_join_next().is_some() {}
        turn += 1;
        let from = somewhere(&mut draw);
        if turn.is_multiple_of(8) {
            let s = s.clone();
            asking.spawn(async move {
                if let Some(mut stream) = reach(from, to).await {
                    let head = format!(
                        "GET /health HTTP/1.1\r\nhost: {}\r\n\r\n",
                        "x".repeat(60_000)
                    );
                    let _ = timeout(PATIENCE, stream.write_all(head.as_bytes())).await;
                    s.count(|counts| &counts.oversize);
                }
            });
        } else if asking.len() < 400 {
            let s = s.clone();
            asking.spawn(async move {
                let Some(mut stream) = reach(from, to).await else {
                    return;
                };
                s.count(|counts| &counts.slow);
                let _ = stream.write_all(b"GET /health HTTP/1.1\r\nhost: ").await;
                let mut beat = interval(Duration::from_millis(500));
                loop {
                    let mut one = [0];
                    tokio::select! {
                        read = stream.read(&mut one) => {
                            if !matches!(read, Ok(1..)) {
                                s.count(|counts| &counts.cut);
                                return;
                            }
                        }
                        _ = beat.tick() => {}
                    }
                    if stream.write_all(b"x").await.is_err() {
                        s.count(|counts| &counts.cut);
                        return;
                    }
                }
            });
        }
    }
}

/// Passes connections on to the relay from another address; gives its own.
async fn forward(from: Ipv4Addr, to: SocketAddr, tasks: &mut JoinSet<()>) -> Option<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
    let address = listener.local_addr().ok()?;
    tasks.spawn(async move {
        let mut passing = JoinSet::new();
        loop {
            let Ok((mut near, _)) = listener.accept().await else {
                continue;
            };
            while passing.try_join_next().is_some() {}
            passing.spawn(async move {
                if let Some(mut far) = reach(SocketAddr::from((from, 0)), to).await {
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    Some(address)
}

/// Joins, works if it has to and wants to, and stays until the end; hands on what it hears.
async fn stays(
    s: &Shared,
    node: &mut Node,
    desk: &str,
    works: bool,
    mut hears: impl FnMut(&FromRelay),
) -> Option<()> {
    let mut link = node.open().await?;
    link.say(&join(desk, None)?).await?;
    let mut ping = interval(Duration::from_secs(5));
    let mut n = 0;
    while !s.over() {
        let heard = tokio::select! {
            heard = link.hear() => heard?,
            _ = ping.tick() => {
                n += 1;
                link.say(&ToRelay::Ping { n }).await?;
                continue;
            }
        };
        hears(&heard);
        if let FromRelay::Work { desk, slot, bits } = heard
            && works
        {
            let puzzle = Puzzle {
                desk: desk.clone(),
                slot,
                peer: node.key.peer_id(),
                bits,
            };
            let work = tokio::task::spawn_blocking(move || puzzle.solve()).await;
            link.say(&join(desk.as_str(), work.ok()?.ok())?).await?;
        }
    }
    Some(())
}

/// A citizen with a right to an invite, which it takes for a target.
async fn trap(s: Arc<Shared>) {
    let (mut draw, mut tasks) = (draw(b"trap"), JoinSet::new());
    let Some(via) = forward(BAD, s.targets.relay, &mut tasks).await else {
        return;
    };
    while !s.over() {
        let node = Node::connect(&mut draw, via, &s.targets.relay_peer).await;
        let Some(mut node) = node else { continue };
        let (shared, desk) = (s.clone(), s.targets.trap_desk);
        let _ = stays(&s, &mut node, desk, true, |heard| {
            if let FromRelay::Invite { invite, .. } = heard {
                let message = CoseSign1::from_slice(invite).unwrap_or_default();
                let payload = message.payload.unwrap_or_default();
                if let Ok(invite) = documents::decode::<Invite>(&payload) {
                    let mut held = shared.dcid.lock().unwrap_or_else(PoisonError::into_inner);
                    *held = Some(*invite.dcid.as_bytes());
                    shared.count(|counts| &counts.invites);
                }
            }
        })
        .await;
    }
}

/// Fresh keys from one prefix, who join where people wait; one of four works for it.
async fn crowd(s: Arc<Shared>) {
    let (mut draw, mut tasks) = (draw(b"crowd"), JoinSet::new());
    let Some(via) = forward(CROWD, s.targets.relay, &mut tasks).await else {
        return;
    };
    let mut beat = beat(4 * BEAT / s.strength);
    let mut number = 0_u32;
    while !s.over() {
        beat.tick().await;
        number += 1;
        if number > 400 * s.strength {
            continue;
        }
        let (s, mut own) = (s.clone(), Draw::from_seed(draw.bytes()));
        tasks.spawn(async move {
            let node = Node::connect(&mut own, via, &s.targets.relay_peer).await;
            let Some(mut node) = node else { return };
            s.count(|counts| &counts.keys);
            let works = number.is_multiple_of(4);
            let desk = s.targets.queue_desk;
            let _ = stays(&s, &mut node, desk, works, |heard| match heard {
                FromRelay::Queued { .. } => s.count(|counts| &counts.tickets),
                FromRelay::Work { .. } => s.count(|counts| &counts.asked),
                _ => {}
            })
            .await;
        });
    }
}

/// Those who speak badly: too large, without end, or not at all.
async fn bad(s: Arc<Shared>) {
    let (mut draw, mut tasks) = (draw(b"bad"), JoinSet::new());
    let Some(via) = forward(BAD, s.targets.relay, &mut tasks).await else {
        return;
    };
    let mut beat = beat(10 * BEAT);
    let mut number = 0_u32;
    while !s.over() {
        beat.tick().await;
        number += 1;
        while tasks.try_join_next().is_some() {}
        if tasks.len() > 100 {
            continue;
        }
        let (s, mut own) = (s.clone(), Draw::from_seed(draw.bytes()));
        tasks.spawn(async move {
            let relay = &s.targets.relay_peer;
            let _ = match number % 12 {
                1 => windows::fills(&s, &mut own, via).await,
                kind => match Node::connect(&mut own, via, relay).await {
                    Some(mut node) if kind % 3 == 0 => bad::weighs(&s, &mut node).await,
                    Some(mut node) => bad::speaks(&s, &mut node).await,
                    None => None,
                },
            };
        });
    }
}

/// Programs at local sockets, more than are let in, that write without end and do not read.
async fn local(s: Arc<Shared>) {
    let mut tasks = JoinSet::new();
    for path in s.targets.sockets.clone() {
        for _ in 0..16 {
            let (s, path) = (s.clone(), path.clone());
            tasks.spawn(async move {
                let line = [b'x'; 4_096];
                let mut beat = interval(Duration::from_millis(100));
                while !s.over() {
                    beat.tick().await;
                    let Ok(mut stream) = UnixStream::connect(&path).await else {
                        continue;
                    };
                    s.count(|counts| &counts.local);
                    while !s.over() && stream.write_all(&line).await.is_ok() {
                        beat.tick().await;
                    }
                }
            });
        }
    }
    while tasks.join_next().await.is_some() {}
}
