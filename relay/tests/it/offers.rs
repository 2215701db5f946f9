//! Offers and consultations: what an offer is, how it ends, and who comes next.

use std::time::Duration;

use suora_protocol::documents::{Challenge, TicketId};
use suora_protocol::fault::Code;
use suora_protocol::limits;
use suora_protocol::wire::citizen;
use suora_protocol::wire::officer::{FromRelay, Status, ToRelay};
use suora_relay::hub::LinkId;

use crate::agency::{desk, officer_key};
use crate::stage::{Stage, citizen_key, code};

const SECOND: Duration = Duration::from_secs(1);

// covers: SUORA-DSK-004
#[test]
fn an_unanswered_offer_goes_to_the_next_and_the_silent_officer_is_busy() {
    let mut stage = Stage::new();
    let (citizen, ticket) = stage.waits(1);
    let first = stage.attends(&officer_key(1));
    assert_eq!(stage.offer(first), Some((ticket, 1)));
    stage.citizen_hears(citizen);
    stage.pass(limits::OFFER - Duration::from_millis(1));
    let before = stage.officer_hears(first);
    assert!(
        before
            .iter()
            .all(|message| matches!(message, FromRelay::Waiting { .. }))
    );
    let second = stage.attends(&officer_key(2));
    stage.pass(Duration::from_millis(1));
    let code = Code::OfferExpired;
    let withdrawn = FromRelay::Withdrawn {
        ticket,
        attempt: 1,
        code,
    };
    assert_eq!(stage.officer_hears(first)[0], withdrawn);
    let position = 0;
    assert_eq!(
        stage.citizen_hears(citizen),
        [
            citizen::FromRelay::Waiting {
                ticket,
                position,
                code
            },
            citizen::FromRelay::Matched { ticket, attempt: 2 }
        ]
    );
    assert_eq!(stage.offer(second), Some((ticket, 2)));
    // the first is asked again once it says that it is there
    stage.waits(2);
    assert_eq!(stage.offer(first), None);
    let status = Status::Available;
    stage.send(first, &ToRelay::Status { status }).unwrap();
    assert!(stage.offer(first).is_some());
}

// covers: SUORA-DSK-001, SUORA-DSK-004
#[test]
fn an_expired_offer_waits_ahead_of_those_who_came_later() {
    let mut stage = Stage::new();
    stage.waits(1);
    stage.attends(&officer_key(1));
    stage.waits(2);
    assert_eq!(stage.queue(), [2]);
    stage.pass(limits::OFFER);
    assert_eq!(stage.queue(), [1, 2]);
}

// covers: SUORA-DSK-012
#[test]
fn a_declined_ticket_goes_to_another_officer_and_the_next_ticket_to_the_one_who_declined() {
    let mut stage = Stage::new();
    let (_, one) = stage.waits(1);
    let (_, two) = stage.waits(2);
    let officer = stage.attends(&officer_key(1));
    let decline = |ticket, code| ToRelay::Declined {
        ticket,
        attempt: 1,
        code,
    };
    assert_eq!(stage.offer(officer), Some((one, 1)));
    stage.send(officer, &decline(one, Code::Declined)).unwrap();
    assert_eq!(stage.queue(), [1]);
    assert_eq!(stage.offer(officer), Some((two, 1)));
    let other = stage.attends(&officer_key(2));
    assert_eq!(stage.offer(other), Some((one, 2)));
}

// covers: SUORA-DSK-012
#[test]
fn an_officers_own_trouble_rests_it_for_a_moment_and_costs_the_ticket_nothing() {
    let mut stage = Stage::new();
    let (_, ticket) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    // a refusal before its invite is of its own proof
    for (attempt, code) in [(1, Code::Busy), (2, Code::BadSignature)] {
        assert_eq!(stage.offer(officer), Some((ticket, attempt)));
        let declined = ToRelay::Declined {
            ticket,
            attempt,
            code,
        };
        stage.send(officer, &declined).unwrap();
        assert_eq!(stage.offer(officer), None);
        stage.pass(SECOND);
    }
    assert_eq!(stage.offer(officer), Some((ticket, 3)));
    // one after it is of its guest's
    let (attempt, code, invite) = (3, Code::BadSignature, vec![1]);
    let invite = ToRelay::Invite {
        ticket,
        attempt,
        invite,
    };
    stage.send(officer, &invite).unwrap();
    let declined = ToRelay::Declined {
        ticket,
        attempt,
        code,
    };
    stage.send(officer, &declined).unwrap();
    stage.pass(SECOND);
    assert_eq!(stage.offer(officer), None);
}

// covers: SUORA-DSK-003
#[test]
fn the_longest_free_officer_is_asked_first_and_each_has_one_offer() {
    let mut stage = Stage::new();
    let late = stage.attends(&officer_key(1));
    let early = stage.attends(&officer_key(2));
    let status = |status| ToRelay::Status { status };
    stage.pass(SECOND);
    stage.send(late, &status(Status::Break)).unwrap();
    stage.pass(SECOND);
    stage.send(late, &status(Status::Available)).unwrap();
    let (_, one) = stage.waits(1);
    assert_eq!(stage.offer(early), Some((one, 1)));
    let (_, two) = stage.waits(2);
    assert_eq!(stage.offer(late), Some((two, 1)));
    stage.waits(3);
    assert_eq!(stage.queue(), [3]);
    assert_eq!((stage.offer(early), stage.offer(late)), (None, None));
}

// covers: SUORA-DSK-010
#[test]
fn an_offer_says_who_waits_and_the_invite_goes_through_once() {
    let mut stage = Stage::new();
    let (citizen, ticket) = stage.waits(1);
    stage.citizen_hears(citizen);
    let officer = stage.attends(&officer_key(1));
    let offer = FromRelay::Offer {
        ticket,
        attempt: 1,
        desk: desk("tax"),
        guest: citizen_key(1),
        challenge: Challenge::from_bytes([5; 16]),
        waited_ms: 0,
        expires_in_ms: 30_000,
    };
    assert_eq!(stage.officer_hears(officer).last(), Some(&offer));
    let invite = ToRelay::Invite {
        ticket,
        attempt: 1,
        invite: vec![1, 2, 3],
    };
    stage.send(officer, &invite).unwrap();
    let passed = citizen::FromRelay::Invite {
        ticket,
        attempt: 1,
        invite: vec![1, 2, 3],
    };
    assert_eq!(stage.citizen_hears(citizen).last(), Some(&passed));
    assert_eq!(
        code(stage.send(officer, &invite)),
        Some(Code::ProtocolViolation)
    );
    assert_eq!(stage.citizen_hears(citizen), []);
}

// covers: SUORA-DSK-010, SUORA-DSK-015
#[test]
fn words_about_the_tickets_of_others_are_refused() {
    let mut stage = Stage::new();
    let (_, ticket) = stage.waits(1);
    let first = stage.attends(&officer_key(1));
    let other = stage.attends(&officer_key(2));
    assert_eq!(stage.offer(first), Some((ticket, 1)));
    let attempt = 1;
    let declined = Code::Declined;
    for message in [
        ToRelay::Accepted { ticket, attempt },
        ToRelay::Invite {
            ticket,
            attempt,
            invite: vec![1],
        },
        ToRelay::Declined {
            ticket,
            attempt,
            code: declined,
        },
        ToRelay::Done {
            ticket,
            code: declined,
        },
    ] {
        assert_eq!(code(stage.send(other, &message)), Some(Code::NoTicket));
    }
    stage.accept(first, (ticket, attempt));
    assert_eq!(stage.hub.counts().engaged, 1);
}

// covers: SUORA-DSK-010
#[test]
fn words_that_cross_the_end_of_an_offer_are_no_offence() {
    let mut stage = Stage::new();
    let (_, ticket) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    let offer = stage.offer(officer).unwrap();
    stage.pass(limits::OFFER);
    let invite = ToRelay::Invite {
        ticket,
        attempt: 1,
        invite: vec![1],
    };
    assert_eq!(stage.send(officer, &invite), Ok(()));
    // a yes that came too late: the officer's node believes that it talks, so it is not asked
    stage.accept(officer, offer);
    let available = ToRelay::Status {
        status: Status::Available,
    };
    stage.send(officer, &available).unwrap();
    assert_eq!(stage.offer(officer), None);
    assert_eq!(stage.queue(), [1]);
    // until it says that this is over; the ticket is not its to end
    let done = ToRelay::Done {
        ticket,
        code: Code::PeerSilent,
    };
    stage.send(officer, &done).unwrap();
    assert_eq!(stage.offer(officer), Some((ticket, 2)));
}

// covers: SUORA-DSK-012
#[test]
fn an_officer_whose_link_falls_loses_the_offer_and_nothing_else_is_lost() {
    let mut stage = Stage::new();
    let (citizen, ticket) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    stage.citizen_hears(citizen);
    stage.down(officer);
    let (code, position) = (Code::OfficerGone, 0);
    let waiting = citizen::FromRelay::Waiting {
        ticket,
        position,
        code,
    };
    assert_eq!(stage.citizen_hears(citizen), [waiting]);
    let officer = stage.attends(&officer_key(1));
    assert_eq!(stage.offer(officer), Some((ticket, 2)));
}

// covers: SUORA-DSK-012
#[test]
fn a_citizen_whose_link_falls_ends_the_offer_and_comes_first_when_back() {
    let mut stage = Stage::new();
    let (citizen, ticket) = stage.waits(1);
    let (_, two) = stage.waits(2);
    let officer = stage.attends(&officer_key(1));
    assert_eq!(stage.offer(officer), Some((ticket, 1)));
    stage.down(citizen);
    let heard = stage.officer_hears(officer);
    let withdrawn = FromRelay::Withdrawn {
        ticket,
        attempt: 1,
        code: Code::CitizenGone,
    };
    assert_eq!(heard[0], withdrawn);
    assert!(matches!(heard[1], FromRelay::Offer { ticket, .. } if ticket == two));
    let (_, again) = stage.waits(1);
    assert_eq!(again, ticket);
    let other = stage.attends(&officer_key(2));
    assert_eq!(stage.offer(other), Some((ticket, 2)));
}

/// One citizen in consultation with one officer.
fn engaged() -> (Stage, LinkId, LinkId, TicketId) {
    let mut stage = Stage::new();
    let (citizen, ticket) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    let offer = stage.offer(officer).unwrap();
    stage.accept(officer, offer);
    stage.citizen_hears(citizen);
    assert_eq!(stage.hub.counts().engaged, 1);
    (stage, citizen, officer, ticket)
}

#[test]
fn either_end_says_that_a_consultation_is_over_in_any_order() {
    let code = Code::Ended;
    let (mut stage, citizen, officer, ticket) = engaged();
    let by_citizen = citizen::ToRelay::Done { ticket, code };
    let by_officer = ToRelay::Done { ticket, code };
    stage.send(officer, &by_officer).unwrap();
    let ended = citizen::FromRelay::Ended { ticket, code };
    assert_eq!(stage.citizen_hears(citizen), [ended]);
    stage.send(citizen, &by_citizen).unwrap();
    assert_eq!(stage.citizen_hears(citizen), []);
    assert!(stage.store.rows.is_empty());

    let (mut stage, citizen, officer, ticket) = engaged();
    stage.send(citizen, &by_citizen_of(ticket)).unwrap();
    let withdrawn = FromRelay::Withdrawn {
        ticket,
        attempt: 1,
        code,
    };
    assert_eq!(stage.officer_hears(officer), [withdrawn]);
    // the officer comes back by its own word
    stage.waits(2);
    assert_eq!(stage.offer(officer), None);
    stage
        .send(officer, &ToRelay::Done { ticket, code })
        .unwrap();
    assert!(stage.offer(officer).is_some());
}

fn by_citizen_of(ticket: TicketId) -> citizen::ToRelay {
    citizen::ToRelay::Done {
        ticket,
        code: Code::Ended,
    }
}

// covers: SUORA-DSK-013
#[test]
fn a_consultation_outlives_both_links_and_its_ticket_does_so_for_the_grace() {
    let (mut stage, citizen, officer, ticket) = engaged();
    stage.down(citizen);
    stage.down(officer);
    stage.pass(limits::GRACE - SECOND);
    let officer = stage.up(officer_key(1).peer_id(), true);
    let credential = stage.agency.credential(&officer_key(1));
    stage.attend(officer, credential, Some(ticket)).unwrap();
    // the officer is back: the consultation goes on without the citizen's link
    stage.pass(10 * limits::GRACE);
    assert_eq!(stage.hub.counts().engaged, 1);
    stage.waits(2);
    assert_eq!(stage.offer(officer), None);
    stage.down(officer);
    stage.pass(limits::GRACE);
    assert_eq!(stage.hub.counts().engaged, 0);
    assert_eq!(stage.store.rows.len(), 1, "only who waits");
}

// covers: SUORA-DSK-013
#[test]
fn an_officer_that_no_longer_knows_its_consultation_gives_the_ticket_back() {
    let (mut stage, citizen, officer, ticket) = engaged();
    stage.down(officer);
    let officer = stage.attends(&officer_key(1));
    let (code, position) = (Code::OfficerGone, 0);
    let waiting = citizen::FromRelay::Waiting {
        ticket,
        position,
        code,
    };
    assert_eq!(stage.citizen_hears(citizen), [waiting]);
    // its citizen needs a while to notice that nobody is there
    assert_eq!(stage.offer(officer), None);
    stage.pass(limits::SILENCE);
    assert_eq!(stage.offer(officer), Some((ticket, 2)));
}

// covers: SUORA-DSK-013
#[test]
fn an_officer_in_a_consultation_that_the_hub_does_not_know_is_not_asked() {
    let mut stage = Stage::new();
    stage.waits(1);
    let officer = stage.up(officer_key(1).peer_id(), true);
    let credential = stage.agency.credential(&officer_key(1));
    let unknown = TicketId::from_bytes([9; 16]);
    stage.attend(officer, credential, Some(unknown)).unwrap();
    assert_eq!(stage.offer(officer), None);
    let done = ToRelay::Done {
        ticket: unknown,
        code: Code::Ended,
    };
    stage.send(officer, &done).unwrap();
    assert!(stage.offer(officer).is_some());
}

#[test]
fn a_citizen_that_asks_anew_in_mid_consultation_waits_at_its_old_place() {
    let (mut stage, _, officer, ticket) = engaged();
    stage.waits(2);
    let (_, again) = stage.waits(1);
    assert_eq!(again, ticket);
    assert_eq!(stage.queue(), [1, 2]);
    let withdrawn = FromRelay::Withdrawn {
        ticket,
        attempt: 1,
        code: Code::CitizenGone,
    };
    assert!(stage.officer_hears(officer).contains(&withdrawn));
}

// covers: SUORA-DSK-011
#[test]
fn a_citizen_that_cannot_use_an_invite_rests_and_keeps_its_place() {
    let mut stage = Stage::new();
    let (citizen, ticket) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    assert_eq!(stage.offer(officer), Some((ticket, 1)));
    let refused = |attempt, code| citizen::ToRelay::Refused {
        ticket,
        attempt,
        code,
    };
    stage
        .send(citizen, &refused(1, Code::HandshakeFailed))
        .unwrap();
    let (_, two) = stage.waits(2);
    assert_eq!(stage.offer(officer), Some((two, 1)));
    let other = stage.attends(&officer_key(2));
    stage.pass(4 * SECOND);
    assert_eq!(stage.offer(other), None, "it may not spin");
    stage.pass(SECOND);
    assert_eq!(stage.offer(other), Some((ticket, 2)));
    // a word about the old attempt is late, one about a future attempt is none
    assert_eq!(stage.send(citizen, &refused(1, Code::Timeout)), Ok(()));
    assert_eq!(
        code(stage.send(citizen, &refused(9, Code::Timeout))),
        Some(Code::ProtocolViolation)
    );
    assert_eq!(stage.hub.counts().offers, 3);
}

// covers: SUORA-DSK-011
#[test]
fn a_citizen_that_is_in_a_session_already_is_asked_no_more() {
    let mut stage = Stage::new();
    let (citizen, ticket) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    assert_eq!(stage.offer(officer), Some((ticket, 1)));
    let refused = citizen::ToRelay::Refused {
        ticket,
        attempt: 1,
        code: Code::AlreadyInvited,
    };
    stage.send(citizen, &refused).unwrap();
    stage.pass(100 * SECOND);
    assert_eq!(stage.offer(officer), None);
    stage.join(citizen);
    assert_eq!(stage.offer(officer), Some((ticket, 2)));
}

// covers: SUORA-DSK-011
#[test]
fn a_refused_proof_ends_the_contact_and_the_officer_hears_why() {
    let mut stage = Stage::new();
    let (citizen, ticket) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    stage.citizen_hears(citizen);
    stage.officer_hears(officer);
    let code = Code::NoCredential;
    let refused = citizen::ToRelay::Refused {
        ticket,
        attempt: 1,
        code,
    };
    stage.send(citizen, &refused).unwrap();
    let ended = citizen::FromRelay::Ended { ticket, code };
    assert_eq!(stage.citizen_hears(citizen), [ended]);
    let withdrawn = FromRelay::Withdrawn {
        ticket,
        attempt: 1,
        code,
    };
    assert_eq!(stage.officer_hears(officer), [withdrawn]);
    assert!(stage.store.rows.is_empty());
}

#[test]
fn a_refusal_over_a_new_stream_brings_its_owner_back() {
    let mut stage = Stage::new();
    let (citizen, ticket) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    assert_eq!(stage.offer(officer), Some((ticket, 1)));
    stage.down(citizen);
    // in a warm session the citizen's node does not ask anew; then the session ends
    let citizen = stage.citizen(1);
    let refused = citizen::ToRelay::Refused {
        ticket,
        attempt: 1,
        code: Code::CitizenGone,
    };
    stage.send(citizen, &refused).unwrap();
    assert_eq!(stage.offer(officer), Some((ticket, 2)));
}

#[test]
fn a_no_that_its_citizen_heard_first_lets_the_ticket_go_on_at_once() {
    let mut stage = Stage::new();
    let (citizen, ticket) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    let other = stage.attends(&officer_key(2));
    assert_eq!(stage.offer(officer), Some((ticket, 1)));
    let (attempt, code) = (1, Code::Declined);
    let refused = citizen::ToRelay::Refused {
        ticket,
        attempt,
        code,
    };
    stage.send(citizen, &refused).unwrap();
    assert_eq!(stage.offer(other), None);
    let declined = ToRelay::Declined {
        ticket,
        attempt,
        code,
    };
    stage.send(officer, &declined).unwrap();
    assert_eq!(stage.offer(other), Some((ticket, 2)));
}
