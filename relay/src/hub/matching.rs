//! Ticket ↔ officer: the first who waits and can be offered, and the officer who is
//! longest free. A match ends by the officer's answer, by time, or with either stream.

use suora_protocol::documents::{DeskId, TicketId};
use suora_protocol::fault::Code;
use suora_protocol::identity::PeerId;
use suora_protocol::limits;
use suora_protocol::time::Now;
use suora_protocol::wire::officer::Status;
use suora_protocol::wire::{citizen, officer};

use super::Hub;
use super::change::Change;
use super::deadlines::Due;
use super::presence::Engagement;
use super::ticket::{Pause, State};

/// How far matching looks past people whom every free officer declined. An officer who
/// declined all of the first so many is asked no more until one of them is gone.
const LOOK: usize = 256;

impl Hub {
    /// Matches at each desk where somebody became ready or free, as long as there is a pair.
    pub(super) fn match_all(&mut self, now: Now) {
        for desk in std::mem::take(&mut self.unmatched) {
            while let Some((ticket, officer)) = self.next_match(&desk) {
                self.offer(now, ticket, officer);
            }
        }
    }

    fn next_match(&self, desk: &DeskId) -> Option<(TicketId, PeerId)> {
        let line = self.lines.get(desk)?;
        line.free.first()?;
        line.ready.iter().take(LOOK).find_map(|(_, id)| {
            let declined = &self.tickets.get(id)?.declined;
            let mut free = line.free.iter().map(|(_, peer)| peer);
            let officer = free.find(|peer| !declined.contains(peer))?;
            Some((*id, *officer))
        })
    }

    fn offer(&mut self, now: Now, id: TicketId, peer: PeerId) {
        let (Some(ticket), Some(officer)) =
            (self.tickets.get_mut(&id), self.officers.get_mut(&peer))
        else {
            return;
        };
        ticket.row.attempt = ticket.row.attempt.saturating_add(1);
        ticket.state = State::Offered {
            officer: peer,
            invited: false,
        };
        ticket.said = None;
        officer.engagement = Engagement::Offered(id);
        officer.last = Some((id, ticket.row.attempt));
        let (row, guest_link, officer_link) = (ticket.row.clone(), ticket.link, officer.link);
        self.counts.offers += 1;
        self.settle_ticket(id);
        self.settle_officer(peer);
        self.deadlines.set(Due::Offer(id), now.utc + limits::OFFER);
        self.changes.push(Change::Put(row.clone()));
        let (ticket, attempt) = (id, row.attempt);
        let offer = officer::FromRelay::Offer {
            ticket,
            attempt,
            desk: row.desk,
            guest: row.guest,
            challenge: row.challenge,
            waited_ms: millis(now.utc.since(row.joined)),
            expires_in_ms: millis(limits::OFFER),
        };
        self.say(officer_link, &offer);
        self.say(guest_link, &citizen::FromRelay::Matched { ticket, attempt });
        self.introduce(id);
        self.grant_guest(now, id, peer);
    }

    /// The officer took the offer.
    pub(super) fn engage(&mut self, id: TicketId, peer: PeerId) {
        if let (Some(ticket), Some(officer)) =
            (self.tickets.get_mut(&id), self.officers.get_mut(&peer))
        {
            officer.engagement = Engagement::Engaged(id);
            ticket.state = State::Engaged { officer: peer };
            ticket.row.officer = Some(peer);
            ticket.vain = 0;
            self.engaged.insert(peer, id);
            self.deadlines.clear(Due::Offer(id));
            self.changes.push(Change::Put(ticket.row.clone()));
        }
    }

    /// Takes a ticket from its officer, who is told why. The ticket's own next state is the caller's.
    pub(super) fn withdraw(&mut self, now: Now, id: TicketId, code: Code) {
        let Some(ticket) = self.tickets.get(&id) else {
            return;
        };
        let (peer, engagement) = match ticket.state {
            State::Waiting => return,
            State::Offered { officer, .. } => (officer, Engagement::Free),
            // From a consultation the officer comes back by its own word.
            State::Engaged { officer } => (officer, Engagement::Elsewhere),
        };
        let attempt = ticket.row.attempt;
        self.deadlines.clear(Due::Offer(id));
        if engagement == Engagement::Elsewhere {
            self.engaged.remove(&peer);
        }
        let Some(officer) = self.officers.get_mut(&peer) else {
            return;
        };
        officer.engagement = engagement;
        officer.free_since = now.utc;
        if code == Code::OfferExpired {
            // who did not answer is not asked again before saying so
            officer.status = Status::Busy;
        }
        let (link, ticket) = (officer.link, id);
        if link.is_none() {
            self.forget_officer(peer);
        }
        self.settle_officer(peer);
        let withdrawn = officer::FromRelay::Withdrawn {
            ticket,
            attempt,
            code,
        };
        self.say(link, &withdrawn);
    }

    /// The match ended: the ticket waits again at its old place.
    pub(super) fn wait_again(&mut self, now: Now, id: TicketId, code: Code) {
        self.withdraw(now, id, code);
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return;
        };
        ticket.state = State::Waiting;
        ticket.pause = Pause::None;
        if ticket.row.officer.take().is_some() {
            self.changes.push(Change::Put(ticket.row.clone()));
        }
        let (link, gone) = (ticket.link, ticket.gone);
        if let Some(gone) = gone {
            // it may have outlived its grace in consultation
            let grace = self.grace(id);
            self.deadlines.set(Due::Grace(id), gone + grace);
        }
        self.settle_ticket(id);
        let position = self.position(id);
        if let Some(ticket) = self.tickets.get_mut(&id) {
            ticket.said = link.map(|_| position);
        }
        let ticket = id;
        let waiting = citizen::FromRelay::Waiting {
            ticket,
            position,
            code,
        };
        self.say(link, &waiting);
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
