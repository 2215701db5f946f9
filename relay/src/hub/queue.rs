//! A desk's line: who waits, in which order, who of them can be offered, who serves
//! them, and what each was last told about it.
//!
//! People who wait want to know their position, and a long queue moves often. So
//! telling is bounded: the first `HEAD` hear of a move at once, everybody else in a
//! sweep that begins at most once a second and tells at most `STEP` people a step.

use std::collections::BTreeSet;
use std::time::Duration;

use suora_protocol::documents::{DeskId, TicketId};
use suora_protocol::identity::PeerId;
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::{citizen, officer};

use super::Hub;
use super::deadlines::Due;

/// A place in a queue: the order of joining, and whose it is.
pub type Place = (u64, TicketId);

/// The first people of a queue hear of a move at once.
const HEAD: usize = 10;
/// People, and officers, that one step of a sweep tells.
const STEP: usize = 200;
/// Between two steps of a sweep: no desk says more than `STEP` / `PAUSE` updates a second.
const PAUSE: Duration = Duration::from_millis(200);
/// Between the beginnings of two sweeps.
const INTERVAL: Duration = Duration::from_secs(1);
/// Updates at once that one ticket may hear beyond one a second.
const BURST: u32 = 8;

/// Places are kept in runs of at most twice this many.
const RUN: usize = 128;

/// Places in order. A queue has a bound (`limits::QUEUE_MAX`), so it is a sorted list
/// cut into runs: a position is a sum over at most 160 lengths and a binary search,
/// which a balanced tree with counts does not beat at this size.
#[derive(Debug, Default)]
pub struct Queue {
    runs: Vec<Vec<Place>>,
    len: usize,
}

impl Queue {
    /// The run that holds a place, or would.
    fn run(&self, place: Place) -> usize {
        let after = |run: &Vec<Place>| run.first().is_some_and(|first| *first <= place);
        self.runs.partition_point(after).saturating_sub(1)
    }

    /// Takes a place; false when it is taken already.
    pub fn insert(&mut self, place: Place) -> bool {
        let at = self.run(place);
        let Some(run) = self.runs.get_mut(at) else {
            self.runs.push(vec![place]);
            self.len += 1;
            return true;
        };
        let Err(index) = run.binary_search(&place) else {
            return false;
        };
        run.insert(index, place);
        self.len += 1;
        if run.len() > 2 * RUN {
            let tail = run.split_off(RUN);
            self.runs.insert(at + 1, tail);
        }
        true
    }

    /// Gives a place up; false when nobody had it.
    pub fn remove(&mut self, place: Place) -> bool {
        let at = self.run(place);
        let Some(run) = self.runs.get_mut(at) else {
            return false;
        };
        let Ok(index) = run.binary_search(&place) else {
            return false;
        };
        run.remove(index);
        self.len -= 1;
        // Neighbours that fit together become one, so that there are never more than two runs for every `RUN` places.
        let len = run.len();
        let fits = |other: Option<&Vec<Place>>| other.is_some_and(|run| run.len() + len <= RUN);
        if len == 0 {
            self.runs.remove(at);
        } else if fits(self.runs.get(at + 1)) {
            self.join(at);
        } else if at > 0 && fits(self.runs.get(at - 1)) {
            self.join(at - 1);
        }
        true
    }

    fn join(&mut self, at: usize) {
        let tail = self.runs.remove(at + 1);
        if let Some(run) = self.runs.get_mut(at) {
            run.extend(tail);
        }
    }

    /// How many are ahead of a place.
    pub fn ahead(&self, place: Place) -> u32 {
        let at = self.run(place);
        let before: usize = self.runs.iter().take(at).map(Vec::len).sum();
        let within = self.runs.get(at).map_or(0, |run| {
            run.binary_search(&place).unwrap_or_else(|index| index)
        });
        u32::try_from(before + within).unwrap_or(u32::MAX)
    }

    /// Those at and after a place, in order.
    pub fn from(&self, place: Place) -> impl Iterator<Item = Place> + '_ {
        let at = self.run(place);
        let runs = self.runs.iter().skip(at).flatten().copied();
        runs.skip_while(move |other| *other < place)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = Place> + '_ {
        self.runs.iter().flatten().copied()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A round of updates through a line.
#[derive(Debug, Default)]
struct Sweep {
    /// Something moved that the running sweep, if any, may have passed already.
    moved: bool,
    started: Option<Timestamp>,
    /// Where the running sweep goes on: among those who wait, then among officers.
    waiting: Option<Place>,
    officers: Option<PeerId>,
}

impl Sweep {
    const fn runs(&self) -> bool {
        self.waiting.is_some() || self.officers.is_some()
    }
}

/// All that the hub knows of one desk.
#[derive(Debug, Default)]
pub struct Line {
    /// Who waits.
    pub queue: Queue,
    /// Who of them can be offered: with a link, and not resting.
    pub ready: BTreeSet<Place>,
    /// Who attends, or was in consultation when the link fell.
    pub officers: BTreeSet<PeerId>,
    /// Who can take an offer, the longest free first.
    pub free: BTreeSet<(Timestamp, PeerId)>,
    sweep: Sweep,
}

impl Line {
    /// How many wait.
    pub fn waiting(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }
}

/// The first place of all.
const FIRST: Place = (0, TicketId::from_bytes([0; 16]));

impl Hub {
    /// People ahead of a ticket.
    pub(super) fn position(&self, id: TicketId) -> u32 {
        let place = self.tickets.get(&id).map(|ticket| {
            let line = self.lines.get(&ticket.row.desk);
            line.map_or(0, |line| line.queue.ahead((ticket.row.order, id)))
        });
        place.unwrap_or(0)
    }

    /// Says what moved in this input.
    pub(super) fn tell_moves(&mut self, now: Now) {
        for desk in std::mem::take(&mut self.moved) {
            let Some(line) = self.lines.get_mut(&desk) else {
                continue;
            };
            line.sweep.moved = true;
            let head: Vec<TicketId> = line.queue.iter().take(HEAD).map(|(_, id)| id).collect();
            for (position, id) in (0..).zip(head) {
                self.tell_position(now.utc, id, position, true);
            }
            self.sweep(now, &desk);
        }
    }

    /// Begins a sweep or takes its next step, if it is time to.
    pub(super) fn sweep(&mut self, now: Now, desk: &DeskId) {
        let Some(line) = self.lines.get_mut(desk) else {
            return;
        };
        let sweep = &mut line.sweep;
        if sweep.runs() {
            return;
        }
        if !sweep.moved {
            return;
        }
        let next = sweep.started.map(|started| started + INTERVAL);
        if let Some(next) = next.filter(|next| *next > now.utc) {
            self.deadlines.set(Due::Sweep(desk.clone()), next);
            return;
        }
        sweep.moved = false;
        sweep.started = Some(now.utc);
        sweep.waiting = Some(FIRST);
        sweep.officers = Some(PeerId::from_bytes([0; 32]));
        self.sweep_step(now, desk);
    }

    /// The deadline of a sweep: its next step, or the next sweep.
    pub(super) fn sweep_due(&mut self, now: Now, desk: &DeskId) {
        if self.lines.get(desk).is_some_and(|line| line.sweep.runs()) {
            self.sweep_step(now, desk);
        } else {
            self.sweep(now, desk);
        }
    }

    fn sweep_step(&mut self, now: Now, desk: &DeskId) {
        let Some(line) = self.lines.get_mut(desk) else {
            return;
        };
        let waiting = line.waiting();
        if let Some(from) = line.sweep.waiting {
            let mut ids: Vec<Place> = line.queue.from(from).take(STEP + 1).collect();
            line.sweep.waiting = ids.get(STEP).copied();
            ids.truncate(STEP);
            let first = ids.first().map_or(0, |place| line.queue.ahead(*place));
            for (position, (_, id)) in (first..).zip(ids) {
                self.tell_position(now.utc, id, position, false);
            }
        }
        let Some(line) = self.lines.get_mut(desk) else {
            return;
        };
        if let Some(from) = line.sweep.officers {
            let mut peers: Vec<PeerId> = line
                .officers
                .range(from..)
                .take(STEP + 1)
                .copied()
                .collect();
            line.sweep.officers = peers.get(STEP).copied();
            peers.truncate(STEP);
            for peer in peers {
                self.tell_waiting(peer, desk, waiting);
            }
        }
        let Some(line) = self.lines.get_mut(desk) else {
            return;
        };
        if line.sweep.runs() {
            self.deadlines
                .set(Due::Sweep(desk.clone()), now.utc + PAUSE);
        } else {
            self.sweep(now, desk);
        }
    }

    /// `paced`: outside of a sweep, which has its own pace.
    fn tell_position(&mut self, now: Timestamp, id: TicketId, position: u32, paced: bool) {
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return;
        };
        if ticket.said == Some(position) || ticket.link.is_none() {
            return;
        }
        if paced && !ticket.pace.take(now, INTERVAL, BURST) {
            return;
        }
        ticket.said = Some(position);
        let link = ticket.link;
        let ticket = id;
        self.say(link, &citizen::FromRelay::Position { ticket, position });
    }

    fn tell_waiting(&mut self, peer: PeerId, desk: &DeskId, waiting: u32) {
        let Some(officer) = self.officers.get_mut(&peer) else {
            return;
        };
        if officer.told == waiting {
            return;
        }
        officer.told = waiting;
        let link = officer.link;
        let desk = desk.clone();
        self.say(link, &officer::FromRelay::Waiting { desk, waiting });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(order: u64) -> Place {
        (order, TicketId::from_bytes([0; 16]))
    }

    proptest! {
        #[test]
        fn a_queue_is_a_sorted_set_with_ranks(steps in proptest::collection::vec((any::<bool>(), 0..900u64), 0..3_000)) {
            let mut queue = Queue::default();
            let mut model = BTreeSet::new();
            for (insert, order) in steps {
                if insert {
                    prop_assert_eq!(queue.insert(place(order)), model.insert(place(order)));
                } else {
                    prop_assert_eq!(queue.remove(place(order)), model.remove(&place(order)));
                }
                let ahead = model.range(..place(order)).count();
                prop_assert_eq!(queue.ahead(place(order)) as usize, ahead);
                prop_assert_eq!(queue.len(), model.len());
            }
            prop_assert!(queue.iter().eq(model.iter().copied()));
            prop_assert!(queue.from(place(450)).eq(model.range(place(450)..).copied()));
            prop_assert!(queue.runs.len() <= 2 * queue.len() / RUN + 1);
        }
    }
}
