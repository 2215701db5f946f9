//! Against a small model of a server.

use super::model::{Server, grant};
use super::*;
use crate::path::tests::base;

/// Where our socket is seen.
fn ours() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 9], 5_000))
}

fn turn() -> Turn {
    Turn::new(Draw::from_seed([4; 32]), vec![true, false])
}

fn peer(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 6_000))
}

/// Delivers until nothing is said; what happened.
fn settle(now: Instant, turn: &mut Turn, servers: &mut [&mut Server]) -> Vec<Output> {
    let mut happened = Vec::new();
    while let Some(output) = turn.poll_output() {
        let Output::Send(packet) = output else {
            happened.push(output);
            continue;
        };
        for server in servers.iter_mut().filter(|one| one.address == packet.to) {
            for (from, to, answer) in server.take((ours(), packet.to, packet.bytes.clone())) {
                assert_eq!(to, ours());
                turn.received(now, (packet.socket, from), &answer);
            }
        }
    }
    happened
}

/// Lets time pass as the machine asks for it.
fn run(from: Instant, time: Duration, turn: &mut Turn, servers: &mut [&mut Server]) -> Instant {
    let end = from + time;
    let mut now = from;
    settle(now, turn, servers);
    while let Some(deadline) = turn.deadline().filter(|deadline| *deadline <= end) {
        now = deadline.max(now);
        turn.tick(now);
        settle(now, turn, servers);
    }
    end
}

// covers: SUORA-SET-201
#[test]
fn the_first_request_is_authenticated_and_a_channel_lets_a_peer_in() {
    let (now, mut turn, mut server) = (base(), turn(), Server::new(1));
    turn.permit(now, peer(1));
    turn.grant(now, grant(&[&server])).unwrap();
    let happened = settle(now, &mut turn, &mut [&mut server]);
    assert_eq!(happened, [Output::Changed]);
    let relayed = server.held().relayed.unwrap();
    assert_eq!(turn.relayed(), [(1, relayed)]);
    // one allocate; the channel, and the relay's own address for the other end's allocation
    assert_eq!(server.heard, [(3, true), (9, true), (8, true)]);
    assert!(server.held().permitted.contains(&relayed.ip()));
    let channel = turn.channel(1, peer(1)).unwrap();
    assert_eq!(server.held().channels[&channel.number], peer(1));
    assert_eq!(turn.channel(1, peer(2)), None);

    // in and out
    let [high, low] = channel.number.to_be_bytes();
    let data = [high, low, 0, 5, b'h', b'e', b'l', b'l', b'o', 0, 0, 0];
    let from = (0, server.address);
    let data_from = |range| Received::Data {
        relay: 1,
        peer: peer(1),
        range,
    };
    assert_eq!(turn.received(now, from, &data), data_from(4..9));
    // from elsewhere it is nothing of TURN's, under another channel or cut it is damage
    assert_eq!(
        turn.received(now, (1, server.address), &data),
        Received::Other
    );
    assert_eq!(turn.received(now, (0, peer(1)), &data), Received::Other);
    assert_eq!(turn.received(now, from, &data[..8]), Received::Taken);
    assert_eq!(
        turn.received(now, from, &[0x4f, 0xff, 0, 0]),
        Received::Taken
    );
    let indication = turn.indication(1, peer(2), b"hello").unwrap();
    let mut data = indication.bytes;
    // a server's indication is a client's with another method
    data[1] = 0x17;
    let range = match turn.received(now, from, &data) {
        Received::Data {
            relay: 1,
            peer: of,
            range,
        } if of == peer(2) => range,
        other => panic!("{other:?}"),
    };
    assert_eq!(&data[range], b"hello");
}

// covers: SUORA-SET-201
#[test]
fn a_stock_server_says_realm_and_nonce_itself() {
    let (now, mut turn, mut server) = (base(), turn(), Server::new(1));
    let stale = Grant {
        nonce: "old".into(),
        realm: "other".into(),
        ..grant(&[&server])
    };
    turn.grant(now, stale).unwrap();
    settle(now, &mut turn, &mut [&mut server]);
    assert_eq!(server.heard[..3], [(3, false), (3, false), (3, true)]);
    assert_eq!(turn.relayed().len(), 1);
    // its nonce ends in mid-life
    server.nonce = "fresher";
    turn.permit(now, peer(1));
    settle(now, &mut turn, &mut [&mut server]);
    assert!(turn.channel(1, peer(1)).is_some());
}

// covers: SUORA-SET-201
#[test]
fn a_wrong_password_ends_after_few_tries_and_rests() {
    let (start, mut turn, mut server) = (base(), turn(), Server::new(1));
    server.password = "other".into();
    turn.grant(start, grant(&[&server])).unwrap();
    run(
        start,
        Duration::from_secs(60),
        &mut turn,
        &mut [&mut server],
    );
    assert!(turn.relayed().is_empty());
    assert!(
        (2..20).contains(&server.heard.len()),
        "{}",
        server.heard.len()
    );
}

// covers: SUORA-SET-202
#[test]
fn an_allocation_and_its_peers_are_kept_alive() {
    let (start, mut turn, mut server) = (base(), turn(), Server::new(1));
    turn.grant(start, grant(&[&server])).unwrap();
    turn.permit(start, peer(1));
    run(
        start,
        Duration::from_secs(600),
        &mut turn,
        &mut [&mut server],
    );
    let count = |method| server.heard.iter().filter(|one| one.0 == method).count();
    assert_eq!(count(3), 1);
    assert!((29..=31).contains(&count(4)), "{}", count(4));
    // at the start, after 230 and after 460 s
    assert_eq!((count(9), count(8)), (3, 3));
}

// covers: SUORA-SET-202
#[test]
fn a_loss_is_told_and_another_server_or_the_same_takes_its_place() {
    let (start, mut turn) = (base(), turn());
    let (mut one, mut two, mut three) = (Server::new(1), Server::new(2), Server::new(3));
    turn.grant(start, grant(&[&one, &two, &three])).unwrap();
    turn.permit(start, peer(1));
    let mut now = run(
        start,
        Duration::from_secs(1),
        &mut turn,
        &mut [&mut one, &mut two, &mut three],
    );
    // two at a time
    assert_eq!(turn.relayed().len(), 2);
    assert!(three.heard.is_empty());

    // a relay that came back knows nothing: what a probe finds out at once
    one.clients.clear();
    turn.probe(now, None);
    let happened = settle(now, &mut turn, &mut [&mut one, &mut two, &mut three]);
    assert!(happened.contains(&Output::Lost(1, Loss::Refused(437))));
    // it is asked again at once, before others
    assert!(one.held().relayed.is_some() && three.heard.is_empty());
    assert!(one.held().channels.values().any(|of| *of == peer(1)));

    // one that is dead makes room for the third
    two.dead = true;
    now = run(
        now,
        Duration::from_secs(30),
        &mut turn,
        &mut [&mut one, &mut two, &mut three],
    );
    assert!(three.held().relayed.is_some());
    let held: Vec<_> = turn
        .relayed()
        .iter()
        .map(|(_, relayed)| relayed.ip())
        .collect();
    assert!(held.contains(&one.address.ip()) && held.contains(&three.address.ip()));
    run(
        now,
        Duration::from_secs(30),
        &mut turn,
        &mut [&mut one, &mut two, &mut three],
    );
}

// covers: SUORA-SET-202
#[test]
fn a_grant_of_another_pair_waits_until_nobody_uses_the_last_one() {
    let (now, mut turn, mut server) = (base(), turn(), Server::new(1));
    turn.grant(now, grant(&[&server])).unwrap();
    turn.permit(now, peer(1));
    settle(now, &mut turn, &mut [&mut server]);
    let first = turn.relayed();
    let next = Grant {
        user: format!("1800000600:{}", "f".repeat(32)),
        ..grant(&[&server])
    };
    turn.grant(now, next).unwrap();
    settle(now, &mut turn, &mut [&mut server]);
    assert_eq!(turn.relayed(), first);
    turn.forget(now, peer(1));
    // the old one is given back before the new one is asked for
    let sent: Vec<u8> = std::iter::from_fn(|| turn.poll_output())
        .filter_map(|output| match output {
            Output::Send(packet) => packet.bytes.get(1).copied(),
            _ => None,
        })
        .collect();
    assert_eq!(sent, [4, 3]);
}

#[test]
fn only_addresses_of_udp_servers_are_read() {
    let fine = |uri: &str| server(uri).map(|address| address.to_string());
    assert_eq!(
        fine("turn:203.0.113.7:443?transport=udp").unwrap(),
        "203.0.113.7:443"
    );
    assert_eq!(fine("turn:[2001:db8::1]:443").unwrap(), "[2001:db8::1]:443");
    assert_eq!(fine("turn:203.0.113.7").unwrap(), "203.0.113.7:3478");
    assert_eq!(
        fine("turn:[2001:db8::1]?transport=udp").unwrap(),
        "[2001:db8::1]:3478"
    );
    for other in [
        "turn:203.0.113.7:443?transport=tcp",
        "turns:203.0.113.7",
        "turn:relay.example",
        "",
    ] {
        assert_eq!(fine(other), None, "{other}");
    }
}
