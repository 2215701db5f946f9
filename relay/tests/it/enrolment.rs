//! The newest credential of each officer: brought, kept, handed on.

use std::time::Duration;

use suora_protocol::documents::{Credential, Role};
use suora_protocol::fault::Code;
use suora_protocol::identity::{AgencyId, Key, PeerId};
use suora_protocol::limits;
use suora_protocol::time::Timestamp;
use suora_protocol::wire::officer::FromRelay;
use suora_relay::Faults;
use suora_relay::hub::change::{Enrolled, Snapshot};
use suora_relay::hub::enrolment::ENROLLED_MAX;
use suora_relay::hub::{Hub, LinkId};

use crate::agency::{START, desk, key, officer_key};
use crate::stage::{Stage, code};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A credential of this officer that was signed so long after the start, and holds for so long.
fn credential(stage: &Stage, officer: &Key, signed: Duration, holds: Duration) -> Vec<u8> {
    let claim = Credential {
        issued_at: START + signed,
        not_before: START + signed,
        not_after: START + signed + holds,
        ..stage.agency.claim(officer)
    };
    stage.agency.sign(&claim)
}

/// What an officer hears that shows a credential, or none.
fn attends(stage: &mut Stage, officer: &Key, shown: Vec<u8>) -> (LinkId, Vec<FromRelay>) {
    let link = stage.up(officer.peer_id(), true);
    let _ = stage.attend(link, shown, None);
    (link, stage.officer_hears(link))
}

fn handed(credential: &[u8]) -> FromRelay {
    let credential = credential.to_vec();
    FromRelay::Credential { credential }
}

fn attending() -> FromRelay {
    FromRelay::Attending {
        desk: desk("tax"),
        waiting: 0,
    }
}

fn refused_with(heard: &[FromRelay]) -> Option<Code> {
    match heard.last() {
        Some(FromRelay::Refused { code, .. }) => Some(*code),
        _ => None,
    }
}

// covers: SUORA-DSK-102
#[test]
fn an_officer_without_a_credential_is_handed_the_one_that_is_kept() {
    let mut stage = Stage::new();
    let officer = officer_key(1);
    let kept = stage.agency.credential(&officer);
    let (_, heard) = attends(&mut stage, &officer, Vec::new());
    assert_eq!(refused_with(&heard), Some(Code::NoCredential));
    let enrolment = stage.enrol(kept.clone()).unwrap();
    assert_eq!(
        (enrolment.peer, enrolment.newest),
        (officer.peer_id(), true)
    );
    let (link, heard) = attends(&mut stage, &officer, Vec::new());
    assert_eq!(heard, [handed(&kept), attending()]);
    // who has it already hears nothing of it
    let (_, heard) = attends(&mut stage, &officer, kept);
    assert_eq!(heard, [attending()]);
    // and it is nobody else's
    let (_, heard) = attends(&mut stage, &officer_key(2), Vec::new());
    assert_eq!(refused_with(&heard), Some(Code::NoCredential));
    assert!(stage.closed.contains(&link), "the newest stream counts");
}

// covers: SUORA-DSK-101, SUORA-DSK-102
#[test]
fn the_newest_counts_whoever_has_it() {
    let mut stage = Stage::new();
    let officer = officer_key(1);
    let [old, new, newest] =
        [0, 1, 2].map(|minute| credential(&stage, &officer, minute * MINUTE, DAY));
    assert!(stage.enrol(new.clone()).unwrap().newest);
    for late in [&old, &new] {
        assert!(!stage.enrol(late.clone()).unwrap().newest, "it stands");
    }
    assert_eq!(stage.store.enrolled.len(), 1);
    assert_eq!(stage.store.enrolled[0].credential, new);
    let (_, heard) = attends(&mut stage, &officer, old);
    assert_eq!(heard, [handed(&new), attending()]);
    // an officer may have a newer one from elsewhere
    let (_, heard) = attends(&mut stage, &officer, newest.clone());
    assert_eq!(heard, [attending()]);
    // of two of one second, the one that ends later is the newer one
    let longer = credential(&stage, &officer, MINUTE, 2 * DAY);
    assert!(stage.enrol(longer).unwrap().newest);
}

// covers: SUORA-DSK-100
#[test]
fn what_does_not_verify_is_not_kept() {
    let mut stage = Stage::new();
    let officer = officer_key(1);
    let claim = stage.agency.claim(&officer);
    let changed = |change: &dyn Fn(&mut Credential)| {
        let mut claim = claim.clone();
        change(&mut claim);
        stage.agency.sign(&claim)
    };
    let by = |key: &Key| {
        let signed = suora_protocol::documents::sign(&claim, key).unwrap();
        signed.bytes().to_vec()
    };
    let cases = [
        (vec![0xa0], Code::Malformed),
        (by(&key(3)), Code::BadSignature),
        (by(&stage.agency.root), Code::BadSignature),
        (
            changed(&|claim| claim.agency = AgencyId::from_bytes([9; 32])),
            Code::WrongAgency,
        ),
        (
            changed(&|claim| claim.role = Role::Interpreter),
            Code::WrongRole,
        ),
        (
            changed(&|claim| {
                claim.not_before = Timestamp::from_secs(1_000);
                claim.not_after = Timestamp::from_secs(2_000);
            }),
            Code::Expired,
        ),
        (
            changed(&|claim| claim.not_before = START + DAY),
            Code::NotYetValid,
        ),
    ];
    for (bytes, expected) in cases {
        let refused = stage.enrol(bytes).unwrap_err();
        assert_eq!(refused.code, expected);
    }
    stage.agency.page.revoked = vec![officer.peer_id()];
    stage.agency.page.sequence = 2;
    stage.publish();
    let good = stage.agency.credential(&officer);
    let refused = stage.enrol(good.clone()).unwrap_err();
    assert_eq!(refused.code, Code::Revoked);
    assert!(stage.store.enrolled.is_empty());
    // the control: the same bytes are taken once nobody is revoked
    stage.agency.page.revoked.clear();
    stage.agency.page.sequence = 3;
    stage.publish();
    assert!(stage.enrol(good).unwrap().newest);
}

// covers: SUORA-DSK-101, SUORA-DSK-009
#[test]
fn nobody_hears_of_a_credential_before_the_store_has_it_and_then_it_outlives_the_relay() {
    let mut stage = Stage::new();
    let officer = officer_key(1);
    let link = stage.attends(&officer);
    stage.officer_hears(link);
    stage.lags = true;
    let kept = credential(&stage, &officer, MINUTE, DAY);
    let ask = stage.bring(kept.clone());
    assert!(stage.answers.is_empty());
    assert_eq!(stage.officer_hears(link), []);
    stage.answer();
    assert_eq!(stage.officer_hears(link), [handed(&kept)]);
    assert!(stage.answers[&ask].is_ok());
    stage.lags = false;
    stage.kill();
    let (_, heard) = attends(&mut stage, &officer, Vec::new());
    assert_eq!(heard, [handed(&kept), attending()]);
}

// covers: SUORA-DSK-103
#[test]
fn an_officer_whose_credential_is_renewed_in_time_stays_and_another_one_goes() {
    let mut stage = Stage::new();
    let (renewed, forgotten) = (officer_key(1), officer_key(2));
    let mut links = Vec::new();
    for officer in [&renewed, &forgotten] {
        let short = credential(&stage, officer, Duration::ZERO, MINUTE);
        stage.enrol(short).unwrap();
        links.push(attends(&mut stage, officer, Vec::new()).0);
    }
    for round in 1..=20 {
        let next = credential(&stage, &renewed, round * MINUTE, MINUTE);
        stage.pass(MINUTE);
        stage.enrol(next.clone()).unwrap();
        assert_eq!(stage.officer_hears(links[0]), [handed(&next)]);
    }
    assert!(!stage.closed.contains(&links[0]));
    assert!(stage.closed.contains(&links[1]));
    let heard = stage.officer_hears(links[1]);
    assert_eq!(refused_with(&heard), Some(Code::Expired));
    // who comes back with what has ended is not locked out, once the administrator was there
    let late = credential(&stage, &forgotten, 20 * MINUTE, DAY);
    let ended = credential(&stage, &forgotten, Duration::ZERO, MINUTE);
    let (_, heard) = attends(&mut stage, &forgotten, ended.clone());
    assert_eq!(refused_with(&heard), Some(Code::Expired));
    stage.enrol(late.clone()).unwrap();
    let (_, heard) = attends(&mut stage, &forgotten, ended);
    assert_eq!(heard, [handed(&late), attending()]);
}

// covers: SUORA-DSK-103
#[test]
fn an_officer_whose_newest_credential_is_of_other_desks_goes() {
    let mut stage = Stage::new();
    let officer = officer_key(1);
    let link = stage.attends(&officer);
    let claim = Credential {
        desks: vec![desk("job")],
        issued_at: START + SECOND,
        ..stage.agency.claim(&officer)
    };
    let moved = stage.agency.sign(&claim);
    stage.enrol(moved).unwrap();
    assert_eq!(
        refused_with(&stage.officer_hears(link)),
        Some(Code::WrongDesk)
    );
    assert!(stage.closed.contains(&link));
    let old = stage.agency.credential(&officer);
    let (_, heard) = attends(&mut stage, &officer, old);
    assert_eq!(
        refused_with(&heard),
        Some(Code::WrongDesk),
        "the newest counts"
    );
}

// covers: SUORA-DSK-101
#[test]
fn what_a_key_signed_that_is_listed_no_more_is_in_nobodys_way() {
    let mut stage = Stage::new();
    let officer = officer_key(1);
    // somebody had the issuing key, and signed what is newer than all that will come
    let ahead = credential(&stage, &officer, limits::CLOCK_TOLERANCE + SECOND, DAY);
    let refused = stage.enrol(ahead).unwrap_err();
    assert_eq!(refused.code, Code::NotYetValid);
    let newest = credential(&stage, &officer, limits::CLOCK_TOLERANCE, 20 * DAY);
    stage.enrol(newest).unwrap();
    let next = key(50);
    stage.agency.page.keys[0].key = next.peer_id();
    stage.agency.page.sequence = 2;
    stage.publish();
    stage.agency.issuing = next;
    let (_, heard) = attends(&mut stage, &officer, Vec::new());
    assert_eq!(refused_with(&heard), Some(Code::BadSignature));
    let good = stage.agency.credential(&officer);
    let (_, heard) = attends(&mut stage, &officer, good.clone());
    assert_eq!(heard, [attending()]);
    assert!(stage.enrol(good.clone()).unwrap().newest);
    let (_, heard) = attends(&mut stage, &officer, Vec::new());
    assert_eq!(heard, [handed(&good), attending()]);
}

#[test]
fn the_operator_sees_how_many_credentials_end_soon() {
    let mut stage = Stage::new();
    for (number, holds) in [(1, DAY), (2, 7 * DAY)] {
        let officer = officer_key(number);
        let kept = credential(&stage, &officer, Duration::ZERO, holds);
        stage.enrol(kept).unwrap();
    }
    let counts = |stage: &mut Stage| {
        stage.input(suora_relay::hub::Input::Tick).unwrap();
        let counts = stage.hub.counts();
        (counts.enrolled, counts.ending)
    };
    assert_eq!(counts(&mut stage), (2, 1));
    stage.silence(2 * DAY);
    assert_eq!(counts(&mut stage), (1, 0), "one has ended");
    stage.silence(4 * DAY);
    assert_eq!(counts(&mut stage), (1, 1));
}

#[test]
fn a_renewal_costs_no_offer() {
    let mut stage = Stage::new();
    let (_, ticket) = stage.waits(1);
    let officer = officer_key(1);
    let link = stage.attends(&officer);
    let offer = stage.offer(link).unwrap();
    let next = credential(&stage, &officer, MINUTE, DAY);
    stage.enrol(next).unwrap();
    stage.accept(link, offer);
    assert_eq!((offer.0, stage.hub.counts().engaged), (ticket, 1));
}

#[test]
fn a_credential_is_forgotten_when_it_has_long_ended() {
    let mut stage = Stage::new();
    let officer = officer_key(1);
    let kept = credential(&stage, &officer, Duration::ZERO, DAY);
    stage.enrol(kept).unwrap();
    stage.silence(31 * DAY);
    assert_eq!(stage.store.enrolled.len(), 1, "a clock may be in doubt");
    stage.silence(DAY);
    assert!(stage.store.enrolled.is_empty());
}

// covers: SUORA-DSK-014
#[test]
fn the_relay_keeps_so_many_credentials_and_no_more() {
    let mut stage = Stage::new();
    let enrolled = |number: usize| {
        let mut peer = [3; 32];
        peer[..8].copy_from_slice(&number.to_be_bytes());
        Enrolled {
            peer: PeerId::from_bytes(peer),
            credential: vec![1; 8].into(),
            issued_at: START,
            not_after: START + DAY,
        }
    };
    let snapshot = Snapshot {
        enrolled: (0..ENROLLED_MAX).map(enrolled).collect(),
        ..Snapshot::default()
    };
    let page = stage.agency.descriptor();
    stage.hub = Hub::restore(page, snapshot, [7; 32], stage.now, Faults::default());
    let one_more = stage.agency.credential(&officer_key(1));
    assert_eq!(
        code(stage.enrol(one_more.clone()).map(|_| ())),
        Some(Code::Busy)
    );
    stage.silence(limits::CLOCK_TOLERANCE + 32 * DAY);
    let now = stage.now.utc.since(START);
    let one_more = credential(&stage, &officer_key(1), now, DAY);
    stage.agency.page.issued_at = stage.now.utc;
    stage.agency.page.not_after = stage.now.utc + 30 * DAY;
    stage.agency.page.keys[0].not_after = stage.now.utc + 30 * DAY;
    stage.agency.page.sequence = 2;
    let signed = suora_protocol::documents::sign(&stage.agency.page, &stage.agency.root).unwrap();
    let page = suora_protocol::documents::chain::descriptor(
        &signed,
        &stage.agency.page.agency,
        stage.now.utc,
        None,
    );
    let page = Box::new(page.unwrap());
    let input = suora_relay::hub::Input::Descriptor(page);
    stage.input(input).unwrap();
    assert!(stage.enrol(one_more).unwrap().newest);
}
