//! Two endpoints on loopback: who is answered, what is negotiated, what is pinned.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::FutureExt;
use if_addrs::{IfAddr, Interface};
use suora_node::Faults;
use suora_node::clock::Clock;
use suora_node::endpoint::{Connected, Endpoint, Listen};
use suora_node::engine::ports::{Dial, Expected, SessionEvent};
use suora_node::path::{self, Network};
use suora_node::report::Security;
use suora_node::session::said_last;
use suora_protocol::documents::{Dcid, SessionId};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Hash;
use suora_protocol::limits;
use suora_protocol::time::Timestamp;

const DCID: Dcid = Dcid::from_bytes([7; 20]);
pub(crate) const SESSION: SessionId = SessionId::from_bytes([1; 16]);

fn now() -> Timestamp {
    Clock::start().now().utc
}

pub(crate) fn endpoint(faults: Faults) -> Endpoint {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listen = Listen {
        addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        loopback: true,
        ..Listen::default()
    };
    Endpoint::new(&listen, now(), faults).unwrap()
}

pub(crate) fn dial(host: &Endpoint) -> Dial {
    Dial {
        session: SESSION,
        dcid: DCID,
        addresses: host.addresses(),
        fingerprint: host.fingerprint(),
        invite: Hash::of(b"invite"),
        require_pq: false,
    }
}

fn expected(require_pq: bool) -> Expected {
    Expected {
        session: SESSION,
        dcid: DCID,
        invite: Hash::of(b"invite"),
        require_pq,
    }
}

pub(crate) type Met = (Result<Connected, Fault>, Result<Connected, Fault>);

/// The host expects, the guest dials: what each end gets.
pub(crate) async fn meet(host: &Endpoint, guest: &Endpoint, dial: &Dial, require_pq: bool) -> Met {
    let host = host.expect(expected(require_pq));
    let guest = guest.dial(dial).unwrap();
    let wait = Duration::from_secs(20);
    let guest = tokio::time::timeout(wait, guest).await.unwrap().unwrap();
    if let Err(fault) = guest {
        // a host whose guest went away need not say anything
        return (Err(Fault::new(Code::CitizenGone)), Err(fault));
    }
    let host = tokio::time::timeout(wait, host).await.unwrap().unwrap();
    (host, guest)
}

fn told(connected: &Connected) -> (Hash, &str, &Security) {
    match &connected.event {
        SessionEvent::Connected {
            binding,
            alpn,
            security,
            ..
        } => (*binding, alpn, security),
        other => panic!("{other:?}"),
    }
}

// covers: SUORA-SET-011, SUORA-SET-013, SUORA-SES-001
#[tokio::test(flavor = "multi_thread")]
async fn both_ends_see_one_binding_the_hybrid_group_and_one_certificate() {
    let (host, guest) = (endpoint(Faults::default()), endpoint(Faults::default()));
    let (at_host, at_guest) = meet(&host, &guest, &dial(&host), true).await;
    let (at_host, at_guest) = (at_host.unwrap(), at_guest.unwrap());
    let (host_says, guest_says) = (told(&at_host), told(&at_guest));
    assert_eq!(host_says.0, guest_says.0);
    assert_eq!((host_says.1, guest_says.1), ("suora/1", "suora/1"));
    for security in [host_says.2, guest_says.2] {
        assert_eq!(security.key_exchange, "X25519MLKEM768");
        assert_eq!(security.fingerprint, host.fingerprint().to_hex());
    }
    let datagram = at_guest.connection.max_datagram_size();
    assert!(datagram >= Some(limits::DATAGRAM_MAX), "{datagram:?}");
    // the host grants one bidirectional stream: the control stream
    let control = at_guest.connection.open_bi().await.unwrap();
    assert!(at_guest.connection.open_bi().now_or_never().is_none());
    drop(control);
}

// covers: SUORA-SET-013, SUORA-SET-100
#[tokio::test(flavor = "multi_thread")]
async fn an_end_limited_to_x25519_is_classical_and_too_little_where_more_is_required() {
    let classical = Faults {
        classical_only: true,
        ..Faults::default()
    };
    let (host, guest) = (endpoint(Faults::default()), endpoint(classical));
    let (at_host, at_guest) = meet(&host, &guest, &dial(&host), false).await;
    assert_eq!(told(&at_host.unwrap()).2.key_exchange, "X25519");
    assert_eq!(told(&at_guest.unwrap()).2.key_exchange, "X25519");
    host.forget(SESSION);
    guest.forget(SESSION);
    let demanding = Dial {
        require_pq: true,
        ..dial(&host)
    };
    let (_, refused) = meet(&host, &guest, &demanding, true).await;
    assert_eq!(refused.unwrap_err().code, Code::PostQuantumRequired);
}

// covers: SUORA-SET-012
#[tokio::test(flavor = "multi_thread")]
async fn another_certificate_than_the_invites_is_refused() {
    let (host, guest) = (endpoint(Faults::default()), endpoint(Faults::default()));
    let wrong = Dial {
        fingerprint: Hash::of(b"another"),
        ..dial(&host)
    };
    let (_, refused) = meet(&host, &guest, &wrong, false).await;
    assert_eq!(refused.unwrap_err().code, Code::WrongCertificate);
}

// covers: SUORA-SET-014
#[tokio::test(flavor = "multi_thread")]
async fn a_former_session_opens_no_door_to_a_host_with_a_new_certificate() {
    let (host, guest) = (endpoint(Faults::default()), endpoint(Faults::default()));
    let old = dial(&host);
    let (at_host, at_guest) = meet(&host, &guest, &old, false).await;
    drop((at_host.unwrap(), at_guest.unwrap()));
    host.forget(SESSION);
    guest.forget(SESSION);
    host.renew(now()).unwrap();
    // a resumed handshake would present no certificate, and the old pin would pass
    let (_, refused) = meet(&host, &guest, &old, false).await;
    assert_eq!(refused.unwrap_err().code, Code::WrongCertificate);
}

// covers: SUORA-SET-004
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_not_expected_hears_nothing() {
    let (host, guest) = (endpoint(Faults::default()), endpoint(Faults::default()));
    let _expected = host.expect(expected(false));
    let stranger = Dial {
        dcid: Dcid::from_bytes([8; 20]),
        ..dial(&host)
    };
    let answer = guest.dial(&stranger).unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(700), answer).await;
    assert!(waited.is_err(), "{waited:?}");
}

// covers: SUORA-SET-015
#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_nobody_should_dial_are_no_path() {
    let listen = Listen {
        addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        loopback: false,
        ..Listen::default()
    };
    let host = endpoint(Faults::default());
    let careful = Endpoint::new(&listen, now(), Faults::default()).unwrap();
    for addresses in [
        host.addresses(),
        vec!["0.0.0.0:9".parse().unwrap()],
        vec!["224.0.0.1:9".parse().unwrap()],
        vec!["255.255.255.255:9".parse().unwrap()],
        vec!["192.0.2.1:0".parse().unwrap()],
        vec!["169.254.1.1:9".parse().unwrap()],
        vec![mapped(host.addresses()[0])],
        vec!["[::ffff:224.0.0.1]:9".parse().unwrap()],
        vec!["[64:ff9b::7f00:1]:9".parse().unwrap()],
    ] {
        let bad = Dial {
            addresses,
            ..dial(&host)
        };
        let refused = careful.dial(&bad).unwrap_err();
        assert_eq!(refused.code, Code::NoPath, "{:?}", bad.addresses);
    }
    assert!(careful.addresses().is_empty(), "loopback is not listed");
}

/// An IPv4 address, written as one of IPv6.
fn mapped(address: SocketAddr) -> SocketAddr {
    let SocketAddr::V4(v4) = address else {
        panic!("{address}");
    };
    SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()))
}

/// Addresses in private networks that this machine, whichever it is, is not in.
fn strange() -> Vec<SocketAddr> {
    let network = |interface: Interface| -> Network {
        match interface.addr {
            IfAddr::V4(v4) => (v4.ip.into(), v4.prefixlen),
            IfAddr::V6(v6) => (v6.ip.into(), v6.prefixlen),
        }
    };
    let own: Vec<Network> = if_addrs::get_if_addrs()
        .unwrap()
        .into_iter()
        .map(network)
        .collect();
    let all = (0..=255).flat_map(|n| {
        [
            [10, n, 219, 7],
            [172, 16 + n % 16, n, 7],
            [192, 168, n, 7],
            [100, 64 + n % 64, n, 7],
        ]
    });
    let strange: Vec<SocketAddr> = all
        .map(|ip| SocketAddr::from((ip, 9)))
        .filter(|address| !path::is_within_reach(address.ip(), &own))
        .take(3)
        .collect();
    assert!(
        !strange.is_empty(),
        "this machine is in every private network: {own:?}"
    );
    strange
}

// covers: SUORA-SET-130
#[tokio::test(flavor = "multi_thread")]
async fn a_private_network_that_is_not_ours_is_dialled_only_on_request() {
    let host = endpoint(Faults::default());
    // nothing leaves: the socket is bound to loopback
    let far = Dial {
        addresses: strange(),
        ..dial(&host)
    };
    let fault = endpoint(Faults::default()).dial(&far).unwrap_err();
    assert_eq!(fault.code, Code::NoPath);
    assert!(fault.detail.unwrap().contains("--routed"));
    let listen = Listen {
        addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        routed: true,
        ..Listen::default()
    };
    let asked = Endpoint::new(&listen, now(), Faults::default()).unwrap();
    let dialled = tokio::time::timeout(Duration::from_millis(200), asked.dial(&far).unwrap()).await;
    assert!(dialled.is_err(), "it waits for an answer: {dialled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_stands_in_for_what_is_listened_on() {
    let forward = SocketAddr::from(([198, 51, 100, 7], 4_433));
    let listen = Listen {
        addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        loopback: true,
        announce: vec![forward],
        ..Listen::default()
    };
    let host = Endpoint::new(&listen, now(), Faults::default()).unwrap();
    assert_eq!(host.addresses(), [forward]);
}

// covers: SUORA-SES-007
#[tokio::test(flavor = "multi_thread")]
async fn a_close_carries_the_number_of_its_code() {
    let (host, guest) = (endpoint(Faults::default()), endpoint(Faults::default()));
    let (at_host, at_guest) = meet(&host, &guest, &dial(&host), false).await;
    let (at_host, at_guest) = (at_host.unwrap(), at_guest.unwrap());
    let code = Code::OfferExpired;
    at_host.connection.close(code.close().into(), b"");
    let error = at_guest.connection.closed().await;
    assert_eq!(
        suora_node::endpoint::handshake_fault(&error).code,
        Code::OfferExpired
    );
}

// covers: SUORA-SES-007
#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_text_ended_and_who_never_closes_is_left() {
    let (host, guest) = (endpoint(Faults::default()), endpoint(Faults::default()));
    let (at_host, at_guest) = meet(&host, &guest, &dial(&host), true).await;
    let (at_host, at_guest) = (at_host.unwrap(), at_guest.unwrap());
    let wait = Duration::from_secs(20);
    // nobody closes: the guest stays, kept alive
    let left = tokio::time::timeout(wait, said_last(&at_host.connection));
    let code = left.await.unwrap().code;
    assert_eq!(code, Code::ProtocolViolation);
    // who closes says why
    at_guest.connection.close(Code::Ended.close().into(), b"");
    let left = tokio::time::timeout(wait, said_last(&at_host.connection));
    assert_eq!(left.await.unwrap().code, Code::Ended);
}
