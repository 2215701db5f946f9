//! Two endpoints that meet over a stock relay: relayed at once, direct after the accept, and back
//! to nothing that anybody notices.

use std::time::Duration;

use bytes::Bytes;
use suora_node::Faults;
use suora_node::endpoint::Endpoint;
use suora_node::engine::ports::Dial;
use suora_node::path::Event;
use suora_node::worker::Mailbox;
use suora_protocol::documents::AddressPolicy;

use crate::endpoint::{SESSION, dial, endpoint, meet};
use crate::turn::Coturn;

/// Passes on what the ends tell each other, until the paths of both are of a kind.
async fn until(kind: &str, ends: [&Endpoint; 2], events: &mut [Mailbox<Event>; 2]) {
    let [host, guest] = ends;
    let of = |end: &Endpoint| end.path(SESSION, Duration::ZERO).map(|path| path.kind);
    let both = async {
        let mut beat = tokio::time::interval(Duration::from_millis(5));
        while of(host) != Some(kind) || of(guest) != Some(kind) {
            beat.tick().await;
            for (mailbox, other) in events.iter_mut().zip([guest, host]) {
                while let Some(event) = mailbox.take() {
                    if let Event::Tell(session, told) = event {
                        other
                            .paths()
                            .with(|now, path| path.heard(now, session, told));
                    }
                }
            }
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), both).await;
    assert!(waited.is_ok(), "{:?} {:?}, not {kind}", of(host), of(guest));
}

// covers: SUORA-SET-005, SUORA-SET-203, SUORA-SET-209
#[tokio::test(flavor = "multi_thread")]
async fn two_ends_meet_over_a_relay_and_go_direct_after_the_accept() {
    let relay = Coturn::start();
    let (mut host, mut guest) = (endpoint(Faults::default()), endpoint(Faults::default()));
    let mut events = [host.events().unwrap(), guest.events().unwrap()];
    host.paths()
        .with(|now, path| path.grant(now, relay.grant()))
        .unwrap();
    let stands = async {
        let mut beat = tokio::time::interval(Duration::from_millis(5));
        while host.paths().with(|_, path| path.relayed().is_empty()) {
            beat.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), stands)
        .await
        .unwrap();
    let addresses = host.paths().with(|_, path| path.relayed());
    let from = guest.addresses();
    host.paths()
        .with(|now, path| path.permit(now, SESSION, &from));
    let dial = Dial {
        addresses,
        ..dial(&host)
    };
    let (at_host, at_guest) = meet(&host, &guest, &dial, false).await;
    let (at_host, at_guest) = (at_host.unwrap().connection, at_guest.unwrap().connection);
    for (end, is_host) in [(&host, true), (&guest, false)] {
        let policy = AddressPolicy::AfterAccept;
        end.paths()
            .with(|now, path| path.begin(now, SESSION, is_host, policy));
    }
    until("relayed", [&host, &guest], &mut events).await;
    // before the accept it stays so
    let direct = until("direct", [&host, &guest], &mut events);
    let waited = tokio::time::timeout(Duration::from_secs(1), direct).await;
    assert!(waited.is_err());
    for end in [&host, &guest] {
        end.paths().with(|now, path| path.accepted(now, SESSION));
    }
    until("direct", [&host, &guest], &mut events).await;
    // one QUIC connection all the time, and the relay is not needed any longer
    drop(relay);
    for (from, to) in [(&at_host, &at_guest), (&at_guest, &at_host)] {
        from.send_datagram(Bytes::from_static(b"sound")).unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(5), to.read_datagram()).await;
        assert_eq!(heard.unwrap().unwrap(), &b"sound"[..]);
    }
}
