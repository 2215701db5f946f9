//! One session: its machine, and the facts that its report will tell.

use suora_protocol::consultation::Phase;
use suora_protocol::consultation::guest::Guest;
use suora_protocol::consultation::host::Host;
use suora_protocol::consultation::talk::Talk;
use suora_protocol::documents::SessionId;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::time::{Now, Timestamp};

use super::ports::{SessionEvent, SessionStats};
use crate::report::{Chat, Clock, Error, Outcome, Path, Peer, Report, Security, Timing};
use crate::view::{Stage, Stats, View};

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
    /// Why the recording is not whole.
    pub unrecorded: Option<Fault>,
    /// Offset and uncertainty, in microseconds.
    pub clock: Option<(i64, i64)>,
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
    /// What the report will tell.
    pub facts: Facts,
    machine: Machine,
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
            facts: Facts {
                peer: Some(peer),
                matched,
                ..Facts::default()
            },
            machine,
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

    /// The session's door says. A fault is the other end's.
    pub fn event(&mut self, now: Now, event: SessionEvent) -> Result<Option<Stats>, Fault> {
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
                let second = stats.second;
                self.facts.stats = *stats;
                return Ok(Some(second));
            }
            SessionEvent::Unrecorded(fault) => {
                self.facts.unrecorded.get_or_insert(fault);
            }
            SessionEvent::Closed(fault) => {
                self.closed = true;
                self.facts.ending.get_or_insert(fault);
            }
        }
        Ok(None)
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
            facts.clock.map(|(offset, _)| offset)
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
            clock: Clock {
                offset_ms: facts.clock.map(|(offset, _)| ms(offset)),
                uncertainty_ms: facts.clock.map(|(_, half)| ms(half)),
            },
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
