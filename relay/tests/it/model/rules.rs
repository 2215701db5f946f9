//! The rules of a desk, written to be read: it looks at everybody each time and knows
//! no store and no queue structure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use suora_protocol::documents::{DeskId, TicketId};
use suora_protocol::fault::Code;
use suora_protocol::identity::PeerId;
use suora_protocol::limits;
use suora_protocol::time::Timestamp;
use suora_protocol::wire::citizen;
use suora_protocol::wire::officer::{self, Status};
use suora_relay::hub::LinkId;
use suora_relay::hub::change::{Change, Snapshot};

/// Whose ticket it is: a key has one a desk.
pub(super) type Whose = (PeerId, DeskId);

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum State {
    Waiting,
    Offered(PeerId, Timestamp),
    Engaged(PeerId),
}

#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) whose: Whose,
    pub(super) state: State,
    pub(super) attempt: u32,
    pub(super) link: Option<LinkId>,
    /// Since when there is no link, and when that is long enough.
    pub(super) gone: Option<(Timestamp, Option<Timestamp>)>,
    pub(super) rest: Option<Timestamp>,
    /// Matches in a row that came to nothing on the owner's side.
    pub(super) vain: u32,
    pub(super) declined: Vec<PeerId>,
}

#[derive(Clone, Debug)]
pub(super) struct Officer {
    pub(super) desk: DeskId,
    pub(super) link: Option<LinkId>,
    pub(super) lost: Option<Timestamp>,
    pub(super) available: bool,
    pub(super) elsewhere: bool,
    pub(super) rest: Option<Timestamp>,
    pub(super) free_since: Timestamp,
    pub(super) last: Option<(Whose, u32)>,
}

/// What matters of a message.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Word {
    Queued(Whose),
    Matched(Whose, u32),
    Waiting(Whose, Code),
    Ended(Option<Whose>, Code),
    Attending,
    Offer(Whose, u32),
    Withdrawn(Whose, u32, Code),
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) now: Timestamp,
    pub(super) links: BTreeMap<LinkId, (PeerId, bool)>,
    /// In the order of joining.
    pub(super) tickets: Vec<Ticket>,
    pub(super) officers: BTreeMap<PeerId, Officer>,
    /// Whose each number is or was, and the newest number of each.
    pub(super) ids: BTreeMap<TicketId, Whose>,
    pub(super) newest: BTreeMap<Whose, TicketId>,
    /// What has to be heard next, and how many commits must stand before.
    pub(super) expected: VecDeque<(LinkId, Word, Option<usize>)>,
    pub(super) decided: usize,
    pub(super) stands: usize,
    pub(super) pending: VecDeque<Vec<Change>>,
    pub(super) store: Snapshot,
    pub(super) told: BTreeMap<Whose, u32>,
}

impl Model {
    pub(super) fn say(&mut self, link: Option<LinkId>, word: Word) {
        if let Some(link) = link {
            self.expected.push_back((link, word, None));
        }
    }

    pub(super) fn at(&self, whose: &Whose) -> Option<usize> {
        self.tickets
            .iter()
            .position(|ticket| ticket.whose == *whose)
    }

    /// The ticket of a number, if its owner is this key.
    pub(super) fn own(&self, id: TicketId, guest: PeerId) -> Option<usize> {
        let whose = self.live(id).filter(|whose| whose.0 == guest)?;
        self.at(&whose)
    }

    /// Whose ticket a number is, unless there is a newer one.
    pub(super) fn live(&self, id: TicketId) -> Option<Whose> {
        self.whose(id)
            .filter(|whose| self.newest.get(whose) == Some(&id))
    }

    pub(super) fn citizen(&mut self, link: LinkId, guest: PeerId, message: &citizen::ToRelay) {
        match message {
            citizen::ToRelay::Join { desk, .. } => {
                let whose = (guest, desk.clone());
                if let Some(at) = self.at(&whose) {
                    let offered = matches!(self.tickets[at].state, State::Offered(..));
                    if self.tickets[at].state != State::Waiting {
                        self.tickets[at].link = None;
                        self.wait_again(at, Code::CitizenGone);
                    }
                    let ended = offered && self.in_vain(at);
                    if !ended && self.tickets[at].vain < 3 {
                        self.tickets[at].rest = None;
                    }
                }
                if self.at(&whose).is_none() {
                    self.tickets.push(Ticket {
                        whose: whose.clone(),
                        state: State::Waiting,
                        attempt: 0,
                        link: None,
                        gone: None,
                        rest: None,
                        vain: 0,
                        declined: Vec::new(),
                    });
                }
                let at = self.at(&whose).unwrap();
                self.attach(at, link);
                self.say(Some(link), Word::Queued(whose));
            }
            citizen::ToRelay::Leave { ticket } => self.leave(link, guest, *ticket, Code::Left),
            citizen::ToRelay::Done { ticket, code } => self.leave(link, guest, *ticket, *code),
            citizen::ToRelay::Refused {
                ticket,
                attempt,
                code,
            } => {
                let Some(at) = self.own(*ticket, guest) else {
                    self.say(Some(link), Word::Ended(self.whose(*ticket), Code::NoTicket));
                    return;
                };
                if *attempt > self.tickets[at].attempt {
                    return;
                }
                self.attach(at, link);
                let ticket = &self.tickets[at];
                if ticket.attempt == *attempt && ticket.state != State::Waiting {
                    self.wait_again(at, *code);
                    self.tickets[at].rest = Some(self.now + Duration::from_secs(5));
                    self.in_vain(at);
                }
            }
            _ => {}
        }
    }

    pub(super) fn attach(&mut self, at: usize, link: LinkId) {
        self.tickets[at].link = Some(link);
        self.tickets[at].gone = None;
    }

    pub(super) fn leave(&mut self, link: LinkId, guest: PeerId, id: TicketId, code: Code) {
        if let Some(at) = self.own(id, guest) {
            self.withdraw(at, code);
            let ticket = self.tickets.remove(at);
            self.say(Some(link), Word::Ended(Some(ticket.whose), code));
        }
    }

    pub(super) fn officer(&mut self, link: LinkId, peer: PeerId, message: &officer::ToRelay) {
        if let officer::ToRelay::Attend { desk, engaged, .. } = message {
            return self.attend(
                link,
                peer,
                desk,
                engaged.and_then(|id| self.live(id)),
                engaged.is_some(),
            );
        }
        let now = self.now;
        let with = self.with(peer);
        let live = match message {
            officer::ToRelay::Accepted { ticket, .. }
            | officer::ToRelay::Declined { ticket, .. } => self.live(*ticket),
            _ => None,
        };
        let Some(officer) = self
            .officers
            .get_mut(&peer)
            .filter(|o| o.link == Some(link))
        else {
            return;
        };
        match message {
            officer::ToRelay::Status { status } => {
                let available = *status == Status::Available;
                if officer.available != available {
                    (officer.available, officer.free_since) = (available, now);
                }
            }
            officer::ToRelay::Accepted { attempt, .. } => {
                if officer.last.is_none() || officer.last != live.map(|whose| (whose, *attempt)) {
                    return;
                }
                match with.map(|at| (at, self.tickets[at].state)) {
                    Some((at, State::Offered(..))) => {
                        self.tickets[at].state = State::Engaged(peer);
                        self.tickets[at].vain = 0;
                    }
                    None => officer.elsewhere = true,
                    _ => {}
                }
            }
            officer::ToRelay::Declined {
                ticket,
                attempt,
                code,
            } => {
                if officer.last.is_none() || officer.last != live.map(|whose| (whose, *attempt)) {
                    return;
                }
                let offered =
                    with.filter(|at| matches!(self.tickets[*at].state, State::Offered(..)));
                if let Some(at) = self.whose(*ticket).and_then(|whose| self.at(&whose))
                    && *code == Code::Declined
                {
                    self.tickets[at].declined.push(peer);
                    let ticket = &mut self.tickets[at];
                    if offered.is_none() && ticket.attempt == *attempt && ticket.rest.is_some() {
                        ticket.vain = ticket.vain.saturating_sub(1);
                        if ticket.vain < 3 {
                            ticket.rest = None;
                        }
                    }
                }
                if let Some(at) = offered {
                    self.wait_again(at, *code);
                    if *code != Code::Declined {
                        let rest = self.now + Duration::from_secs(1);
                        self.officers.get_mut(&peer).unwrap().rest = Some(rest);
                    }
                }
            }
            officer::ToRelay::Done { ticket, code } => match with {
                None if officer.elsewhere => {
                    (officer.elsewhere, officer.free_since) = (false, now);
                }
                Some(at)
                    if self.tickets[at].state == State::Engaged(peer)
                        && self.newest.get(&self.tickets[at].whose) == Some(ticket) =>
                {
                    officer.free_since = now;
                    let ended = self.tickets.remove(at);
                    self.say(ended.link, Word::Ended(Some(ended.whose), *code));
                }
                _ => {}
            },
            _ => {}
        }
    }

    pub(super) fn attend(
        &mut self,
        link: LinkId,
        peer: PeerId,
        desk: &DeskId,
        claims: Option<Whose>,
        busy: bool,
    ) {
        let old = self.officers.get(&peer).cloned();
        let stays = old.filter(|old| old.link == Some(link) && old.desk == *desk);
        if let Some(at) = self.with(peer) {
            let offered = matches!(self.tickets[at].state, State::Offered(..));
            if offered && (stays.is_none() || busy) {
                self.wait_again(at, Code::OfficerGone);
            } else if !offered && claims.as_ref() != Some(&self.tickets[at].whose) {
                self.wait_again(at, Code::OfficerGone);
                self.tickets[at].rest = Some(self.now + limits::SILENCE);
            }
        }
        let stays = stays.and_then(|_| self.officers.get(&peer).cloned());
        let officer = Officer {
            desk: desk.clone(),
            link: Some(link),
            lost: None,
            available: true,
            elsewhere: busy && self.with(peer).is_none(),
            rest: None,
            free_since: stays.as_ref().map_or(self.now, |old| old.free_since),
            last: stays.and_then(|old| old.last),
        };
        self.officers.insert(peer, officer);
        self.say(Some(link), Word::Attending);
    }

    /// The ticket that an officer was asked about or talks with.
    pub(super) fn with(&self, peer: PeerId) -> Option<usize> {
        self.tickets.iter().position(|ticket| match ticket.state {
            State::Offered(officer, _) | State::Engaged(officer) => officer == peer,
            State::Waiting => false,
        })
    }

    pub(super) fn withdraw(&mut self, at: usize, code: Code) {
        let ticket = &self.tickets[at];
        let (peer, engaged) = match ticket.state {
            State::Waiting => return,
            State::Offered(peer, _) => (peer, false),
            State::Engaged(peer) => (peer, true),
        };
        let word = Word::Withdrawn(ticket.whose.clone(), ticket.attempt, code);
        if let Some(officer) = self.officers.get_mut(&peer) {
            officer.elsewhere = engaged;
            officer.free_since = self.now;
            officer.available &= code != Code::OfferExpired;
            let link = officer.link;
            if link.is_none() {
                self.officers.remove(&peer);
            }
            self.say(link, word);
        }
    }

    pub(super) fn wait_again(&mut self, at: usize, code: Code) {
        self.withdraw(at, code);
        let ticket = &mut self.tickets[at];
        (ticket.state, ticket.rest) = (State::Waiting, None);
        if let Some((gone, over)) = &mut ticket.gone {
            *over = Some(*gone + limits::GRACE);
        }
        let (link, word) = (ticket.link, Word::Waiting(ticket.whose.clone(), code));
        self.say(link, word);
    }

    /// Whoever does not come rests after the third time and the fourth, and is out after the
    /// fifth; whether that was it.
    pub(super) fn in_vain(&mut self, at: usize) -> bool {
        let ticket = &mut self.tickets[at];
        ticket.vain += 1;
        match ticket.vain {
            5 => {
                let ended = self.tickets.remove(at);
                self.say(ended.link, Word::Ended(Some(ended.whose), Code::NoPath));
                return true;
            }
            3 => ticket.rest = Some(self.now + Duration::from_secs(10)),
            4 => ticket.rest = Some(self.now + Duration::from_secs(20)),
            _ => {}
        }
        false
    }

    pub(super) fn down(&mut self, link: LinkId) {
        let Some((peer, is_officer)) = self.links.remove(&link) else {
            return;
        };
        if is_officer {
            if let Some(officer) = self
                .officers
                .get_mut(&peer)
                .filter(|o| o.link == Some(link))
            {
                officer.link = None;
                officer.lost = Some(self.now + limits::GRACE);
                match self.with(peer).map(|at| (at, self.tickets[at].state)) {
                    Some((at, State::Offered(..))) => self.wait_again(at, Code::OfficerGone),
                    Some(_) => {}
                    None => drop(self.officers.remove(&peer)),
                }
            }
            return;
        }
        for whose in self.by_id(|ticket| ticket.link == Some(link)) {
            let at = self.at(&whose).unwrap();
            let ticket = &mut self.tickets[at];
            ticket.link = None;
            ticket.gone = Some((self.now, Some(self.now + limits::GRACE)));
            if matches!(ticket.state, State::Offered(..)) {
                self.wait_again(at, Code::CitizenGone);
                self.in_vain(at);
            }
        }
    }

    /// Tickets in the order of their numbers, for what happens to several at once.
    pub(super) fn by_id(&self, which: impl Fn(&Ticket) -> bool) -> Vec<Whose> {
        let found = self.tickets.iter().filter(|ticket| which(ticket));
        let mut found: Vec<Whose> = found.map(|ticket| ticket.whose.clone()).collect();
        found.sort_by_key(|whose| self.newest.get(whose));
        found
    }

    pub(super) fn expire(&mut self) {
        loop {
            let tickets = self.tickets.iter().flat_map(|ticket| {
                let whose = &ticket.whose;
                let offer = match ticket.state {
                    State::Offered(_, until) => {
                        Some((until, 0, self.newest.get(whose), whose.clone()))
                    }
                    _ => None,
                };
                let grace = ticket.gone.and_then(|gone| gone.1);
                let grace = grace.map(|at| (at, 1, self.newest.get(whose), whose.clone()));
                let rest = ticket
                    .rest
                    .map(|at| (at, 2, self.newest.get(whose), whose.clone()));
                [offer, grace, rest].into_iter().flatten()
            });
            let ticket = tickets.filter(|due| due.0 <= self.now).min();
            let officers = self.officers.iter().flat_map(|(peer, officer)| {
                let rest = officer.rest.map(|at| (at, 3, *peer));
                let lost = officer.lost.map(|at| (at, 4, *peer));
                [rest, lost].into_iter().flatten()
            });
            let officer = officers.filter(|due| due.0 <= self.now).min();
            match (ticket, officer) {
                (None, None) => return,
                (Some((at, _, _, _)), Some((other, kind, peer))) if other < at => {
                    self.officer_due(kind, peer);
                }
                (Some((_, kind, _, whose)), _) => self.ticket_due(kind, &whose),
                (None, Some((_, kind, peer))) => self.officer_due(kind, peer),
            }
        }
    }

    pub(super) fn ticket_due(&mut self, kind: u8, whose: &Whose) {
        let at = self.at(whose).unwrap();
        match (kind, self.tickets[at].state) {
            (0, _) => self.wait_again(at, Code::OfferExpired),
            (1, State::Engaged(peer)) if self.officers.contains_key(&peer) => {
                let ticket = &mut self.tickets[at];
                ticket.gone = ticket.gone.map(|(gone, _)| (gone, None));
            }
            (1, _) => drop(self.tickets.remove(at)),
            _ => self.tickets[at].rest = None,
        }
    }

    pub(super) fn officer_due(&mut self, kind: u8, peer: PeerId) {
        if kind == 3 {
            self.officers.get_mut(&peer).unwrap().rest = None;
            return;
        }
        self.officers.remove(&peer);
        if let Some(at) = self.with(peer) {
            let gone = self.tickets[at].gone.map(|(gone, _)| gone + limits::GRACE);
            if gone.is_some_and(|over| over <= self.now) {
                self.tickets.remove(at);
            }
        }
    }

    pub(super) fn match_all(&mut self) {
        while let Some((at, peer)) = self.pair() {
            let until = self.now + limits::OFFER;
            let ticket = &mut self.tickets[at];
            ticket.attempt += 1;
            ticket.state = State::Offered(peer, until);
            let (whose, attempt, link) = (ticket.whose.clone(), ticket.attempt, ticket.link);
            let officer = self.officers.get_mut(&peer).unwrap();
            officer.last = Some((whose.clone(), attempt));
            let to = officer.link;
            self.say(to, Word::Offer(whose.clone(), attempt));
            self.say(link, Word::Matched(whose, attempt));
        }
    }

    /// The first who waits and can be offered, and the officer who is longest free and may take it; by desk.
    pub(super) fn pair(&self) -> Option<(usize, PeerId)> {
        let mut desks: Vec<&DeskId> = self.officers.values().map(|o| &o.desk).collect();
        desks.sort();
        desks.into_iter().find_map(|desk| {
            let free = |(peer, officer): &(&PeerId, &Officer)| {
                officer.desk == *desk
                    && officer.link.is_some()
                    && officer.available
                    && !officer.elsewhere
                    && officer.rest.is_none()
                    && self.with(**peer).is_none()
            };
            let mut free: Vec<_> = self.officers.iter().filter(free).collect();
            free.sort_by_key(|(peer, officer)| (officer.free_since, **peer));
            self.tickets.iter().enumerate().find_map(|(at, ticket)| {
                let ready = ticket.whose.1 == *desk
                    && ticket.state == State::Waiting
                    && ticket.link.is_some()
                    && ticket.rest.is_none();
                let officer = free
                    .iter()
                    .find(|(peer, _)| !ticket.declined.contains(peer));
                ready.then_some((at, *officer?.0))
            })
        })
    }

    pub(super) fn restart(&mut self) -> Result<(), String> {
        let mut said = self
            .expected
            .iter()
            .filter(|word| word.2 <= Some(self.stands));
        if let Some(missing) = said.next() {
            return Err(format!(
                "should have been heard before the end: {missing:?}"
            ));
        }
        self.links.clear();
        self.officers.clear();
        self.expected.clear();
        self.pending.clear();
        self.decided = self.stands;
        let now = self.now;
        let tickets = self.store.rows.iter().map(|row| Ticket {
            whose: (row.guest, row.desk.clone()),
            state: row.officer.map_or(State::Waiting, State::Engaged),
            attempt: row.attempt,
            link: None,
            gone: Some((now, Some(now + limits::GRACE))),
            rest: None,
            vain: 0,
            declined: Vec::new(),
        });
        self.tickets = tickets.collect();
        let rows = self.store.rows.iter();
        self.newest = rows
            .map(|row| ((row.guest, row.desk.clone()), row.ticket))
            .collect();
        Ok(())
    }
}

impl Word {
    pub(super) fn is_of(&self, whose: &Whose) -> bool {
        match self {
            Self::Queued(of) | Self::Matched(of, _) | Self::Offer(of, _) => of == whose,
            _ => false,
        }
    }
}
