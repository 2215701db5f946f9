//! Every deadline of the hub in one table: what is due next is read in one look, and
//! what is due costs as much as there is of it, however many wait.

use std::collections::{BTreeMap, BTreeSet};

use suora_protocol::documents::{DeskId, TicketId};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::PeerId;
use suora_protocol::limits;
use suora_protocol::time::{Now, Timestamp};

use super::ticket::{Pause, State};
use super::{Hub, LinkId};

/// What is due.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Due {
    /// The officer should have answered.
    Offer(TicketId),
    /// The owner should be back.
    Grace(TicketId),
    /// The ticket may be offered again.
    Rest(TicketId),
    /// The officer may be asked again.
    OfficerRest(PeerId),
    /// The officer in consultation should be back.
    OfficerGrace(PeerId),
    /// The officer's node gets the next grant.
    Grant(PeerId),
    /// The credential ends.
    Credential(PeerId),
    /// A kept credential has ended so long ago that no clock can still be in doubt.
    Enrolled(PeerId),
    /// The stream should have spoken.
    Silence(LinkId),
    /// The next updates for those who wait.
    Sweep(DeskId),
}

impl Due {
    /// For whoever reads a log of what the hub waits for.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Offer(_) => "an offer's answer",
            Self::Grace(_) => "a citizen to come back",
            Self::Rest(_) => "a ticket that rests",
            Self::OfficerRest(_) => "an officer who rests",
            Self::OfficerGrace(_) => "an officer to come back",
            Self::Grant(_) => "a grant to be renewed",
            Self::Credential(_) => "a credential's end",
            Self::Enrolled(_) => "a kept credential to be forgotten",
            Self::Silence(_) => "a silent link",
            Self::Sweep(_) => "the next updates",
        }
    }
}

/// The table: one time for each thing that may be due.
#[derive(Debug, Default)]
pub struct Deadlines {
    order: BTreeSet<(Timestamp, Due)>,
    times: BTreeMap<Due, Timestamp>,
}

impl Deadlines {
    /// Sets, or moves, the time of one thing.
    pub fn set(&mut self, due: Due, at: Timestamp) {
        if let Some(old) = self.times.insert(due.clone(), at) {
            self.order.remove(&(old, due.clone()));
        }
        self.order.insert((at, due));
    }

    /// This is no longer due.
    pub fn clear(&mut self, due: Due) {
        if let Some(old) = self.times.remove(&due) {
            self.order.remove(&(old, due));
        }
    }

    /// What comes next, and when.
    pub fn next(&self) -> Option<(Timestamp, &Due)> {
        self.order.first().map(|(at, due)| (*at, due))
    }

    /// Takes one thing that is due now.
    pub fn take(&mut self, now: Timestamp) -> Option<Due> {
        if self.next()?.0 > now {
            return None;
        }
        let (_, due) = self.order.pop_first()?;
        self.times.remove(&due);
        Some(due)
    }
}

impl Hub {
    /// Does all that is due.
    pub(super) fn expire(&mut self, now: Now) {
        while let Some(due) = self.deadlines.take(now.utc) {
            match due {
                Due::Offer(id) => {
                    self.counts.offers_expired += 1;
                    self.wait_again(now, id, Code::OfferExpired);
                }
                Due::Grace(id) => self.grace_over(id),
                Due::Rest(id) => {
                    if let Some(ticket) = self.tickets.get_mut(&id) {
                        ticket.pause = Pause::None;
                        self.settle_ticket(id);
                    }
                }
                Due::OfficerRest(peer) => {
                    if let Some(officer) = self.officers.get_mut(&peer) {
                        officer.rests = false;
                        self.settle_officer(peer);
                    }
                }
                Due::OfficerGrace(peer) => self.officer_lost(now, peer),
                Due::Grant(peer) => self.grant_due(now, peer),
                Due::Credential(peer) => {
                    let fault = Fault::new(Code::Expired).with("the credential has ended");
                    self.dismiss(now, peer, &fault);
                }
                Due::Enrolled(peer) => self.expel(peer),
                Due::Silence(link) => self.silence_due(now, link),
                Due::Sweep(desk) => self.sweep_due(now, &desk),
            }
        }
    }

    /// The owner did not come back. A consultation whose officer is still there goes on: its end is the officer's to say.
    fn grace_over(&mut self, id: TicketId) {
        let served = self.tickets.get(&id).is_some_and(
            |ticket| matches!(ticket.state, State::Engaged { officer } if self.officers.contains_key(&officer)),
        );
        if !served {
            self.remove(id);
        }
    }

    /// The officer is not coming back to the consultation; perhaps its citizen is away for as long.
    pub(super) fn officer_lost(&mut self, now: Now, peer: PeerId) {
        self.forget_officer(peer);
        let Some(id) = self.engaged.get(&peer).copied() else {
            return;
        };
        let gone = self.tickets.get(&id).and_then(|ticket| ticket.gone);
        if gone.is_some_and(|gone| gone + self.grace(id) <= now.utc) {
            self.remove(id);
        }
    }

    /// Speaking moves no deadline, so that a message costs nothing here: who spoke since gets a new one now.
    fn silence_due(&mut self, now: Now, id: LinkId) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        let due = link.heard + limits::LINK_SILENCE;
        if due > now.utc {
            self.deadlines.set(Due::Silence(id), due);
        } else {
            self.close(now, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_a_thing_and_the_earliest_first() {
        let at = Timestamp::from_secs;
        let mut table = Deadlines::default();
        table.set(Due::Silence(LinkId(1)), at(20));
        table.set(Due::Silence(LinkId(2)), at(10));
        table.set(Due::Silence(LinkId(1)), at(5));
        table.set(Due::Silence(LinkId(3)), at(7));
        table.clear(Due::Silence(LinkId(3)));
        assert_eq!(table.next().map(|(at, _)| at), Some(at(5)));
        assert_eq!(table.take(at(4)), None);
        assert_eq!(table.take(at(10)), Some(Due::Silence(LinkId(1))));
        assert_eq!(table.take(at(10)), Some(Due::Silence(LinkId(2))));
        assert_eq!(table.take(at(99)), None);
        assert_eq!(table.next(), None);
    }
}
