//! What is measured, each in a process of its own.

use std::io::{IoSlice, IoSliceMut, Read as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use suora_protocol::time::Timestamp;
use suora_relay::clock::Clock;
use suora_relay::grant::{Pair, Secret};
use suora_relay::net::udp::{Settings, Shards};
use suora_relay::turn::policy::{Policy, Quotas};
use suora_relay::turn::{Rules, Shared};

use super::client::Flow;
use super::{FLOWS, pin, text};

const REALM: &str = "agency.example";
const SECRET: &str = "the-bench-has-one-secret-of-its-own-42";
const BATCH: usize = 32;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// coturn, of the package.
    Coturn,
    /// `recvmmsg`, four bytes off, `sendmmsg`: no allocation, no permission, nothing.
    Bare,
    /// Ours without GRO and GSO.
    OursPlain,
    /// Ours.
    Ours,
}

impl Subject {
    /// All, coturn first.
    pub const ALL: [Self; 4] = [Self::Coturn, Self::Bare, Self::OursPlain, Self::Ours];

    /// In the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coturn => "coturn",
            Self::Bare => "bare recvmmsg/sendmmsg",
            Self::OursPlain => "ours, GRO/GSO off",
            Self::Ours => "ours, GRO/GSO on",
        }
    }

    /// Whether it asks the kernel for whole trains.
    pub const fn is_offloading(self) -> bool {
        matches!(self, Self::Ours)
    }

    const fn argument(self) -> &'static str {
        match self {
            Self::Coturn => "coturn",
            Self::Bare => "bare",
            Self::OursPlain => "ours-plain",
            Self::Ours => "ours",
        }
    }

    /// Starts it on a core, with its flows.
    pub fn start(self, core: usize, to: SocketAddr, sink: &UdpSocket) -> Result<Running, String> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
        let server = socket.local_addr().map_err(text)?;
        drop(socket);
        let mut command = match self {
            Self::Coturn => coturn(server.port()),
            _ => {
                let mut own = Command::new(std::env::current_exe().map_err(text)?);
                let (at, to) = (server.to_string(), to.to_string());
                own.args([
                    "relay-bench",
                    "--serve",
                    self.argument(),
                    "--at",
                    &at,
                    "--to",
                    &to,
                ]);
                own
            }
        };
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.name()))?;
        let mut running = Running {
            pid: child.id(),
            child,
            subject: self,
            flows: Vec::new(),
        };
        std::thread::sleep(Duration::from_millis(700));
        pin(running.pid, core)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(text)?;
        let now = Timestamp::from_secs(i64::try_from(since.as_secs()).unwrap_or(0));
        let secret = Secret::read(SECRET).map_err(text)?;
        for number in 0..FLOWS {
            let pair = Pair::from_bytes([u8::try_from(number).unwrap_or(0); 16]);
            let grant = secret.mint(now, pair, Duration::from_secs(3_600), REALM);
            running.flows.push(match self {
                Self::Bare => Flow::bare(server)?,
                _ => Flow::allocate(server, &grant, to, sink)?,
            });
        }
        Ok(running)
    }
}

fn coturn(port: u16) -> Command {
    let mut command = Command::new("turnserver");
    command
        .args([
            "-n",
            "-L",
            "127.0.0.1",
            "-E",
            "127.0.0.1",
            "-p",
            &port.to_string(),
        ])
        .args([
            "--use-auth-secret",
            &format!("--static-auth-secret={SECRET}"),
        ])
        .args([
            "-r",
            REALM,
            "--allow-loopback-peers",
            "--no-tls",
            "--no-dtls",
        ])
        .args([
            "--no-tcp",
            "--no-cli",
            "--relay-threads=1",
            "--log-file=/dev/null",
        ])
        .args([
            "--pidfile=/dev/null",
            "--min-port=20000",
            "--max-port=32000",
        ]);
    command
}

/// A process that is measured. It dies with this.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Its number.
    pub pid: u32,
    /// What it is.
    pub subject: Subject,
    /// Its clients.
    pub flows: Vec<Flow>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is what is measured, until standard input ends.
pub fn serve(what: &str, at: SocketAddr, to: SocketAddr) -> Result<(), String> {
    match what {
        "bare" => bare(at, to),
        "ours" => ours(at, true),
        "ours-plain" => ours(at, false),
        _ => Err(format!("{what} is none of bare, ours, ours-plain")),
    }
}

fn ours(at: SocketAddr, offload: bool) -> Result<(), String> {
    let rules = Rules {
        secret: Secret::read(SECRET).map_err(text)?,
        realm: REALM.into(),
        policy: Policy {
            own: vec![at.ip()],
            external: vec![at.ip()],
            services: vec![at.port()],
            networks: Vec::new(),
            ports: (20_000, 32_000),
            private: true,
        },
        quotas: Quotas {
            bytes: 1 << 60,
            rate: 1 << 40,
            ..Quotas::default()
        },
    };
    let settings = Settings {
        listen: vec![at],
        shards: 1,
        offload,
    };
    let (died, _deaths) = tokio::sync::mpsc::channel(1);
    let (rules, shared) = (Arc::new(rules), Arc::new(Shared::default()));
    let shards = Shards::start(&settings, &rules, &shared, Clock::start(), &died);
    let shards = shards.map_err(text)?;
    let _ = std::io::stdin().read(&mut [0]);
    drop(shards);
    Ok(())
}

fn bare(at: SocketAddr, to: SocketAddr) -> Result<(), String> {
    let socket = UdpSocket::bind(at).map_err(text)?;
    let out = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
    let mut receives = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let mut sends = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let mut buffers = vec![[0_u8; 2_048]; BATCH];
    let addresses = [Some(SockaddrStorage::from(to)); BATCH];
    loop {
        let mut lengths = [0; BATCH];
        let mut count = 0;
        {
            let mut slices: Vec<[IoSliceMut<'_>; 1]> = buffers
                .iter_mut()
                .map(|buffer| [IoSliceMut::new(buffer)])
                .collect();
            let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_WAITFORONE);
            let came = recvmmsg(fd, &mut receives, slices.iter_mut(), flags, None).map_err(text)?;
            for (length, message) in lengths.iter_mut().zip(came) {
                *length = message.bytes;
                count += 1;
            }
        }
        let slices: Vec<[IoSlice<'_>; 1]> = buffers
            .iter()
            .zip(lengths)
            .take(count)
            .map(|(buffer, length)| [IoSlice::new(buffer.get(4..length).unwrap_or_default())])
            .collect();
        let flags = MsgFlags::empty();
        let addresses = addresses.get(..count).unwrap_or_default();
        let _ = sendmmsg(out.as_raw_fd(), &mut sends, &slices, addresses, [], flags);
    }
}
