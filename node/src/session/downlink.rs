//! QUIC → frames: streams and datagrams become frames, which wait until they are due and
//! then go to the decoders. Sound waits where it is decoded, and is played every 20 ms by
//! nominal time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{Connection, RecvStream};
use suora_protocol::fault::Fault;
use suora_protocol::media::jitter;
use suora_protocol::media::playout::{Due, Playout};
use suora_protocol::media::receiver::{Input, Output, Received, Receiver};
use suora_protocol::media::rtcp::ArrivalReport;
use suora_protocol::media::rtp::Spread;
use suora_protocol::time::{Now, Timestamp};
use tokio::task::JoinSet;

use crate::decode::Hear;
use crate::worker::Post;

/// A clock that stood still for longer than this is set again, not caught up with.
const LAG: Duration = Duration::from_millis(200);

/// A piece of a stream.
#[derive(Debug)]
pub enum Piece {
    /// The other end opened it.
    Opened(u64),
    /// Bytes of it.
    Data(u64, Bytes),
    /// It is whole.
    End(u64),
    /// It was reset.
    Reset(u64),
}

/// What the uplink has to do for the other end.
#[derive(Debug)]
pub enum Upward {
    /// Send this report.
    Report(Bytes),
    /// Make a keyframe.
    Keyframe,
    /// Learn what arrived.
    Arrivals(ArrivalReport),
    /// Learn how many bits a second the way carries.
    Probed(u64),
}

/// The other end's sound and picture on their way in.
pub struct Downlink {
    receiver: Receiver,
    playout: Playout,
    spread: Spread,
    /// When the next 20 ms of sound are played.
    slot: Option<Instant>,
    due: Option<Instant>,
    outs: Option<(Post<Due>, Post<Hear>)>,
    /// The decoder found no room: wait for a keyframe.
    gap: bool,
}

impl Downlink {
    /// At `own`, for what `peer` sends.
    pub fn new((own, peer): (u8, u8), ssrc: u32, (video, audio): (Post<Due>, Post<Hear>)) -> Self {
        Self {
            receiver: Receiver::new(own, peer, ssrc),
            playout: Playout::new(),
            spread: Spread::default(),
            slot: None,
            due: None,
            outs: Some((video, audio)),
            gap: false,
        }
    }

    /// The gate opened: media may come.
    pub fn open(&mut self, now: Now) -> Result<(), Fault> {
        self.slot = Some(now.mono);
        self.receiver.handle_input(now, Input::Accepted)
    }

    /// Nothing more is played: the decoders end.
    pub fn end(&mut self) {
        self.outs = None;
    }

    /// What arrived so far.
    pub const fn received(&self) -> Received {
        self.receiver.received()
    }

    /// Jitter of the sound's arrival, in ms.
    pub fn jitter_ms(&self) -> Option<f64> {
        self.spread.ms()
    }

    /// A datagram came.
    pub fn datagram(&mut self, now: Now, bytes: &[u8]) -> Result<(), Fault> {
        self.receiver.handle_input(now, Input::Datagram(bytes))
    }

    /// A piece of a stream came.
    pub fn piece(&mut self, now: Now, piece: Piece) -> Result<(), Fault> {
        match &piece {
            Piece::Opened(id) => self.receiver.handle_input(now, Input::StreamData(*id, &[])),
            Piece::Data(id, bytes) => self
                .receiver
                .handle_input(now, Input::StreamData(*id, bytes)),
            Piece::End(id) => self.receiver.handle_input(now, Input::StreamEnd(*id)),
            Piece::Reset(id) => self.receiver.handle_input(now, Input::StreamReset(*id)),
        }
    }

    /// The decoder cannot go on.
    pub fn undecodable(&mut self, now: Now) -> Result<(), Fault> {
        self.receiver.handle_input(now, Input::Undecodable)
    }

    /// A round trip takes so long.
    pub fn round_trip(&mut self, now: Now, trip: Duration) -> Result<(), Fault> {
        self.receiver.handle_input(now, Input::RoundTrip(trip))
    }

    /// Plays what is due; what the other end wants comes back.
    pub fn tick(&mut self, now: Now) -> Result<Vec<Upward>, Fault> {
        if self.due.is_some_and(|due| due <= now.mono) {
            self.receiver.handle_input(now, Input::Tick)?;
        }
        let mut upward = Vec::new();
        loop {
            match self.receiver.poll_output() {
                Output::Audio(packet) => {
                    let delay_us = now.utc.micros_since(packet.captured);
                    let captured_us = packet.captured.as_micros();
                    tracing::trace!(sequence = packet.sequence, captured_us, delay_us, "sound");
                    self.spread.take(delay_us);
                    self.hear(Hear::Packet(now, packet));
                }
                Output::Frame(frame) => self.playout.push(now, frame),
                Output::Datagram(bytes) => upward.push(Upward::Report(bytes)),
                Output::Keyframe => upward.push(Upward::Keyframe),
                Output::Probed(bits) => upward.push(Upward::Probed(bits)),
                Output::Arrivals(arrivals) => upward.push(Upward::Arrivals(arrivals)),
                Output::Wait(due, _) => {
                    self.due = due;
                    break;
                }
            }
        }
        self.sound(now);
        self.pictures(now)?;
        Ok(upward)
    }

    fn sound(&mut self, now: Now) {
        let Some(mut slot) = self.slot else { return };
        if now.mono.saturating_duration_since(slot) > LAG {
            slot = now.mono;
        }
        while slot <= now.mono {
            // the nominal moment, so that the loop's own lateness is no jitter
            let at = Now {
                mono: slot,
                utc: now.utc - now.mono.saturating_duration_since(slot),
            };
            self.hear(Hear::Play(at));
            slot += jitter::FRAME;
        }
        self.slot = Some(slot);
    }

    fn hear(&self, hear: Hear) {
        if let Some((_, audio)) = &self.outs
            && audio.post(hear).is_err()
        {
            tracing::debug!("the sound decoder is behind");
        }
    }

    /// The sound that was captured at `captured` is played at `at`: lips go with it.
    pub fn voice(&mut self, now: Now, at: Timestamp, captured: Timestamp) {
        let now = Now {
            mono: now.mono,
            utc: at,
        };
        self.playout.voice(now, captured);
    }

    fn pictures(&mut self, now: Now) -> Result<(), Fault> {
        while let Some(due) = self.playout.pull(now) {
            if self.gap && !due.frame.keyframe {
                continue;
            }
            self.gap = self
                .outs
                .as_ref()
                .is_some_and(|(video, _)| video.post(due).is_err());
            if self.gap {
                self.receiver.handle_input(now, Input::Undecodable)?;
            }
        }
        Ok(())
    }

    /// When to come again.
    pub fn deadline(&self) -> Option<Instant> {
        [self.due, self.slot, self.playout.deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Reads all unidirectional streams, each in its own task, so that none waits for another.
pub async fn read_streams(connection: Connection, pieces: Post<Piece>) {
    let mut tasks = JoinSet::new();
    let mut next = 0;
    while let Ok(stream) = connection.accept_uni().await {
        next += 1;
        tasks.spawn(read_stream(next, stream, pieces.clone()));
        while tasks.try_join_next().is_some() {}
    }
}

async fn read_stream(id: u64, mut stream: RecvStream, pieces: Post<Piece>) {
    if !pieces.send(Piece::Opened(id)).await {
        return;
    }
    loop {
        let piece = match stream.read_chunk(64 * 1_024, true).await {
            Ok(Some(chunk)) => Piece::Data(id, chunk.bytes),
            Ok(None) => Piece::End(id),
            Err(_) => Piece::Reset(id),
        };
        let last = !matches!(piece, Piece::Data(..));
        if !pieces.send(piece).await || last {
            return;
        }
    }
}
