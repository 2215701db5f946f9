//! Ticket ↔ officer: the first who waits and has a stream, the officer who is longest
//! free. Offers end by answer, by time or with either stream; every deadline is here.

use suora_protocol::documents::{DeskId, TicketId};
use suora_protocol::fault::Code;
use suora_protocol::identity::PeerId;
use suora_protocol::limits;
use suora_protocol::time::Now;
use suora_protocol::wire::{citizen, officer};

use super::change::Change;
use super::presence::Engagement;
use super::ticket::State;
use super::{Hub, Output};

impl Hub {
    /// Matches as long as somebody waits and somebody is free.
    pub(super) fn match_all(&mut self, now: Now) {
        let desks: Vec<DeskId> = self.queues.keys().cloned().collect();
        for desk in desks {
            while let Some((ticket, officer)) = self.next_match(now, &desk) {
                self.offer(now, ticket, officer);
            }
        }
    }

    fn next_match(&self, now: Now, desk: &DeskId) -> Option<(TicketId, PeerId)> {
        let free = |officer: &super::Officer| {
            officer.desk == *desk
                && officer.link.is_some()
                && officer.status == officer::Status::Available
                && officer.engagement == Engagement::Free
                && officer.until + limits::CLOCK_TOLERANCE >= now.utc
        };
        let mut officers: Vec<_> = self
            .officers
            .iter()
            .filter(|(_, officer)| free(officer))
            .collect();
        if officers.is_empty() {
            return None;
        }
        officers.sort_by_key(|(peer, officer)| (officer.free_since, **peer));
        self.queues.get(desk)?.iter().find_map(|(_, id)| {
            let ticket = self.tickets.get(id)?;
            ticket.link?;
            let (peer, _) = officers
                .iter()
                .find(|(peer, _)| !ticket.declined.contains(peer))?;
            Some((*id, **peer))
        })
    }

    fn offer(&mut self, now: Now, id: TicketId, peer: PeerId) {
        let until = now.utc + limits::OFFER;
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return;
        };
        let Some(officer) = self.officers.get_mut(&peer) else {
            return;
        };
        officer.engagement = Engagement::Offered(id);
        ticket.state = State::Offered {
            officer: peer,
            until,
        };
        ticket.row.attempt += 1;
        ticket.said = None;
        if let Some(queue) = self.queues.get_mut(&ticket.row.desk) {
            queue.remove(&(ticket.row.order, id));
        }
        self.moved.insert(ticket.row.desk.clone());
        self.counts.offers += 1;
        let (guest_link, officer_link, row) = (ticket.link, officer.link, ticket.row.clone());
        self.changes.push(Change::Put(row.clone()));
        let expires_in_ms = u64::try_from(limits::OFFER.as_millis()).unwrap_or(0);
        let waited_ms = u64::try_from(now.utc.since(row.joined).as_millis()).unwrap_or(0);
        let attempt = row.attempt;
        let offer = officer::FromRelay::Offer {
            ticket: id,
            attempt,
            desk: row.desk,
            guest: row.guest,
            challenge: row.challenge,
            waited_ms,
            expires_in_ms,
        };
        self.say(officer_link, &offer);
        self.say(
            guest_link,
            &citizen::FromRelay::Matched {
                ticket: id,
                attempt,
            },
        );
    }

    /// The officer took the offer.
    pub(super) fn engage(&mut self, id: TicketId, peer: PeerId) {
        if let Some(officer) = self.officers.get_mut(&peer) {
            officer.engagement = Engagement::Engaged(id);
        }
        if let Some(ticket) = self.tickets.get_mut(&id) {
            ticket.state = State::Engaged { officer: peer };
            ticket.row.officer = Some(peer);
            self.changes.push(Change::Put(ticket.row.clone()));
        }
    }

    /// Tells the officer of a ticket that the offer or the consultation is over.
    pub(super) fn withdraw(&mut self, id: TicketId, code: Code) {
        let Some(ticket) = self.tickets.get(&id) else {
            return;
        };
        let (peer, was_offered) = match ticket.state {
            State::Waiting => return,
            State::Offered { officer, .. } => (officer, true),
            State::Engaged { officer } => (officer, false),
        };
        let attempt = ticket.row.attempt;
        let Some(officer) = self.officers.get_mut(&peer) else {
            return;
        };
        // From a consultation the officer returns by its own word.
        if was_offered {
            officer.engagement = Engagement::Free;
        }
        if code == Code::OfferExpired {
            // who did not answer is not asked again until back
            officer.status = officer::Status::Busy;
        }
        let link = officer.link;
        self.say(
            link,
            &officer::FromRelay::Withdrawn {
                ticket: id,
                attempt,
                code,
            },
        );
    }

    /// The match ended: the ticket waits again at its old place.
    pub(super) fn wait_again(&mut self, _now: Now, id: TicketId, code: Code) {
        self.withdraw(id, code);
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return;
        };
        ticket.state = State::Waiting;
        ticket.row.officer = None;
        let (link, row) = (ticket.link, ticket.row.clone());
        self.queues
            .entry(row.desk.clone())
            .or_default()
            .insert((row.order, id));
        self.moved.insert(row.desk.clone());
        let position = self.position(&row.desk, id);
        if let Some(ticket) = self.tickets.get_mut(&id) {
            ticket.said = Some(position);
        }
        self.changes.push(Change::Put(row));
        self.say(
            link,
            &citizen::FromRelay::Waiting {
                ticket: id,
                position,
                code,
            },
        );
    }

    /// All deadlines: offers, graces, silent streams.
    pub(super) fn expire(&mut self, now: Now) {
        let late: Vec<TicketId> = self
            .tickets
            .iter()
            .filter(|(_, t)| matches!(t.state, State::Offered { until, .. } if until <= now.utc))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.counts.offers_expired += 1;
            self.wait_again(now, id, Code::OfferExpired);
        }
        let over: Vec<TicketId> = self
            .tickets
            .iter()
            .filter(|(_, ticket)| {
                let grace = self.descriptor.desk(&ticket.row.desk).map_or(limits::GRACE, suora_protocol::documents::Desk::grace);
                let away = ticket.gone.is_some_and(|gone| now.utc.since(gone) >= grace);
                let served = matches!(ticket.state, State::Engaged { officer } if self.officers.contains_key(&officer));
                away && !served
            })
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.remove(id);
        }
        let gone: Vec<PeerId> = self
            .officers
            .iter()
            .filter(|(_, o)| {
                o.gone
                    .is_some_and(|gone| now.utc.since(gone) >= limits::GRACE)
            })
            .map(|(peer, _)| *peer)
            .collect();
        for peer in gone {
            self.officers.remove(&peer);
        }
        let silent: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| {
                now.mono.saturating_duration_since(link.heard) >= limits::LINK_SILENCE
            })
            .map(|(id, _)| *id)
            .collect();
        for id in silent {
            self.down(now, id);
            self.hold(Output::Close(id));
        }
    }
}
