//! A ticket's states: waiting → offered → engaged, and back to waiting at its old place.
//! It belongs to a key, not to a stream: its owner finds it again on any stream.

use std::collections::BTreeSet;

use suora_protocol::documents::{Challenge, DeskId, TicketId};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::PeerId;
use suora_protocol::limits;
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::citizen::{FromRelay, ToRelay};
use suora_protocol::wire::work::Work;

use super::admission::{Pace, TICKETS_MAX};
use super::change::{Change, Row};
use super::crowd::{Answer, Ask, Prefix};
use super::deadlines::Due;
use super::queue::Place;
use super::{Hub, LinkId};

/// Where a ticket stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// In the queue.
    Waiting,
    /// An officer was asked.
    Offered {
        /// Whom.
        officer: PeerId,
        /// Whether the officer's invite was passed on.
        invited: bool,
    },
    /// In consultation.
    Engaged {
        /// With whom.
        officer: PeerId,
    },
}

/// Why a ticket that waits is not offered for a while. It keeps its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pause {
    /// It is offered.
    None,
    /// Its last match came to nothing on its owner's side: not before this.
    Until(Timestamp),
    /// Its owner says that it is in a session already: not before it asks again.
    Asked,
}

/// After a match that came to nothing on its owner's side, so that it cannot spin.
pub const REST: std::time::Duration = std::time::Duration::from_secs(5);

/// From so many matches in a row on that came to nothing on its owner's side, a ticket rests
/// longer each time, and coming back does not shorten it.
const VAIN: u32 = 3;
/// After so many it ends: nobody keeps the officers busy with people who never come.
const VAIN_MAX: u32 = 5;

/// A right to be served.
#[derive(Debug)]
pub struct Ticket {
    /// What outlives the process.
    pub row: Row,
    /// Where it stands.
    pub state: State,
    /// The owner's stream.
    pub link: Option<LinkId>,
    /// Where it was drawn, or its owner first showed since the relay began.
    pub prefix: Option<Prefix>,
    /// Since when the owner has none.
    pub gone: Option<Timestamp>,
    /// Why it is not offered for a while.
    pub pause: Pause,
    /// The position that was last told.
    pub said: Option<u32>,
    /// How often a position may be told at once.
    pub pace: Pace,
    /// Officers who declined it.
    pub declined: BTreeSet<PeerId>,
    /// Matches in a row that came to nothing on its owner's side.
    pub vain: u32,
}

impl Ticket {
    /// A ticket as its row says, whose owner has no stream yet.
    pub fn new(row: Row, now: Timestamp) -> Self {
        let state = row
            .officer
            .map_or(State::Waiting, |officer| State::Engaged { officer });
        Self {
            row,
            state,
            link: None,
            prefix: None,
            gone: Some(now),
            pause: Pause::None,
            said: None,
            pace: Pace::default(),
            declined: BTreeSet::new(),
            vain: 0,
        }
    }

    /// Its place in the queue, while it waits.
    pub const fn place(&self) -> Place {
        (self.row.order, self.row.ticket)
    }

    /// How long it rests after the last match, beyond what the match itself asks for.
    fn rest(&self) -> std::time::Duration {
        match self.vain.checked_sub(VAIN - 1) {
            None | Some(0) => std::time::Duration::ZERO,
            Some(times) => REST.saturating_mul(1 << times.min(VAIN_MAX)),
        }
    }

    /// Whether it can be offered.
    pub fn is_ready(&self) -> bool {
        self.state == State::Waiting && self.link.is_some() && self.pause == Pause::None
    }
}

impl Hub {
    pub(super) fn citizen(
        &mut self,
        now: Now,
        link: LinkId,
        peer: PeerId,
        message: ToRelay,
    ) -> Result<(), Fault> {
        match message {
            ToRelay::Join {
                desk,
                challenge,
                work,
                ..
            } => self.join(now, link, peer, (desk, challenge, work)),
            ToRelay::Addresses { addresses } => self.addresses(link, addresses),
            ToRelay::Leave { ticket } => self.end_by_guest(now, link, peer, ticket, Code::Left),
            ToRelay::Done { ticket, code } => self.end_by_guest(now, link, peer, ticket, code),
            ToRelay::Refused {
                ticket,
                attempt,
                code,
            } => self.refused_by_guest(now, link, peer, (ticket, attempt), code),
            ToRelay::Ping { n } => {
                self.say(Some(link), &FromRelay::Pong { n });
                Ok(())
            }
            ToRelay::Unknown => Ok(()),
        }
    }

    /// A key has one ticket a desk, and finds it by itself: the number that it may show adds nothing.
    fn join(
        &mut self,
        now: Now,
        link: LinkId,
        guest: PeerId,
        (desk, challenge, work): (DeskId, Challenge, Option<Work>),
    ) -> Result<(), Fault> {
        if self.descriptor.desk(&desk).is_none() {
            return Err(Fault::new(Code::UnknownDesk).with(desk.as_str()));
        }
        let owned = self.owned.get(&guest).into_iter().flatten();
        let old = owned.copied().find(|id| {
            let ticket = self.tickets.get(id);
            ticket.is_some_and(|ticket| ticket.row.desk == desk)
        });
        let back = old.filter(|id| self.rejoin(now, *id, challenge));
        let id = match back {
            Some(id) => id,
            None => {
                if let Answer::Asked(slot, bits) = self.admit(now, link, guest, &desk, work)? {
                    self.say(Some(link), &FromRelay::Work { desk, slot, bits });
                    return Ok(());
                }
                self.draw_ticket(now, guest, desk, challenge)
            }
        };
        self.attach(id, link);
        let position = self.position(id);
        if let Some(ticket) = self.tickets.get_mut(&id) {
            ticket.said = Some(position);
        }
        let ticket = id;
        self.say(Some(link), &FromRelay::Queued { ticket, position });
        Ok(())
    }

    /// Whether this key may have a new ticket of the desk now.
    fn admit(
        &mut self,
        now: Now,
        link: LinkId,
        peer: PeerId,
        desk: &DeskId,
        work: Option<Work>,
    ) -> Result<Answer, Fault> {
        if self.owned.get(&peer).map_or(0, BTreeSet::len) >= TICKETS_MAX {
            return Err(Fault::new(Code::Busy).with("this key waits at enough desks"));
        }
        let waiting = self.lines.get(desk).map_or(0, |line| line.queue.len());
        let prefix = self
            .links
            .get(&link)
            .map_or(Prefix::NONE, |link| link.prefix);
        let ask = Ask {
            desk,
            peer,
            prefix,
            work,
        };
        self.crowd.admit(&mut self.draw, now.utc, &ask, waiting)
    }

    fn draw_ticket(
        &mut self,
        now: Now,
        guest: PeerId,
        desk: DeskId,
        challenge: Challenge,
    ) -> TicketId {
        let owned = self.owned.entry(guest).or_default();
        self.order += 1;
        self.counts.joined += 1;
        let row = Row {
            ticket: TicketId::from_bytes(self.draw.bytes()),
            desk,
            guest,
            challenge,
            order: self.order,
            joined: now.utc,
            attempt: 0,
            officer: None,
        };
        let id = row.ticket;
        owned.insert(id);
        self.changes.push(Change::Put(row.clone()));
        self.tickets.insert(id, Ticket::new(row, now.utc));
        self.settle_ticket(id);
        id
    }

    /// The owner asks anew: whatever match there was is over on its side. Same ticket, same
    /// place; false: that was one match in vain too many, and there is no ticket any more.
    fn rejoin(&mut self, now: Now, id: TicketId, challenge: Challenge) -> bool {
        if let Some(ticket) = self.tickets.get_mut(&id) {
            // what is said about the old match would only confuse who asks anew
            let link = ticket.link.take();
            let offered = matches!(ticket.state, State::Offered { .. });
            if ticket.state != State::Waiting {
                self.wait_again(now, id, Code::CitizenGone);
            }
            if offered {
                self.in_vain(now, id);
            }
            if let Some(ticket) = self.tickets.get_mut(&id) {
                ticket.link = link;
                let rests = ticket.vain >= VAIN && matches!(ticket.pause, Pause::Until(_));
                if !rests {
                    ticket.pause = Pause::None;
                    self.deadlines.clear(Due::Rest(id));
                }
                if ticket.row.challenge != challenge {
                    ticket.row.challenge = challenge;
                    self.changes.push(Change::Put(ticket.row.clone()));
                }
            }
        }
        self.tickets.contains_key(&id)
    }

    /// A match came to nothing on the owner's side.
    pub(super) fn in_vain(&mut self, now: Now, id: TicketId) {
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return;
        };
        ticket.vain = ticket.vain.saturating_add(1);
        if ticket.vain >= VAIN_MAX {
            let link = ticket.link;
            self.remove(id);
            let (ticket, code) = (id, Code::NoPath);
            self.say(link, &FromRelay::Ended { ticket, code });
            return;
        }
        let rest = ticket.rest();
        if !rest.is_zero() {
            self.pause(id, Pause::Until(now.utc + rest));
        }
    }

    /// The last match ended by the officer's will after all.
    pub(super) fn not_in_vain(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return;
        };
        ticket.vain = ticket.vain.saturating_sub(1);
        if ticket.rest().is_zero() {
            self.pause(id, Pause::None);
        }
    }

    /// The owner is reached on this stream from now on.
    fn attach(&mut self, id: TicketId, link: LinkId) {
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return;
        };
        ticket.gone = None;
        if let Some(old) = ticket.link.replace(link).filter(|old| *old != link)
            && let Some(old) = self.links.get_mut(&old)
        {
            old.tickets.remove(&id);
        }
        if let Some(link) = self.links.get_mut(&link) {
            link.tickets.insert(id);
            if ticket.prefix.is_none() {
                ticket.prefix = Some(link.prefix);
                self.crowd.came(&ticket.row.desk, link.prefix);
            }
        }
        self.deadlines.clear(Due::Grace(id));
        self.settle_ticket(id);
    }

    /// The owner's stream ended: an offer ends with it, a consultation does not need it.
    pub(super) fn owner_gone(&mut self, now: Now, id: TicketId) {
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return;
        };
        ticket.link = None;
        ticket.said = None;
        ticket.gone = Some(now.utc);
        let offered = matches!(ticket.state, State::Offered { .. });
        let grace = self.grace(id);
        self.deadlines.set(Due::Grace(id), now.utc + grace);
        if offered {
            self.wait_again(now, id, Code::CitizenGone);
            self.in_vain(now, id);
        }
        self.settle_ticket(id);
    }

    /// How long a ticket outlives its owner's stream.
    pub(super) fn grace(&self, id: TicketId) -> std::time::Duration {
        self.tickets
            .get(&id)
            .and_then(|ticket| self.descriptor.desk(&ticket.row.desk))
            .map_or(limits::GRACE, suora_protocol::documents::Desk::grace)
    }

    /// The owner's ticket of this number; `None` when there is none (any more).
    fn own(&self, id: TicketId, guest: PeerId) -> Result<Option<&Ticket>, Fault> {
        match self.tickets.get(&id) {
            Some(ticket) if ticket.row.guest != guest => Err(Fault::new(Code::NoTicket)),
            ticket => Ok(ticket),
        }
    }

    /// The owner leaves, or its consultation ended. The officer may have said so already.
    fn end_by_guest(
        &mut self,
        now: Now,
        link: LinkId,
        guest: PeerId,
        id: TicketId,
        code: Code,
    ) -> Result<(), Fault> {
        if self.own(id, guest)?.is_some() {
            self.withdraw(now, id, code);
            self.remove(id);
            let ticket = id;
            self.say(Some(link), &FromRelay::Ended { ticket, code });
        }
        Ok(())
    }

    /// The owner's node does not take the invite, or its session ended before the officer's yes reached it.
    fn refused_by_guest(
        &mut self,
        now: Now,
        link: LinkId,
        guest: PeerId,
        (id, attempt): (TicketId, u32),
        code: Code,
    ) -> Result<(), Fault> {
        let Some(ticket) = self.own(id, guest)? else {
            // it thinks that it waits: it does not
            let (ticket, code) = (id, Code::NoTicket);
            self.say(Some(link), &FromRelay::Ended { ticket, code });
            return Ok(());
        };
        if attempt > ticket.row.attempt {
            return Err(Fault::new(Code::ProtocolViolation).with("no such attempt"));
        }
        let live = ticket.row.attempt == attempt && ticket.state != State::Waiting;
        self.attach(id, link);
        if !live {
            // the match had ended already: the two words crossed, or the owner was away
            self.line_moved(id);
            return Ok(());
        }
        if code.is_refusal() {
            // the officer cannot prove itself: the person is told, and the contact is over
            return self.end_by_guest(now, link, guest, id, code);
        }
        self.wait_again(now, id, code);
        if code == Code::AlreadyInvited {
            self.pause(id, Pause::Asked);
        } else {
            self.pause(id, Pause::Until(now.utc + REST));
        }
        self.in_vain(now, id);
        Ok(())
    }

    /// Not to be offered for a while.
    pub(super) fn pause(&mut self, id: TicketId, pause: Pause) {
        if let Some(ticket) = self.tickets.get_mut(&id) {
            ticket.pause = pause;
            match pause {
                Pause::Until(at) => self.deadlines.set(Due::Rest(id), at),
                Pause::None | Pause::Asked => self.deadlines.clear(Due::Rest(id)),
            }
            self.settle_ticket(id);
        }
    }

    /// Puts a ticket where its state belongs: into or out of the queue, and of those that can be offered.
    pub(super) fn settle_ticket(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.get(&id) else {
            return;
        };
        let (desk, place) = (&ticket.row.desk, ticket.place());
        let line = self.lines.entry(desk.clone()).or_default();
        let moved = if ticket.state == State::Waiting {
            line.queue.insert(place)
        } else {
            line.queue.remove(place)
        };
        if moved {
            self.moved.insert(desk.clone());
        }
        if !ticket.is_ready() {
            line.ready.remove(&place);
        } else if line.ready.insert(place) {
            self.unmatched.insert(desk.clone());
        }
    }

    /// Updates about this ticket's desk are due.
    fn line_moved(&mut self, id: TicketId) {
        if let Some(ticket) = self.tickets.get(&id) {
            self.moved.insert(ticket.row.desk.clone());
        }
    }

    /// Forgets a ticket, here and in the store.
    pub(super) fn remove(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.remove(&id) else {
            return;
        };
        if let Some(owned) = self.owned.get_mut(&ticket.row.guest) {
            owned.remove(&id);
            if owned.is_empty() {
                self.owned.remove(&ticket.row.guest);
            }
        }
        if let Some(prefix) = ticket.prefix {
            self.crowd.went(&ticket.row.desk, prefix);
        }
        if let Some(link) = ticket.link.and_then(|link| self.links.get_mut(&link)) {
            link.tickets.remove(&id);
        }
        if let State::Engaged { officer } = ticket.state {
            self.engaged.remove(&officer);
        }
        if let Some(line) = self.lines.get_mut(&ticket.row.desk) {
            line.ready.remove(&ticket.place());
            if line.queue.remove(ticket.place()) {
                self.moved.insert(ticket.row.desk.clone());
            }
        }
        for due in [Due::Offer(id), Due::Grace(id), Due::Rest(id)] {
            self.deadlines.clear(due);
        }
        self.changes.push(Change::Drop(id));
    }
}
