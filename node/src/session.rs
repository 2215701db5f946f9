//! DOOR: a session's task (`spec/session.md`): one QUIC connection between host and guest
//! with its text, sound and picture. The engine says what may flow; the [`uplink`] and the
//! [`downlink`] turn frames into packets and back; [`control`] carries the messages.

pub mod alive;
pub mod control;
pub mod downlink;
pub mod fanout;
pub mod figures;
pub mod uplink;

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{Connection, ConnectionError, VarInt};
use suora_protocol::documents::SessionId;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::PROBE_PACKETS;
use suora_protocol::media::EncodedFrame;
use suora_protocol::time::{Now, Timestamp};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use self::alive::Alive;
use self::control::Heard;
use self::downlink::{Downlink, Piece, Upward};
use self::fanout::Fanout;
use self::figures::Figures;
use self::uplink::Uplink;
use crate::Faults;
use crate::clock::Clock;
use crate::decode;
use crate::endpoint::{Connected, Paths, handshake_fault};
use crate::engine::ports::{SessionCommand, SessionEvent, SessionStats};
use crate::play::{self, Recorder, Sink};
use crate::view::{PictureStats, SoundStats, Stats};
use crate::worker::{Mailbox, Post, Worker, mailbox};

/// What the engine asks and the task has not yet done.
const COMMANDS: usize = 64;
/// Pieces of pictures that were read and not yet taken.
const PIECES: usize = 64;
/// What the decoders tell.
const PLAYED: usize = 128;
/// Pictures that wait for the decoder.
const PICTURES: usize = 4;
/// Packets of sound, and calls to play, that wait for the decoder: more than a second.
const SOUNDS: usize = 128;
/// How long the last words may take to arrive when a session closes.
const GOODBYE: Duration = Duration::from_millis(500);

/// Where events of all sessions go.
pub type Events = Post<(SessionId, SessionEvent)>;

/// What a session begins with.
pub struct Setup {
    /// Its name.
    pub id: SessionId,
    /// Whether this end is the host.
    pub host: bool,
    /// The endpoint's answer.
    pub connecting: oneshot::Receiver<Result<Connected, Fault>>,
    /// Tells the path in use.
    pub paths: Paths,
    /// Our own sound and picture.
    pub fanout: Fanout,
    /// Where the other end's sound and picture go.
    pub sink: Sink,
    /// What writes them down.
    pub recorder: Option<Recorder>,
    /// Names for the tracks and for reports.
    pub ssrcs: [u32; 3],
    /// Most bits of picture a second.
    pub bitrate: u32,
    /// The clock.
    pub clock: Clock,
    /// Broken rules.
    pub faults: Faults,
}

/// Starts a session's task; drop the post to abandon it.
pub fn start(setup: Setup, events: Events) -> Post<SessionCommand> {
    let (post, commands) = mailbox(COMMANDS);
    tokio::spawn(run(setup, commands, events));
    post
}

async fn run(setup: Setup, mut commands: Mailbox<SessionCommand>, events: Events) {
    let id = setup.id;
    let (connecting, recorder) = (setup.connecting, setup.recorder);
    let answer = tokio::select! {
        answer = connecting => answer.unwrap_or_else(|_| Err(Fault::new(Code::Cancelled))),
        closed = closing(&mut commands) => Err(closed),
    };
    let ending = match answer {
        Ok(connected) => {
            let connection = connected.connection.clone();
            if events.send((id, connected.event)).await {
                let parts = Parts {
                    id,
                    host: setup.host,
                    paths: setup.paths,
                    fanout: setup.fanout,
                    sink: setup.sink,
                    ssrcs: setup.ssrcs,
                    bitrate: setup.bitrate,
                    clock: setup.clock,
                    faults: setup.faults,
                };
                match Task::new(connection.clone(), parts, &events) {
                    Ok(task) => task.run(commands).await,
                    Err(fault) => fault,
                }
            } else {
                connection.close(VarInt::from_u32(Code::Cancelled.close()), b"");
                Fault::new(Code::Cancelled)
            }
        }
        Err(fault) => fault,
    };
    if let Some(recorder) = recorder {
        let finished = tokio::task::spawn_blocking(move || recorder.finish())
            .await
            .unwrap_or_else(|error| Err(Fault::new(Code::Internal).with(error.to_string())));
        if let Err(fault) = finished {
            events.send((id, SessionEvent::Unrecorded(fault))).await;
        }
    }
    events.send((id, SessionEvent::Closed(ending))).await;
}

/// Waits until the engine closes a session that does not stand yet.
async fn closing(commands: &mut Mailbox<SessionCommand>) -> Fault {
    loop {
        match commands.recv().await {
            Some(SessionCommand::Close(fault)) => return fault,
            Some(_) => {}
            None => return Fault::new(Code::Cancelled),
        }
    }
}

struct Parts {
    id: SessionId,
    host: bool,
    paths: Paths,
    fanout: Fanout,
    sink: Sink,
    ssrcs: [u32; 3],
    bitrate: u32,
    clock: Clock,
    faults: Faults,
}

/// A session whose connection stands.
struct Task {
    parts: Parts,
    connection: Connection,
    events: Events,
    uplink: Uplink,
    downlink: Downlink,
    figures: Figures,
    video: Mailbox<EncodedFrame>,
    audio: Mailbox<EncodedFrame>,
    pieces: Mailbox<Piece>,
    played: Mailbox<play::Event>,
    /// Decoders; dropped off the async threads.
    decoders: Vec<Worker>,
    reading: JoinSet<()>,
    last: (Instant, u64, u64, u64),
    peer_streams: u64,
    peer_pictures: u64,
    /// Datagrams of a train and of answers to one.
    probes: u64,
    open: bool,
    /// When the talk was over, before the goodbyes.
    left: Option<Timestamp>,
    alive: Alive,
}

impl Task {
    fn new(connection: Connection, parts: Parts, events: &Events) -> Result<Self, Fault> {
        let now = parts.clock.now();
        let (due_post, due) = mailbox(PICTURES);
        let (sound_post, sound) = mailbox(SOUNDS);
        let (played_post, played) = mailbox(PLAYED);
        let (piece_post, pieces) = mailbox(PIECES);
        let decoders = vec![
            decode::video(due, parts.sink.clone(), parts.clock, played_post.clone())?,
            decode::audio(sound, parts.sink.clone(), played_post)?,
        ];
        let (own, peer) = if parts.host { (0, 1) } else { (1, 0) };
        let [audio_ssrc, video_ssrc, report_ssrc] = parts.ssrcs;
        let uplink = Uplink::new(
            connection.clone(),
            own,
            [audio_ssrc, video_ssrc],
            parts.bitrate,
            parts.fanout.control(),
        );
        let downlink = Downlink::new((own, peer), report_ssrc, (due_post, sound_post));
        let mut reading = JoinSet::new();
        reading.spawn(downlink::read_streams(connection.clone(), piece_post));
        let (video, audio) = parts.fanout.subscribe();
        Ok(Self {
            uplink,
            downlink,
            figures: Figures::default(),
            video,
            audio,
            pieces,
            played,
            decoders,
            reading,
            last: (now.mono, 0, 0, 0),
            peer_streams: 0,
            peer_pictures: 0,
            probes: 0,
            open: false,
            left: None,
            alive: Alive::new(now.mono),
            connection,
            parts,
            events: events.clone(),
        })
    }

    fn now(&self) -> Now {
        self.parts.clock.now()
    }

    async fn tell(&mut self, event: SessionEvent) {
        // the loop of the node takes events as long as it lives
        self.events.send((self.parts.id, event)).await;
    }

    async fn run(mut self, commands: Mailbox<SessionCommand>) -> Fault {
        let mut control = control::open(
            self.connection.clone(),
            self.parts.host,
            self.parts.clock,
            &mut self.reading,
        );
        if self.parts.faults.leak_before_accept {
            let now = self.now();
            self.uplink.open(now);
        }
        let served = self.serve(commands, &mut control).await;
        let now = self.now();
        self.left.get_or_insert(now.utc);
        let ending = match served {
            Ok(fault) => {
                // what was said last, goodbye among it, arrives before the close
                control.finish(GOODBYE).await;
                fault
            }
            Err(fault) => fault,
        };
        self.connection
            .close(VarInt::from_u32(ending.code.close()), b"");
        let decoders = std::mem::take(&mut self.decoders);
        self.downlink.end();
        let dropped = tokio::task::spawn_blocking(move || drop(decoders)).await;
        if let Err(error) = dropped {
            tracing::error!(%error, "a decoder ended");
        }
        while let Some(event) = self.played.take() {
            self.took(event).await;
        }
        // goodbyes are no part of the talk, and no freeze
        let now = self.now();
        self.figures.ended(self.left.unwrap_or(now.utc));
        self.stats(now, &control).await;
        ending
    }

    /// Serves until the engine closes (`Ok`) or the connection or a rule breaks (`Err`).
    async fn serve(
        &mut self,
        mut commands: Mailbox<SessionCommand>,
        control: &mut control::Control,
    ) -> Result<Fault, Fault> {
        let mut second = self.last.0 + Duration::from_secs(1);
        loop {
            let now = self.now();
            let deadline = [
                Some(second),
                self.uplink.deadline(),
                self.downlink.deadline(),
            ]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(second);
            // whoever floods us with packets keeps nobody from being looked after
            if deadline <= now.mono {
                second = self.due(now, second, control).await?;
                continue;
            }
            tokio::select! {
                biased;
                // 1. what the engine says
                command = commands.recv() => match command {
                    Some(SessionCommand::Close(fault)) => return Ok(fault),
                    Some(command) => self.command(now, command, control)?,
                    None => return Ok(Fault::new(Code::Cancelled)),
                },
                // 2. control messages
                heard = control.recv() => match heard {
                    Some(Heard::Message { body, at }) => self.tell(SessionEvent::Control { body, at }).await,
                    Some(Heard::Broken(fault)) => return Err(fault),
                    None => {
                        self.left = Some(now.utc);
                        return Err(said_last(&self.connection).await);
                    }
                },
                // 3. the connection's end
                error = self.connection.closed() => return Err(gone(&error)),
                // 4. sound and reports
                datagram = self.connection.read_datagram() => {
                    let datagram = datagram.map_err(|error| gone(&error))?;
                    self.datagram(&datagram)?;
                }
                // 5. pictures
                Some(piece) = self.pieces.recv() => self.piece(piece)?,
                // 6. our own sound, then our own picture
                Some(frame) = self.audio.recv() => {
                    let now = self.now();
                    self.uplink.frame(now, frame);
                }
                Some(frame) = self.video.recv() => {
                    let now = self.now();
                    self.uplink.frame(now, frame);
                }
                // 7. what was shown and played
                Some(event) = self.played.recv() => self.took(event).await,
                // 8. pictures that the other end has
                Some(stream) = self.uplink.acked() => {
                    let now = self.now();
                    self.uplink.on_acked(now, stream);
                }
                // 9. deadlines
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
        }
    }

    /// Does what is due now; `second` is when the figures are, and the answer when they are next.
    async fn due(
        &mut self,
        now: Now,
        second: Instant,
        control: &control::Control,
    ) -> Result<Instant, Fault> {
        self.uplink.tick(now);
        self.downward(now)?;
        if now.mono < second {
            return Ok(second);
        }
        self.stats(now, control).await;
        if self.uplink.round_trip().is_none() {
            // who sends nothing gets no reports
            self.downlink.round_trip(now, self.connection.rtt())?;
        }
        let heard = self.connection.stats().udp_rx.datagrams;
        self.alive.heard(now.mono, heard, self.open)?;
        Ok(now.mono + Duration::from_secs(1))
    }

    fn command(
        &mut self,
        now: Now,
        command: SessionCommand,
        control: &control::Control,
    ) -> Result<(), Fault> {
        match command {
            SessionCommand::Send(bytes) => control.send(bytes)?,
            SessionCommand::Warm => {
                self.probes += u64::from(PROBE_PACKETS);
                self.uplink.probe(now);
            }
            SessionCommand::HideRhythm => self.uplink.hide_rhythm(now),
            SessionCommand::Open => {
                self.open = true;
                self.uplink.open(now);
                self.downlink.open(now)?;
            }
            SessionCommand::Media { audio, video } => self.uplink.media(now, audio, video),
            SessionCommand::PeerMedia { video } => self.figures.peer_media(video),
            SessionCommand::Clock(offset) => self.figures.clock(offset),
            SessionCommand::Close(_) => {}
        }
        Ok(())
    }

    fn datagram(&mut self, bytes: &Bytes) -> Result<(), Fault> {
        let now = self.now();
        self.downlink.datagram(now, bytes)?;
        self.downward(now)
    }

    fn piece(&mut self, piece: Piece) -> Result<(), Fault> {
        let now = self.now();
        match &piece {
            Piece::Opened(_) => self.peer_streams += 1,
            Piece::Data(_, bytes) => self.peer_pictures += bytes.len() as u64,
            Piece::End(_) | Piece::Reset(_) => {}
        }
        self.downlink.piece(now, piece)?;
        self.downward(now)
    }

    /// Plays what is due, and hands to the uplink what the other end asks of it.
    fn downward(&mut self, now: Now) -> Result<(), Fault> {
        for upward in self.downlink.tick(now)? {
            match upward {
                Upward::Report(bytes) => {
                    // before the accept only answers leave
                    self.probes += u64::from(!self.open);
                    self.uplink.report(bytes);
                }
                Upward::Keyframe => self.uplink.keyframe(),
                Upward::Probed(bits) => self.uplink.probed(now, bits),
                Upward::Arrivals(arrivals) => {
                    self.uplink.arrivals(now, &arrivals);
                    if let Some(trip) = self.uplink.round_trip() {
                        self.downlink.round_trip(now, trip)?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn took(&mut self, event: play::Event) {
        let first = self.figures.take(&event);
        if let play::Event::Played {
            at,
            captured: Some(captured),
            ..
        } = event
        {
            let now = self.now();
            self.downlink.voice(now, at, captured);
        }
        match event {
            play::Event::Undecodable => {
                let now = self.now();
                if let Err(fault) = self.downlink.undecodable(now) {
                    tracing::debug!(%fault, "keyframe request");
                }
            }
            play::Event::Failed(fault) => self.tell(SessionEvent::Unrecorded(fault)).await,
            play::Event::Shown { at, .. } if first => self.tell(SessionEvent::FirstFrame(at)).await,
            play::Event::Played { at, .. } if first => {
                self.tell(SessionEvent::FirstAudio(at)).await;
            }
            _ => {}
        }
    }

    async fn stats(&mut self, now: Now, control: &control::Control) {
        let quinn = self.connection.stats();
        let (at, sent, received, pictures) = self.last;
        let length = now.mono.saturating_duration_since(at);
        let secs = length.as_secs_f64().max(0.001);
        let rate = |bytes: u64, before: u64| {
            (bytes.saturating_sub(before) as f64 * 8.0 / secs).round() as u64
        };
        let rtt = self.connection.rtt();
        let figures = self.figures.second(now.utc);
        let second = Stats {
            sent_bps: rate(quinn.udp_tx.bytes, sent),
            received_bps: rate(quinn.udp_rx.bytes, received),
            loss: self.uplink.loss(),
            rtt_ms: rtt.as_secs_f64() * 1_000.0,
            latency_ms: figures.picture_ms,
            fps: figures.shown as f64 / secs,
            control_bytes: control.written(),
            peer_stream_bytes: control.read() + self.peer_pictures,
            datagrams: quinn.frame_tx.datagram.saturating_sub(self.probes),
            peer_streams: self.peer_streams,
            sound: SoundStats {
                played_ms: figures.played_ms,
                concealed_ms: figures.concealed_ms,
                rebuilt_ms: figures.rebuilt_ms,
                delay_ms: figures.sound_ms,
                jitter_ms: self.downlink.jitter_ms(),
            },
            picture: PictureStats {
                shown: figures.shown,
                freezes: figures.freezes,
                frozen_ms: figures.frozen_ms,
                received_bps: rate(self.peer_pictures, pictures),
                width: figures.size.map(|size| size.0),
                height: figures.size.map(|size| size.1),
            },
            rate: self.uplink.rate(now),
            ..Stats::default()
        };
        self.last = (
            now.mono,
            quinn.udp_tx.bytes,
            quinn.udp_rx.bytes,
            self.peer_pictures,
        );
        let stats = SessionStats {
            video: self
                .figures
                .video(self.uplink.video(), self.downlink.received()),
            audio: self
                .figures
                .audio(self.uplink.audio(), self.downlink.received()),
            wire: crate::report::Wire {
                sent_bytes: quinn.udp_tx.bytes,
                received_bytes: quinn.udp_rx.bytes,
                sent_packets: quinn.path.sent_packets,
                lost_packets: quinn.path.lost_packets,
            },
            path: self.parts.paths.of(self.parts.id, rtt),
            length,
            silent_ms: self.alive.silent_ms(now.mono, quinn.udp_rx.datagrams),
            second,
        };
        self.tell(SessionEvent::Stats(Box::new(stats))).await;
    }
}

/// The other end's stream ended: the close of the connection, which follows, says why. An end
/// that only falls silent and stays is held to the time of a goodbye.
pub async fn said_last(connection: &Connection) -> Fault {
    match tokio::time::timeout(2 * GOODBYE, connection.closed()).await {
        Ok(error) => gone(&error),
        Err(_) => Fault::new(Code::ProtocolViolation)
            .with("the other end's text ended, and no close came"),
    }
}

/// Why a connection that stood is gone.
fn gone(error: &ConnectionError) -> Fault {
    match error {
        ConnectionError::TimedOut | ConnectionError::Reset => Fault::new(Code::PeerSilent),
        ConnectionError::LocallyClosed => Fault::new(Code::Cancelled),
        other => handshake_fault(other),
    }
}

/// Microseconds from capture to now by the other end's capture time, given the offset of its clock.
fn since_capture(at: Timestamp, captured: Timestamp, offset: i64) -> i64 {
    at.micros_since(captured).saturating_add(offset)
}
