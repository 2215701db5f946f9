//! What answers on the first relay host of the lab: an echo on two addresses and two ports that
//! can answer from another (as RFC 5780 section 3 wants it of a STUN server), and a forwarder
//! that joins two ends of a pair, over UDP and over TCP to port 443.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::site::{CONTROL, Relay};
use crate::peer::Failure;

/// The echo's ports.
pub const PORTS: [u16; 2] = [3_478, 3_479];
/// The forwarder's port for UDP.
pub const FORWARD: u16 = 3_480;
/// TCP ports: the forwarder's, the web's, the control plane's.
pub const TCP: [u16; 3] = [443, 80, CONTROL];
/// First bytes of a question and of an answer: below 4, as STUN's.
pub const ASK: [u8; 2] = [0, b'e'];
/// First bytes of an answer.
pub const ANSWER: [u8; 2] = [0, b'E'];
/// Answer from the other address.
pub const OTHER_ADDRESS: u8 = 1;
/// Answer from the other port.
pub const OTHER_PORT: u8 = 2;
/// First byte of media of a pair; its id and side follow.
pub const MEDIA: u8 = 0x80;
/// Bytes of media before what it carries.
pub const MEDIA_HEAD: usize = 10;
/// Pairs and ends that are remembered.
const ENDS_MAX: usize = 4_096;
/// Packets that wait for a TCP connection.
const WAITING_MAX: usize = 64;
/// Longest packet.
const PACKET_MAX: usize = 2_048;

/// How an end of a pair is reached.
#[derive(Clone, Debug)]
enum Reach {
    Udp(Arc<UdpSocket>),
    Tcp(mpsc::Sender<Vec<u8>>),
}

type Ends = BTreeMap<([u8; 8], u8), (SocketAddr, Reach)>;

/// The services, until they are dropped.
#[derive(Debug)]
pub struct Echo {
    /// The relay host that they run on.
    pub relay: Relay,
    sockets: Vec<Arc<UdpSocket>>,
    ends: Arc<Mutex<Ends>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

fn lock(ends: &Mutex<Ends>) -> MutexGuard<'_, Ends> {
    ends.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Echo {
    /// Starts them on a relay host.
    pub fn start(relay: &Relay) -> Result<Self, Failure> {
        let mut echo = Self {
            relay: relay.clone(),
            sockets: Vec::new(),
            ends: Arc::default(),
            tasks: Mutex::default(),
        };
        let mut tasks = Vec::new();
        let failed = |error: io::Error| error.to_string();
        let families = [relay.v4.map(IpAddr::from), relay.v6.map(IpAddr::from)];
        for addresses in families {
            let mut four = Vec::new();
            for address in addresses {
                for port in PORTS {
                    let socket = relay.namespace.udp(SocketAddr::new(address, port))?;
                    four.push(Arc::new(UdpSocket::from_std(socket).map_err(failed)?));
                }
            }
            for own in 0..four.len() {
                tasks.push(tokio::spawn(answer(four.clone(), own)));
            }
            echo.sockets.extend(four);
            let at = SocketAddr::new(addresses[0], FORWARD);
            let socket = UdpSocket::from_std(relay.namespace.udp(at)?).map_err(failed)?;
            let ends = echo.ends.clone();
            tasks.push(tokio::spawn(forward(Arc::new(socket), ends)));
            for port in TCP {
                let listener = relay
                    .namespace
                    .listen(SocketAddr::new(addresses[0], port))?;
                let listener = TcpListener::from_std(listener).map_err(failed)?;
                tasks.push(tokio::spawn(listen(listener, echo.ends.clone())));
            }
        }
        echo.tasks = Mutex::new(tasks);
        Ok(echo)
    }

    /// Sends from the echo's first address and port, unasked.
    pub async fn send(&self, to: SocketAddr, bytes: &[u8]) -> Result<(), Failure> {
        let family = |socket: &&Arc<UdpSocket>| {
            socket
                .local_addr()
                .is_ok_and(|own| own.is_ipv4() == to.is_ipv4())
        };
        let socket = self.sockets.iter().find(family).ok_or("no socket")?;
        let sent = socket.send_to(bytes, to).await;
        sent.map(drop).map_err(|error| error.to_string())
    }

    /// Where the forwarder hears an end of a pair from.
    pub fn heard(&self, pair: [u8; 8], side: u8) -> Option<SocketAddr> {
        lock(&self.ends).get(&(pair, side)).map(|end| end.0)
    }
}

impl Echo {
    /// Stops all of it, as a relay that dies.
    pub fn stop(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.drain(..).for_each(|task| task.abort());
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Answers with the address that was seen, by the socket that was asked for. The four are of both
/// addresses and both ports, in that order.
async fn answer(four: Vec<Arc<UdpSocket>>, own: usize) {
    let Some(socket) = four.get(own) else {
        return;
    };
    let mut buffer = [0; PACKET_MAX];
    loop {
        let Ok((bytes, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let Some([a, b, flags, nonce @ ..]) = buffer.get(..bytes.min(11)) else {
            continue;
        };
        if [*a, *b] != ASK {
            continue;
        }
        let mut by = own;
        if flags & OTHER_ADDRESS != 0 {
            by ^= 2;
        }
        if flags & OTHER_PORT != 0 {
            by ^= 1;
        }
        let mut said = ANSWER.to_vec();
        said.push(*flags);
        said.extend(nonce);
        said.extend(from.to_string().bytes());
        if let Some(by) = four.get(by) {
            // lost, as any packet may be
            let _ = by.send_to(&said, from).await;
        }
    }
}

/// Whose media this is.
fn owner(bytes: &[u8]) -> Option<([u8; 8], u8)> {
    let [MEDIA, rest @ ..] = bytes.get(..MEDIA_HEAD)? else {
        return None;
    };
    let (pair, side) = rest.split_at(8);
    Some((pair.try_into().ok()?, *side.first()?))
}

/// Remembers who said it, and passes it on to the other end of its pair.
async fn pass(ends: &Mutex<Ends>, from: SocketAddr, by: Reach, bytes: &[u8]) {
    let Some((pair, side)) = owner(bytes) else {
        return;
    };
    let other = {
        let mut ends = lock(ends);
        if ends.len() < ENDS_MAX || ends.contains_key(&(pair, side)) {
            ends.insert((pair, side), (from, by));
        }
        ends.get(&(pair, side ^ 1)).cloned()
    };
    match other {
        Some((to, Reach::Udp(socket))) => drop(socket.send_to(bytes, to).await),
        // one that waits too long is lost
        Some((_, Reach::Tcp(queue))) => drop(queue.try_send(bytes.to_vec())),
        None => {}
    }
}

async fn forward(socket: Arc<UdpSocket>, ends: Arc<Mutex<Ends>>) {
    let mut buffer = [0; PACKET_MAX];
    loop {
        if let Ok((bytes, from)) = socket.recv_from(&mut buffer).await {
            let bytes = buffer.get(..bytes).unwrap_or_default();
            pass(&ends, from, Reach::Udp(socket.clone()), bytes).await;
        }
    }
}

async fn listen(listener: TcpListener, ends: Arc<Mutex<Ends>>) {
    // its connections end with it
    let mut served = tokio::task::JoinSet::new();
    while let Ok((stream, from)) = listener.accept().await {
        served.spawn(serve(stream, from, ends.clone()));
        while served.try_join_next().is_some() {}
    }
}

/// Says which address was seen, then forwards packets with two bytes of length before each.
async fn serve(stream: TcpStream, from: SocketAddr, ends: Arc<Mutex<Ends>>) {
    // small packets at once
    let _ = stream.set_nodelay(true);
    let (mut read, mut write) = stream.into_split();
    let (queue, mut waiting) = mpsc::channel::<Vec<u8>>(WAITING_MAX);
    let say = async {
        write.write_all(format!("{from}\n").as_bytes()).await?;
        while let Some(packet) = waiting.recv().await {
            write.write_all(&framed(&packet)).await?;
        }
        io::Result::Ok(())
    };
    let hear = async {
        while let Ok(packet) = packet(&mut read).await {
            pass(&ends, from, Reach::Tcp(queue.clone()), &packet).await;
        }
    };
    tokio::select! {
        _ = say => {}
        () = hear => {}
    }
}

/// A packet on a stream.
pub fn framed(packet: &[u8]) -> Vec<u8> {
    let length = u16::try_from(packet.len()).unwrap_or(0);
    [&length.to_be_bytes(), packet].concat()
}

/// The next packet of a stream.
pub async fn packet(stream: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > PACKET_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

/// The address that the host's services saw, said first on each connection.
pub async fn greeting(stream: &mut OwnedReadHalf) -> io::Result<SocketAddr> {
    let mut text = String::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            byte if text.len() < 64 => text.push(char::from(byte)),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    text.parse().map_err(|_| io::ErrorKind::InvalidData.into())
}
