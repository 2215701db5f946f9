//! What a host gives a guest to remember it by, or to go elsewhere with: nothing. The guest here takes whatever it is
//! given; beside it a server with the library's own settings, which gives all of it.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ConnectionId, ServerConfig};
use quinn_proto::crypto::{self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, Side, TransportError};
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
    retries: AtomicUsize,
    /// Transport parameters, and those among them with another address to go to.
    parameters: AtomicUsize,
    addresses: AtomicUsize,
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

/// Does TLS by the library, and looks at what it carries for QUIC.
struct Watched {
    session: Box<dyn crypto::Session>,
    given: Arc<Souvenirs>,
}

impl crypto::Session for Watched {
    fn initial_keys(&self, dcid: &ConnectionId, side: Side) -> Keys {
        self.session.initial_keys(dcid, side)
    }
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.session.handshake_data()
    }
    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }
    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.session.early_crypto()
    }
    fn early_data_accepted(&self) -> Option<bool> {
        self.session.early_data_accepted()
    }
    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }
    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        self.session.read_handshake(bytes)
    }
    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let found = self.session.transport_parameters()?;
        if let Some(parameters) = &found {
            let mut bytes = Vec::new();
            parameters.write(&mut bytes);
            self.given.parameters.fetch_add(1, Ordering::Relaxed);
            let count = usize::from(has_preferred_address(&bytes));
            self.given.addresses.fetch_add(count, Ordering::Relaxed);
        }
        Ok(found)
    }
    fn write_handshake(&mut self, bytes: &mut Vec<u8>) -> Option<Keys> {
        self.session.write_handshake(bytes)
    }
    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.session.next_1rtt_keys()
    }
    fn is_valid_retry(&self, dcid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.given.retries.fetch_add(1, Ordering::Relaxed);
        self.session.is_valid_retry(dcid, header, payload)
    }
    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}

/// Whether encoded transport parameters (RFC 9000, section 18) hold number 0x0d.
fn has_preferred_address(mut bytes: &[u8]) -> bool {
    let varint = |bytes: &mut &[u8]| {
        let len = 1 << (bytes[0] >> 6);
        let (number, rest) = bytes.split_at(len);
        *bytes = rest;
        let number = number
            .iter()
            .fold(0, |number, byte| number << 8 | usize::from(*byte));
        number & !(3 << (8 * len - 2))
    };
    while !bytes.is_empty() {
        let (number, len) = (varint(&mut bytes), varint(&mut bytes));
        if number == 0x0d {
            return true;
        }
        bytes = &bytes[len..];
    }
    false
}

struct Watching {
    tls: Arc<QuicClientConfig>,
    given: Arc<Souvenirs>,
}

impl crypto::ClientConfig for Watching {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        name: &str,
        parameters: &TransportParameters,
    ) -> Result<Box<dyn crypto::Session>, ConnectError> {
        let tls: Arc<dyn crypto::ClientConfig> = self.tls.clone();
        let session = tls.start_session(version, name, parameters)?;
        let given = self.given.clone();
        Ok(Box::new(Watched { session, given }))
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
        let tls = Arc::new(QuicClientConfig::try_from(Arc::new(tls)).unwrap());
        let watching = Watching {
            tls,
            given: given.clone(),
        };
        let mut config = ClientConfig::new(Arc::new(watching));
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

    /// Whether it was sent away to come back, and to another address, by hosts whose transport
    /// parameters it saw.
    fn sent_away(&self) -> (bool, bool) {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        assert!(read(&self.given.parameters) > 0, "it saw none");
        (
            read(&self.given.retries) > 0,
            read(&self.given.addresses) > 0,
        )
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
    assert_eq!(guest.sent_away(), (false, false));
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
    let tls = QuicServerConfig::try_from(Arc::new(tls)).unwrap();
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.preferred_address_v4(Some("192.0.2.1:9".parse().unwrap()));
    config
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
            if !incoming.remote_address_validated() {
                incoming.retry().unwrap();
                continue;
            }
            if let Ok(connection) = incoming.await {
                hears(&connection).await;
            }
        }
    });
    let guest = Guest::new(old.fingerprint());
    assert!(guest.visits(address).await);
    let (tickets, tokens) = guest.given();
    assert!(tickets > 0 && tokens > 0, "{tickets} {tokens}");
    assert_eq!(guest.sent_away(), (true, true));
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
