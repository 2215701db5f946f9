//! Frames → QUIC: the sender's machine and its rate control, and the streams that carry
//! pictures. Nothing here waits: what QUIC does not take now is offered again at the next beat.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use quinn::{Connection, SendStream, VarInt};
use suora_protocol::limits;
use suora_protocol::media::rate::Rate;
use suora_protocol::media::rtcp::ArrivalReport;
use suora_protocol::media::sender::{Input, Output, Sender};
use suora_protocol::media::{EncodedFrame, Kind};
use suora_protocol::time::Now;

use crate::encode::Control;
use crate::report::{AudioSent, VideoSent};

/// The least bits of picture a second.
const LEAST: u32 = 80_000;

/// A stream of one picture.
struct Outgoing {
    /// `None`: the other end grants no stream yet.
    stream: Option<SendStream>,
    pending: VecDeque<Bytes>,
    /// Bytes that QUIC took.
    taken: usize,
    finish: bool,
}

/// Our sound and picture on their way out.
pub struct Uplink {
    connection: Connection,
    sender: Sender,
    rate: Rate,
    encoder: Arc<Control>,
    streams: BTreeMap<u64, Outgoing>,
    acks: FuturesUnordered<BoxFuture<'static, u64>>,
    opened: bool,
    beat: Option<Instant>,
    report: Option<Instant>,
    size: Option<(u32, u32)>,
}

impl Uplink {
    /// With the gate closed.
    pub fn new(
        connection: Connection,
        participant: u8,
        ssrcs: [u32; 2],
        bitrate: u32,
        encoder: Arc<Control>,
    ) -> Self {
        let bitrate = bitrate.max(LEAST);
        encoder.set_target(bitrate);
        Self {
            connection,
            sender: Sender::new(participant, ssrcs),
            rate: Rate::new(bitrate, (LEAST, bitrate)),
            encoder,
            streams: BTreeMap::new(),
            acks: FuturesUnordered::new(),
            opened: false,
            beat: None,
            report: None,
            size: None,
        }
    }

    /// The gate opens.
    pub fn open(&mut self, now: Now) {
        if !self.opened {
            self.opened = true;
            self.input(now, Input::Open);
        }
    }

    /// What the person wants to send.
    pub fn media(&mut self, now: Now, audio: bool, video: bool) {
        self.input(now, Input::Media { audio, video });
    }

    /// An encoder made this.
    pub fn frame(&mut self, now: Now, frame: EncodedFrame) {
        if frame.kind == Kind::Video {
            self.size = Some((u32::from(frame.width), u32::from(frame.height)));
        }
        self.input(now, Input::Frame(frame));
        if self.opened {
            self.beat(now);
        }
    }

    /// The other end asks for a keyframe.
    pub fn keyframe(&self) {
        self.encoder.keyframe();
    }

    /// What the other end received.
    pub fn arrivals(&mut self, now: Now, report: &ArrivalReport) {
        let feedback = self.sender.feedback(report);
        self.rate.report(now, &feedback);
        self.encoder.set_target(self.rate.target());
    }

    /// A report of the downlink leaves.
    pub fn report(&self, packet: Bytes) {
        // one that finds no room is followed by the next
        let _ = self.connection.send_datagram(packet);
    }

    /// Time passed.
    pub fn tick(&mut self, now: Now) {
        if self.opened && self.deadline().is_some_and(|due| due <= now.mono) {
            self.beat(now);
        }
    }

    /// When to come again.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = self.sender.backlog() > 0
            || self
                .streams
                .values()
                .any(|outgoing| !outgoing.pending.is_empty());
        let beat = self.beat.filter(|_| waits).map(|beat| beat + limits::BEAT);
        [beat, self.report].into_iter().flatten().min()
    }

    /// The next stream that the other end has whole. Safe to cancel.
    pub async fn acked(&mut self) -> Option<u64> {
        self.acks.next().await
    }

    /// The other end has this stream.
    pub fn on_acked(&mut self, now: Now, stream: u64) {
        self.streams.remove(&stream);
        self.input(now, Input::Acked(stream));
    }

    /// Smoothed share of our packets that were lost.
    pub const fn loss(&self) -> f64 {
        self.rate.loss()
    }

    /// Pictures sent so far.
    pub fn video(&self) -> VideoSent {
        let sent = self.sender.sent();
        VideoSent {
            frames: sent.frames,
            bytes: sent.video_bytes,
            width: self.size.map(|size| size.0).filter(|_| sent.frames > 0),
            height: self.size.map(|size| size.1).filter(|_| sent.frames > 0),
            keyframes: sent.keyframes,
        }
    }

    /// Sound sent so far.
    pub fn audio(&self) -> AudioSent {
        let sent = self.sender.sent();
        AudioSent {
            packets: sent.packets,
            bytes: sent.audio_bytes,
        }
    }

    fn beat(&mut self, now: Now) {
        self.beat = Some(now.mono);
        let budget = self.rate.beat(now);
        self.input(now, Input::Beat(budget));
    }

    /// A frame that cannot be packetised is a defect of its encoder: it is dropped, the session goes on.
    fn input(&mut self, now: Now, input: Input) {
        if let Err(fault) = self.sender.handle_input(now, input) {
            tracing::warn!(%fault, "a frame was not sent");
        }
        self.drain(now);
    }

    fn drain(&mut self, now: Now) {
        loop {
            match self.sender.poll_output() {
                Output::Datagram(bytes) => self.report(bytes),
                Output::Open(id) => {
                    let outgoing = Outgoing {
                        stream: None,
                        pending: VecDeque::new(),
                        taken: 0,
                        finish: false,
                    };
                    self.streams.insert(id, outgoing);
                }
                Output::Write(id, bytes) => {
                    self.rate.spent(bytes.len());
                    if let Some(outgoing) = self.streams.get_mut(&id) {
                        outgoing.pending.push_back(bytes);
                    }
                }
                Output::Finish(id) => {
                    if let Some(outgoing) = self.streams.get_mut(&id) {
                        outgoing.finish = true;
                    }
                }
                Output::Reset(id) => {
                    if let Some(mut stream) = self.streams.remove(&id).and_then(|o| o.stream) {
                        // one that is whole and acknowledged cannot be reset, and need not be
                        let _ = stream.reset(VarInt::from_u32(0));
                    }
                }
                Output::Keyframe => self.encoder.keyframe(),
                Output::Wait(due, _) => {
                    self.report = due;
                    break;
                }
            }
        }
        self.flush(now);
    }

    /// Hands QUIC what it takes now, oldest picture first.
    fn flush(&mut self, now: Now) {
        let mut took = Vec::new();
        let mut gone = Vec::new();
        for (id, outgoing) in &mut self.streams {
            if outgoing.pending.is_empty() && !outgoing.finish {
                continue;
            }
            if outgoing.stream.is_none() {
                match self.connection.open_uni().now_or_never() {
                    Some(Ok(stream)) => outgoing.stream = Some(stream),
                    Some(Err(_)) => gone.push(*id),
                    // later streams find no room either
                    None => break,
                }
            }
            let Some(stream) = &mut outgoing.stream else {
                continue;
            };
            while let Some(chunk) = outgoing.pending.front_mut() {
                match stream.write(chunk).now_or_never() {
                    Some(Ok(written)) => {
                        outgoing.taken += written;
                        took.push((*id, outgoing.taken));
                        chunk.advance(written);
                        if chunk.is_empty() {
                            outgoing.pending.pop_front();
                        }
                    }
                    Some(Err(_)) => {
                        gone.push(*id);
                        break;
                    }
                    None => break,
                }
            }
            if outgoing.pending.is_empty() && outgoing.finish {
                outgoing.finish = false;
                if stream.finish().is_ok() {
                    let (stopped, id) = (stream.stopped(), *id);
                    self.acks.push(stopped.map(move |_| id).boxed());
                }
            }
        }
        for id in gone {
            self.streams.remove(&id);
        }
        for (id, bytes) in took {
            // says nothing back
            let _ = self.sender.handle_input(now, Input::Taken(id, bytes));
        }
    }
}
