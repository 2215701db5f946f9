//! Citizens at a desk: the queue, its bounds, and what each is told.

use std::time::Duration;

use suora_protocol::documents::{Challenge, Desk, Names, TicketId};
use suora_protocol::fault::Code;
use suora_protocol::limits;
use suora_protocol::wire::citizen::{FromRelay, ToRelay};
use suora_relay::Faults;
use suora_relay::hub::crowd::Bounds;
use suora_relay::hub::{Input, LinkId};

use crate::agency::{Agency, desk, officer_key};
use crate::stage::{Stage, citizen_key, code};

const SECOND: Duration = Duration::from_secs(1);

fn positions(heard: &[FromRelay]) -> Vec<u32> {
    heard
        .iter()
        .filter_map(|message| match message {
            FromRelay::Position { position, .. } => Some(*position),
            _ => None,
        })
        .collect()
}

// covers: SUORA-DSK-001, SUORA-DSK-003
#[test]
fn first_come_first_served_and_everybody_knows_the_position() {
    let mut stage = Stage::new();
    let (first, one) = stage.waits(1);
    let (second, two) = stage.waits(2);
    let (third, three) = stage.waits(3);
    assert_eq!(stage.queue(), [1, 2, 3]);
    let officer = stage.attends(&officer_key(1));
    assert_eq!(stage.offer(officer), Some((one, 1)));
    assert_eq!(
        stage.citizen_hears(first),
        [FromRelay::Matched {
            ticket: one,
            attempt: 1
        }]
    );
    let moved = |ticket, position| [FromRelay::Position { ticket, position }];
    assert_eq!(stage.citizen_hears(second), moved(two, 0));
    assert_eq!(stage.citizen_hears(third), moved(three, 1));
}

#[test]
fn a_key_has_one_ticket_a_desk_and_finds_it_with_or_without_its_number() {
    let mut stage = Stage::new();
    let (link, ticket) = stage.waits(1);
    stage.waits(2);
    assert_eq!(stage.join(link), ticket);
    let join = ToRelay::Join {
        desk: desk("tax"),
        challenge: Challenge::from_bytes([9; 16]),
        ticket: Some(TicketId::from_bytes([9; 16])),
        work: None,
    };
    stage.send(link, &join).unwrap();
    let queued = FromRelay::Queued {
        ticket,
        position: 0,
    };
    assert_eq!(stage.citizen_hears(link), [queued]);
    assert_eq!(stage.queue(), [1, 2]);
}

// covers: SUORA-DSK-005
#[test]
fn a_lost_link_keeps_its_place_for_the_grace_and_reconnecting_resets_nothing() {
    let mut stage = Stage::new();
    let (link, ticket) = stage.waits(1);
    stage.waits(2);
    stage.down(link);
    stage.pass(limits::GRACE - SECOND);
    assert_eq!(stage.queue(), [1, 2]);
    let link = stage.citizen(1);
    assert_eq!(stage.join(link), ticket);
    assert_eq!(stage.queue(), [1, 2]);
    let officer = stage.attends(&officer_key(1));
    let waited = stage.officer_hears(officer).iter().find_map(|m| match m {
        suora_protocol::wire::officer::FromRelay::Offer { waited_ms, .. } => Some(*waited_ms),
        _ => None,
    });
    assert_eq!(waited, Some(119_000));
}

// covers: SUORA-DSK-005, SUORA-SEC-004
#[test]
fn after_the_grace_the_ticket_is_gone_from_hub_and_store() {
    let mut stage = Stage::new();
    let (link, _) = stage.waits(1);
    stage.waits(2);
    stage.down(link);
    stage.pass(limits::GRACE);
    assert_eq!(stage.queue(), [2]);
    assert_eq!(stage.store.rows.len(), 1);
}

#[test]
fn each_desk_has_its_own_grace() {
    let mut agency = Agency::new();
    agency.page.desks[0].grace = 10;
    let mut stage = Stage::with(agency, Faults::default());
    let (link, _) = stage.waits(1);
    stage.down(link);
    stage.pass(9 * SECOND);
    assert_eq!(stage.queue(), [1]);
    stage.pass(SECOND);
    assert!(stage.queue().is_empty());
}

// covers: SUORA-CTL-005
#[test]
fn a_silent_stream_is_dead_and_its_ticket_is_not() {
    let mut stage = Stage::new();
    let (link, _) = stage.waits(1);
    stage.silence(limits::LINK_SILENCE - SECOND);
    assert!(stage.closed.is_empty());
    stage.silence(SECOND);
    assert!(stage.closed.contains(&link));
    stage.silence(limits::GRACE - SECOND);
    assert_eq!(stage.queue(), [1]);
    stage.silence(SECOND);
    assert!(stage.queue().is_empty());
}

#[test]
fn who_is_away_is_passed_over_and_comes_first_when_back() {
    let mut stage = Stage::new();
    let (link, _) = stage.waits(1);
    let (_, two) = stage.waits(2);
    stage.down(link);
    let first = stage.attends(&officer_key(1));
    assert_eq!(stage.offer(first), Some((two, 1)));
    let (_, one) = stage.waits(1);
    stage.waits(3);
    let second = stage.attends(&officer_key(2));
    assert_eq!(stage.offer(second), Some((one, 1)));
}

#[test]
fn a_second_stream_of_the_same_key_takes_over() {
    let mut stage = Stage::new();
    let (old, ticket) = stage.waits(1);
    let new = stage.citizen(1);
    assert!(stage.closed.contains(&old));
    assert!(matches!(
        stage.citizen_hears(old).as_slice(),
        [FromRelay::Refused {
            code: Code::Busy,
            ..
        }]
    ));
    // the old one has nothing to say any more
    assert_eq!(stage.send(old, &ToRelay::Leave { ticket }), Ok(()));
    assert_eq!(stage.join(new), ticket);
}

// covers: SUORA-SEC-004
#[test]
fn who_leaves_is_gone_and_a_second_word_about_it_is_no_offence() {
    let mut stage = Stage::new();
    let (link, ticket) = stage.waits(1);
    assert_eq!(stage.send(link, &ToRelay::Leave { ticket }), Ok(()));
    let ended = FromRelay::Ended {
        ticket,
        code: Code::Left,
    };
    assert_eq!(stage.citizen_hears(link), [ended]);
    let done = ToRelay::Done {
        ticket,
        code: Code::Ended,
    };
    assert_eq!(stage.send(link, &done), Ok(()));
    assert_eq!(stage.citizen_hears(link), []);
    assert!(stage.store.rows.is_empty());
}

// covers: SUORA-SEC-004
#[test]
fn who_was_served_is_gone_from_hub_and_store() {
    let mut stage = Stage::new();
    let (_, ticket) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    let offer = stage.offer(officer).unwrap();
    stage.accept(officer, offer);
    assert_eq!(stage.store.rows.len(), 1, "a consultation outlives a crash");
    let done = suora_protocol::wire::officer::ToRelay::Done {
        ticket,
        code: Code::Ended,
    };
    stage.send(officer, &done).unwrap();
    assert_eq!(stage.hub.counts().engaged, 0);
    assert!(stage.store.rows.is_empty());
}

// covers: SUORA-DSK-015
#[test]
fn a_ticket_answers_to_nobody_but_its_owner() {
    let mut stage = Stage::new();
    let (_, ticket) = stage.waits(1);
    let (other, _) = stage.waits(2);
    let leave = ToRelay::Leave { ticket };
    assert_eq!(code(stage.send(other, &leave)), Some(Code::NoTicket));
    let refused = ToRelay::Refused {
        ticket,
        attempt: 1,
        code: Code::Timeout,
    };
    assert_eq!(code(stage.send(other, &refused)), Some(Code::NoTicket));
    assert_eq!(stage.queue(), [1, 2]);
}

#[test]
fn a_desk_that_is_not_listed_is_unknown() {
    let mut stage = Stage::new();
    let link = stage.citizen(1);
    assert_eq!(code(stage.ask_at(link, "moon")), Some(Code::UnknownDesk));
    assert!(matches!(
        stage.citizen_hears(link).as_slice(),
        [FromRelay::Refused { code: Code::UnknownDesk, message: Some(desk) }] if desk == "moon"
    ));
    assert!(stage.closed.is_empty());
}

// covers: SUORA-DSK-014
#[test]
fn a_queue_holds_ten_thousand() {
    let mut stage = Stage::new();
    stage.hub.set_bounds(Bounds {
        queue_free: usize::MAX,
        ..Bounds::default()
    });
    for number in 0..limits::QUEUE_MAX {
        let mut peer = [1; 32];
        peer[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let link = stage.up(suora_protocol::identity::PeerId::from_bytes(peer), false);
        assert_eq!(stage.ask(link), Ok(()));
    }
    let link = stage.citizen(200);
    assert_eq!(code(stage.ask(link)), Some(Code::QueueFull));
    // whoever has a place finds it
    let mut peer = [1; 32];
    peer[..8].copy_from_slice(&77u64.to_be_bytes());
    let back = stage.up(suora_protocol::identity::PeerId::from_bytes(peer), false);
    assert_eq!(stage.ask(back), Ok(()));
    let heard = stage.citizen_hears(back);
    assert!(matches!(
        heard.as_slice(),
        [FromRelay::Queued { position: 77, .. }]
    ));
}

// covers: SUORA-DSK-014
#[test]
fn a_key_waits_at_a_bounded_number_of_desks() {
    let mut agency = Agency::new();
    let ids: Vec<String> = (0..9).map(|number| format!("desk-{number}")).collect();
    let desks = ids.iter().map(|id| Desk::new(desk(id), Names::default()));
    agency.page.desks = desks.collect();
    let mut stage = Stage::with(agency, Faults::default());
    let link = stage.citizen(1);
    for id in &ids[..8] {
        assert_eq!(stage.ask_at(link, id), Ok(()));
    }
    assert_eq!(code(stage.ask_at(link, &ids[8])), Some(Code::Busy));
    assert_eq!(stage.ask_at(link, &ids[0]), Ok(()));
}

/// A long queue, all of them with a stream.
fn crowd(people: u16) -> (Stage, Vec<LinkId>) {
    let mut stage = Stage::new();
    let links = (0..people)
        .map(|number| {
            let mut peer = [0; 32];
            peer[..2].copy_from_slice(&number.to_be_bytes());
            let link = stage.up(suora_protocol::identity::PeerId::from_bytes(peer), false);
            stage.ask(link).unwrap();
            link
        })
        .collect();
    (stage, links)
}

#[test]
fn the_first_ten_hear_of_a_move_at_once_and_nobody_more_than_once_a_second() {
    let (mut stage, links) = crowd(1_000);
    stage.pass(10 * SECOND);
    for link in &links {
        stage.citizen_hears(*link);
    }
    for link in &links[..3] {
        let ticket = stage.join(*link);
        stage.send(*link, &ToRelay::Leave { ticket }).unwrap();
    }
    let told: Vec<usize> = links[3..]
        .iter()
        .map(|link| positions(&stage.citizen_hears(*link)).len())
        .collect();
    assert_eq!(told[..7], [3; 7], "the head hears each move");
    assert!(told[13..].iter().all(|told| *told <= 1));
    assert!(told.iter().sum::<usize>() <= 3 * 10 + 200);
    stage.pass(10 * SECOND);
    for (position, link) in (0..).zip(&links[3..]) {
        let heard = positions(&stage.citizen_hears(*link));
        assert!(heard.len() <= 10);
        if let Some(last) = heard.last() {
            assert_eq!(*last, position);
        }
    }
}

#[test]
fn a_busy_desk_does_not_flood_its_people() {
    let (mut stage, links) = crowd(200);
    let watched = links[199];
    stage.citizen_hears(watched);
    // fifty leave each second for three seconds
    for link in &links[..150] {
        let ticket = stage.join(*link);
        stage.send(*link, &ToRelay::Leave { ticket }).unwrap();
        stage.now = stage.now.after(SECOND / 50);
        stage.input(Input::Tick).unwrap();
    }
    stage.pass(2 * SECOND);
    let told = positions(&stage.citizen_hears(watched));
    assert!((3..=5).contains(&told.len()), "{told:?}");
    assert_eq!(told.last(), Some(&49));
}

// covers: SUORA-CTL-003, SUORA-CTL-006
#[test]
fn messages_of_later_versions_are_ignored_and_broken_ones_end_the_stream() {
    #[derive(serde::Serialize)]
    struct Later {
        r#type: &'static str,
        zebra: u8,
    }
    let mut stage = Stage::new();
    let (link, _) = stage.waits(1);
    let later = Later {
        r#type: "zebra",
        zebra: 1,
    };
    assert_eq!(stage.send(link, &later), Ok(()));
    assert_eq!(stage.citizen_hears(link), []);
    let body = bytes::Bytes::from_static(&[0xff, 0x00]);
    assert!(stage.input(Input::Message { link, body }).is_err());
    assert!(matches!(
        stage.citizen_hears(link).as_slice(),
        [FromRelay::Refused { .. }]
    ));
    assert!(stage.closed.contains(&link));
    assert_eq!(stage.queue(), [1], "the ticket waits out its grace");
}

// covers: SUORA-CTL-004
#[test]
fn who_speaks_too_fast_loses_the_stream() {
    let mut stage = Stage::new();
    let link = stage.citizen(1);
    let ping = ToRelay::Ping { n: 1 };
    for _ in 0..limits::LINK_BURST {
        assert_eq!(stage.send(link, &ping), Ok(()));
    }
    assert_eq!(code(stage.send(link, &ping)), Some(Code::TooFast));
    assert!(matches!(
        stage.citizen_hears(link).last(),
        Some(FromRelay::Refused {
            code: Code::TooFast,
            ..
        })
    ));
    assert!(stage.closed.contains(&link));
}

#[test]
fn a_citizen_is_not_an_officer_by_its_key_alone() {
    let mut stage = Stage::new();
    let as_citizen = stage.citizen(1);
    let as_officer = stage.up(citizen_key(1), true);
    assert!(!stage.closed.contains(&as_citizen), "one stream a protocol");
    let status = suora_protocol::wire::officer::ToRelay::Status {
        status: suora_protocol::wire::officer::Status::Available,
    };
    assert_eq!(
        code(stage.send(as_officer, &status)),
        Some(Code::NoCredential)
    );
}
