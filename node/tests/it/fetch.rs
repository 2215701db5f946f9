//! Fetching a descriptor, from real files and real web servers.
#![expect(clippy::disallowed_methods, reason = "door: sockets of the test")]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use suora_node::clock::Clock;
use suora_node::doctor::Doctor;
use suora_node::engine::ports::Fetched;
use suora_node::engine::trust::Trust;
use suora_node::fetch::{Agency, Fetcher, SIZE_MAX, TIME_MAX, fetch};
use suora_node::link::Times;
use suora_node::memory::Memory;
use suora_protocol::documents::{self, Descriptor, Names};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{AgencyId, Hash, Key, PeerId, Seed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ROOT: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A web server that gives one answer, whatever it is asked, and keeps the connection open.
async fn server(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap();
            assert!(request.starts_with("GET /.well-known/suora "), "{request}");
            // the node may hang up before all is written
            let _ = stream.write_all(&answer).await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
    });
    address
}

fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn fetcher(time_max: Duration, roots: RootCertStore) -> Fetcher {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Fetcher { tls, time_max }
}

async fn get(address: SocketAddr) -> Result<Fetched, Fault> {
    let agency: Agency = format!("http://{address}#root={ROOT}").parse()?;
    fetcher(TIME_MAX, RootCertStore::empty())
        .fetch(&agency)
        .await
}

fn refused(fetched: Result<Fetched, Fault>) -> (Code, String) {
    let fault = fetched.unwrap_err();
    (fault.code, fault.detail.unwrap_or_default())
}

#[tokio::test]
async fn a_web_address_gives_its_bytes_under_the_named_root() {
    let body = vec![7; SIZE_MAX];
    let address = server(answer("200 OK", &body)).await;
    let fetched = get(address).await.unwrap();
    assert_eq!(fetched.bytes, body);
    assert_eq!(fetched.root, Some(AgencyId::parse(ROOT).unwrap()));
}

#[tokio::test]
async fn more_than_the_bound_is_refused_announced_or_not() {
    let body = vec![7; SIZE_MAX + 1];
    let announced = answer("200 OK", &body);
    let chunk = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
        body.len()
    );
    let chunked = [chunk.into_bytes(), body].concat();
    for answer in [announced, chunked] {
        let address = server(answer).await;
        assert_eq!(refused(get(address).await).0, Code::TooLarge);
    }
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let target = server(answer("200 OK", b"descriptor")).await;
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let answer = format!(
            "HTTP/1.1 {status}\r\nlocation: http://{target}/.well-known/suora\r\ncontent-length: 0\r\n\r\n"
        );
        let address = server(answer.into_bytes()).await;
        let (code, detail) = refused(get(address).await);
        assert_eq!(code, Code::DescriptorUnreachable);
        assert!(detail.contains("not followed"), "{detail}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_or_breaks_off_gives_no_descriptor() {
    for answer in [
        answer("404 Not Found", b"no"),
        answer("204 No Content", b""),
        b"220 mail.example ESMTP\r\n".to_vec(),
    ] {
        let address = server(answer).await;
        let (code, detail) = refused(get(address).await);
        assert_eq!(code, Code::DescriptorUnreachable, "{detail}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (code, detail) = refused(get(nobody).await);
    assert_eq!(code, Code::DescriptorUnreachable);
    assert!(detail.contains("refused"), "{detail}");
}

#[tokio::test]
async fn a_server_that_is_slow_at_any_point_is_left_in_time() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec();
    for answer in [Vec::new(), b"HTTP/1.1 200".to_vec(), half] {
        let address = server(answer).await;
        let agency = format!("http://{address}#root={ROOT}").parse().unwrap();
        let quick = fetcher(Duration::from_millis(200), RootCertStore::empty());
        let (code, detail) = refused(quick.fetch(&agency).await);
        assert_eq!(code, Code::DescriptorUnreachable);
        assert!(detail.contains("within 0.2 s"), "{detail}");
    }
}

#[tokio::test]
async fn a_file_is_trusted_as_given() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agency.cose");
    let page = descriptor("agency.example");
    std::fs::write(&path, &page).unwrap();
    let fetched = fetch(&Agency::File(path.clone())).await.unwrap();
    assert_eq!((&fetched.bytes[..], fetched.root), (&page[..], None));
    std::fs::write(&path, vec![7; SIZE_MAX]).unwrap();
    let (code, detail) = refused(fetch(&Agency::File(path.clone())).await);
    assert_eq!(code, Code::BadFile, "nobody sent it: {detail}");
    std::fs::write(&path, vec![7; SIZE_MAX + 1]).unwrap();
    let large = fetch(&Agency::File(path)).await;
    assert_eq!(refused(large).0, Code::TooLarge);
    for missing in [dir.path().join("none"), dir.path().to_path_buf()] {
        let (code, detail) = refused(fetch(&Agency::File(missing.clone())).await);
        assert_eq!(code, Code::BadFile);
        assert!(detail.contains(&missing.display().to_string()), "{detail}");
    }
}

fn descriptor(domain: &str) -> Vec<u8> {
    page(domain, 4, 1, None)
}

/// The page of a root, by numbers; `next` is the root that it names.
fn page(domain: &str, root: u8, sequence: u64, next: Option<u8>) -> Vec<u8> {
    let key = key(root);
    let named = |next: u8| *AgencyId::of_root(&key_of(next)).as_bytes();
    let now = Clock::start().now().utc;
    let descriptor = Descriptor {
        agency: AgencyId::of_root(&key.peer_id()),
        root: key.peer_id(),
        names: Names::default(),
        domain: domain.into(),
        relays: Vec::new(),
        turn: Vec::new(),
        keys: Vec::new(),
        desks: Vec::new(),
        revoked: Vec::new(),
        sequence,
        issued_at: now,
        not_after: now + Duration::from_secs(3_600),
        next_root: next.map(|next| Hash::from_bytes(named(next))),
    };
    documents::sign(&descriptor, &key).unwrap().bytes().to_vec()
}

fn key(root: u8) -> Key {
    Seed::from_bytes([root; 32]).node_key()
}

fn key_of(root: u8) -> PeerId {
    key(root).peer_id()
}

/// An HTTPS server of `localhost` that gives each visitor the next answer, and its authority.
fn https(answers: Vec<Vec<u8>>) -> (u16, RootCertStore) {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            let tls = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(tls, stream);
            let mut request = [0; 4_096];
            // a visitor that does not trust us never asks
            if matches!(stream.read(&mut request), Ok(1..)) {
                stream.write_all(&answer).unwrap();
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            }
        }
    });
    (port, roots)
}

async fn get_https(domain: &str, fragment: &str, trusted: bool) -> Result<Fetched, Fault> {
    let (port, roots) = https(vec![answer("200 OK", &descriptor(domain))]);
    let roots = if trusted {
        roots
    } else {
        RootCertStore::empty()
    };
    let agency = format!("https://LOCALHOST:{port}{fragment}").parse()?;
    fetcher(TIME_MAX, roots).fetch(&agency).await
}

#[tokio::test]
async fn over_https_the_descriptor_has_to_be_the_hosts_own() {
    let own = get_https("localhost", "", true).await.unwrap();
    assert_eq!(own.root, None);
    assert!(!own.bytes.is_empty());
    let (code, detail) = refused(get_https("kela.example", "", true).await);
    assert_eq!(code, Code::WrongAgency);
    assert!(detail.contains("kela.example"), "{detail}");
    // who names a root knows the agency: any host may serve its page
    let root = format!("#root={ROOT}");
    assert!(get_https("kela.example", &root, true).await.is_ok());
}

#[tokio::test]
async fn a_certificate_of_no_authority_is_refused() {
    let (code, detail) = refused(get_https("localhost", "", false).await);
    assert_eq!(code, Code::DescriptorUnreachable);
    assert!(detail.contains("certificate"), "{detail}");
}

// covers: SUORA-DOC-100, SUORA-DOC-101
#[tokio::test(flavor = "multi_thread")]
async fn the_root_of_first_contact_stays_the_agencys_until_it_names_another() {
    // first contact, somebody else's root, an heir that is named, the heir, and the old one again
    let pages = [
        (4, 1, None),
        (5, 9, None),
        (4, 2, Some(6)),
        (6, 3, None),
        (4, 4, None),
    ];
    let pages = pages.map(|(root, sequence, next)| page("localhost", root, sequence, next));
    // once more for the doctor, who asks twice: for the page and for the time
    let visits = pages.iter().chain([&pages[4]; 2]);
    let (port, roots) = https(visits.map(|page| answer("200 OK", page)).collect());
    let agency: Agency = format!("https://localhost:{port}").parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    // each call is a new run of the program
    let call = async || -> Result<AgencyId, Fault> {
        let memory = Memory::of(&agency, dir.path().into());
        let mut trust = Trust::default();
        if let Some(recalled) = memory.recall()? {
            trust.recall(&recalled)?;
        }
        let fetched = fetcher(TIME_MAX, roots.clone()).fetch(&agency).await?;
        let taken = trust.take(&fetched, Clock::start().now().utc)?;
        memory.keep(&taken)?;
        Ok(taken.root)
    };
    let mut said = Vec::new();
    for _ in 0..5 {
        said.push(call().await.map_err(|fault| fault.code));
    }
    let id = |root| Ok(AgencyId::of_root(&key_of(root)));
    let changed = Err(Code::RootChanged);
    assert_eq!(said, [id(4), changed, id(4), id(6), changed]);
    let doctor = Doctor {
        key: dir.path().join("suora.key"),
        agency: Some(agency.clone()),
        desk: None,
        credential: None,
        memory: Some(dir.path().into()),
        key_log: false,
        fetcher: fetcher(TIME_MAX, roots.clone()),
        times: Times::default(),
    };
    let findings = doctor.look(&Clock::start()).await;
    let of = |check| findings.iter().find(|finding| finding.check == check);
    let code = of("agency").and_then(|finding| Some(finding.fault.as_ref()?.code));
    assert_eq!(code, Some(Code::RootChanged), "{findings:?}");
}
