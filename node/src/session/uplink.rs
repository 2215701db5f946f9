//! Frames → QUIC: all of sending ([`Outgoing`]) on a connection of quinn, and what it asks
//! of the encoder.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{AbortHandle, BoxFuture, abortable};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use quinn::{Connection, SendStream, VarInt};
use suora_protocol::fault::Fault;
use suora_protocol::media::outgoing::{Gone, Outgoing, Quic};
use suora_protocol::media::rate::{Rate, Way};
use suora_protocol::media::rtcp::ArrivalReport;
use suora_protocol::media::sender::{Input, Sender};
use suora_protocol::media::{EncodedFrame, Kind};
use suora_protocol::time::Now;

use crate::encode::Control;
use crate::endpoint::congestion;
use crate::report::{AudioSent, VideoSent};
use crate::view::RateStats;

/// The least bits of picture a second.
const LEAST: u32 = 80_000;

/// A connection as sending sees it.
struct Wire {
    connection: Connection,
    /// Streams that the other end will have whole; `None`: one that was reset.
    acks: FuturesUnordered<BoxFuture<'static, Option<u64>>>,
}

/// A stream of ours.
struct Picture {
    stream: SendStream,
    /// Once all of it was written: QUIC tells nothing more of a stream that is reset.
    ack: Option<AbortHandle>,
}

impl Quic for Wire {
    type Stream = Picture;

    fn way(&self) -> Way {
        congestion::way(self.connection.congestion_state())
    }

    fn datagram(&mut self, bytes: Bytes) {
        // one that finds no room is followed by the next
        let _ = self.connection.send_datagram(bytes);
    }

    fn open(&mut self) -> Result<Option<Picture>, Gone> {
        let opened = self.connection.open_uni().now_or_never().transpose();
        let stream = opened.map_err(|_| Gone)?;
        Ok(stream.map(|stream| Picture { stream, ack: None }))
    }

    fn write(&mut self, picture: &mut Picture, bytes: &[u8]) -> Result<usize, Gone> {
        let written = picture.stream.write(bytes).now_or_never().transpose();
        written.map(Option::unwrap_or_default).map_err(|_| Gone)
    }

    fn finish(&mut self, number: u64, picture: &mut Picture) {
        if picture.stream.finish().is_ok() {
            let (stopped, ack) = abortable(picture.stream.stopped());
            let told = stopped.map(move |stopped| stopped.is_ok().then_some(number));
            self.acks.push(told.boxed());
            picture.ack = Some(ack);
        }
    }

    fn reset(&mut self, mut picture: Picture) {
        // one that is whole and acknowledged cannot be reset, and need not be
        if picture.stream.reset(VarInt::from_u32(0)).is_ok()
            && let Some(ack) = picture.ack
        {
            ack.abort();
        }
    }
}

/// Our sound and picture on their way out.
pub struct Uplink {
    wire: Wire,
    outgoing: Outgoing<Picture>,
    encoder: Arc<Control>,
    size: Option<(u32, u32)>,
    /// Pictures that had left when this was last asked.
    left: u64,
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
        let rate = Rate::new((LEAST, bitrate));
        encoder.set_target(rate.target());
        Self {
            wire: Wire {
                connection,
                acks: FuturesUnordered::new(),
            },
            outgoing: Outgoing::new(Sender::new(participant, ssrcs), rate),
            encoder,
            size: None,
            left: 0,
        }
    }

    /// Both ends are proven: asks how much the way carries.
    pub fn probe(&mut self, now: Now) {
        self.input(now, Input::Probe);
    }

    /// The way carries so many bits a second, as far as a train could tell.
    pub fn probed(&mut self, now: Now, bits: u64) {
        self.outgoing.probed(now, bits);
        self.steer(now, Ok(()));
    }

    /// The gate opens.
    pub fn open(&mut self, now: Now) {
        self.input(now, Input::Open);
    }

    /// The rhythm of speech is to be hidden: silence is sent too, and sound is padded.
    pub fn hide_rhythm(&mut self, now: Now) {
        self.encoder.send_silence();
        self.input(now, Input::Pad);
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
    }

    /// The other end asks for a keyframe.
    pub fn keyframe(&self) {
        self.encoder.keyframe();
    }

    /// What the other end received.
    pub fn arrivals(&mut self, now: Now, report: &ArrivalReport) {
        let result = self.outgoing.arrivals(now, report);
        self.steer(now, result);
    }

    /// How long a round trip takes now, if that is known.
    pub fn round_trip(&self) -> Option<Duration> {
        self.outgoing.round_trip()
    }

    /// A report of the downlink leaves.
    pub fn report(&mut self, packet: Bytes) {
        self.wire.datagram(packet);
    }

    /// Time passed.
    pub fn tick(&mut self, now: Now) {
        let result = self.outgoing.tick(now, &mut self.wire);
        self.steer(now, result);
    }

    /// When to come again.
    pub fn deadline(&self) -> Option<Instant> {
        self.outgoing.deadline()
    }

    /// The next stream that the other end has whole. Safe to cancel.
    pub async fn acked(&mut self) -> Option<u64> {
        loop {
            if let Some(number) = self.wire.acks.next().await? {
                return Some(number);
            }
        }
    }

    /// The other end has this stream.
    pub fn on_acked(&mut self, now: Now, stream: u64) {
        let result = self.outgoing.acked(now, &mut self.wire, stream);
        self.steer(now, result);
    }

    /// Smoothed share of our packets that were lost.
    pub const fn loss(&self) -> f64 {
        self.outgoing.rate().loss()
    }

    /// What the rate control found, each second. A target of 0: none of our pictures left
    /// since the last call, and none may.
    pub fn rate(&mut self, now: Now) -> RateStats {
        let frames = self.outgoing.sent().frames;
        let none = std::mem::replace(&mut self.left, frames) == frames;
        let rate = self.outgoing.rate();
        let held = none && !self.outgoing.wants_picture(now);
        RateStats {
            target_bps: if held { 0 } else { rate.target() },
            queue_ms: rate.queue().as_secs_f64() * 1_000.0,
        }
    }

    /// Pictures sent so far.
    pub fn video(&self) -> VideoSent {
        let sent = self.outgoing.sent();
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
        let sent = self.outgoing.sent();
        AudioSent {
            packets: sent.packets,
            bytes: sent.audio_bytes,
        }
    }

    fn input(&mut self, now: Now, input: Input) {
        let result = self.outgoing.handle_input(now, &mut self.wire, input);
        self.steer(now, result);
    }

    /// Tells the encoder what the rate control decided.
    fn steer(&mut self, now: Now, result: Result<(), Fault>) {
        if let Err(fault) = result {
            tracing::warn!(%fault, "a frame was not sent");
        }
        if self.outgoing.take_keyframe() {
            self.encoder.keyframe();
        }
        self.encoder.set_target(self.outgoing.rate().target());
        self.encoder.set_wanted(self.outgoing.wants_picture(now));
        let rate = self.outgoing.rate();
        self.encoder.set_sound(rate.allotted().sound);
        self.encoder.set_loss(self.outgoing.guard().percent());
    }
}

#[cfg(test)]
mod tests {
    use suora_protocol::media::outgoing::Quic as _;

    use super::*;
    use crate::clock::Clock;
    use crate::endpoint;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_picture_that_is_reset_leaves_nothing_behind_and_one_that_is_not_is_acknowledged() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let now = Clock::start().now().utc;
        let (_endpoints, [host, _guest]) = endpoint::ourselves(now, [7; 32]).await.unwrap();
        let mut wire = Wire {
            connection: host.connection,
            acks: FuturesUnordered::new(),
        };
        for number in 0..20 {
            let mut picture = wire.open().unwrap().unwrap();
            assert_eq!(wire.write(&mut picture, &[9; 900]), Ok(900));
            wire.finish(number, &mut picture);
            // asked for once, as the session does, before anything came back
            let _ = wire.acks.next().now_or_never();
            if number < 19 {
                wire.reset(picture);
            }
        }
        let mut told = Vec::new();
        let wait = Duration::from_secs(20);
        while !wire.acks.is_empty() {
            let next = tokio::time::timeout(wait, wire.acks.next()).await;
            told.extend(next.unwrap().unwrap());
        }
        assert_eq!(told, [19]);
    }
}
