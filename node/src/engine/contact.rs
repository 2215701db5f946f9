//! The citizen's side of a desk: from the button to the end of the contact.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use suora_protocol::consultation::guest::Guest;
use suora_protocol::desk::citizen::{Action, Citizen, State};
use suora_protocol::documents::chain::{self, InviteExpected, Invited};
use suora_protocol::documents::{Challenge, DeskId, Invite, Signed};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Draw;
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::citizen::FromRelay;
use suora_protocol::wire::work::{Puzzle, Slot, Work};

use super::ports::{Contradiction, Dial, Output};
use super::sessions::{Machine, Session, ms};
use super::{Engine, Side};
use crate::report::Peer;
use crate::view::View;

/// After a join that got no ticket and may get one later.
const AGAIN: Duration = Duration::from_secs(10);

/// One contact of a citizen.
#[derive(Debug)]
pub struct Contact {
    /// The ticket's machine.
    pub citizen: Citizen,
    /// The person gave the ticket up.
    pub leaving: bool,
    /// When a ticket was last asked for.
    pub asked: Option<Instant>,
    /// The work that was asked for is under way.
    works: bool,
    matched: Option<Timestamp>,
    /// An invite that does not stand under our page, while a newer page is asked for.
    pending: Option<Vec<u8>>,
}

impl Contact {
    /// A contact at `desk`, with a challenge of its own.
    pub fn new(desk: DeskId, draw: &mut Draw) -> Self {
        Self {
            citizen: Citizen::new(desk, Challenge::from_bytes(draw.bytes())),
            leaving: false,
            asked: None,
            works: false,
            matched: None,
            pending: None,
        }
    }
}

impl Engine {
    pub(super) fn citizen_message(&mut self, now: Now, message: FromRelay) -> Result<(), Fault> {
        let Side::Citizen(contact) = &mut self.side else {
            return Ok(());
        };
        let actions = match contact.citizen.message(message) {
            Ok(actions) => actions,
            Err(fault) => {
                self.fail(now, fault);
                return Ok(());
            }
        };
        for action in actions {
            match action {
                Action::Say(message) => self.say_citizen(message),
                Action::Position(position) => {
                    if let Some(button) = self.button {
                        self.timing
                            .button_to_queue
                            .get_or_insert(ms(now.utc.micros_since(button)));
                    }
                    self.out.push_back(Output::View(View::Queue { position }));
                }
                Action::Work(slot, bits) => self.work(slot, bits)?,
                Action::Matched => {
                    if let Side::Citizen(contact) = &mut self.side {
                        contact.matched = Some(now.utc - self.rtt / 2);
                        contact.pending = None;
                    }
                }
                Action::Grant(grant) => self.granted(grant),
                Action::Verify(invite) => self.invited(now, invite)?,
                Action::Dropped(code) => self.close_session(Fault::new(code)),
                Action::Over(code) if self.session.is_none() => self.fail(now, Fault::new(code)),
                Action::Over(code) => self.close_session(Fault::new(code)),
            }
        }
        Ok(())
    }

    /// The relay asks for work: one puzzle at a time is solved, beside everything else.
    fn work(&mut self, slot: Slot, bits: u8) -> Result<(), Fault> {
        let key = self
            .key
            .as_ref()
            .ok_or_else(|| Fault::new(Code::Internal).with("no key"))?;
        let puzzle = Puzzle {
            desk: self.settings.desk.clone(),
            slot,
            peer: key.peer_id(),
            bits,
        };
        if let Side::Citizen(contact) = &mut self.side
            && !std::mem::replace(&mut contact.works, true)
        {
            self.out.push_back(Output::Work(puzzle));
        }
        Ok(())
    }

    /// The work is done: ask for a ticket with it.
    pub(super) fn worked(&mut self, now: Now, work: Result<Work, Fault>) -> Result<(), Fault> {
        let Side::Citizen(contact) = &mut self.side else {
            return Ok(());
        };
        contact.works = false;
        contact.asked = Some(now.mono);
        if let Some(join) = contact.citizen.worked(work?)
            && self.link_up
        {
            self.say_citizen(join);
        }
        Ok(())
    }

    /// A join that got no ticket, because the relay was busy, is said again after a while.
    pub(super) fn ask_again(&mut self, now: Now) {
        let Side::Citizen(contact) = &mut self.side else {
            return;
        };
        let due = contact
            .asked
            .is_some_and(|asked| now.mono.saturating_duration_since(asked) >= AGAIN);
        if self.link_up && due && !contact.works {
            contact.asked = Some(now.mono);
            if let Some(join) = contact.citizen.again() {
                self.say_citizen(join);
            }
        }
    }

    /// An invite came: verify the chain, then dial, or refuse and say why.
    fn invited(&mut self, now: Now, invite: Vec<u8>) -> Result<(), Fault> {
        self.let_go(now);
        let verified = self.verify_invite(now, &invite);
        // an officer who knows a newer page than we do may be right
        let hinted = chain::named_sequence(&invite);
        if let Some(sequence) = hinted
            && self.hinted(now, sequence)
            && verified.is_err()
            && let Side::Citizen(contact) = &mut self.side
        {
            contact.pending = Some(invite);
            return Ok(());
        }
        match verified {
            Ok((invited, addresses)) => {
                let key = self
                    .key
                    .clone()
                    .ok_or_else(|| Fault::new(Code::Internal).with("no key"))?;
                let descriptor = self.trust.get()?.clone();
                let (id, hash) = (invited.invite.session, invited.invite.hash());
                let dial = Dial {
                    session: id,
                    dcid: invited.invite.dcid,
                    addresses,
                    fingerprint: invited.invite.fingerprint,
                    invite: hash,
                    require_pq: invited.invite.require_pq,
                };
                let peer = Peer {
                    peer_id: invited.host().to_text(),
                    verified_as: Some(invited.credential.name.clone()),
                };
                let Side::Citizen(contact) = &mut self.side else {
                    return Ok(());
                };
                contact.citizen.took();
                let guest = Guest::new(invited, descriptor, key, now);
                self.session = Some(Session::new(
                    id,
                    Machine::Guest(guest),
                    peer,
                    contact.matched,
                ));
                self.out.push_back(Output::Dial(dial));
                self.show_connecting(id);
            }
            Err(fault) => {
                if fault.code == Code::Equivocation
                    && let Some(proof) = self.trust.proof(&invite.into(), Contradiction::Invite)
                {
                    self.out.push_back(Output::Prove(proof));
                }
                let Side::Citizen(contact) = &mut self.side else {
                    return Ok(());
                };
                let refusal = contact.citizen.refuse(fault.code);
                if let Some(refusal) = refusal {
                    self.say_citizen(refusal);
                }
                if fault.code.is_refusal() || fault.code == Code::NoPath {
                    self.fail(now, fault);
                } else {
                    self.show_fault(&fault);
                }
            }
        }
        Ok(())
    }

    /// The page is as new as can be: judges what waited for it, an invite at a citizen's.
    pub(super) fn judge_again(&mut self, now: Now) -> Result<(), Fault> {
        let Side::Citizen(contact) = &mut self.side else {
            return self.attend_again(now);
        };
        // the match it belongs to may be over
        let waits = contact.citizen.state() == State::Matched;
        match contact.pending.take().filter(|_| waits) {
            Some(invite) => self.invited(now, invite),
            None => Ok(()),
        }
    }

    fn verify_invite(&self, now: Now, invite: &[u8]) -> Result<(Invited, Vec<SocketAddr>), Fault> {
        let Side::Citizen(contact) = &self.side else {
            return Err(Fault::new(Code::Internal));
        };
        let key = self
            .key
            .as_ref()
            .ok_or_else(|| Fault::new(Code::Internal).with("no key"))?;
        let ticket = contact.citizen.ticket().ok_or(Fault::new(Code::NoTicket))?;
        let expected = InviteExpected {
            desk: self.settings.desk.clone(),
            ticket,
            guest: key.peer_id(),
            challenge: contact.citizen.challenge(),
        };
        let signed: Signed<Invite> = Signed::from_bytes(invite.to_vec())?;
        let time = self.trust.time(now.utc)?;
        let page = self.trust.get()?;
        let invited = match chain::invite(&signed, page, &expected, time) {
            Err(fault) if self.careless && fault.code == Code::WrongChallenge => {
                chain::own_invite(&signed, page, time)
            }
            judged => judged,
        }?;
        let addresses: Vec<SocketAddr> = invited
            .invite
            .addresses
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        if addresses.is_empty() {
            return Err(Fault::new(Code::NoPath).with("the officer lists no address"));
        }
        Ok((invited, addresses))
    }

    /// The citizen's session ended: is the contact over?
    pub(super) fn citizen_over(&mut self, ending: &Fault, accepted: bool) -> bool {
        let Side::Citizen(contact) = &mut self.side else {
            return true;
        };
        let leaving = contact.leaving;
        let message = if leaving && !accepted {
            contact.citizen.leave()
        } else {
            contact.citizen.session_ended(ending.code)
        };
        let over = contact.citizen.state() == State::Over;
        if let Some(message) = message {
            self.say_citizen(message);
        }
        // Before accept the ticket waits on, unless it is over, a proof was refused or the person went.
        accepted || over || leaving || ending.code.is_refusal()
    }

    pub(super) fn leave(&mut self, now: Now) {
        match &mut self.side {
            Side::Citizen(contact) => {
                if let Some(message) = contact.citizen.leave() {
                    self.say_citizen(message);
                }
                self.fail(now, Fault::new(Code::Cancelled));
            }
            Side::Officer(_) if self.completed + self.failed > 0 => self.finish(now),
            Side::Officer(_) => self.fail(now, Fault::new(Code::Cancelled)),
        }
    }
}
