//! Allocations: how one comes, stays and goes.

use super::*;

// covers: SUORA-TRN-020
#[test]
fn a_repeated_allocate_is_answered_again_and_another_is_not() {
    let mut relay = Relay::new();
    let grant = relay.grant(1);
    let first = relay.ask(client(1), &allocate(&grant, 1, &[])).unwrap();
    let again = relay.ask(client(1), &allocate(&grant, 1, &[])).unwrap();
    assert_eq!(first.0, again.0);
    assert_eq!(relay.opened.len(), 1);
    let other = relay.ask(client(1), &allocate(&grant, 2, &[])).unwrap();
    assert_eq!(other.code(), 437);
    // somebody else's identifier is no repetition
    let stranger = relay.grant(2);
    let other = relay.ask(client(1), &allocate(&stranger, 1, &[])).unwrap();
    assert_eq!(other.code(), 437);
}

// covers: SUORA-TRN-021
#[test]
fn what_cannot_be_had_is_refused_by_its_code() {
    let mut relay = Relay::new();
    let grant = relay.grant(1);
    let more = |kind: u16, value: &[u8]| allocate(&grant, 1, &[(kind, value.to_vec())]);
    let transport = |value: &[u8]| {
        let transport = [(wire::REQUESTED_TRANSPORT, value.to_vec())];
        request(&grant, ALLOCATE, 1, &transport, Way::Sha1)
    };
    for (request, code) in [
        (request(&grant, ALLOCATE, 1, &[], Way::Sha1), 400),
        (transport(&[17]), 400),
        (transport(&[6, 0, 0, 0]), 442),
        (more(wire::DONT_FRAGMENT, &[]), 420),
        (more(0x7777, &[1]), 420),
        (more(wire::REQUESTED_ADDRESS_FAMILY, &[3, 0, 0, 0]), 440),
        (more(wire::EVEN_PORT, &[0x80]), 508),
        (more(wire::EVEN_PORT, &[]), 400),
        (more(wire::RESERVATION_TOKEN, &[0; 8]), 508),
        (
            allocate(
                &grant,
                1,
                &[
                    (wire::RESERVATION_TOKEN, vec![0; 8]),
                    (wire::EVEN_PORT, vec![0]),
                ],
            ),
            400,
        ),
    ] {
        let answer = relay.ask(client(1), &request).unwrap();
        assert_eq!(answer.code(), code);
        answer.message().validate_integrity(&key(&grant)).unwrap();
        if code == 420 {
            let listed = answer
                .message()
                .attribute::<stun_types::attribute::UnknownAttributes>();
            let named = [wire::DONT_FRAGMENT, 0x7777].map(AttributeType::new);
            let listed = listed.unwrap();
            assert!(named.iter().any(|kind| listed.has_attribute(*kind)));
        }
    }
    assert!(relay.opened.is_empty());
    // what can be had
    let even = relay.ask(client(1), &more(wire::EVEN_PORT, &[0])).unwrap();
    let even = even.address(wire::XOR_RELAYED_ADDRESS).unwrap();
    assert_eq!(even.port() % 2, 0);
    let v6 = relay.ask(
        client(2),
        &more(wire::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]),
    );
    let v6 = v6.unwrap().address(wire::XOR_RELAYED_ADDRESS).unwrap();
    assert_eq!(v6.ip(), policy().external[1]);
    // methods of others
    let connect = request(&grant, 0x00a, 1, &[], Way::Sha1);
    assert_eq!(relay.ask(client(3), &connect).unwrap().code(), 400);
}

// covers: SUORA-TRN-022
#[test]
fn an_allocation_stands_as_long_as_it_is_refreshed_and_no_longer_than_its_grant() {
    let mut relay = Relay::new();
    let grant = relay.grant(1);
    relay.allocate(client(1), &grant);
    let refreshed = |relay: &mut Relay, grant: &Grant, secs| {
        let answer = relay.ask(client(1), &refresh(grant, 5, secs)).unwrap();
        (answer.code(), answer.lifetime())
    };
    assert_eq!(refreshed(&mut relay, &grant, 1), (0, Some(600)));
    relay.pass(Duration::from_secs(599));
    assert_eq!(refreshed(&mut relay, &grant, 900), (0, Some(900)));
    relay.pass(Duration::from_secs(800));
    assert_eq!(
        refreshed(&mut relay, &grant, 86_400),
        (0, Some(3_600 - 1_399))
    );
    // a newer grant of the same pair goes on
    let newer = relay.grant(1);
    assert_eq!(refreshed(&mut relay, &newer, 86_400), (0, Some(3_600)));
    relay.pass(Duration::from_secs(3_599));
    assert!(relay.closed.is_empty());
    relay.pass(Duration::from_secs(1));
    assert_eq!(relay.closed.len(), 1);
    let gone = relay.grant(1);
    assert_eq!(refreshed(&mut relay, &gone, 600), (437, None));
    // and one can leave at once
    relay.allocate(client(1), &gone);
    assert_eq!(refreshed(&mut relay, &gone, 0), (0, Some(0)));
    assert_eq!(relay.closed.len(), 2);
    assert_eq!(relay.shards.iter().map(Turn::allocations).sum::<usize>(), 0);
}

// covers: SUORA-TRN-014
#[test]
fn an_allocation_obeys_its_own_pair_only() {
    let mut relay = Relay::new();
    let (own, other) = (relay.grant(1), relay.grant(2));
    relay.allocate(client(1), &own);
    let answer = relay.ask(client(1), &refresh(&other, 5, 0)).unwrap();
    assert_eq!(answer.code(), 441);
    assert_eq!(relay.permit(client(1), &other, &[at("8.8.8.8:1")]), 441);
    assert_eq!(
        relay.bind(client(1), &other, 0x4000, at("8.8.8.8:5000")),
        441
    );
    let elsewhere = relay.ask(client(2), &refresh(&own, 5, 0)).unwrap();
    assert_eq!(elsewhere.code(), 437);
    let v6 = [(wire::REQUESTED_ADDRESS_FAMILY, vec![2, 0, 0, 0])];
    let v6 = request(&own, REFRESH, 1, &v6, Way::Sha1);
    assert_eq!(relay.ask(client(1), &v6).unwrap().code(), 443);
    assert!(relay.closed.is_empty());
}

// covers: SUORA-TRN-050
#[test]
fn a_pair_and_the_relay_have_so_many_allocations_on_all_shards_together() {
    let mut relay = Relay::with(Quotas {
        allocations: 6,
        ..Quotas::default()
    });
    let grant = relay.grant(1);
    let mut relayed: Vec<SocketAddr> = (1..=4).map(|n| relay.allocate(client(n), &grant)).collect();
    let fifth = relay.ask(client(5), &allocate(&grant, 1, &[])).unwrap();
    assert_eq!(fifth.code(), 486);
    let other = relay.grant(2);
    relayed.extend((5..=6).map(|n| relay.allocate(client(n), &other)));
    let seventh = relay.ask(client(7), &allocate(&other, 1, &[])).unwrap();
    assert_eq!(seventh.code(), 508);
    relayed.sort();
    relayed.dedup();
    assert_eq!(relayed.len(), 6, "everybody has an own address");
    // who leaves makes room
    relay
        .ask(client(1), &refresh(&grant, 5, 0))
        .unwrap()
        .good(&grant);
    relay.allocate(client(7), &other);
}

// covers: SUORA-TRN-023
#[test]
fn a_port_that_something_has_is_passed_over() {
    let mut relay = Relay::new();
    let grant = relay.grant(1);
    relay.busy = |port| port % 4 != 0;
    let relayed = relay.allocate(client(1), &grant);
    assert_eq!(relayed.port() % 4, 0);
    relay.busy = |_| true;
    for number in 2..10 {
        let refused = relay
            .ask(client(number), &allocate(&grant, 1, &[]))
            .unwrap();
        assert_eq!(refused.code(), 508);
        refused.message().validate_integrity(&key(&grant)).unwrap();
    }
    // none of them counts
    relay.busy = |_| false;
    relay.allocate(client(2), &grant);
    assert!(relay.closed.is_empty());
}

// covers: SUORA-TRN-023
#[test]
fn shards_never_take_each_others_ports() {
    let mut relay = Relay::with(Quotas {
        per_pair: 500,
        ..Quotas::default()
    });
    let grant = relay.grant(1);
    for number in 0..200_u8 {
        relay.allocate(client(number), &grant);
    }
    let of = |shard: u16| {
        relay
            .opened
            .iter()
            .filter(move |at| at.port() / 2 % 2 == shard)
    };
    assert_eq!((of(0).count(), of(1).count()), (100, 100));
}
