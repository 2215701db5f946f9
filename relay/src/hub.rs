//! The pure hub of a relay (`spec/desk.md`): who attends, who waits, who is matched
//! with whom. *Decide → commit → say*: an input changes the hub's mind, what has to
//! outlive the process leaves as a [`Output::Commit`], and nothing about it is said
//! before the store has it. First come, first served; every bound stands.
//!
//! An input costs what it touches, never a look at everybody: deadlines lie in one
//! table, each desk knows who can be offered and who is free, and positions are told
//! at a bounded pace.

pub mod admission;
pub mod change;
pub mod crowd;
pub mod deadlines;
pub mod enrolment;
pub mod matching;
pub mod paths;
pub mod presence;
pub mod queue;
pub mod ticket;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use suora_protocol::documents::{Descriptor, DeskId, TicketId, Verified};
use suora_protocol::fault::Fault;
use suora_protocol::identity::{Draw, PeerId};
use suora_protocol::time::Now;
use suora_protocol::wire;

use crate::Faults;
use crate::grant::Secret;
use admission::Link;
use change::{Change, Enrolled, Snapshot};
use crowd::{Bounds, Crowd, Prefix};
use deadlines::{Deadlines, Due};
use enrolment::Enrolment;
use presence::Officer;
use queue::Line;
use ticket::{State, Ticket};

/// An administrator who renews each week has this long to notice.
const SOON: Duration = Duration::from_secs(2 * 86_400);

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
        /// Where it comes from.
        prefix: Prefix,
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
    /// The store has this commit, and all before it.
    Committed(u64),
    /// A new descriptor of the agency: what it revokes, ends.
    Descriptor(Box<Verified<Descriptor>>),
    /// An administrator brings an officer's credential.
    Credential {
        /// Whose question it is: the answer bears it too.
        ask: u64,
        /// The signed document.
        credential: Bytes,
    },
    /// Time passed.
    Tick,
}

/// What the hub asks of the loop around it.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Make these durable, together, then say so. Commits are numbered from 1, without gaps.
    Commit(u64, Vec<Change>),
    /// Send a framed message.
    Say(LinkId, Bytes),
    /// Close the stream once what was said is out.
    Close(LinkId),
    /// Answer the administrator.
    Answer(u64, Result<Enrolment, Fault>),
    /// Nothing more now; come again then, with any input.
    Wait(Option<Instant>, &'static str),
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
    /// Officers whose credential is kept and holds.
    pub enrolled: u64,
    /// Of them, those whose credential ends within two days.
    pub ending: u64,
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
    now: Now,
    links: BTreeMap<LinkId, Link>,
    /// The newest stream of each key, as citizen and as officer.
    newest: BTreeMap<(PeerId, bool), LinkId>,
    tickets: BTreeMap<TicketId, Ticket>,
    /// The tickets of each key: at most one a desk.
    owned: BTreeMap<PeerId, BTreeSet<TicketId>>,
    officers: BTreeMap<PeerId, Officer>,
    /// The ticket that each officer is in consultation with: at most one.
    engaged: BTreeMap<PeerId, TicketId>,
    lines: BTreeMap<DeskId, Line>,
    crowd: Crowd,
    /// What grants are made with, if the relay has a TURN.
    secret: Option<Secret>,
    /// The newest credential of each officer that an administrator brought.
    enrolled: BTreeMap<PeerId, Enrolled>,
    deadlines: Deadlines,
    /// Desks where somebody became ready or free in this input.
    unmatched: BTreeSet<DeskId>,
    /// Officers who came, or were served, in this input.
    ungranted: BTreeSet<PeerId>,
    /// Desks where the queue moved in this input.
    moved: BTreeSet<DeskId>,
    /// The last place that was given out.
    order: u64,
    changes: Vec<Change>,
    /// The last commit that was asked for, and the last that stands.
    commits: u64,
    committed: u64,
    out: VecDeque<Output>,
    /// What this input has to say.
    said: Vec<Output>,
    /// What may be said once a commit stands.
    held: VecDeque<(u64, Output)>,
    counts: Counts,
}

impl Hub {
    /// A hub with what the store remembers. Offers of a former life wait again at their
    /// old place, consultations go on, and the grace of all owners runs from now.
    pub fn restore(
        descriptor: Verified<Descriptor>,
        snapshot: Snapshot,
        seed: [u8; 32],
        now: Now,
        faults: Faults,
    ) -> Self {
        let mut draw = Draw::from_seed(seed);
        let mut hub = Self {
            descriptor,
            faults,
            crowd: Crowd::new(&mut draw, now.utc),
            draw,
            now,
            links: BTreeMap::new(),
            newest: BTreeMap::new(),
            tickets: BTreeMap::new(),
            owned: BTreeMap::new(),
            officers: BTreeMap::new(),
            engaged: BTreeMap::new(),
            lines: BTreeMap::new(),
            secret: None,
            enrolled: BTreeMap::new(),
            deadlines: Deadlines::default(),
            unmatched: BTreeSet::new(),
            ungranted: BTreeSet::new(),
            moved: BTreeSet::new(),
            order: 0,
            changes: Vec::new(),
            commits: 0,
            committed: 0,
            out: VecDeque::new(),
            said: Vec::new(),
            held: VecDeque::new(),
            counts: Counts::default(),
        };
        for row in snapshot.rows {
            let id = row.ticket;
            hub.order = hub.order.max(row.order);
            hub.owned.entry(row.guest).or_default().insert(id);
            if let Some(officer) = row.officer {
                hub.engaged.insert(officer, id);
            }
            hub.tickets.insert(id, Ticket::new(row, now.utc));
            let grace = hub.grace(id);
            hub.deadlines.set(Due::Grace(id), now.utc + grace);
            hub.settle_ticket(id);
        }
        for enrolled in snapshot.enrolled {
            hub.keep(enrolled);
        }
        hub
    }

    /// Other bounds for crowds from now on.
    pub const fn set_bounds(&mut self, bounds: Bounds) {
        self.crowd.set_bounds(bounds);
    }

    /// The descriptor that stands.
    pub const fn descriptor(&self) -> &Verified<Descriptor> {
        &self.descriptor
    }

    /// What the operator may know. Looks at everybody: for now and then.
    pub fn counts(&self) -> Counts {
        let (citizens, attending) = (
            self.links.values().filter(|link| !link.officer),
            self.officers
                .values()
                .filter(|officer| officer.link.is_some()),
        );
        let engaged = self
            .tickets
            .values()
            .filter(|ticket| matches!(ticket.state, State::Engaged { .. }));
        Counts {
            citizens: citizens.count() as u64,
            officers: attending.count() as u64,
            waiting: self
                .lines
                .values()
                .map(|line| line.queue.len() as u64)
                .sum(),
            engaged: engaged.count() as u64,
            enrolled: self.holding(Duration::ZERO),
            ending: self.holding(Duration::ZERO) - self.holding(SOON),
            ..self.counts
        }
    }

    /// Kept credentials that still hold after so long.
    fn holding(&self, after: Duration) -> u64 {
        let then = self.now.utc + after;
        let held = self.enrolled.values().filter(|kept| kept.not_after >= then);
        held.count() as u64
    }

    /// The guests who wait at a desk, in order.
    pub fn waiting(&self, desk: &DeskId) -> Vec<PeerId> {
        let queue = self.lines.get(desk).map(|line| line.queue.iter());
        queue
            .into_iter()
            .flatten()
            .filter_map(|(_, id)| Some(self.tickets.get(&id)?.row.guest))
            .collect()
    }

    /// Takes an input. A fault means that a message was refused; the hub goes on.
    pub fn handle_input(&mut self, now: Now, input: Input) -> Result<(), Fault> {
        self.now = now;
        let result = match input {
            Input::Up {
                link,
                peer,
                officer,
                prefix,
            } => {
                self.up(now, link, (peer, officer, prefix));
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
                self.adopt(now);
                Ok(())
            }
            Input::Credential { ask, credential } => {
                let answer = self.enrol(now, credential);
                self.said.push(Output::Answer(ask, answer));
                Ok(())
            }
            Input::Tick => Ok(()),
        };
        self.expire(now);
        self.grant_all(now);
        self.match_all(now);
        self.tell_moves(now);
        if !self.changes.is_empty() {
            self.commits += 1;
            let changes = std::mem::take(&mut self.changes);
            self.out.push_back(Output::Commit(self.commits, changes));
        }
        // Said once everything decided so far stands, this input's changes included.
        let said = self.said.drain(..).map(|output| (self.commits, output));
        self.held.extend(said);
        result
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Output {
        if let Some(output) = self.out.pop_front() {
            return output;
        }
        let stands = |held: &mut (u64, Output)| held.0 <= self.committed;
        if let Some((_, output)) = self.held.pop_front_if(stands) {
            return output;
        }
        match self.deadlines.next() {
            Some((at, due)) => {
                let wait = at.since(self.now.utc);
                Output::Wait(Some(self.now.mono + wait), due.as_str())
            }
            None => Output::Wait(None, "somebody to come"),
        }
    }

    fn say<M: serde::Serialize>(&mut self, link: Option<LinkId>, message: &M) {
        if let Some(link) = link
            && let Ok(bytes) = wire::encode(message)
        {
            self.said.push(Output::Say(link, bytes));
        }
    }
}
