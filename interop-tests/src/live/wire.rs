//! DOOR: a wire in real time: a UDP forward in front of an officer's node, which announces the
//! forward's address. Each source that sends to it gets a socket of its own towards the officer,
//! as behind a router; both directions are [`Line`]s with the same weather, the order is kept.
#![expect(clippy::disallowed_methods, reason = "door: sockets and clock")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::peer::Failure;
use crate::weather::line::{Line, Weather};

/// Sources that have a socket at a time; those after them are not heard.
const SOURCES_MAX: usize = 64;
/// Packets under way in one direction; those after them are lost.
const FLYING_MAX: usize = 8_192;
/// Longest UDP payload.
const PACKET_MAX: usize = 65_536;
/// Bytes that the system holds for a socket until the forward has read them.
const BUFFER: usize = 4 << 20;
/// A packet that leaves so much after its time was held up by a busy machine, not by weather.
pub const LATE: Duration = Duration::from_millis(5);

/// What one direction did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Packets that came.
    pub packets: u64,
    /// Their bytes, headers of IP and UDP included.
    pub bytes: u64,
    /// Of these, lost by the weather.
    pub lost: u64,
    /// Lost because too many were under way, or the socket did not take them: the forward's
    /// own fault.
    pub dropped: u64,
    /// Packets that left.
    pub sent: u64,
    /// Of these, more than [`LATE`] after their time: the machine was busy.
    pub late: u64,
    /// The longest time that one left after its own, in microseconds.
    pub worst_late: u64,
    /// The longest way of a packet that left, in microseconds.
    pub longest: u64,
    /// The shortest way of a packet that left, in microseconds; 0 where none did.
    pub shortest: u64,
}

/// A packet under way.
struct Flying {
    came: Instant,
    due: Instant,
    through: Arc<UdpSocket>,
    to: SocketAddr,
    packet: Vec<u8>,
}

struct Direction {
    line: Line,
    tally: Tally,
    queue: mpsc::Sender<Flying>,
}

struct State {
    /// When the first packet came: the weather's beginning.
    begin: Option<Instant>,
    directions: [Direction; 2],
    /// Each source's own socket towards the officer.
    sources: BTreeMap<SocketAddr, Arc<UdpSocket>>,
    tasks: Vec<JoinHandle<()>>,
}

/// A forward that runs until it is dropped.
pub struct Wire {
    /// Where it listens: what the officer announces.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("address", &self.address)
            .field("tallies", &self.tallies())
            .finish()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// A packet came: loses it, or puts it on its way. `direction` 0 is towards the officer.
    fn pass(&mut self, direction: usize, through: Arc<UdpSocket>, to: SocketAddr, packet: &[u8]) {
        let came = Instant::now();
        let begin = *self.begin.get_or_insert(came);
        let Some(direction) = self.directions.get_mut(direction) else {
            return;
        };
        let arrives = direction.line.send(came - begin, packet.len());
        (
            direction.tally.packets,
            direction.tally.bytes,
            direction.tally.lost,
        ) = direction.line.sent;
        if let Some(arrives) = arrives {
            let flying = Flying {
                came,
                due: begin + arrives,
                through,
                to,
                packet: packet.into(),
            };
            direction.tally.dropped += u64::from(direction.queue.try_send(flying).is_err());
        }
    }
}

impl Wire {
    /// Listens on a free port of loopback for who wants to reach `officer`. The weather, its
    /// chance from `seed`, begins with the first packet.
    pub async fn start(officer: SocketAddr, weather: &Weather, seed: u8) -> Result<Self, Failure> {
        let front = Arc::new(socket(officer).await?);
        let address = front.local_addr().map_err(|error| error.to_string())?;
        let (to_officer, towards) = mpsc::channel(FLYING_MAX);
        let (to_source, away) = mpsc::channel(FLYING_MAX);
        let direction = |queue, seed| Direction {
            line: Line::new(weather.clone(), Duration::ZERO, seed),
            tally: Tally::default(),
            queue,
        };
        let state = Arc::new(Mutex::new(State {
            begin: None,
            directions: [
                direction(to_officer, seed),
                direction(to_source, seed.wrapping_add(128)),
            ],
            sources: BTreeMap::new(),
            tasks: Vec::new(),
        }));
        let tasks = vec![
            tokio::spawn(deliver(towards, state.clone(), 0)),
            tokio::spawn(deliver(away, state.clone(), 1)),
            tokio::spawn(listen(front, officer, state.clone())),
        ];
        lock(&state).tasks = tasks;
        Ok(Self { address, state })
    }

    /// What both directions did so far: towards the officer, and back.
    pub fn tallies(&self) -> [Tally; 2] {
        let state = lock(&self.state);
        [0, 1].map(|at: usize| {
            state
                .directions
                .get(at)
                .map_or_else(Tally::default, |d| d.tally)
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for task in lock(&self.state).tasks.drain(..) {
            task.abort();
        }
    }
}

/// A socket on a free port of loopback, of the family of `officer`.
async fn socket(officer: SocketAddr) -> Result<UdpSocket, Failure> {
    let any = match officer {
        SocketAddr::V4(_) => SocketAddr::from(([127, 0, 0, 1], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0)),
    };
    let socket = UdpSocket::bind(any)
        .await
        .map_err(|error| format!("{any}: {error}"))?;
    // as much as the system allows: a busy machine must not lose what the weather lets pass
    let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &BUFFER);
    Ok(socket)
}

/// What comes from sources goes to the officer.
async fn listen(front: Arc<UdpSocket>, officer: SocketAddr, state: Arc<Mutex<State>>) {
    let mut buffer = vec![0; PACKET_MAX];
    loop {
        let Ok((length, source)) = front.recv_from(&mut buffer).await else {
            continue;
        };
        let known = lock(&state).sources.get(&source).cloned();
        let back = match known {
            Some(back) => back,
            None if lock(&state).sources.len() >= SOURCES_MAX => continue,
            None => {
                let Ok(back) = socket(officer).await else {
                    continue;
                };
                let back = Arc::new(back);
                let answers = answers(back.clone(), officer, front.clone(), source, state.clone());
                let mut state = lock(&state);
                state.sources.insert(source, back.clone());
                state.tasks.push(tokio::spawn(answers));
                back
            }
        };
        lock(&state).pass(0, back, officer, &buffer[..length]);
    }
}

/// What comes from the officer for one source goes there.
async fn answers(
    back: Arc<UdpSocket>,
    officer: SocketAddr,
    front: Arc<UdpSocket>,
    source: SocketAddr,
    state: Arc<Mutex<State>>,
) {
    let mut buffer = vec![0; PACKET_MAX];
    loop {
        match back.recv_from(&mut buffer).await {
            Ok((length, from)) if from == officer => {
                lock(&state).pass(1, front.clone(), source, &buffer[..length]);
            }
            // a stranger, or word that a packet of ours found nobody
            _ => {}
        }
    }
}

/// Lets each packet of a direction leave when its time has come, in order.
async fn deliver(mut queue: mpsc::Receiver<Flying>, state: Arc<Mutex<State>>, direction: usize) {
    while let Some(flying) = queue.recv().await {
        tokio::time::sleep_until(flying.due.into()).await;
        let sent = flying.through.send_to(&flying.packet, flying.to).await;
        let now = Instant::now();
        let micros = |since: Instant| {
            u64::try_from(now.saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX)
        };
        let (late, way) = (micros(flying.due), micros(flying.came));
        let mut state = lock(&state);
        let Some(Direction { tally, .. }) = state.directions.get_mut(direction) else {
            return;
        };
        if sent.is_err() {
            tally.dropped += 1;
            continue;
        }
        tally.shortest = if tally.sent == 0 {
            way
        } else {
            tally.shortest.min(way)
        };
        tally.sent += 1;
        tally.late += u64::from(u128::from(late) > LATE.as_micros());
        tally.worst_late = tally.worst_late.max(late);
        tally.longest = tally.longest.max(way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weather::line::Loss;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const PATIENCE: Duration = Duration::from_secs(5);

    /// An officer's socket behind a wire, and two sources.
    async fn people(weather: &Weather) -> (Wire, UdpSocket, [UdpSocket; 2]) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let officer = socket(any).await.unwrap();
        let wire = Wire::start(officer.local_addr().unwrap(), weather, 7)
            .await
            .unwrap();
        let sources = [socket(any).await.unwrap(), socket(any).await.unwrap()];
        (wire, officer, sources)
    }

    async fn receive(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = [0; 2_000];
        let received = tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await;
        let (length, from) = received.ok()?.ok()?;
        Some((buffer[..length].to_vec(), from))
    }

    #[tokio::test]
    async fn each_source_is_answered_and_each_way_takes_its_time() {
        let (wire, officer, sources) = people(&Weather::delay(30)).await;
        let begin = Instant::now();
        let mut seen = Vec::new();
        for (number, source) in (1_u8..).zip(&sources) {
            source.send_to(&[number], wire.address).await.unwrap();
            let (packet, from) = receive(&officer).await.unwrap();
            assert_eq!(packet, [number]);
            seen.push(from);
        }
        assert_ne!(seen[0], seen[1], "a socket each");
        // the answers cross: each reaches its own
        for (number, to) in [(12_u8, seen[1]), (11, seen[0])] {
            officer.send_to(&[number], to).await.unwrap();
        }
        for (number, source) in (11_u8..).zip(&sources) {
            let (packet, from) = receive(source).await.unwrap();
            assert_eq!((packet, from), (vec![number], wire.address));
        }
        assert!(begin.elapsed() >= MS(90), "two ways there, one back");
        for tally in wire.tallies() {
            assert_eq!((tally.packets, tally.sent, tally.lost), (2, 2, 0));
            assert!(tally.shortest >= 30_000, "{tally:?}");
        }
    }

    #[tokio::test]
    async fn what_the_weather_loses_is_counted_and_the_rest_keeps_its_order() {
        let weather = Weather {
            jitter: MS(10),
            ..Weather::delay(5).losing(Loss::Random(0.1))
        };
        let (wire, officer, [source, _]) = people(&weather).await;
        for number in 0..400_u16 {
            let packet = number.to_be_bytes();
            source.send_to(&packet, wire.address).await.unwrap();
        }
        let mut numbers = Vec::new();
        let came = |tally: Tally| tally.packets == 400 && tally.sent == 400 - tally.lost;
        while !came(wire.tallies()[0]) || (numbers.len() as u64) < wire.tallies()[0].sent {
            let (packet, _) = receive(&officer).await.expect("the next packet");
            numbers.push(u16::from_be_bytes(packet.try_into().unwrap()));
        }
        let tally = wire.tallies()[0];
        assert!((15..80).contains(&tally.lost), "{tally:?}");
        assert_eq!(numbers.len() as u64, 400 - tally.lost);
        assert!(numbers.is_sorted());
    }

    #[tokio::test]
    async fn after_a_blackout_packets_pass_again() {
        let weather = Weather {
            blackouts: vec![(MS(0), MS(300))],
            ..Weather::delay(1)
        };
        let (wire, officer, [source, _]) = people(&weather).await;
        let begin = Instant::now();
        let mut sent = 0_u32;
        let through = loop {
            source
                .send_to(&sent.to_be_bytes(), wire.address)
                .await
                .unwrap();
            sent += 1;
            let mut buffer = [0; 4];
            let wait = tokio::time::timeout(MS(20), officer.recv_from(&mut buffer));
            if wait.await.is_ok() {
                break begin.elapsed();
            }
            assert!(begin.elapsed() < PATIENCE);
        };
        assert!(through >= MS(300), "{through:?}");
        assert!(wire.tallies()[0].lost > 0);
    }
}
