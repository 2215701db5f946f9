//! Proof of work (`spec/desk.md`, section 5): what a crowd of free keys has to pay before it
//! takes places in a queue. It is bound to the desk, to a slot of time and to the key that
//! joins, so it can be neither made in advance, nor used again by another key, nor elsewhere.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::documents::DeskId;
use crate::fault::{Code, Fault};
use crate::identity::{PeerId, bytes_name, open_name};
use crate::limits::WORK_BITS_MAX;

/// What every hash begins with.
const DOMAIN: &[u8] = b"suora/1/work";

bytes_name!(
    /// A slot of time of one relay: random, so that nobody knows it before it begins.
    Slot, 16
);
open_name!(Slot);

/// What a relay asks for, of one key at one desk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Puzzle {
    /// The desk that is joined.
    pub desk: DeskId,
    /// The relay's slot.
    pub slot: Slot,
    /// Whose key joins.
    pub peer: PeerId,
    /// How many bits of the hash have to be zero, from the first on.
    pub bits: u8,
}

/// The proof that goes with a join.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Work {
    /// The slot for which it was done.
    pub slot: Slot,
    /// The number that was found.
    pub nonce: u64,
}

impl Puzzle {
    /// The hash's state before the nonce.
    fn begun(&self) -> Sha256 {
        let hash = Sha256::new_with_prefix(DOMAIN);
        hash.chain_update(self.slot.as_bytes())
            .chain_update(self.peer.as_bytes())
            .chain_update(self.desk.as_str())
            .chain_update([0])
    }

    /// How many bits of a nonce's hash are zero, from the first on.
    pub fn zeros(&self, nonce: u64) -> u32 {
        zeros(&self.begun(), nonce)
    }

    /// Finds a nonce. Takes 2^`bits` hashes on average: half a second for the hardest puzzle that
    /// is allowed. One that is harder than `WORK_BITS_MAX` is refused as [`Code::TooLarge`].
    pub fn solve(&self) -> Result<Work, Fault> {
        if self.bits > WORK_BITS_MAX {
            return Err(Fault::new(Code::TooLarge).with(format!(
                "the relay asks for work of {} bits, where {WORK_BITS_MAX} are the most",
                self.bits
            )));
        }
        let begun = self.begun();
        let slot = self.slot;
        (0..u64::MAX)
            .find(|nonce| zeros(&begun, *nonce) >= self.bits.into())
            .map(|nonce| Work { slot, nonce })
            .ok_or_else(|| Fault::new(Code::Internal).with("no nonce does the work"))
    }

    /// Whether a nonce does the work: too few zeros are [`Code::BadWork`].
    pub fn verify(&self, nonce: u64) -> Result<(), Fault> {
        let found = self.zeros(nonce);
        if found < self.bits.into() {
            return Err(Fault::new(Code::BadWork)
                .with(format!("{found} zero bits of {} asked for", self.bits)));
        }
        Ok(())
    }
}

fn zeros(begun: &Sha256, nonce: u64) -> u32 {
    let hash = begun.clone().chain_update(nonce.to_be_bytes()).finalize();
    let mut zeros = 0;
    for byte in hash {
        zeros += byte.leading_zeros();
        if byte != 0 {
            break;
        }
    }
    zeros
}

#[cfg(test)]
mod tests {
    use super::*;

    fn puzzle() -> Puzzle {
        Puzzle {
            desk: DeskId::new("tax").unwrap(),
            slot: Slot::from_bytes([3; 16]),
            peer: PeerId::from_bytes([9; 32]),
            bits: 12,
        }
    }

    // covers: SUORA-DSK-121
    #[test]
    fn work_counts_for_its_key_its_desk_and_its_slot_only() {
        let puzzle = puzzle();
        let work = puzzle.solve().unwrap();
        assert_eq!(work.slot, puzzle.slot);
        assert!(puzzle.verify(work.nonce).is_ok());
        assert!(puzzle.zeros(work.nonce) >= 12);
        for other in [
            Puzzle {
                desk: DeskId::new("ta").unwrap(),
                ..puzzle.clone()
            },
            Puzzle {
                slot: Slot::from_bytes([4; 16]),
                ..puzzle.clone()
            },
            Puzzle {
                peer: PeerId::from_bytes([8; 32]),
                ..puzzle.clone()
            },
        ] {
            let refused = other.verify(work.nonce).unwrap_err();
            assert_eq!(refused.code, Code::BadWork, "{other:?}");
        }
    }

    #[test]
    fn the_first_nonce_that_fits_is_found_and_no_earlier_one_fits() {
        let puzzle = puzzle();
        let work = puzzle.solve().unwrap();
        assert!((0..work.nonce).all(|nonce| puzzle.verify(nonce).is_err()));
        let nothing = Puzzle { bits: 0, ..puzzle };
        assert_eq!(nothing.solve().unwrap().nonce, 0);
    }

    // covers: SUORA-DSK-122
    #[test]
    fn a_relay_cannot_ask_for_more_than_the_bound() {
        let greedy = Puzzle {
            bits: WORK_BITS_MAX + 1,
            ..puzzle()
        };
        assert_eq!(greedy.solve().unwrap_err().code, Code::TooLarge);
    }
}
