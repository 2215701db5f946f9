//! DOOR: `suora-interop relay-bench`: the relay's TURN beside coturn's and beside a bare loop of `recvmmsg` and
//! `sendmmsg`, each alone on one core, loaded from another: packets a second and CPU a packet, at as
//! much as gets through and at two and three times that.
//!
//! What arrives is counted where the kernel drops it: the peer's socket is full and never read. So
//! one core makes three times what the other one can carry, as long as the kernel cuts trains for
//! it; single packets that nobody cuts are as many as one core can send.
#![expect(
    clippy::disallowed_methods,
    reason = "door: sockets, processes and clock"
)]

pub mod client;
pub mod subject;

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, setsockopt, sockopt,
};

use crate::cpu;
use subject::{Running, Subject};

/// Clients, each with an allocation and a channel to the one peer.
const FLOWS: usize = 8;
/// Messages of one call.
const MESSAGES: usize = 16;
/// Packets of a train.
const TRAIN: usize = 4;

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    name: &'static str,
    size: usize,
    /// Four at once, which arrive as one message where the relay asks for that.
    train: bool,
}

const LOADS: [Load; 3] = [
    Load {
        name: "1200 B singles",
        size: 1_200,
        train: false,
    },
    Load {
        name: "160 B singles",
        size: 160,
        train: false,
    },
    Load {
        name: "4 x 1200 B trains",
        size: 1_200,
        train: true,
    },
];

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// How long each measurement is.
    pub seconds: f64,
    /// The core of what is measured, and of what loads it.
    pub cores: (usize, usize),
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Figure {
    offered: f64,
    delivered: f64,
    cpu_us: f64,
}

/// The peer: a socket that is full.
struct Sink {
    socket: UdpSocket,
    inode: String,
}

impl Sink {
    fn new() -> Result<Self, String> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
        let _ = setsockopt(&socket, sockopt::RcvBuf, &2_048);
        let link = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let link = std::fs::read_link(link).map_err(text)?;
        let inode = link.display().to_string();
        let digits: String = inode.chars().filter(char::is_ascii_digit).collect();
        Ok(Self {
            socket,
            inode: digits,
        })
    }

    fn at(&self) -> Result<SocketAddr, String> {
        self.socket.local_addr().map_err(text)
    }

    /// Packets that the kernel dropped here.
    fn drops(&self) -> Result<u64, String> {
        let table = std::fs::read_to_string("/proc/net/udp").map_err(text)?;
        let mut rows = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.get(9) == Some(&self.inode.as_str()));
        let drops = row.and_then(|row| row.last()?.parse().ok());
        drops.ok_or_else(|| "the peer's socket is not in /proc/net/udp".into())
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Puts a whole process on a core.
fn pin(pid: u32, core: usize) -> Result<(), String> {
    let (core, pid) = (core.to_string(), pid.to_string());
    let done = Command::new("taskset").args(["-acp", &core, &pid]).output();
    match done {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
        Err(error) => Err(format!("taskset: {error}")),
    }
}

/// Loads for a while; packets a second at most.
fn load(flows: &[client::Flow], load: Load, cut: bool, limit: Option<f64>, time: Duration) -> u64 {
    let data = vec![7; load.size];
    let train = if load.train || cut { TRAIN } else { 1 };
    let whole = u16::try_from(load.size + 4).unwrap_or(u16::MAX);
    let packets: Vec<Vec<u8>> = flows
        .iter()
        .map(|flow| flow.packet(&data).repeat(train))
        .collect();
    let space = (train > 1).then(|| nix::cmsg_space!(u16));
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(MESSAGES, space);
    let (began, mut offered) = (Instant::now(), 0_u64);
    loop {
        for (flow, packet) in flows.iter().zip(&packets) {
            let slices = [[IoSlice::new(packet)]; MESSAGES];
            let addresses = [Some(SockaddrStorage::from(flow.server)); MESSAGES];
            let control = [ControlMessage::UdpGsoSegments(&whole)];
            let control = if train > 1 {
                &control[..]
            } else {
                &control[..0]
            };
            let (fd, flags) = (flow.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
            if let Ok(sent) = sendmmsg(fd, &mut headers, &slices, addresses, control, flags) {
                offered += (sent.count() * train) as u64;
            }
            let elapsed = began.elapsed();
            if elapsed >= time {
                return offered;
            }
            let ahead = limit.map(|limit| offered as f64 / limit - elapsed.as_secs_f64());
            if let Some(ahead) = ahead.filter(|ahead| *ahead > 0.000_05) {
                std::thread::sleep(Duration::from_secs_f64(ahead));
            }
        }
    }
}

fn measure(
    running: &Running,
    sink: &Sink,
    what: Load,
    limit: Option<f64>,
    seconds: f64,
) -> Result<Figure, String> {
    // nobody asks for trains there: the kernel cuts them, so that one core sends enough
    let cut = !running.subject.is_offloading();
    let warm = Duration::from_millis(200);
    load(&running.flows, what, cut, limit, warm);
    let (drops, used, began) = (sink.drops()?, cpu::seconds(running.pid)?, Instant::now());
    let offered = load(
        &running.flows,
        what,
        cut,
        limit,
        Duration::from_secs_f64(seconds),
    );
    let took = began.elapsed().as_secs_f64();
    let (drops, used) = (sink.drops()? - drops, cpu::seconds(running.pid)? - used);
    Ok(Figure {
        offered: offered as f64 / took,
        delivered: drops as f64 / took,
        cpu_us: used * 1e6 / (drops as f64).max(1.0),
    })
}

/// Runs all, and prints the table.
pub fn run(ask: &Ask) -> Result<(), String> {
    pin(std::process::id(), ask.cores.1)?;
    println!(
        "core {} relays, core {} loads; {FLOWS} flows over loopback, {} s each",
        ask.cores.0, ask.cores.1, ask.seconds
    );
    println!(
        "{:<18} {:<22} {:>5} {:>12} {:>14} {:>8} {:>12} {:>10}",
        "load", "relay", "x", "offered k/s", "delivered k/s", "of peak", "CPU us/pkt", "to coturn"
    );
    let mut missed = Vec::new();
    for what in LOADS {
        let mut coturn = None;
        for subject in Subject::ALL {
            let sink = Sink::new()?;
            let running = subject.start(ask.cores.0, sink.at()?, &sink.socket)?;
            let mut peak = measure(&running, &sink, what, None, ask.seconds)?;
            let print = |factor: &str, figure: Figure, peak: f64, coturn: Option<f64>| {
                let ratio =
                    coturn.map_or("-".into(), |other| format!("{:.2}", figure.cpu_us / other));
                println!(
                    "{:<18} {:<22} {factor:>5} {:>12.0} {:>14.0} {:>7.0}% {:>12.2} {ratio:>10}",
                    what.name,
                    subject.name(),
                    figure.offered / 1e3,
                    figure.delivered / 1e3,
                    100.0 * figure.delivered / peak,
                    figure.cpu_us
                );
            };
            print("max", peak, peak.delivered, coturn);
            for factor in [1.0, 2.0, 3.0] {
                let limit = Some(factor * peak.delivered);
                let figure = measure(&running, &sink, what, limit, ask.seconds)?;
                print(&format!("{factor}"), figure, peak.delivered, coturn);
                let is_ours = matches!(subject, Subject::Ours | Subject::OursPlain);
                if is_ours && factor == 3.0 && figure.delivered < 0.9 * peak.delivered {
                    missed.push(format!(
                        "{}, {}: under 90 % of its peak",
                        what.name,
                        subject.name()
                    ));
                }
                peak.cpu_us = peak.cpu_us.min(figure.cpu_us);
            }
            let aim = if what.train { 0.33 } else { 0.8 };
            match (subject, coturn) {
                (Subject::Coturn, _) => coturn = Some(peak.cpu_us),
                (Subject::Ours, Some(other)) if peak.cpu_us > aim * other => {
                    let ratio = peak.cpu_us / other;
                    missed.push(format!(
                        "{}: {ratio:.2} of coturn's CPU, not {aim}",
                        what.name
                    ));
                }
                _ => {}
            }
        }
    }
    if missed.is_empty() {
        println!("all aims are reached");
        return Ok(());
    }
    Err(format!("aims that were missed:\n{}", missed.join("\n")))
}
