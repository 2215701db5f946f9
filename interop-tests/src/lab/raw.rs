//! DOOR: the plainest pair of the lab: two ends with one UDP socket a family, that send media
//! through the relay host's forwarder at once, punch, and go direct as soon as that is proven.
#![expect(clippy::disallowed_methods, reason = "door: clock")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::echo::{Echo, FORWARD, MEDIA, MEDIA_HEAD, PORTS, framed, greeting, packet};
use super::impair::Flow;
use super::matrix::{Meeting, Outcome, Pair, last_second};
use super::prove::{ask, open};
use super::punch::{Input, Output, Puncher};
use super::rule::Path;
use super::site::Host;
use crate::peer::Failure;

/// How long a pair runs: what punching needs, and the second that is judged.
const RUN: Duration = Duration::from_millis(2_500);
/// How often an end sends media.
const BEAT: Duration = Duration::from_millis(20);
/// The web's port, of the forwarder for TCP.
const WEB: u16 = 443;
/// How long a TCP connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// Packets that wait for an end.
const WAITING_MAX: usize = 512;

/// Raw pairs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw {
    /// Ends that are direct go on sending through the relay, and do not say so: to see that the
    /// wires tell.
    pub lies: bool,
}

/// Where a packet came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Came {
    Udp(SocketAddr),
    Tcp,
}

/// How an end reaches the forwarder.
enum Relay {
    Udp(SocketAddr),
    Tcp(OwnedWriteHalf),
}

struct End {
    sockets: [Option<Arc<UdpSocket>>; 2],
    relay: Relay,
    came: mpsc::Receiver<(Came, Vec<u8>)>,
    /// Keeps the queue open when every reader has ended.
    _open: mpsc::Sender<(Came, Vec<u8>)>,
    addresses: Vec<SocketAddr>,
    readers: JoinSet<()>,
}

/// What an end saw.
struct Saw {
    /// The first media from the other.
    first: Option<Duration>,
    /// The first media from the other that no relay passed on.
    direct: Option<Duration>,
    /// Media from the other in the last second: through the relay, direct.
    last: [u32; 2],
    /// The other's address in use at the end.
    chosen: Option<SocketAddr>,
}

fn private(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V4(address) if address.is_private())
}

impl End {
    /// Opens sockets, asks for its addresses, and finds a way to the forwarder.
    async fn gather(host: &Host, echo: &Echo) -> Result<Self, Failure> {
        let relays = [echo.relay.v4[0].into(), echo.relay.v6[0].into()];
        let own = [host.v4.map(IpAddr::from), host.v6.map(IpAddr::from)];
        let (put, came) = mpsc::channel(WAITING_MAX);
        let mut readers = JoinSet::new();
        let mut end = Self {
            sockets: [None, None],
            relay: Relay::Udp(SocketAddr::new(relays[0], FORWARD)),
            came,
            _open: put.clone(),
            addresses: Vec::new(),
            readers: JoinSet::new(),
        };
        let mut reached = None;
        for (family, own) in own.into_iter().enumerate() {
            let Some(own) = own else {
                continue;
            };
            let socket = open(host, own)?;
            let local = socket.local_addr().map_err(|error| error.to_string())?;
            end.addresses.push(local);
            let seen = ask(&socket, SocketAddr::new(relays[family], PORTS[0]), 0).await;
            if let Some(seen) = seen {
                reached = reached.or(Some(Relay::Udp(SocketAddr::new(relays[family], FORWARD))));
                if seen != local {
                    end.addresses.push(seen);
                }
            }
            let socket = Arc::new(socket);
            end.sockets[family] = Some(socket.clone());
            let put = put.clone();
            readers.spawn(async move {
                let mut buffer = [0; 2_048];
                loop {
                    if let Ok((bytes, from)) = socket.recv_from(&mut buffer).await {
                        let bytes = buffer.get(..bytes).unwrap_or_default().to_vec();
                        // one that waits too long is lost
                        let _ = put.try_send((Came::Udp(from), bytes));
                    }
                }
            });
        }
        end.relay = match reached {
            Some(relay) => relay,
            None => {
                let place = if host.v4.is_some() {
                    relays[0]
                } else {
                    relays[1]
                };
                let namespace = host.namespace.clone();
                let connect = move || namespace.connect(SocketAddr::new(place, WEB), CONNECT);
                let stream = tokio::task::spawn_blocking(connect).await;
                let stream = stream.map_err(|error| error.to_string())??;
                let stream =
                    tokio::net::TcpStream::from_std(stream).map_err(|error| error.to_string())?;
                let (mut read, write) = stream.into_split();
                greeting(&mut read)
                    .await
                    .map_err(|error| error.to_string())?;
                readers.spawn(async move {
                    while let Ok(packet) = packet(&mut read).await {
                        let _ = put.try_send((Came::Tcp, packet));
                    }
                });
                Relay::Tcp(write)
            }
        };
        end.readers = readers;
        Ok(end)
    }

    async fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let family = usize::from(to.is_ipv6());
        if let Some(socket) = self.sockets.get(family).and_then(Option::as_ref) {
            // lost, as any packet may be
            let _ = socket.send_to(bytes, to).await;
        }
    }

    async fn relayed(&mut self, bytes: &[u8]) {
        match &mut self.relay {
            Relay::Udp(to) => {
                let to = *to;
                self.send(to, bytes).await;
            }
            Relay::Tcp(stream) => drop(stream.write_all(&framed(bytes)).await),
        }
    }

    /// Whether this came through the forwarder.
    fn by_relay(&self, came: Came) -> bool {
        match (came, &self.relay) {
            (Came::Tcp, _) => true,
            (Came::Udp(from), Relay::Udp(relay)) => from == *relay,
            (Came::Udp(_), Relay::Tcp(_)) => false,
        }
    }
}

/// The proven address to use: inside the own network, else the first that was proven.
fn best(puncher: &Puncher) -> Option<SocketAddr> {
    let proven = puncher.proven();
    let inside = proven.keys().find(|address| private(**address));
    let first = proven
        .iter()
        .min_by_key(|(_, at)| **at)
        .map(|(address, _)| address);
    inside.or(first).copied()
}

/// Runs one end.
async fn drive(
    mut end: End,
    mut puncher: Puncher,
    head: Vec<u8>,
    begun: Instant,
    lies: bool,
) -> Saw {
    let mut saw = Saw {
        first: None,
        direct: None,
        last: [0; 2],
        chosen: None,
    };
    let (mut next_media, mut number) = (Duration::ZERO, 0_u32);
    loop {
        let now = begun.elapsed();
        if now >= RUN {
            break;
        }
        puncher.handle_input(now, Input::Tick);
        let mut next = next_media.min(RUN);
        loop {
            match puncher.poll_output() {
                Output::Send(to, bytes) => end.send(to, &bytes).await,
                Output::Wait(until) => {
                    next = next.min(until);
                    break;
                }
            }
        }
        if now >= next_media {
            next_media += BEAT;
            number += 1;
            let mut bytes = head.clone();
            bytes.extend(number.to_be_bytes());
            bytes.resize(160, 0);
            saw.chosen = best(&puncher);
            match saw.chosen {
                Some(to) => end.send(to, &bytes).await,
                None => end.relayed(&bytes).await,
            }
            if lies && saw.chosen.is_some() {
                end.relayed(&bytes).await;
            }
            continue;
        }
        let until = tokio::time::Instant::from_std(begun + next);
        let Ok(Some((came, bytes))) = tokio::time::timeout_at(until, end.came.recv()).await else {
            continue;
        };
        let now = begun.elapsed();
        if bytes.len() >= MEDIA_HEAD && bytes.first() == Some(&MEDIA) {
            let other = bytes.get(1..9) == head.get(1..9) && bytes.get(9) != head.get(9);
            if other {
                let direct = !end.by_relay(came);
                saw.first = saw.first.or(Some(now));
                if direct {
                    saw.direct = saw.direct.or(Some(now));
                }
                if now + last_second() >= RUN && (direct || !lies) {
                    saw.last[usize::from(direct)] += 1;
                }
            }
        } else if let Came::Udp(from) = came {
            puncher.handle_input(now, Input::Packet(from, &bytes));
        }
    }
    end.readers.abort_all();
    saw
}

impl Pair for Raw {
    async fn meet(&self, meeting: &Meeting<'_>) -> Result<Outcome, Failure> {
        let echo = meeting.echo;
        let [one, two] = meeting.ends;
        let gathered = futures::try_join!(End::gather(one.host, echo), End::gather(two.host, echo));
        let (one_end, two_end) = gathered?;
        let pair = meeting.number.to_be_bytes();
        let begun = Instant::now();
        let known = |end: &End| match meeting.cell.hides {
            true => Vec::new(),
            false => end.addresses.clone(),
        };
        let (of_one, of_two) = (known(&one_end), known(&two_end));
        let head = |side: u8| [&[MEDIA][..], &pair, &[side]].concat();
        let puncher =
            |side, addresses: &[SocketAddr]| Puncher::new(Duration::ZERO, pair, side, addresses);
        let saw = futures::join!(
            drive(one_end, puncher(0, &of_two), head(0), begun, self.lies),
            drive(two_end, puncher(1, &of_one), head(1), begun, self.lies),
        );
        let saw = [saw.0, saw.1];
        let mut outcome = Outcome {
            path: None,
            connected: both(saw.each_ref().map(|saw| saw.first)),
            direct: both(saw.each_ref().map(|saw| saw.direct)),
            faults: Vec::new(),
        };
        let chosen = saw.each_ref().map(|saw| saw.chosen);
        let last = saw.each_ref().map(|saw| saw.last);
        outcome.path = match last {
            [[0, direct], [0, other]] if direct > 0 && other > 0 => {
                let inside = chosen.iter().flatten().all(|address| private(*address));
                Some(if inside { Path::Host } else { Path::Direct })
            }
            [[relayed, 0], [other, 0]] if relayed > 0 && other > 0 => Some(Path::Relayed),
            _ => {
                outcome.faults.push(format!(
                    "media in the last second, relayed and direct: {last:?}"
                ));
                None
            }
        };
        judge(meeting, &mut outcome, pair, chosen);
        Ok(outcome)
    }
}

/// Both are there: when the later was.
fn both(times: [Option<Duration>; 2]) -> Option<Duration> {
    let [one, two] = times;
    Some(one?.max(two?))
}

/// The label has to be what the packets did on the wires.
fn judge(
    meeting: &Meeting<'_>,
    outcome: &mut Outcome,
    pair: [u8; 8],
    chosen: [Option<SocketAddr>; 2],
) {
    let wires = &meeting.lab.wires;
    let since = wires.now().saturating_sub(last_second());
    let recent = |at: Option<Duration>| at.is_some_and(|at| at >= since);
    let at_relay = [0, 1].map(|side| {
        let Some(heard) = meeting.echo.heard(pair, side) else {
            return false;
        };
        let ports = [FORWARD, WEB];
        let of_end = |flow: &Flow| {
            (flow.from == heard && ports.contains(&flow.to.port()))
                || (flow.to == heard && ports.contains(&flow.from.port()))
        };
        recent(wires.tally(meeting.echo.relay.cable).last_media(of_end))
    });
    let relayed = outcome.path == Some(Path::Relayed);
    if at_relay.contains(&!relayed) && outcome.path.is_some() {
        outcome.faults.push(format!(
            "said to be {}, and media at the relay in the last second: {at_relay:?}",
            outcome.path.map_or("nothing", Path::word)
        ));
    }
    if let (Some(Path::Direct), [Some(of_two), Some(of_one)], true) =
        (outcome.path, chosen, meeting.apart())
    {
        // each sends to the address that it chose, which may be of another family than the other's
        let [one, two] = meeting.ends;
        for end in meeting.ends {
            let tally = wires.tally(end.site.cable);
            for (sender, to) in [(one, of_two), (two, of_one)] {
                let own = [
                    Some(sender.site.wan.into()),
                    sender.host.v6.map(IpAddr::from),
                ];
                let sent = |flow: &Flow| flow.to == to && own.contains(&Some(flow.from.ip()));
                if !recent(tally.last_media(sent)) {
                    outcome.faults.push(format!(
                        "said to be direct, and no such media on the wire of site {}",
                        end.site.number
                    ));
                }
            }
        }
    }
}
