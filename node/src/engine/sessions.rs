//! One session: its machine, and the facts that its report will tell.

use std::time::Duration;

use suora_protocol::consultation::Phase;
use suora_protocol::consultation::clock::Offset;
use suora_protocol::consultation::guest::Guest;
use suora_protocol::consultation::host::Host;
use suora_protocol::consultation::quality::link::Link;
use suora_protocol::consultation::quality::{Quality, Second, Told};
use suora_protocol::consultation::talk::Talk;
use suora_protocol::documents::SessionId;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::guest::{self, Media};

use super::ports::{SessionEvent, SessionStats};
use crate::report::{Chat, Clock, Error, Outcome, Path, Peer, Report, Security, Timing};
use crate::view::{self, RelayStats, Stage, Stats, View};

/// Which end this is.
#[derive(Debug)]
pub enum Machine {
    /// The officer's.
    Host(Host),
    /// The citizen's.
    Guest(Guest),
}

/// What the report will tell.
#[derive(Debug, Default)]
pub struct Facts {
    /// The other end, shown once it is proven.
    pub peer: Option<Peer>,
    /// The officer's accept, by the host's clock.
    pub accepted: Option<Timestamp>,
    /// The hub's match, by our clock.
    pub matched: Option<Timestamp>,
    /// The first cause of the end.
    pub ending: Option<Fault>,
    /// Whether this end said so first.
    pub by_us: bool,
    /// Why the recording is not whole.
    pub unrecorded: Option<Fault>,
    /// The other end's clock, as far as it is known.
    pub clock: Option<Offset>,
    /// Chat lines.
    pub chat: Chat,
    proven: Option<Timestamp>,
    security: Option<Security>,
    path: Option<Path>,
    stats: SessionStats,
    first_audio: Option<Timestamp>,
    first_frame: Option<Timestamp>,
}

/// A session of host and guest.
#[derive(Debug)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// Whether its door is closed.
    pub closed: bool,
    /// Whether its host could not even be dialled.
    pub undialled: bool,
    /// What the report will tell.
    pub facts: Facts,
    /// What the other end sends, as it says.
    pub theirs: Media,
    machine: Machine,
    quality: Quality,
    troubled: bool,
}

/// What a second is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// Its figures.
    pub stats: &'a Stats,
    /// How long it was.
    pub length: Duration,
    /// Since anything of the other end came, in ms.
    pub silent_ms: u32,
    /// What the other end sends, as it says.
    pub theirs: Media,
    /// What we send.
    pub ours: Media,
}

/// The figures of a second as the machine of quality takes them. What the clocks cannot tell
/// for sure is not held against the network.
pub fn judged(of: &Judged<'_>) -> Second {
    let stats = of.stats;
    let short = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let unsure = stats.clock.uncertainty_ms;
    let surely = |ms: Option<f64>| ms.zip(unsure).map(|(ms, unsure)| ms - unsure);
    Second {
        length_ms: u32::try_from(of.length.as_millis()).unwrap_or(u32::MAX),
        silent_ms: of.silent_ms,
        sound: of.theirs.audio,
        played_ms: short(stats.sound.played_ms),
        concealed_ms: short(stats.sound.concealed_ms),
        sound_delay_ms: surely(stats.sound.delay_ms),
        picture: of.theirs.video,
        shown: short(stats.picture.shown),
        frozen_ms: stats.picture.frozen_ms as u32,
        picture_delay_ms: surely(stats.latency_ms),
        loss: stats.loss,
        queue_ms: stats.rate.queue_ms,
        sends_picture: of.ours.video,
        target_bps: stats.rate.target_bps,
        relayed: stats.relayed,
        network: stats.relay.network,
    }
}

/// Microseconds as milliseconds.
pub fn ms(micros: i64) -> f64 {
    micros as f64 / 1_000.0
}

impl Session {
    /// A session that begins; `peer` is shown once it is proven.
    pub fn new(id: SessionId, machine: Machine, peer: Peer, matched: Option<Timestamp>) -> Self {
        Self {
            id,
            closed: false,
            undialled: false,
            facts: Facts {
                peer: Some(peer),
                matched,
                ..Facts::default()
            },
            machine,
            theirs: Media {
                audio: true,
                video: true,
            },
            quality: Quality::new(),
            troubled: false,
        }
    }

    /// Where it stands.
    pub const fn phase(&self) -> Phase {
        match &self.machine {
            Machine::Host(host) => host.phase(),
            Machine::Guest(guest) => guest.phase(),
        }
    }

    /// What both ends do alike.
    pub const fn talk(&mut self) -> &mut Talk {
        match &mut self.machine {
            Machine::Host(host) => host.talk(),
            Machine::Guest(guest) => guest.talk(),
        }
    }

    /// The officer accepts.
    pub fn accept(&mut self, now: Now) -> Result<(), Fault> {
        match &mut self.machine {
            Machine::Host(host) => host.accept(now),
            Machine::Guest(_) => {
                Err(Fault::new(Code::ProtocolViolation).with("only the officer accepts"))
            }
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Now) -> Result<(), Fault> {
        match &mut self.machine {
            Machine::Host(host) => host.tick(now),
            Machine::Guest(guest) => guest.tick(now),
        }
    }

    /// Why it ended, as far as anybody said.
    pub fn ending(&self) -> Fault {
        let unknown = || Fault::new(Code::Internal);
        self.facts.ending.clone().unwrap_or_else(unknown)
    }

    /// Both ends are proven.
    pub const fn verified(&mut self, now: Now) {
        self.facts.proven = Some(now.utc);
    }

    /// The session's door says; true: a second is over. A fault is the other end's.
    pub fn event(&mut self, now: Now, event: SessionEvent) -> Result<bool, Fault> {
        match event {
            SessionEvent::Connected {
                binding,
                alpn,
                security,
                path,
            } => {
                let invite = match &self.machine {
                    Machine::Host(host) => &host.invited().invite,
                    Machine::Guest(guest) => &guest.invited().invite,
                };
                // the pin held, so the certificate is the invite's
                self.facts.security = Some(Security {
                    fingerprint: invite.fingerprint.to_hex(),
                    ..security
                });
                self.facts.path = Some(path);
                match &mut self.machine {
                    Machine::Host(host) => host.connected(binding, alpn),
                    Machine::Guest(guest) => guest.connected(binding, alpn)?,
                }
            }
            SessionEvent::Control { body, at } => match &mut self.machine {
                Machine::Host(host) => host.message(now, &body, at)?,
                Machine::Guest(guest) => guest.message(now, &body, at)?,
            },
            SessionEvent::FirstAudio(at) => self.facts.first_audio = Some(at),
            SessionEvent::FirstFrame(at) => self.facts.first_frame = Some(at),
            SessionEvent::Stats(stats) => {
                if stats.path.is_some() {
                    self.facts.path.clone_from(&stats.path);
                }
                self.facts.stats = *stats;
                return Ok(true);
            }
            SessionEvent::Unrecorded(fault) => {
                self.facts.unrecorded.get_or_insert(fault);
            }
            SessionEvent::Undialled(fault) => {
                (self.closed, self.undialled) = (true, true);
                self.facts.ending.get_or_insert(fault);
            }
            SessionEvent::Closed(fault) => {
                self.closed = true;
                self.facts.ending.get_or_insert(fault);
            }
        }
        Ok(false)
    }

    /// What the other end says of itself.
    pub const fn told(&mut self, told: guest::Quality) {
        let guest::Quality { word, network } = told;
        self.quality.told(Told { word, network });
    }

    /// A second is over: its figures, with the link's and the clocks', and its word, which
    /// the other end is told. `media` is what we send.
    pub fn second(&mut self, now: Now, link: &mut Link, media: Media) -> Result<Stats, Fault> {
        self.facts.clock = self.talk().clock(now.mono).or(self.facts.clock);
        let stats = &self.facts.stats;
        let mut second = stats.second;
        let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
        second.relay = RelayStats {
            rtt_ms: link.trip().map(millis),
            jitter_ms: link.jitter().map(millis),
            missed: link.missed(),
            network: link.network(now.mono),
        };
        let path = self.facts.path.as_ref();
        second.relayed = path.is_some_and(|path| path.kind != "direct");
        second.clock = self.facts.clock.into();
        if self.phase() == Phase::Accepted {
            let verdict = self.quality.second(judged(&Judged {
                stats: &second,
                length: stats.length,
                silent_ms: stats.silent_ms,
                theirs: self.theirs,
                ours: media,
            }));
            self.troubled = verdict.troubled;
            second.quality = Some(view::Quality {
                word: verdict.word,
                cause: verdict.cause,
                theirs: self.quality.heard(),
            });
            let Told { word, network } = verdict.tell;
            self.talk().quality(now, guest::Quality { word, network })?;
        }
        Ok(second)
    }

    /// Whether something is wrong just now: the link is asked more often then.
    pub fn troubled(&self) -> bool {
        self.troubled && self.phase() == Phase::Accepted
    }

    /// What a person sees of it. Nobody is named before the proof.
    pub fn view(&self, stage: Stage) -> View {
        let shown = matches!(stage, Stage::Warm | Stage::Accepted);
        View::Session {
            stage,
            peer: self.facts.peer.clone().filter(|_| shown),
            security: self.facts.security.clone().filter(|_| shown),
            path: self.facts.path.clone().filter(|_| shown),
        }
    }

    /// The call report.
    pub fn report(&self, role: &'static str, timing: Timing, button: Option<Timestamp>) -> Report {
        let facts = &self.facts;
        let (outcome, error) = outcome(
            facts.ending.as_ref(),
            facts.accepted.is_some(),
            facts.unrecorded.as_ref(),
        );
        // the host's clock → ours
        let offset = if matches!(self.machine, Machine::Guest(_)) {
            facts.clock.map(|clock| clock.offset)
        } else {
            Some(0)
        };
        let accepted = facts
            .accepted
            .zip(offset)
            .map(|(at, offset)| at.shift(-offset));
        let since = |from: Option<Timestamp>, to: Option<Timestamp>| {
            from.zip(to).map(|(from, to)| ms(to.micros_since(from)))
        };
        Report {
            role,
            outcome,
            error,
            peer: facts.peer.clone().filter(|_| facts.proven.is_some()),
            path: facts.path.clone(),
            security: facts.security.clone(),
            clock: facts.clock.into(),
            timing_ms: Timing {
                match_to_session: since(facts.matched, facts.proven),
                accept_to_first_audio: since(accepted, facts.first_audio),
                accept_to_first_frame: since(accepted, facts.first_frame),
                button_to_first_frame: if role == "citizen" {
                    since(button, facts.first_frame)
                } else {
                    None
                },
                ..timing
            },
            video: facts.stats.video,
            audio: facts.stats.audio,
            quality: self.quality.shares().into(),
            chat: facts.chat,
            wire: facts.stats.wire,
            cpu_seconds: None,
            max_rss_bytes: None,
        }
    }
}

fn outcome(
    ending: Option<&Fault>,
    accepted: bool,
    unrecorded: Option<&Fault>,
) -> (Outcome, Option<Error>) {
    let Some(fault) = ending else {
        return (Outcome::Failed, None);
    };
    match (fault.code, unrecorded) {
        (Code::Ended, None) if accepted => (Outcome::Completed, None),
        (Code::Ended, Some(fault)) if accepted => (Outcome::Failed, Some(Error::from(fault))),
        (code, _) if code.is_refusal() => (Outcome::Refused, Some(Error::from(fault))),
        _ => (Outcome::Failed, Some(Error::from(fault))),
    }
}

/// The report of a contact that had no session.
pub fn failed(role: &'static str, fault: &Fault, timing: Timing) -> Report {
    let (outcome, error) = outcome(Some(fault), false, None);
    Report {
        role,
        outcome,
        error,
        peer: None,
        path: None,
        security: None,
        clock: Clock::default(),
        timing_ms: timing,
        video: crate::report::Video::default(),
        audio: crate::report::Audio::default(),
        quality: crate::report::Quality::default(),
        chat: Chat::default(),
        wire: crate::report::Wire::default(),
        cpu_seconds: None,
        max_rss_bytes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: SUORA-CON-010
    #[test]
    fn only_an_accepted_consultation_that_somebody_ended_is_completed() {
        let told = |code: Option<Code>, accepted| {
            let (outcome, error) = outcome(code.map(Fault::new).as_ref(), accepted, None);
            (outcome, error.map(|error| error.code))
        };
        assert_eq!(told(Some(Code::Ended), true), (Outcome::Completed, None));
        for code in [
            Code::Ended,
            Code::Cancelled,
            Code::PeerSilent,
            Code::OfferExpired,
        ] {
            assert_eq!(told(Some(code), false), (Outcome::Failed, Some(code)));
        }
        assert_eq!(
            told(Some(Code::PeerSilent), true),
            (Outcome::Failed, Some(Code::PeerSilent))
        );
        for code in [Code::BadSignature, Code::WrongBinding, Code::NoCredential] {
            assert_eq!(told(Some(code), false), (Outcome::Refused, Some(code)));
        }
        assert_eq!(told(None, false), (Outcome::Failed, None));
    }

    // covers: SUORA-CON-010
    #[test]
    fn a_recording_that_is_not_whole_fails_what_was_completed_and_hides_no_other_cause() {
        let unrecorded = Fault::new(Code::BadFile);
        let told = |code| {
            let ending = Fault::new(code);
            let (outcome, error) = outcome(Some(&ending), true, Some(&unrecorded));
            (outcome, error.map(|error| error.code))
        };
        assert_eq!(told(Code::Ended), (Outcome::Failed, Some(Code::BadFile)));
        assert_eq!(
            told(Code::PeerSilent),
            (Outcome::Failed, Some(Code::PeerSilent))
        );
    }
}
