//! What goes where, and what goes nowhere.

use super::*;

const PEER: &str = "8.8.4.4:5000";

fn sends(relay: &mut Relay, from: Client, packet: &[u8]) -> Result<(SocketAddr, Vec<u8>), Drop> {
    match relay.packet(from, packet) {
        Verdict::ToPeer { to, bytes, .. } => Ok((to, packet[bytes].to_vec())),
        Verdict::Nowhere(why) => Err(why),
        other => panic!("{other:?}"),
    }
}

/// What a client gets: what goes before the data, as a whole packet of it.
fn gets(verdict: Verdict, data: &[u8]) -> Result<(Client, Vec<u8>), Drop> {
    match verdict {
        Verdict::ToClient {
            client,
            head,
            bytes,
        } => {
            let packet = [head.bytes(), &data[bytes], head.padding()].concat();
            Ok((client, packet))
        }
        Verdict::Nowhere(why) => Err(why),
        other => panic!("{other:?}"),
    }
}

/// Peer and data of a Data indication.
fn read(packet: &[u8]) -> (SocketAddr, Vec<u8>) {
    let message = wire::read(packet).unwrap();
    assert_eq!(message.method().value(), 7);
    let peer = wire::peers(&message).unwrap()[0];
    let data = message
        .raw_attribute(AttributeType::new(wire::DATA))
        .unwrap();
    (peer, data.value.to_vec())
}

// covers: SUORA-TRN-030
#[test]
fn indications_go_both_ways_under_a_permission() {
    let mut relay = Relay::new();
    let (grant, peer) = (relay.grant(1), at(PEER));
    let hello = indication(peer, b"hello");
    assert_eq!(
        sends(&mut relay, client(1), &hello),
        Err(Drop::NoAllocation)
    );
    relay.allocate(client(1), &grant);
    assert_eq!(
        sends(&mut relay, client(1), &hello),
        Err(Drop::NoPermission)
    );
    assert_eq!(relay.permit(client(1), &grant, &[peer]), 0);
    assert_eq!(
        sends(&mut relay, client(1), &hello),
        Ok((peer, b"hello".to_vec()))
    );
    for len in 0..9 {
        let data = vec![7; len];
        let verdict = relay.peer_sends(client(1), at("8.8.4.4:9"), len);
        let (to, packet) = gets(verdict, &data).unwrap();
        assert_eq!(to, client(1));
        assert_eq!(read(&packet), (at("8.8.4.4:9"), data));
    }
    let other = relay.peer_sends(client(1), at("8.8.8.8:5000"), 5);
    assert_eq!(other, Verdict::Nowhere(Drop::NoPermission));
    relay
        .ask(client(1), &refresh(&grant, 3, 1_800))
        .unwrap()
        .good(&grant);
    // five minutes, then no more
    relay.pass(Duration::from_secs(299));
    assert!(sends(&mut relay, client(1), &hello).is_ok());
    relay.pass(Duration::from_secs(1));
    assert_eq!(
        sends(&mut relay, client(1), &hello),
        Err(Drop::NoPermission)
    );
    let late = relay.peer_sends(client(1), peer, 5);
    assert_eq!(late, Verdict::Nowhere(Drop::NoPermission));
}

// covers: SUORA-TRN-030
#[test]
fn an_indication_over_ipv6_has_its_peer() {
    let mut relay = Relay::new();
    let (grant, peer) = (relay.grant(1), at("[2001:db8:9::1]:5000"));
    let v6 = [(wire::REQUESTED_ADDRESS_FAMILY, vec![2, 0, 0, 0])];
    let answer = relay.ask(client(1), &allocate(&grant, 1, &v6)).unwrap();
    answer.good(&grant);
    assert_eq!(relay.permit(client(1), &grant, &[at(PEER)]), 443);
    assert_eq!(relay.permit(client(1), &grant, &[peer]), 0);
    let hello = indication(peer, b"hello");
    assert_eq!(
        sends(&mut relay, client(1), &hello),
        Ok((peer, b"hello".to_vec()))
    );
    let verdict = relay.peer_sends(client(1), peer, 3);
    let (_, packet) = gets(verdict, b"abc").unwrap();
    assert_eq!(read(&packet), (peer, b"abc".to_vec()));
}

// covers: SUORA-TRN-031
#[test]
fn a_channel_goes_both_ways_with_four_bytes_before() {
    let mut relay = Relay::new();
    let (grant, peer) = (relay.grant(1), at(PEER));
    relay.allocate(client(1), &grant);
    let data = channel_data(0x4001, b"sound");
    assert_eq!(sends(&mut relay, client(1), &data), Err(Drop::NoChannel));
    assert_eq!(relay.bind(client(1), &grant, 0x4001, peer), 0);
    let mut padded = data.clone();
    padded.extend([0; 3]);
    for packet in [&data, &padded] {
        let sent = sends(&mut relay, client(1), packet);
        assert_eq!(sent, Ok((peer, b"sound".to_vec())));
    }
    for bad in [&data[..8], &data[..3], &[0x40, 1][..]] {
        assert_eq!(sends(&mut relay, client(1), bad), Err(Drop::Form));
    }
    let verdict = relay.peer_sends(client(1), peer, 5);
    assert_eq!(
        gets(verdict, b"voice").unwrap().1,
        channel_data(0x4001, b"voice")
    );
    // from another port of the peer it is an indication
    let verdict = relay.peer_sends(client(1), at("8.8.4.4:9"), 5);
    assert_eq!(read(&gets(verdict, b"voice").unwrap().1).0, at("8.8.4.4:9"));
    for (channel, other, code) in [
        (0x4001, peer, 0),
        (0x4001, at("8.8.4.4:5001"), 400),
        (0x4002, peer, 400),
        (0x3fff, at("8.8.4.4:5002"), 400),
        (0x8000, at("8.8.4.4:5002"), 400),
        (0x4002, at("8.8.4.4:5002"), 0),
        (0x4003, at("[2001:db8:9::1]:5000"), 443),
        (0x4003, at("10.0.0.1:5000"), 403),
    ] {
        assert_eq!(
            relay.bind(client(1), &grant, channel, other),
            code,
            "{channel:x}"
        );
    }
    // ten minutes; its permission has to be renewed in between
    relay
        .ask(client(1), &refresh(&grant, 3, 1_800))
        .unwrap()
        .good(&grant);
    relay.pass(Duration::from_secs(300));
    assert_eq!(sends(&mut relay, client(1), &data), Err(Drop::NoPermission));
    assert_eq!(relay.permit(client(1), &grant, &[peer]), 0);
    relay.pass(Duration::from_secs(299));
    assert!(sends(&mut relay, client(1), &data).is_ok());
    relay.pass(Duration::from_secs(1));
    assert_eq!(sends(&mut relay, client(1), &data), Err(Drop::NoChannel));
    // for five minutes more it stands for nobody else
    assert_eq!(
        relay.bind(client(1), &grant, 0x4001, at("8.8.4.4:6000")),
        400
    );
    relay.pass(Duration::from_secs(301));
    assert_eq!(relay.bind(client(1), &grant, 0x4001, at("8.8.4.4:6000")), 0);
}

// covers: SUORA-TRN-040, SUORA-TRN-041
#[test]
fn no_permission_leads_inside() {
    let mut relay = Relay::new();
    let grant = relay.grant(1);
    relay.allocate(client(1), &grant);
    for inside in [
        "10.0.0.1:5000",
        "127.0.0.1:5000",
        "169.254.169.254:5000",
        "100.64.0.1:5000",
        "224.0.0.1:5000",
        "198.51.100.1:5000",
        "203.0.113.8:5000",
    ] {
        assert_eq!(
            relay.permit(client(1), &grant, &[at(inside)]),
            403,
            "{inside}"
        );
        // all or none
        let both = [at(PEER), at(inside)];
        assert_eq!(relay.permit(client(1), &grant, &both), 403);
        assert_eq!(relay.bind(client(1), &grant, 0x4000, at(inside)), 403);
    }
    let hello = indication(at(PEER), b"hello");
    assert_eq!(
        sends(&mut relay, client(1), &hello),
        Err(Drop::NoPermission)
    );
    // a permission has no port, a packet does
    assert_eq!(relay.permit(client(1), &grant, &[at("8.8.4.4:53")]), 0);
    for (port, judged) in [
        (53, Err(Drop::Peer)),
        (80, Err(Drop::Peer)),
        (443, Ok(())),
        (5_000, Ok(())),
    ] {
        let packet = indication(SocketAddr::from(([8, 8, 4, 4], port)), b"x");
        let sent = sends(&mut relay, client(1), &packet).map(|_| ());
        assert_eq!(sent, judged, "{port}");
    }
    assert_eq!(relay.permit(client(1), &grant, &[]), 400);
}

// covers: SUORA-TRN-043
#[test]
fn a_peer_that_never_answered_gets_little() {
    let mut relay = Relay::with(Quotas {
        rate: 1 << 30,
        ..Quotas::default()
    });
    let grant = relay.grant(1);
    relay.allocate(client(1), &grant);
    let peer = |number: u8| SocketAddr::from(([8, 8, 4, number], 5_000));
    for number in 1..=8 {
        assert_eq!(relay.permit(client(1), &grant, &[peer(number)]), 0);
    }
    assert_eq!(relay.permit(client(1), &grant, &[peer(9)]), 508);
    // the same again is no new one
    assert_eq!(relay.permit(client(1), &grant, &[peer(8)]), 0);
    let many = |relay: &mut Relay, to, len: usize| {
        let packet = indication(to, &vec![0; len]);
        (0..100)
            .filter(|_| sends(relay, client(1), &packet).is_ok())
            .count()
    };
    assert_eq!(many(&mut relay, peer(1), 10), 20);
    assert_eq!(many(&mut relay, peer(2), 1_200), 6);
    // asking again gives no more
    assert_eq!(relay.permit(client(1), &grant, &[peer(1)]), 0);
    assert_eq!(many(&mut relay, peer(1), 10), 0);
    assert!(gets(relay.peer_sends(client(1), peer(1), 0), b"").is_ok());
    assert_eq!(many(&mut relay, peer(1), 10), 100);
    assert_eq!(many(&mut relay, peer(2), 1_200), 0);
    assert_eq!(relay.permit(client(1), &grant, &[peer(9)]), 0);
    assert_eq!(relay.permit(client(1), &grant, &[peer(10)]), 508);
}

// covers: SUORA-TRN-051
#[test]
fn a_rate_and_a_pairs_bytes_bound_what_is_relayed() {
    let quotas = Quotas {
        rate: 100_000,
        bytes: 300_000,
        ..Quotas::default()
    };
    let mut relay = Relay::with(quotas);
    let (grant, peer) = (relay.grant(1), at(PEER));
    for number in [1, 2] {
        relay.allocate(client(number), &grant);
        assert_eq!(relay.bind(client(number), &grant, 0x4000, peer), 0);
        assert!(gets(relay.peer_sends(client(number), peer, 0), b"").is_ok());
    }
    let packet = channel_data(0x4000, &[0; 1_000]);
    let many = |relay: &mut Relay, from| {
        let sent = (0..400).map(|_| sends(relay, from, &packet));
        sent.filter(|sent| *sent != Err(Drop::Quota)).count()
    };
    // a burst, then its rate; each way and each allocation of its own
    assert_eq!(many(&mut relay, client(1)), 65);
    relay.pass(Duration::from_millis(200));
    assert_eq!(many(&mut relay, client(1)), 20);
    assert_eq!(many(&mut relay, client(2)), 65);
    let received =
        (0..400).filter(|_| gets(relay.peer_sends(client(1), peer, 1_000), &[0; 1_000]).is_ok());
    assert_eq!(received.count(), 65);
    // together no more than the pair has: 215,000 are gone
    for _ in 0..3 {
        relay.pass(Duration::from_secs(1));
        many(&mut relay, client(1));
    }
    relay.pass(Duration::from_secs(1));
    assert_eq!(many(&mut relay, client(2)), 0);
    // a new allocation of the pair does not help, another pair has its own
    let refused = relay.ask(client(3), &allocate(&grant, 1, &[])).unwrap();
    assert_eq!(refused.code(), 486);
    let other = relay.grant(2);
    relay.allocate(client(3), &other);
}

/// Two ends of a pair, on the same shard or on two, that know each other's relayed addresses.
fn pair(relay: &mut Relay, ends: [u8; 2]) -> [SocketAddr; 2] {
    let grant = relay.grant(1);
    ends.map(|number| relay.allocate(client(number), &grant))
}

// covers: SUORA-TRN-044
#[test]
fn the_two_ends_of_a_pair_reach_each_other_in_memory() {
    for ends in [[1, 3], [1, 2]] {
        let mut relay = Relay::new();
        let [one, two] = pair(&mut relay, ends);
        let [first, second] = ends.map(client);
        assert_eq!(relay.shard(first) == relay.shard(second), ends == [1, 3]);
        let grant = relay.grant(1);
        assert_eq!(relay.permit(first, &grant, &[two]), 0);
        let hello = indication(two, b"hello");
        // the other end has not permitted it
        assert_eq!(
            relay.packet(first, &hello),
            Verdict::Nowhere(Drop::NoPermission)
        );
        assert_eq!(relay.permit(second, &grant, &[one]), 0);
        let (to, packet) = gets(relay.packet(first, &hello), &hello).unwrap();
        assert_eq!(to, second);
        assert_eq!(read(&packet), (one, b"hello".to_vec()));
        // by channels, each with its own number, and without the bound of strangers
        assert_eq!(relay.bind(first, &grant, 0x4001, two), 0);
        assert_eq!(relay.bind(second, &grant, 0x4002, one), 0);
        for _ in 0..100 {
            let data = channel_data(0x4001, &[3; 400]);
            let (to, packet) = gets(relay.packet(first, &data), &data).unwrap();
            assert_eq!((to, packet), (second, channel_data(0x4002, &[3; 400])));
            let data = channel_data(0x4002, b"back");
            let (to, packet) = gets(relay.packet(second, &data), &data).unwrap();
            assert_eq!((to, packet), (first, channel_data(0x4001, b"back")));
        }
        // it ends with the other's allocation
        relay
            .ask(second, &refresh(&grant, 4, 0))
            .unwrap()
            .good(&grant);
        let data = channel_data(0x4001, b"gone");
        assert_eq!(
            relay.packet(first, &data),
            Verdict::Nowhere(Drop::NoPermission)
        );
    }
}

// covers: SUORA-TRN-045
#[test]
fn another_pairs_relayed_port_is_nobodys() {
    let mut relay = Relay::new();
    let [one, _] = pair(&mut relay, [1, 2]);
    let own = relay.grant(1);
    let other = relay.grant(9);
    let theirs = relay.allocate(client(5), &other);
    assert_eq!(relay.bind(client(5), &other, 0x4000, one), 403);
    assert_eq!(relay.permit(client(5), &other, &[one]), 0);
    assert_eq!(relay.permit(client(1), &own, &[theirs]), 0);
    let hello = indication(one, b"hello");
    assert_eq!(
        relay.packet(client(5), &hello),
        Verdict::Nowhere(Drop::NoPermission)
    );
    // nor by way of the network, from any port of the relay
    for source in [
        theirs,
        SocketAddr::new(theirs.ip(), 443),
        at("203.0.113.7:9000"),
    ] {
        let verdict = relay.peer_sends(client(1), source, 5);
        assert_eq!(verdict, Verdict::Nowhere(Drop::Peer));
    }
    // its services are never peers
    for service in ["203.0.113.7:443", "203.0.113.7:4433"] {
        assert_eq!(relay.bind(client(5), &other, 0x4000, at(service)), 403);
        let packet = indication(at(service), b"x");
        assert_eq!(
            relay.packet(client(5), &packet),
            Verdict::Nowhere(Drop::Peer)
        );
    }
}

// covers: SUORA-TRN-030
#[test]
fn a_send_indication_with_what_nobody_knows_goes_nowhere() {
    let mut relay = Relay::new();
    let grant = relay.grant(1);
    relay.allocate(client(1), &grant);
    relay.permit(client(1), &grant, &[at(PEER)]);
    let with = |attributes: &Attributes| {
        let kind = MessageType::from_class_method(MessageClass::Indication, Method::new(6));
        let mut message = Message::builder(kind, 9.into(), MessageWriteVec::new());
        for (kind, value) in attributes {
            let raw = RawAttribute::new(AttributeType::new(*kind), value);
            message.add_attribute(&raw).unwrap();
        }
        message.finish()
    };
    let (peer, data) = (peer_of(at(PEER), 9), (wire::DATA, b"x".to_vec()));
    for bad in [
        vec![
            peer.clone(),
            data.clone(),
            (wire::DONT_FRAGMENT, Vec::new()),
        ],
        vec![peer.clone(), data.clone(), (0x7777, Vec::new())],
        vec![peer.clone()],
        vec![data.clone()],
        vec![(wire::XOR_PEER_ADDRESS, vec![0; 7]), data.clone()],
    ] {
        assert_eq!(sends(&mut relay, client(1), &with(&bad)), Err(Drop::Form));
    }
    let optional = with(&[peer, (0x8022, b"name".to_vec()), data]);
    assert!(sends(&mut relay, client(1), &optional).is_ok());
}

#[test]
fn the_fast_path_allocates_nothing() {
    let mut relay = Relay::with(Quotas {
        rate: 1 << 40,
        bytes: 1 << 40,
        ..Quotas::default()
    });
    let [one, two] = pair(&mut relay, [1, 2]);
    let (grant, peer) = (relay.grant(1), at(PEER));
    assert_eq!(relay.bind(client(1), &grant, 0x4000, peer), 0);
    assert_eq!(relay.permit(client(1), &grant, &[two]), 0);
    assert_eq!(relay.bind(client(2), &grant, 0x4000, one), 0);
    let channel = channel_data(0x4000, &[1; 1_200]);
    let packets = [
        channel.clone(),
        indication(peer, &[1; 1_200]),
        indication(two, &[1; 1_200]),
        channel_data(0x4001, &[1; 1_200]),
    ];
    let counted = |relay: &mut Relay| {
        let mut verdicts = 0;
        let counted = allocation_counter::measure(|| {
            for _ in 0..1_000 {
                for packet in &packets {
                    verdicts += usize::from(relay.packet(client(1), packet) != Verdict::Request);
                }
                verdicts +=
                    usize::from(relay.peer_sends(client(1), peer, 1_200) != Verdict::Request);
                let other = at("8.8.4.4:9");
                verdicts +=
                    usize::from(relay.peer_sends(client(1), other, 1_200) != Verdict::Request);
            }
        });
        assert_eq!(verdicts, 6_000);
        counted.count_total
    };
    assert_eq!(counted(&mut relay), 0);
    // control: a request does
    let refresh = refresh(&grant, 3, 600);
    let slow = allocation_counter::measure(|| drop(relay.ask(client(1), &refresh)));
    assert!(slow.count_total > 0);
}

#[test]
fn an_idle_allocation_holds_little() {
    const MANY: u8 = 250;
    let mut relay = Relay::with(Quotas {
        per_pair: 1_000,
        ..Quotas::default()
    });
    let grants: Vec<Grant> = (0..MANY).map(|pair| relay.grant(pair)).collect();
    let held = allocation_counter::measure(|| {
        for (grant, number) in grants.iter().zip(0_u8..) {
            relay.allocate(client(number), grant);
            assert_eq!(relay.bind(client(number), grant, 0x4000, at(PEER)), 0);
        }
    });
    let each = held.bytes_current / i64::from(MANY);
    println!("an idle allocation with a channel: {each} bytes");
    assert!((1..=8_192).contains(&each), "{each}");
}
