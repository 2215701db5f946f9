//! DOOR: the third machine. It sits where it sees every datagram between a guest and a host,
//! lets each one pass, and then repeats it: at once and a while later, from an address of its
//! own and from the forged address of its sender, to both ends. It counts what it is sent.
//! As a forward it owns both addresses that it forges, so it needs no privilege for that.
//! It may also be faster than what it repeats.
#![expect(clippy::disallowed_methods, reason = "door: sockets")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::peer::Failure;

/// A repetition comes so much later.
const LATER: Duration = Duration::from_millis(150);
/// Repetitions that wait for their time; those after them are left out.
const WAITING: usize = 4_096;
/// Longest UDP payload.
const PACKET_MAX: usize = 65_536;
/// Guests that have a socket at a time.
const GUESTS_MAX: usize = 64;

/// What it did and got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Datagrams that passed.
    pub passed: u64,
    /// Sent again from their sender's address.
    pub forged: u64,
    /// Sent again from an address of its own.
    pub own: u64,
    /// Sent back to their sender, from the forged address of the one they were for.
    pub reflected: u64,
    /// Datagrams that anybody sent to its own addresses.
    pub received: u64,
}

#[derive(Debug, Default)]
struct Counts([AtomicU64; 5]);

impl Counts {
    fn count(&self, which: usize) {
        if let Some(count) = self.0.get(which) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A repetition that waits for its time.
struct Later {
    due: Instant,
    packet: Vec<u8>,
    through: [Arc<UdpSocket>; 2],
    to: SocketAddr,
}

struct Shared {
    counts: Counts,
    /// A copy leaves before what it repeats, too.
    ahead: AtomicBool,
    /// Its own addresses.
    third: Arc<UdpSocket>,
    later: mpsc::Sender<Later>,
    guests: Mutex<BTreeMap<SocketAddr, Arc<UdpSocket>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// The third machine, until it is dropped.
pub struct Repeater {
    /// Where it takes what is for the host: what the host announces.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Repeater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Repeater").field(&self.tally()).finish()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn socket() -> Result<Arc<UdpSocket>, Failure> {
    let socket = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await;
    socket.map(Arc::new).map_err(|error| error.to_string())
}

impl Repeater {
    /// Sits in front of a host on loopback. `ahead`: its copies are faster than what they repeat.
    pub async fn start(host: SocketAddr, ahead: bool) -> Result<Self, Failure> {
        let (front, third) = (socket().await?, socket().await?);
        let address = front.local_addr().map_err(|error| error.to_string())?;
        let (later, waiting) = mpsc::channel(WAITING);
        let shared = Arc::new(Shared {
            counts: Counts::default(),
            ahead: AtomicBool::new(ahead),
            third: third.clone(),
            later,
            guests: Mutex::default(),
            tasks: Mutex::default(),
        });
        let tasks = vec![
            tokio::spawn(receive(third, shared.clone())),
            tokio::spawn(again(waiting, shared.clone())),
            tokio::spawn(listen(front, host, shared.clone())),
        ];
        lock(&shared.tasks).extend(tasks);
        Ok(Self { address, shared })
    }

    /// From now on it is as fast as others are.
    pub fn slow(&self) {
        self.shared.ahead.store(false, Ordering::Relaxed);
    }

    /// What it did and got so far.
    pub fn tally(&self) -> Tally {
        let of = |which: usize| {
            let count = self.shared.counts.0.get(which);
            count.map_or(0, |count| count.load(Ordering::Relaxed))
        };
        Tally {
            passed: of(0),
            forged: of(1),
            own: of(2),
            reflected: of(3),
            received: of(4),
        }
    }
}

impl Drop for Repeater {
    fn drop(&mut self) {
        for task in lock(&self.shared.tasks).drain(..) {
            task.abort();
        }
    }
}

/// Whatever comes to its own address was sent to a stranger.
async fn receive(third: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut buffer = vec![0; PACKET_MAX];
    loop {
        // an error says that a packet of ours found nobody
        if third.recv_from(&mut buffer).await.is_ok() {
            shared.counts.count(4);
        }
    }
}

async fn again(mut waiting: mpsc::Receiver<Later>, shared: Arc<Shared>) {
    while let Some(later) = waiting.recv().await {
        tokio::time::sleep_until(later.due.into()).await;
        for (which, through) in [1, 2].into_iter().zip(&later.through) {
            let _ = through.send_to(&later.packet, later.to).await;
            shared.counts.count(which);
        }
    }
}

/// Lets a datagram pass, and repeats it: `through` is its sender's address as the other end
/// sees it, `back` the other end's as its sender sees it.
async fn pass(
    shared: &Shared,
    packet: &[u8],
    (through, to): (&Arc<UdpSocket>, SocketAddr),
    (back, from): (&Arc<UdpSocket>, SocketAddr),
) {
    if shared.ahead.load(Ordering::Relaxed) {
        let _ = shared.third.send_to(packet, to).await;
    }
    let _ = through.send_to(packet, to).await;
    shared.counts.count(0);
    let _ = through.send_to(packet, to).await;
    shared.counts.count(1);
    let _ = shared.third.send_to(packet, to).await;
    shared.counts.count(2);
    let _ = back.send_to(packet, from).await;
    let _ = shared.third.send_to(packet, from).await;
    shared.counts.count(3);
    let _ = shared.later.try_send(Later {
        due: Instant::now() + LATER,
        packet: packet.into(),
        through: [through.clone(), shared.third.clone()],
        to,
    });
}

/// What comes from guests goes to the host.
async fn listen(front: Arc<UdpSocket>, host: SocketAddr, shared: Arc<Shared>) {
    let mut buffer = vec![0; PACKET_MAX];
    loop {
        let Ok((length, guest)) = front.recv_from(&mut buffer).await else {
            continue;
        };
        let known = lock(&shared.guests).get(&guest).cloned();
        let back = match known {
            Some(back) => back,
            None if lock(&shared.guests).len() >= GUESTS_MAX => continue,
            None => {
                let Ok(back) = socket().await else { continue };
                lock(&shared.guests).insert(guest, back.clone());
                let answers = answers(back.clone(), front.clone(), (guest, host), shared.clone());
                lock(&shared.tasks).push(tokio::spawn(answers));
                back
            }
        };
        let packet = buffer.get(..length).unwrap_or_default();
        pass(&shared, packet, (&back, host), (&front, guest)).await;
    }
}

/// What comes from the host for one guest goes there.
async fn answers(
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    (guest, host): (SocketAddr, SocketAddr),
    shared: Arc<Shared>,
) {
    let mut buffer = vec![0; PACKET_MAX];
    loop {
        if let Ok((length, from)) = back.recv_from(&mut buffer).await
            && from == host
        {
            let packet = buffer.get(..length).unwrap_or_default();
            pass(&shared, packet, (&front, guest), (&back, host)).await;
        }
    }
}
