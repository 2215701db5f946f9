//! The officer's side of a desk: attends, invites, accepts.

use std::net::SocketAddr;

use bytes::Bytes;
use suora_protocol::consultation::Phase;
use suora_protocol::consultation::host::Host;
use suora_protocol::desk::officer::{Action, Offer, Officer, State};
use suora_protocol::documents::{
    self, Challenge, ConsultationId, Credential, Dcid, DescriptorRef, DeskId, Invite, Nonce,
    Role as DocumentRole, SessionId, Signed, TicketId, chain,
};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Key;
use suora_protocol::limits;
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::officer::{FromRelay, Status, ToRelay};

use super::ports::{Expected, Output};
use super::sessions::{Machine, Session};
use super::{Engine, Role, Side};
use crate::report::Peer;
use crate::view::View;

/// A credential that the relay handed on, and that does not stand under our page.
#[derive(Debug)]
struct Pending {
    credential: Bytes,
    fault: Fault,
    /// It did not stand under the page that was asked for either.
    judged: bool,
}

/// An officer at a desk.
#[derive(Debug)]
pub struct Attendance {
    /// The offer's machine.
    pub officer: Officer,
    credential: Bytes,
    /// The last one that a newer page may make good.
    pending: Option<Box<Pending>>,
    /// An offer that waits for the page which is asked for.
    held: Option<Box<Offer>>,
    /// Where the guest of a ticket is reached, as its node told.
    pub(super) guest: Option<(TicketId, Vec<SocketAddr>)>,
    matched: Option<Timestamp>,
    stopping: bool,
}

impl Attendance {
    /// An officer of `desk` who is available at once.
    pub fn new(desk: DeskId, credential: Bytes) -> Self {
        Self {
            officer: Officer::new(desk, credential.clone(), Status::Available),
            credential,
            pending: None,
            held: None,
            guest: None,
            matched: None,
            stopping: false,
        }
    }

    /// Whether this ticket is offered or in consultation.
    pub(super) fn serves(&self, ticket: TicketId) -> bool {
        match self.officer.state() {
            State::Offered(offer) => offer.ticket == ticket,
            State::Engaged(engaged) => *engaged == ticket,
            State::Away | State::Free => false,
        }
    }
}

impl Engine {
    pub(super) fn officer_message(&mut self, now: Now, message: FromRelay) -> Result<(), Fault> {
        let Side::Officer(attendance) = &mut self.side else {
            return Ok(());
        };
        match attendance.officer.message(message) {
            Ok(Some(Action::Say(message))) => self.say_officer(message),
            Ok(Some(Action::Waiting(waiting))) => self
                .out
                .push_back(Output::View(View::Attending { waiting })),
            Ok(Some(Action::Renewed(credential))) => return self.renewed(now, credential),
            Ok(Some(Action::Grant(grant))) => self.granted(grant),
            Ok(Some(Action::Guest(ticket, addresses))) => self.guest_at(ticket, &addresses),
            Ok(Some(Action::Offer(offer))) => {
                attendance.matched = Some(now.utc - self.rtt / 2);
                return self.asked(now, offer, true);
            }
            // a guest that refuses our proof: there is nothing to wait for
            Ok(Some(Action::Withdrawn(code)))
                if self.session.is_none() && code.is_refusal() && !self.serves_on() =>
            {
                self.refused(now, Fault::new(code))
            }
            Ok(Some(Action::Withdrawn(code))) => self.close_session(Fault::new(code)),
            Ok(None) => {}
            Err(fault) if fault.code.is_refusal() => self.refused(now, fault),
            Err(fault) => self.fail(now, fault),
        }
        Ok(())
    }

    /// The relay hands a credential on. One whose key our page does not list may be good all the
    /// same: the page is asked for, and the last such credential waits for it.
    fn renewed(&mut self, now: Now, credential: Bytes) -> Result<(), Fault> {
        let fault = match self.renew(now, &credential) {
            Err(fault) if self.is_curable(now, &fault) => fault,
            judged => return judged,
        };
        let Side::Officer(attendance) = &mut self.side else {
            return Ok(());
        };
        let former = attendance.pending.replace(Box::new(Pending {
            credential,
            fault,
            judged: false,
        }));
        if let Some(former) = former.filter(|former| !former.judged) {
            self.show_fault(&former.fault);
        }
        self.may_cure(now);
        Ok(())
    }

    /// The relay is no authority: a credential is taken if it is ours, verifies for our desk, and is
    /// newer than the one we have.
    fn renew(&mut self, now: Now, credential: &Bytes) -> Result<(), Fault> {
        let descriptor = self.trust.get()?.clone();
        let time = self.trust.time(now.utc)?;
        let Some(peer) = self.key.as_ref().map(Key::peer_id) else {
            return Ok(());
        };
        let desk = &self.settings.desk;
        let verify = |bytes: &Bytes| {
            let signed: Signed<Credential> = Signed::from_bytes(bytes.clone())?;
            chain::officer(&signed, &descriptor, &peer, desk, time)
        };
        let renewed = verify(credential)?;
        let Side::Officer(attendance) = &mut self.side else {
            return Ok(());
        };
        // one that no longer verifies is as good as none
        let old = verify(&attendance.credential);
        if old.is_ok_and(|old| !renewed.supersedes(&old)) {
            return Ok(());
        }
        attendance.credential = credential.clone();
        attendance.pending = None;
        attendance.officer.renew(credential.clone());
        let until = renewed.not_after.as_secs();
        self.out.push_back(Output::Keep(credential.clone()));
        self.out.push_back(Output::View(View::Credential { until }));
        Ok(())
    }

    /// Whether what is wrong with a credential of ours may be the age of our page.
    fn is_curable(&self, now: Now, fault: &Fault) -> bool {
        fault.code == Code::BadSignature || self.trust.time(now.utc).is_err()
    }

    /// Asks for the page as soon as it may be asked for, while a credential waits for it.
    pub(super) fn cure(&mut self, now: Now) {
        if self.awaits_page() {
            self.may_cure(now);
        }
    }

    /// Whether a credential came that no page asked for since has judged.
    fn awaits_page(&self) -> bool {
        match &self.side {
            Side::Officer(attendance) => {
                let pending = attendance.pending.as_ref();
                pending.is_some_and(|pending| !pending.judged)
            }
            Side::Citizen(_) => false,
        }
    }

    /// The page is as new as can be: judges the credential and the offer that waited for it.
    pub(super) fn attend_again(&mut self, now: Now) -> Result<(), Fault> {
        let Side::Officer(attendance) = &mut self.side else {
            return Ok(());
        };
        let (pending, held) = (attendance.pending.take(), attendance.held.take());
        if let Some(pending) = pending
            && let Err(fault) = self.renew(now, &pending.credential)
        {
            if !pending.judged {
                self.show_fault(&fault);
            }
            // a page to come may list its key
            if self.is_curable(now, &fault)
                && let Side::Officer(attendance) = &mut self.side
            {
                attendance.pending = Some(Box::new(Pending {
                    judged: true,
                    ..*pending
                }));
            }
        }
        match held {
            Some(offer) if self.stands(&offer) => self.asked(now, *offer, false),
            _ => Ok(()),
        }
    }

    /// Whether an offer was neither answered nor withdrawn.
    fn stands(&self, offer: &Offer) -> bool {
        match &self.side {
            Side::Officer(attendance) => {
                matches!(attendance.officer.state(), State::Offered(asked) if asked == offer)
            }
            Side::Citizen(_) => false,
        }
    }

    /// An offer came. While a newer credential waits for a page, guests may know that page, and
    /// refuse the credential that we have. An offer is held once: its guest waits.
    fn asked(&mut self, now: Now, offer: Offer, first: bool) -> Result<(), Fault> {
        if first
            && self.awaits_page()
            && let Side::Officer(attendance) = &mut self.side
        {
            attendance.held = Some(Box::new(offer));
            return Ok(());
        }
        if let Err(fault) = self.offered(now, &offer, first) {
            self.decline(fault.code);
            return Err(fault);
        }
        Ok(())
    }

    /// Our own invite does not stand: its guest would refuse it, and lose its ticket by that. The
    /// offer waits for a page that may cure it, or goes to another officer.
    fn uninvited(&mut self, now: Now, offer: &Offer, first: bool, fault: &Fault) {
        if first
            && fault.code == Code::BadSignature
            && self.may_cure(now)
            && let Side::Officer(attendance) = &mut self.side
        {
            attendance.held = Some(Box::new(offer.clone()));
            return;
        }
        self.decline(fault.code);
        self.show(fault, true);
    }

    /// An offer came: sign an invite, expect its guest, ask the person.
    fn offered(&mut self, now: Now, offer: &Offer, first: bool) -> Result<(), Fault> {
        self.let_go(now);
        if self.session.is_some() || self.finished {
            return Err(Fault::new(Code::Busy));
        }
        let local = self
            .local
            .clone()
            .ok_or_else(|| Fault::new(Code::Internal).with("the endpoint does not stand yet"))?;
        let desk = self.desk()?;
        let (policy, require_pq) = (desk.address_policy, desk.require_pq);
        let addresses = self.listed(policy)?;
        let descriptor = self.trust.get()?.clone();
        let time = self.trust.time(now.utc)?;
        let key = self
            .key
            .clone()
            .ok_or_else(|| Fault::new(Code::Internal).with("no key"))?;
        let Side::Officer(attendance) = &self.side else {
            return Ok(());
        };
        let invite = Invite {
            agency: descriptor.agency,
            desk: self.settings.desk.clone(),
            ticket: offer.ticket,
            consultation: ConsultationId::from_bytes(self.draw.bytes()),
            session: SessionId::from_bytes(self.draw.bytes()),
            nonce: Nonce::from_bytes(self.draw.bytes()),
            guest: offer.guest,
            challenge: Challenge::from_bytes(*offer.challenge.as_bytes()),
            role: DocumentRole::Citizen,
            fingerprint: local.fingerprint,
            dcid: Dcid::from_bytes(self.draw.bytes()),
            versions: vec![chain::ALPN.into()],
            addresses,
            address_policy: policy,
            require_pq,
            descriptor: DescriptorRef {
                sequence: descriptor.sequence,
                hash: descriptor.hash(),
            },
            previous: None,
            credential: attendance.credential.to_vec(),
            issued_at: time,
            not_after: time + limits::INVITE_VALID,
        };
        let signed = documents::sign(&invite, &key)?;
        let ticket = (offer.ticket, offer.attempt);
        let say = ToRelay::Invite {
            ticket: ticket.0,
            attempt: ticket.1,
            invite: signed.bytes().to_vec(),
        };
        match chain::own_invite(&signed, &descriptor, time) {
            Ok(invited) => {
                let (id, hash, dcid) = (
                    invited.invite.session,
                    invited.invite.hash(),
                    invited.invite.dcid,
                );
                let peer = Peer {
                    peer_id: offer.guest.to_text(),
                    verified_as: None,
                };
                let matched = attendance.matched;
                let host = Host::new(invited, descriptor, key, now);
                self.session = Some(Session::new(id, Machine::Host(host), peer, matched));
                self.out.push_back(Output::Expect(Expected {
                    session: id,
                    dcid,
                    invite: hash,
                    require_pq,
                }));
                self.let_in();
                self.say_officer(say);
                self.show_connecting(id);
            }
            // its guest judges it, and says why
            Err(fault) if self.any_invite => {
                self.say_officer(say);
                self.show(&fault, true);
            }
            Err(fault) => {
                self.uninvited(now, offer, first, &fault);
                return Ok(());
            }
        }
        self.out.push_back(Output::View(View::Offer {
            waited: offer.waited_ms / 1_000,
        }));
        Ok(())
    }

    /// Both ends are proven: take the offer at once, if the person said so before.
    pub(super) fn proven(&mut self, now: Now) {
        if matches!(
            self.settings.role,
            Role::Officer {
                auto_accept: true,
                ..
            }
        ) && let Err(fault) = self.accept(now)
        {
            self.show_fault(&fault);
        }
    }

    pub(super) fn accept(&mut self, now: Now) -> Result<(), Fault> {
        let nobody = || Fault::new(Code::ProtocolViolation).with("there is no offer to accept");
        let Side::Officer(attendance) = &mut self.side else {
            return Err(nobody());
        };
        let session = self
            .session
            .as_mut()
            .filter(|session| session.phase() == Phase::Warm)
            .ok_or_else(nobody)?;
        let message = attendance.officer.accept().ok_or_else(nobody)?;
        session.accept(now)?;
        self.say_officer(message);
        Ok(())
    }

    pub(super) fn decline(&mut self, code: Code) {
        let Side::Officer(attendance) = &mut self.side else {
            return;
        };
        if let Some(message) = attendance.officer.decline(code) {
            self.say_officer(message);
            self.close_session(Fault::new(code));
        }
    }

    /// The session ended: tells the relay; says whether a contact is over.
    pub(super) fn contact_over(
        &mut self,
        session: &Session,
        ending: &Fault,
        accepted: bool,
    ) -> bool {
        let Side::Officer(attendance) = &mut self.side else {
            return self.citizen_over(ending, accepted);
        };
        let offered = matches!(attendance.officer.state(), State::Offered(_));
        let message = if offered {
            attendance.officer.decline(ending.code)
        } else {
            attendance.officer.done(ending.code)
        };
        if let Some(message) = message {
            self.say_officer(message);
        }
        // An offer that came to nothing is no consultation: the officer serves on, unless its own proof was refused.
        accepted
            || (ending.code.is_refusal() && !self.refuses_guest(session))
            || attendance_stops(&self.side)
    }

    /// A guest whose proof does not stand is no reason to stop serving others.
    pub(super) const fn refuses_guest(&self, session: &Session) -> bool {
        matches!(self.side, Side::Officer(_)) && session.facts.by_us
    }

    pub(super) const fn serves_on(&self) -> bool {
        match &self.side {
            Side::Officer(attendance) => {
                matches!(self.settings.role, Role::Officer { stay: true, .. })
                    && !attendance.stopping
            }
            Side::Citizen(_) => false,
        }
    }

    /// The person wants to go: after this consultation the officer's node ends.
    pub(super) const fn stop_serving(&mut self) {
        if let Side::Officer(attendance) = &mut self.side {
            attendance.stopping = true;
        }
    }
}

const fn attendance_stops(side: &Side) -> bool {
    matches!(side, Side::Officer(Attendance { stopping: true, .. }))
}
