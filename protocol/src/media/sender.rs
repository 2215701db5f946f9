//! Frames become packets (`spec/media.md`, sections 3 to 7). Sound leaves at once in
//! a datagram. A picture becomes one stream, whose bytes leave by the budget of each
//! beat, so that sound never waits behind it. A picture that got stale is reset, and
//! with it all that refer to it: a new keyframe follows. Until the gate opens, frames
//! are dropped here and nothing of them leaves.

mod told;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::told::{Track, join};
use super::flow::{self, Flow, Part};
use super::guard::Guard;
use super::probe;
use super::rate::Feedback;
use super::rtcp::{self, ArrivalReport};
use super::rtp::{self, Out};
use super::{EncodedFrame, Kind, h264};
use crate::fault::Fault;
use crate::limits;
use crate::time::Now;

/// Reports may say what they like of the time: within this, in units of 1/65536 s, nothing overflows.
const CLOCK_MAX: i64 = 1 << 42;
/// While so many streams of pictures wait for acknowledgements, pictures are sent once.
const COPIED_MAX: usize = 32;
/// A copy leaves so long after what it is a copy of, at least.
const COPY_APART: Duration = Duration::from_millis(3);
/// The longest round trip that is waited for.
const TRIP_MAX: Duration = Duration::from_secs(1);
/// A keyframe may take so many times as long as another picture: giving it up only asks for
/// the next.
const KEYFRAME_PATIENCE: u32 = 3;

/// What the session tells the sender.
#[derive(Debug)]
pub enum Input {
    /// Both ends are proven: ask how much the way carries.
    Probe,
    /// The gate opens: media may leave.
    Open,
    /// An encoder made this.
    Frame(EncodedFrame),
    /// So many bytes of pictures may leave now.
    Beat(usize),
    /// Bytes of a picture leave so many at a time, but for its last ones.
    Piece(usize),
    /// QUIC took so many bytes of this stream so far.
    Taken(u64, usize),
    /// The other end has all of this stream.
    Acked(u64),
    /// Nothing gets through: no picture leaves until `Heard`, and those under way are of no use.
    Silence,
    /// The other end is heard again.
    Heard,
    /// A round trip takes so long.
    RoundTrip(Duration),
    /// How often small pictures are sent from now on.
    Copies(usize),
    /// This share of sound is lost, 0 to 1, and whether packets queue.
    Loss(f64, bool),
    /// The rhythm of speech is to be hidden: sound is padded from now on.
    Pad,
    /// What the person wants to send.
    Media {
        /// Sound.
        audio: bool,
        /// Picture.
        video: bool,
    },
}

/// What the sender asks of the session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send a datagram.
    Datagram(Bytes),
    /// Open a unidirectional stream, known by this number.
    Open(u64),
    /// Write to it.
    Write(u64, Bytes),
    /// It is whole.
    Finish(u64),
    /// Its bytes are of no use any more.
    Reset(u64),
    /// Ask the encoder for a keyframe.
    Keyframe,
    /// Nothing more now; come again then.
    Wait(Option<Instant>, &'static str),
}

/// What left so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Pictures whose bytes left.
    pub frames: u64,
    /// Payload bytes of pictures.
    pub video_bytes: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Pictures that were reset or dropped.
    pub stale: u64,
    /// Sound packets.
    pub packets: u64,
    /// Payload bytes of sound.
    pub audio_bytes: u64,
}

#[derive(Debug)]
struct Picture {
    stream: Option<u64>,
    bytes: Bytes,
    /// Where each packet ends, and its sequence number.
    packets: VecDeque<(usize, u16)>,
    at: usize,
    /// When it is of no use any more.
    until: Instant,
    payload: u64,
    keyframe: bool,
    copy: bool,
    /// The stream of which it is a copy.
    first: Option<u64>,
}

/// Makes packets of one participant's frames.
#[derive(Debug)]
pub struct Sender {
    participant: u8,
    open: bool,
    audio_on: bool,
    video_on: bool,
    padded: bool,
    audio: Track,
    video: Track,
    pictures: VecDeque<Picture>,
    /// What QUIC took of each stream as far as packets are whole, and those that are not: where
    /// each ends, and its sequence number.
    leaving: BTreeMap<u64, (usize, VecDeque<(usize, u16)>)>,
    /// Streams written whole and not yet acknowledged, and when they are of no use any more.
    unacked: BTreeMap<u64, Instant>,
    next_stream: u64,
    needs_keyframe: bool,
    trip: Duration,
    copies: usize,
    piece: usize,
    /// When the last picture had left whole.
    whole: Option<Instant>,
    /// Streams of pictures that are sent several times, and the first of each.
    copied: BTreeMap<u64, u64>,
    /// No picture may leave.
    silent: bool,
    report_due: Option<Instant>,
    /// The last report's time: as it was told, and in units of 1/65536 s without wrap.
    reported: Option<(u32, i64)>,
    guard: Guard,
    out: VecDeque<Output>,
    sent: Sent,
}

impl Sender {
    /// A sender for `participant`, with the closed gate. `ssrcs`: random, one a track.
    pub fn new(participant: u8, ssrcs: [u32; 2]) -> Self {
        let [audio, video] = ssrcs;
        Self {
            participant,
            open: false,
            audio_on: true,
            video_on: true,
            padded: false,
            audio: Track::new(audio),
            video: Track::new(video),
            pictures: VecDeque::new(),
            leaving: BTreeMap::new(),
            unacked: BTreeMap::new(),
            next_stream: 0,
            needs_keyframe: true,
            trip: Duration::ZERO,
            copies: 1,
            piece: 1,
            whole: None,
            copied: BTreeMap::new(),
            silent: false,
            report_due: None,
            reported: None,
            guard: Guard::default(),
            out: VecDeque::new(),
            sent: Sent::default(),
        }
    }

    /// How sound is guarded against loss.
    pub const fn guard(&self) -> &Guard {
        &self.guard
    }

    /// What left so far.
    pub const fn sent(&self) -> Sent {
        self.sent
    }

    /// Bytes of pictures that wait for budget.
    pub fn backlog(&self) -> usize {
        self.pictures
            .iter()
            .map(|picture| picture.bytes.len().saturating_sub(picture.at))
            .sum()
    }

    /// Joins an arrival report with what was sent. Each packet is told once, when its fate
    /// is known, though reports repeat themselves.
    pub fn feedback(&mut self, report: &ArrivalReport) -> Feedback {
        let at = match self.reported {
            // the difference on the ring of 32 bits
            Some((last, at)) => at + i64::from(report.at.wrapping_sub(last).cast_signed()),
            None => i64::from(report.at),
        }
        .clamp(-CLOCK_MAX, CLOCK_MAX);
        self.reported = Some((report.at, at));
        let at = at * 1_000_000 / 65_536;
        let mut packets = Vec::new();
        for arrivals in &report.tracks {
            if arrivals.ssrc == self.audio.ssrc {
                join(&mut self.audio, Kind::Audio, arrivals, at, &mut packets);
            } else if arrivals.ssrc == self.video.ssrc {
                join(&mut self.video, Kind::Video, arrivals, at, &mut packets);
            }
        }
        Feedback { at, packets }
    }

    /// Takes an input.
    pub fn handle_input(&mut self, now: Now, input: Input) -> Result<(), Fault> {
        match input {
            Input::Probe => {
                for packet in probe::train() {
                    self.datagram(Part::Probe, &packet);
                }
            }
            Input::Open => {
                self.open = true;
                self.needs_keyframe = true;
                self.report_due = Some(now.mono);
                self.out.push_back(Output::Keyframe);
            }
            Input::Media { audio, video } => {
                if video && !self.video_on {
                    self.needs_keyframe = true;
                    self.out.push_back(Output::Keyframe);
                }
                if !video {
                    self.take_back();
                }
                if !audio {
                    self.guard.mute();
                }
                self.audio_on = audio;
                self.video_on = video;
            }
            Input::Frame(frame) if self.open => match frame.kind {
                Kind::Audio if self.audio_on => self.sound(now, &frame)?,
                Kind::Video if self.video_on => self.picture(now, &frame)?,
                _ => {}
            },
            Input::Frame(_) => {}
            Input::Silence => {
                self.silent = true;
                self.take_back();
                self.needs_keyframe = true;
            }
            Input::Heard => {
                if std::mem::take(&mut self.silent) {
                    self.out.push_back(Output::Keyframe);
                }
            }
            Input::Copies(copies) => self.copies = copies.clamp(1, limits::COPIES_MAX),
            Input::Loss(share, queues) => self.guard.loses(share, queues),
            Input::Pad => self.padded = true,
            Input::Piece(bytes) => self.piece = bytes.max(1),
            Input::RoundTrip(trip) => self.trip = trip.min(TRIP_MAX),
            Input::Taken(stream, bytes) => self.taken(now.mono, stream, bytes),
            Input::Beat(budget) => {
                self.reset_stale(now.mono);
                self.write(now.mono, budget);
                self.reports(now)?;
            }
            Input::Acked(stream) => self.acked(stream),
        }
        Ok(())
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Output {
        self.out
            .pop_front()
            .unwrap_or(Output::Wait(self.report_due, "sender report"))
    }

    fn datagram(&mut self, part: Part, packet: &[u8]) {
        let flow = Flow {
            participant: self.participant,
            part,
        };
        self.out
            .push_back(Output::Datagram(flow::to_datagram(flow, packet).into()));
    }

    fn sound(&mut self, now: Now, frame: &EncodedFrame) -> Result<(), Fault> {
        let sequence = self.audio.next(frame.data.len());
        let packet = rtp::sound((self.audio.ssrc, sequence), frame, self.padded)?;
        if packet.len() > limits::DATAGRAM_MAX {
            return Ok(());
        }
        self.audio.left(sequence, packet.len(), now.mono);
        self.sent.packets += 1;
        self.sent.audio_bytes += frame.data.len() as u64;
        self.datagram(Part::Audio, &packet);
        if let Some(copy) = self.guard.leaves(now.mono, packet.into()) {
            self.datagram(Part::Again, &copy);
        }
        Ok(())
    }

    fn picture(&mut self, now: Now, frame: &EncodedFrame) -> Result<(), Fault> {
        if self.silent || (self.needs_keyframe && !frame.keyframe) {
            return Ok(());
        }
        if frame.keyframe {
            // nothing older is needed any more
            self.drop_pictures();
            self.needs_keyframe = false;
        } else if self.waiting() >= limits::FRAMES_WAITING_MAX
            || self.unheard() >= limits::FRAME_STREAMS_MAX
        {
            self.sent.stale += 1;
            self.give_up();
            return Ok(());
        }
        let units: Vec<&[u8]> = h264::split(&frame.data)
            .into_iter()
            .filter(|unit| h264::is_single(unit))
            .collect();
        let last = units.len().saturating_sub(1);
        let mut bytes = Vec::with_capacity(frame.data.len() + 64);
        flow::put_varint(
            &mut bytes,
            Flow {
                participant: self.participant,
                part: Part::Video,
            }
            .id(),
        );
        let mut packets = VecDeque::new();
        for (at, unit) in units.into_iter().enumerate() {
            let sequence = self.video.next(unit.len());
            let packet = rtp::write(Out {
                payload_type: rtp::PT_H264,
                marker: at == last,
                sequence,
                time: rtp::rtp_time(Kind::Video, frame.captured),
                ssrc: self.video.ssrc,
                captured: (at == 0).then_some(frame.captured),
                payload: unit,
            })?;
            flow::put_varint(&mut bytes, packet.len() as u64);
            bytes.extend_from_slice(&packet);
            packets.push_back((bytes.len(), sequence));
        }
        if packets.is_empty() || bytes.len() > limits::FRAME_MAX {
            self.needs_keyframe = true;
            return Ok(());
        }
        let bytes = Bytes::from(bytes);
        let copies = if bytes.len() <= limits::COPY_MAX && self.unacked.len() < COPIED_MAX {
            self.copies
        } else {
            1
        };
        let again = bytes.clone();
        self.pictures.push_back(Picture {
            stream: None,
            bytes,
            packets,
            at: 0,
            until: now.mono
                + limits::FRAME_STALE * if frame.keyframe { KEYFRAME_PATIENCE } else { 1 },
            payload: frame.data.len() as u64,
            keyframe: frame.keyframe,
            copy: false,
            first: None,
        });
        for _ in 1..copies {
            self.pictures.push_back(Picture {
                stream: None,
                bytes: again.clone(),
                packets: VecDeque::new(),
                at: 0,
                until: now.mono + limits::FRAME_STALE,
                payload: 0,
                keyframe: false,
                copy: true,
                first: None,
            });
        }
        Ok(())
    }

    /// Pictures that wait, each once.
    fn waiting(&self) -> usize {
        self.pictures.iter().filter(|picture| !picture.copy).count()
    }

    /// Pictures that were written and are not acknowledged, each once.
    fn unheard(&self) -> usize {
        let copy = |stream: &&u64| (self.copied.get(stream)).is_some_and(|first| first != *stream);
        self.unacked.len() - self.unacked.keys().filter(copy).count()
    }

    /// Hands out up to `budget` bytes of pictures, oldest first.
    fn write(&mut self, now: Instant, budget: usize) {
        let mut budget = budget;
        while budget > 0 {
            let Some(picture) = self.pictures.front_mut() else {
                break;
            };
            // in one packet both would be lost at once
            let soon = |last| now.saturating_duration_since(last) < COPY_APART;
            if picture.copy && picture.at == 0 && self.whole.is_some_and(soon) {
                break;
            }
            if budget < picture.bytes.len() - picture.at {
                budget -= budget % self.piece;
                if budget == 0 {
                    break;
                }
            }
            let stream = match picture.stream {
                Some(stream) => stream,
                None => {
                    let stream = self.next_stream;
                    self.next_stream += 1;
                    picture.stream = Some(stream);
                    if let Some(first) = picture.first {
                        self.copied.insert(stream, first);
                        self.copied.insert(first, first);
                    }
                    self.out.push_back(Output::Open(stream));
                    stream
                }
            };
            let end = picture.bytes.len().min(picture.at.saturating_add(budget));
            self.out
                .push_back(Output::Write(stream, picture.bytes.slice(picture.at..end)));
            budget = budget.saturating_sub(end - picture.at);
            while let Some((until, sequence)) = picture.packets.front().copied()
                && until <= end
            {
                let (_, leaving) = self.leaving.entry(stream).or_default();
                leaving.push_back((until, sequence));
                picture.packets.pop_front();
            }
            picture.at = end;
            if end == picture.bytes.len() {
                self.sent.frames += u64::from(!picture.copy);
                self.sent.keyframes += u64::from(picture.keyframe);
                self.sent.video_bytes += picture.payload;
                self.out.push_back(Output::Finish(stream));
                // it may be lost and sent again, twice
                self.unacked.insert(stream, picture.until + self.trip * 3);
                let first = picture.first.unwrap_or(stream);
                self.whole = Some(now);
                self.pictures.pop_front();
                let copies = self.pictures.iter_mut().take_while(|next| next.copy);
                for copy in copies {
                    copy.first = Some(first);
                }
            }
        }
    }

    /// The other end has the picture of this stream: its copies are of no use any more.
    fn acked(&mut self, stream: u64) {
        self.unacked.remove(&stream);
        self.leaving.remove(&stream);
        let first = self.copied.remove(&stream).unwrap_or(stream);
        self.pictures.retain(|picture| picture.first != Some(first));
        let others = self.copied.iter().filter(|(_, of)| **of == first);
        let others: Vec<u64> = others.map(|(other, _)| *other).collect();
        for other in others {
            self.unacked.remove(&other);
            self.reset(other);
        }
    }

    /// QUIC took so many bytes of a stream: packets whose last byte is among them left now.
    fn taken(&mut self, now: Instant, stream: u64, bytes: usize) {
        let Some((from, leaving)) = self.leaving.get_mut(&stream) else {
            return;
        };
        while let Some((until, sequence)) = leaving.front().copied()
            && until <= bytes
        {
            self.video.left(sequence, until.saturating_sub(*from), now);
            *from = until;
            leaving.pop_front();
        }
    }

    fn reset(&mut self, stream: u64) {
        self.leaving.remove(&stream);
        self.copied.remove(&stream);
        self.out.push_back(Output::Reset(stream));
    }

    /// Drops pictures that did not leave whole. What refers to them needs a keyframe.
    fn drop_pictures(&mut self) {
        for picture in std::mem::take(&mut self.pictures) {
            self.sent.stale += u64::from(!picture.copy);
            if let Some(stream) = picture.stream {
                self.reset(stream);
            }
        }
    }

    /// Drops pictures, and takes back what QUIC would send again of those that left.
    fn take_back(&mut self) {
        self.drop_pictures();
        for (stream, _) in std::mem::take(&mut self.unacked) {
            self.reset(stream);
        }
    }

    fn give_up(&mut self) {
        self.drop_pictures();
        if !self.needs_keyframe {
            self.needs_keyframe = true;
            self.out.push_back(Output::Keyframe);
        }
    }

    fn reset_stale(&mut self, now: Instant) {
        while let Some(copy) = self
            .pictures
            .pop_front_if(|picture| picture.copy && now > picture.until)
        {
            if let Some(stream) = copy.stream {
                self.reset(stream);
            }
        }
        if self
            .pictures
            .front()
            .is_some_and(|picture| now > picture.until)
        {
            self.give_up();
        }
        let late: Vec<u64> = self
            .unacked
            .iter()
            .filter(|(_, until)| now > **until)
            .map(|(stream, _)| *stream)
            .collect();
        for stream in late {
            // An acknowledgement may be late though the bytes are not: the receiver asks if it misses them.
            self.unacked.remove(&stream);
            self.reset(stream);
        }
    }

    /// A sender report a second for each track that has sent.
    fn reports(&mut self, now: Now) -> Result<(), Fault> {
        if self.report_due.is_none_or(|due| now.mono < due) {
            return Ok(());
        }
        self.report_due = Some(now.mono + Duration::from_secs(1));
        for (kind, track) in [(Kind::Audio, &self.audio), (Kind::Video, &self.video)] {
            if track.packets > 0 {
                let report = rtcp::sender_report(
                    track.ssrc,
                    now.utc,
                    rtp::rtp_time(kind, now.utc),
                    track.packets,
                    track.bytes,
                )?;
                let flow = Flow {
                    participant: self.participant,
                    part: Part::Rtcp,
                };
                self.out
                    .push_back(Output::Datagram(flow::to_datagram(flow, &report).into()));
            }
        }
        Ok(())
    }
}
