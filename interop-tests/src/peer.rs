//! DOOR: drives real processes: an agency made by the relay's own commands, its relay, and
//! nodes spoken to by JSON lines. Every wait has a deadline; every process ends with its
//! handle.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use suora_node::command::demo::free_port;
use suora_node::intent::Intent;
use suora_node::remote::client::Client;
use suora_protocol::documents::{self, Credential, Descriptor, DeskId, Role, Signed, Verified};
use suora_protocol::fault::Code;
use suora_protocol::identity::{Key, PeerId};
use suora_protocol::time::Timestamp;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// What went wrong, with the last lines of the process's log.
pub type Failure = String;

/// How long a step may take on a busy machine.
pub const STEP: Duration = Duration::from_secs(40);
/// How long a process may take to be ready on a busy machine.
const READY: Duration = Duration::from_secs(30);

/// When nothing was shown for this long, all that was shown is read.
const QUIET: Duration = Duration::from_millis(300);

/// The desk that every agency here has.
pub const DESK: &str = "advice";

/// An agency on loopback, in a folder that goes with it.
#[derive(Debug)]
pub struct Agency {
    dir: tempfile::TempDir,
    program: PathBuf,
    /// Port of the control plane.
    pub control: u16,
    /// Port of the control plane's WebSocket.
    pub websocket: u16,
    /// Port of the public pages.
    pub http: u16,
    /// Port of the metrics.
    pub metrics: u16,
    /// What its processes log, as `SUORA_LOG` says it; empty is what they log by default.
    pub log: &'static str,
}

impl Agency {
    /// Makes an agency with one desk, by `program relay init`.
    pub async fn new(program: &Path) -> Result<Self, Failure> {
        Self::with_desks(program, &[DESK]).await
    }

    /// Makes an agency with these desks.
    pub async fn with_desks(program: &Path, desks: &[&str]) -> Result<Self, Failure> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let port = || free_port().map_err(|fault| fault.to_string());
        let agency = Self {
            dir,
            program: program.into(),
            control: port()?,
            websocket: port()?,
            http: port()?,
            metrics: port()?,
            log: "",
        };
        let mut arguments = vec![
            "init".to_string(),
            agency.dir().display().to_string(),
            "--domain".into(),
            "agency.invalid".into(),
            "--host".into(),
            "127.0.0.1".into(),
        ];
        for (option, port) in [
            ("--control-port", agency.control),
            ("--websocket-port", agency.websocket),
            ("--http-port", agency.http),
            ("--metrics-port", agency.metrics),
        ] {
            arguments.extend([option.into(), port.to_string()]);
        }
        for desk in desks {
            arguments.extend(["--desk".into(), (*desk).into()]);
        }
        agency.relay_command(&arguments).await?;
        Ok(agency)
    }

    /// The folder of the agency.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().join("agency")
    }

    /// The relay's peer id.
    pub fn relay_peer(&self) -> Result<String, Failure> {
        let key = suora_relay::keys::load(&self.dir().join("relay/relay.key"));
        let key: Key = key.map_err(|fault| fault.to_string())?;
        Ok(key.peer_id().to_text())
    }

    /// A path beside the agency's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The signed descriptor.
    pub fn descriptor(&self) -> PathBuf {
        self.dir().join("relay/descriptor.cose")
    }

    /// Runs `relay` or `node` with these arguments to its end: whether it succeeded, and what
    /// it said on standard output.
    pub async fn said(
        &self,
        program: &str,
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> Result<(bool, String), Failure> {
        let output = Command::new(&self.program)
            .arg(program)
            .arg("--")
            .args(arguments)
            .env("LC_ALL", "C")
            .envs(environment.iter().copied())
            .output()
            .await
            .map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((output.status.success(), said))
    }

    /// Runs a command of the relay's program to its end; what it printed.
    pub async fn relay_command<S: AsRef<OsStr> + Debug>(
        &self,
        arguments: &[S],
    ) -> Result<String, Failure> {
        let output = Command::new(&self.program)
            .arg("relay")
            .arg("--")
            .args(arguments)
            .output()
            .await
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!(
                "{arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            ))
        }
    }

    /// A new officer's key file and its credential for `desks`, by `issue officer`.
    pub async fn officer(&self, name: &str, desks: &[&str]) -> Result<(PathBuf, PathBuf), Failure> {
        let (key, peer) = self.key(name)?;
        let credential = self.file(&format!("{name}.credential"));
        self.issue(name, peer, desks, &credential).await?;
        Ok((key, credential))
    }

    /// A credential for `desks`, by `issue officer`.
    pub async fn issue(
        &self,
        name: &str,
        peer: PeerId,
        desks: &[&str],
        credential: &Path,
    ) -> Result<(), Failure> {
        let mut arguments = vec![
            "issue".to_string(),
            "officer".into(),
            "--issuing".into(),
            self.dir().join("issuing").display().to_string(),
            "--descriptor".into(),
            self.descriptor().display().to_string(),
            "--peer".into(),
            peer.to_text(),
            "--name".into(),
            name.into(),
            "--out".into(),
            credential.display().to_string(),
        ];
        for desk in desks {
            arguments.extend(["--desk".into(), (*desk).into()]);
        }
        self.relay_command(&arguments).await.map(drop)
    }

    /// Brings credentials to the running relay, by `credential add`; what it printed.
    pub async fn enrol(&self, credentials: &[&Path]) -> Result<String, Failure> {
        let relay = self.dir().join("relay");
        let mut arguments = vec![
            "credential".as_ref(),
            "add".as_ref(),
            "--relay".as_ref(),
            relay.as_os_str(),
        ];
        arguments.extend(credentials.iter().map(|path| path.as_os_str()));
        self.relay_command(&arguments).await
    }

    /// A new key file, and the peer id of its node key.
    pub fn key(&self, name: &str) -> Result<(PathBuf, PeerId), Failure> {
        let path = self.file(&format!("{name}.key"));
        let seed = suora_node::keys::create(&path).map_err(|fault| fault.to_string())?;
        Ok((path, seed.node_key().peer_id()))
    }

    /// A new key file, and the peer id that a citizen with it has at this agency.
    pub fn citizen(&self, name: &str) -> Result<(PathBuf, PeerId), Failure> {
        let path = self.file(&format!("{name}.key"));
        let seed = suora_node::keys::create(&path).map_err(|fault| fault.to_string())?;
        let agency = self.page()?.agency;
        Ok((path, seed.citizen_key(&agency).peer_id()))
    }

    /// The descriptor, verified as given.
    pub fn page(&self) -> Result<Verified<Descriptor>, Failure> {
        let bytes = std::fs::read(self.descriptor()).map_err(|error| error.to_string())?;
        let now = suora_node::clock::Clock::start().now().utc;
        Signed::from_bytes(bytes)
            .and_then(|signed| documents::chain::descriptor_as_given(&signed, now))
            .map_err(|fault| fault.to_string())
    }

    /// A credential whose fields a test chose, signed with the agency's issuing key.
    pub fn credential(
        &self,
        name: &str,
        peer: PeerId,
        desk: &str,
        (not_before, not_after): (Timestamp, Timestamp),
    ) -> Result<PathBuf, Failure> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let key: Key = suora_relay::keys::load(&self.dir().join("issuing/issuing.key"))
            .map_err(|fault| text(&fault))?;
        let descriptor = self.page()?;
        let listed = descriptor
            .keys
            .iter()
            .find(|listed| listed.key == key.peer_id())
            .ok_or("the issuing key is not in the descriptor")?;
        let credential = Credential {
            agency: descriptor.agency,
            peer,
            role: Role::Officer,
            desks: vec![DeskId::new(desk).map_err(|fault| text(&fault))?],
            name: name.into(),
            key: listed.id.clone(),
            issued_at: not_before,
            not_before,
            not_after,
        };
        let signed = documents::sign(&credential, &key).map_err(|fault| text(&fault))?;
        let path = self.file(&format!("{name}.credential"));
        std::fs::write(&path, signed.bytes()).map_err(|error| text(&error))?;
        Ok(path)
    }

    /// Starts the relay, with faults, and waits until it says that it is ready.
    pub async fn serve(&self, faults: &[&str]) -> Result<Process, Failure> {
        let mut command = Command::new(&self.program);
        command.arg("relay");
        for fault in faults {
            command.args(["--fault", fault]);
        }
        command
            .args(["--", "serve"])
            .arg(self.dir().join("relay"))
            .stdout(Stdio::piped());
        self.logs(&mut command);
        let mut process = Process::start(command, &self.file("relay.log"))?;
        let stdout = process.child.stdout.take().ok_or("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with("ready") {
                    return true;
                }
            }
            false
        };
        match tokio::time::timeout(READY, ready).await {
            Ok(true) => Ok(process),
            _ => Err(format!("the relay is not ready: {}", process.log())),
        }
    }

    /// Starts a node: `role` is `call` or `officer`; the common arguments are added.
    pub async fn node(
        &self,
        name: &str,
        role: &str,
        key: &Path,
        faults: &[&str],
        arguments: &[&str],
    ) -> Result<Peer, Failure> {
        let control = self.file(&format!("{name}.sock"));
        let mut command = self.command(name, role, key, faults, arguments);
        command.args(["--control".as_ref(), control.as_os_str()]);
        let process = Process::start(command, &self.file(&format!("{name}.log")))?;
        Peer::connect(name, process, &control, self.report_file(name)).await
    }

    /// Starts an officer's node, which attends when this returns.
    pub async fn attend(
        &self,
        key: &Path,
        faults: &[&str],
        arguments: &[&str],
    ) -> Result<Peer, Failure> {
        let mut officer = self
            .node("officer", "officer", key, faults, arguments)
            .await?;
        officer
            .until("attending", STEP, |view| view["view"] == "attending")
            .await?;
        Ok(officer)
    }

    /// Runs a node to its end, without a word to it; whether it succeeded, and its report.
    pub async fn run(
        &self,
        name: &str,
        role: &str,
        key: &Path,
        arguments: &[&str],
    ) -> Result<(bool, Value), Failure> {
        let command = self.command(name, role, key, &[], arguments);
        let mut process = Process::start(command, &self.file(&format!("{name}.log")))?;
        let status = process.exit(READY).await?;
        let report = read_report(&self.report_file(name))
            .map_err(|why| format!("{name}: {why}; {}", process.log()))?;
        Ok((status.success(), report))
    }

    /// The list of the devices that a node has, if there is such a file when it starts.
    pub fn devices_file(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.devices"))
    }

    fn logs(&self, command: &mut Command) {
        if !self.log.is_empty() {
            command.env("SUORA_LOG", self.log);
        }
    }

    /// Changes the agency's page, and signs it anew.
    pub async fn change_page(&self, from: &str, to: &str) -> Result<(), Failure> {
        let root = self.dir().join("root");
        let page = root.join("descriptor.toml");
        let text = std::fs::read_to_string(&page).map_err(|error| error.to_string())?;
        if !text.contains(from) {
            return Err(format!("no {from} in {text}"));
        }
        std::fs::write(&page, text.replace(from, to)).map_err(|error| error.to_string())?;
        let out = self.descriptor();
        let arguments = [
            "descriptor".as_ref(),
            "sign".as_ref(),
            "--root".as_ref(),
            root.as_os_str(),
            "--out".as_ref(),
            out.as_os_str(),
        ];
        self.relay_command(&arguments).await.map(drop)
    }

    fn report_file(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.json"))
    }

    fn command(
        &self,
        name: &str,
        role: &str,
        key: &Path,
        faults: &[&str],
        arguments: &[&str],
    ) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("node");
        for fault in faults {
            command.args(["--fault", fault]);
        }
        command
            .args(["--", role, "--loopback"])
            .args(["--key".as_ref(), key.as_os_str()])
            .args(["--report".as_ref(), self.report_file(name).as_os_str()])
            .args(arguments)
            .env("XDG_DATA_HOME", self.dir.path())
            .stdout(Stdio::null());
        self.logs(&mut command);
        if !arguments.contains(&"--agency") {
            command.args(["--agency".as_ref(), self.descriptor().as_os_str()]);
        }
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !arguments.contains(&"--desk") {
            command.args(["--desk", DESK]);
        }
        // never this machine's own camera, microphone and loudspeaker
        let devices = self.devices_file(name);
        if devices.exists() {
            command.env("SUORA_DEVICES", devices);
        } else {
            command.env("SUORA_DEVICES", "{}");
            if !arguments.contains(&"--camera") {
                command.args(["--camera", "pattern"]);
            }
        }
        command
    }
}

fn read_report(path: &Path) -> Result<Value, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("no report: {error}"))?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// A process that ends with this handle; its standard error is a file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(mut command: Command, log: &Path) -> Result<Self, Failure> {
        let file = std::fs::File::create(log).map_err(|error| error.to_string())?;
        let child = command
            // tests read English
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            child,
            log: log.into(),
        })
    }

    /// What it said on standard error, the last 2000 bytes.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(2_000);
        let start = (start..text.len())
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text[start..].to_string()
    }

    /// The file of what it said on standard error.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Its number; none: it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// `kill -9`.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|error| error.to_string())
    }

    /// SIGTERM.
    pub fn terminate(&self) -> Result<(), Failure> {
        self.signal(Signal::SIGTERM)
    }

    /// SIGHUP: the descriptor on disk is new.
    pub fn hang_up(&self) -> Result<(), Failure> {
        self.signal(Signal::SIGHUP)
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let id = self.child.id().ok_or("it has ended")?;
        let id = i32::try_from(id).map_err(|error| error.to_string())?;
        kill(Pid::from_raw(id), signal).map_err(|error| error.to_string())
    }

    /// Waits for its end.
    pub async fn exit(&mut self, within: Duration) -> Result<ExitStatus, Failure> {
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(status) => status.map_err(|error| error.to_string()),
            Err(_) => Err(format!("it did not end within {within:?}: {}", self.log())),
        }
    }
}

/// A node, spoken to by JSON lines.
#[derive(Debug)]
pub struct Peer {
    /// For messages of tests.
    pub name: String,
    /// Its process.
    pub process: Process,
    client: Client,
    report: PathBuf,
    /// All views so far.
    pub seen: Vec<Value>,
}

impl Peer {
    async fn connect(
        name: &str,
        mut process: Process,
        control: &Path,
        report: PathBuf,
    ) -> Result<Self, Failure> {
        let client = tokio::select! {
            client = Client::connect(control, READY) => client.map_err(|fault| fault.to_string()),
            status = process.child.wait() => Err(format!("ended: {status:?}")),
        };
        Ok(Self {
            client: client.map_err(|why| format!("{name}: {why}; {}", process.log()))?,
            name: name.into(),
            process,
            report,
            seen: Vec::new(),
        })
    }

    /// Says an intent.
    pub async fn say(&mut self, intent: Intent) -> Result<(), Failure> {
        self.client
            .say(&intent)
            .await
            .map_err(|fault| format!("{}: {fault}", self.name))
    }

    /// The next view that fits. Those before it are in [`Peer::seen`].
    pub async fn until(
        &mut self,
        what: &str,
        within: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<Value, Failure> {
        let seen = &mut self.seen;
        let found = self
            .client
            .until(what, within, |view| {
                seen.push(view.clone());
                fits(view)
            })
            .await;
        found.map_err(|fault| {
            let last: Vec<_> = self.seen.iter().rev().take(5).collect();
            format!(
                "{}: {fault}; last views {last:?}; {}",
                self.name,
                self.process.log()
            )
        })
    }

    /// Waits until the session is at this stage.
    pub async fn stage(&mut self, stage: &str, within: Duration) -> Result<Value, Failure> {
        self.until(stage, within, |view| {
            view["view"] == "session" && view["stage"] == stage
        })
        .await
    }

    /// Takes all views that wait to be read.
    pub async fn settle(&mut self) -> Result<(), Failure> {
        let seen = &mut self.seen;
        let quiet = self.client.until("nothing", QUIET, |view| {
            seen.push(view.clone());
            false
        });
        match quiet.await {
            // the time is over, and nothing more has come
            Err(fault) if fault.code == Code::Timeout => Ok(()),
            Err(fault) => Err(format!("{}: {fault}", self.name)),
            Ok(_) => Ok(()),
        }
    }

    /// The call report that the node wrote.
    pub fn report(&self) -> Result<Value, Failure> {
        read_report(&self.report)
            .map_err(|why| format!("{}: {why}; {}", self.name, self.process.log()))
    }
}
