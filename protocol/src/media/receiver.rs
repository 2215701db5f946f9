//! Packets become frames (`spec/media.md`, sections 3 to 7). A picture is whole when
//! its stream ended; pictures leave in order. Where one is missing the receiver waits
//! a little, then asks for a keyframe and shows nothing that refers to the gap. What
//! arrived, and when, goes back in arrival reports once the officer accepted.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::flow::{self, Flow, Part};
use super::rtcp::{self, Arrivals, Report};
use super::rtp::{self, Extend};
use super::{EncodedFrame, Kind, h264};
use crate::fault::{Code, Fault};
use crate::limits;
use crate::time::{Now, Timestamp};

/// How long a picture waits for the one before it.
const GAP_WAIT: Duration = Duration::from_millis(150);
/// The least time between two requests for a keyframe.
const PLI_INTERVAL: Duration = Duration::from_millis(300);
/// Most pictures that wait for an earlier one.
const HELD_MAX: usize = 16;

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
    Arrivals(Vec<Arrivals>),
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

#[derive(Debug, Default)]
struct Track {
    ssrc: u32,
    extend: Extend,
    /// Next to report.
    begin: Option<i64>,
    arrived: BTreeMap<i64, Instant>,
}

impl Track {
    fn arrive(&mut self, ssrc: u32, sequence: u16, at: Instant) -> i64 {
        self.ssrc = ssrc;
        let extended = self.extend.extend(sequence);
        self.begin.get_or_insert(extended);
        self.arrived.insert(extended, at);
        while self.arrived.len() > limits::REPORT_PACKETS_MAX {
            self.arrived.pop_first();
        }
        extended
    }

    /// All since the last report, gaps included, at most what one report holds.
    fn report(&mut self) -> Option<(u32, u16, Vec<Option<Instant>>)> {
        // what a report covered is not reported again
        let begin = self.begin?;
        self.arrived = self.arrived.split_off(&begin);
        let last = *self.arrived.last_key_value()?.0;
        let span = i64::try_from(limits::REPORT_PACKETS_MAX).unwrap_or(256);
        let begin = begin.max(last - span + 1);
        let packets = (begin..=last)
            .map(|sequence| self.arrived.get(&sequence).copied())
            .collect();
        self.begin = Some(last + 1);
        self.arrived.clear();
        Some((
            self.ssrc,
            u16::try_from(begin & 0xffff).unwrap_or(0),
            packets,
        ))
    }
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

/// Makes frames of another participant's packets.
#[derive(Debug)]
pub struct Receiver {
    /// Our own number, for reports.
    participant: u8,
    peer: u8,
    ssrc: u32,
    accepted: bool,
    audio: Track,
    video: Track,
    streams: BTreeMap<u64, Incoming>,
    held: BTreeMap<i64, Picture>,
    next: Option<i64>,
    needs_keyframe: bool,
    asked: Option<Instant>,
    report_due: Option<Instant>,
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
            audio: Track::default(),
            video: Track::default(),
            streams: BTreeMap::new(),
            held: BTreeMap::new(),
            next: None,
            needs_keyframe: true,
            asked: None,
            report_due: None,
            out: VecDeque::new(),
            received: Received::default(),
        }
    }

    /// What arrived so far.
    pub const fn received(&self) -> Received {
        self.received
    }

    /// Takes an input. Media before the gate opened is [`Code::ProtocolViolation`];
    /// single malformed packets are counted and dropped.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>) -> Result<(), Fault> {
        match input {
            Input::Accepted => {
                self.accepted = true;
                self.report_due = Some(now.mono + limits::REPORT_INTERVAL);
            }
            Input::Datagram(bytes) => {
                self.gate()?;
                if self.datagram(now, bytes).is_err() {
                    self.received.malformed += 1;
                }
            }
            Input::StreamData(stream, bytes) => {
                self.gate()?;
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
            .map(|picture| picture.since + GAP_WAIT);
        let due = [due, self.report_due].into_iter().flatten().min();
        self.out
            .pop_front()
            .unwrap_or(Output::Wait(due, "arrival report or gap"))
    }

    fn gate(&self) -> Result<(), Fault> {
        if self.accepted {
            Ok(())
        } else {
            Err(Fault::new(Code::ProtocolViolation).with("media before accept"))
        }
    }

    fn datagram(&mut self, now: Now, bytes: &[u8]) -> Result<(), Fault> {
        let (id, packet) = flow::datagram(bytes)?;
        match Flow::from_id(id) {
            Some(Flow {
                participant,
                part: Part::Audio,
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
                let sequence = self.audio.arrive(packet.ssrc, packet.sequence, now.mono);
                self.received.packets += 1;
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
        self.received.frames += 1;
        if self.next.is_some_and(|next| span.first < next) || self.held.len() >= HELD_MAX {
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
            let waited = now.saturating_duration_since(picture.since) >= GAP_WAIT;
            if self.needs_keyframe {
                // refers to what was never shown
                self.lose(now)?;
                self.held.pop_first();
                self.received.dropped += 1;
            } else if self.next == Some(first) {
                if let Some((_, picture)) = self.held.pop_first() {
                    self.next = Some(picture.last + 1);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::sender::{self, Sender};
    use crate::media::tests::base;

    /// A picture of one or two NAL units whose bytes tell its number.
    fn picture(now: Now, number: u8, keyframe: bool) -> EncodedFrame {
        let mut data = Vec::new();
        if keyframe {
            h264::join(&mut data, &[0x67, number, 1]);
        }
        h264::join(
            &mut data,
            &[
                vec![if keyframe { 0x65 } else { 0x41 }, number],
                vec![number | 1; 3_000],
            ]
            .concat(),
        );
        EncodedFrame {
            kind: Kind::Video,
            captured: now.utc,
            data: data.into(),
            keyframe,
            width: 0,
            height: 0,
            duration: Duration::from_micros(33_333),
        }
    }

    /// Everything that the sender has to say, by stream.
    fn drain(sender: &mut Sender) -> (BTreeMap<u64, Vec<u8>>, Vec<Bytes>, usize) {
        let (mut streams, mut datagrams, mut keyframes) =
            (BTreeMap::<u64, Vec<u8>>::new(), Vec::new(), 0);
        loop {
            match sender.poll_output() {
                sender::Output::Write(stream, bytes) => {
                    streams.entry(stream).or_default().extend_from_slice(&bytes)
                }
                sender::Output::Datagram(bytes) => datagrams.push(bytes),
                sender::Output::Keyframe => keyframes += 1,
                sender::Output::Wait(..) => return (streams, datagrams, keyframes),
                _ => {}
            }
        }
    }

    fn frames(receiver: &mut Receiver) -> (Vec<EncodedFrame>, usize) {
        let (mut frames, mut asked) = (Vec::new(), 0);
        loop {
            match receiver.poll_output() {
                Output::Frame(frame) => frames.push(frame),
                Output::Datagram(bytes)
                    if rtcp::read(&bytes[1..])
                        .unwrap()
                        .iter()
                        .any(|r| matches!(r, Report::PictureLoss { .. })) =>
                {
                    asked += 1
                }
                Output::Wait(..) => return (frames, asked),
                _ => {}
            }
        }
    }

    fn pair(now: Now) -> (Sender, Receiver) {
        let (mut sender, mut receiver) = (Sender::new(0, [1, 2]), Receiver::new(1, 0, 3));
        sender.handle_input(now, sender::Input::Open).unwrap();
        receiver.handle_input(now, Input::Accepted).unwrap();
        (sender, receiver)
    }

    // covers: SUORA-MED-002, SUORA-MED-003
    #[test]
    fn pictures_arrive_as_they_left_in_any_order_of_streams() {
        let now = base();
        let (mut sender, mut receiver) = pair(now);
        let sent: Vec<_> = (0..4)
            .map(|number| {
                picture(
                    now.after(Duration::from_millis(33) * u32::from(number)),
                    number,
                    number == 0,
                )
            })
            .collect();
        for frame in &sent {
            sender
                .handle_input(now, sender::Input::Frame(frame.clone()))
                .unwrap();
        }
        sender
            .handle_input(now, sender::Input::Beat(1 << 20))
            .unwrap();
        let (streams, ..) = drain(&mut sender);
        assert_eq!(streams.len(), 4);
        for stream in [0, 2, 3, 1] {
            for bytes in streams[&stream].chunks(700) {
                receiver
                    .handle_input(now, Input::StreamData(stream, bytes))
                    .unwrap();
            }
            receiver
                .handle_input(now, Input::StreamEnd(stream))
                .unwrap();
        }
        assert_eq!(frames(&mut receiver).0, sent);
    }

    // covers: SUORA-MED-008
    #[test]
    fn a_missing_picture_asks_for_a_keyframe_and_nothing_smeared_is_shown() {
        let now = base();
        let (mut sender, mut receiver) = pair(now);
        for number in 0..4 {
            sender
                .handle_input(now, sender::Input::Frame(picture(now, number, number == 0)))
                .unwrap();
        }
        sender
            .handle_input(now, sender::Input::Beat(1 << 20))
            .unwrap();
        let (streams, ..) = drain(&mut sender);
        for stream in [0, 2, 3] {
            receiver
                .handle_input(now, Input::StreamData(stream, &streams[&stream]))
                .unwrap();
            receiver
                .handle_input(now, Input::StreamEnd(stream))
                .unwrap();
        }
        receiver
            .handle_input(now.after(GAP_WAIT), Input::Tick)
            .unwrap();
        let (shown, asked) = frames(&mut receiver);
        assert_eq!((shown.len(), asked), (1, 1));
        sender
            .handle_input(now, sender::Input::Frame(picture(now, 9, true)))
            .unwrap();
        sender
            .handle_input(now, sender::Input::Beat(1 << 20))
            .unwrap();
        let (streams, ..) = drain(&mut sender);
        receiver
            .handle_input(now, Input::StreamData(4, &streams[&4]))
            .unwrap();
        receiver.handle_input(now, Input::StreamEnd(4)).unwrap();
        assert_eq!(frames(&mut receiver).0.len(), 1);
    }

    // covers: SUORA-MED-007
    #[test]
    fn nothing_leaves_before_the_gate_opens() {
        let now = base();
        let mut sender = Sender::new(0, [1, 2]);
        sender
            .handle_input(now, sender::Input::Frame(picture(now, 1, true)))
            .unwrap();
        sender
            .handle_input(now, sender::Input::Beat(1 << 20))
            .unwrap();
        let (streams, datagrams, keyframes) = drain(&mut sender);
        assert!(streams.is_empty() && datagrams.is_empty() && keyframes == 0);
        let mut receiver = Receiver::new(1, 0, 3);
        let early = receiver.handle_input(now, Input::Datagram(&[1, 0x80]));
        assert_eq!(
            early.map_err(|fault| fault.code),
            Err(Code::ProtocolViolation)
        );
    }

    // covers: SUORA-MED-010
    #[test]
    fn stale_pictures_are_reset_and_a_keyframe_follows() {
        let now = base();
        let (mut sender, _) = pair(now);
        drain(&mut sender);
        sender
            .handle_input(now, sender::Input::Frame(picture(now, 1, true)))
            .unwrap();
        sender.handle_input(now, sender::Input::Beat(100)).unwrap();
        let late = now.after(limits::FRAME_STALE + Duration::from_millis(1));
        sender.handle_input(late, sender::Input::Beat(100)).unwrap();
        let mut outputs = Vec::new();
        loop {
            match sender.poll_output() {
                Output_::Wait(..) => break,
                output => outputs.push(output),
            }
        }
        assert!(outputs.contains(&Output_::Reset(0)) && outputs.contains(&Output_::Keyframe));
        assert_eq!(sender.sent().frames, 0);
        sender
            .handle_input(late, sender::Input::Frame(picture(late, 2, false)))
            .unwrap();
        assert_eq!(
            sender.backlog(),
            0,
            "a delta picture must wait for the keyframe"
        );
    }
    use crate::media::sender::Output as Output_;

    #[test]
    fn the_budget_bounds_what_pictures_write_in_a_beat() {
        let now = base();
        let (mut sender, _) = pair(now);
        sender
            .handle_input(now, sender::Input::Frame(picture(now, 1, true)))
            .unwrap();
        sender
            .handle_input(now, sender::Input::Beat(1_000))
            .unwrap();
        let (streams, ..) = drain(&mut sender);
        assert_eq!(streams[&0].len(), 1_000);
    }

    #[test]
    fn what_was_sent_meets_what_arrived() {
        let now = base();
        let (mut sender, mut receiver) = pair(now);
        let sound = EncodedFrame {
            kind: Kind::Audio,
            data: vec![0x78; 60].into(),
            ..picture(now, 1, true)
        };
        for _ in 0..4 {
            sender
                .handle_input(now, sender::Input::Frame(sound.clone()))
                .unwrap();
        }
        let (_, datagrams, _) = drain(&mut sender);
        for at in [0, 1, 3] {
            receiver
                .handle_input(
                    now.after(Duration::from_millis(25)),
                    Input::Datagram(&datagrams[at]),
                )
                .unwrap();
        }
        receiver
            .handle_input(now.after(Duration::from_millis(100)), Input::Tick)
            .unwrap();
        let report = loop {
            match receiver.poll_output() {
                Output::Datagram(bytes) => break bytes,
                Output::Wait(..) => panic!("no report"),
                _ => {}
            }
        };
        let Report::Arrivals(tracks) = &rtcp::read(&report[1..]).unwrap()[0] else {
            panic!()
        };
        let feedback = sender.feedback(&tracks[0]);
        assert_eq!(
            feedback.iter().map(|f| f.age.is_some()).collect::<Vec<_>>(),
            [true, true, false, true]
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let now = base();
            let (_, mut receiver) = pair(now);
            let _ = receiver.handle_input(now, Input::Datagram(&bytes));
            let _ = receiver.handle_input(now, Input::StreamData(0, &bytes));
            let _ = receiver.handle_input(now, Input::StreamEnd(0));
        }
    }
}
