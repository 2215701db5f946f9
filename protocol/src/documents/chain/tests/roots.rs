//! The next root, and descriptors that were verified before.

use super::*;

fn next_root() -> Key {
    key(9)
}

/// The page under the next root.
fn next_page() -> Descriptor {
    Descriptor {
        agency: AgencyId::of_root(&next_root().peer_id()),
        root: next_root().peer_id(),
        sequence: 8,
        ..page()
    }
}

/// The page, which names the next root.
fn naming() -> Verified<Descriptor> {
    let next = AgencyId::of_root(&next_root().peer_id());
    trusted(&Descriptor {
        next_root: Some(Hash::from_bytes(*next.as_bytes())),
        ..page()
    })
}

fn after(page: &Descriptor, by: &Key, known: &Verified<Descriptor>) -> Option<Code> {
    let after = descriptor_after(&signed(page, by), known, now());
    after.err().map(|fault| fault.code)
}

// covers: SUORA-DOC-100
#[test]
fn a_new_root_is_taken_only_if_the_old_one_named_it() {
    let next = next_root();
    assert_eq!(after(&next_page(), &next, &naming()), None);
    // the old root said nothing of it
    assert_eq!(
        after(&next_page(), &next, &trusted(&page())),
        Some(Code::WrongAgency)
    );
    // another root than the one it named
    let stranger = Descriptor {
        agency: AgencyId::of_root(&key(10).peer_id()),
        root: key(10).peer_id(),
        ..next_page()
    };
    assert_eq!(
        after(&stranger, &key(10), &naming()),
        Some(Code::WrongAgency)
    );
    // the name of the next root, and the signature of somebody else
    assert_eq!(
        after(&next_page(), &key(10), &naming()),
        Some(Code::BadSignature)
    );
    for sequence in [6, 7] {
        let old = Descriptor {
            sequence,
            ..next_page()
        };
        assert_eq!(after(&old, &next, &naming()), Some(Code::LowerSequence));
    }
    // the old root may go on meanwhile
    let on = Descriptor {
        sequence: 9,
        ..page()
    };
    assert_eq!(after(&on, &root(), &naming()), None);
}

// covers: SUORA-DOC-012
#[test]
fn what_comes_after_a_known_page_is_held_against_it() {
    let known = trusted(&page());
    assert_eq!(after(&page(), &root(), &known), None);
    let lower = Descriptor {
        sequence: 6,
        ..page()
    };
    assert_eq!(after(&lower, &root(), &known), Some(Code::LowerSequence));
    let other = Descriptor {
        domain: "other.example".into(),
        ..page()
    };
    assert_eq!(after(&other, &root(), &known), Some(Code::Equivocation));
}

#[test]
fn a_remembered_page_is_verified_whatever_the_time() {
    let ended = Descriptor {
        issued_at: at(-100 * DAY),
        not_after: at(-80 * DAY),
        ..page()
    };
    let bytes = signed(&ended, &root());
    assert_eq!(
        descriptor_as_given(&bytes, now()).err().map(|f| f.code),
        Some(Code::Expired)
    );
    let remembered = descriptor_remembered(&bytes, &page().agency).unwrap();
    assert_eq!(remembered.not_after, ended.not_after);
    let other = descriptor_remembered(&bytes, &next_page().agency);
    assert_eq!(other.err().map(|f| f.code), Some(Code::WrongAgency));
    let forged = descriptor_remembered(&signed(&ended, &key(10)), &page().agency);
    assert_eq!(forged.err().map(|f| f.code), Some(Code::BadSignature));
}
