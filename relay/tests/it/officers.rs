//! Officers at a desk: who may attend, and for how long.

use std::time::Duration;

use suora_protocol::documents::{Credential, Role};
use suora_protocol::fault::Code;
use suora_protocol::identity::Key;
use suora_protocol::limits;
use suora_protocol::time::Timestamp;
use suora_protocol::wire::citizen;
use suora_protocol::wire::officer::{FromRelay, Status, ToRelay};
use suora_relay::Faults;
use suora_relay::hub::Input;

use crate::agency::{Agency, START, desk, key, officer_key};
use crate::stage::{Stage, code};

const SECOND: Duration = Duration::from_secs(1);

/// How a hub answers an officer with this credential; the stream must stay.
fn attends_with(change: impl Fn(&Agency, &mut Credential)) -> Option<Code> {
    let mut stage = Stage::new();
    let officer = officer_key(1);
    let mut claim = stage.agency.claim(&officer);
    change(&stage.agency, &mut claim);
    let credential = stage.agency.sign(&claim);
    refusal(&mut stage, &officer, credential)
}

fn refusal(stage: &mut Stage, officer: &Key, credential: Vec<u8>) -> Option<Code> {
    let link = stage.up(officer.peer_id(), true);
    let refused = code(stage.attend(link, credential, None));
    match (refused, stage.officer_hears(link).as_slice()) {
        (None, [FromRelay::Attending { waiting: 0, .. }]) => {}
        (Some(refused), [FromRelay::Refused { code, .. }]) => assert_eq!(refused, *code),
        other => panic!("{other:?}"),
    }
    assert!(stage.closed.is_empty(), "a better credential may follow");
    refused
}

// covers: SUORA-DSK-002
#[test]
fn only_an_officer_with_a_valid_credential_of_this_desk_attends() {
    let day = |number: i64| Timestamp::from_secs(START.as_secs() + number * 86_400);
    assert_eq!(attends_with(|_, _| {}), None);
    assert_eq!(
        attends_with(|_, claim| claim.desks = vec![desk("job")]),
        Some(Code::WrongDesk)
    );
    assert_eq!(
        attends_with(|_, claim| claim.role = Role::Interpreter),
        Some(Code::WrongRole)
    );
    assert_eq!(
        attends_with(|_, claim| claim.peer = officer_key(2).peer_id()),
        Some(Code::WrongSigner)
    );
    assert_eq!(
        attends_with(|_, claim| (claim.not_before, claim.not_after) = (day(-8), day(-1))),
        Some(Code::Expired)
    );
    assert_eq!(
        attends_with(|_, claim| claim.not_before = day(1)),
        Some(Code::NotYetValid)
    );
    assert_eq!(
        attends_with(
            |_, claim| claim.agency = suora_protocol::identity::AgencyId::from_bytes([9; 32])
        ),
        Some(Code::WrongAgency)
    );
}

// covers: SUORA-DSK-002
#[test]
fn a_credential_must_be_shown_and_signed_by_an_issuing_key() {
    let mut stage = Stage::new();
    let officer = officer_key(1);
    assert_eq!(
        refusal(&mut stage, &officer, Vec::new()),
        Some(Code::NoCredential)
    );
    let mut stage = Stage::new();
    let claim = stage.agency.claim(&officer);
    let forged = suora_protocol::documents::sign(&claim, &key(3)).unwrap();
    let forged = forged.bytes().to_vec();
    assert_eq!(
        refusal(&mut stage, &officer, forged),
        Some(Code::BadSignature)
    );
    let mut stage = Stage::new();
    stage.agency.page.revoked = vec![officer.peer_id()];
    stage.agency.page.sequence = 2;
    let page = Box::new(stage.agency.descriptor());
    stage.input(Input::Descriptor(page)).unwrap();
    let credential = stage.agency.credential(&officer);
    assert_eq!(
        refusal(&mut stage, &officer, credential),
        Some(Code::Revoked)
    );
}

#[test]
fn a_hub_whose_check_is_off_lets_anybody_attend() {
    let faults = Faults {
        unchecked_credential: true,
        ..Faults::default()
    };
    let mut stage = Stage::with(Agency::new(), faults);
    assert_eq!(refusal(&mut stage, &officer_key(1), Vec::new()), None);
}

#[test]
fn who_does_not_attend_has_nothing_to_say() {
    let mut stage = Stage::new();
    let (_, ticket) = stage.waits(1);
    let link = stage.up(officer_key(1).peer_id(), true);
    for message in [
        ToRelay::Status {
            status: Status::Available,
        },
        ToRelay::Accepted { ticket, attempt: 1 },
        ToRelay::Done {
            ticket,
            code: Code::Ended,
        },
    ] {
        assert_eq!(code(stage.send(link, &message)), Some(Code::NoCredential));
    }
    assert_eq!(stage.queue(), [1]);
}

// covers: SUORA-DSK-002
#[test]
fn a_credential_that_ends_takes_the_link_with_it_and_a_renewed_one_does_not() {
    let mut stage = Stage::new();
    let (officer, other) = (officer_key(1), officer_key(2));
    let mut claim = stage.agency.claim(&officer);
    claim.not_after = START + 60 * SECOND;
    let short = stage.agency.sign(&claim);
    let link = stage.up(officer.peer_id(), true);
    stage.attend(link, short.clone(), None).unwrap();
    claim.peer = other.peer_id();
    let short = stage.agency.sign(&claim);
    let renewed = stage.up(other.peer_id(), true);
    stage.attend(renewed, short, None).unwrap();
    let longer = stage.agency.credential(&other);
    stage.attend(renewed, longer, None).unwrap();
    stage.pass(60 * SECOND + limits::CLOCK_TOLERANCE);
    assert!(!stage.closed.contains(&link));
    stage.pass(SECOND);
    assert!(stage.closed.contains(&link));
    let heard = stage.officer_hears(link);
    assert!(matches!(
        heard.last(),
        Some(FromRelay::Refused {
            code: Code::Expired,
            ..
        })
    ));
    assert!(!stage.closed.contains(&renewed));
    stage.waits(1);
    assert!(stage.offer(renewed).is_some());
}

#[test]
fn renewing_a_credential_costs_no_offer() {
    let mut stage = Stage::new();
    let (_, ticket) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    let offer = stage.offer(officer).unwrap();
    let credential = stage.agency.credential(&officer_key(1));
    stage.attend(officer, credential, None).unwrap();
    stage.accept(officer, offer);
    assert_eq!(offer.0, ticket);
    assert_eq!(stage.hub.counts().engaged, 1);
}

// covers: SUORA-DSK-002
#[test]
fn a_new_descriptor_drops_whom_it_revokes_and_desks_that_it_closes() {
    let mut stage = Stage::new();
    let (citizen, ticket) = stage.waits(1);
    let revoked = stage.attends(&officer_key(1));
    let stays = stage.attends(&officer_key(2));
    assert_eq!(stage.offer(revoked), Some((ticket, 1)));
    stage.agency.page.revoked = vec![officer_key(1).peer_id()];
    stage.agency.page.sequence = 2;
    let page = Box::new(stage.agency.descriptor());
    stage.input(Input::Descriptor(page)).unwrap();
    let heard = stage.officer_hears(revoked);
    assert!(heard.iter().any(|message| matches!(
        message,
        FromRelay::Refused {
            code: Code::Revoked,
            ..
        }
    )));
    assert!(stage.closed.contains(&revoked));
    assert_eq!(stage.offer(stays), Some((ticket, 2)));
    stage
        .agency
        .page
        .desks
        .retain(|desk| desk.id.as_str() != "tax");
    stage.agency.page.sequence = 3;
    let page = Box::new(stage.agency.descriptor());
    stage.citizen_hears(citizen);
    stage.input(Input::Descriptor(page)).unwrap();
    assert!(stage.closed.contains(&stays));
    let code = Code::UnknownDesk;
    let ended = citizen::FromRelay::Ended { ticket, code };
    assert_eq!(stage.citizen_hears(citizen).last(), Some(&ended));
    assert!(stage.store.rows.is_empty());
}

// covers: SUORA-DSK-014
#[test]
fn a_thousand_officers_attend_a_desk_and_hear_at_a_bounded_pace_how_many_wait() {
    let faults = Faults {
        unchecked_credential: true,
        ..Faults::default()
    };
    let mut stage = Stage::with(Agency::new(), faults);
    let mut links = Vec::new();
    for number in 0..u16::try_from(limits::OFFICERS_MAX).unwrap() {
        let mut peer = [3; 32];
        peer[..2].copy_from_slice(&number.to_be_bytes());
        let link = stage.up(suora_protocol::identity::PeerId::from_bytes(peer), true);
        assert_eq!(stage.attend(link, Vec::new(), None), Ok(()));
        let status = Status::Break;
        stage.send(link, &ToRelay::Status { status }).unwrap();
        links.push(link);
    }
    let one_more = stage.up(officer_key(1).peer_id(), true);
    assert_eq!(
        code(stage.attend(one_more, Vec::new(), None)),
        Some(Code::Busy)
    );
    stage.pass(5 * SECOND);
    for link in &links {
        stage.officer_hears(*link);
    }
    for number in 1..=30 {
        stage.waits(number);
    }
    let told = |stage: &mut Stage| -> Vec<Vec<FromRelay>> {
        links
            .iter()
            .map(|link| stage.officer_hears(*link))
            .collect()
    };
    let at_once = told(&mut stage);
    assert!(at_once.iter().map(Vec::len).sum::<usize>() <= 200);
    stage.pass(5 * SECOND);
    let desk = desk("tax");
    for (heard, before) in told(&mut stage).iter().zip(at_once) {
        let last = heard.last().or(before.last());
        let waiting = 30;
        let desk = desk.clone();
        assert_eq!(last, Some(&FromRelay::Waiting { desk, waiting }));
    }
}
