//! Two agents that hand each other what they send.

use std::net::SocketAddr;

use super::*;
use crate::path::candidates::Base;
use crate::path::tests::base;

fn at(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 5_000))
}

fn way(last: u8) -> Way {
    (Base::Socket(0), at(last))
}

fn agent(seed: u8, controlling: bool) -> Agent {
    Agent::new(controlling, Draw::from_seed([seed; 32]))
}

/// Two that know each other's creds: the first is at 1, the second at 2.
fn pair(roles: (bool, bool)) -> (Agent, Agent) {
    let (mut one, mut two) = (agent(1, roles.0), agent(2, roles.1));
    one.creds(&two.own().ufrag.clone(), &two.own().pwd.clone());
    two.creds(&one.own().ufrag.clone(), &one.own().pwd.clone());
    (one, two)
}

/// What an agent says besides packets, and its packets.
fn said(agent: &mut Agent) -> (Vec<Output>, Vec<(Way, Vec<u8>)>) {
    let (mut said, mut sent) = (Vec::new(), Vec::new());
    while let Some(output) = agent.poll_output() {
        match output {
            Output::Send(way, bytes) => sent.push((way, bytes)),
            other => said.push(other),
        }
    }
    (said, sent)
}

fn give(now: Instant, agent: &mut Agent, way: Way, bytes: &[u8]) {
    let message = stun::parse(bytes).unwrap();
    if message.is_response() {
        agent.answered(now, way, &message);
    } else {
        agent.requested(now, way, &message);
    }
}

/// Passes packets between the two until none is left; what each said.
fn settle(now: Instant, one: &mut Agent, two: &mut Agent) -> (Vec<Output>, Vec<Output>) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    loop {
        let (said_one, sent_one) = said(one);
        let (said_two, sent_two) = said(two);
        first.extend(said_one);
        second.extend(said_two);
        if sent_one.is_empty() && sent_two.is_empty() {
            return (first, second);
        }
        for (to, bytes) in sent_one {
            if to == way(2) {
                give(now, two, way(1), &bytes);
            }
        }
        for (to, bytes) in sent_two {
            if to == way(1) {
                give(now, one, way(2), &bytes);
            }
        }
    }
}

fn listed(last: u8) -> [(Way, Kind, Kind); 1] {
    [(way(last), Kind::Host, Kind::Host)]
}

// covers: SUORA-SET-207, SUORA-SET-209
#[test]
fn one_check_and_its_answer_prove_a_way_at_each_end() {
    let (now, (mut one, mut two)) = (base(), pair((true, false)));
    one.ways(now, &listed(2));
    one.tick(now);
    let (first, second) = settle(now, &mut one, &mut two);
    let proven = |said: &[Output], of| {
        said.iter()
            .any(|one| matches!(one, Output::Proven(way, ..) if *way == of))
    };
    assert!(proven(&first, way(2)));
    // the other end was told nothing, and found the way by the check
    assert!(second.contains(&Output::Stranger) && second.contains(&Output::Heard(way(1))));
    assert!(proven(&second, way(1)));
    // in use at the controlling end: the other one hears of it at once
    one.in_use(now, way(2), false);
    let (_, second) = settle(now, &mut one, &mut two);
    assert!(second.contains(&Output::Nominated(way(1))));
}

// covers: SUORA-SET-207
#[test]
fn a_check_that_somebody_repeats_is_not_answered_wherever_it_comes_from() {
    let (now, (mut one, mut two)) = (base(), pair((true, false)));
    one.ways(now, &listed(2));
    one.tick(now);
    let (_, sent) = said(&mut one);
    let check = sent[0].1.clone();
    give(now, &mut two, way(1), &check);
    let (_, answers) = said(&mut two);
    assert!(!answers.is_empty());
    for from in [way(1), way(9), (Base::Relay(1), at(1))] {
        give(now, &mut two, from, &check);
        assert_eq!(said(&mut two), (Vec::new(), Vec::new()));
    }
    // an answer counts once, and only from where its check went
    let answer = answers
        .iter()
        .find(|(_, bytes)| stun::parse(bytes).unwrap().is_response())
        .unwrap();
    give(now, &mut one, way(9), &answer.1);
    assert_eq!(said(&mut one).0, []);
    give(now, &mut one, way(2), &answer.1);
    assert!(matches!(said(&mut one).0[..], [Output::Proven(..)]));
    give(now, &mut one, way(2), &answer.1);
    assert_eq!(said(&mut one).0, []);
}

// covers: SUORA-SET-207
#[test]
fn what_is_not_signed_with_the_password_changes_nothing() {
    let (now, (mut one, mut two)) = (base(), pair((true, false)));
    let mut stranger = agent(3, true);
    // it knows the names, not the password
    stranger.creds(&two.own().ufrag.clone(), "0123456789abcdefABCDEF");
    stranger.ways(now, &listed(2));
    stranger.tick(now);
    for (_, bytes) in said(&mut stranger).1 {
        give(now, &mut two, way(3), &bytes);
    }
    assert_eq!(said(&mut two), (Vec::new(), Vec::new()));
    // one changed byte of a good check
    one.ways(now, &listed(2));
    one.tick(now);
    let good = said(&mut one).1.remove(0).1;
    for at in [8, 24, 40, good.len() - 30] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        if let Some(message) = stun::parse(&bad) {
            two.requested(now, way(1), &message);
        }
    }
    assert_eq!(said(&mut two), (Vec::new(), Vec::new()));
    give(now, &mut two, way(1), &good);
    assert!(!said(&mut two).1.is_empty());
}

// covers: SUORA-SET-207
#[test]
fn two_that_would_both_control_agree() {
    for roles in [(true, true), (false, false)] {
        let (now, (mut one, mut two)) = (base(), pair(roles));
        one.ways(now, &listed(2));
        two.ways(now, &listed(1));
        one.tick(now);
        two.tick(now);
        let mut now = now;
        for _ in 0..20 {
            settle(now, &mut one, &mut two);
            now += Duration::from_millis(100);
            one.tick(now);
            two.tick(now);
        }
        assert_ne!(one.role.controlling, two.role.controlling, "{roles:?}");
    }
}

// covers: SUORA-SET-205
#[test]
fn pairs_and_what_strangers_add_to_them_are_bounded() {
    let (now, (mut one, mut two)) = (base(), pair((true, false)));
    let many: Vec<_> = (1..=99)
        .map(|last| (way(last), Kind::Host, Kind::Host))
        .collect();
    one.ways(now, &many);
    assert_eq!(one.pairs.len(), PAIRS_MAX);
    // the other end itself, from ever other ports
    two.ways(now, &listed(1));
    let mut now = now;
    for port in 0..100 {
        now += Duration::from_secs(3);
        two.tick(now);
        for (_, bytes) in said(&mut two).1 {
            let from = (
                Base::Socket(0),
                SocketAddr::from(([192, 0, 2, 2], 1_000 + port)),
            );
            give(now, &mut one, from, &bytes);
        }
    }
    assert!(one.pairs.len() <= PAIRS_MAX);
    assert!(one.pairs.iter().filter(|pair| pair.reflexive).count() <= REFLEXIVE_MAX);
}

// covers: SUORA-SET-208
#[test]
fn checks_go_on_and_more_often_on_the_way_in_use() {
    let (start, (mut one, mut two)) = (base(), pair((true, false)));
    one.ways(start, &[(way(2), Kind::Host, Kind::Host)]);
    one.tick(start);
    settle(start, &mut one, &mut two);
    let count = |in_use: bool, one: &mut Agent, two: &mut Agent, from: Instant| {
        if in_use {
            one.in_use(from, way(2), false);
        }
        let (mut checks, mut now) = (0, from);
        while now < from + Duration::from_secs(60) {
            now += Duration::from_millis(100);
            one.tick(now);
            let (_, sent) = said(one);
            let is_check =
                |(_, bytes): &&(Way, Vec<u8>)| !stun::parse(bytes).unwrap().is_response();
            checks += sent.iter().filter(is_check).count();
            for (_, bytes) in sent {
                give(now, two, way(1), &bytes);
            }
            for (_, bytes) in said(two).1 {
                give(now, one, way(2), &bytes);
            }
            // what the other end checks is answered, and not counted
            for (_, bytes) in said(one).1 {
                give(now, two, way(1), &bytes);
            }
        }
        checks
    };
    let spare = count(false, &mut one, &mut two, start);
    let used = count(true, &mut one, &mut two, start + Duration::from_secs(60));
    assert!((10..=14).contains(&spare), "{spare}");
    assert!((26..=34).contains(&used), "{used}");
}
