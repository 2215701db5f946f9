//! A crowd of free keys from one prefix: what it pays, and that it moves nobody else.

use std::time::Duration;

use suora_protocol::documents::{Challenge, TicketId};
use suora_protocol::fault::Code;
use suora_protocol::identity::PeerId;
use suora_protocol::limits;
use suora_protocol::wire::citizen::{FromRelay, ToRelay};
use suora_protocol::wire::officer;
use suora_protocol::wire::work::{Puzzle, Work};
use suora_relay::hub::LinkId;
use suora_relay::hub::crowd::{Bounds, Prefix};

use crate::agency::{desk, officer_key};
use crate::stage::{Stage, code};

/// Key `number` of the crowd.
fn key(number: u32) -> PeerId {
    let mut bytes = [200; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    PeerId::from_bytes(bytes)
}

fn there() -> Prefix {
    Prefix::of([198, 51, 100, 9].into())
}

/// One of the crowd joins without work: its stream, and what it hears.
fn comes(stage: &mut Stage, number: u32) -> (LinkId, Vec<FromRelay>, Option<Code>) {
    let link = stage.up_from(there(), key(number), false);
    let refused = code(stage.ask(link));
    let heard = stage.citizen_hears(link);
    (link, heard, refused)
}

/// Does the work that was asked for, and joins with it.
fn works(stage: &mut Stage, number: u32, link: LinkId, heard: &[FromRelay]) -> Vec<FromRelay> {
    let [FromRelay::Work { desk, slot, bits }] = heard else {
        panic!("no work was asked for: {heard:?}");
    };
    let puzzle = Puzzle {
        desk: desk.clone(),
        slot: *slot,
        peer: key(number),
        bits: *bits,
    };
    join(stage, link, puzzle.solve().unwrap()).unwrap();
    stage.citizen_hears(link)
}

fn join(stage: &mut Stage, link: LinkId, work: Work) -> Result<(), suora_protocol::fault::Fault> {
    let join = ToRelay::Join {
        desk: desk("tax"),
        challenge: Challenge::from_bytes([5; 16]),
        ticket: None,
        work: Some(work),
    };
    stage.send(link, &join)
}

fn is_queued(heard: &[FromRelay]) -> bool {
    matches!(heard, [FromRelay::Queued { .. }])
}

// covers: SUORA-DSK-120, SUORA-DSK-121
#[test]
fn a_flood_from_one_prefix_moves_nobody_and_ends_at_its_bound() {
    let mut stage = Stage::new();
    stage.hub.set_bounds(Bounds {
        prefix: 40,
        ..Bounds::default()
    });
    let before: Vec<_> = (1..=5).map(|number| stage.waits(number)).collect();
    for (link, _) in &before {
        stage.citizen_hears(*link);
    }
    let (mut free, mut worked, mut crowded) = (0, 0, 0);
    for number in 0..3_000 {
        let (link, heard, refused) = comes(&mut stage, number);
        match refused {
            Some(code) => {
                assert_eq!(code, Code::Crowded);
                crowded += 1;
            }
            None if is_queued(&heard) => free += 1,
            None => {
                assert!(is_queued(&works(&mut stage, number, link, &heard)));
                worked += 1;
            }
        }
    }
    assert_eq!((free, worked, crowded), (32, 8, 2_960));
    // nobody who waited heard anything of it
    for (link, _) in &before {
        assert_eq!(stage.citizen_hears(*link), []);
    }
    // somebody from elsewhere waits behind what the bound let in, and behind nothing else
    let (link, _) = stage.waits(6);
    assert!(stage.citizen_hears(link).is_empty());
    assert_eq!(stage.queue().iter().position(|first| *first == 6), Some(45));
    // and the first is served first
    let officer = stage.attends(&officer_key(1));
    assert_eq!(stage.offer(officer), Some((before[0].1, 1)));
}

// covers: SUORA-DSK-120
#[test]
fn who_has_a_ticket_in_a_crowded_place_is_asked_for_nothing() {
    let mut stage = Stage::new();
    stage.hub.set_bounds(Bounds {
        prefix: 3,
        ..Bounds::default()
    });
    for number in 0..3 {
        assert!(is_queued(&comes(&mut stage, number).1));
    }
    assert_eq!(comes(&mut stage, 9).2, Some(Code::Crowded));
    assert!(is_queued(&comes(&mut stage, 1).1), "it is back");
    // also after the relay began anew, which remembers nobody's prefix
    stage.kill();
    stage.hub.set_bounds(Bounds {
        prefix: 2,
        ..Bounds::default()
    });
    for number in 0..3 {
        assert!(is_queued(&comes(&mut stage, number).1));
    }
    assert_eq!(comes(&mut stage, 9).2, Some(Code::Crowded));
    // leaving and coming again is no way around
    let (link, heard, _) = comes(&mut stage, 0);
    let [FromRelay::Queued { ticket, .. }] = heard[..] else {
        panic!("{heard:?}");
    };
    stage.send(link, &ToRelay::Leave { ticket }).unwrap();
    assert_eq!(comes(&mut stage, 0).2, Some(Code::Crowded));
    stage.pass(2 * limits::WORK_SLOT);
    let (.., refused) = comes(&mut stage, 8);
    assert_eq!(refused, Some(Code::Crowded), "two are still there");
}

// covers: SUORA-DSK-121
#[test]
fn work_of_another_key_or_of_no_key_is_refused() {
    let mut stage = Stage::new();
    stage.hub.set_bounds(Bounds {
        prefix_free: 0,
        ..Bounds::default()
    });
    let (one, heard, _) = comes(&mut stage, 1);
    let [FromRelay::Work { slot, bits, .. }] = heard[..] else {
        panic!("{heard:?}");
    };
    assert_eq!(bits, limits::WORK_BITS);
    let puzzle = Puzzle {
        desk: desk("tax"),
        slot,
        peer: key(1),
        bits,
    };
    let work = puzzle.solve().unwrap();
    let (other, ..) = comes(&mut stage, 2);
    let refused = code(join(&mut stage, other, work));
    assert_eq!(refused, Some(Code::BadWork));
    assert!(join(&mut stage, one, work).is_ok());
    assert!(is_queued(&stage.citizen_hears(one)));
}

// covers: SUORA-DSK-121
#[test]
fn where_very_many_wait_everybody_works_and_nobody_is_kept_out() {
    let mut stage = Stage::new();
    stage.hub.set_bounds(Bounds {
        queue_free: 2,
        ..Bounds::default()
    });
    stage.waits(1);
    stage.waits(2);
    let (link, heard, _) = comes(&mut stage, 3);
    assert!(is_queued(&works(&mut stage, 3, link, &heard)));
    let at_another_desk = stage.citizen(9);
    stage.ask_at(at_another_desk, "job").unwrap();
    assert!(is_queued(&stage.citizen_hears(at_another_desk)));
}

/// The officer's guest does not come.
fn nobody_comes(stage: &mut Stage, officer: LinkId, (ticket, attempt): (TicketId, u32)) {
    let code = Code::Timeout;
    let declined = officer::ToRelay::Declined {
        ticket,
        attempt,
        code,
    };
    stage.send(officer, &declined).unwrap();
}

// covers: SUORA-DSK-124
#[test]
fn who_never_comes_costs_five_offers_and_those_behind_are_served() {
    let mut stage = Stage::new();
    let mut ghosts = std::collections::BTreeSet::new();
    for number in 0..20 {
        let (_, heard, _) = comes(&mut stage, number);
        let [FromRelay::Queued { ticket, .. }] = heard[..] else {
            panic!("{heard:?}");
        };
        ghosts.insert(ticket);
    }
    let (_, anna) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    let (mut asked, mut second) = (0, 0_u32);
    // each ghost costs the officer ten seconds
    let served = loop {
        if let Some(offer) = stage.offer(officer) {
            if !ghosts.contains(&offer.0) {
                break offer.0;
            }
            asked += 1;
            stage.pass(Duration::from_secs(10));
            second += 10;
            nobody_comes(&mut stage, officer, offer);
        }
        stage.pass(Duration::from_secs(1));
        second += 1;
        assert!(second < 1_200, "{asked} ghosts, and nobody else is served");
    };
    assert_eq!(served, anna);
    assert!(asked <= 20 * 5, "{asked} offers to ghosts in {second} s");
}

// covers: SUORA-DSK-124
#[test]
fn coming_back_shortens_no_rest_that_was_earned_and_an_accept_ends_it() {
    let mut stage = Stage::new();
    let (_, ticket) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    let mut offer = stage.offer(officer);
    for attempt in 1..=3 {
        assert_eq!(offer, Some((ticket, attempt)));
        // the link falls, and is back at once
        stage.waits(1);
        offer = stage.offer(officer);
    }
    assert_eq!(offer, None, "after the third time it rests");
    stage.waits(1);
    assert_eq!(stage.offer(officer), None);
    stage.pass(Duration::from_secs(9));
    assert_eq!(stage.offer(officer), None);
    stage.pass(Duration::from_secs(1));
    let offer = stage.offer(officer).unwrap();
    stage.accept(officer, offer);
    let done = officer::ToRelay::Done {
        ticket,
        code: Code::Ended,
    };
    stage.send(officer, &done).unwrap();
    // a new contact begins anew
    let (_, next) = stage.waits(1);
    assert_eq!(stage.offer(officer), Some((next, 1)));
}
