//! DOOR: the control link to a relay (`spec/control.md`). One libp2p swarm under one key
//! dials QUIC, and TCP after a head start (`dial`); on it stands one stream, for a
//! citizen or for an officer. A link that falls is dialled again for ever, with growing,
//! random pauses; what is said meanwhile is dropped, since the engine speaks again at `Up`.

mod dial;

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use serde::de::DeserializeOwned;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{Draw, Key};
use suora_protocol::limits;
use suora_protocol::wire::{self, Framer, citizen, officer};
use tokio::time::sleep_until;

use crate::clock::Clock;
use crate::engine::ports::{LinkCommand, LinkEvent};
use crate::worker::{Mailbox, Post, mailbox};
pub use dial::Reached;
use dial::{Dialled, Target};

/// Commands that may wait for the link, and events that may wait for the engine.
const QUEUE: usize = 64;
/// Messages that may wait to be written.
const OUTBOX: usize = 64;

/// The two ends of the link's task. It ends when `commands` is dropped.
#[derive(Debug)]
pub struct Link {
    /// What the engine asks.
    pub commands: Post<LinkCommand>,
    /// What the link says; ends when the link is closed.
    pub events: Mailbox<LinkEvent>,
}

/// How long things may take. [`Times::default`] is what the program runs with.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How far QUIC is ahead of TCP.
    pub head_start: Duration,
    /// From the first packet to one relay until its connection stands.
    pub dial: Duration,
    /// A link that heard nothing for this long has fallen.
    pub silence: Duration,
    /// What was said before a close may take this long to go out.
    pub close: Duration,
    /// Longest pause before the first redial; it doubles with each failure.
    pub pause: Duration,
    /// Longest pause before any redial. A link that stood for this long has no failures.
    pub pause_max: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            head_start: Duration::from_millis(150),
            dial: Duration::from_secs(5),
            silence: limits::LINK_SILENCE,
            close: Duration::from_secs(1),
            pause: Duration::from_millis(200),
            pause_max: Duration::from_secs(15),
        }
    }
}

/// Starts the link's task, which waits for [`LinkCommand::Open`]; `seed` is random and
/// spreads the redials.
pub fn start(seed: [u8; 32], clock: Clock) -> Link {
    start_with(seed, clock, Times::default())
}

/// Starts the link's task with other times.
pub fn start_with(seed: [u8; 32], clock: Clock, times: Times) -> Link {
    let (commands, asked) = mailbox(QUEUE);
    let (told, events) = mailbox(QUEUE);
    let task = Task {
        commands: asked,
        events: told,
        draw: Draw::from_seed(seed),
        clock,
        times,
    };
    tokio::spawn(task.run());
    Link { commands, events }
}

/// Tries each transport of each relay of a descriptor, and hangs up again; by relay.
/// A list without a usable address gives nothing.
pub async fn reach(
    relays: &[String],
    key: &Key,
    clock: &Clock,
    times: &Times,
) -> Result<Vec<Vec<Reached>>, Fault> {
    let mut all = Vec::new();
    for target in dial::targets(relays) {
        all.push(dial::reach(key, &target, clock, times).await?);
    }
    Ok(all)
}

/// An `Open`, with its addresses read.
struct Open {
    targets: Vec<Target>,
    key: Key,
    officer: bool,
}

impl Open {
    fn told(relays: &[String], key: Key, officer: bool) -> Told {
        let targets = dial::targets(relays);
        Told::Open(Box::new(Self {
            targets,
            key,
            officer,
        }))
    }
}

/// Why the work on an `Open` ends.
enum Told {
    Open(Box<Open>),
    Close,
}

struct Task {
    commands: Mailbox<LinkCommand>,
    events: Post<LinkEvent>,
    draw: Draw,
    clock: Clock,
    times: Times,
}

impl Task {
    async fn run(mut self) {
        let mut told = unless_told(&mut self.commands, std::future::pending()).await;
        while let Err(Told::Open(open)) = told {
            told = self.keep(&open).await;
        }
    }

    /// Keeps the link of one `Open` until told otherwise.
    async fn keep(&mut self, open: &Open) -> Result<(), Told> {
        if open.targets.is_empty() {
            self.down(Fault::new(Code::RelayUnreachable).with(
                "the descriptor lists no relay that can be used: an address is a multiaddr \
                 with UDP and QUIC or with TCP, and ends in /p2p/<peer id>",
            ))
            .await;
            return unless_told(&mut self.commands, std::future::pending()).await;
        }
        let mut failures = 0;
        loop {
            let dialling = dial_any(open, &self.clock, &self.times);
            let fault = match unless_told(&mut self.commands, dialling).await? {
                Ok(dialled) => {
                    let since = self.clock.now().mono;
                    let fault = self.live(dialled, open.officer).await?;
                    if self.clock.now().mono.duration_since(since) >= self.times.pause_max {
                        failures = 0;
                    }
                    fault
                }
                Err(fault) => fault,
            };
            tracing::debug!(code = %fault.code, failures, "the control link is down");
            self.down(fault).await;
            let pause = pause(&mut self.draw, &self.times, failures);
            failures += 1;
            let again = self.clock.now().mono + pause;
            unless_told(&mut self.commands, sleep_until(again.into())).await?;
        }
    }

    async fn down(&self, fault: Fault) {
        self.events.send(LinkEvent::Down(fault)).await;
    }

    /// A link that stands: gives the fault by which it falls.
    async fn live(&mut self, dialled: Dialled, officer: bool) -> Result<Fault, Told> {
        let Dialled {
            mut swarm,
            stream,
            connection,
        } = dialled;
        if !self.events.send(LinkEvent::Up).await {
            return Err(Told::Close);
        }
        let (reader, writer) = stream.split();
        let (outbox, outgoing) = mailbox(OUTBOX);
        let mut outbox = Some(outbox);
        let heard = Mutex::new(self.clock.now().mono);
        let reading = read(reader, officer, &self.events, &self.clock, &heard);
        let writing = write(writer, outgoing);
        futures::pin_mut!(reading, writing);
        let mut written = false;
        // set by a close: whatever happens, the link ends then
        let mut ends: Option<Instant> = None;
        loop {
            let last = *heard.lock().unwrap_or_else(PoisonError::into_inner);
            let deadline = ends.unwrap_or(last + self.times.silence);
            tokio::select! {
                fault = &mut reading => return match ends {
                    Some(_) => Err(Told::Close),
                    None => Ok(fault),
                },
                wrote = &mut writing, if !written => match (wrote, ends) {
                    // the relay closes its half in answer, once it has read all
                    (Ok(()), Some(_)) => written = true,
                    (Err(_), Some(_)) => return Err(Told::Close),
                    (_, None) => return Ok(unreachable("the relay takes no more messages")),
                },
                command = self.commands.recv(), if ends.is_none() => match command {
                    Some(LinkCommand::Open { relays, key, officer }) => {
                        return Err(Open::told(&relays, key, officer));
                    }
                    Some(LinkCommand::Close) | None => {
                        outbox = None;
                        ends = Some(self.clock.now().mono + self.times.close);
                    }
                    Some(LinkCommand::Citizen(message)) => {
                        if let Err(fault) = say(outbox.as_ref(), wire::encode(&message)) {
                            return Ok(fault);
                        }
                    }
                    Some(LinkCommand::Officer(message)) => {
                        if let Err(fault) = say(outbox.as_ref(), wire::encode(&message)) {
                            return Ok(fault);
                        }
                    }
                },
                event = swarm.select_next_some() => dial::tend(&mut swarm, &event, connection),
                () = sleep_until(deadline.into()) => {
                    if ends.is_some() {
                        return Err(Told::Close);
                    }
                    let last = *heard.lock().unwrap_or_else(PoisonError::into_inner);
                    if self.clock.now().mono >= last + self.times.silence {
                        return Ok(unreachable("the relay is silent"));
                    }
                }
            }
        }
    }
}

fn unreachable(what: &str) -> Fault {
    Fault::new(Code::RelayUnreachable).with(what)
}

/// Works until it is done, or until told to open or to close. What is said meanwhile is dropped.
async fn unless_told<T>(
    commands: &mut Mailbox<LinkCommand>,
    work: impl Future<Output = T>,
) -> Result<T, Told> {
    futures::pin_mut!(work);
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(LinkCommand::Open { relays, key, officer }) => {
                    return Err(Open::told(&relays, key, officer));
                }
                Some(LinkCommand::Close) | None => return Err(Told::Close),
                Some(LinkCommand::Citizen(_) | LinkCommand::Officer(_)) => {}
            },
            done = &mut work => return Ok(done),
        }
    }
}

/// The first relay that answers, in the descriptor's order; else the last one's fault.
async fn dial_any(open: &Open, clock: &Clock, times: &Times) -> Result<Dialled, Fault> {
    let protocol = if open.officer {
        officer::PROTOCOL
    } else {
        citizen::PROTOCOL
    };
    let mut failed = unreachable("no relay is known");
    for target in &open.targets {
        match dial::dial(&open.key, target, protocol, clock, times).await {
            Ok(dialled) => return Ok(dialled),
            Err(fault) => failed = fault,
        }
    }
    Err(failed)
}

/// Full jitter: anything up to a bound that doubles with each failure.
fn pause(draw: &mut Draw, times: &Times, failures: u32) -> Duration {
    let bound = times
        .pause
        .saturating_mul(2u32.saturating_pow(failures))
        .min(times.pause_max);
    let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(draw.below(micros.saturating_add(1)))
}

/// Hands a message to the writer. A relay that does not read what it is told is as good as gone.
fn say(outbox: Option<&Post<Bytes>>, message: Result<Bytes, Fault>) -> Result<(), Fault> {
    match (outbox, message) {
        (Some(outbox), Ok(message)) => outbox
            .post(message)
            .map_err(|_| unreachable("the relay reads too slowly")),
        (None, _) => Ok(()),
        (Some(_), Err(fault)) => {
            tracing::error!(%fault, "an own message cannot be said");
            Ok(())
        }
    }
}

/// Passes messages on until the stream ends or breaks a rule.
async fn read(
    mut reader: impl AsyncRead + Unpin,
    officer: bool,
    events: &Post<LinkEvent>,
    clock: &Clock,
    heard: &Mutex<Instant>,
) -> Fault {
    let mut framer = Framer::new();
    let mut buffer = [0; 4_096];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return unreachable("the relay ended the link"),
            Ok(count) => framer.push(buffer.get(..count).unwrap_or_default()),
            Err(error) => return unreachable(&format!("the link broke: {error}")),
        }
        loop {
            let event = match framer.next_message() {
                Ok(None) => break,
                Ok(Some(body)) if officer => message(&body).map(LinkEvent::Officer),
                Ok(Some(body)) => message(&body).map(LinkEvent::Citizen),
                Err(fault) => Err(fault),
            };
            match event {
                Ok(event) => {
                    *heard.lock().unwrap_or_else(PoisonError::into_inner) = clock.now().mono;
                    events.send(event).await;
                }
                Err(fault) => return fault,
            }
        }
    }
}

fn message<M: DeserializeOwned>(body: &[u8]) -> Result<M, Fault> {
    wire::decode(body)
}

/// Writes what is said; closes our half once no more can come.
async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut outgoing: Mailbox<Bytes>,
) -> std::io::Result<()> {
    while let Some(bytes) = outgoing.recv().await {
        writer.write_all(&bytes).await?;
        writer.flush().await?;
    }
    writer.close().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ_from_node_to_node() {
        let times = Times::default();
        let mut longest = [Duration::ZERO; 12];
        for seed in 0..200 {
            let mut draw = Draw::from_seed([seed; 32]);
            for (failures, longest) in (0..).zip(&mut longest) {
                *longest = pause(&mut draw, &times, failures).max(*longest);
            }
        }
        for (failures, longest) in (0..).zip(longest) {
            let bound = (times.pause * 2u32.pow(failures)).min(times.pause_max);
            assert!(
                longest <= bound && longest > bound / 2,
                "{failures}: {longest:?}"
            );
        }
        let late = |seed| pause(&mut Draw::from_seed([seed; 32]), &times, u32::MAX);
        assert!(late(1) <= times.pause_max && late(1) != late(2));
    }
}
