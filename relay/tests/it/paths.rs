//! Grants for the relay's TURN, and what an officer's node learns of where its guest is.

use std::time::Duration;

use suora_protocol::documents::TicketId;
use suora_protocol::fault::Code;
use suora_protocol::limits;
use suora_protocol::wire::citizen::{FromRelay, ToRelay};
use suora_protocol::wire::grant::Grant;
use suora_protocol::wire::officer;
use suora_relay::Faults;
use suora_relay::grant::Secret;
use suora_relay::hub::LinkId;

use crate::agency::{Agency, START, officer_key};
use crate::stage::Stage;

const SERVER: &str = "turn:192.0.2.7:443?transport=udp";
const MINUTE: Duration = Duration::from_secs(60);

fn secret() -> Secret {
    Secret::from_seed(&[4; 32])
}

/// A hub of a relay with TURN.
fn stage() -> Stage {
    let mut agency = Agency::new();
    agency.page.turn = vec![SERVER.into()];
    let mut stage = Stage::with(agency, Faults::default());
    stage.hub.set_secret(Some(secret()));
    stage
}

fn granted(message: &officer::FromRelay) -> Option<Grant> {
    match message {
        officer::FromRelay::Grant { grant } => Some(grant.clone()),
        _ => None,
    }
}

fn officers(stage: &mut Stage, link: LinkId) -> Vec<Grant> {
    stage
        .officer_hears(link)
        .iter()
        .filter_map(granted)
        .collect()
}

fn guests(stage: &mut Stage, link: LinkId) -> Vec<(TicketId, Grant)> {
    let heard = stage.citizen_hears(link).into_iter();
    heard
        .filter_map(|message| match message {
            FromRelay::Grant { ticket, grant } => Some((ticket, grant)),
            _ => None,
        })
        .collect()
}

/// A citizen who joins while an officer is free: what it hears at once.
fn matched(stage: &mut Stage, number: u8) -> (LinkId, TicketId, Grant) {
    let link = stage.citizen(number);
    stage.ask(link).unwrap();
    let lent = guests(stage, link);
    let [(ticket, grant)] = &lent[..] else {
        panic!("{lent:?}");
    };
    (link, *ticket, grant.clone())
}

fn told(stage: &mut Stage, link: LinkId) -> Vec<Vec<String>> {
    let heard = stage.officer_hears(link).into_iter();
    heard
        .filter_map(|message| match message {
            officer::FromRelay::Addresses { addresses, .. } => Some(addresses),
            _ => None,
        })
        .collect()
}

fn pair(grant: &Grant) -> &str {
    grant.user.split_once(':').unwrap().1
}

fn tells(stage: &mut Stage, link: LinkId, addresses: &[&str]) -> Result<(), Code> {
    let addresses = addresses.iter().map(ToString::to_string).collect();
    let told = stage.send(link, &ToRelay::Addresses { addresses });
    told.map_err(|fault| fault.code)
}

// covers: SUORA-DSK-200
#[test]
fn an_officer_has_a_grant_before_anybody_comes_and_a_guest_gets_one_of_the_same_pair() {
    let mut stage = stage();
    let officer = stage.attends(&officer_key(1));
    let first = officers(&mut stage, officer);
    let [first] = &first[..] else {
        panic!("{first:?}");
    };
    assert_eq!(first.servers, [SERVER]);
    assert_eq!(first.lasts_s, limits::GRANT.as_secs());
    assert_eq!(first.realm, "agency.example");
    assert_eq!(first.password, secret().password(&first.user));
    assert!(secret().takes(START, &first.nonce));
    let (_, ticket, lent) = matched(&mut stage, 1);
    assert_eq!(pair(&lent), pair(first));
    assert_eq!(stage.offer(officer).unwrap().0, ticket);
    // who only waits gets none
    let (waits, _) = stage.waits(2);
    assert!(guests(&mut stage, waits).is_empty());
    // and an officer who attends again on the same stream none that it has already
    let credential = stage.agency.credential(&officer_key(1));
    stage.attend(officer, credential, None).unwrap();
    assert!(officers(&mut stage, officer).is_empty());
}

// covers: SUORA-DSK-200
#[test]
fn each_consultation_has_its_own_pair() {
    let mut stage = stage();
    let officer = stage.attends(&officer_key(1));
    let first = officers(&mut stage, officer).remove(0);
    let (_, one) = stage.waits(1);
    let offer = stage.offer(officer).unwrap();
    stage.accept(officer, offer);
    let (next, two) = stage.waits(2);
    let done = officer::ToRelay::Done {
        ticket: one,
        code: Code::Ended,
    };
    stage.send(officer, &done).unwrap();
    let heard = stage.officer_hears(officer);
    let second = heard.iter().find_map(granted).unwrap();
    assert_ne!(pair(&first), pair(&second));
    assert_eq!(pair(&guests(&mut stage, next).remove(0).1), pair(&second));
    // a declined offer spends a pair too, since its guest had it
    let declined = officer::ToRelay::Declined {
        ticket: two,
        attempt: 1,
        code: Code::Declined,
    };
    stage.send(officer, &declined).unwrap();
    let third = officers(&mut stage, officer).remove(0);
    assert_ne!(pair(&third), pair(&second));
}

// covers: SUORA-DSK-201
#[test]
fn half_a_grant_later_both_ends_get_the_next_of_the_same_pair() {
    let mut stage = stage();
    let officer = stage.attends(&officer_key(1));
    let (guest, _, first) = matched(&mut stage, 1);
    stage.officer_hears(officer);
    stage.pass(Duration::from_secs(20));
    // the offer went unanswered meanwhile
    stage.pass(limits::GRANT / 2);
    stage.officer_hears(officer);
    stage.citizen_hears(guest);

    let other = stage.attends(&officer_key(2));
    let lent = guests(&mut stage, guest).remove(0).1;
    assert_ne!(pair(&lent), pair(&first));
    let offer = stage.offer(other).unwrap();
    stage.accept(other, offer);
    stage.pass(limits::GRANT / 2 - MINUTE);
    assert!(guests(&mut stage, guest).is_empty());
    stage.pass(MINUTE);
    let (own, renewed) = (
        officers(&mut stage, other).remove(0),
        guests(&mut stage, guest).remove(0).1,
    );
    assert_eq!((pair(&own), pair(&renewed)), (pair(&lent), pair(&lent)));
    assert!(renewed.user > lent.user, "it ends later");
}

// covers: SUORA-DSK-202
#[test]
fn an_officer_hears_where_its_guest_is_with_the_offer_and_whenever_it_changes() {
    let mut stage = stage();
    let (guest, _) = stage.waits(1);
    let (home, away) = ("198.51.100.4:5000", "[2001:db8::4]:5001");
    tells(&mut stage, guest, &[home]).unwrap();
    let officer = stage.attends(&officer_key(1));
    assert_eq!(told(&mut stage, officer), [[home]]);
    tells(&mut stage, guest, &[home, away]).unwrap();
    assert_eq!(told(&mut stage, officer), [[home, away]]);
    tells(&mut stage, guest, &[home, away]).unwrap();
    assert!(told(&mut stage, officer).is_empty());
    tells(&mut stage, guest, &[]).unwrap();
    assert_eq!(told(&mut stage, officer), [[""; 0]]);
    // nobody hears of one who waits
    let (waits, _) = stage.waits(2);
    tells(&mut stage, waits, &[home]).unwrap();
    assert!(told(&mut stage, officer).is_empty());
    for bad in [&["198.51.100.4"][..], &["198.51.100.4:0"], &[home; 9]] {
        assert_eq!(tells(&mut stage, guest, bad), Err(Code::Malformed));
    }
}

// covers: SUORA-DSK-200
#[test]
fn without_turn_nobody_gets_a_grant() {
    let mut agency = Agency::new();
    let mut without_servers = Stage::with(agency, Faults::default());
    without_servers.hub.set_secret(Some(secret()));
    agency = Agency::new();
    agency.page.turn = vec![SERVER.into()];
    let without_secret = Stage::with(agency, Faults::default());
    for mut stage in [without_servers, without_secret] {
        let officer = stage.attends(&officer_key(1));
        let (guest, _) = stage.waits(1);
        assert!(officers(&mut stage, officer).is_empty());
        assert!(guests(&mut stage, guest).is_empty());
    }
}
