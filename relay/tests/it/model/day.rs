//! Random days: what four citizens, three officers, time and a slow store do.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use suora_protocol::documents::{Challenge, TicketId};
use suora_protocol::fault::Code;
use suora_protocol::wire::{self, Framer, citizen, officer};
use suora_relay::Faults;
use suora_relay::hub::change::{Change, Snapshot};
use suora_relay::hub::{Hub, Input, LinkId, Output};

use super::log::{Event, Heard};
use crate::agency::{Agency, desk, officer_key};
use crate::stage::{base, citizen_key, prefix};

const DESKS: [&str; 2] = ["tax", "job"];
pub(crate) const CITIZENS: u8 = 5;
pub(crate) const OFFICERS: u8 = 3;

/// What somebody does.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Link(u8),
    Unlink(u8),
    Join(u8, usize),
    Leave(u8),
    CitizenDone(u8),
    /// The session came to nothing.
    Refuse(u8),
    OfficerLink(u8),
    OfficerUnlink(u8),
    /// Whether the officer's node still knows its consultation.
    Attend(u8, usize, bool),
    Status(u8, bool),
    Accept(u8),
    Decline(u8),
    /// The officer's node could not.
    Trouble(u8),
    OfficerDone(u8),
    Pass(u16),
    Restart,
    /// The store answers only when asked to, or at once.
    Lag(bool),
    Answer,
}

pub(crate) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let c = || 1..=CITIZENS;
    let o = || 1..=OFFICERS;
    let op = prop_oneof![
        4 => c().prop_map(Op::Link),
        1 => c().prop_map(Op::Unlink),
        8 => (c(), 0..2usize).prop_map(|(c, d)| Op::Join(c, d / 2 + usize::from(d == 1 && c > 3))),
        1 => c().prop_map(Op::Leave),
        1 => c().prop_map(Op::CitizenDone),
        1 => c().prop_map(Op::Refuse),
        3 => o().prop_map(Op::OfficerLink),
        1 => o().prop_map(Op::OfficerUnlink),
        6 => (o(), 0..4usize, any::<bool>()).prop_map(|(o, d, knows)| Op::Attend(o, d / 3, knows)),
        2 => (o(), any::<bool>()).prop_map(|(o, free)| Op::Status(o, free)),
        4 => o().prop_map(Op::Accept),
        2 => o().prop_map(Op::Decline),
        1 => o().prop_map(Op::Trouble),
        3 => o().prop_map(Op::OfficerDone),
        3 => prop_oneof![Just(1u16), 1..12u16, 25..35u16, 110..130u16].prop_map(Op::Pass),
        1 => Just(Op::Restart),
        1 => any::<bool>().prop_map(Op::Lag),
        2 => Just(Op::Answer),
    ];
    proptest::collection::vec(op, 20..160)
}

/// A defect, for the judge to notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    Nothing,
    /// The store says that it has what it has not yet.
    StoreAnswersEarly,
    /// The store drops every fourth change.
    StoreForgets,
}

#[derive(Default)]
struct Citizen {
    link: Option<LinkId>,
    ticket: Option<TicketId>,
    attempt: u32,
}

#[derive(Default)]
struct Officer {
    link: Option<LinkId>,
    offer: Option<(TicketId, u32)>,
    engaged: Option<TicketId>,
}

struct Day {
    agency: Agency,
    hub: Hub,
    now: suora_protocol::time::Now,
    store: Snapshot,
    pending: VecDeque<(u64, Vec<Change>)>,
    lags: bool,
    broken: Broken,
    changes: usize,
    citizens: BTreeMap<u8, Citizen>,
    officers: BTreeMap<u8, Officer>,
    links: BTreeMap<LinkId, (u8, bool)>,
    next: u64,
    /// Processes so far: each draws its own numbers.
    lives: u8,
    log: Vec<Event>,
}

/// Lives through a day. At its end everybody comes back, officers serve all who wait, and two quiet seconds pass.
pub(crate) fn run(ops: &[Op], broken: Broken) -> Vec<Event> {
    let agency = Agency::new();
    let now = base();
    let descriptor = agency.descriptor();
    let hub = Hub::restore(
        descriptor,
        Snapshot::default(),
        [1; 32],
        now,
        Faults::default(),
    );
    let mut day = Day {
        agency,
        hub,
        now,
        store: Snapshot::default(),
        pending: VecDeque::new(),
        lags: false,
        broken,
        changes: 0,
        citizens: (1..=CITIZENS).map(|c| (c, Citizen::default())).collect(),
        officers: (1..=OFFICERS).map(|o| (o, Officer::default())).collect(),
        links: BTreeMap::new(),
        next: 0,
        lives: 1,
        log: Vec::new(),
    };
    day.log.push(Event::Time(now.utc));
    for op in ops {
        day.step(op);
        // no two things happen at once
        day.later(Duration::from_millis(10));
    }
    day.evening();
    day.log
}

impl Day {
    fn later(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
        self.log.push(Event::Time(self.now.utc));
        self.input(Input::Tick);
    }

    fn input(&mut self, input: Input) {
        // refusals are part of a day; the judge knows which words count
        let _ = self.hub.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.hub.poll_output() {
                Output::Commit(id, changes) => {
                    self.log.push(Event::Decided(changes.clone()));
                    self.pending.push_back((id, changes));
                    if self.broken == Broken::StoreAnswersEarly {
                        self.hub
                            .handle_input(self.now, Input::Committed(id))
                            .unwrap();
                    } else if !self.lags {
                        self.answer();
                    }
                }
                Output::Say(link, bytes) => self.hear(link, &bytes),
                Output::Close(link) => {
                    if let Some((who, officer)) = self.links.remove(&link) {
                        self.forget(link, who, officer);
                    }
                }
                Output::Answer(..) => unreachable!("no administrator comes"),
                Output::Wait(..) => break,
            }
        }
        // one that answered early writes in the end
        if self.broken == Broken::StoreAnswersEarly && !self.lags {
            while !self.pending.is_empty() {
                self.answer();
            }
        }
    }

    fn answer(&mut self) {
        let Some((id, changes)) = self.pending.pop_front() else {
            return;
        };
        for change in changes {
            self.changes += 1;
            if self.broken != Broken::StoreForgets || !self.changes.is_multiple_of(4) {
                self.store.apply(&[change]);
            }
        }
        self.log.push(Event::Stands);
        self.hub
            .handle_input(self.now, Input::Committed(id))
            .unwrap();
        if self.broken != Broken::StoreAnswersEarly {
            self.drain();
        }
    }

    fn hear(&mut self, link: LinkId, bytes: &bytes::Bytes) {
        let mut framer = Framer::new();
        framer.push(bytes);
        let body = framer.next_message().unwrap().unwrap();
        let Some((who, is_officer)) = self.links.get(&link).copied() else {
            // nobody reads there any more; that it was said counts all the same
            let citizen = wire::decode(&body).map(Heard::Citizen);
            let heard = match citizen {
                Ok(Heard::Citizen(citizen::FromRelay::Unknown)) | Err(_) => {
                    Heard::Officer(wire::decode(&body).unwrap())
                }
                Ok(heard) => heard,
            };
            self.log.push(Event::Heard(link, heard));
            return;
        };
        if is_officer {
            let message: officer::FromRelay = wire::decode(&body).unwrap();
            let officer = self.officers.get_mut(&who).unwrap();
            match &message {
                officer::FromRelay::Offer {
                    ticket, attempt, ..
                } => {
                    officer.offer = Some((*ticket, *attempt));
                }
                officer::FromRelay::Withdrawn { ticket, .. }
                    if officer.offer.is_some_and(|(offer, _)| offer == *ticket) =>
                {
                    officer.offer = None;
                }
                _ => {}
            }
            self.log.push(Event::Heard(link, Heard::Officer(message)));
        } else {
            let message: citizen::FromRelay = wire::decode(&body).unwrap();
            let citizen = self.citizens.get_mut(&who).unwrap();
            match &message {
                citizen::FromRelay::Queued { ticket, .. } => citizen.ticket = Some(*ticket),
                citizen::FromRelay::Matched { attempt, .. } => citizen.attempt = *attempt,
                citizen::FromRelay::Ended { .. } => citizen.ticket = None,
                _ => {}
            }
            self.log.push(Event::Heard(link, Heard::Citizen(message)));
        }
    }

    fn forget(&mut self, link: LinkId, who: u8, officer: bool) {
        if officer {
            let officer = self.officers.get_mut(&who).unwrap();
            if officer.link == Some(link) {
                officer.link = None;
                officer.offer = None;
            }
        } else if let Some(citizen) = self.citizens.get_mut(&who)
            && citizen.link == Some(link)
        {
            citizen.link = None;
        }
    }

    fn up(&mut self, who: u8, officer: bool) {
        self.next += 1;
        let link = LinkId(self.next);
        let peer = if officer {
            officer_key(who).peer_id()
        } else {
            citizen_key(who)
        };
        let old = if officer {
            self.officers.get_mut(&who).unwrap().offer = None;
            self.officers.get_mut(&who).unwrap().link.replace(link)
        } else {
            self.citizens.get_mut(&who).unwrap().link.replace(link)
        };
        if let Some(old) = old {
            self.links.remove(&old);
        }
        self.links.insert(link, (who, officer));
        self.log.push(Event::Up(link, peer, officer));
        self.input(Input::Up {
            link,
            peer,
            officer,
            prefix: prefix(&peer),
        });
    }

    fn down(&mut self, link: Option<LinkId>) {
        if let Some(link) = link
            && let Some((who, officer)) = self.links.remove(&link)
        {
            self.forget(link, who, officer);
            self.log.push(Event::Down(link));
            self.input(Input::Down(link));
        }
    }

    fn send(&mut self, link: LinkId, message: &impl serde::Serialize, event: Option<Event>) {
        let mut framer = Framer::new();
        framer.push(&wire::encode(message).unwrap());
        let body = framer.next_message().unwrap().unwrap();
        self.log.extend(event);
        self.input(Input::Message { link, body });
    }

    fn citizen_says(&mut self, who: u8, message: citizen::ToRelay) {
        if let Some(link) = self.citizens[&who].link {
            let event = Event::Citizen(link, message.clone());
            self.send(link, &message, Some(event));
        }
    }

    fn officer_says(&mut self, who: u8, message: officer::ToRelay) {
        if let Some(link) = self.officers[&who].link {
            let event = Event::Officer(link, message.clone());
            self.send(link, &message, Some(event));
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Link(who) => self.up(who, false),
            Op::Unlink(who) => self.down(self.citizens[&who].link),
            Op::Join(who, at) => {
                let join = citizen::ToRelay::Join {
                    desk: desk(DESKS[at]),
                    challenge: Challenge::from_bytes([who; 16]),
                    ticket: self.citizens[&who].ticket,
                    work: None,
                };
                self.citizen_says(who, join);
            }
            Op::Leave(who) => {
                if let Some(ticket) = self.citizens[&who].ticket {
                    self.citizen_says(who, citizen::ToRelay::Leave { ticket });
                }
            }
            Op::CitizenDone(who) => {
                if let Some(ticket) = self.citizens[&who].ticket {
                    let code = Code::Ended;
                    self.citizen_says(who, citizen::ToRelay::Done { ticket, code });
                }
            }
            Op::Refuse(who) => {
                if let Some(ticket) = self.citizens[&who].ticket {
                    let refused = citizen::ToRelay::Refused {
                        ticket,
                        attempt: self.citizens[&who].attempt,
                        code: Code::Timeout,
                    };
                    self.citizen_says(who, refused);
                }
            }
            Op::OfficerLink(who) => self.up(who, true),
            Op::OfficerUnlink(who) => self.down(self.officers[&who].link),
            Op::Attend(who, at, knows) => {
                let officer = self.officers.get_mut(&who).unwrap();
                if !knows {
                    officer.engaged = None;
                }
                let attend = officer::ToRelay::Attend {
                    desk: desk(DESKS[at]),
                    credential: self.agency.credential(&officer_key(who)),
                    status: officer::Status::Available,
                    engaged: officer.engaged,
                };
                self.officer_says(who, attend);
            }
            Op::Status(who, free) => {
                let status = if free {
                    officer::Status::Available
                } else {
                    officer::Status::Break
                };
                self.officer_says(who, officer::ToRelay::Status { status });
            }
            Op::Accept(who) => {
                if let Some((ticket, attempt)) = self.officers.get_mut(&who).unwrap().offer.take() {
                    self.officers.get_mut(&who).unwrap().engaged = Some(ticket);
                    self.officer_says(who, officer::ToRelay::Accepted { ticket, attempt });
                }
            }
            Op::Decline(who) | Op::Trouble(who) => {
                let code = if matches!(op, Op::Decline(_)) {
                    Code::Declined
                } else {
                    Code::Busy
                };
                if let Some((ticket, attempt)) = self.officers.get_mut(&who).unwrap().offer.take() {
                    let declined = officer::ToRelay::Declined {
                        ticket,
                        attempt,
                        code,
                    };
                    self.officer_says(who, declined);
                }
            }
            Op::OfficerDone(who) => {
                if let Some(ticket) = self.officers.get_mut(&who).unwrap().engaged.take() {
                    let code = Code::Ended;
                    self.officer_says(who, officer::ToRelay::Done { ticket, code });
                }
            }
            Op::Pass(seconds) => self.pass(seconds),
            Op::Restart => self.restart(),
            Op::Lag(lags) => {
                self.lags = lags;
                while !lags && !self.pending.is_empty() {
                    self.answer();
                }
            }
            Op::Answer => self.answer(),
        }
        for at in DESKS {
            let queue = self.hub.waiting(&desk(at));
            self.log.push(Event::Queue(desk(at), queue));
        }
    }

    /// Seconds pass, one by one; every stream says now and then that it is there.
    fn pass(&mut self, seconds: u16) {
        for second in 0..seconds {
            self.later(Duration::from_secs(1));
            if second % 5 == 0 {
                for (link, (_, officer)) in self.links.clone() {
                    if officer {
                        self.send(link, &officer::ToRelay::Ping { n: 0 }, None);
                    } else {
                        self.send(link, &citizen::ToRelay::Ping { n: 0 }, None);
                    }
                }
            }
        }
    }

    fn restart(&mut self) {
        self.pending.clear();
        self.links.clear();
        for citizen in self.citizens.values_mut() {
            citizen.link = None;
        }
        for officer in self.officers.values_mut() {
            officer.link = None;
            officer.offer = None;
        }
        self.log.push(Event::Restart);
        let descriptor = self.agency.descriptor();
        self.lives += 1;
        let seed = [self.lives; 32];
        let store = self.store.clone();
        self.hub = Hub::restore(descriptor, store, seed, self.now, Faults::default());
        self.drain();
    }

    /// Everybody comes back, and officers serve until nobody waits.
    fn evening(&mut self) {
        self.step(&Op::Lag(false));
        for who in 1..=CITIZENS {
            self.step(&Op::Link(who));
            for (at, id) in DESKS.into_iter().enumerate() {
                let waits = self.hub.waiting(&desk(id)).contains(&citizen_key(who));
                if waits {
                    self.step(&Op::Join(who, at));
                }
            }
        }
        for round in 0..6 {
            for who in 1..=OFFICERS {
                if round % 2 == 0 {
                    self.step(&Op::OfficerLink(who));
                    self.step(&Op::Attend(who, usize::from(round % 4 == 2), true));
                }
                for _ in 0..8 {
                    self.step(&Op::OfficerDone(who));
                    self.step(&Op::Accept(who));
                    self.later(Duration::from_millis(10));
                }
                self.step(&Op::OfficerDone(who));
            }
            self.step(&Op::Pass(11));
        }
        for at in DESKS {
            let queue = self.hub.waiting(&desk(at));
            self.log.push(Event::Queue(desk(at), queue));
        }
    }
}
