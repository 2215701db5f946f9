//! The porch before a listener: whoever came and has not yet shown what for stands on it. It has
//! room for so many of a prefix and for so many in all. Where it is full, one goes who stands
//! there: the oldest of the prefix that holds most, or of all where none holds more than [`FEW`]. Who
//! comes last stays, so a crowd that says nothing pushes itself out, and an honest newcomer needs a
//! moment only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{AbortHandle, AbortRegistration, Abortable, Aborted};

use crate::hub::crowd::Prefix;

/// So many of a prefix are no crowd: an office whose machines come at once is not pushed out by those
/// who come from many prefixes, two of each.
pub const FEW: usize = 16;

/// For how many a porch has room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Of one prefix.
    pub prefix: usize,
    /// In all.
    pub all: usize,
}

#[derive(Debug)]
struct Standing {
    room: Room,
    next: u64,
    count: usize,
    /// The oldest of a prefix has its lowest number.
    prefixes: BTreeMap<Prefix, BTreeMap<u64, AbortHandle>>,
    first_stay: bool,
}

impl Standing {
    fn leave(&mut self, prefix: Prefix, number: u64) -> Option<AbortHandle> {
        let of_prefix = self.prefixes.get_mut(&prefix)?;
        let gone = of_prefix.remove(&number)?;
        if of_prefix.is_empty() {
            self.prefixes.remove(&prefix);
        }
        self.count -= 1;
        Some(gone)
    }

    /// Who has to go for somebody of this prefix to come.
    fn in_the_way(&self, prefix: Prefix) -> Option<(Prefix, u64)> {
        let oldest = |of_prefix: &BTreeMap<u64, AbortHandle>| Some(*of_prefix.first_key_value()?.0);
        let own = self.prefixes.get(&prefix);
        if let Some(own) = own.filter(|own| own.len() >= self.room.prefix) {
            return Some((prefix, oldest(own)?));
        }
        if self.count < self.room.all {
            return None;
        }
        let most = self
            .prefixes
            .iter()
            .filter_map(|(prefix, held)| Some((held.len(), oldest(held)?, *prefix)))
            .max_by_key(|(held, oldest, _)| ((*held).max(FEW), std::cmp::Reverse(*oldest)));
        most.map(|(_, oldest, prefix)| (prefix, oldest))
    }
}

/// A porch; clones are the same one.
#[derive(Clone, Debug)]
pub struct Porch(Arc<Mutex<Standing>>);

impl Porch {
    /// With so much room. Where the first stay, newcomers are sent away from a full porch instead:
    /// for negative controls.
    pub fn new(room: Room, first_stay: bool) -> Self {
        Self(Arc::new(Mutex::new(Standing {
            room,
            next: 0,
            count: 0,
            prefixes: BTreeMap::new(),
            first_stay,
        })))
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many stand there.
    pub fn count(&self) -> usize {
        self.standing().count
    }

    /// Somebody comes, and somebody else goes where there is no room. `None`: the first stay.
    pub fn enter(&self, prefix: Prefix) -> Option<Place> {
        let mut standing = self.standing();
        if let Some((other, number)) = standing.in_the_way(prefix) {
            if standing.first_stay {
                return None;
            }
            if let Some(gone) = standing.leave(other, number) {
                gone.abort();
            }
        }
        let number = standing.next;
        standing.next += 1;
        standing.count += 1;
        let (go, told) = AbortHandle::new_pair();
        let of_prefix = standing.prefixes.entry(prefix).or_default();
        of_prefix.insert(number, go);
        drop(standing);
        let held = Held {
            porch: self.clone(),
            prefix,
            number,
        };
        Some(Place { held, told })
    }
}

#[derive(Debug)]
struct Held {
    porch: Porch,
    prefix: Prefix,
    number: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.porch.standing().leave(self.prefix, self.number);
    }
}

/// Somebody's place on a porch, left when this is dropped.
#[derive(Debug)]
pub struct Place {
    held: Held,
    told: AbortRegistration,
}

impl Place {
    /// Stands there until this is done, or until told to go.
    pub async fn until<F: Future>(self, done: F) -> Result<F::Output, Aborted> {
        let Self { held, told } = self;
        let done = Abortable::new(done, told).await;
        drop(held);
        done
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::future::pending;

    use super::*;

    const ROOM: Room = Room {
        prefix: 40,
        all: 100,
    };

    fn of(number: u8) -> Prefix {
        Prefix::of([10, 0, number, 1].into())
    }

    /// Whether each still stands.
    fn stand(places: Vec<Place>) -> Vec<bool> {
        let stands = |place: Place| place.until(pending::<()>()).now_or_never().is_none();
        places.into_iter().map(stands).collect()
    }

    fn come(porch: &Porch, prefixes: impl IntoIterator<Item = u8>) -> Vec<Place> {
        let enter = |prefix| porch.enter(of(prefix)).unwrap();
        prefixes.into_iter().map(enter).collect()
    }

    // covers: SUORA-SEC-270
    #[test]
    fn a_prefix_beyond_its_room_pushes_out_its_own_oldest() {
        let porch = Porch::new(ROOM, false);
        let other = come(&porch, [9]);
        let crowd = come(&porch, [1; 42]);
        assert_eq!(stand(other), [true]);
        let crowd = stand(crowd);
        assert_eq!(crowd[..3], [false, false, true]);
        assert!(!crowd[2..].contains(&false));
    }

    // covers: SUORA-SEC-270
    #[test]
    fn where_it_is_full_the_oldest_of_the_prefix_that_holds_most_goes() {
        let porch = Porch::new(ROOM, false);
        let single = come(&porch, 1..=40);
        let some = come(&porch, [50; FEW + 4]);
        let crowd = come(&porch, [60; 40]);
        let new = come(&porch, [70, 80]);
        assert_eq!(stand(single), [true; 40]);
        assert_eq!(stand(some), [true; FEW + 4]);
        let crowd = stand(crowd);
        assert_eq!(crowd[..3], [false, false, true]);
        assert!(!crowd[2..].contains(&false));
        assert_eq!(stand(new), [true; 2]);
    }

    // covers: SUORA-SEC-270
    #[test]
    fn an_office_stays_while_those_who_came_earlier_from_many_prefixes_go() {
        let porch = Porch::new(ROOM, false);
        let pairs = |from: u8| (from..from + 50).flat_map(|prefix| [prefix, prefix]);
        let before = come(&porch, pairs(1));
        let office = come(&porch, [200; FEW]);
        // with one more each of these would push out one of the office
        let after = come(&porch, pairs(100).take(ROOM.all - FEW));
        assert_eq!(stand(before), [false; 100]);
        assert_eq!(stand(office), [true; FEW]);
        assert_eq!(stand(after), [true; 84]);
    }

    // covers: SUORA-SEC-270
    #[test]
    fn among_many_prefixes_the_oldest_goes_and_never_who_comes() {
        let porch = Porch::new(ROOM, false);
        let crowd = come(&porch, 0..200);
        let kept = stand(crowd);
        assert_eq!(kept.iter().rposition(|stays| !stays), Some(99));
        assert_eq!(kept.iter().filter(|stays| **stays).count(), ROOM.all);
    }

    #[test]
    fn who_is_done_or_gone_leaves_room() {
        let porch = Porch::new(ROOM, false);
        for _ in 0..100 {
            let first = come(&porch, [1, 2, 3]);
            let done: Vec<_> = come(&porch, [4, 4, 4])
                .into_iter()
                .map(|place| place.until(async {}).now_or_never())
                .collect();
            assert_eq!(done, [Some(Ok(())); 3]);
            drop(first);
        }
        let left = porch.standing();
        assert!(left.prefixes.is_empty() && left.count == 0);
    }

    // covers: SUORA-SEC-270
    #[test]
    fn where_the_first_stay_newcomers_are_sent_away() {
        let porch = Porch::new(ROOM, true);
        let crowd = come(&porch, 0..100);
        assert!(porch.enter(of(177)).is_none());
        assert_eq!(stand(crowd), [true; 100]);
        assert!(porch.enter(of(177)).is_some());
    }
}
