//! An officer at a desk: away → free → offered → engaged (`spec/desk.md`, section 4).

use bytes::Bytes;

use crate::documents::{Challenge, DeskId, TicketId};
use crate::fault::{Code, Fault};
use crate::identity::PeerId;
use crate::limits;
use crate::wire::grant::Grant;
use crate::wire::officer::{FromRelay, Status, ToRelay};

/// An offer of the hub.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The ticket.
    pub ticket: TicketId,
    /// The attempt.
    pub attempt: u32,
    /// The guest.
    pub guest: PeerId,
    /// To be echoed in the invite.
    pub challenge: Challenge,
    /// How long the guest has waited, in ms.
    pub waited_ms: u64,
    /// How long the offer stands, in ms.
    pub expires_in_ms: u64,
}

/// Where the officer stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Does not attend.
    Away,
    /// Attends.
    Free,
    /// Was asked.
    Offered(Offer),
    /// In consultation.
    Engaged(TicketId),
}

/// What the officer's node has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Say this to the relay.
    Say(ToRelay),
    /// So many people wait.
    Waiting(u32),
    /// The relay hands a newer credential on: verify it, then [`Officer::renew`].
    Renewed(Bytes),
    /// Send an invite, then ask the person.
    Offer(Offer),
    /// The guest of this ticket is reached here: let it in.
    Guest(TicketId, Vec<String>),
    /// What the node may use of the relay's TURN from now on.
    Grant(Grant),
    /// The offer, or the ticket of the consultation, is over.
    Withdrawn(Code),
}

/// The officer's side of a desk.
#[derive(Debug)]
pub struct Officer {
    desk: DeskId,
    credential: Bytes,
    status: Status,
    state: State,
}

impl Officer {
    /// An officer of `desk` who shows this credential.
    pub const fn new(desk: DeskId, credential: Bytes, status: Status) -> Self {
        Self {
            desk,
            credential,
            status,
            state: State::Away,
        }
    }

    /// Where the officer stands.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The link stands: attend, or attend again.
    pub fn link_up(&self) -> ToRelay {
        let engaged = match self.state {
            State::Engaged(ticket) => Some(ticket),
            _ => None,
        };
        ToRelay::Attend {
            desk: self.desk.clone(),
            credential: self.credential.to_vec(),
            status: self.status,
            engaged,
        }
    }

    /// Shows this credential from now on. The relay has it: there is nothing to say.
    pub fn renew(&mut self, credential: Bytes) {
        self.credential = credential;
    }

    /// The link fell. An offer falls with it, a consultation does not.
    pub fn link_down(&mut self) -> Option<Action> {
        match self.state {
            State::Offered(_) => {
                self.state = State::Away;
                Some(Action::Withdrawn(Code::OfficerGone))
            }
            State::Free => {
                self.state = State::Away;
                None
            }
            _ => None,
        }
    }

    /// A message of the relay. A refusal to attend is the fault.
    pub fn message(&mut self, message: FromRelay) -> Result<Option<Action>, Fault> {
        Ok(match message {
            FromRelay::Attending { waiting, .. } => {
                if self.state == State::Away {
                    self.state = State::Free;
                }
                Some(Action::Waiting(waiting))
            }
            FromRelay::Waiting { waiting, .. } => Some(Action::Waiting(waiting)),
            FromRelay::Credential { credential } => Some(Action::Renewed(credential.into())),
            FromRelay::Offer {
                ticket,
                attempt,
                desk,
                guest,
                challenge,
                waited_ms,
                expires_in_ms,
            } => {
                if self.state != State::Free || desk != self.desk {
                    return Ok(Some(Action::Say(ToRelay::Declined {
                        ticket,
                        attempt,
                        code: Code::Busy,
                    })));
                }
                let offer = Offer {
                    ticket,
                    attempt,
                    guest,
                    challenge,
                    waited_ms,
                    expires_in_ms,
                };
                self.state = State::Offered(offer.clone());
                Some(Action::Offer(offer))
            }
            FromRelay::Addresses {
                ticket, addresses, ..
            } => {
                let mine = match &self.state {
                    State::Offered(offer) => offer.ticket == ticket,
                    State::Engaged(engaged) => *engaged == ticket,
                    State::Away | State::Free => false,
                };
                let bounded = addresses.len() <= limits::ADDRESSES_MAX;
                (mine && bounded).then_some(Action::Guest(ticket, addresses))
            }
            FromRelay::Grant { grant } => grant.check().is_ok().then_some(Action::Grant(grant)),
            FromRelay::Withdrawn { ticket, code, .. } => match &self.state {
                State::Offered(offer) if offer.ticket == ticket => {
                    self.state = State::Free;
                    if code == Code::OfferExpired {
                        self.status = Status::Busy;
                    }
                    Some(Action::Withdrawn(code))
                }
                _ => None,
            },
            FromRelay::Refused { code, message }
                if self.state == State::Away && !matches!(code, Code::Busy | Code::TooFast) =>
            {
                return Err(Fault {
                    code,
                    detail: message,
                });
            }
            _ => None,
        })
    }

    /// The person takes the offer.
    pub fn accept(&mut self) -> Option<ToRelay> {
        let State::Offered(offer) = &self.state else {
            return None;
        };
        let (ticket, attempt) = (offer.ticket, offer.attempt);
        self.state = State::Engaged(ticket);
        Some(ToRelay::Accepted { ticket, attempt })
    }

    /// The person, or the node, does not take the offer.
    pub fn decline(&mut self, code: Code) -> Option<ToRelay> {
        let State::Offered(offer) = &self.state else {
            return None;
        };
        let (ticket, attempt) = (offer.ticket, offer.attempt);
        self.state = State::Free;
        Some(ToRelay::Declined {
            ticket,
            attempt,
            code,
        })
    }

    /// The consultation is over.
    pub fn done(&mut self, code: Code) -> Option<ToRelay> {
        let State::Engaged(ticket) = self.state else {
            return None;
        };
        self.state = State::Free;
        Some(ToRelay::Done { ticket, code })
    }

    /// The person's status changes.
    pub fn set_status(&mut self, status: Status) -> ToRelay {
        self.status = status;
        ToRelay::Status { status }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(ticket: u8) -> FromRelay {
        FromRelay::Offer {
            ticket: TicketId::from_bytes([ticket; 16]),
            attempt: 1,
            desk: DeskId::new("tax").unwrap(),
            guest: PeerId::from_bytes([9; 32]),
            challenge: Challenge::from_bytes([1; 16]),
            waited_ms: 0,
            expires_in_ms: 30_000,
        }
    }

    // covers: SUORA-DSK-008
    #[test]
    fn an_engaged_officer_declines_and_attends_again_with_the_ticket() {
        let mut officer =
            Officer::new(DeskId::new("tax").unwrap(), Bytes::new(), Status::Available);
        officer
            .message(FromRelay::Attending {
                desk: DeskId::new("tax").unwrap(),
                waiting: 1,
            })
            .unwrap();
        assert!(matches!(
            officer.message(offer(1)),
            Ok(Some(Action::Offer(_)))
        ));
        assert!(officer.accept().is_some());
        assert!(matches!(
            officer.message(offer(2)),
            Ok(Some(Action::Say(ToRelay::Declined {
                code: Code::Busy,
                ..
            })))
        ));
        assert_eq!(officer.link_down(), None);
        assert!(matches!(
            officer.link_up(),
            ToRelay::Attend {
                engaged: Some(_),
                ..
            }
        ));
    }

    // covers: SUORA-DSK-103
    #[test]
    fn a_renewed_credential_is_shown_from_the_next_link_on() {
        let mut officer =
            Officer::new(DeskId::new("tax").unwrap(), Bytes::new(), Status::Available);
        let credential = vec![7; 40];
        let handed = officer.message(FromRelay::Credential {
            credential: credential.clone(),
        });
        let handed = handed.unwrap();
        assert_eq!(handed, Some(Action::Renewed(credential.clone().into())));
        let shown = |officer: &Officer| match officer.link_up() {
            ToRelay::Attend { credential, .. } => credential,
            other => panic!("{other:?}"),
        };
        assert!(shown(&officer).is_empty(), "nobody has verified it yet");
        officer.renew(credential.clone().into());
        assert_eq!(shown(&officer), credential);
    }

    #[test]
    fn a_refused_credential_is_a_fault() {
        let mut officer =
            Officer::new(DeskId::new("tax").unwrap(), Bytes::new(), Status::Available);
        let refused = officer.message(FromRelay::Refused {
            code: Code::Expired,
            message: None,
        });
        assert_eq!(refused.map_err(|fault| fault.code), Err(Code::Expired));
    }
}
