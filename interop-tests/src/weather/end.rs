//! A participant on a simulated wire: the protocol's media machines as a session drives
//! them, on streams and datagrams of quinn-proto. What was heard and seen is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{Connection, Dir, Event, StreamEvent, StreamId, VarInt, WriteError};
use suora_node::decode::player::{Block, Player};
use suora_node::encode::h264::quantiser::keyframe_most;
use suora_node::endpoint::congestion;
use suora_protocol::fault::Fault;
use suora_protocol::media::flow::{self, Flow, Part};
use suora_protocol::media::jitter::{self, Ledger};
use suora_protocol::media::outgoing::{Gone, Outgoing, Quic};
use suora_protocol::media::playout::Playout;
use suora_protocol::media::rate::{Rate, Way};
use suora_protocol::media::receiver::{self, Receiver};
use suora_protocol::media::sender::{self, Sender};
use suora_protocol::media::{EncodedFrame, Kind};
use suora_protocol::time::{Now, Timestamp};

use super::wire::Tenant;

/// Both ends are proven so long before sound and picture begin.
const WARM: Duration = Duration::from_millis(800);

/// Where frames come from.
pub trait Source {
    /// Frames that are due; `target` is of pictures, in bits a second; `None`: none is wanted now.
    fn due(&mut self, now: Now, target: Option<u32>, keyframe: bool) -> Vec<EncodedFrame>;
    /// When the next is due.
    fn next(&self) -> Option<Instant>;
    /// So many bits of sound a second, of which so many per cent get lost.
    fn sound(&mut self, bits_per_second: u32, percent: u8);
}

/// A packet of sound that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// When it was captured.
    pub captured: Timestamp,
    /// When it arrived.
    pub at: Timestamp,
}

/// 20 ms that were played.
#[derive(Clone, Debug)]
pub struct Played {
    /// When.
    pub at: Timestamp,
    /// What.
    pub block: Block,
}

/// A picture that was due.
#[derive(Clone, Debug)]
pub struct Shown {
    /// When.
    pub at: Timestamp,
    /// It.
    pub frame: EncodedFrame,
    /// Not passed over for a later one.
    pub show: bool,
}

/// Bytes of sound or picture that reached an end, be they of use or not.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// When.
    pub at: Timestamp,
    /// Of which flow.
    pub kind: Kind,
    /// How many.
    pub bytes: usize,
}

/// What an end wrote down.
#[derive(Debug, Default)]
pub struct Diary {
    /// Sound, as it arrived.
    pub heard: Vec<Heard>,
    /// Sound, as it was played.
    pub played: Vec<Played>,
    /// What became of its time.
    pub ledger: Ledger,
    /// Pictures, as they were due.
    pub shown: Vec<Shown>,
    /// The target of our own pictures, at each change.
    pub targets: Vec<(Timestamp, u32)>,
    /// When each picture's stream was whole here.
    pub whole: Vec<Timestamp>,
    /// All bytes of media, as they arrived.
    pub arrived: Vec<Arrived>,
}

/// A connection as sending sees it.
struct Wire<'a> {
    connection: &'a mut Connection,
    /// Streams that the other end will have whole, and their numbers.
    finished: &'a mut BTreeMap<StreamId, u64>,
}

impl Quic for Wire<'_> {
    type Stream = StreamId;

    fn way(&self) -> Way {
        congestion::way(self.connection.congestion_state().clone_box())
    }

    fn datagram(&mut self, bytes: Bytes) {
        // the oldest give way where the buffer is full
        let _ = self.connection.datagrams().send(bytes, true);
    }

    fn open(&mut self) -> Result<Option<StreamId>, Gone> {
        Ok(self.connection.streams().open(Dir::Uni))
    }

    fn write(&mut self, stream: &mut StreamId, bytes: &[u8]) -> Result<usize, Gone> {
        match self.connection.send_stream(*stream).write(bytes) {
            Ok(written) => Ok(written),
            Err(WriteError::Blocked) => Ok(0),
            Err(_) => Err(Gone),
        }
    }

    fn finish(&mut self, number: u64, stream: &mut StreamId) {
        if self.connection.send_stream(*stream).finish().is_ok() {
            self.finished.insert(*stream, number);
        }
    }

    fn reset(&mut self, stream: StreamId) {
        // one that is whole and acknowledged cannot be reset, and need not be
        let _ = self
            .connection
            .send_stream(stream)
            .reset(VarInt::from_u32(0));
        self.finished.remove(&stream);
    }
}

/// A participant.
pub struct End {
    outgoing: Outgoing<StreamId>,
    receiver: Receiver,
    player: Player,
    playout: Playout,
    source: Box<dyn Source>,
    /// When sound and picture begin.
    begin: Instant,
    up: bool,
    /// It asked how much the way carries.
    asked: bool,
    open: bool,
    keyframe: bool,
    finished: BTreeMap<StreamId, u64>,
    reading: Vec<StreamId>,
    /// Numbers of the packets of sound that came.
    sounds: BTreeSet<i64>,
    slot: Option<Instant>,
    due: Option<Instant>,
    /// What it saw and heard.
    pub diary: Diary,
}

impl End {
    /// Participant 0 or 1, sending from `begin` on what `source` makes, at most `most` bits of
    /// picture a second.
    pub fn new(number: u8, begin: Now, most: u32, source: Box<dyn Source>) -> Result<Self, Fault> {
        let ssrc = 1_000 * (u32::from(number) + 1);
        Ok(Self {
            outgoing: Outgoing::new(
                Sender::new(number, [ssrc, ssrc + 1]),
                Rate::new((80_000, most)),
            ),
            receiver: Receiver::new(number, 1 - number, ssrc + 2),
            player: Player::new()?,
            playout: Playout::new(),
            source,
            begin: begin.mono,
            up: false,
            asked: false,
            open: false,
            keyframe: false,
            finished: BTreeMap::new(),
            reading: Vec::new(),
            sounds: BTreeSet::new(),
            slot: None,
            due: None,
            diary: Diary::default(),
        })
    }

    /// The rate control.
    pub const fn rate(&self) -> &Rate {
        self.outgoing.rate()
    }

    /// The person switches sound and picture.
    pub(super) fn media(
        &mut self,
        now: Now,
        connection: &mut Connection,
        audio: bool,
        video: bool,
    ) {
        self.give(now, connection, sender::Input::Media { audio, video });
    }

    fn arrived(&mut self, now: Now, kind: Kind, bytes: usize) {
        let at = now.utc;
        self.diary.arrived.push(Arrived { at, kind, bytes });
    }

    fn give(&mut self, now: Now, connection: &mut Connection, input: sender::Input) {
        let mut wire = Wire {
            connection,
            finished: &mut self.finished,
        };
        let result = self.outgoing.handle_input(now, &mut wire, input);
        self.steer(now, result);
    }

    fn steer(&mut self, now: Now, result: Result<(), Fault>) {
        if let Err(fault) = result {
            panic!("{fault}");
        }
        self.keyframe |= self.outgoing.take_keyframe();
        let target = self.outgoing.rate().target();
        if self.diary.targets.last().map(|last| last.1) != Some(target) {
            self.diary.targets.push((now.utc, target));
        }
    }

    fn read(&mut self, now: Now, connection: &mut Connection) {
        while let Some(stream) = connection.streams().accept(Dir::Uni) {
            self.reading.push(stream);
        }
        while let Some(bytes) = connection.datagrams().recv() {
            let flow = flow::varint(&bytes).and_then(|(id, _)| Flow::from_id(id));
            if flow.is_some_and(|flow| matches!(flow.part, Part::Audio | Part::Again)) {
                self.arrived(now, Kind::Audio, bytes.len());
            }
            self.receive(now, receiver::Input::Datagram(&bytes));
        }
        let mut open = Vec::new();
        for stream in std::mem::take(&mut self.reading) {
            let number = stream.index();
            let mut pieces = Vec::new();
            let over;
            let mut recv = connection.recv_stream(stream);
            match recv.read(true) {
                Ok(mut chunks) => {
                    over = loop {
                        match chunks.next(64 * 1_024) {
                            Ok(Some(chunk)) => pieces.push(chunk.bytes),
                            Ok(None) => break Some(true),
                            Err(quinn_proto::ReadError::Blocked) => break None,
                            Err(quinn_proto::ReadError::Reset(_)) => break Some(false),
                        }
                    };
                    let _ = chunks.finalize();
                }
                Err(_) => over = Some(false),
            }
            for piece in pieces {
                self.arrived(now, Kind::Video, piece.len());
                self.receive(now, receiver::Input::StreamData(number, &piece));
            }
            match over {
                Some(true) => {
                    self.diary.whole.push(now.utc);
                    self.receive(now, receiver::Input::StreamEnd(number));
                }
                Some(false) => self.receive(now, receiver::Input::StreamReset(number)),
                None => open.push(stream),
            }
        }
        self.reading = open;
    }

    fn receive(&mut self, now: Now, input: receiver::Input<'_>) {
        // a rule that our own sender breaks is a defect of the machines
        if let Err(fault) = self.receiver.handle_input(now, input) {
            panic!("{fault}");
        }
    }

    fn given(&mut self, now: Now, connection: &mut Connection) {
        loop {
            match self.receiver.poll_output() {
                receiver::Output::Audio(packet) => {
                    // a copy of what came before is not heard again
                    if self.sounds.insert(packet.sequence) {
                        self.diary.heard.push(Heard {
                            captured: packet.captured,
                            at: now.utc,
                        });
                    }
                    self.player.push(now, packet);
                }
                receiver::Output::Frame(frame) => self.playout.push(now, frame),
                receiver::Output::Datagram(bytes) => {
                    let _ = connection.datagrams().send(bytes, true);
                }
                receiver::Output::Keyframe => self.keyframe = true,
                receiver::Output::Probed(bits) => {
                    self.outgoing.probed(now, bits);
                    self.steer(now, Ok(()));
                }
                receiver::Output::Arrivals(report) => {
                    let result = self.outgoing.arrivals(now, &report);
                    self.steer(now, result);
                    if let Some(trip) = self.outgoing.round_trip() {
                        self.receive(now, receiver::Input::RoundTrip(trip));
                    }
                }
                receiver::Output::Wait(due, _) => {
                    self.due = due;
                    break;
                }
            }
        }
        while let Some(mut slot) = self.slot.filter(|slot| *slot <= now.mono) {
            let block = self.player.pull(now);
            if let Some(captured) = block.captured {
                self.playout.voice(now, captured);
            }
            self.diary.played.push(Played { at: now.utc, block });
            self.diary.ledger = self.player.ledger();
            slot += jitter::FRAME;
            self.slot = Some(slot);
        }
        while let Some(due) = self.playout.pull(now) {
            self.diary.shown.push(Shown {
                at: now.utc,
                frame: due.frame,
                show: due.show,
            });
        }
    }
}

impl Tenant for End {
    fn event(&mut self, now: Now, connection: &mut Connection, event: Event) {
        match event {
            Event::Connected => self.up = true,
            Event::Stream(StreamEvent::Finished { id } | StreamEvent::Stopped { id, .. }) => {
                if let Some(number) = self.finished.remove(&id) {
                    let mut wire = Wire {
                        connection,
                        finished: &mut self.finished,
                    };
                    let result = self.outgoing.acked(now, &mut wire, number);
                    self.steer(now, result);
                }
            }
            Event::ConnectionLost { reason } => panic!("{reason}"),
            _ => {}
        }
    }

    fn tick(&mut self, now: Now, connection: &mut Connection) {
        if !self.open {
            if self.up && !self.asked && now.mono + WARM >= self.begin {
                self.asked = true;
                self.give(now, connection, sender::Input::Probe);
            }
            if now.mono < self.begin {
                self.read(now, connection);
                self.given(now, connection);
                return;
            }
            assert!(self.up, "no connection when the weather began");
            self.open = true;
            self.slot = Some(now.mono);
            self.receive(now, receiver::Input::Accepted);
            self.give(now, connection, sender::Input::Open);
        }
        self.read(now, connection);
        if self.due.is_some_and(|due| due <= now.mono) {
            self.receive(now, receiver::Input::Tick);
        }
        self.given(now, connection);
        let keyframe = std::mem::take(&mut self.keyframe);
        let wanted = self.outgoing.wants_picture(now);
        let target = wanted.then(|| self.outgoing.rate().target());
        let (rate, guard) = (self.outgoing.rate(), self.outgoing.guard());
        self.source.sound(rate.allotted().sound, guard.percent());
        let frames = self.source.due(now, target, keyframe);
        self.keyframe |= keyframe && !frames.iter().any(|frame| frame.kind == Kind::Video);
        for frame in frames {
            self.give(now, connection, sender::Input::Frame(frame));
        }
        let mut wire = Wire {
            connection,
            finished: &mut self.finished,
        };
        let result = self.outgoing.tick(now, &mut wire);
        self.steer(now, result);
    }

    fn deadline(&self) -> Option<Instant> {
        if !self.open {
            let ask = self.begin.checked_sub(WARM);
            return ask.filter(|_| self.up && !self.asked).or(Some(self.begin));
        }
        [
            self.source.next(),
            self.slot,
            self.playout.deadline(),
            self.due,
            self.outgoing.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// Sizes as an encoder's: sound of 80 bytes, or fewer where it is thin, pictures about the target, keyframes larger.
pub struct Model {
    start: Instant,
    pictures: u32,
    sounds: u32,
    /// Bytes of a packet of sound.
    sound: usize,
    fps: u32,
    /// Bytes of a keyframe, where the target does not say.
    pub keyframe: Option<usize>,
    /// Pictures of this size instead of the target's.
    pub fixed: Option<usize>,
    /// Whether there are pictures at all.
    pub video: bool,
}

impl Model {
    /// So many pictures a second from `start` on.
    pub fn new(start: Now, fps: u32) -> Self {
        Self {
            start: start.mono,
            pictures: 0,
            sounds: 0,
            sound: 80,
            fps,
            keyframe: None,
            fixed: None,
            video: true,
        }
    }

    /// When the next picture is due.
    pub fn next_picture(&self) -> Instant {
        self.at(self.pictures, self.fps)
    }

    fn at(&self, count: u32, rate: u32) -> Instant {
        self.start + Duration::from_micros(u64::from(count) * 1_000_000 / u64::from(rate))
    }
}

fn frame(kind: Kind, captured: Timestamp, data: Vec<u8>, keyframe: bool) -> EncodedFrame {
    EncodedFrame {
        kind,
        captured,
        data: data.into(),
        keyframe,
        width: 640,
        height: 360,
        duration: jitter::FRAME,
    }
}

impl Source for Model {
    fn due(&mut self, now: Now, target: Option<u32>, keyframe: bool) -> Vec<EncodedFrame> {
        let mut frames = Vec::new();
        while self.at(self.sounds, 50) <= now.mono {
            // TOC: SILK wideband, 20 ms, mono; then: it brings the one before
            let mut packet = vec![0xaa; self.sound];
            packet[..2].copy_from_slice(&[0x48, 0xc0]);
            let late = now.mono - self.at(self.sounds, 50);
            frames.push(frame(Kind::Audio, now.utc - late, packet, true));
            self.sounds += 1;
        }
        while self.at(self.pictures, self.fps) <= now.mono {
            let late = now.mono - self.at(self.pictures, self.fps);
            let key = keyframe || self.pictures == 0;
            // some are twice as large as others
            let share = 0.67 + 0.67 * f64::from(self.pictures * 7 % 11) / 10.0;
            let most = keyframe_most(640 * 360, target.unwrap_or(0));
            let size = f64::from(target.unwrap_or(0)) / 8.0 / f64::from(self.fps) * share;
            let size = match (key, self.fixed) {
                (true, _) => self.keyframe.unwrap_or(most),
                (false, Some(size)) => size,
                (false, None) => size as usize,
            };
            let mut unit = vec![0xaa; size.max(64)];
            unit[..5].copy_from_slice(&[0, 0, 0, 1, if key { 0x65 } else { 0x41 }]);
            if self.video && target.is_some() {
                frames.push(frame(Kind::Video, now.utc - late, unit, key));
            }
            self.pictures += 1;
        }
        frames
    }

    fn sound(&mut self, bits_per_second: u32, _: u8) {
        self.sound = bits_per_second as usize / 8 / 50;
    }

    fn next(&self) -> Option<Instant> {
        Some(
            self.at(self.sounds, 50)
                .min(self.at(self.pictures, self.fps)),
        )
    }
}
