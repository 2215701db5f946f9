//! All of a participant's sending: the [`Sender`], its [`Rate`], and the streams that carry
//! pictures over any QUIC ([`Quic`]). Nothing here waits: what QUIC does not take now is
//! offered again at the next beat. It has no outputs to poll, because what QUIC took of one
//! write decides on the next.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};

use super::guard::Guard;
use super::rate::{Rate, Way};
use super::rtcp::ArrivalReport;
use super::sender::{Input, Output, Sender, Sent};
use crate::fault::Fault;
use crate::limits::{self, BEAT};
use crate::time::Now;

/// The camera's pictures are passed over while as much waits as leaves in this time.
const BACKLOG: Duration = Duration::from_millis(100);
/// A round trip before one was seen.
const FIRST_ROUND_TRIP: Duration = Duration::from_secs(1);

/// While pictures wait for a sign of life, it is looked for so often.
const LISTEN: Duration = Duration::from_millis(100);

/// A stream or connection that takes nothing any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone;

/// What sending needs of a QUIC connection. Nothing of it waits.
pub trait Quic {
    /// A unidirectional stream.
    type Stream;
    /// What became of what was sent.
    fn way(&self) -> Way;
    /// Sends a datagram; where the buffer is full the oldest gives way.
    fn datagram(&mut self, bytes: Bytes);
    /// Opens a stream; `None`: the other end grants none now.
    fn open(&mut self) -> Result<Option<Self::Stream>, Gone>;
    /// Writes what there is room for: so many bytes.
    fn write(&mut self, stream: &mut Self::Stream, bytes: &[u8]) -> Result<usize, Gone>;
    /// Ends a stream. Once the other end has all of it, [`Outgoing::acked`] is to be called
    /// with its number.
    fn finish(&mut self, number: u64, stream: &mut Self::Stream);
    /// Takes back what is not acknowledged of a stream.
    fn reset(&mut self, stream: Self::Stream);
}

/// A stream of one picture.
#[derive(Debug)]
struct Stream<S> {
    /// `None`: the other end grants no stream yet.
    stream: Option<S>,
    pending: VecDeque<Bytes>,
    /// Bytes that QUIC took.
    taken: usize,
    finish: bool,
}

/// A participant's sending; `S` is QUIC's stream.
#[derive(Debug)]
pub struct Outgoing<S> {
    sender: Sender,
    rate: Rate,
    streams: BTreeMap<u64, Stream<S>>,
    open: bool,
    keyframe: bool,
    beat: Option<Instant>,
    report: Option<Instant>,
    /// When something left that no report can have told of yet, and what QUIC had heard by then.
    untold: Option<(Instant, Heard)>,
    /// Packets of sound that left before.
    sounds: u64,
    /// Nothing gets through, since this was all.
    silent: Option<Heard>,
}

/// Packets of sound that had left and bytes that were acknowledged at some moment. While the
/// first stays, nothing is left to report, and growth of the second is the sign of life.
#[derive(Clone, Copy, Debug)]
struct Heard {
    sounds: u64,
    acked: u64,
}

impl<S> Outgoing<S> {
    /// With the gate closed.
    pub fn new(sender: Sender, rate: Rate) -> Self {
        Self {
            sender,
            rate,
            streams: BTreeMap::new(),
            open: false,
            keyframe: false,
            beat: None,
            report: None,
            untold: None,
            sounds: 0,
            silent: None,
        }
    }

    /// The rate control.
    pub const fn rate(&self) -> &Rate {
        &self.rate
    }

    /// How long a packet and what is said to it take now, as far as reports showed it.
    pub fn round_trip(&self) -> Option<Duration> {
        let trip = self.rate.round_trip()?;
        Some(trip + self.rate.queue())
    }

    /// How sound is guarded against loss.
    pub const fn guard(&self) -> &Guard {
        self.sender.guard()
    }

    /// What left so far.
    pub const fn sent(&self) -> Sent {
        self.sender.sent()
    }

    /// Whether a keyframe was asked for since this was last called.
    pub const fn take_keyframe(&mut self) -> bool {
        std::mem::replace(&mut self.keyframe, false)
    }

    /// Whether the next picture of the camera is worth encoding: none is while those before it
    /// wait, a queue drains, or nothing gets through.
    pub fn wants_picture(&self, now: Now) -> bool {
        !self.rate.holds() && self.rate.takes(now, self.sender.backlog()) < BACKLOG
    }

    /// Takes an input; beats are its own, and the gate opens once. A frame that cannot be packetised is a defect of
    /// its encoder: it is dropped, the session goes on.
    pub fn handle_input(
        &mut self,
        now: Now,
        quic: &mut impl Quic<Stream = S>,
        input: Input,
    ) -> Result<(), Fault> {
        let frame = matches!(input, Input::Frame(_));
        self.listen(now, quic)?;
        if matches!(input, Input::Open) && std::mem::replace(&mut self.open, true) {
            return Ok(());
        }
        let mut result = self.sender.handle_input(now, input);
        if frame && self.open {
            result = result.and(self.beat(now, quic));
        }
        self.drain(now, quic);
        result
    }

    /// The way carries so many bits a second, as far as a train could tell.
    pub fn probed(&mut self, now: Now, bits: u64) {
        self.rate.probed(now, bits);
    }

    /// What the other end received.
    pub fn arrivals(&mut self, now: Now, report: &ArrivalReport) -> Result<(), Fault> {
        let feedback = self.sender.feedback(report);
        if !feedback.packets.is_empty() {
            self.untold = None;
            if self.silent.take().is_some() {
                self.sender.handle_input(now, Input::Heard)?;
            }
        }
        self.rate.report(now, &feedback);
        self.sender
            .handle_input(now, Input::Copies(self.rate.copies()))?;
        self.sender.handle_input(
            now,
            Input::Loss(self.rate.steady_loss(), self.rate.queues()),
        )?;
        if let Some(trip) = self.round_trip() {
            self.sender.handle_input(now, Input::RoundTrip(trip))?;
        }
        Ok(())
    }

    /// Pictures stop where nothing that left gets through. While no sound leaves, a picture on its
    /// way is all that a report could tell of, and only once it is whole: then what QUIC hears counts.
    fn listen(&mut self, now: Now, quic: &impl Quic<Stream = S>) -> Result<(), Fault> {
        let sounds = self.sounds;
        let lives = |before: Heard| sounds == before.sounds && quic.way().acked > before.acked;
        if let Some(before) = self.silent {
            if lives(before) {
                self.silent = None;
                self.untold = None;
                self.rate.heard(now);
                return self.sender.handle_input(now, Input::Heard);
            }
            if before.sounds != sounds {
                self.silent = Some(self.heard(quic));
            }
            return Ok(());
        }
        let Some((since, before)) = self.untold else {
            return Ok(());
        };
        if lives(before) {
            self.untold = Some((now.mono, self.heard(quic)));
            return Ok(());
        }
        let trip = self.rate.round_trip().unwrap_or(FIRST_ROUND_TRIP);
        if now.mono.saturating_duration_since(since) < limits::UNTOLD + trip {
            return Ok(());
        }
        self.silent = Some(self.heard(quic));
        self.rate.silence(since);
        self.sender.handle_input(now, Input::Silence)
    }

    /// Something left that a report is to tell of.
    fn left(&mut self, now: Now, quic: &impl Quic<Stream = S>) {
        if self.untold.is_none() {
            self.untold = Some((now.mono, self.heard(quic)));
        }
    }

    fn heard(&self, quic: &impl Quic<Stream = S>) -> Heard {
        Heard {
            sounds: self.sounds,
            acked: quic.way().acked,
        }
    }

    /// The other end has all of this stream.
    pub fn acked(
        &mut self,
        now: Now,
        quic: &mut impl Quic<Stream = S>,
        number: u64,
    ) -> Result<(), Fault> {
        self.streams.remove(&number);
        self.handle_input(now, quic, Input::Acked(number))
    }

    /// Time passed.
    pub fn tick(&mut self, now: Now, quic: &mut impl Quic<Stream = S>) -> Result<(), Fault> {
        if !self.open || self.deadline().is_none_or(|due| due > now.mono) {
            return Ok(());
        }
        let result = self.listen(now, quic).and(self.beat(now, quic));
        self.drain(now, quic);
        result
    }

    /// When to come again.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = self.sender.backlog() > 0
            || self
                .streams
                .values()
                .any(|stream| !stream.pending.is_empty());
        let beat = self.beat.filter(|_| waits).map(|beat| beat + BEAT);
        let listens = self.beat.filter(|_| self.rate.holds());
        let listens = listens.map(|beat| beat + LISTEN);
        [beat, listens, self.report].into_iter().flatten().min()
    }

    fn beat(&mut self, now: Now, quic: &impl Quic<Stream = S>) -> Result<(), Fault> {
        self.beat = Some(now.mono);
        let budget = self.rate.beat(now, quic.way());
        let piece = Input::Piece(self.rate.piece(now));
        self.sender.handle_input(now, piece)?;
        self.sender.handle_input(now, Input::Beat(budget))
    }

    fn drain(&mut self, now: Now, quic: &mut impl Quic<Stream = S>) {
        loop {
            match self.sender.poll_output() {
                Output::Datagram(bytes) => quic.datagram(bytes),
                Output::Open(number) => {
                    let stream = Stream {
                        stream: None,
                        pending: VecDeque::new(),
                        taken: 0,
                        finish: false,
                    };
                    self.streams.insert(number, stream);
                }
                Output::Write(number, bytes) => {
                    self.rate.spent(bytes.len());
                    if let Some(stream) = self.streams.get_mut(&number) {
                        stream.pending.push_back(bytes);
                    }
                }
                Output::Finish(number) => {
                    if let Some(stream) = self.streams.get_mut(&number) {
                        stream.finish = true;
                    }
                }
                Output::Reset(number) => {
                    if let Some(stream) = self.streams.remove(&number).and_then(|s| s.stream) {
                        quic.reset(stream);
                    }
                }
                Output::Keyframe => self.keyframe = true,
                Output::Wait(due, _) => {
                    self.report = due;
                    break;
                }
            }
        }
        if self.flush(now, quic) {
            self.left(now, quic);
        }
        let sounds = self.sender.sent().packets;
        if std::mem::replace(&mut self.sounds, sounds) != sounds {
            self.left(now, quic);
        }
    }

    /// Hands QUIC what it takes now, oldest picture first; whether it took something.
    fn flush(&mut self, now: Now, quic: &mut impl Quic<Stream = S>) -> bool {
        let mut wrote = false;
        let mut took = Vec::new();
        let mut gone = Vec::new();
        for (number, outgoing) in &mut self.streams {
            if outgoing.pending.is_empty() && !outgoing.finish {
                continue;
            }
            if outgoing.stream.is_none() {
                match quic.open() {
                    Ok(Some(stream)) => outgoing.stream = Some(stream),
                    Ok(None) => break,
                    Err(Gone) => gone.push(*number),
                }
            }
            let Some(stream) = &mut outgoing.stream else {
                continue;
            };
            while let Some(chunk) = outgoing.pending.front_mut() {
                match quic.write(stream, chunk) {
                    Ok(0) => break,
                    Ok(written) => {
                        wrote = true;
                        outgoing.taken += written;
                        chunk.advance(written);
                        if chunk.is_empty() {
                            outgoing.pending.pop_front();
                        }
                    }
                    Err(Gone) => {
                        gone.push(*number);
                        outgoing.pending.clear();
                        outgoing.finish = false;
                    }
                }
            }
            took.push((*number, outgoing.taken));
            if outgoing.pending.is_empty() && outgoing.finish {
                outgoing.finish = false;
                quic.finish(*number, stream);
            }
        }
        for number in gone {
            self.streams.remove(&number);
        }
        for (number, bytes) in took {
            // only notes when packets left
            let _ = self.sender.handle_input(now, Input::Taken(number, bytes));
        }
        wrote
    }
}
