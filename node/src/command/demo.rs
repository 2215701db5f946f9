//! DOOR: `suora demo`: an agency, its relay, an officer's node and a citizen's node as
//! separate processes on this machine, with keys made on the spot and real media. What
//! they saw and heard, and their reports, stay in a folder.
#![expect(clippy::disallowed_methods, reason = "door: free ports, sockets")]

use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use suora_protocol::fault::{Code, Fault};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::capture::{file, mp4};
use crate::intent::Intent;
use crate::keys;
use crate::play::sheet;
use crate::remote::client::Client;
use crate::status::summary::{self, Step};
use crate::status::verdict::{self, Missing, Recorded};
use crate::text::Texts;

const OFFICER_CLIP: &[u8] = include_bytes!("../../assets/clips/officer.mp4");
const CITIZEN_CLIP: &[u8] = include_bytes!("../../assets/clips/citizen.mp4");
/// How long a process may take to be ready on a busy machine.
const READY: Duration = Duration::from_secs(30);
/// How long a step of the consultation may take.
const STEP: Duration = Duration::from_secs(30);
const DESK: &str = "advice";

/// See it work: a relay, an officer and a citizen on this machine.
#[derive(Debug, Args)]
pub struct Demo {
    /// Where recordings, contact sheets and reports go. Made anew each time.
    #[arg(long, value_name = "DIR", default_value = "target/demo")]
    dir: PathBuf,
    /// How long the two talk, in seconds.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(3..=3_600))]
    seconds: u32,
    /// The relay's program. By default suora-relay beside this one.
    #[arg(long, value_name = "FILE")]
    relay: Option<PathBuf>,
    /// The program of both nodes. By default this one.
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
}

/// Two programs, a folder, and how to tell the person where we are.
struct Stage<'a> {
    texts: &'a Texts,
    dir: PathBuf,
    node: PathBuf,
    relay: PathBuf,
    step: u32,
}

const STEPS: u32 = 6;

impl Demo {
    /// Runs it; 0 only when the consultation was completed at both ends.
    pub async fn run(self, texts: &Texts) -> Result<u8, Fault> {
        let own = std::env::current_exe().map_err(|error| internal(&error))?;
        let relay = self
            .relay
            .unwrap_or_else(|| own.with_file_name("suora-relay"));
        let node = self.node.unwrap_or(own);
        for (program, option) in [(&relay, "--relay"), (&node, "--node")] {
            if !program.is_file() {
                return Err(Fault::new(Code::BadConfig).with(format!(
                    "{} is not there: build it (cargo build --release --workspace), or name it with {option}",
                    program.display()
                )));
            }
        }
        println!("{}", summary::demo_begins(self.seconds.into(), texts));
        let mut stage = Stage {
            texts,
            dir: self.dir,
            node,
            relay,
            step: 0,
        };
        stage.prepare()?;
        stage.play(self.seconds).await
    }
}

fn internal(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(Code::Internal).with(error.to_string())
}

fn file_fault(path: &Path) -> impl FnOnce(std::io::Error) -> Fault + '_ {
    move |error| Fault::new(Code::BadFile).with(format!("{}: {error}", path.display()))
}

/// A port of loopback that is free for UDP and TCP now. None is [`Code::Busy`].
pub fn free_port() -> Result<u16, Fault> {
    // below the ports that the system gives to whoever asks for any: between now and the
    // relay's start nobody is given it
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() * 64 % 20_000).unwrap_or(0);
    for _ in 0..1_000 {
        let next = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(begin);
        let port = 12_000 + next % 20_000;
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(port);
        }
    }
    Err(Fault::new(Code::Busy).with("no free port on loopback"))
}

impl Stage<'_> {
    fn tell(&mut self, step: Step) {
        self.step += 1;
        println!("[{}/{STEPS}] {}", self.step, step.text(self.texts));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn prepare(&self) -> Result<(), Fault> {
        if self.dir.exists() {
            // only ever a folder that an earlier run made
            if !self.file("agency").is_dir() {
                return Err(Fault::new(Code::BadFile).with(format!(
                    "{} holds something else; name another folder with --dir",
                    self.dir.display()
                )));
            }
            std::fs::remove_dir_all(&self.dir).map_err(file_fault(&self.dir))?;
        }
        let agency = self.file("agency");
        std::fs::create_dir_all(&agency).map_err(file_fault(&agency))?;
        for (name, clip) in [("officer", OFFICER_CLIP), ("citizen", CITIZEN_CLIP)] {
            let path = agency.join(format!("{name}.mp4"));
            std::fs::write(&path, clip).map_err(file_fault(&path))?;
        }
        Ok(())
    }

    /// Runs a command of the relay's program to its end.
    async fn relay_command(&self, arguments: &[&OsStr]) -> Result<String, Fault> {
        let output = Command::new(&self.relay)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(file_fault(&self.relay))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Fault::new(Code::Internal).with(said))
    }

    async fn play(&mut self, seconds: u32) -> Result<u8, Fault> {
        self.tell(Step::Keys);
        let agency = self.file("agency/keys");
        let http = free_port()?;
        let root = self.make_agency(&agency, http).await?;

        self.tell(Step::Relay);
        let mut relay = self.serve(&agency).await?;

        self.tell(Step::Officer);
        let address = format!("http://127.0.0.1:{http}#root={root}");
        let (key, credential) = (
            agency.join("officer.key"),
            agency.join("officer.credential"),
        );
        let (mut officer, mut officer_says) = self
            .node(
                "officer",
                &address,
                &[
                    "--auto-accept".as_ref(),
                    "--key".as_ref(),
                    key.as_ref(),
                    "--credential".as_ref(),
                    credential.as_ref(),
                ],
            )
            .await?;
        officer_says
            .until("the officer attends", STEP, |view| {
                view["view"] == "attending"
            })
            .await?;

        self.tell(Step::Citizen);
        keys::create(&agency.join("citizen.key"))?;
        let (key, time) = (agency.join("citizen.key"), seconds.to_string());
        let (mut citizen, mut citizen_says) = self
            .node(
                "citizen",
                &address,
                &[
                    "--key".as_ref(),
                    key.as_ref(),
                    "--seconds".as_ref(),
                    time.as_ref(),
                ],
            )
            .await?;
        let accepted = |view: &Value| view["view"] == "session" && view["stage"] == "accepted";
        citizen_says
            .until("the officer accepts", STEP, accepted)
            .await?;
        officer_says.until("the accept", STEP, accepted).await?;

        self.tell(Step::Talk);
        self.chat(&mut citizen_says, &mut officer_says).await?;
        let shown = self.watch(&mut citizen_says, seconds);
        tokio::time::timeout(Duration::from_secs(u64::from(seconds)) + STEP, shown)
            .await
            .map_err(|_| Fault::new(Code::Timeout).with("the consultation did not end"))?;
        let mut missing = Vec::new();
        for (name, child) in [("citizen", &mut citizen), ("officer", &mut officer)] {
            let status = tokio::time::timeout(STEP, child.wait())
                .await
                .map_err(|_| Fault::new(Code::Timeout).with("a node did not end"))?
                .map_err(|error| internal(&error))?;
            if !status.success() {
                missing.push((name, Missing::Consultation));
            }
        }
        stop(&mut relay).await?;

        self.tell(Step::Files);
        for name in ["citizen", "officer"] {
            let report = self.report(name)?;
            let recorded = self.look(name).await?;
            println!("\n{}", summary::lines(&report, self.texts).join("\n"));
            for lack in verdict::missing(&report, recorded, seconds) {
                if !missing.contains(&(name, lack)) {
                    missing.push((name, lack));
                }
            }
        }
        println!();
        let folder = self.dir.display().to_string();
        println!("{}", summary::demo_ended(&missing, &folder, self.texts));
        for name in ["citizen", "officer"] {
            for end in ["-saw.mp4", "-saw.png", ".json"] {
                if self.file(&format!("{name}{end}")).exists() {
                    println!("  {name}{end}");
                }
            }
        }
        Ok(u8::from(!missing.is_empty()))
    }

    /// What an end recorded, with a contact sheet of its pictures beside it.
    async fn look(&self, name: &str) -> Result<Recorded, Fault> {
        let movie = self.file(&format!("{name}-saw.mp4"));
        let png = self.file(&format!("{name}-saw.png"));
        if !movie.exists() {
            // an end that saw and heard nothing leaves no file
            return Ok(Recorded::default());
        }
        tokio::task::spawn_blocking(move || {
            let found = mp4::read(&file::bytes(&movie)?).map_err(|why| file::bad(&movie, why))?;
            let recorded = Recorded {
                pictures: found.video.map_or(0, |units| units.len() as u64),
                sounds: found.sound.map_or(0, |sound| sound.packets.len() as u64),
            };
            if recorded.pictures > 0 {
                sheet::contact_sheet(&movie, &png, 4, 3)?;
            }
            Ok(recorded)
        })
        .await
        .map_err(|error| internal(&error))?
    }

    /// An agency with one desk and one officer; returns its root id.
    async fn make_agency(&self, agency: &Path, http: u16) -> Result<String, Fault> {
        let (control, metrics) = (free_port()?.to_string(), free_port()?.to_string());
        let http = http.to_string();
        let init: [&OsStr; 18] = [
            "init".as_ref(),
            agency.as_ref(),
            "--domain".as_ref(),
            "demo.invalid".as_ref(),
            "--name".as_ref(),
            "en=Demo Agency".as_ref(),
            "--name".as_ref(),
            "fi=Esittelyvirasto".as_ref(),
            "--name".as_ref(),
            "sv=Demomyndigheten".as_ref(),
            "--desk".as_ref(),
            DESK.as_ref(),
            "--control-port".as_ref(),
            control.as_ref(),
            "--http-port".as_ref(),
            http.as_ref(),
            "--metrics-port".as_ref(),
            metrics.as_ref(),
        ];
        self.relay_command(&init).await?;
        let seed = keys::create(&agency.join("officer.key"))?;
        let peer = seed.node_key().peer_id().to_text();
        let (issuing, descriptor) = (agency.join("issuing"), agency.join("relay/descriptor.cose"));
        let credential = agency.join("officer.credential");
        let issue: [&OsStr; 14] = [
            "issue".as_ref(),
            "officer".as_ref(),
            "--issuing".as_ref(),
            issuing.as_ref(),
            "--descriptor".as_ref(),
            descriptor.as_ref(),
            "--peer".as_ref(),
            peer.as_ref(),
            "--desk".as_ref(),
            DESK.as_ref(),
            "--name".as_ref(),
            "Maija Virtanen".as_ref(),
            "--out".as_ref(),
            credential.as_ref(),
        ];
        self.relay_command(&issue).await?;
        let bytes = std::fs::read(&descriptor).map_err(file_fault(&descriptor))?;
        let page = suora_protocol::documents::chain::descriptor_as_given(
            &suora_protocol::documents::Signed::from_bytes(bytes)?,
            crate::clock::Clock::start().now().utc,
        )?;
        Ok(page.agency.to_text())
    }

    /// The relay, once it says that it is ready.
    async fn serve(&self, agency: &Path) -> Result<Child, Fault> {
        let mut child = Command::new(&self.relay)
            .arg("serve")
            .arg(agency.join("relay"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.log("relay")?)
            .kill_on_drop(true)
            .spawn()
            .map_err(file_fault(&self.relay))?;
        let stdout = child.stdout.take().ok_or_else(|| internal(&"no output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with("ready") {
                    return Ok(());
                }
            }
            Err(Fault::new(Code::RelayUnreachable).with("the relay ended; see relay.log"))
        };
        tokio::time::timeout(READY, ready)
            .await
            .unwrap_or_else(|_| Err(Fault::new(Code::Timeout).with("the relay is not ready")))?;
        Ok(child)
    }

    fn log(&self, name: &str) -> Result<std::fs::File, Fault> {
        let path = self.file(&format!("agency/{name}.log"));
        std::fs::File::create(&path).map_err(file_fault(&path))
    }

    /// A node as a process of its own, and its control socket.
    async fn node(
        &self,
        name: &str,
        address: &str,
        arguments: &[&OsStr],
    ) -> Result<(Child, Client), Fault> {
        let role = if name == "officer" { "officer" } else { "call" };
        // a socket's path is short on every system: a folder of its own in the temporary one
        let socket = std::env::temp_dir().join(format!("suora-{}-{name}", std::process::id()));
        // each demo's agency has the same domain and another root
        let memory = self.file("agency/memory");
        let memory = std::path::absolute(&memory).map_err(file_fault(&memory))?;
        let mut child = Command::new(&self.node)
            .args([role, "--agency", address, "--desk", DESK])
            .args(["--loopback", "--listen", "127.0.0.1:0"])
            .arg("--camera")
            .arg(self.file(&format!("agency/{name}.mp4")))
            .args(["--speaker", "none"])
            .arg("--record")
            .arg(&self.dir)
            .arg("--report")
            .arg(self.file(&format!("{name}.json")))
            .arg("--control")
            .arg(&socket)
            .args(arguments)
            .env("XDG_DATA_HOME", &memory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.log(name)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(file_fault(&self.node))?;
        tokio::select! {
            client = Client::connect(&socket, READY) => Ok((child, client?)),
            status = child.wait() => {
                let said = std::fs::read_to_string(self.file(&format!("agency/{name}.log"))).unwrap_or_default();
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(Fault::new(Code::Internal).with(format!("{name} ended ({status}): {said}")))
            }
        }
    }

    /// Two lines each way.
    async fn chat(&self, citizen: &mut Client, officer: &mut Client) -> Result<(), Fault> {
        let turns = [
            ("demo-question-hello", "demo-answer-hello"),
            ("demo-question-next", "demo-answer-next"),
        ];
        for (question, answer) in turns {
            let (question, answer) = (self.texts.get(question), self.texts.get(answer));
            say(citizen, officer, &question).await?;
            println!("      > {question}");
            say(officer, citizen, &answer).await?;
            println!("      < {answer}");
        }
        Ok(())
    }

    /// Shows a line a second until the consultation ends.
    async fn watch(&self, citizen: &mut Client, seconds: u32) {
        let mut second = 0;
        while let Some(view) = citizen.next().await {
            match view["view"].as_str() {
                Some("stats") => {
                    second += 1;
                    // the last figures come at the end, in the middle of a second
                    if second <= seconds {
                        println!("      {}", self.second(&view, second, seconds));
                    }
                }
                Some("report") => return,
                _ => {}
            }
        }
    }

    /// One second of the consultation.
    fn second(&self, view: &Value, at: u32, of: u32) -> String {
        let number = |key: &str, by: f64| {
            let value = view.pointer(&format!("/{key}")).and_then(Value::as_f64);
            value.map_or_else(|| "–".into(), |value| self.texts.number(value / by, 0))
        };
        self.texts.with(
            "demo-second",
            &[
                ("at", &at.to_string()),
                ("of", &of.to_string()),
                ("fps", &number("fps", 1.0)),
                ("sent", &number("sent_bps", 1_000.0)),
                ("received", &number("received_bps", 1_000.0)),
                ("ms", &number("latency_ms", 1.0)),
                ("unsure", &number("clock/uncertainty_ms", 1.0)),
            ],
        )
    }

    fn report(&self, name: &str) -> Result<Value, Fault> {
        let path = self.file(&format!("{name}.json"));
        let text = std::fs::read_to_string(&path).map_err(file_fault(&path))?;
        serde_json::from_str(&text).map_err(|error| internal(&error))
    }
}

/// One end writes a line, the other reads it.
async fn say(from: &mut Client, to: &mut Client, text: &str) -> Result<(), Fault> {
    from.say(&Intent::Chat { text: text.into() }).await?;
    to.until("a chat line", STEP, |view| {
        view["view"] == "chat" && view["from"] == "peer" && view["text"] == text
    })
    .await?;
    Ok(())
}

/// SIGTERM, and a clean end.
async fn stop(child: &mut Child) -> Result<(), Fault> {
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(id),
            nix::sys::signal::Signal::SIGTERM,
        )
        .map_err(|error| internal(&error))?;
    }
    tokio::time::timeout(READY, child.wait())
        .await
        .map_err(|_| Fault::new(Code::Timeout).with("the relay did not stop"))?
        .map_err(|error| internal(&error))?;
    Ok(())
}
