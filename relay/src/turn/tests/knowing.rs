//! Who is answered, and what with.

use super::*;

// covers: SUORA-TRN-010
#[test]
fn whoever_asks_hears_its_address() {
    let mut relay = Relay::new();
    let binding = request(&relay.grant(1), wire::BINDING, 3, &[], Way::Nothing);
    for from in [
        client(1),
        Client {
            address: at("[2001:db8::9]:7"),
            ..client(1)
        },
    ] {
        let answer = relay.ask(from, &binding).unwrap();
        assert_eq!(answer.address(0x20), Some(from.address));
        assert_eq!(answer.message().transaction_id(), 3.into());
    }
    // ICE's attributes are no news; one that nobody knows is
    let with = |kind: u16| {
        request(
            &relay.grant(1),
            wire::BINDING,
            3,
            &[(kind, vec![0; 4])],
            Way::Nothing,
        )
    };
    let (ice, unknown) = (with(0x24), with(0x7777));
    assert_eq!(relay.ask(client(1), &ice).unwrap().code(), 0);
    let refused = relay.ask(client(1), &unknown).unwrap();
    assert_eq!(refused.code(), 420);
    let named = AttributeType::new(0x7777);
    let listed = refused
        .message()
        .attribute::<stun_types::attribute::UnknownAttributes>();
    assert!(listed.unwrap().has_attribute(named));
}

// covers: SUORA-TRN-011
#[test]
fn the_first_allocate_under_a_grant_is_answered_at_once() {
    for way in [Way::Sha1, Way::Sha256] {
        let mut relay = Relay::new();
        let grant = relay.grant(1);
        let transport = [(wire::REQUESTED_TRANSPORT, UDP.to_vec())];
        let allocate = request(&grant, ALLOCATE, 1, &transport, way);
        let answer = relay.ask(client(1), &allocate).unwrap();
        answer.good(&grant);
        let has_256 = wire::has(&answer.message(), wire::INTEGRITY_SHA256);
        assert_eq!(has_256, way == Way::Sha256);
        let relayed = answer.address(wire::XOR_RELAYED_ADDRESS).unwrap();
        assert_eq!(relayed.ip(), policy().external[0]);
        assert!((50_000..=50_999).contains(&relayed.port()));
        assert_eq!(answer.address(0x20), Some(client(1).address));
        assert_eq!(answer.lifetime(), Some(600));
        assert_eq!(relay.opened, [relayed]);
    }
}

// covers: SUORA-TRN-002
#[test]
fn a_second_relay_of_the_same_secret_takes_the_grant() {
    let (one, mut other) = (Relay::new(), Relay::new());
    other.allocate(client(1), &one.grant(1));
}

// covers: SUORA-TRN-012, SUORA-TRN-060
#[test]
fn who_proves_nothing_is_asked_for_proof_briefly() {
    let mut relay = Relay::new();
    let mut grant = relay.grant(1);
    let transport = [(wire::REQUESTED_TRANSPORT, UDP.to_vec())];
    let bare = request(&grant, ALLOCATE, 1, &transport, Way::Nothing);
    let answer = relay.ask(client(1), &bare).unwrap();
    assert_eq!(answer.code(), 401);
    let sizes = (bare.len(), answer.0.len());
    println!("401: {} bytes for {}", sizes.1, sizes.0);
    assert!(answer.0.len() <= 96 + REALM.len() && relay.opened.is_empty());
    // the nonce of the answer does
    grant.nonce = answer.nonce();
    relay.allocate(client(1), &grant);
    let binding = request(&grant, wire::BINDING, 3, &[], Way::Nothing);
    let v6 = Client {
        address: at("[2001:db8::9]:7"),
        ..client(1)
    };
    let answers = [client(1), v6].map(|from| relay.ask(from, &binding).unwrap().0.len());
    println!("Binding: {answers:?} bytes for {}", binding.len());
    assert_eq!(answers, [32, 44]);
}

// covers: SUORA-TRN-012
#[test]
fn a_wrong_password_and_an_expired_grant_get_nowhere() {
    let mut relay = Relay::new();
    let good = relay.grant(1);
    let wrong = |change: fn(&mut Grant)| {
        let mut grant = good.clone();
        change(&mut grant);
        allocate(&grant, 1, &[])
    };
    for (request, code) in [
        (wrong(|grant| grant.password = "guess".into()), 401),
        (
            wrong(|grant| grant.user = grant.user.replace("01", "02")),
            401,
        ),
        (wrong(|grant| grant.user = "somebody".into()), 401),
        (wrong(|grant| grant.realm = "other.example".into()), 401),
        (wrong(|grant| grant.nonce = "obMatJos2gAAAxyz".into()), 438),
        (
            wrong(|grant| {
                grant.nonce = Secret::from_seed(&[6; 32]).nonce(Timestamp::from_secs(1_800_000_000))
            }),
            438,
        ),
        (wrong(|grant| grant.user = "x".repeat(200)), 400),
    ] {
        let answer = relay.ask(client(1), &request).unwrap();
        assert_eq!(answer.code(), code);
        assert!(answer.message().validate_integrity(&key(&good)).is_err());
    }
    assert!(relay.opened.is_empty());
    // another's grant, made by the same secret, whose time is over
    let old = relay.secret.mint(
        relay.now.utc,
        Pair::from_bytes([1; 16]),
        Duration::from_secs(10),
        REALM,
    );
    relay.pass(Duration::from_secs(9));
    relay.allocate(client(1), &old);
    relay.pass(Duration::from_secs(1));
    let answer = relay.ask(client(2), &allocate(&old, 1, &[])).unwrap();
    assert_eq!(answer.code(), 401);
    // control: the untouched one
    relay.allocate(client(3), &good);
}

// covers: SUORA-TRN-002
#[test]
fn an_old_nonce_is_replaced_and_the_request_stands_with_the_new_one() {
    let mut relay = Relay::new();
    let mut grant = relay
        .secret
        .mint(relay.now.utc, Pair::from_bytes([1; 16]), 3 * HOUR, REALM);
    relay.pass(HOUR + Duration::from_secs(1));
    let answer = relay.ask(client(1), &allocate(&grant, 1, &[])).unwrap();
    assert_eq!(answer.code(), 438);
    grant.nonce = answer.nonce();
    relay.allocate(client(1), &grant);
}

// covers: SUORA-TRN-013
#[test]
fn a_weaker_algorithm_cannot_be_slipped_in() {
    let mut relay = Relay::new();
    let grant = relay.grant(1);
    let kind = MessageType::from_class_method(MessageClass::Request, Method::new(ALLOCATE));
    let with = |offered: &[PasswordAlgorithmValue], chosen, integrity| {
        let mut message = Message::builder(kind, 1.into(), MessageWriteVec::new());
        let transport = RawAttribute::new(AttributeType::new(wire::REQUESTED_TRANSPORT), &UDP);
        message.add_attribute(&transport).unwrap();
        name(&mut message, &grant);
        choose(&mut message, offered, chosen);
        message
            .add_message_integrity(&key(&grant), integrity)
            .unwrap();
        message.finish()
    };
    use PasswordAlgorithmValue::{MD5, SHA256};
    for (request, code) in [
        (with(&[MD5], MD5, IntegrityAlgorithm::Sha1), 400),
        (with(&[MD5, SHA256], MD5, IntegrityAlgorithm::Sha1), 400),
        (with(&[SHA256, MD5], SHA256, IntegrityAlgorithm::Sha1), 400),
        (with(&[SHA256, MD5], MD5, IntegrityAlgorithm::Sha256), 400),
        (with(&[SHA256, MD5], MD5, IntegrityAlgorithm::Sha1), 0),
    ] {
        assert_eq!(relay.ask(client(1), &request).unwrap().code(), code);
    }
}

// covers: SUORA-TRN-061
#[test]
fn a_crowd_of_strangers_is_answered_no_more_than_a_prefix_may_be() {
    let mut relay = Relay::new();
    let binding = request(&relay.grant(1), wire::BINDING, 3, &[], Way::Nothing);
    let grant = relay.grant(1);
    let answered = (0..2_000).filter(|_| relay.ask(client(1), &binding).is_some());
    assert_eq!(answered.count(), 256);
    // who has a grant is none
    relay.allocate(client(1), &grant);
    let elsewhere = Client {
        address: at("198.51.100.1:1"),
        ..client(1)
    };
    assert!(relay.ask(elsewhere, &binding).is_some());
}

#[test]
fn what_is_no_request_is_not_answered() {
    let mut relay = Relay::new();
    let good = request(
        &relay.grant(1),
        wire::BINDING,
        3,
        &[(0x8022, b"name".to_vec())],
        Way::Nothing,
    );
    assert!(relay.ask(client(1), &good).is_some());
    let mut long = good.clone();
    long.push(0);
    let mut cookie = good.clone();
    cookie[4] ^= 1;
    let mut response = good.clone();
    response[0] = 1;
    let mut attribute = good.clone();
    attribute[23] = 0xff;
    for bad in [
        &long,
        &cookie,
        &response,
        &attribute,
        &good[..good.len() - 1],
        &good[..19],
        &[0, 1],
    ] {
        assert!(relay.ask(client(1), bad).is_none(), "{bad:?}");
    }
    for nothing in [&[][..], &[0x80; 40], &[0xff; 4]] {
        assert_eq!(
            relay.packet(client(1), nothing),
            Verdict::Nowhere(Drop::Form)
        );
    }
}
