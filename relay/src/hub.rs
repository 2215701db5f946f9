//! The pure hub of a relay (`spec/desk.md`): who attends, who waits, who is matched
//! with whom. *Decide → commit → say*: an input changes the hub's mind, what has to
//! outlive the process leaves as a [`Output::Commit`], and nothing about it is said
//! before the store has it. First come, first served; every bound stands.

pub mod admission;
pub mod change;
pub mod matching;
pub mod presence;
pub mod ticket;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use suora_protocol::documents::{
    Challenge, Credential, Descriptor, DeskId, Signed, TicketId, Verified, chain,
};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{Draw, PeerId};
use suora_protocol::limits;
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::{self, citizen, officer};

use crate::Faults;
use admission::Bucket;
use change::{Change, Row, Snapshot};
use presence::{Engagement, Officer};
use ticket::{State, Ticket};

/// One desk stream of one node, numbered by the door.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LinkId(pub u64);

/// What happens to the hub.
#[derive(Debug)]
pub enum Input {
    /// A node opened its stream.
    Up {
        /// The stream.
        link: LinkId,
        /// Who, as the transport proved.
        peer: PeerId,
        /// Whether it speaks as an officer.
        officer: bool,
    },
    /// A message came, without its length.
    Message {
        /// On this stream.
        link: LinkId,
        /// The message.
        body: Bytes,
    },
    /// The stream ended.
    Down(LinkId),
    /// The store has this commit.
    Committed(u64),
    /// A new descriptor of the agency.
    Descriptor(Box<Verified<Descriptor>>),
    /// Time passed.
    Tick,
}

/// What the hub asks of the loop around it.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Make these durable, together, then say so.
    Commit(u64, Vec<Change>),
    /// Send a framed message.
    Say(LinkId, Bytes),
    /// Close the stream once what was said is out.
    Close(LinkId),
    /// Nothing more now; come again then.
    Wait(Option<Instant>, &'static str),
}

#[derive(Debug)]
struct Link {
    peer: PeerId,
    officer: bool,
    bucket: Bucket,
    heard: Instant,
}

/// Counts for the operator; they name nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Streams of citizens.
    pub citizens: u64,
    /// Officers who attend.
    pub officers: u64,
    /// Tickets that wait.
    pub waiting: u64,
    /// Tickets in consultation.
    pub engaged: u64,
    /// Joins so far.
    pub joined: u64,
    /// Offers so far.
    pub offers: u64,
    /// Offers that were not answered in time.
    pub offers_expired: u64,
    /// Requests refused so far.
    pub refused: u64,
}

/// The hub of one relay.
#[derive(Debug)]
pub struct Hub {
    descriptor: Verified<Descriptor>,
    faults: Faults,
    draw: Draw,
    links: BTreeMap<LinkId, Link>,
    tickets: BTreeMap<TicketId, Ticket>,
    /// One ticket a key and desk.
    owners: BTreeMap<(PeerId, DeskId), TicketId>,
    officers: BTreeMap<PeerId, Officer>,
    /// Tickets that wait, by desk, in order.
    queues: BTreeMap<DeskId, BTreeSet<(u64, TicketId)>>,
    /// Desks whose positions may have moved.
    moved: BTreeSet<DeskId>,
    order: u64,
    changes: Vec<Change>,
    commits: u64,
    /// What may be said once a commit stands.
    held: VecDeque<(u64, Output)>,
    out: VecDeque<Output>,
    committed: u64,
    counts: Counts,
}

impl Hub {
    /// A hub with what the store remembers. Offers of a former life wait again at their
    /// old place; the grace of all owners runs from now.
    pub fn restore(
        descriptor: Verified<Descriptor>,
        snapshot: Snapshot,
        seed: [u8; 32],
        now: Now,
        faults: Faults,
    ) -> Self {
        let mut hub = Self {
            descriptor,
            faults,
            draw: Draw::from_seed(seed),
            links: BTreeMap::new(),
            tickets: BTreeMap::new(),
            owners: BTreeMap::new(),
            officers: BTreeMap::new(),
            queues: BTreeMap::new(),
            moved: BTreeSet::new(),
            order: 0,
            changes: Vec::new(),
            commits: 0,
            held: VecDeque::new(),
            out: VecDeque::new(),
            committed: 0,
            counts: Counts::default(),
        };
        for row in snapshot.rows {
            hub.order = hub.order.max(row.order);
            hub.owners.insert((row.guest, row.desk.clone()), row.ticket);
            if row.officer.is_none() {
                hub.queues
                    .entry(row.desk.clone())
                    .or_default()
                    .insert((row.order, row.ticket));
            }
            hub.tickets
                .insert(row.ticket, Ticket::restored(row, now.utc));
        }
        hub
    }

    /// What the operator may know.
    pub fn counts(&self) -> Counts {
        Counts {
            citizens: self.links.values().filter(|link| !link.officer).count() as u64,
            officers: self
                .officers
                .values()
                .filter(|officer| officer.link.is_some())
                .count() as u64,
            waiting: self.queues.values().map(|queue| queue.len() as u64).sum(),
            engaged: self
                .tickets
                .values()
                .filter(|ticket| matches!(ticket.state, State::Engaged { .. }))
                .count() as u64,
            ..self.counts
        }
    }

    /// The guests who wait at a desk, in order.
    pub fn waiting(&self, desk: &DeskId) -> Vec<PeerId> {
        let queue = self.queues.get(desk).into_iter().flatten();
        queue
            .filter_map(|(_, ticket)| Some(self.tickets.get(ticket)?.guest))
            .collect()
    }

    /// Takes an input. A fault means that the message was refused; the hub goes on.
    pub fn handle_input(&mut self, now: Now, input: Input) -> Result<(), Fault> {
        let result = match input {
            Input::Up {
                link,
                peer,
                officer,
            } => {
                self.links.insert(
                    link,
                    Link {
                        peer,
                        officer,
                        bucket: Bucket::new(now.mono),
                        heard: now.mono,
                    },
                );
                Ok(())
            }
            Input::Message { link, body } => self.message(now, link, &body),
            Input::Down(link) => {
                self.down(now, link);
                Ok(())
            }
            Input::Committed(id) => {
                self.committed = self.committed.max(id);
                Ok(())
            }
            Input::Descriptor(descriptor) => {
                self.descriptor = *descriptor;
                self.drop_revoked(now);
                Ok(())
            }
            Input::Tick => Ok(()),
        };
        self.expire(now);
        self.match_all(now);
        self.tell_positions();
        self.flush();
        result
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Output {
        if let Some(output) = self.out.pop_front() {
            return output;
        }
        if self
            .held
            .front()
            .is_some_and(|(commit, _)| *commit <= self.committed)
            && let Some((_, output)) = self.held.pop_front()
        {
            return output;
        }
        Output::Wait(None, "tick each second")
    }

    /// Seals the changes of this input into a commit; what was said waits behind it.
    fn flush(&mut self) {
        if !self.changes.is_empty() {
            self.commits += 1;
            self.out.push_back(Output::Commit(
                self.commits,
                std::mem::take(&mut self.changes),
            ));
        }
    }

    fn hold(&mut self, output: Output) {
        let pending = u64::from(!self.changes.is_empty());
        self.held.push_back((self.commits + pending, output));
    }

    fn say<M: serde::Serialize>(&mut self, link: Option<LinkId>, message: &M) {
        if let Some(link) = link
            && let Ok(bytes) = wire::encode(message)
        {
            self.hold(Output::Say(link, bytes));
        }
    }

    fn message(&mut self, now: Now, id: LinkId, body: &[u8]) -> Result<(), Fault> {
        let link = self
            .links
            .get_mut(&id)
            .ok_or_else(|| Fault::new(Code::Internal).with("a message of no link"))?;
        link.heard = now.mono;
        let (peer, officer) = (link.peer, link.officer);
        let handled = if !link.bucket.take(now.mono) {
            Err(Fault::new(Code::TooFast))
        } else if officer {
            wire::decode(body).and_then(|message| self.officer(now, id, peer, message))
        } else {
            wire::decode(body).and_then(|message| self.citizen(now, id, peer, message))
        };
        if let Err(fault) = &handled {
            self.counts.refused += 1;
            let (code, message) = (fault.code, fault.detail.clone());
            if officer {
                self.say(Some(id), &officer::FromRelay::Refused { code, message });
            } else {
                self.say(Some(id), &citizen::FromRelay::Refused { code, message });
            }
            if matches!(
                fault.code,
                Code::TooFast | Code::Malformed | Code::NotDeterministic
            ) {
                self.hold(Output::Close(id));
            }
        }
        handled
    }

    fn citizen(
        &mut self,
        now: Now,
        link: LinkId,
        peer: PeerId,
        message: citizen::ToRelay,
    ) -> Result<(), Fault> {
        use citizen::ToRelay as M;
        match message {
            M::Join {
                desk, challenge, ..
            } => self.join(now, link, peer, desk, challenge),
            M::Leave { ticket } => self.end_by_guest(ticket, peer, Code::Left),
            M::Done { ticket, code } => self.end_by_guest(ticket, peer, code),
            M::Refused {
                ticket,
                attempt,
                code,
            } => self.refused_by_guest(now, ticket, peer, attempt, code),
            M::Ping { n } => {
                self.say(Some(link), &citizen::FromRelay::Pong { n });
                Ok(())
            }
            M::Unknown => Ok(()),
        }
    }

    fn officer(
        &mut self,
        now: Now,
        link: LinkId,
        peer: PeerId,
        message: officer::ToRelay,
    ) -> Result<(), Fault> {
        use officer::ToRelay as M;
        match message {
            M::Attend {
                desk,
                credential,
                status,
                engaged,
            } => {
                if self.descriptor.desk(&desk).is_none() {
                    return Err(Fault::new(Code::UnknownDesk).with(desk.as_str()));
                }
                let until = self.admit_officer(now.utc, &peer, &desk, &credential)?;
                self.attend(now, link, peer, desk, until, status, engaged)
            }
            M::Status { status } => {
                let officer = self
                    .officers
                    .get_mut(&peer)
                    .ok_or(Fault::new(Code::NoCredential).with("attend first"))?;
                officer.status = status;
                officer.free_since = now.utc;
                Ok(())
            }
            M::Invite {
                ticket,
                attempt,
                invite,
            } => {
                let link = self.offered(ticket, attempt, &peer)?.link;
                self.say(
                    link,
                    &citizen::FromRelay::Invite {
                        ticket,
                        attempt,
                        invite,
                    },
                );
                Ok(())
            }
            M::Accepted { ticket, attempt } => {
                self.offered(ticket, attempt, &peer)?;
                self.engage(ticket, peer);
                Ok(())
            }
            M::Declined {
                ticket,
                attempt,
                code,
            } => {
                self.offered(ticket, attempt, &peer)?;
                if let Some(ticket) = self.tickets.get_mut(&ticket) {
                    ticket.declined.insert(peer);
                }
                self.wait_again(now, ticket, code);
                Ok(())
            }
            M::Done { ticket, code } => self.end_by_officer(now, ticket, peer, code),
            M::Ping { n } => {
                self.say(Some(link), &officer::FromRelay::Pong { n });
                Ok(())
            }
            M::Unknown => Ok(()),
        }
    }

    /// Checks the credential; returns until when it holds.
    fn admit_officer(
        &self,
        now: Timestamp,
        peer: &PeerId,
        desk: &DeskId,
        credential: &[u8],
    ) -> Result<Timestamp, Fault> {
        if self.faults.unchecked_credential {
            return Ok(Timestamp::from_micros(i64::MAX));
        }
        if credential.is_empty() {
            return Err(Fault::new(Code::NoCredential).with("an officer shows a credential"));
        }
        let signed: Signed<Credential> = Signed::from_bytes(credential.to_vec())?;
        Ok(chain::officer(&signed, &self.descriptor, peer, desk, now)?.not_after)
    }

    fn join(
        &mut self,
        now: Now,
        link: LinkId,
        guest: PeerId,
        desk: DeskId,
        challenge: Challenge,
    ) -> Result<(), Fault> {
        if self.descriptor.desk(&desk).is_none() {
            return Err(Fault::new(Code::UnknownDesk).with(desk.as_str()));
        }
        let id = match self.owners.get(&(guest, desk.clone())).copied() {
            Some(id) => {
                self.rejoin(now, id, link, challenge);
                id
            }
            None => {
                if self
                    .queues
                    .get(&desk)
                    .is_some_and(|queue| queue.len() >= limits::QUEUE_MAX)
                {
                    return Err(Fault::new(Code::QueueFull));
                }
                self.counts.joined += 1;
                self.order += 1;
                let row = Row {
                    ticket: TicketId::from_bytes(self.draw.bytes()),
                    desk: desk.clone(),
                    guest,
                    challenge,
                    order: self.order,
                    joined: now.utc,
                    attempt: 0,
                    officer: None,
                };
                let ticket = Ticket::joined(row.clone(), link);
                self.owners.insert((guest, desk.clone()), row.ticket);
                self.queues
                    .entry(desk.clone())
                    .or_default()
                    .insert((row.order, row.ticket));
                self.tickets.insert(row.ticket, ticket);
                let id = row.ticket;
                self.changes.push(Change::Put(row));
                id
            }
        };
        let position = self.position(&desk, id);
        if let Some(ticket) = self.tickets.get_mut(&id) {
            ticket.said = Some(position);
        }
        self.say(
            Some(link),
            &citizen::FromRelay::Queued {
                ticket: id,
                position,
            },
        );
        self.moved.insert(desk);
        Ok(())
    }

    /// An owner is back: same ticket, same place.
    fn rejoin(&mut self, now: Now, id: TicketId, link: LinkId, challenge: Challenge) {
        if self
            .tickets
            .get(&id)
            .is_some_and(|ticket| !matches!(ticket.state, State::Waiting))
        {
            self.wait_again(now, id, Code::CitizenGone);
        }
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return;
        };
        let old = ticket.link.replace(link);
        ticket.gone = None;
        if ticket.row.challenge != challenge {
            ticket.row.challenge = challenge;
            self.changes.push(Change::Put(ticket.row.clone()));
        }
        if let Some(old) = old
            && old != link
        {
            self.hold(Output::Close(old));
        }
    }

    /// People ahead of a ticket.
    fn position(&self, desk: &DeskId, id: TicketId) -> u32 {
        let Some(ticket) = self.tickets.get(&id) else {
            return 0;
        };
        let ahead = self
            .queues
            .get(desk)
            .map_or(0, |queue| queue.range(..(ticket.row.order, id)).count());
        u32::try_from(ahead).unwrap_or(u32::MAX)
    }

    /// One position update for everyone whose position changed.
    fn tell_positions(&mut self) {
        for desk in std::mem::take(&mut self.moved) {
            let ids: Vec<TicketId> = self
                .queues
                .get(&desk)
                .into_iter()
                .flatten()
                .map(|(_, id)| *id)
                .collect();
            let waiting = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            for (position, id) in (0u32..).zip(ids) {
                let Some(ticket) = self.tickets.get_mut(&id) else {
                    continue;
                };
                if ticket.said != Some(position) {
                    ticket.said = Some(position);
                    let link = ticket.link;
                    self.say(
                        link,
                        &citizen::FromRelay::Position {
                            ticket: id,
                            position,
                        },
                    );
                }
            }
            let officers: Vec<_> = self
                .officers
                .values_mut()
                .filter(|o| o.desk == desk && o.told != Some(waiting))
                .collect();
            let links: Vec<_> = officers
                .into_iter()
                .map(|officer| {
                    officer.told = Some(waiting);
                    officer.link
                })
                .collect();
            for link in links {
                self.say(
                    link,
                    &officer::FromRelay::Waiting {
                        desk: desk.clone(),
                        waiting,
                    },
                );
            }
        }
    }

    fn own(&self, id: TicketId, guest: &PeerId) -> Result<&Ticket, Fault> {
        self.tickets
            .get(&id)
            .filter(|ticket| ticket.row.guest == *guest)
            .ok_or(Fault::new(Code::NoTicket))
    }

    /// The ticket of a live offer to this officer.
    fn offered(&self, id: TicketId, attempt: u32, peer: &PeerId) -> Result<&Ticket, Fault> {
        let ticket = self.tickets.get(&id).ok_or(Fault::new(Code::NoTicket))?;
        match ticket.state {
            State::Offered { officer, .. } if officer == *peer && ticket.row.attempt == attempt => {
                Ok(ticket)
            }
            _ => Err(Fault::new(Code::NoTicket).with("no such offer")),
        }
    }

    fn end_by_guest(&mut self, id: TicketId, guest: PeerId, code: Code) -> Result<(), Fault> {
        let link = self.own(id, &guest)?.link;
        self.withdraw(id, code);
        self.remove(id);
        self.say(link, &citizen::FromRelay::Ended { ticket: id, code });
        Ok(())
    }

    fn refused_by_guest(
        &mut self,
        now: Now,
        id: TicketId,
        guest: PeerId,
        attempt: u32,
        code: Code,
    ) -> Result<(), Fault> {
        let ticket = self.own(id, &guest)?;
        if ticket.row.attempt != attempt {
            return Err(Fault::new(Code::NoTicket).with("no such attempt"));
        }
        if code.is_refusal() {
            // The officer cannot prove itself: the person is told, and nobody is matched with it again for this ticket.
            return self.end_by_guest(id, guest, code);
        }
        self.wait_again(now, id, code);
        Ok(())
    }

    fn end_by_officer(
        &mut self,
        now: Now,
        id: TicketId,
        peer: PeerId,
        code: Code,
    ) -> Result<(), Fault> {
        let officer = self
            .officers
            .get_mut(&peer)
            .ok_or(Fault::new(Code::NoTicket))?;
        if officer.engagement.ticket() == Some(id) {
            officer.engagement = Engagement::Free;
            officer.free_since = now.utc;
        }
        let Some(ticket) = self.tickets.get(&id) else {
            return Ok(());
        };
        if !matches!(ticket.state, State::Engaged { officer } | State::Offered { officer, .. } if officer == peer)
        {
            return Err(Fault::new(Code::NoTicket));
        }
        let link = ticket.link;
        self.remove(id);
        self.say(link, &citizen::FromRelay::Ended { ticket: id, code });
        Ok(())
    }

    fn remove(&mut self, id: TicketId) {
        if let Some(ticket) = self.tickets.remove(&id) {
            self.owners
                .remove(&(ticket.row.guest, ticket.row.desk.clone()));
            if let Some(queue) = self.queues.get_mut(&ticket.row.desk) {
                queue.remove(&(ticket.row.order, id));
            }
            self.moved.insert(ticket.row.desk);
            self.changes.push(Change::Drop(id));
        }
    }

    fn down(&mut self, now: Now, id: LinkId) {
        if self.links.remove(&id).is_none() {
            return;
        }
        let officers: Vec<PeerId> = self
            .officers
            .iter()
            .filter(|(_, officer)| officer.link == Some(id))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in officers {
            self.officer_gone(now, peer, Code::OfficerGone);
        }
        let tickets: Vec<TicketId> = self
            .tickets
            .iter()
            .filter(|(_, ticket)| ticket.link == Some(id))
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in tickets {
            let offered = self.tickets.get_mut(&ticket).is_some_and(|ticket| {
                ticket.link = None;
                ticket.said = None;
                ticket.gone = Some(now.utc);
                matches!(ticket.state, State::Offered { .. })
            });
            if offered {
                self.wait_again(now, ticket, Code::CitizenGone);
            }
        }
    }
}
