//! A citizen at a desk: joining → queued → matched → invited → in session, back to
//! queued when a match ends, and over when the ticket ends (`spec/desk.md`, section 3).

use crate::documents::{Challenge, DeskId, TicketId};
use crate::fault::{Code, Fault};
use crate::limits;
use crate::wire::citizen::{FromRelay, ToRelay};
use crate::wire::grant::Grant;
use crate::wire::work::{Slot, Work};

/// Where the citizen stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Asked for a ticket.
    Joining,
    /// Waits.
    Queued,
    /// An officer was found.
    Matched,
    /// Took an invite: no second one is taken while it lives.
    Invited,
    /// The officer accepted.
    Engaged,
    /// The ticket is over.
    Over,
}

/// What the citizen's node has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Say this to the relay.
    Say(ToRelay),
    /// Show the position.
    Position(u32),
    /// Do this work of so many bits, then call [`Citizen::worked`].
    Work(Slot, u8),
    /// An officer was found.
    Matched,
    /// What the node may use of the relay's TURN for this consultation.
    Grant(Grant),
    /// Verify this invite, then call [`Citizen::took`] or [`Citizen::refuse`].
    Verify(Vec<u8>),
    /// The match ended: drop the session, wait again.
    Dropped(Code),
    /// The ticket is over.
    Over(Code),
}

/// The citizen's side of one contact.
#[derive(Debug)]
pub struct Citizen {
    desk: DeskId,
    challenge: Challenge,
    ticket: Option<TicketId>,
    attempt: u32,
    state: State,
    /// Puzzles since there was no ticket.
    works: u32,
}

impl Citizen {
    /// A citizen who wants to be served at `desk`; `challenge` is random.
    pub const fn new(desk: DeskId, challenge: Challenge) -> Self {
        Self {
            desk,
            challenge,
            ticket: None,
            attempt: 0,
            state: State::Joining,
            works: 0,
        }
    }

    /// Where the citizen stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The ticket, once there is one.
    pub const fn ticket(&self) -> Option<TicketId> {
        self.ticket
    }

    /// The challenge of the join.
    pub const fn challenge(&self) -> Challenge {
        self.challenge
    }

    /// The link stands: ask for a ticket, or for the old one. In a session the relay is not needed.
    pub fn link_up(&mut self) -> Option<ToRelay> {
        match self.state {
            State::Engaged | State::Invited | State::Over => None,
            _ => {
                self.state = State::Joining;
                Some(self.join(None))
            }
        }
    }

    fn join(&self, work: Option<Work>) -> ToRelay {
        ToRelay::Join {
            desk: self.desk.clone(),
            challenge: self.challenge,
            ticket: self.ticket,
            work,
        }
    }

    /// The work that the relay asked for is done: ask again with it, if a ticket is still wanted.
    pub fn worked(&self, work: Work) -> Option<ToRelay> {
        (self.state == State::Joining).then(|| self.join(Some(work)))
    }

    /// No answer came to the join, or one that time mends: ask again.
    pub fn again(&self) -> Option<ToRelay> {
        (self.state == State::Joining).then(|| self.join(None))
    }

    /// A message of the relay. A refusal that time does not mend is the fault.
    pub fn message(&mut self, message: FromRelay) -> Result<Vec<Action>, Fault> {
        let mine = |ticket: &TicketId| self.ticket == Some(*ticket);
        Ok(match message {
            FromRelay::Queued { ticket, position } if self.state == State::Joining => {
                self.ticket = Some(ticket);
                self.state = State::Queued;
                self.works = 0;
                vec![Action::Position(position)]
            }
            FromRelay::Work { desk, slot, bits }
                if self.state == State::Joining && desk == self.desk =>
            {
                if self.works >= limits::WORKS_MAX || bits > limits::WORK_BITS_MAX {
                    self.state = State::Over;
                    return Err(Fault::new(Code::ProtocolViolation)
                        .with("the relay asks for more work than a node does"));
                }
                self.works += 1;
                vec![Action::Work(slot, bits)]
            }
            FromRelay::Position { ticket, position }
                if mine(&ticket) && self.state == State::Queued =>
            {
                vec![Action::Position(position)]
            }
            FromRelay::Matched { ticket, attempt }
                if mine(&ticket) && matches!(self.state, State::Queued | State::Matched) =>
            {
                self.attempt = attempt;
                self.state = State::Matched;
                vec![Action::Matched]
            }
            FromRelay::Grant { ticket, grant }
                if mine(&ticket)
                    && matches!(self.state, State::Matched | State::Invited | State::Engaged)
                    && grant.check().is_ok() =>
            {
                vec![Action::Grant(grant)]
            }
            FromRelay::Invite {
                ticket,
                attempt,
                invite,
            } if mine(&ticket) => match self.state {
                State::Matched if attempt == self.attempt => vec![Action::Verify(invite)],
                State::Invited | State::Engaged => vec![Action::Say(ToRelay::Refused {
                    ticket,
                    attempt,
                    code: Code::AlreadyInvited,
                })],
                _ => Vec::new(),
            },
            FromRelay::Waiting {
                ticket,
                position,
                code,
            } if mine(&ticket) && !matches!(self.state, State::Engaged | State::Over) => {
                self.state = State::Queued;
                vec![Action::Dropped(code), Action::Position(position)]
            }
            FromRelay::Ended { ticket, code }
                if mine(&ticket) && !matches!(self.state, State::Engaged | State::Over) =>
            {
                self.state = State::Over;
                vec![Action::Over(code)]
            }
            FromRelay::Refused {
                code: Code::Busy | Code::TooFast | Code::NoTicket,
                ..
            } => Vec::new(),
            FromRelay::Refused { code, message } if self.state == State::Joining => {
                self.state = State::Over;
                return Err(Fault {
                    code,
                    detail: message,
                });
            }
            _ => Vec::new(),
        })
    }

    /// The invite was verified and its host is dialled.
    pub fn took(&mut self) {
        self.state = State::Invited;
    }

    /// The invite, or the host behind it, was refused. A refusal of a proof ends the contact.
    pub fn refuse(&mut self, code: Code) -> Option<ToRelay> {
        let ticket = self.ticket?;
        self.state = if code.is_refusal() {
            State::Over
        } else {
            State::Queued
        };
        Some(ToRelay::Refused {
            ticket,
            attempt: self.attempt,
            code,
        })
    }

    /// The officer accepted: the relay has nothing more to say about this contact.
    pub fn engaged(&mut self) {
        self.state = State::Engaged;
    }

    /// The session ended. Before accept the ticket goes on waiting; after it, it is over.
    pub fn session_ended(&mut self, code: Code) -> Option<ToRelay> {
        let ticket = self.ticket?;
        match self.state {
            State::Engaged => {
                self.state = State::Over;
                Some(ToRelay::Done { ticket, code })
            }
            State::Invited => {
                self.state = State::Queued;
                Some(ToRelay::Refused {
                    ticket,
                    attempt: self.attempt,
                    code,
                })
            }
            _ => None,
        }
    }

    /// The citizen no longer wants to wait.
    pub fn leave(&mut self) -> Option<ToRelay> {
        self.state = State::Over;
        self.ticket.map(|ticket| ToRelay::Leave { ticket })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued() -> (Citizen, TicketId) {
        let mut citizen = Citizen::new(DeskId::new("tax").unwrap(), Challenge::from_bytes([1; 16]));
        let ticket = TicketId::from_bytes([2; 16]);
        assert!(citizen.link_up().is_some());
        assert_eq!(
            citizen.message(FromRelay::Queued {
                ticket,
                position: 3
            }),
            Ok(vec![Action::Position(3)])
        );
        (citizen, ticket)
    }

    // covers: SUORA-DSK-006
    #[test]
    fn one_live_invite_a_ticket() {
        let (mut citizen, ticket) = queued();
        citizen
            .message(FromRelay::Matched { ticket, attempt: 1 })
            .unwrap();
        let invite = FromRelay::Invite {
            ticket,
            attempt: 1,
            invite: vec![1],
        };
        assert_eq!(
            citizen.message(invite.clone()),
            Ok(vec![Action::Verify(vec![1])])
        );
        citizen.took();
        let refusal = ToRelay::Refused {
            ticket,
            attempt: 1,
            code: Code::AlreadyInvited,
        };
        assert_eq!(citizen.message(invite), Ok(vec![Action::Say(refusal)]));
    }

    // covers: SUORA-DSK-007
    #[test]
    fn a_lost_link_asks_for_the_old_ticket() {
        let (mut citizen, ticket) = queued();
        assert!(
            matches!(citizen.link_up(), Some(ToRelay::Join { ticket: Some(old), .. }) if old == ticket)
        );
    }

    // covers: SUORA-DSK-122
    #[test]
    fn work_is_done_for_a_ticket_so_often_and_no_harder() {
        let desk = DeskId::new("tax").unwrap();
        let slot = Slot::from_bytes([3; 16]);
        let asks = |bits| FromRelay::Work {
            desk: desk.clone(),
            slot,
            bits,
        };
        let joining = || {
            let mut citizen = Citizen::new(desk.clone(), Challenge::from_bytes([1; 16]));
            citizen.link_up();
            citizen
        };
        let mut citizen = joining();
        let work = Work { slot, nonce: 7 };
        for _ in 0..limits::WORKS_MAX {
            let asked = citizen.message(asks(limits::WORK_BITS)).unwrap();
            assert_eq!(asked, [Action::Work(slot, limits::WORK_BITS)]);
            let Some(ToRelay::Join { work: shown, .. }) = citizen.worked(work) else {
                panic!("it does not ask again");
            };
            assert_eq!(shown, Some(work));
        }
        let again = citizen.message(asks(limits::WORK_BITS)).unwrap_err();
        assert_eq!(again.code, Code::ProtocolViolation);
        let harder = joining().message(asks(limits::WORK_BITS_MAX + 1));
        assert!(harder.is_err());
        // a ticket begins anew; who has one is not asked
        let (mut citizen, _) = queued();
        assert_eq!(citizen.message(asks(limits::WORK_BITS)), Ok(vec![]));
        assert_eq!(citizen.worked(work), None);
    }

    #[test]
    fn an_invite_without_match_is_not_looked_at() {
        let (mut citizen, ticket) = queued();
        assert_eq!(
            citizen.message(FromRelay::Invite {
                ticket,
                attempt: 1,
                invite: vec![1]
            }),
            Ok(vec![])
        );
    }

    #[test]
    fn a_refused_proof_ends_the_contact() {
        let (mut citizen, ticket) = queued();
        citizen
            .message(FromRelay::Matched { ticket, attempt: 1 })
            .unwrap();
        assert_eq!(
            citizen.refuse(Code::BadSignature),
            Some(ToRelay::Refused {
                ticket,
                attempt: 1,
                code: Code::BadSignature
            })
        );
        assert_eq!(citizen.state(), State::Over);
    }
}
