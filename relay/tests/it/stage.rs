//! A hub on a virtual clock, with a store in memory that answers at once or by hand,
//! and the inbox of every stream.
#![expect(
    clippy::disallowed_methods,
    reason = "door: the base of the virtual clock"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use suora_protocol::documents::{Challenge, TicketId};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{Hash, Key, PeerId};
use suora_protocol::time::Now;
use suora_protocol::wire::{self, Framer, citizen, officer};
use suora_relay::Faults;
use suora_relay::hub::change::{Change, Snapshot};
use suora_relay::hub::crowd::Prefix;
use suora_relay::hub::enrolment::Enrolment;
use suora_relay::hub::{Hub, Input, LinkId, Output};

use crate::agency::{Agency, START, desk};

pub(crate) struct Stage {
    pub(crate) agency: Agency,
    pub(crate) hub: Hub,
    pub(crate) now: Now,
    pub(crate) store: Snapshot,
    /// Commits that the store has not answered.
    pub(crate) pending: VecDeque<(u64, Vec<Change>)>,
    /// The store answers only when asked to.
    pub(crate) lags: bool,
    faults: Faults,
    inboxes: BTreeMap<LinkId, VecDeque<Bytes>>,
    roles: BTreeMap<LinkId, bool>,
    pub(crate) closed: BTreeSet<LinkId>,
    /// What administrators were answered, by number.
    pub(crate) answers: BTreeMap<u64, Result<Enrolment, Fault>>,
    next_link: u64,
    asked: u64,
}

/// The heartbeat of [`Stage::pass`], which no inbox shows.
const BEAT: u64 = u64::MAX;

fn unframe(bytes: &Bytes) -> Bytes {
    let mut framer = Framer::new();
    framer.push(bytes);
    framer.next_message().unwrap().unwrap()
}

/// The moment at which all virtual clocks begin.
pub(crate) fn base() -> Now {
    Now {
        mono: Instant::now(),
        utc: START,
    }
}

/// Where a key's owner is: nobody shares a prefix.
pub(crate) fn prefix(peer: &PeerId) -> Prefix {
    let [a, b, c, ..] = *Hash::of(peer.as_bytes()).as_bytes();
    Prefix::of([a, b, c, 1].into())
}

pub(crate) fn citizen_key(number: u8) -> PeerId {
    PeerId::from_bytes([number; 32])
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(Agency::new(), Faults::default())
    }

    pub(crate) fn with(agency: Agency, faults: Faults) -> Self {
        let now = base();
        let store = Snapshot::default();
        let hub = Hub::restore(agency.descriptor(), store.clone(), [7; 32], now, faults);
        Self {
            agency,
            hub,
            now,
            store,
            pending: VecDeque::new(),
            lags: false,
            faults,
            inboxes: BTreeMap::new(),
            roles: BTreeMap::new(),
            closed: BTreeSet::new(),
            answers: BTreeMap::new(),
            next_link: 0,
            asked: 0,
        }
    }

    /// The process dies; what the store has is what there is.
    pub(crate) fn kill(&mut self) {
        self.pending.clear();
        self.inboxes.clear();
        self.roles.clear();
        let descriptor = self.agency.descriptor();
        let snapshot = self.store.clone();
        self.hub = Hub::restore(descriptor, snapshot, [8; 32], self.now, self.faults);
    }

    pub(crate) fn input(&mut self, input: Input) -> Result<(), Fault> {
        let result = self.hub.handle_input(self.now, input);
        self.drain();
        result
    }

    fn drain(&mut self) {
        loop {
            match self.hub.poll_output() {
                Output::Commit(id, changes) => {
                    self.pending.push_back((id, changes));
                    if !self.lags {
                        self.answer();
                    }
                }
                Output::Say(link, bytes) => self.inboxes.entry(link).or_default().push_back(bytes),
                Output::Close(link) => {
                    self.closed.insert(link);
                }
                Output::Answer(ask, answer) => {
                    self.answers.insert(ask, answer);
                }
                Output::Wait(..) => return,
            }
        }
    }

    /// An administrator brings a credential; the number of the question.
    pub(crate) fn bring(&mut self, credential: Vec<u8>) -> u64 {
        self.asked += 1;
        let (ask, credential) = (self.asked, credential.into());
        self.input(Input::Credential { ask, credential }).unwrap();
        ask
    }

    /// An administrator brings a credential and hears what became of it.
    pub(crate) fn enrol(&mut self, credential: Vec<u8>) -> Result<Enrolment, Fault> {
        let ask = self.bring(credential);
        self.answers.remove(&ask).expect("an answer at once")
    }

    /// The agency's page as it stands now reaches the hub.
    pub(crate) fn publish(&mut self) {
        let page = Box::new(self.agency.descriptor());
        self.input(Input::Descriptor(page)).unwrap();
    }

    /// The store answers its oldest commit.
    pub(crate) fn answer(&mut self) {
        if let Some((id, changes)) = self.pending.pop_front() {
            self.store.apply(&changes);
            self.hub
                .handle_input(self.now, Input::Committed(id))
                .unwrap();
            self.drain();
        }
    }

    pub(crate) fn up(&mut self, peer: PeerId, officer: bool) -> LinkId {
        self.up_from(prefix(&peer), peer, officer)
    }

    pub(crate) fn up_from(&mut self, prefix: Prefix, peer: PeerId, officer: bool) -> LinkId {
        self.next_link += 1;
        let link = LinkId(self.next_link);
        self.roles.insert(link, officer);
        let up = Input::Up {
            link,
            peer,
            officer,
            prefix,
        };
        self.input(up).unwrap();
        link
    }

    /// The stream of citizen `number`.
    pub(crate) fn citizen(&mut self, number: u8) -> LinkId {
        self.up(citizen_key(number), false)
    }

    pub(crate) fn down(&mut self, link: LinkId) {
        self.input(Input::Down(link)).unwrap();
    }

    pub(crate) fn send(
        &mut self,
        link: LinkId,
        message: &impl serde::Serialize,
    ) -> Result<(), Fault> {
        let body = unframe(&wire::encode(message).unwrap());
        self.input(Input::Message { link, body })
    }

    /// Joins desk `tax` and hears the ticket.
    pub(crate) fn join(&mut self, link: LinkId) -> TicketId {
        self.ask(link).unwrap();
        let heard = self.citizen_hears(link);
        let queued = heard.iter().rev().find_map(|message| match message {
            citizen::FromRelay::Queued { ticket, .. } => Some(*ticket),
            _ => None,
        });
        queued.unwrap_or_else(|| panic!("not queued: {heard:?}"))
    }

    pub(crate) fn ask(&mut self, link: LinkId) -> Result<(), Fault> {
        self.ask_at(link, "tax")
    }

    pub(crate) fn ask_at(&mut self, link: LinkId, at: &str) -> Result<(), Fault> {
        let join = citizen::ToRelay::Join {
            desk: desk(at),
            challenge: Challenge::from_bytes([5; 16]),
            ticket: None,
            work: None,
        };
        self.send(link, &join)
    }

    /// A citizen with a ticket at desk `tax`.
    pub(crate) fn waits(&mut self, number: u8) -> (LinkId, TicketId) {
        let link = self.citizen(number);
        let ticket = self.join(link);
        (link, ticket)
    }

    /// An officer with a good credential, available at desk `tax`.
    pub(crate) fn attends(&mut self, key: &Key) -> LinkId {
        let link = self.up(key.peer_id(), true);
        let credential = self.agency.credential(key);
        self.attend(link, credential, None).unwrap();
        link
    }

    pub(crate) fn attend(
        &mut self,
        link: LinkId,
        credential: Vec<u8>,
        engaged: Option<TicketId>,
    ) -> Result<(), Fault> {
        let attend = officer::ToRelay::Attend {
            desk: desk("tax"),
            credential,
            status: officer::Status::Available,
            engaged,
        };
        self.send(link, &attend)
    }

    pub(crate) fn citizen_hears(&mut self, link: LinkId) -> Vec<citizen::FromRelay> {
        let inbox = self.inboxes.remove(&link).unwrap_or_default();
        inbox
            .iter()
            .map(|bytes| wire::decode(&unframe(bytes)).unwrap())
            .filter(|message| *message != citizen::FromRelay::Pong { n: BEAT })
            .collect()
    }

    pub(crate) fn officer_hears(&mut self, link: LinkId) -> Vec<officer::FromRelay> {
        let inbox = self.inboxes.remove(&link).unwrap_or_default();
        inbox
            .iter()
            .map(|bytes| wire::decode(&unframe(bytes)).unwrap())
            .filter(|message| *message != officer::FromRelay::Pong { n: BEAT })
            .collect()
    }

    /// The offer that an officer heard last.
    pub(crate) fn offer(&mut self, link: LinkId) -> Option<(TicketId, u32)> {
        let heard = self.officer_hears(link);
        heard.iter().rev().find_map(|message| match message {
            officer::FromRelay::Offer {
                ticket, attempt, ..
            } => Some((*ticket, *attempt)),
            _ => None,
        })
    }

    pub(crate) fn accept(&mut self, link: LinkId, (ticket, attempt): (TicketId, u32)) {
        let accepted = officer::ToRelay::Accepted { ticket, attempt };
        self.send(link, &accepted).unwrap();
    }

    /// Time passes, deadline by deadline; every live stream says every five seconds that it is there.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        while self.now.utc < end.utc {
            let beat = end.utc.since(self.now.utc).min(Duration::from_secs(5));
            self.silence(beat);
            self.input(Input::Tick).unwrap();
            self.ping_all();
        }
    }

    fn ping_all(&mut self) {
        for (link, officer) in self.roles.clone() {
            if self.closed.contains(&link) {
                continue;
            }
            let said = if officer {
                self.send(link, &officer::ToRelay::Ping { n: BEAT })
            } else {
                self.send(link, &citizen::ToRelay::Ping { n: BEAT })
            };
            assert_eq!(said, Ok(()));
        }
    }

    /// Time passes in silence, deadline by deadline.
    pub(crate) fn silence(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        loop {
            let due = match self.hub.poll_output() {
                Output::Wait(due, _) => due,
                other => panic!("left over: {other:?}"),
            };
            match due.filter(|due| *due <= end.mono) {
                Some(due) => {
                    let step = due.saturating_duration_since(self.now.mono);
                    self.now = self.now.after(step);
                    self.input(Input::Tick).unwrap();
                }
                None => {
                    self.now = end;
                    return;
                }
            }
        }
    }

    /// The people who wait at desk `tax`, by number.
    pub(crate) fn queue(&self) -> Vec<u8> {
        let queue = self.hub.waiting(&desk("tax"));
        queue.iter().map(|peer| peer.as_bytes()[0]).collect()
    }
}

/// The codes of a list of refusals.
pub(crate) fn code(result: Result<(), Fault>) -> Option<Code> {
    result.err().map(|fault| fault.code)
}
