//! A real relay and real nodes: the walk of a consultation, ends of all kinds, refusals.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use suora_protocol::documents::{self, Credential, Role, TicketId};
use suora_protocol::fault::Code;
use suora_protocol::identity::{AgencyId, Key};
use suora_protocol::time::Timestamp;
use suora_protocol::wire::citizen::{self, FromRelay};
use suora_protocol::wire::officer;

use crate::agency::{desk, key, officer_key};
use crate::rig::{self, Agency, By, Link, Node};

const TRANSPORTS: [By; 3] = [By::Quic, By::Tcp, By::WebSocket];

async fn queued(link: &mut Link) -> (TicketId, u32) {
    match link.hear().await {
        Some(FromRelay::Queued { ticket, position }) => (ticket, position),
        other => panic!("not queued: {other:?}"),
    }
}

async fn waits(agency: &Agency, key: &Key, by: By) -> (Node, Link, TicketId, u32) {
    let (node, mut link) = rig::citizen(agency, key, by).await;
    link.say(&rig::join("tax")).await;
    let (ticket, position) = queued(&mut link).await;
    (node, link, ticket, position)
}

async fn refused(link: &mut Link) -> Code {
    match link.hear::<FromRelay>().await {
        Some(FromRelay::Refused { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_citizen_and_an_officer_meet_over_any_transport() {
    let agency = Agency::new();
    let _relay = agency.serve();
    for (number, by) in (0..).zip(TRANSPORTS) {
        let (_one, mut first, ticket, position) = waits(&agency, &key(10 + number), by).await;
        assert_eq!(position, 0);
        let (_two, mut second, _, position) = waits(&agency, &key(20 + number), by).await;
        assert_eq!(position, 1);
        let officer = officer_key(number);
        let credential = agency.issue(&officer);
        let (_three, mut desk_link) = rig::officer(&agency, &officer, by).await;
        desk_link.say(&rig::attend(credential)).await;
        let attending = desk_link.hear().await;
        let waiting = 2;
        let desk = desk("tax");
        assert_eq!(
            attending,
            Some(officer::FromRelay::Attending { desk, waiting })
        );
        let Some(officer::FromRelay::Offer { attempt, .. }) = desk_link.hear().await else {
            panic!("no offer");
        };
        let matched = first.hear().await;
        assert_eq!(matched, Some(FromRelay::Matched { ticket, attempt }));
        assert!(matches!(
            second.hear().await,
            Some(FromRelay::Position { position: 0, .. })
        ));
        let invite = vec![7; 20_000];
        let passed = officer::ToRelay::Invite {
            ticket,
            attempt,
            invite: invite.clone(),
        };
        desk_link.say(&passed).await;
        let heard = first.hear().await;
        assert_eq!(
            heard,
            Some(FromRelay::Invite {
                ticket,
                attempt,
                invite
            })
        );
        desk_link
            .say(&officer::ToRelay::Accepted { ticket, attempt })
            .await;
        let code = Code::Ended;
        desk_link
            .say(&officer::ToRelay::Done { ticket, code })
            .await;
        assert_eq!(first.hear().await, Some(FromRelay::Ended { ticket, code }));
        // leave the desk as it was
        assert!(matches!(
            second.hear().await,
            Some(FromRelay::Matched { .. })
        ));
        drop(desk_link);
        assert!(matches!(
            second.hear().await,
            Some(FromRelay::Waiting { .. })
        ));
        let ticket = TicketId::from_bytes([0; 16]);
        second.say(&citizen::ToRelay::Leave { ticket }).await;
        second.say(&rig::join("tax")).await;
        let (ticket, _) = queued(&mut second).await;
        second.say(&citizen::ToRelay::Leave { ticket }).await;
        assert!(matches!(second.hear().await, Some(FromRelay::Ended { .. })));
    }
}

// covers: SUORA-DSK-005, SUORA-DSK-009
#[tokio::test(flavor = "multi_thread")]
async fn kill_9_costs_nobody_the_place() {
    let agency = Agency::new();
    let relay = agency.serve();
    let mut before = Vec::new();
    for number in 0..24 {
        let by = TRANSPORTS[usize::from(number % 3)];
        let (node, link, ticket, position) = waits(&agency, &key(30 + number), by).await;
        assert_eq!(position, u32::from(number));
        before.push((ticket, node, link));
    }
    relay.kill();
    let tickets: Vec<TicketId> = before.iter().map(|(ticket, _, _)| *ticket).collect();
    drop(before);
    let relay = agency.serve();
    let mut back = Vec::new();
    for number in (0..24).rev() {
        let by = TRANSPORTS[usize::from(number % 3)];
        let (node, link, ticket, position) = waits(&agency, &key(30 + number), by).await;
        assert_eq!(
            (ticket, position),
            (tickets[usize::from(number)], u32::from(number))
        );
        back.push((node, link));
    }
    let (metrics, body) = rig::get(relay.metrics, "/metrics", "").await;
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("suora_waiting 24\n"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_everything_in_order_within_a_second() {
    let agency = Agency::new();
    let relay = agency.serve();
    let mut links = Vec::new();
    for (number, by) in (0..).zip([By::Quic, By::Tcp, By::WebSocket, By::Tcp]) {
        let (node, link, ..) = waits(&agency, &key(60 + number), by).await;
        links.push((node, link));
    }
    let stop = tokio::task::spawn_blocking(move || relay.terminate());
    for (node, link) in &mut links {
        assert_eq!(link.hear::<FromRelay>().await, None);
        node.closed().await;
    }
    let (status, took) = stop.await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
    // the store is whole, and nothing is left beside it
    assert!(!agency.path("relay/relay.db-wal").exists());
    let _again = agency.serve();
    let (.., position) = waits(&agency, &key(63), By::Quic).await;
    assert_eq!(position, 3);
}

// covers: SUORA-SEC-004
#[tokio::test(flavor = "multi_thread")]
async fn who_left_is_in_no_file_of_a_relay_that_stopped() {
    let agency = Agency::new();
    let relay = agency.serve();
    let (stays, leaves) = (key(65), key(66));
    let (_node, link, ..) = waits(&agency, &stays, By::Quic).await;
    let (_other, mut leaving, ticket, _) = waits(&agency, &leaves, By::Tcp).await;
    leaving.say(&citizen::ToRelay::Leave { ticket }).await;
    assert!(matches!(
        leaving.hear().await,
        Some(FromRelay::Ended { .. })
    ));
    drop((link, leaving));
    relay.terminate();
    let holds = |key: &Key| {
        let peer = key.peer_id();
        let files = crate::commands::walk(&agency.path("relay"));
        let is_there = |bytes: Vec<u8>| bytes.windows(32).any(|window| window == peer.as_bytes());
        files
            .iter()
            .any(|file| is_there(std::fs::read(file).unwrap()))
    };
    assert!(holds(&stays), "who waits is there");
    assert!(!holds(&leaves));
}

// covers: SUORA-SEC-130
#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_writes_is_its_owners_alone_but_what_is_given_away() {
    // as most systems have it; the relay inherits it
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let agency = Agency::new();
    let relay = agency.serve();
    let (_node, _link, ..) = waits(&agency, &key(67), By::Quic).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (mut private, mut open) = (Vec::new(), Vec::new());
    for file in crate::commands::walk(&agency.path("relay")) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        match mode(&file) {
            0o600 => private.push(name),
            0o644 => open.push(name),
            other => panic!("{name}: {other:o}"),
        }
    }
    assert_eq!(open, ["descriptor.cose"]);
    for name in ["relay.db", "relay.db-wal", "relay.db-shm", "relay.key"] {
        assert!(private.iter().any(|is| is == name), "{name}: {private:?}");
    }
    let credential = agency.path("credential");
    std::fs::write(&credential, agency.issue(&officer_key(1))).unwrap();
    assert_eq!(mode(&credential), 0o644);
    relay.kill();
}

// covers: SUORA-DSK-002
#[tokio::test(flavor = "multi_thread")]
async fn an_officer_is_refused_with_the_reason() {
    let agency = Agency::new();
    let _relay = agency.serve();
    let issuing = agency.key("issuing/issuing.key");
    let officer = officer_key(1);
    let day = |days: i64| Timestamp::from_secs(rig::now().as_secs() + days * 86_400);
    let claim = agency.claim(&officer, (day(-8), day(1)));
    let sign =
        |claim: &Credential, key: &Key| documents::sign(claim, key).unwrap().bytes().to_vec();
    let changed = |change: &dyn Fn(&mut Credential)| {
        let mut claim = claim.clone();
        change(&mut claim);
        sign(&claim, &issuing)
    };
    let cases = [
        (Vec::new(), Code::NoCredential),
        (changed(&|claim| claim.not_after = day(-1)), Code::Expired),
        (
            changed(&|claim| claim.desks = vec![desk("job")]),
            Code::WrongDesk,
        ),
        (
            changed(&|claim| claim.agency = AgencyId::from_bytes([3; 32])),
            Code::WrongAgency,
        ),
        (changed(&|claim| claim.role = Role::Expert), Code::WrongRole),
        (
            changed(&|claim| claim.peer = key(9).peer_id()),
            Code::WrongSigner,
        ),
        (sign(&claim, &key(9)), Code::BadSignature),
    ];
    let (_node, mut link) = rig::officer(&agency, &officer, By::Quic).await;
    for (credential, expected) in cases {
        link.say(&rig::attend(credential)).await;
        match link.hear().await {
            Some(officer::FromRelay::Refused { code, .. }) => assert_eq!(code, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    // the stream stands, and a good credential is good
    link.say(&rig::attend(sign(&claim, &issuing))).await;
    assert!(matches!(
        link.hear().await,
        Some(officer::FromRelay::Attending { .. })
    ));
}

// covers: SUORA-CTL-002, SUORA-CTL-006
#[tokio::test(flavor = "multi_thread")]
async fn broken_frames_are_answered_and_end_the_stream() {
    let agency = Agency::new();
    let _relay = agency.serve();
    let text = [0x05, b'h', b'e', b'l', b'l', b'o'];
    let cases: [(&[u8], Code); 5] = [
        // 65,537 bytes
        (&[0x81, 0x80, 0x04], Code::TooLarge),
        (&[0xff, 0xff, 0xff, 0x7f], Code::TooLarge),
        // zero in two bytes
        (&[0x80, 0x00], Code::NotDeterministic),
        (&text, Code::Malformed),
        // {"n": 1} with the number in two bytes
        (
            &[0x05, 0xa1, 0x61, b'n', 0x18, 0x01],
            Code::NotDeterministic,
        ),
    ];
    for by in TRANSPORTS {
        for (bytes, expected) in cases {
            let (_node, mut link) = rig::citizen(&agency, &key(40), by).await;
            link.write(bytes).await;
            assert_eq!(refused(&mut link).await, expected);
            assert_eq!(link.hear::<FromRelay>().await, None);
        }
    }
    // a stream that broke costs the next one nothing
    let (.., position) = waits(&agency, &key(40), By::Quic).await;
    assert_eq!(position, 0);
}

// covers: SUORA-CTL-004
#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_too_fast_is_told_so_and_closed() {
    let agency = Agency::new();
    let _relay = agency.serve();
    let (_node, mut link) = rig::citizen(&agency, &key(41), By::Quic).await;
    for n in 0..200 {
        link.say(&citizen::ToRelay::Ping { n }).await;
    }
    let mut last = None;
    while let Some(message) = link.hear::<FromRelay>().await {
        last = Some(message);
    }
    assert!(
        matches!(
            last,
            Some(FromRelay::Refused {
                code: Code::TooFast,
                ..
            })
        ),
        "{last:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_stream_takes_over_and_too_many_are_turned_away() {
    let agency = Agency::new();
    let _relay = agency.serve();
    let mut node = Node::connect(&agency, &key(42), By::Tcp).await;
    let mut first = node.open(citizen::PROTOCOL).await.unwrap();
    first.say(&rig::join("tax")).await;
    let (ticket, _) = queued(&mut first).await;
    let mut second = node.open(citizen::PROTOCOL).await.unwrap();
    second.say(&rig::join("tax")).await;
    assert_eq!(queued(&mut second).await, (ticket, 0));
    assert_eq!(refused(&mut first).await, Code::Busy);
    assert_eq!(first.hear::<FromRelay>().await, None);
    // who opens streams without end is told so
    for _ in 2..suora_relay::control::STREAMS {
        drop(node.open(citizen::PROTOCOL).await.unwrap());
    }
    let mut last = node.open(citizen::PROTOCOL).await.unwrap();
    assert_eq!(refused(&mut last).await, Code::Busy);
    assert_eq!(last.hear::<FromRelay>().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_stream_is_closed() {
    let agency = Agency::new();
    let _relay = agency.serve();
    let mut idle = Node::connect(&agency, &key(43), By::Tcp).await;
    let (mut busy, mut link, ..) = waits(&agency, &key(44), By::Quic).await;
    let mut n = 0;
    while !*busy.closed_yet() && !*idle.closed_yet() {
        n += 1;
        link.say(&citizen::ToRelay::Ping { n }).await;
        assert_eq!(link.hear().await, Some(FromRelay::Pong { n }));
        idle.closed_within(Duration::from_secs(2)).await;
        assert!(n < 30, "it stays");
    }
    assert!(*idle.closed_yet() && !*busy.closed_yet());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_a_bounded_number_of_connections() {
    let agency = Agency::new();
    let _relay = agency.serve();
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(rig::citizen(&agency, &key(45), By::Quic).await);
    }
    // the fifth is closed before it can be used
    let fifth = Node::try_connect(&agency, &key(45), By::Quic).await;
    if let Some(mut fifth) = fifth {
        fifth.closed().await;
    }
    let (.., position) = waits(&agency, &key(46), By::Quic).await;
    assert_eq!(position, 0);
}

// covers: SUORA-CTL-007, SUORA-SEC-142
#[tokio::test(flavor = "multi_thread")]
async fn the_public_pages_say_who_the_agency_is_and_whether_the_relay_lives() {
    let agency = Agency::new();
    let relay = agency.serve();
    let (head, body) = rig::get(relay.http, "/.well-known/suora", "").await;
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("application/cose"),
        "{head}"
    );
    assert_eq!(body, agency.descriptor().bytes().to_vec());
    let tag = head
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .unwrap();
    let known = format!("if-none-match: {tag}\r\n");
    let (head, body) = rig::get(relay.http, "/.well-known/suora", &known).await;
    assert!(
        head.starts_with("HTTP/1.1 304") && body.is_empty(),
        "{head}"
    );
    let (head, body) = rig::get(relay.http, "/health", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, b"ok\n");
    // metrics have their own listener
    assert!(
        rig::get(relay.http, "/metrics", "")
            .await
            .0
            .starts_with("HTTP/1.1 404")
    );
    let (head, body) = rig::get(relay.metrics, "/metrics", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(String::from_utf8(body).unwrap().ends_with("# EOF\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_takes_a_new_descriptor_and_never_an_older_one() {
    let agency = Agency::new();
    let relay = agency.serve();
    let first = std::fs::read(agency.path("relay/descriptor.cose")).unwrap();
    let officer = officer_key(5);
    let credential = agency.issue(&officer);
    let (_node, mut link) = rig::officer(&agency, &officer, By::Quic).await;
    link.say(&rig::attend(credential)).await;
    assert!(matches!(
        link.hear().await,
        Some(officer::FromRelay::Attending { .. })
    ));
    let page = agency.path("root/descriptor.toml");
    let text = std::fs::read_to_string(&page).unwrap();
    let revoked = format!("revoked = [\"{}\"]", officer.peer_id().to_text());
    std::fs::write(&page, text.replace("revoked = []", &revoked)).unwrap();
    rig::success([
        "descriptor".as_ref(),
        "sign".as_ref(),
        "--root".as_ref(),
        agency.path("root").as_os_str(),
        "--out".as_ref(),
        agency.path("relay/descriptor.cose").as_os_str(),
    ]);
    relay.hang_up();
    match link.hear().await {
        Some(officer::FromRelay::Refused { code, .. }) => assert_eq!(code, Code::Revoked),
        other => panic!("{other:?}"),
    }
    assert_eq!(link.hear::<officer::FromRelay>().await, None);
    let second = agency.descriptor().bytes().to_vec();
    assert_ne!(first, second);
    let page = || rig::get(relay.http, "/.well-known/suora", "");
    rig::until("the new page", async || page().await.1 == second).await;
    // an older one is not taken: the relay goes on with what it has
    std::fs::write(agency.path("relay/descriptor.cose"), first).unwrap();
    relay.hang_up();
    let (.., position) = waits(&agency, &key(47), By::Quic).await;
    assert_eq!(position, 0);
    assert_eq!(page().await.1, second);
}

// covers: SUORA-SEC-133
#[tokio::test(flavor = "multi_thread")]
async fn unfinished_messages_of_a_prefix_are_bounded_and_who_waits_is_not_moved() {
    let agency = Agency::new();
    let _relay = agency.serve();
    let (_waits, mut waiting) = rig::citizen(&agency, &key(70), By::Quic).await;
    waiting.say(&rig::join("tax")).await;
    assert!(matches!(
        waiting.hear().await,
        Some(FromRelay::Queued { position: 0, .. })
    ));
    // 60,000 bytes of 65,536, again and again
    let begun = [&[0x80, 0x80, 0x04][..], &[0; 60_000]].concat();
    let each = begun.len() - 4_096;
    let (mut nodes, mut links) = (Vec::new(), Vec::new());
    for number in 0..10 {
        let mut node = Node::connect(&agency, &key(71 + number), By::Tcp).await;
        for _ in 0..4 {
            let mut link = node.open(citizen::PROTOCOL).await.unwrap();
            link.write(&begun).await;
            links.push(link);
        }
        nodes.push(node);
    }
    let most = suora_relay::control::streams::UNFINISHED / each;
    let mut busy = 0;
    for link in &mut links {
        let heard = link.hear_within::<FromRelay>(Duration::from_millis(100));
        if let Some(Some(FromRelay::Refused { code, .. })) = heard.await {
            assert_eq!(code, Code::Busy);
            busy += 1;
        }
    }
    assert!(busy >= links.len() - most, "{busy} of {}", links.len());
    waiting.say(&citizen::ToRelay::Ping { n: 1 }).await;
    assert_eq!(waiting.hear().await, Some(FromRelay::Pong { n: 1 }));
}
