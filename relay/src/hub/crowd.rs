//! Who may take a new place in a queue (`spec/desk.md`, section 5). Citizens' keys are free, so
//! a crowd of them is counted by where it comes from: a prefix has a bounded number of tickets
//! at a desk, from some on the next ones are worked for, and where very many wait everybody's
//! are. Who has a ticket already is never asked: a crowd can move nobody who waits.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use suora_protocol::documents::DeskId;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{Draw, PeerId};
use suora_protocol::limits;
use suora_protocol::time::Timestamp;
use suora_protocol::wire::work::{Puzzle, Slot, Work};

/// Where a stream comes from: /24 of IPv4, /56 of IPv6. It is in no store, log or figure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix([u8; 8]);

impl Prefix {
    /// Of what has no address.
    pub const NONE: Self = Self([0; 8]);

    /// The prefix of an address; one that is IPv4 in IPv6's clothes counts as IPv4.
    pub fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                [4, a, b, c, 0, 0, 0, 0]
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, ..] = ip.octets();
                [6, a, b, c, d, e, f, g]
            }
        })
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[prefix]")
    }
}

/// From when on tickets have to be worked for, and when there are no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Tickets of one prefix at one desk.
    pub prefix: usize,
    /// Tickets of one prefix at one desk that cost no work.
    pub prefix_free: usize,
    /// People who may wait at a desk before everybody has to work.
    pub queue_free: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            prefix: limits::PREFIX_TICKETS_MAX,
            prefix_free: limits::WORK_PREFIX,
            queue_free: limits::WORK_QUEUE,
        }
    }
}

/// The tickets of one prefix at one desk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Count {
    live: usize,
    /// Ended in this slot or the last: leaving makes no room for a while.
    ended: [usize; 2],
}

impl Count {
    const fn all(self) -> usize {
        self.live + self.ended[0] + self.ended[1]
    }
}

/// Somebody who wants a new ticket.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// At this desk.
    pub desk: &'a DeskId,
    /// Under this key.
    pub peer: PeerId,
    /// From here.
    pub prefix: Prefix,
    /// The work that came with the join.
    pub work: Option<Work>,
}

/// What is answered to who wants a new ticket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Draw it.
    Admitted,
    /// Only after this work.
    Asked(Slot, u8),
}

/// The crowd at all desks, and the slots of time for its work.
#[derive(Debug)]
pub struct Crowd {
    bounds: Bounds,
    counts: BTreeMap<(DeskId, Prefix), Count>,
    /// This slot and the last one.
    slots: [Slot; 2],
    /// When this slot began.
    since: Timestamp,
}

impl Crowd {
    /// Nobody yet.
    pub fn new(draw: &mut Draw, now: Timestamp) -> Self {
        Self {
            bounds: Bounds::default(),
            counts: BTreeMap::new(),
            slots: [
                Slot::from_bytes(draw.bytes()),
                Slot::from_bytes(draw.bytes()),
            ],
            since: now,
        }
    }

    /// Other bounds from now on.
    pub const fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Lets time pass: after each slot comes another that nobody could know before.
    fn turn(&mut self, draw: &mut Draw, now: Timestamp) {
        for _ in 0..2 {
            if now.since(self.since) < limits::WORK_SLOT {
                return;
            }
            self.since = self.since + limits::WORK_SLOT;
            self.slots = [Slot::from_bytes(draw.bytes()), self.slots[0]];
            self.counts.retain(|_, count| {
                count.ended = [0, count.ended[0]];
                count.all() > 0
            });
        }
        // after a long silence both slots are new
        self.since = now;
    }

    /// Whether a new ticket may be drawn where `waiting` wait already. This is the one place
    /// where that is decided: whatever else may vouch for somebody comes in here, before work.
    pub fn admit(
        &mut self,
        draw: &mut Draw,
        now: Timestamp,
        ask: &Ask<'_>,
        waiting: usize,
    ) -> Result<Answer, Fault> {
        self.turn(draw, now);
        if waiting >= limits::QUEUE_MAX {
            return Err(Fault::new(Code::QueueFull));
        }
        let count = self.counts.get(&(ask.desk.clone(), ask.prefix));
        let here = count.map_or(0, |count| count.all());
        if here >= self.bounds.prefix {
            return Err(Fault::new(Code::Crowded));
        }
        let bits = bits(here, self.bounds.prefix_free).max(bits(waiting, self.bounds.queue_free));
        if bits == 0 {
            return Ok(Answer::Admitted);
        }
        let asked = Answer::Asked(self.slots[0], bits);
        let Some(work) = ask.work.filter(|work| self.slots.contains(&work.slot)) else {
            return Ok(asked);
        };
        let puzzle = |bits| Puzzle {
            desk: ask.desk.clone(),
            slot: work.slot,
            peer: ask.peer,
            bits,
        };
        // no work of ours was ever so little
        puzzle(limits::WORK_BITS).verify(work.nonce)?;
        // the crowd may have grown meanwhile: what was asked for a moment ago will do
        match puzzle(bits.saturating_sub(1)).verify(work.nonce) {
            Ok(()) => Ok(Answer::Admitted),
            Err(_) => Ok(asked),
        }
    }

    /// A ticket was drawn, or its owner showed for the first time since the relay began.
    pub fn came(&mut self, desk: &DeskId, prefix: Prefix) {
        let count = self.counts.entry((desk.clone(), prefix)).or_default();
        count.live += 1;
    }

    /// A ticket ended.
    pub fn went(&mut self, desk: &DeskId, prefix: Prefix) {
        if let Some(count) = self.counts.get_mut(&(desk.clone(), prefix)) {
            count.live = count.live.saturating_sub(1);
            count.ended[0] += 1;
        }
    }
}

/// The work for the next of `count`: none up to `free`, then one bit more with each doubling.
fn bits(count: usize, free: usize) -> u8 {
    if count < free {
        return 0;
    }
    let doublings = (count / free.max(1)).checked_ilog2().unwrap_or(0);
    let bits = limits::WORK_BITS.saturating_add(u8::try_from(doublings).unwrap_or(u8::MAX));
    bits.min(limits::WORK_BITS_MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HERE: Prefix = Prefix([4, 192, 0, 2, 0, 0, 0, 0]);

    fn crowd() -> (Crowd, Draw, Timestamp) {
        let (mut draw, now) = (Draw::from_seed([1; 32]), Timestamp::from_secs(1_000));
        (Crowd::new(&mut draw, now), draw, now)
    }

    fn tax() -> DeskId {
        DeskId::new("tax").unwrap()
    }

    fn ask(desk: &DeskId, prefix: Prefix, work: Option<Work>) -> Ask<'_> {
        Ask {
            desk,
            peer: PeerId::from_bytes([9; 32]),
            prefix,
            work,
        }
    }

    #[test]
    fn prefixes_are_24_and_56_bits_and_mapped_addresses_are_ipv4() {
        let of = |text: &str| Prefix::of(text.parse().unwrap());
        assert_eq!(of("192.0.2.77"), HERE);
        assert_eq!(of("::ffff:192.0.2.1"), HERE);
        assert_ne!(of("192.0.3.77"), HERE);
        assert_eq!(of("2001:db8:1:2:3::1"), of("2001:db8:1:ff::9"));
        assert_ne!(of("2001:db8:1:2:3::1"), of("2001:db8:1:100::1"));
        assert_eq!(format!("{HERE:?}"), "[prefix]");
    }

    #[test]
    fn work_grows_by_a_bit_with_each_doubling_to_its_bound() {
        assert_eq!(bits(31, 32), 0);
        assert_eq!(
            [32, 63, 64, 128].map(|count| bits(count, 32)),
            [16, 16, 17, 18]
        );
        assert_eq!(bits(usize::MAX, 1), limits::WORK_BITS_MAX);
    }

    // covers: SUORA-DSK-120
    #[test]
    fn a_prefix_has_its_bound_and_leaving_makes_no_room_at_once() {
        let (mut crowd, mut draw, now) = crowd();
        crowd.set_bounds(Bounds {
            prefix: 4,
            prefix_free: 4,
            ..Bounds::default()
        });
        let desk = tax();
        for _ in 0..4 {
            let answer = crowd.admit(&mut draw, now, &ask(&desk, HERE, None), 0);
            assert_eq!(answer, Ok(Answer::Admitted));
            crowd.came(&desk, HERE);
        }
        let mut refused = |crowd: &mut Crowd, desk: &DeskId, prefix, now| {
            let answer = crowd.admit(&mut draw, now, &ask(desk, prefix, None), 0);
            answer.err().map(|fault| fault.code)
        };
        let there = Prefix::of("192.0.3.1".parse().unwrap());
        assert_eq!(refused(&mut crowd, &desk, HERE, now), Some(Code::Crowded));
        assert_eq!(refused(&mut crowd, &desk, there, now), None);
        let job = DeskId::new("job").unwrap();
        assert_eq!(refused(&mut crowd, &job, HERE, now), None);
        crowd.went(&desk, HERE);
        assert_eq!(refused(&mut crowd, &desk, HERE, now), Some(Code::Crowded));
        let later = now + limits::WORK_SLOT;
        assert_eq!(refused(&mut crowd, &desk, HERE, later), Some(Code::Crowded));
        let later = later + limits::WORK_SLOT;
        assert_eq!(refused(&mut crowd, &desk, HERE, later), None);
        // who has gone takes no room
        for _ in 0..3 {
            crowd.went(&desk, HERE);
        }
        let later = later + 2 * limits::WORK_SLOT;
        assert_eq!(refused(&mut crowd, &desk, there, later), None);
        assert!(crowd.counts.is_empty());
    }

    // covers: SUORA-DSK-121
    #[test]
    fn work_counts_in_its_slot_and_the_next_and_no_longer() {
        let (mut crowd, mut draw, now) = crowd();
        crowd.set_bounds(Bounds {
            queue_free: 1,
            ..Bounds::default()
        });
        let desk = tax();
        let asked = crowd.admit(&mut draw, now, &ask(&desk, HERE, None), 1);
        let Ok(Answer::Asked(slot, bits)) = asked else {
            panic!("{asked:?}");
        };
        let puzzle = Puzzle {
            desk: desk.clone(),
            slot,
            peer: PeerId::from_bytes([9; 32]),
            bits,
        };
        let work = puzzle.solve().unwrap();
        let mut shows = |work, after: Duration| {
            crowd.admit(&mut draw, now + after, &ask(&desk, HERE, Some(work)), 1)
        };
        assert_eq!(shows(work, Duration::ZERO), Ok(Answer::Admitted));
        // too little, and somebody else's
        let too_little = (0..).find(|nonce| puzzle.zeros(*nonce) < 8).unwrap();
        let bad = Work {
            nonce: too_little,
            ..work
        };
        let refused = shows(bad, Duration::ZERO).unwrap_err();
        assert_eq!(refused.code, Code::BadWork);
        let slots = |n: u32| n * limits::WORK_SLOT;
        assert_eq!(shows(work, slots(1)), Ok(Answer::Admitted));
        let again = shows(work, slots(2));
        assert!(
            matches!(again, Ok(Answer::Asked(new, _)) if new != slot),
            "{again:?}"
        );
    }

    #[test]
    fn after_a_long_silence_both_slots_are_new() {
        let (mut crowd, mut draw, now) = crowd();
        let old = crowd.slots;
        crowd.turn(&mut draw, now + 100 * limits::WORK_SLOT);
        assert!(crowd.slots.iter().all(|slot| !old.contains(slot)));
        let now = now + 100 * limits::WORK_SLOT;
        let new = crowd.slots;
        crowd.turn(&mut draw, now + limits::WORK_SLOT / 2);
        assert_eq!(crowd.slots, new);
    }
}
