//! Who may speak: one stream a node and protocol, how often, with which credential,
//! and how many tickets. Who may take a new place in a queue is in [`super::crowd`].

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use suora_protocol::documents::{
    Credential, Descriptor, DeskId, Signed, TicketId, Verified, chain,
};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::PeerId;
use suora_protocol::limits;
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::{self, citizen, officer};

use super::crowd::Prefix;
use super::deadlines::Due;
use super::{Hub, LinkId, Output};

/// Most tickets of one key, one a desk.
pub const TICKETS_MAX: usize = 8;

/// How often something may happen: on average and at once (GCRA, one number).
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace(Timestamp);

impl Pace {
    /// Whether it may happen once more; counts it if so. `burst` is at least one.
    pub fn take(&mut self, now: Timestamp, every: Duration, burst: u32) -> bool {
        if self.0.since(now) > every * burst.saturating_sub(1) {
            return false;
        }
        self.0 = self.0.max(now) + every;
        true
    }
}

/// One desk stream.
#[derive(Debug)]
pub struct Link {
    /// Who, as the transport proved.
    pub peer: PeerId,
    /// Whether it speaks as an officer.
    pub officer: bool,
    /// Where it comes from.
    pub prefix: Prefix,
    /// When it last spoke.
    pub heard: Timestamp,
    /// The tickets whose owner is reached here.
    pub tickets: BTreeSet<TicketId>,
    /// Where a citizen's media socket is reached, as its node told.
    pub addresses: Vec<String>,
    pace: Pace,
}

/// Verifies that a credential lets a node attend a desk.
pub fn officer(
    descriptor: &Verified<Descriptor>,
    peer: &PeerId,
    desk: &DeskId,
    credential: &[u8],
    now: Timestamp,
) -> Result<Verified<Credential>, Fault> {
    if credential.is_empty() {
        return Err(Fault::new(Code::NoCredential).with("an officer shows a credential"));
    }
    let signed: Signed<Credential> = Signed::from_bytes(credential.to_vec())?;
    chain::officer(&signed, descriptor, peer, desk, now)
}

impl Hub {
    /// A node opened a stream. An older one of the same key and protocol is closed: the newest wins.
    pub(super) fn up(
        &mut self,
        now: Now,
        id: LinkId,
        (peer, officer, prefix): (PeerId, bool, Prefix),
    ) {
        if let Some(old) = self.newest.insert((peer, officer), id) {
            let fault = Fault::new(Code::Busy).with("a newer stream of this key took over");
            self.refuse(old, officer, &fault);
            self.close(now, old);
        }
        let link = Link {
            peer,
            officer,
            prefix,
            heard: now.utc,
            tickets: BTreeSet::new(),
            addresses: Vec::new(),
            pace: Pace::default(),
        };
        self.links.insert(id, link);
        let due = now.utc + limits::LINK_SILENCE;
        self.deadlines.set(Due::Silence(id), due);
    }

    /// A stream ended: its owner's tickets wait out their grace, its officer is gone.
    pub(super) fn down(&mut self, now: Now, id: LinkId) {
        let Some(link) = self.links.remove(&id) else {
            return;
        };
        self.deadlines.clear(Due::Silence(id));
        if self.newest.get(&(link.peer, link.officer)) == Some(&id) {
            self.newest.remove(&(link.peer, link.officer));
        }
        if self
            .officers
            .get(&link.peer)
            .is_some_and(|officer| officer.link == Some(id))
        {
            self.officer_gone(now, link.peer);
        }
        for ticket in link.tickets {
            self.owner_gone(now, ticket);
        }
    }

    /// Ends a stream once what was said is out.
    pub(super) fn close(&mut self, now: Now, id: LinkId) {
        if self.links.contains_key(&id) {
            self.down(now, id);
            self.said.push(Output::Close(id));
        }
    }

    /// Reads one message and does what it asks; a refusal is said on the same stream.
    /// A stream that was closed has nothing to say any more.
    pub(super) fn message(&mut self, now: Now, id: LinkId, body: &[u8]) -> Result<(), Fault> {
        let Some(link) = self.links.get_mut(&id) else {
            return Ok(());
        };
        link.heard = now.utc;
        let (peer, officer) = (link.peer, link.officer);
        // What cannot be read ends the stream; what is read and refused does not.
        let every = Duration::from_secs(1) / limits::LINK_RATE;
        let (handled, ends) = if !link.pace.take(now.utc, every, limits::LINK_BURST) {
            (Err(Fault::new(Code::TooFast)), true)
        } else if officer {
            match wire::decode(body) {
                Ok(message) => (self.officer(now, id, peer, message), false),
                Err(fault) => (Err(fault), true),
            }
        } else {
            match wire::decode(body) {
                Ok(message) => (self.citizen(now, id, peer, message), false),
                Err(fault) => (Err(fault), true),
            }
        };
        if let Err(fault) = &handled {
            self.counts.refused += 1;
            self.refuse(id, officer, fault);
            if ends {
                self.close(now, id);
            }
        }
        handled
    }

    /// Says that a request is refused, and why.
    pub(super) fn refuse(&mut self, link: LinkId, officer: bool, fault: &Fault) {
        self.said.push(Output::Say(link, refusal(officer, fault)));
    }
}

/// A framed `refused`, whose message for people keeps its bound.
pub fn refusal(officer: bool, fault: &Fault) -> Bytes {
    let code = fault.code;
    let message = fault.detail.as_ref().map(|detail| {
        let end = detail.floor_char_boundary(limits::TEXT_MAX);
        detail.get(..end).unwrap_or_default().to_string()
    });
    let refused = if officer {
        wire::encode(&officer::FromRelay::Refused { code, message })
    } else {
        wire::encode(&citizen::FromRelay::Refused { code, message })
    };
    // a code and a short text always fit
    refused.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_lets_a_burst_through_and_then_one_at_a_time() {
        let (second, start) = (Duration::from_secs(1), Timestamp::from_secs(1_000));
        let mut pace = Pace::default();
        assert_eq!((0..100).filter(|_| pace.take(start, second, 8)).count(), 8);
        let later = (1..=100).map(|tenth| start + second / 10 * tenth);
        assert_eq!(later.filter(|now| pace.take(*now, second, 8)).count(), 10);
    }

    #[test]
    fn a_refusal_says_a_bounded_thing_whatever_the_fault_says() {
        let fault = Fault::new(Code::BadFile).with("ä".repeat(10_000));
        for officer in [false, true] {
            assert!(refusal(officer, &fault).len() < limits::TEXT_MAX + 64);
        }
    }
}
