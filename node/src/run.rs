//! The only loop of a node: it drains the pure engine and feeds the doors, by priority:
//! the wish to stop, then intents, the control link, sessions, the descriptor, and last
//! time. Sound and picture never pass through here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use suora_protocol::documents::SessionId;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::wire::guest::Media;
use suora_protocol::wire::work::{Puzzle, Work};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::capture::{self, Source};
use crate::clock::Clock;
use crate::config::{Config, Reports};
use crate::devices::choice::Wish;
use crate::devices::reference::Reference;
use crate::devices::seat::Said;
use crate::devices::watch::{self, Notice};
use crate::devices::{Backend, Kind};
use crate::endpoint::certificate::{EARLY, VALID};
use crate::endpoint::{Connected, Endpoint};
use crate::engine::ports::{
    Fetched, Input, LinkCommand, Local, Output, PathCommand, Proof, Recalled, SessionCommand,
    SessionEvent,
};
use crate::engine::{Engine, Settings};
use crate::fetch::{self, Agency};
use crate::intent::Intent;
use crate::link::Link;
use crate::memory::Memory;
use crate::play::Sink;
use crate::play::speaker::Speaker;
use crate::remote::{self, Remote};
use crate::report::Report;
use crate::session::fanout::Studio;
use crate::session::{self, Setup};
use crate::view::View;
use crate::worker::{Mailbox, Post, mailbox};
use crate::{Faults, keys, link, path};

/// Events of sessions that the loop has not yet taken.
const EVENTS: usize = 256;
/// Intents that the loop has not yet taken.
const INTENTS: usize = 16;
/// What happened to devices and the loop has not yet taken.
const NOTICES: usize = 64;
/// How often the engine hears that time passed.
const TICK: Duration = Duration::from_millis(250);
/// The age at which a certificate is replaced, once nobody is expected under it.
const CERTIFICATE_AGE: Duration = VALID.saturating_sub(EARLY).saturating_sub(EARLY);
/// How long the link may take to say its last words.
const GOODBYE: Duration = Duration::from_millis(1_500);

/// A running session: how to speak to it, and the capture that feeds it.
struct Running {
    commands: Post<SessionCommand>,
    studio: Studio,
    speaker: Option<Speaker>,
}

struct Node {
    clock: Clock,
    faults: Faults,
    config: Doors,
    source: Source,
    engine: Engine,
    endpoint: Endpoint,
    link: Post<LinkCommand>,
    events: session::Events,
    notices: Post<Notice>,
    /// What was shown last of each kind of device.
    shown: BTreeMap<Kind, Said>,
    /// What camera and microphone give now.
    capture: Media,
    sessions: BTreeMap<SessionId, Running>,
    /// When the endpoint's certificate was made.
    certified: Instant,
    remote: Option<Remote>,
    fetched: Option<oneshot::Receiver<Result<Fetched, Fault>>>,
    worked: Option<oneshot::Receiver<Result<Work, Fault>>>,
    consultations: u32,
    reports: u32,
}

/// What of the configuration the doors need.
struct Doors {
    role: &'static str,
    agency: Agency,
    fps: u32,
    bitrate: u32,
    record: Option<PathBuf>,
    reports: Option<Reports>,
    credential: Option<PathBuf>,
    memory: Option<Memory>,
    speaker: Option<Wish>,
    devices: Arc<dyn Backend>,
}

/// Where a person's intents come from, besides the control socket.
pub fn intents() -> (Post<Intent>, Mailbox<Intent>) {
    mailbox(INTENTS)
}

/// Runs a node until its work is done; what a person should see goes to `show`. Returns the
/// exit status: 0 only when consultations were completed and none failed.
pub async fn run(
    config: Config,
    (intent, mut intents): (Post<Intent>, Mailbox<Intent>),
    faults: Faults,
    mut show: impl FnMut(&View),
) -> Result<u8, Fault> {
    let clock = Clock::start();
    let source = capture::open(&config.capture, &config.devices)?;
    let mut found = source.devices().to_vec();
    let find = |wish| {
        let listed = config.devices.list();
        watch::find(Kind::Speaker, wish, &listed, &mut found)
    };
    let speaker = config.speaker.as_ref().map(find).transpose()?;
    if let Some(dir) = &config.record {
        make_dir(dir)?;
    }
    let remote = config
        .control
        .as_deref()
        .map(|path| remote::listen(path, intent))
        .transpose()?;
    let mut endpoint = Endpoint::new(&config.listen, clock.now().utc, faults)?;
    let role = config.role.name();
    let memory = config
        .memory
        .map(|folder| Memory::of(&config.agency, folder));
    let recalled = memory.as_ref().map(Memory::recall).transpose()?.flatten();
    let others = memory.as_ref().map(Memory::others).transpose()?;
    let settings = Settings {
        role: config.role,
        seed: config.seed,
        desk: config.desk,
        talk: config.talk,
        recalled,
        fresh: config.fresh,
    };
    let (events, mut heard) = mailbox(EVENTS);
    let mut paths = endpoint
        .events()
        .ok_or_else(|| Fault::new(Code::Internal).with("the paths are somebody else's"))?;
    let (notices, mut noticed) = mailbox(NOTICES);
    let Link {
        commands: link,
        events: mut link_events,
    } = link::start(keys::draw()?, clock);
    let mut engine = Engine::new(settings, keys::draw()?, clock.now());
    engine.hold(clock.now(), &others.unwrap_or_default());
    if faults.any_invite {
        engine.send_any_invite();
    }
    let mut node = Node {
        engine,
        clock,
        faults,
        config: Doors {
            role,
            agency: config.agency,
            fps: config.capture.fps,
            bitrate: config.bitrate,
            record: config.record,
            reports: config.reports,
            credential: config.credential,
            memory,
            speaker,
            devices: config.devices,
        },
        source,
        endpoint,
        link,
        events,
        notices,
        shown: BTreeMap::new(),
        capture: Media {
            audio: true,
            video: true,
        },
        sessions: BTreeMap::new(),
        certified: clock.now().mono,
        remote,
        fetched: None,
        worked: None,
        consultations: 0,
        reports: 0,
    };
    node.local();
    let capture = Media {
        audio: node.source.has_audio(),
        video: node.source.has_video(),
    };
    node.capture(capture);
    for notice in found {
        node.notice(notice, &mut show);
    }

    let failed = |error: std::io::Error| Fault::new(Code::Internal).with(error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked_to_stop = false;
    let status = loop {
        if let Some(status) = node.drain(&mut show) {
            break status;
        }
        let input = tokio::select! {
            biased;
            _ = terminate.recv() => Input::Intent(Intent::Quit),
            _ = interrupt.recv() => {
                if std::mem::replace(&mut asked_to_stop, true) {
                    break 130;
                }
                Input::Intent(Intent::Quit)
            }
            Some(intent) = intents.recv() => Input::Intent(intent),
            Some(event) = link_events.recv() => Input::Link(event),
            Some((id, event)) = heard.recv() => Input::Session(id, event),
            Some(event) = paths.recv() => match event {
                path::Event::Tell(id, told) => Input::Path(id, told),
                path::Event::Relayed | path::Event::Learned => {
                    node.local();
                    continue;
                }
                path::Event::Moved(_) => continue,
            },
            Some(notice) = noticed.recv() => {
                node.notice(notice, &mut show);
                continue;
            }
            fetched = awaited(&mut node.fetched) => Input::Descriptor(fetched),
            worked = awaited(&mut node.worked) => Input::Worked(worked),
            _ = tick.tick() => {
                node.renew()?;
                Input::Tick
            }
        };
        node.engine.handle_input(clock.now(), input);
    };
    // last words to the relay, then to the other end
    let said = async { while link_events.recv().await.is_some() {} };
    let _ = tokio::time::timeout(GOODBYE, said).await;
    node.endpoint.close().await;
    if let Some(remote) = &node.remote {
        remote.finish(GOODBYE).await;
    }
    Ok(status)
}

/// Waits for what a task beside the loop does; for ever when none is at work.
async fn awaited<T>(waiting: &mut Option<oneshot::Receiver<Result<T, Fault>>>) -> Result<T, Fault> {
    let Some(receiver) = waiting else {
        return std::future::pending().await;
    };
    let done = receiver
        .await
        .unwrap_or_else(|_| Err(Fault::new(Code::Internal).with("a task ended")));
    *waiting = None;
    done
}

fn make_dir(dir: &Path) -> Result<(), Fault> {
    std::fs::create_dir_all(dir).map_err(|error| {
        Fault::new(Code::BadFile).with(format!("{} cannot be made: {error}", dir.display()))
    })
}

impl Node {
    /// Does all that the engine asks; the exit status once it has finished.
    fn drain(&mut self, show: &mut impl FnMut(&View)) -> Option<u8> {
        loop {
            match self.engine.poll_output() {
                Output::Fetch => self.fetch(),
                Output::Link(command) => {
                    if self.link.post(command).is_err() {
                        tracing::warn!("the control link does not take messages");
                    }
                }
                Output::Work(puzzle) => self.work(puzzle),
                Output::Expect(expected) => {
                    let (id, answer) = (expected.session, self.endpoint.expect(expected));
                    self.start(id, true, answer);
                }
                Output::Dial(dial) => match self.endpoint.dial(&dial) {
                    Ok(answer) => self.start(dial.session, false, answer),
                    Err(fault) => {
                        let undialled = SessionEvent::Undialled(fault);
                        let input = Input::Session(dial.session, undialled);
                        self.engine.handle_input(self.clock.now(), input);
                    }
                },
                Output::Forget(id) => self.forget(id),
                Output::Session(id, command) => self.tell(id, command),
                Output::Path(id, command) => self.path(id, command),
                Output::Servers(servers) => self.endpoint.paths().ask(&servers),
                Output::Grant(grant) => self.endpoint.paths().grant(grant),
                Output::Permit(id, guest) => self.endpoint.paths().permit(id, &guest),
                Output::View(view) => self.view(view, show),
                Output::Remember(recalled) => self.remember(&recalled, show),
                Output::Prove(proof) => self.prove(&proof, show),
                Output::Keep(credential) => self.keep(&credential, show),
                Output::Report(report) => self.report(*report, show),
                Output::Finished(status) => return Some(status),
                Output::Wait(_) => return None,
            }
        }
    }

    fn path(&self, id: SessionId, command: PathCommand) {
        self.endpoint.paths().with(|now, path| match command {
            PathCommand::Begin { host, policy } => path.begin(now, id, host, policy),
            PathCommand::Accepted => path.accepted(now, id),
            PathCommand::Heard(told) => path.heard(now, id, told),
        });
    }

    /// Tells the engine what our endpoint is now.
    fn local(&mut self) {
        let paths = self.endpoint.paths();
        let local = Local {
            fingerprint: self.endpoint.fingerprint(),
            addresses: self.endpoint.addresses(),
            relayed: paths.with(|_, path| path.relayed()),
            learned: paths.with(|_, path| path.learned()),
        };
        self.engine
            .handle_input(self.clock.now(), Input::Local(local));
    }

    /// What camera and microphone give from now on.
    fn capture(&mut self, capture: Media) {
        self.capture = capture;
        self.engine
            .handle_input(self.clock.now(), Input::Capture(capture));
    }

    /// Something happened to a device: the person sees it once, the other end learns what
    /// it can still see and hear.
    fn notice(&mut self, notice: Notice, show: &mut impl FnMut(&View)) {
        let Notice {
            kind,
            said,
            running,
        } = notice;
        let mut capture = self.capture;
        match kind {
            Kind::Camera => capture.video = running,
            Kind::Microphone => capture.audio = running,
            Kind::Speaker => {}
        }
        if capture != self.capture {
            self.capture(capture);
        }
        if self.shown.get(&kind) != Some(&said) {
            self.shown.insert(kind, said.clone());
            let view = View::Device {
                device: kind,
                state: said.state,
                name: said.name,
                detail: said.detail,
            };
            self.view(view, show);
        }
    }

    /// A certificate lives for a day at most; a guest that is expected knows the old one.
    fn renew(&mut self) -> Result<(), Fault> {
        let now = self.clock.now();
        if self.sessions.is_empty()
            && now.mono.saturating_duration_since(self.certified) >= CERTIFICATE_AGE
        {
            self.endpoint.renew(now.utc)?;
            self.certified = now.mono;
            self.local();
        }
        Ok(())
    }

    fn fetch(&mut self) {
        let (answer, receiver) = oneshot::channel();
        let agency = self.config.agency.clone();
        tokio::spawn(async move {
            let _ = answer.send(fetch::fetch(&agency).await);
        });
        self.fetched = Some(receiver);
    }

    /// Solves a puzzle beside the loop.
    fn work(&mut self, puzzle: Puzzle) {
        let (answer, receiver) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let _ = answer.send(puzzle.solve());
        });
        self.worked = Some(receiver);
    }

    fn start(
        &mut self,
        id: SessionId,
        host: bool,
        connecting: oneshot::Receiver<Result<Connected, Fault>>,
    ) {
        if let Err(fault) = self.try_start(id, host, connecting) {
            let closed = Input::Session(id, SessionEvent::Closed(fault));
            self.engine.handle_input(self.clock.now(), closed);
        }
    }

    fn try_start(
        &mut self,
        id: SessionId,
        host: bool,
        connecting: oneshot::Receiver<Result<Connected, Fault>>,
    ) -> Result<(), Fault> {
        let played = Reference::default();
        let studio = Studio::start(
            &self.source,
            (self.config.fps, self.config.bitrate),
            self.clock,
            &self.notices,
            &played,
        )?;
        let (sink, recorder) = match &self.config.record {
            Some(dir) => {
                let (sink, recorder) = Sink::record(self.recording(dir), self.faults)?;
                (sink, Some(recorder))
            }
            None => (Sink::none(), None),
        };
        let speaker = self.config.speaker.clone().map(|wish| {
            let (backend, notices) = (self.config.devices.clone(), self.notices.clone());
            Speaker::start(wish, backend, self.clock, notices, played)
        });
        let speaker = speaker.transpose()?;
        let sink = match &speaker {
            Some(speaker) => sink.with_speaker(speaker.out()),
            None => sink,
        };
        let seed = keys::draw()?;
        let number = |at: usize| {
            let bytes = seed.get(at * 4..at * 4 + 4).and_then(|b| b.try_into().ok());
            u32::from_be_bytes(bytes.unwrap_or_default())
        };
        let setup = Setup {
            id,
            host,
            connecting,
            paths: self.endpoint.paths(),
            fanout: studio.fanout(),
            sink,
            recorder,
            ssrcs: [number(0), number(1), number(2)],
            bitrate: self.config.bitrate,
            clock: self.clock,
            faults: self.faults,
        };
        let commands = session::start(setup, self.events.clone());
        self.sessions.insert(
            id,
            Running {
                commands,
                studio,
                speaker,
            },
        );
        Ok(())
    }

    /// The recording of the next consultation: `citizen-saw.mp4`, `citizen-saw-2.mp4`, …
    fn recording(&self, dir: &Path) -> PathBuf {
        let role = self.config.role;
        dir.join(match self.consultations + 1 {
            1 => format!("{role}-saw.mp4"),
            n => format!("{role}-saw-{n}.mp4"),
        })
    }

    fn tell(&mut self, id: SessionId, command: SessionCommand) {
        if matches!(command, SessionCommand::Open) {
            self.consultations += 1;
        }
        let Some(running) = self.sessions.get(&id) else {
            return;
        };
        // one that has ended says so itself
        if running.commands.post(command).is_err() && !running.commands.is_closed() {
            // its task does not answer: dropping the post ends it
            tracing::warn!("a session does not take commands");
            self.forget(id);
        }
    }

    fn forget(&mut self, id: SessionId) {
        self.endpoint.forget(id);
        if let Some(Running {
            commands,
            studio,
            speaker,
        }) = self.sessions.remove(&id)
        {
            drop(commands);
            // joins threads
            tokio::task::spawn_blocking(move || drop((studio, speaker)));
        }
    }

    fn view(&mut self, view: View, show: &mut impl FnMut(&View)) {
        if let Some(remote) = &self.remote {
            remote.publish(&view);
        }
        show(&view);
    }

    fn fault(&mut self, fault: Fault, show: &mut impl FnMut(&View)) {
        let view = View::Fault {
            code: fault.code,
            detail: fault.detail,
            own: false,
        };
        self.view(view, show);
    }

    /// Writes a renewed credential beside the key, for the next start.
    fn keep(&mut self, credential: &[u8], show: &mut impl FnMut(&View)) {
        if let Some(path) = &self.config.credential
            && let Err(fault) = keys::write_private(path, credential)
        {
            self.fault(fault, show);
        }
    }

    fn remember(&mut self, recalled: &Recalled, show: &mut impl FnMut(&View)) {
        let kept = self.config.memory.as_ref().map(|it| it.keep(recalled));
        if let Some(Err(fault)) = kept {
            self.fault(fault, show);
        }
    }

    fn prove(&mut self, proof: &Proof, show: &mut impl FnMut(&View)) {
        match self.config.memory.as_ref().map(|it| it.prove(proof)) {
            Some(Ok(Some(folder))) => {
                let worth = proof.what.worth();
                tracing::warn!(folder = %folder.display(), "kept as proof: {worth}");
            }
            Some(Ok(None)) => {
                let what = proof.what.name();
                tracing::warn!("not kept as proof: proof/{what} holds as many as it may");
            }
            Some(Err(fault)) => self.fault(fault, show),
            None => {}
        }
    }

    /// Completes a report by what only the process knows, writes it, shows it.
    fn report(&mut self, mut report: Report, show: &mut impl FnMut(&View)) {
        self.reports += 1;
        if let Ok(usage) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)
        {
            let secs = |time: nix::sys::time::TimeVal| {
                time.tv_sec() as f64 + time.tv_usec() as f64 / 1_000_000.0
            };
            report.cpu_seconds = Some(secs(usage.user_time()) + secs(usage.system_time()));
            report.max_rss_bytes = u64::try_from(usage.max_rss()).ok().map(|kib| kib * 1_024);
        }
        if let Err(fault) = self.write(&report) {
            self.fault(fault, show);
        }
        let report = Box::new(report);
        self.view(View::Report { report }, show);
    }

    fn write(&self, report: &Report) -> Result<(), Fault> {
        let path = match &self.config.reports {
            None => return Ok(()),
            Some(Reports::File(path)) => path.clone(),
            Some(Reports::Folder(dir)) => {
                make_dir(dir)?;
                dir.join(format!("{}-{}.json", self.config.role, self.reports))
            }
        };
        let json = serde_json::to_vec_pretty(report)
            .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))?;
        keys::write_private(&path, &json)
    }
}
