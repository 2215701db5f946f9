//! Packets become frames (`spec/media.md`, sections 3 to 7). A picture is whole when
//! its stream ended; pictures leave in order. Where one is missing the receiver waits
//! a little, then asks for a keyframe and shows nothing that refers to the gap. What
//! arrived, and when, goes back in arrival reports once the officer accepted. A guest
//! holds what overtakes the host's word of the accept; a host has no such excuse.

mod arrived;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use self::arrived::Track;
use super::flow::{self, Flow, Part};
use super::probe;
use super::rtcp::{self, ArrivalReport, Report};
use super::rtp;
use super::{EncodedFrame, Kind, h264};
use crate::fault::{Code, Fault};
use crate::limits;
use crate::time::{Now, Timestamp};

/// How long a picture waits for the one before it at least.
const GAP_WAIT: Duration = Duration::from_millis(150);
/// Likewise in round trips: QUIC sends again after one, and once more.
const GAP_TRIPS: u32 = 3;
/// Pictures of so many last packets are known when they come again.
const GIVEN: i64 = 256;
/// The longest that a picture is waited for.
const GAP_MAX: Duration = Duration::from_millis(1_000);
/// The least time between two requests for a keyframe.
const PLI_INTERVAL: Duration = Duration::from_millis(300);
/// Most pictures that wait for an earlier one: some more than the longest wait brings.
const HELD_MAX: usize = 32;

/// The host's number among the participants.
const HOST: u8 = 0;
/// Most pieces that a guest holds before it hears of the accept.
const EARLY_MAX: usize = 1_024;

/// What the session tells the receiver.
#[derive(Debug)]
pub enum Input<'a> {
    /// The gate opened: reports may leave.
    Accepted,
    /// A datagram arrived.
    Datagram(&'a [u8]),
    /// Bytes of a stream arrived.
    StreamData(u64, &'a [u8]),
    /// A stream is whole.
    StreamEnd(u64),
    /// A stream was reset.
    StreamReset(u64),
    /// The decoder cannot go on: ask for a keyframe.
    Undecodable,
    /// A round trip takes so long.
    RoundTrip(Duration),
    /// Time passed.
    Tick,
}

/// What the receiver gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// 20 ms of encoded sound.
    Audio(AudioPacket),
    /// A picture, in order; decoding it needs none that is missing.
    Frame(EncodedFrame),
    /// Send a datagram.
    Datagram(Bytes),
    /// The other end asks for a keyframe.
    Keyframe,
    /// What the other end received.
    Arrivals(ArrivalReport),
    /// The way to the other end carries so many bits a second, as far as a train could tell.
    Probed(u64),
    /// Nothing more now; come again then.
    Wait(Option<Instant>, &'static str),
}

/// 20 ms of encoded sound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AudioPacket {
    /// Extended sequence number.
    pub sequence: i64,
    /// When it was captured, by the sender's clock.
    pub captured: Timestamp,
    /// The Opus packet.
    pub data: Bytes,
}

/// What arrived so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// Whole pictures.
    pub frames: u64,
    /// Pictures that came too late or referred to a missing one.
    pub dropped: u64,
    /// Sound packets.
    pub packets: u64,
    /// Packets and streams that were malformed.
    pub malformed: u64,
}

/// Consecutive packets of one picture.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: i64,
    last: i64,
    time: u32,
}

/// A stream that is still being read. A packet has arrived when its last byte was read.
#[derive(Debug, Default)]
struct Incoming {
    buffer: BytesMut,
    /// Bytes read so far.
    len: usize,
    started: bool,
    /// Of a flow that nobody here reads: its bytes are ignored.
    foreign: bool,
    broken: bool,
    data: Vec<u8>,
    captured: Option<Timestamp>,
    span: Option<Span>,
    whole: bool,
    keyframe: bool,
}

impl Incoming {
    fn read(
        &mut self,
        now: Instant,
        bytes: &[u8],
        peer: u8,
        track: &mut Track,
    ) -> Result<(), Fault> {
        if self.foreign {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        if !self.started {
            let Some((id, head)) = flow::varint(&self.buffer) else {
                return Ok(());
            };
            self.started = true;
            self.buffer.advance(head);
            let ours = Flow {
                participant: peer,
                part: Part::Video,
            };
            if Flow::from_id(id) != Some(ours) {
                self.foreign = true;
                self.buffer.clear();
                return Ok(());
            }
        }
        while let Some((len, head)) = flow::varint(&self.buffer) {
            let end = usize::try_from(len)
                .ok()
                .and_then(|len| len.checked_add(head))
                .filter(|end| *end <= limits::FRAME_MAX)
                .ok_or_else(|| Fault::new(Code::Malformed).with("a length over the bound"))?;
            if self.buffer.len() < end {
                break;
            }
            let packet = self.buffer.split_to(end).freeze();
            self.packet(now, packet.get(head..).unwrap_or_default(), track)?;
        }
        Ok(())
    }

    fn packet(&mut self, now: Instant, bytes: &[u8], track: &mut Track) -> Result<(), Fault> {
        let malformed = |what: &str| Fault::new(Code::Malformed).with(what);
        let packet = rtp::read(bytes)?;
        if packet.payload_type != rtp::PT_H264 || !h264::is_single(packet.payload) || self.whole {
            return Err(malformed("not a NAL unit of this picture"));
        }
        let sequence = track.arrive(packet.ssrc, packet.sequence, now);
        self.span = match self.span {
            None => Some(Span {
                first: sequence,
                last: sequence,
                time: packet.time,
            }),
            Some(span) if sequence == span.last + 1 && packet.time == span.time => Some(Span {
                last: sequence,
                ..span
            }),
            Some(_) => return Err(malformed("packets out of order")),
        };
        self.captured = self.captured.or(packet.captured);
        self.keyframe |= h264::unit_type(packet.payload) == 5;
        self.whole = packet.marker;
        h264::join(&mut self.data, packet.payload);
        Ok(())
    }
}

#[derive(Debug)]
struct Picture {
    last: i64,
    frame: EncodedFrame,
    since: Instant,
}

/// A piece of media that came before the accept was heard of.
#[derive(Debug)]
enum Piece {
    Datagram(Vec<u8>),
    Data(u64, Vec<u8>),
    End(u64),
    Reset(u64),
}

/// Makes frames of another participant's packets.
#[derive(Debug)]
pub struct Receiver {
    /// Our own number, for reports.
    participant: u8,
    peer: u8,
    ssrc: u32,
    accepted: bool,
    early: VecDeque<(Now, Piece)>,
    early_bytes: usize,
    audio: Track,
    video: Track,
    streams: BTreeMap<u64, Incoming>,
    held: BTreeMap<i64, Picture>,
    next: Option<i64>,
    /// The pictures that were given out last.
    given: BTreeSet<i64>,
    needs_keyframe: bool,
    /// How long a missing picture is waited for.
    gap: Duration,
    asked: Option<Instant>,
    report_due: Option<Instant>,
    probe: probe::Arrivals,
    out: VecDeque<Output>,
    received: Received,
}

impl Receiver {
    /// A receiver at `participant` for what `peer` sends; `ssrc` names its reports.
    pub fn new(participant: u8, peer: u8, ssrc: u32) -> Self {
        Self {
            participant,
            peer,
            ssrc,
            accepted: false,
            early: VecDeque::new(),
            early_bytes: 0,
            audio: Track::default(),
            video: Track::default(),
            streams: BTreeMap::new(),
            held: BTreeMap::new(),
            next: None,
            given: BTreeSet::new(),
            needs_keyframe: true,
            gap: GAP_WAIT,
            asked: None,
            report_due: None,
            probe: probe::Arrivals::default(),
            out: VecDeque::new(),
            received: Received::default(),
        }
    }

    /// What arrived so far.
    pub const fn received(&self) -> Received {
        self.received
    }

    /// Takes an input. Media before the gate opened is [`Code::ProtocolViolation`], at a
    /// guest unless the accept follows within [`limits::EARLY_WAIT`]; single malformed
    /// packets are counted and dropped.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>) -> Result<(), Fault> {
        if let Input::Datagram(bytes) = input
            && self.probe(now.mono, bytes)
        {
            return Ok(());
        }
        if !self.accepted {
            return self.before_accept(now, input);
        }
        match input {
            Input::Accepted => {}
            Input::Datagram(bytes) => {
                if self.datagram(now, bytes).is_err() {
                    self.received.malformed += 1;
                }
            }
            Input::StreamData(stream, bytes) => {
                if !self.streams.contains_key(&stream)
                    && self.streams.len() >= limits::UNI_STREAMS_MAX as usize
                {
                    return Err(
                        Fault::new(Code::ProtocolViolation).with("too many open frame streams")
                    );
                }
                let incoming = self.streams.entry(stream).or_default();
                incoming.len += bytes.len();
                if incoming.len > limits::FRAME_MAX {
                    return Err(Fault::new(Code::TooLarge).with("a picture over the bound"));
                }
                if !incoming.broken
                    && incoming
                        .read(now.mono, bytes, self.peer, &mut self.video)
                        .is_err()
                {
                    incoming.broken = true;
                    self.received.malformed += 1;
                }
            }
            Input::StreamEnd(stream) => {
                if let Some(incoming) = self.streams.remove(&stream)
                    && !incoming.broken
                    && self.whole(now.mono, incoming).is_err()
                {
                    self.received.malformed += 1;
                }
            }
            Input::StreamReset(stream) => {
                self.streams.remove(&stream);
            }
            Input::Undecodable => self.lose(now.mono)?,
            Input::RoundTrip(trip) => self.gap = GAP_WAIT.max(trip * GAP_TRIPS).min(GAP_MAX),
            Input::Tick => {}
        }
        self.release(now.mono)?;
        self.report(now);
        Ok(())
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Output {
        let due = self
            .held
            .values()
            .next()
            .map(|picture| picture.since + self.gap);
        let early = self
            .early
            .front()
            .map(|(at, _)| at.mono + limits::EARLY_WAIT);
        let due = [due, self.report_due, early].into_iter().flatten().min();
        self.out
            .pop_front()
            .unwrap_or(Output::Wait(due, "arrival report, gap or accept"))
    }

    /// Whether this was of a train or its answer, which go before the accept, too.
    fn probe(&mut self, now: Instant, bytes: &[u8]) -> bool {
        let Ok((id, packet)) = flow::datagram(bytes) else {
            return false;
        };
        let Some(flow) = Flow::from_id(id).filter(|flow| flow.participant == self.peer) else {
            return false;
        };
        let output = match flow.part {
            Part::Probe => self.probe.take(now, packet).map(|answer| {
                let flow = Flow {
                    participant: self.participant,
                    part: Part::Probed,
                };
                answer.map(|answer| Output::Datagram(flow::to_datagram(flow, &answer).into()))
            }),
            Part::Probed => probe::read(packet).map(|bits| Some(Output::Probed(bits))),
            _ => return false,
        };
        match output {
            Ok(output) => self.out.extend(output),
            Err(_) => self.received.malformed += 1,
        }
        true
    }

    /// The gate: a guest may hear of the accept late.
    fn before_accept(&mut self, now: Now, input: Input<'_>) -> Result<(), Fault> {
        let violation = || Fault::new(Code::ProtocolViolation).with("media before accept");
        let piece = match input {
            Input::Accepted => {
                self.accepted = true;
                self.report_due = Some(now.mono + limits::REPORT_INTERVAL);
                for (at, piece) in std::mem::take(&mut self.early) {
                    self.handle_input(
                        at,
                        match &piece {
                            Piece::Datagram(bytes) => Input::Datagram(bytes),
                            Piece::Data(stream, bytes) => Input::StreamData(*stream, bytes),
                            Piece::End(stream) => Input::StreamEnd(*stream),
                            Piece::Reset(stream) => Input::StreamReset(*stream),
                        },
                    )?;
                }
                return Ok(());
            }
            Input::Undecodable | Input::RoundTrip(_) => return Ok(()),
            Input::Tick => {
                let waited = |(at, _): &(Now, Piece)| {
                    now.mono.saturating_duration_since(at.mono) >= limits::EARLY_WAIT
                };
                return if self.early.front().is_some_and(waited) {
                    Err(violation())
                } else {
                    Ok(())
                };
            }
            Input::Datagram(bytes) => Piece::Datagram(bytes.to_vec()),
            Input::StreamData(stream, bytes) => Piece::Data(stream, bytes.to_vec()),
            Input::StreamEnd(stream) => Piece::End(stream),
            Input::StreamReset(stream) => Piece::Reset(stream),
        };
        if let Piece::Datagram(bytes) | Piece::Data(_, bytes) = &piece {
            self.early_bytes += bytes.len();
        }
        if self.participant == HOST
            || self.early.len() >= EARLY_MAX
            || self.early_bytes > limits::FRAME_MAX
        {
            return Err(violation());
        }
        self.early.push_back((now, piece));
        Ok(())
    }

    fn datagram(&mut self, now: Now, bytes: &[u8]) -> Result<(), Fault> {
        let (id, packet) = flow::datagram(bytes)?;
        match Flow::from_id(id) {
            Some(Flow {
                participant,
                part: part @ (Part::Audio | Part::Again),
            }) if participant == self.peer => {
                let packet = rtp::read(packet)?;
                if packet.payload_type != rtp::PT_OPUS {
                    return Ok(());
                }
                let captured = packet.captured.ok_or_else(|| {
                    Fault::new(Code::Malformed).with("sound without capture time")
                })?;
                super::opus::samples(packet.payload)
                    .ok_or_else(|| Fault::new(Code::Malformed).with("not Opus"))?;
                // a copy tells nothing of what became of the packet itself
                let sequence = if part == Part::Audio {
                    self.received.packets += 1;
                    self.audio.arrive(packet.ssrc, packet.sequence, now.mono)
                } else {
                    self.audio.again(packet.sequence)
                };
                let data = Bytes::copy_from_slice(packet.payload);
                self.out.push_back(Output::Audio(AudioPacket {
                    sequence,
                    captured,
                    data,
                }));
            }
            Some(Flow {
                participant,
                part: Part::Rtcp,
            }) if participant == self.peer => {
                for report in rtcp::read(packet)? {
                    match report {
                        Report::PictureLoss { .. } => self.out.push_back(Output::Keyframe),
                        Report::Arrivals(arrivals) => {
                            self.out.push_back(Output::Arrivals(arrivals))
                        }
                        Report::Sender { .. } => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A stream ended: its packets must be one whole picture.
    fn whole(&mut self, now: Instant, incoming: Incoming) -> Result<(), Fault> {
        if incoming.foreign {
            return Ok(());
        }
        let (span, captured) = incoming
            .span
            .zip(incoming.captured)
            .filter(|_| incoming.whole && incoming.buffer.is_empty())
            .ok_or_else(|| Fault::new(Code::Malformed).with("no whole picture"))?;
        // sent twice, and here already
        if self.held.contains_key(&span.first) || self.given.contains(&span.first) {
            return Ok(());
        }
        self.received.frames += 1;
        // where many wait, only what ends the waiting is of use
        let ends = incoming.keyframe || self.next == Some(span.first);
        let full = self.held.len() >= HELD_MAX && !ends;
        if self.next.is_some_and(|next| span.first < next) || full {
            self.received.dropped += 1;
            return Ok(());
        }
        let frame = EncodedFrame {
            kind: Kind::Video,
            captured,
            data: incoming.data.into(),
            keyframe: incoming.keyframe,
            width: 0,
            height: 0,
            duration: Duration::from_micros(33_333),
        };
        let (last, since) = (span.last, now);
        self.held.insert(span.first, Picture { last, frame, since });
        Ok(())
    }

    /// Gives out pictures in order; a keyframe overtakes a gap, waiting ends it.
    fn release(&mut self, now: Instant) -> Result<(), Fault> {
        if let Some((&first, _)) = self
            .held
            .iter()
            .rev()
            .find(|(_, picture)| picture.frame.keyframe)
            && (self.needs_keyframe || self.next.is_some_and(|next| first > next))
        {
            // nothing before the newest keyframe is needed once it is whole and there is a gap before it
            let contiguous =
                self.next.is_some_and(|next| self.held.contains_key(&next)) && !self.needs_keyframe;
            if !contiguous {
                let later = self.held.split_off(&first);
                self.received.dropped += self.held.len() as u64;
                self.held = later;
                self.next = Some(first);
                self.needs_keyframe = false;
            }
        }
        while let Some((&first, picture)) = self.held.first_key_value() {
            let waited = now.saturating_duration_since(picture.since) >= self.gap;
            if self.needs_keyframe {
                // refers to what was never shown
                self.lose(now)?;
                self.held.pop_first();
                self.received.dropped += 1;
            } else if self.next == Some(first) {
                if let Some((_, picture)) = self.held.pop_first() {
                    self.next = Some(picture.last + 1);
                    self.given.insert(first);
                    self.given = self.given.split_off(&(first - GIVEN));
                    self.out.push_back(Output::Frame(picture.frame));
                }
            } else if waited {
                self.lose(now)?;
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Asks for a keyframe, not too often.
    fn lose(&mut self, now: Instant) -> Result<(), Fault> {
        self.needs_keyframe = true;
        let rested = self
            .asked
            .is_none_or(|asked| now.saturating_duration_since(asked) >= PLI_INTERVAL);
        if self.accepted && rested {
            self.asked = Some(now);
            let packet = rtcp::picture_loss(self.ssrc, self.video.ssrc)?;
            self.send(&packet);
        }
        Ok(())
    }

    fn send(&mut self, packet: &[u8]) {
        let flow = Flow {
            participant: self.participant,
            part: Part::Rtcp,
        };
        self.out
            .push_back(Output::Datagram(flow::to_datagram(flow, packet).into()));
    }

    fn report(&mut self, now: Now) {
        if self.report_due.is_none_or(|due| now.mono < due) {
            return;
        }
        self.report_due = Some(now.mono + limits::REPORT_INTERVAL);
        let tracks: Vec<_> = [self.audio.report(), self.video.report()]
            .into_iter()
            .flatten()
            .collect();
        if !tracks.is_empty() {
            let tracks = tracks
                .iter()
                .map(|(ssrc, begin, packets)| (*ssrc, *begin, packets.as_slice()));
            let packet = rtcp::arrivals(self.ssrc, now.mono, now.utc, tracks);
            self.send(&packet);
        }
    }
}
