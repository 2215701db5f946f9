//! The pure engine: a citizen's contact or an officer's desk, the descriptor that both
//! trust, and the session between them. It reads no clock, draws no entropy and opens no
//! socket; [`ports`] lists all that comes in and goes out.

mod addresses;
mod agency;
pub mod contact;
pub mod desk;
mod intents;
mod paths;
pub mod ports;
pub mod sessions;
pub mod trust;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use suora_protocol::consultation::Phase;
use suora_protocol::consultation::quality::link::Link;
use suora_protocol::documents::{Descriptor, DeskId, SessionId, Verified};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{Draw, Key, Seed};
use suora_protocol::limits;
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::guest::Media;
use suora_protocol::wire::{citizen, officer};

use self::contact::Contact;
use self::desk::Attendance;
use self::ports::{
    Input, LinkCommand, LinkEvent, Local, Output, PathCommand, Recalled, SessionCommand,
    SessionEvent,
};
use self::sessions::Session;
use self::trust::Trust;
use crate::report::{Outcome, Timing};
use crate::view::{Stage, View};

/// Who the person at this node is.
#[derive(Clone, Debug)]
pub enum Role {
    /// Asks to be served.
    Citizen {
        /// Joins at the start, without a button.
        join: bool,
    },
    /// Serves.
    Officer {
        /// The signed credential; empty when there is none.
        credential: Bytes,
        /// Takes every offer as soon as the guest is proven.
        auto_accept: bool,
        /// Serves on after a consultation.
        stay: bool,
    },
}

impl Role {
    /// `citizen` or `officer`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Citizen { .. } => "citizen",
            Self::Officer { .. } => "officer",
        }
    }
}

/// What the engine begins with.
#[derive(Debug)]
pub struct Settings {
    /// Who the person is.
    pub role: Role,
    /// The device's secret.
    pub seed: Seed,
    /// The desk.
    pub desk: DeskId,
    /// Hangs up so long after the accept.
    pub talk: Option<Duration>,
    /// What a former run learnt of the agency.
    pub recalled: Option<Recalled>,
    /// A citizen comes with a key that nobody has seen and nobody will see again.
    pub fresh: bool,
}

/// What is sent: what the person wants to send and the devices give.
const fn both(media: Media, capture: Media) -> Media {
    Media {
        audio: media.audio && capture.audio,
        video: media.video && capture.video,
    }
}

enum Side {
    Citizen(Contact),
    Officer(Attendance),
}

/// The engine of one node.
pub struct Engine {
    settings: Settings,
    draw: Draw,
    trust: Trust,
    key: Option<Key>,
    side: Side,
    local: Option<Local>,
    /// The addresses that the relay was told on this link.
    told: Vec<String>,
    link_up: bool,
    /// The last heartbeat's number, and when it left.
    ping: (u64, Option<Instant>),
    /// What the heartbeats tell.
    beats: Link,
    rtt: Duration,
    /// The broken rules of negative controls.
    careless: bool,
    any_invite: bool,
    session: Option<Session>,
    hang_up_at: Option<Instant>,
    button: Option<Timestamp>,
    timing: Timing,
    /// What the person wants to send.
    media: Media,
    /// What camera and microphone give.
    capture: Media,
    completed: u32,
    failed: u32,
    finished: bool,
    out: VecDeque<Output>,
}

impl Engine {
    /// An engine that draws all its randomness from `seed`.
    pub fn new(settings: Settings, seed: [u8; 32], now: Now) -> Self {
        let mut draw = Draw::from_seed(seed);
        let side = match &settings.role {
            Role::Citizen { .. } => Side::Citizen(Contact::new(settings.desk.clone(), &mut draw)),
            Role::Officer { credential, .. } => {
                Side::Officer(Attendance::new(settings.desk.clone(), credential.clone()))
            }
        };
        let join = matches!(
            settings.role,
            Role::Citizen { join: true } | Role::Officer { .. }
        );
        let mut engine = Self {
            settings,
            draw,
            trust: Trust::default(),
            key: None,
            side,
            local: None,
            told: Vec::new(),
            link_up: false,
            ping: (0, None),
            beats: Link::default(),
            rtt: Duration::ZERO,
            careless: false,
            any_invite: false,
            session: None,
            hang_up_at: None,
            button: None,
            timing: Timing::default(),
            media: Media {
                audio: true,
                video: true,
            },
            capture: Media {
                audio: true,
                video: true,
            },
            completed: 0,
            failed: 0,
            finished: false,
            out: VecDeque::new(),
        };
        if join {
            engine.begin(now);
        }
        engine
    }

    /// Breaks a rule on purpose, for negative controls: an invite's challenge is not compared.
    pub const fn take_any_challenge(&mut self) {
        self.careless = true;
    }

    /// Breaks a rule on purpose, for negative controls: an officer's invite that does not verify is
    /// sent all the same.
    pub const fn send_any_invite(&mut self) {
        self.any_invite = true;
    }

    /// What this device remembers under other addresses; to be told before the first output is
    /// taken. A page that contradicts it is not used: [`Trust::hold`].
    pub fn hold(&mut self, now: Now, others: &[Recalled]) {
        if let Err(fault) = self.trust.hold(others)
            && !self.finished
        {
            // nothing of what was begun has happened yet
            self.out.clear();
            self.fail(now, fault);
        }
    }

    /// The verified descriptor, once there is one.
    pub fn descriptor(&self) -> Option<&Verified<Descriptor>> {
        self.trust.descriptor()
    }

    const fn role(&self) -> &'static str {
        self.settings.role.name()
    }

    /// Takes an input; faults that a person should know become views.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        if self.finished {
            return;
        }
        if let Err(fault) = self.take(now, input) {
            self.show_fault(&fault);
        }
        self.drain(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Output {
        self.out
            .pop_front()
            .unwrap_or(Output::Wait("tick four times a second"))
    }

    fn take(&mut self, now: Now, input: Input) -> Result<(), Fault> {
        match input {
            Input::Intent(intent) => self.intent(now, intent),
            Input::Descriptor(fetched) => self.fetched(now, fetched),
            Input::Local(local) => {
                self.located(local);
                Ok(())
            }
            Input::Capture(capture) => {
                self.capture = capture;
                self.tell_media()
            }
            Input::Link(event) => self.link(now, event),
            Input::Worked(work) => self.worked(now, work),
            Input::Path(id, told) => self.tell_path(id, told),
            Input::Session(id, event) => {
                if self
                    .session
                    .as_ref()
                    .is_some_and(|session| session.id == id)
                {
                    self.session_event(now, event)
                } else {
                    Ok(())
                }
            }
            Input::Tick => self.tick(now),
        }
    }

    fn link(&mut self, now: Now, event: LinkEvent) -> Result<(), Fault> {
        match event {
            LinkEvent::Up => {
                self.link_up = true;
                self.ping.1 = None;
                self.beats.stood();
                self.out.push_back(Output::View(View::Link {
                    up: true,
                    code: None,
                }));
                if let Some(button) = self.button {
                    self.timing
                        .button_to_relay
                        .get_or_insert(sessions::ms(now.utc.micros_since(button)));
                }
                match &mut self.side {
                    Side::Citizen(contact) => {
                        contact.asked = Some(now.mono);
                        let message = contact.citizen.link_up();
                        self.join(message);
                    }
                    Side::Officer(attendance) => {
                        let message = attendance.officer.link_up();
                        self.say_officer(message);
                    }
                }
                self.heartbeat(now);
                Ok(())
            }
            LinkEvent::Down(fault) => {
                self.link_up = false;
                self.beats.fell(now.mono);
                self.out.push_back(Output::View(View::Link {
                    up: false,
                    code: Some(fault.code),
                }));
                if let Side::Officer(attendance) = &mut self.side
                    && let Some(suora_protocol::desk::officer::Action::Withdrawn(code)) =
                        attendance.officer.link_down()
                {
                    self.close_session(Fault::new(code));
                }
                Ok(())
            }
            LinkEvent::Citizen(citizen::FromRelay::Pong { n })
            | LinkEvent::Officer(officer::FromRelay::Pong { n }) => {
                if let Some(trip) = self.beats.answered(now.mono, n) {
                    self.rtt = trip;
                }
                Ok(())
            }
            LinkEvent::Citizen(message) => self.citizen_message(now, message),
            LinkEvent::Officer(message) => self.officer_message(now, message),
        }
    }

    fn heartbeat(&mut self, now: Now) {
        let interval = match &self.session {
            Some(session) if session.troubled() => limits::HEARTBEAT_TROUBLED,
            _ => limits::HEARTBEAT,
        };
        let due = self
            .ping
            .1
            .is_none_or(|sent| now.mono.saturating_duration_since(sent) >= interval);
        if self.link_up && due {
            self.ping = (self.ping.0 + 1, Some(now.mono));
            let n = self.ping.0;
            self.beats.asked(now.mono, n);
            match self.side {
                Side::Citizen(_) => self.say_citizen(citizen::ToRelay::Ping { n }),
                Side::Officer(_) => self.say_officer(officer::ToRelay::Ping { n }),
            }
        }
    }

    fn tick(&mut self, now: Now) -> Result<(), Fault> {
        self.heartbeat(now);
        self.refresh(now);
        self.cure(now);
        self.ask_again(now);
        if self.hang_up_at.is_some_and(|at| now.mono >= at) {
            self.hang_up_at = None;
            if let Some(session) = &mut self.session {
                session.talk().bye(Code::Ended);
            }
        }
        self.session
            .as_mut()
            .map_or(Ok(()), |session| session.tick(now))
    }

    fn session_event(&mut self, now: Now, event: SessionEvent) -> Result<(), Fault> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let unrecorded = match &event {
            SessionEvent::Unrecorded(fault) if session.facts.unrecorded.is_none() => {
                Some(fault.clone())
            }
            _ => None,
        };
        let judged = session.event(now, event).and_then(|over| match over {
            true => {
                let media = both(self.media, self.capture);
                session.second(now, &mut self.beats, media).map(Some)
            }
            false => Ok(None),
        });
        match judged {
            Ok(None) => {}
            Ok(Some(stats)) => {
                if let Some(offset) = session.facts.clock {
                    // its uncertainty has grown
                    let clock = SessionCommand::Clock(offset);
                    self.out.push_back(Output::Session(session.id, clock));
                }
                self.out.push_back(Output::View(View::Stats(stats)));
            }
            // The other end broke a rule: the session is over, and the person knows why.
            Err(fault) => {
                session.talk().end(fault.clone());
                self.show_fault(&fault);
            }
        }
        if let Some(fault) = unrecorded {
            self.show_fault(&fault);
        }
        self.finish_session(now);
        Ok(())
    }

    /// Drains the session's machine; a parent drains its children here and nowhere else.
    fn drain(&mut self, now: Now) {
        while let Some(output) = self
            .session
            .as_mut()
            .and_then(|session| session.talk().poll_output())
        {
            use suora_protocol::consultation::Output as Out;
            let Some(session) = &mut self.session else {
                return;
            };
            let id = session.id;
            match output {
                Out::Send(bytes) => self
                    .out
                    .push_back(Output::Session(id, SessionCommand::Send(bytes))),
                Out::Verified => {
                    session.verified(now);
                    // muted before anyone was there: say so now; encoding it cannot fail
                    let _ = session.talk().media(both(self.media, self.capture));
                    let view = session.view(Stage::Warm);
                    self.out
                        .push_back(Output::Session(id, SessionCommand::Warm));
                    self.out.push_back(Output::View(view));
                    self.begin_path(id);
                    self.proven(now);
                }
                Out::Newer(sequence) => {
                    self.hinted(now, sequence);
                }
                Out::Conflict(hello) => self.conflict(&hello),
                Out::Open(at) => {
                    session.facts.accepted = Some(at);
                    let view = session.view(Stage::Accepted);
                    if self.is_sensitive() {
                        let hide = Output::Session(id, SessionCommand::HideRhythm);
                        self.out.push_back(hide);
                    }
                    self.out
                        .push_back(Output::Session(id, SessionCommand::Open));
                    let Media { audio, video } = both(self.media, self.capture);
                    self.out
                        .push_back(Output::Session(id, SessionCommand::Media { audio, video }));
                    self.out.push_back(Output::View(view));
                    self.out.push_back(Output::Path(id, PathCommand::Accepted));
                    self.hang_up_at = self.settings.talk.map(|talk| now.mono + talk);
                    if let Side::Citizen(contact) = &mut self.side {
                        contact.citizen.engaged();
                    }
                }
                Out::Chat(text) => {
                    session.facts.chat.received += 1;
                    self.out
                        .push_back(Output::View(View::Chat { from: "peer", text }));
                }
                Out::Quality(told) => session.told(told),
                Out::Path(told) => self
                    .out
                    .push_back(Output::Path(id, PathCommand::Heard(told))),
                Out::Media(Media { audio, video }) => {
                    session.theirs = Media { audio, video };
                    self.out
                        .push_back(Output::Session(id, SessionCommand::PeerMedia { video }));
                    self.out
                        .push_back(Output::View(View::PeerMedia { audio, video }));
                }
                Out::Clock(offset) => {
                    session.facts.clock = Some(offset);
                    self.out
                        .push_back(Output::Session(id, SessionCommand::Clock(offset)));
                }
                Out::Close(fault) => {
                    session.facts.by_us |= session.facts.ending.is_none();
                    session.facts.ending.get_or_insert(fault.clone());
                    self.out
                        .push_back(Output::Session(id, SessionCommand::Close(fault)));
                }
            }
        }
        self.finish_session(now);
    }

    fn close_session(&mut self, fault: Fault) {
        if let Some(session) = &mut self.session {
            session.talk().end(fault);
        }
    }

    /// The session's door is closed: is the contact over?
    fn finish_session(&mut self, now: Now) {
        if !self.session.as_ref().is_some_and(|session| session.closed) {
            return;
        }
        let Some(session) = self.session.take() else {
            return;
        };
        self.forget(&session);
        let accepted = session.facts.accepted.is_some();
        let ending = session.ending();
        if self.contact_over(&session, &ending, accepted) {
            self.conclude(now, &session);
        } else if session.undialled {
            // from here it would go on so, at the cost of one officer after the other
            self.fail(now, ending);
        }
    }

    /// Before the next match: a session that has ended and whose door is still closing is let go.
    /// Without an accept the door has nothing more to tell.
    fn let_go(&mut self, now: Now) {
        let ended = |session: &mut Session| {
            session.phase() == Phase::Ended && session.facts.accepted.is_none()
        };
        if let Some(session) = self.session.take_if(ended) {
            self.forget(&session);
            if session.ending().code.is_refusal() && !self.refuses_guest(&session) {
                self.conclude(now, &session);
            }
        }
    }

    fn forget(&mut self, session: &Session) {
        self.hang_up_at = None;
        self.out.push_back(Output::Forget(session.id));
        self.out.push_back(Output::View(session.view(Stage::Idle)));
    }

    /// The consultation is over: report, then serve on, or end.
    fn conclude(&mut self, now: Now, session: &Session) {
        let report = session.report(self.role(), self.timing, self.button);
        match report.outcome {
            Outcome::Completed => self.completed += 1,
            _ => self.failed += 1,
        }
        self.out.push_back(Output::Report(Box::new(report)));
        if !self.serves_on() {
            self.finish(now);
        }
    }

    /// Ends without a consultation.
    fn fail(&mut self, now: Now, fault: Fault) {
        self.show_fault(&fault);
        self.give_up(now, &fault);
    }

    /// Ends because our own proof was refused, by the relay or by the other end.
    fn refused(&mut self, now: Now, fault: Fault) {
        self.show(&fault, true);
        self.give_up(now, &fault);
    }

    fn give_up(&mut self, now: Now, fault: &Fault) {
        let report = sessions::failed(self.role(), fault, self.timing);
        self.failed += 1;
        self.out.push_back(Output::Report(Box::new(report)));
        self.finish(now);
    }

    fn finish(&mut self, _now: Now) {
        if !self.finished {
            self.finished = true;
            self.out.push_back(Output::Link(LinkCommand::Close));
            let status = u8::from(self.completed == 0 || self.failed > 0);
            self.out.push_back(Output::Finished(status));
        }
    }

    fn show_fault(&mut self, fault: &Fault) {
        self.show(fault, false);
    }

    /// `own`: it is our own proof that was refused.
    fn show(&mut self, fault: &Fault, own: bool) {
        self.out.push_back(Output::View(View::Fault {
            code: fault.code,
            detail: fault.detail.clone(),
            own,
        }));
    }

    fn say_citizen(&mut self, message: citizen::ToRelay) {
        self.out
            .push_back(Output::Link(LinkCommand::Citizen(message)));
    }

    fn say_officer(&mut self, message: officer::ToRelay) {
        self.out
            .push_back(Output::Link(LinkCommand::Officer(message)));
    }

    fn show_connecting(&mut self, id: SessionId) {
        debug_assert!(
            self.session
                .as_ref()
                .is_some_and(|session| session.id == id)
        );
        self.out.push_back(Output::View(View::Session {
            stage: Stage::Connecting,
            peer: None,
            security: None,
            path: None,
        }));
    }
}
