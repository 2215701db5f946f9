//! DOOR: drives real processes: an agency made by the relay's own commands, its relay, and
//! nodes spoken to by JSON lines. Every wait has a deadline; every process ends with its
//! handle.

mod process;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use suora_node::command::demo::free_port;
use suora_node::intent::Intent;
use suora_node::remote::client::Client;
use suora_protocol::documents::{self, Credential, Descriptor, DeskId, Role, Signed, Verified};
use suora_protocol::fault::Code;
use suora_protocol::identity::{Key, PeerId};
use suora_protocol::time::Timestamp;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::runtime::Handle;

use crate::lab::namespace::Namespace;
pub use process::Process;

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

/// An agency on loopback or in the network lab, in a folder that goes with it.
#[derive(Debug)]
pub struct Agency {
    dir: tempfile::TempDir,
    program: PathBuf,
    /// Where its processes run, by name, `relay` among them; the others are on loopback.
    pub places: BTreeMap<String, Namespace>,
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
        let mut ports = [0; 4];
        for port in &mut ports {
            *port = free_port().map_err(|fault| fault.to_string())?;
        }
        Self::at(program, IpAddr::from([127, 0, 0, 1]), ports, desks).await
    }

    /// Makes an agency whose relay is at this address; its ports are those of the control plane,
    /// of the WebSocket, of the public pages, and of the metrics.
    pub async fn at(
        program: &Path,
        host: IpAddr,
        ports: [u16; 4],
        desks: &[&str],
    ) -> Result<Self, Failure> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let [control, websocket, http, metrics] = ports;
        let agency = Self {
            dir,
            program: program.into(),
            places: BTreeMap::new(),
            control,
            websocket,
            http,
            metrics,
            log: "",
        };
        let mut arguments = vec!["init".to_string(), agency.dir().display().to_string()];
        for (option, value) in [
            ("--domain", "agency.invalid".into()),
            ("--host", host.to_string()),
            ("--control-port", control.to_string()),
            ("--websocket-port", websocket.to_string()),
            ("--http-port", http.to_string()),
            ("--metrics-port", metrics.to_string()),
        ] {
            arguments.extend([option.into(), value]);
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
        let mut process = self.start("relay", command)?;
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
        let process = self.start(name, command)?;
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
        let mut process = self.start(name, command)?;
        let status = process.exit(READY).await?;
        let report = read_report(&self.report_file(name))
            .map_err(|why| format!("{name}: {why}; {}", process.log()))?;
        Ok((status.success(), report))
    }

    /// The list of the devices that a node has, if there is such a file when it starts.
    pub fn devices_file(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.devices"))
    }

    /// Starts a process where its place is.
    fn start(&self, name: &str, command: Command) -> Result<Process, Failure> {
        let log = self.file(&format!("{name}.log"));
        let Some(place) = self.places.get(name) else {
            return Process::start(command, &log);
        };
        let runtime = Handle::current();
        place.within(|| {
            let _inside = runtime.enter();
            Process::start(command, &log)
        })?
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

    /// From its next start on the relay lends TURN, here on loopback, and its page lists it; all
    /// desks hide addresses until the accept.
    pub async fn lend(&self) -> Result<(), Failure> {
        let port = free_port().map_err(|fault| fault.to_string())?;
        let settings = self.dir().join("relay/relay.toml");
        let text = std::fs::read_to_string(&settings).map_err(|error| error.to_string())?;
        let turn = format!(
            "[turn]\nudp = \"127.0.0.1:{port}\"\nports = [33000, 48999]\nprivate_peers = true\n"
        );
        std::fs::write(&settings, format!("{text}\n{turn}")).map_err(|error| error.to_string())?;
        let listed = format!("turn = [\"turn:127.0.0.1:{port}?transport=udp\"]\nrevoked =");
        self.change_page("revoked =", &listed).await?;
        let [open, hidden] =
            ["open", "after-accept"].map(|policy| format!("address_policy = \"{policy}\""));
        self.change_page(&open, &hidden).await
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
            .args(["--", role])
            .args(["--key".as_ref(), key.as_os_str()])
            .args(["--report".as_ref(), self.report_file(name).as_os_str()])
            .args(arguments)
            .env("XDG_DATA_HOME", self.dir.path())
            .stdout(Stdio::null());
        self.logs(&mut command);
        if !arguments.contains(&"--agency") {
            command.args(["--agency".as_ref(), self.descriptor().as_os_str()]);
        }
        if !self.places.contains_key(name) {
            command.arg("--loopback");
            if !arguments.contains(&"--listen") {
                command.args(["--listen", "127.0.0.1:0"]);
            }
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
