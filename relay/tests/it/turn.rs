//! STUN and TURN over real sockets: stock clients of two other implementations, and what shards, pairs
//! and trains come to on a real kernel. All is on loopback, so private peers are on.
#![expect(
    clippy::disallowed_methods,
    reason = "door: clients, peers and the clock of the test"
)]

mod client;
mod coturn;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use suora_protocol::fault::Fault;
use suora_protocol::wire::grant::Grant;
use suora_relay::clock::Clock;
use suora_relay::grant::{Pair, Secret};
use suora_relay::net::udp::{Settings, Shards};
use suora_relay::turn::policy::{Policy, Quotas};
use suora_relay::turn::{Rules, Shared};
use tokio::sync::mpsc;

use crate::rig;
use client::Client;

pub(crate) const REALM: &str = "agency.example";
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Shards in this process.
pub(crate) struct Server {
    shards: Option<Shards>,
    died: mpsc::Receiver<Fault>,
    pub(crate) at: SocketAddr,
    pub(crate) secret: Secret,
    pub(crate) shared: Arc<Shared>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut (Settings, Rules))) -> Self {
        let secret = Secret::from_seed(&[7; 32]);
        let settings = Settings {
            listen: vec![(HERE, 0).into()],
            shards: 2,
            offload: true,
        };
        let rules = Rules {
            secret: secret.clone(),
            realm: REALM.into(),
            policy: Policy {
                own: vec![HERE.into()],
                external: vec![HERE.into()],
                services: Vec::new(),
                networks: Vec::new(),
                // below what the system gives to whoever asks for any port
                ports: (20_000, 32_000),
                private: true,
            },
            quotas: Quotas {
                per_pair: 64,
                rate: 1 << 30,
                ..Quotas::default()
            },
        };
        let mut all = (settings, rules);
        change(&mut all);
        let (settings, rules) = all;
        let shared = Arc::new(Shared::default());
        let (dies, died) = mpsc::channel(1);
        let clock = Clock::start();
        let shards = Shards::start(&settings, &Arc::new(rules), &shared, clock, &dies).unwrap();
        Self {
            at: shards.addresses()[0],
            shards: Some(shards),
            died,
            secret,
            shared,
        }
    }

    pub(crate) fn grant(&self, pair: u8) -> Grant {
        let lasts = Duration::from_secs(600);
        let pair = Pair::from_bytes([pair; 16]);
        self.secret.mint(rig::now(), pair, lasts, REALM)
    }

    pub(crate) fn allocations(&self) -> usize {
        self.shared.pairs.allocations()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shards.take());
        if !std::thread::panicking() {
            assert!(self.died.try_recv().is_err(), "a shard died");
        }
    }
}

/// A peer's socket.
pub(crate) async fn peer() -> tokio::net::UdpSocket {
    rig::datagrams(HERE).await
}

// covers: SUORA-TRN-011, SUORA-TRN-030, SUORA-TRN-031
#[tokio::test]
async fn a_stock_client_reaches_a_peer_and_is_reached() {
    let server = Server::new();
    let peer = peer().await;
    let at = peer.local_addr().unwrap();
    for sha256 in [false, true] {
        let mut client = Client::new(&server, &server.grant(1), sha256).await;
        let relayed = client.allocate().await.unwrap();
        assert_eq!(relayed.ip(), server.at.ip());
        assert!(client.permit(at.ip()).await);
        // by indications, then by a channel
        for bound in [false, true] {
            if bound {
                assert!(client.bind(at).await);
            }
            client.send(at, b"to the peer").await;
            let mut buffer = [0; 64];
            let (len, from) = rig::soon(peer.recv_from(&mut buffer)).await.unwrap();
            assert_eq!((&buffer[..len], from), (&b"to the peer"[..], relayed));
            peer.send_to(b"to the client", relayed).await.unwrap();
            assert_eq!(client.receive().await, (at, b"to the client".to_vec()));
        }
        client.leave().await;
        rig::until("it leaves", async || server.allocations() == 0).await;
    }
    let figures = &server.shared.figures;
    assert_eq!(figures.sent.load(Ordering::Relaxed), 4);
    assert_eq!(figures.received_bytes.load(Ordering::Relaxed), 4 * 13);
}

// covers: SUORA-TRN-012, SUORA-TRN-040
#[tokio::test]
async fn a_stock_client_gets_nowhere_without_a_good_grant_or_to_a_private_peer() {
    let server = Server::with(|(_, rules)| rules.policy.private = false);
    let refused = async |change: fn(&mut Grant)| {
        let mut grant = server.grant(1);
        change(&mut grant);
        let mut client = Client::new(&server, &grant, false).await;
        client.allocate().await.is_none()
    };
    assert!(refused(|grant| grant.password.push('x')).await);
    let old = |grant: &mut Grant| {
        let past = rig::now().shift(-2_000_000_000);
        let pair = Pair::from_bytes([1; 16]);
        let lasts = Duration::from_secs(600);
        *grant = Secret::from_seed(&[7; 32]).mint(past, pair, lasts, REALM);
    };
    assert!(refused(old).await);
    // control: the same without the change
    let mut client = Client::new(&server, &server.grant(1), false).await;
    assert!(client.allocate().await.is_some());
    assert!(!client.permit([10, 0, 0, 1].into()).await);
    assert!(client.permit([8, 8, 8, 8].into()).await);
}

// covers: SUORA-TRN-044, SUORA-TRN-045
#[tokio::test]
async fn the_ends_of_a_pair_meet_in_memory_and_others_do_not() {
    let server = Server::with(|(settings, _)| settings.shards = 4);
    // however the kernel spreads them over the shards
    for round in 0..8 {
        let (pair, other) = (server.grant(round), server.grant(100 + round));
        let mut one = Client::new(&server, &pair, false).await;
        let mut two = Client::new(&server, &pair, false).await;
        let mut three = Client::new(&server, &other, false).await;
        let first = one.allocate().await.unwrap();
        let second = two.allocate().await.unwrap();
        let third = three.allocate().await.unwrap();
        for client in [&mut one, &mut two, &mut three] {
            assert!(client.permit(HERE.into()).await);
        }
        one.send(second, b"by indication").await;
        assert_eq!(two.receive().await, (first, b"by indication".to_vec()));
        assert!(one.bind(second).await && two.bind(first).await);
        one.send(second, b"by channel").await;
        assert_eq!(two.receive().await, (first, b"by channel".to_vec()));
        two.send(first, b"and back").await;
        assert_eq!(one.receive().await, (second, b"and back".to_vec()));
        // another pair's address cannot be bound, and what goes there goes nowhere
        assert!(!three.bind(first).await && !one.bind(third).await);
        three.send(first, b"from a stranger").await;
        two.send(first, b"from the pair").await;
        assert_eq!(one.receive().await, (second, b"from the pair".to_vec()));
    }
    // nothing of it went through a socket: another process's packets to it do not either
    let stranger = peer().await;
    let mut client = Client::new(&server, &server.grant(50), false).await;
    let relayed = client.allocate().await.unwrap();
    stranger.send_to(b"no permission", relayed).await.unwrap();
    assert!(client.permit(HERE.into()).await);
    stranger.send_to(b"permission", relayed).await.unwrap();
    let at = stranger.local_addr().unwrap();
    assert_eq!(client.receive().await, (at, b"permission".to_vec()));
}

#[tokio::test]
async fn each_clients_packets_reach_the_shard_of_its_allocation() {
    let server = Server::with(|(settings, _)| settings.shards = 4);
    let peer = peer().await;
    let at = peer.local_addr().unwrap();
    let mut clients = Vec::new();
    for number in 0..32 {
        let mut client = Client::new(&server, &server.grant(number), false).await;
        client.allocate().await.unwrap();
        assert!(client.bind(at).await);
        clients.push(client);
    }
    for round in 0..20_u32 {
        for (client, number) in clients.iter_mut().zip(0_u32..) {
            let packet = (number * 100 + round).to_be_bytes();
            client.send(at, &packet).await;
            let mut buffer = [0; 64];
            let (len, from) = rig::soon(peer.recv_from(&mut buffer)).await.unwrap();
            assert_eq!(buffer[..len], packet);
            peer.send_to(&packet, from).await.unwrap();
            assert_eq!(client.receive().await.1, packet);
        }
    }
    assert_eq!(server.allocations(), 32);
}

#[tokio::test]
async fn the_program_serves_it_where_the_settings_say_so() {
    let port = rig::free_port();
    let text = port.to_string();
    let agency = rig::Agency::with(&["--turn-port".as_ref(), text.as_ref()]);
    let settings = agency.path("relay/relay.toml");
    let toml = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, toml.replace("49152, 65535", "33000, 48999")).unwrap();
    let relay = agency.serve();
    let secret = std::fs::read_to_string(agency.path("relay/turn.secret")).unwrap();
    let secret = Secret::read(&secret).unwrap();
    let pair = Pair::from_bytes([1; 16]);
    let lasts = Duration::from_secs(60);
    let grant = secret.mint(rig::now(), pair, lasts, REALM);
    let at = (HERE, port).into();
    let mut client = Client::at(at, &grant, false).await;
    client.allocate().await.unwrap();
    let (_, page) = rig::get(relay.metrics, "/metrics", "").await;
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("suora_turn_allocations 1\n"), "{page}");
    assert!(page.contains("suora_turn_allocated_total 1\n"), "{page}");
    let looks = || {
        let looked = rig::run(["doctor".as_ref(), agency.path("relay").as_os_str()]);
        String::from_utf8(looked.stdout).unwrap()
    };
    let looked = looks();
    assert!(looked.contains("answers STUN and TURN"), "{looked}");
    drop(relay);
    let looked = looks();
    assert!(!looked.contains("STUN"), "{looked}");
}
