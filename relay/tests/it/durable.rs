//! What outlives the process, and that nothing is said before it does.

use std::time::Duration;

use suora_protocol::limits;
use suora_protocol::wire::citizen::{FromRelay, ToRelay};
use suora_protocol::wire::officer;

use crate::agency::officer_key;
use crate::stage::Stage;

// covers: SUORA-DSK-009
#[test]
fn nothing_is_said_before_it_is_durable() {
    let mut stage = Stage::new();
    let (first, second) = (stage.citizen(1), stage.citizen(2));
    stage.lags = true;
    stage.ask(first).unwrap();
    stage.ask(second).unwrap();
    let ping = ToRelay::Ping { n: 1 };
    stage.send(second, &ping).unwrap();
    assert_eq!(stage.pending.len(), 2, "two commits are under way");
    assert_eq!(
        (stage.citizen_hears(first), stage.citizen_hears(second)),
        (vec![], vec![])
    );
    stage.answer();
    assert!(matches!(
        stage.citizen_hears(first).as_slice(),
        [FromRelay::Queued { .. }]
    ));
    assert_eq!(stage.citizen_hears(second), []);
    stage.answer();
    assert!(matches!(
        stage.citizen_hears(second).as_slice(),
        [
            FromRelay::Queued { position: 1, .. },
            FromRelay::Pong { n: 1 }
        ]
    ));
}

#[test]
fn one_answer_may_cover_several_commits() {
    let mut stage = Stage::new();
    let (first, second) = (stage.citizen(1), stage.citizen(2));
    stage.lags = true;
    stage.ask(first).unwrap();
    stage.ask(second).unwrap();
    let (_, changes) = stage.pending.pop_front().unwrap();
    stage.store.apply(&changes);
    stage.answer();
    assert_eq!(stage.citizen_hears(first).len(), 1);
    assert_eq!(stage.citizen_hears(second).len(), 1);
}

#[test]
fn an_offer_is_numbered_before_it_is_said() {
    let mut stage = Stage::new();
    let (citizen, ticket) = stage.waits(1);
    stage.lags = true;
    let officer = stage.attends(&officer_key(1));
    assert_eq!(stage.offer(officer), None);
    assert_eq!(stage.store.rows[0].attempt, 0);
    // the process dies before the store has it: the number was never heard, and is used anew
    stage.kill();
    stage.lags = false;
    let again = stage.citizen(1);
    assert_eq!(stage.join(again), ticket);
    let officer = stage.attends(&officer_key(1));
    assert_eq!(stage.offer(officer), Some((ticket, 1)));
    assert_eq!(stage.store.rows[0].attempt, 1);
    assert_ne!(citizen, again);
}

// covers: SUORA-DSK-009
#[test]
fn a_killed_relay_has_everybody_in_the_same_order() {
    let mut stage = Stage::new();
    for number in 1..=20 {
        stage.waits(number);
    }
    let officer = stage.attends(&officer_key(1));
    assert!(stage.offer(officer).is_some());
    assert_eq!(stage.queue(), (2..=20).collect::<Vec<_>>());
    stage.kill();
    assert_eq!(
        stage.queue(),
        (1..=20).collect::<Vec<_>>(),
        "who was offered waits at the old place"
    );
    for number in (1..=20).rev() {
        let link = stage.citizen(number);
        stage.ask(link).unwrap();
        let heard = stage.citizen_hears(link);
        assert!(matches!(
            heard.as_slice(),
            [FromRelay::Queued { position, .. }] if *position == u32::from(number) - 1
        ));
    }
    let (_, newcomer) = stage.waits(21);
    assert_eq!(stage.queue().last(), Some(&21));
    assert!(
        stage
            .store
            .rows
            .last()
            .is_some_and(|row| row.ticket == newcomer)
    );
}

// covers: SUORA-DSK-009
#[test]
fn the_grace_of_all_runs_from_the_restart() {
    let mut stage = Stage::new();
    stage.waits(1);
    stage.pass(Duration::from_secs(3_600));
    stage.kill();
    stage.pass(limits::GRACE - Duration::from_secs(1));
    assert_eq!(stage.queue(), [1]);
    stage.pass(Duration::from_secs(1));
    assert!(stage.queue().is_empty());
    assert!(stage.store.rows.is_empty());
}

// covers: SUORA-DSK-009, SUORA-DSK-013
#[test]
fn a_consultation_goes_on_over_a_restart() {
    let mut stage = Stage::new();
    let (_, ticket) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    let offer = stage.offer(officer).unwrap();
    stage.accept(officer, offer);
    stage.kill();
    assert_eq!(stage.hub.counts().engaged, 1);
    stage.waits(2);
    let officer = stage.up(officer_key(1).peer_id(), true);
    let credential = stage.agency.credential(&officer_key(1));
    stage.attend(officer, credential, Some(ticket)).unwrap();
    assert_eq!(stage.offer(officer), None, "it talks");
    let done = officer::ToRelay::Done {
        ticket,
        code: suora_protocol::fault::Code::Ended,
    };
    stage.send(officer, &done).unwrap();
    assert!(stage.offer(officer).is_some());
    assert_eq!(stage.store.rows.len(), 1);
}

#[test]
fn an_officer_that_forgot_over_a_restart_gives_the_ticket_back() {
    let mut stage = Stage::new();
    let (_, ticket) = stage.waits(1);
    let officer = stage.attends(&officer_key(1));
    let offer = stage.offer(officer).unwrap();
    stage.accept(officer, offer);
    stage.kill();
    let officer = stage.attends(&officer_key(1));
    assert_eq!(stage.queue(), [1]);
    let citizen = stage.citizen(1);
    assert_eq!(stage.join(citizen), ticket);
    assert_eq!(stage.offer(officer), Some((ticket, 2)));
}

#[test]
fn an_officer_that_accepted_as_the_relay_died_is_not_disturbed() {
    let mut stage = Stage::new();
    let (_, ticket) = stage.waits(1);
    stage.attends(&officer_key(1));
    stage.kill();
    let officer = stage.up(officer_key(1).peer_id(), true);
    let credential = stage.agency.credential(&officer_key(1));
    stage.attend(officer, credential, Some(ticket)).unwrap();
    stage.waits(2);
    assert_eq!(stage.offer(officer), None);
    assert_eq!(
        stage.queue(),
        [1, 2],
        "whose word it is will show: the citizen's"
    );
}
