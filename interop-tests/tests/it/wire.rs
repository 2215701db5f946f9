//! What a host gives a guest to remember it by: nothing. The guest here takes whatever it is
//! given; beside it a server with the library's own settings, which gives all of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ConnectionId, ServerConfig};
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption};
use rustls::client::{Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use rustls::{NamedGroup, version};
use suora_node::Faults;
use suora_node::clock::Clock;
use suora_node::endpoint::certificate::{Certificate, Pin};
use suora_node::endpoint::{Endpoint, Listen};
use suora_node::engine::ports::Expected;
use suora_protocol::documents::{Dcid, SessionId};
use suora_protocol::identity::Hash;
use suora_protocol::time::Timestamp;

const DCID: [u8; 20] = [7; 20];
const PATIENCE: Duration = Duration::from_secs(20);

fn now() -> Timestamp {
    Clock::start().now().utc
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// What a guest was given to remember its host by.
#[derive(Debug, Default)]
struct Souvenirs {
    tickets: AtomicUsize,
    tokens: AtomicUsize,
}

/// Remembers all sessions, and counts the tickets.
#[derive(Debug)]
struct Sessions {
    kept: ClientSessionMemoryCache,
    given: Arc<Souvenirs>,
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.kept.set_kx_hint(name, group);
    }
    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(name)
    }
    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept.set_tls12_session(name, value);
    }
    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept.tls12_session(name)
    }
    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.kept.remove_tls12_session(name);
    }
    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.given.tickets.fetch_add(1, Ordering::Relaxed);
        self.kept.insert_tls13_ticket(name, value);
    }
    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.take_tls13_ticket(name)
    }
}

#[derive(Debug)]
struct Tokens(Arc<Souvenirs>);

impl quinn::TokenStore for Tokens {
    fn insert(&self, _: &str, _: Bytes) {
        self.0.tokens.fetch_add(1, Ordering::Relaxed);
    }
    fn take(&self, _: &str) -> Option<Bytes> {
        None
    }
}

/// A guest that takes everything, and pins a certificate.
struct Guest {
    given: Arc<Souvenirs>,
    /// One for all visits: the library remembers for one verifier only.
    config: ClientConfig,
    quinn: quinn::Endpoint,
}

impl Guest {
    fn new(pin: Hash) -> Self {
        let given = Arc::new(Souvenirs::default());
        let provider = Arc::new(default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pin::new(pin, provider)))
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"suora/1".to_vec()];
        tls.resumption = Resumption::store(Arc::new(Sessions {
            kept: ClientSessionMemoryCache::new(8),
            given: given.clone(),
        }));
        tls.enable_early_data = true;
        let tls = QuicClientConfig::try_from(Arc::new(tls)).unwrap();
        let mut config = ClientConfig::new(Arc::new(tls));
        config
            .initial_dst_cid_provider(Arc::new(|| ConnectionId::new(&DCID)))
            .token_store(Arc::new(Tokens(given.clone())));
        Self {
            given,
            config,
            quinn: quinn::Endpoint::client(local()).unwrap(),
        }
    }

    /// Connects, and takes all that comes until the host closes. Whether it connected.
    async fn visits(&self, host: SocketAddr) -> bool {
        let config = self.config.clone();
        let connecting = self.quinn.connect_with(config, host, "host.example");
        let connection = tokio::time::timeout(PATIENCE, connecting.unwrap());
        let Ok(connection) = connection.await.unwrap() else {
            return false;
        };
        // the host answers once it has heard this, and what it gave came before
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(b"?").await.unwrap();
        let answer = receive.read_to_end(8);
        // or closes: that comes last too
        let _ = tokio::time::timeout(PATIENCE, answer).await.unwrap();
        true
    }

    fn given(&self) -> (usize, usize) {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (read(&self.given.tickets), read(&self.given.tokens))
    }
}

/// Hears a guest, says a word and closes.
async fn hears(connection: &quinn::Connection) {
    let (mut send, mut receive) = connection.accept_bi().await.unwrap();
    receive.read_exact(&mut [0]).await.unwrap();
    send.write_all(b"!").await.unwrap();
    send.finish().unwrap();
    let _ = send.stopped().await;
    connection.close(0u32.into(), b"");
}

// covers: SUORA-SET-014
#[tokio::test(flavor = "multi_thread")]
async fn a_host_gives_its_guest_neither_ticket_nor_token() {
    let listen = Listen {
        addresses: vec![local()],
        loopback: true,
        ..Listen::default()
    };
    let host = Endpoint::new(&listen, now(), Faults::default()).unwrap();
    let answer = host.expect(Expected {
        session: SessionId::from_bytes([1; 16]),
        dcid: Dcid::from_bytes(DCID),
        invite: Hash::of(b"invite"),
        require_pq: false,
    });
    let guest = Guest::new(host.fingerprint());
    let address = host.addresses()[0];
    let (visited, ()) = tokio::join!(guest.visits(address), async {
        let connected = answer.await.unwrap().unwrap();
        hears(&connected.connection).await;
    });
    assert!(visited);
    assert_eq!(guest.given(), (0, 0));
}

/// A server with the library's own settings, under this certificate.
fn generous(certificate: &Certificate, sessions: &Arc<dyn StoresServerSessions>) -> ServerConfig {
    let (chain, key) = certificate.tls().unwrap();
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![b"suora/1".to_vec()];
    tls.session_storage = sessions.clone();
    ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(Arc::new(tls)).unwrap()))
}

/// The control: the library's own settings give both, and a guest that uses them never looks at
/// the pin again.
#[tokio::test(flavor = "multi_thread")]
async fn a_generous_server_is_noticed_and_an_old_pin_passes_there() {
    let (old, new) = (
        Certificate::generate(now()).unwrap(),
        Certificate::generate(now()).unwrap(),
    );
    let sessions: Arc<dyn StoresServerSessions> = ServerSessionMemoryCache::new(8);
    let server = quinn::Endpoint::server(generous(&old, &sessions), local()).unwrap();
    let address = server.local_addr().unwrap();
    let serves = server.clone();
    let hearing = tokio::spawn(async move {
        while let Some(incoming) = serves.accept().await {
            if let Ok(connection) = incoming.await {
                hears(&connection).await;
            }
        }
    });
    let guest = Guest::new(old.fingerprint());
    assert!(guest.visits(address).await);
    let (tickets, tokens) = guest.given();
    assert!(tickets > 0 && tokens > 0, "{tickets} {tokens}");
    server.set_server_config(Some(generous(&new, &sessions)));
    assert!(
        guest.visits(address).await,
        "a resumed handshake presents no certificate"
    );
    // without what was given, the pin is looked at
    let newcomer = Guest::new(old.fingerprint());
    assert!(!newcomer.visits(address).await);
    hearing.abort();
}
