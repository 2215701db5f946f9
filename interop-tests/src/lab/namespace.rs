//! DOOR: network namespaces. The lab moves into namespaces of its own first (`unshare`: network,
//! mounts, processes, and users where it is not root), and makes all others inside. So it cannot
//! touch the machine's own network, and whatever ends it, also `kill -9`, ends its processes and
//! with them every namespace: the kernel cleans up, and nothing has to be found again later.
#![expect(
    clippy::disallowed_methods,
    reason = "door: namespaces, threads in them and their sockets"
)]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::peer::Failure;

/// Says to the program that it is the lab inside.
const INSIDE: &str = "SUORA_LAB_INSIDE";
/// All of the lab's own namespaces; with its first process everything in them ends.
const OWN: &[&str] = &[
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];
/// Where that needs a user namespace.
const AS_USER: &[&str] = &["--user", "--map-root-user"];

/// Where programs are: those of administrators too, which people's own list leaves out.
fn path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    format!("{own}:/usr/local/sbin:/usr/sbin:/sbin")
}

/// How namespaces can be made here: more arguments of `unshare`; or why not.
pub fn possible() -> Result<&'static [&'static str], Failure> {
    for (program, package) in [("ip", "iproute2"), ("nft", "nftables"), ("mount", "mount")] {
        let found = Command::new(program)
            .arg("-V")
            .env("PATH", path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if found.is_err() {
            return Err(format!("{program} is not installed (package {package})"));
        }
    }
    let mut said = String::new();
    for more in [&[], AS_USER] {
        // a file system of its own too, as the lab needs one
        let output = Command::new("unshare")
            .args(OWN)
            .args(more)
            .args(["mount", "-t", "tmpfs", "tmpfs", "/run"])
            .output()
            .map_err(|error| format!("unshare (package util-linux): {error}"))?;
        if output.status.success() {
            return Ok(more);
        }
        said = String::from_utf8_lossy(&output.stderr).trim().into();
    }
    Err(format!(
        "neither root nor a user may make namespaces: {said}"
    ))
}

/// Whether this process is the lab inside its own namespaces.
pub fn inside() -> bool {
    std::env::var_os(INSIDE).is_some() && std::process::id() == 1
}

/// Goes on as the same program, with the same arguments, inside. It returns only what failed.
pub fn enter() -> Failure {
    let more = match possible() {
        Ok(more) => more,
        Err(why) => return why,
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error.to_string(),
    };
    let error = Command::new("unshare")
        .args(OWN)
        .args(more)
        .arg("--")
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .env("PATH", path())
        // what is put there goes with the lab, however it ends
        .env("TMPDIR", "/run")
        .exec();
    format!("unshare: {error}")
}

/// Prepares the lab inside: a place for the names of namespaces that nobody else sees.
pub fn prepare() -> Result<(), Failure> {
    // in a new namespace nothing is up, not even loopback
    let up = command("ip", &["-brief", "link", "show", "up"], "")?;
    if !up.trim().is_empty() {
        return Err(format!(
            "this is no network namespace of the lab's own: {up}"
        ));
    }
    command("mount", &["-t", "tmpfs", "tmpfs", "/run"], "")?;
    std::fs::create_dir("/run/netns").map_err(|error| error.to_string())
}

/// Runs a program to its end with this input; what it said.
pub fn command<S: AsRef<OsStr>>(
    program: &str,
    arguments: &[S],
    input: &str,
) -> Result<String, Failure> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // one that ends without reading says itself why
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{program} ended with {}: {said}{input}",
        output.status
    ))
}

/// A network namespace of the lab.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// As `ip netns` lists it inside the lab.
    pub name: String,
    file: Arc<File>,
}

impl Namespace {
    /// A new one, with nothing but loopback.
    pub fn add(name: &str) -> Result<Self, Failure> {
        command("ip", &["netns", "add", name], "")?;
        let file = File::open(format!("/run/netns/{name}")).map_err(|error| error.to_string())?;
        Ok(Self {
            name: name.into(),
            file: Arc::new(file),
        })
    }

    /// Does something in it, on a thread of its own. What is made there stays there: sockets,
    /// and processes.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Failure> {
        let there = || setns(&self.file, CloneFlags::CLONE_NEWNET).map(|()| work());
        let done = std::thread::scope(|scope| scope.spawn(there).join());
        match done {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(format!("namespace {}: {error}", self.name)),
            Err(_) => Err(format!("namespace {}: its thread panicked", self.name)),
        }
    }

    /// Runs a program in it to its end.
    pub fn run<S: AsRef<OsStr> + Sync>(
        &self,
        program: &str,
        arguments: &[S],
        input: &str,
    ) -> Result<String, Failure> {
        self.within(|| command(program, arguments, input))?
            .map_err(|why| format!("namespace {}: {why}", self.name))
    }

    /// Runs lines of `ip`.
    pub fn ip(&self, lines: &[String]) -> Result<(), Failure> {
        let mut input = lines.join("\n");
        input.push('\n');
        self.run("ip", &["-batch", "-"], &input).map(drop)
    }

    /// Sets kernel settings under `/proc/sys/net`. Those that this kernel has not are left out if
    /// they end with `?`.
    pub fn settings(&self, settings: &[(String, String)]) -> Result<(), Failure> {
        let set = || {
            settings.iter().try_for_each(|(name, value)| {
                let (name, optional) = match name.strip_suffix('?') {
                    Some(name) => (name, true),
                    None => (name.as_str(), false),
                };
                let path = format!("/proc/sys/net/{name}");
                match std::fs::write(&path, value) {
                    Err(error) if !(optional && error.kind() == io::ErrorKind::NotFound) => {
                        Err(format!("{path}: {error}"))
                    }
                    _ => Ok(()),
                }
            })
        };
        self.within(set)?
    }

    /// A UDP socket in it.
    pub fn udp(&self, at: SocketAddr) -> Result<UdpSocket, Failure> {
        let bind = || {
            let socket = UdpSocket::bind(at)?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        };
        let bound = self.within(bind)?;
        bound.map_err(|error| format!("namespace {}: {at}: {error}", self.name))
    }

    /// A listening TCP socket in it.
    pub fn listen(&self, at: SocketAddr) -> Result<TcpListener, Failure> {
        let bind = || {
            let socket = TcpListener::bind(at)?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        };
        let bound = self.within(bind)?;
        bound.map_err(|error| format!("namespace {}: {at}: {error}", self.name))
    }

    /// A TCP connection from it.
    pub fn connect(&self, to: SocketAddr, within: Duration) -> Result<TcpStream, Failure> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&to, within)?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            io::Result::Ok(stream)
        };
        let connected = self.within(connect)?;
        connected.map_err(|error| format!("namespace {}: {to}: {error}", self.name))
    }
}
