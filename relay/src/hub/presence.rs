//! Officers at their desks: with which credential, in which status, engaged in what.
//! An officer attends one desk at a time, on one stream.

use std::time::Duration;

use bytes::Bytes;
use suora_protocol::documents::{DeskId, TicketId};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::PeerId;
use suora_protocol::limits;
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::citizen;
use suora_protocol::wire::officer::{FromRelay, Status, ToRelay};

use super::deadlines::Due;
use super::paths::Granted;
use super::ticket::{Pause, State};
use super::{Hub, LinkId};

/// After an offer that came to nothing for a reason of the officer's node, so that it cannot spin.
const REST: Duration = Duration::from_secs(1);

/// What an officer's node says of a guest that did not come, or not to the end of its proof.
const GUEST_DID_NOT_COME: [Code; 4] = [
    Code::Timeout,
    Code::HandshakeFailed,
    Code::NoPath,
    Code::PeerSilent,
];

/// What an officer is engaged in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engagement {
    /// Nothing.
    Free,
    /// Was asked to take a ticket.
    Offered(TicketId),
    /// In consultation.
    Engaged(TicketId),
    /// In something that the hub knows nothing of, or no longer: free again by the officer's own word.
    Elsewhere,
}

/// An officer who attends a desk.
#[derive(Debug)]
pub struct Officer {
    /// The desk.
    pub desk: DeskId,
    /// The officer's stream; none for a while after it fell in consultation.
    pub link: Option<LinkId>,
    /// As it came, to be verified again under a new descriptor.
    pub credential: Bytes,
    /// As the officer chose; busy after an offer without answer.
    pub status: Status,
    /// What the officer is engaged in.
    pub engagement: Engagement,
    /// Is not asked for a moment.
    pub rests: bool,
    /// Since when the officer could take an offer: the longest free is asked first.
    pub free_since: Timestamp,
    /// Under which time it stands among the free.
    pub listed: Option<Timestamp>,
    /// The latest offer: words about it that crossed its end are no offence.
    pub last: Option<(TicketId, u32)>,
    /// The number of waiting people that was last told.
    pub told: u32,
    /// What its node may use of the relay's TURN.
    pub granted: Option<Granted>,
}

/// Whether words about an offer still reach it.
enum Offer {
    /// It stands.
    Live,
    /// It has ended; the officer could not know when it spoke.
    Over,
}

impl Hub {
    pub(super) fn officer(
        &mut self,
        now: Now,
        link: LinkId,
        peer: PeerId,
        message: ToRelay,
    ) -> Result<(), Fault> {
        let attends = self
            .officers
            .get(&peer)
            .is_some_and(|officer| officer.link == Some(link));
        match message {
            ToRelay::Attend {
                desk,
                credential,
                status,
                engaged,
            } => return self.attend(now, link, peer, desk, credential.into(), status, engaged),
            ToRelay::Ping { n } => self.say(Some(link), &FromRelay::Pong { n }),
            ToRelay::Unknown => {}
            _ if !attends => return Err(Fault::new(Code::NoCredential).with("attend first")),
            ToRelay::Status { status } => self.status(now, peer, status),
            ToRelay::Invite {
                ticket,
                attempt,
                invite,
            } => return self.invite(peer, ticket, attempt, invite),
            ToRelay::Accepted { ticket, attempt } => match self.offered(peer, ticket, attempt)? {
                Offer::Live => self.engage(ticket, peer),
                // It believes that it is in consultation: free when it says that this ended.
                Offer::Over if !self.engaged.contains_key(&peer) => {
                    self.set_engagement(peer, Engagement::Elsewhere);
                }
                Offer::Over => {}
            },
            ToRelay::Declined {
                ticket,
                attempt,
                code,
            } => return self.declined(now, peer, (ticket, attempt), code),
            ToRelay::Done { ticket, code } => return self.done(now, peer, ticket, code),
        }
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of one message, and who sent it"
    )]
    fn attend(
        &mut self,
        now: Now,
        link: LinkId,
        peer: PeerId,
        desk: DeskId,
        credential: Bytes,
        status: Status,
        engaged: Option<TicketId>,
    ) -> Result<(), Fault> {
        if self.descriptor.desk(&desk).is_none() {
            return Err(Fault::new(Code::UnknownDesk).with(desk.as_str()));
        }
        let shown = credential.clone();
        let (credential, until) = self.entitle(now, &peer, &desk, credential)?;
        let line = self.lines.entry(desk.clone()).or_default();
        if line.officers.len() >= limits::OFFICERS_MAX && !line.officers.contains(&peer) {
            return Err(Fault::new(Code::Busy).with("too many officers at this desk"));
        }
        let waiting = line.waiting();
        // The same stream may attend again, to renew its credential: an offer of the same desk stands.
        let old = self.officers.get(&peer);
        let stays = old.is_some_and(|old| old.link == Some(link) && old.desk == desk);
        if let Some(Engagement::Offered(ticket)) = old.map(|old| old.engagement)
            && (!stays || engaged.is_some())
        {
            self.wait_again(now, ticket, Code::OfficerGone);
        }
        // A consultation that the officer's node no longer knows is over. Its citizen may not have noticed yet.
        if let Some(ticket) = self.engaged.get(&peer).copied()
            && engaged != Some(ticket)
        {
            self.wait_again(now, ticket, Code::OfficerGone);
            self.pause(ticket, Pause::Until(now.utc + limits::SILENCE));
        }
        let old = self.officers.get(&peer).filter(|_| stays);
        let engagement = match (engaged, old.map(|old| old.engagement)) {
            (Some(ticket), _) if self.engaged.get(&peer) == Some(&ticket) => {
                Engagement::Engaged(ticket)
            }
            (Some(_), _) => Engagement::Elsewhere,
            (None, Some(Engagement::Offered(ticket))) => Engagement::Offered(ticket),
            (None, _) => Engagement::Free,
        };
        let last = old.and_then(|old| old.last);
        let granted = old.and_then(|old| old.granted);
        let free_since = old.map_or(now.utc, |old| old.free_since);
        self.forget_officer(peer);
        let officer = Officer {
            desk: desk.clone(),
            link: Some(link),
            credential: credential.clone(),
            status,
            engagement,
            rests: false,
            free_since,
            listed: None,
            last,
            told: waiting,
            granted,
        };
        self.officers.insert(peer, officer);
        self.lines
            .entry(desk.clone())
            .or_default()
            .officers
            .insert(peer);
        if let Some(until) = until {
            self.deadlines.set(Due::Credential(peer), until);
        }
        self.settle_officer(peer);
        if credential != shown {
            let credential = credential.into();
            self.say(Some(link), &FromRelay::Credential { credential });
        }
        self.say(Some(link), &FromRelay::Attending { desk, waiting });
        Ok(())
    }

    fn status(&mut self, now: Now, peer: PeerId, status: Status) {
        if let Some(officer) = self.officers.get_mut(&peer) {
            if officer.status != status {
                officer.status = status;
                officer.free_since = now.utc;
            }
            self.settle_officer(peer);
        }
    }

    fn offered(&self, peer: PeerId, id: TicketId, attempt: u32) -> Result<Offer, Fault> {
        let officer = self.officers.get(&peer);
        let last = officer.is_some_and(|officer| officer.last == Some((id, attempt)));
        let live = officer.is_some_and(|officer| officer.engagement == Engagement::Offered(id));
        match (last, live) {
            (true, true) => Ok(Offer::Live),
            (true, false) => Ok(Offer::Over),
            _ => Err(Fault::new(Code::NoTicket).with("no such offer")),
        }
    }

    /// Passes the officer's invite on, as it came; one an offer.
    fn invite(
        &mut self,
        peer: PeerId,
        id: TicketId,
        attempt: u32,
        invite: Vec<u8>,
    ) -> Result<(), Fault> {
        if let Offer::Over = self.offered(peer, id, attempt)? {
            return Ok(());
        }
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return Ok(());
        };
        if let State::Offered { invited, .. } = &mut ticket.state
            && std::mem::replace(invited, true)
        {
            return Err(Fault::new(Code::ProtocolViolation).with("one invite an offer"));
        }
        let (link, ticket) = (ticket.link, id);
        let invite = citizen::FromRelay::Invite {
            ticket,
            attempt,
            invite,
        };
        self.say(link, &invite);
        Ok(())
    }

    /// A person's no counts for this ticket as long as it waits, and so does a proof that was refused;
    /// a node's trouble only for a moment, and before its invite a proof is its own.
    fn declined(
        &mut self,
        now: Now,
        peer: PeerId,
        (id, attempt): (TicketId, u32),
        code: Code,
    ) -> Result<(), Fault> {
        let offer = self.offered(peer, id, attempt)?;
        let state = self.tickets.get(&id).map(|ticket| &ticket.state);
        let invited = !matches!(state, Some(State::Offered { invited: false, .. }));
        let by_person =
            matches!(code, Code::Declined | Code::Cancelled) || (code.is_refusal() && invited);
        if by_person && let Some(ticket) = self.tickets.get_mut(&id) {
            ticket.declined.insert(peer);
        }
        match offer {
            Offer::Live => {
                self.wait_again(now, id, code);
                if GUEST_DID_NOT_COME.contains(&code) {
                    self.in_vain(now, id);
                }
                if !by_person && let Some(officer) = self.officers.get_mut(&peer) {
                    officer.rests = true;
                    self.deadlines.set(Due::OfficerRest(peer), now.utc + REST);
                    self.settle_officer(peer);
                }
            }
            // The citizen's end of the session spoke first, and the ticket rests for it: the reason is known now.
            Offer::Over if by_person => {
                let waits = self.tickets.get(&id).filter(|ticket| {
                    ticket.row.attempt == attempt && matches!(ticket.pause, Pause::Until(_))
                });
                if waits.is_some() {
                    self.not_in_vain(id);
                }
            }
            Offer::Over => {}
        }
        Ok(())
    }

    /// The officer's consultation is over. Its citizen may have said so already.
    fn done(&mut self, now: Now, peer: PeerId, id: TicketId, code: Code) -> Result<(), Fault> {
        let Some(officer) = self.officers.get_mut(&peer) else {
            return Ok(());
        };
        match officer.engagement {
            Engagement::Engaged(ticket) if ticket == id => {
                officer.free_since = now.utc;
                let link = self.tickets.get(&id).and_then(|ticket| ticket.link);
                self.remove(id);
                self.set_engagement(peer, Engagement::Free);
                let ticket = id;
                self.say(link, &citizen::FromRelay::Ended { ticket, code });
                Ok(())
            }
            Engagement::Elsewhere => {
                officer.free_since = now.utc;
                self.set_engagement(peer, Engagement::Free);
                Ok(())
            }
            Engagement::Offered(ticket) if ticket == id => {
                Err(Fault::new(Code::ProtocolViolation).with("accept first"))
            }
            _ if self.tickets.contains_key(&id)
                && officer.last.is_none_or(|(last, _)| last != id) =>
            {
                Err(Fault::new(Code::NoTicket))
            }
            _ => Ok(()),
        }
    }

    fn set_engagement(&mut self, peer: PeerId, engagement: Engagement) {
        if let Some(officer) = self.officers.get_mut(&peer) {
            officer.engagement = engagement;
            self.settle_officer(peer);
        }
    }

    /// An officer's stream ended: an offer goes on to the next, a consultation does not need us.
    pub(super) fn officer_gone(&mut self, now: Now, peer: PeerId) {
        let Some(officer) = self.officers.get_mut(&peer) else {
            return;
        };
        officer.link = None;
        match officer.engagement {
            Engagement::Engaged(_) => {
                let until = now.utc + limits::GRACE;
                self.deadlines.set(Due::OfficerGrace(peer), until);
                self.settle_officer(peer);
            }
            Engagement::Offered(ticket) => self.wait_again(now, ticket, Code::OfficerGone),
            Engagement::Free | Engagement::Elsewhere => self.forget_officer(peer),
        }
    }

    /// The officer may no longer attend: is told why, and loses the stream.
    pub(super) fn dismiss(&mut self, now: Now, peer: PeerId, fault: &Fault) {
        let Some(officer) = self.officers.get(&peer) else {
            return;
        };
        match officer.link {
            Some(link) => {
                self.refuse(link, true, fault);
                self.close(now, link);
            }
            None => self.officer_lost(now, peer),
        }
    }

    /// Holds all officers and desks against a new descriptor.
    pub(super) fn adopt(&mut self, now: Now) {
        let peers: Vec<PeerId> = self.officers.keys().copied().collect();
        for peer in peers {
            let Some(officer) = self.officers.get(&peer) else {
                continue;
            };
            if self.descriptor.desk(&officer.desk).is_some() {
                self.hand_on(now, peer);
            } else {
                let fault = Fault::new(Code::UnknownDesk).with(officer.desk.as_str());
                self.dismiss(now, peer, &fault);
            }
        }
        // Nobody waits at a desk that is no more; who talks goes on.
        let closed = |desk: &DeskId| self.descriptor.desk(desk).is_none();
        let closed: Vec<TicketId> = self
            .lines
            .iter()
            .filter(|(desk, _)| closed(desk))
            .flat_map(|(_, line)| line.queue.iter().map(|(_, id)| id))
            .collect();
        for id in closed {
            let link = self.tickets.get(&id).and_then(|ticket| ticket.link);
            self.remove(id);
            let (ticket, code) = (id, Code::UnknownDesk);
            self.say(link, &citizen::FromRelay::Ended { ticket, code });
        }
    }

    /// Forgets an officer; a consultation's ticket stays.
    pub(super) fn forget_officer(&mut self, peer: PeerId) {
        let Some(officer) = self.officers.remove(&peer) else {
            return;
        };
        if let Some(line) = self.lines.get_mut(&officer.desk) {
            line.officers.remove(&peer);
            if let Some(since) = officer.listed {
                line.free.remove(&(since, peer));
            }
        }
        for due in [
            Due::Credential(peer),
            Due::OfficerRest(peer),
            Due::OfficerGrace(peer),
            Due::Grant(peer),
        ] {
            self.deadlines.clear(due);
        }
    }

    /// Lists an officer among the free, or no longer.
    pub(super) fn settle_officer(&mut self, peer: PeerId) {
        let Some(officer) = self.officers.get_mut(&peer) else {
            return;
        };
        self.ungranted.insert(peer);
        let free = officer.link.is_some()
            && officer.status == Status::Available
            && officer.engagement == Engagement::Free
            && !officer.rests;
        let listed = free.then_some(officer.free_since);
        if officer.listed == listed {
            return;
        }
        let line = self.lines.entry(officer.desk.clone()).or_default();
        if let Some(since) = std::mem::replace(&mut officer.listed, listed) {
            line.free.remove(&(since, peer));
        }
        if let Some(since) = listed {
            line.free.insert((since, peer));
            self.unmatched.insert(officer.desk.clone());
        }
    }
}
