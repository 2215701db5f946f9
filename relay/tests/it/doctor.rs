//! The doctor and the agency's web page, over TLS with an authority of the test.
#![expect(clippy::disallowed_methods, reason = "door: a web server")]

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use suora_protocol::fault::Code;
use suora_protocol::finding::{Finding, State};
use suora_protocol::time::Timestamp;
use suora_relay::clock::Clock;
use suora_relay::doctor::Doctor;
use suora_relay::doctor::web::Web;

use crate::rig::{self, Agency, success};

/// A web server that answers every request with the same page, at this time.
struct Server {
    at: SocketAddr,
    trusted: RootCertStore,
}

impl Server {
    fn start(domain: &str, date: Timestamp, page: Vec<u8>) -> Self {
        let certified = rcgen::generate_simple_self_signed(vec![domain.into()]).unwrap();
        let certificate = certified.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let mut trusted = RootCertStore::empty();
        trusted.add(certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())
            .unwrap();
        let tls = Arc::new(tls);
        let date = jiff::Timestamp::from_second(date.as_secs()).unwrap();
        let head = format!(
            "HTTP/1.1 200 OK\r\ndate: {}\r\ncontent-length: {}\r\n\r\n",
            date.strftime("%a, %d %b %Y %H:%M:%S GMT"),
            page.len()
        );
        let answer = [head.into_bytes(), page].concat();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(tls.clone()).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") {
                    // who does not trust the certificate hangs up
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        break;
                    }
                    request.push(byte[0]);
                }
                let _ = stream.write_all(&answer);
                let _ = stream.flush();
            }
        });
        Self { at, trusted }
    }

    fn web(&self, trusts: bool) -> Web {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let trusted = if trusts {
            self.trusted.clone()
        } else {
            RootCertStore::empty()
        };
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusted)
            .with_no_client_auth();
        Web {
            tls,
            at: Some(self.at),
        }
    }
}

/// What the doctor finds of the web page and the clock.
async fn found(agency: &Agency, web: Web) -> (Finding, Option<Finding>) {
    let doctor = Doctor {
        dir: agency.path("relay"),
        key_log: false,
        web: Some(web),
    };
    let mut findings = doctor.look(&Clock::start()).await;
    let clock = findings.iter().position(|found| found.check == "clock");
    let clock = clock.map(|at| findings.remove(at));
    let web = findings.iter().position(|found| found.check == "web");
    (findings.remove(web.unwrap()), clock)
}

fn is(finding: &Finding, state: State, code: Code) {
    let fault = finding.fault.as_ref().map(|fault| fault.code);
    assert_eq!((finding.state, fault), (state, Some(code)), "{finding:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_domains_page_is_held_against_the_one_on_disk() {
    let agency = Agency::new();
    let first = std::fs::read(agency.path("relay/descriptor.cose")).unwrap();
    let server = Server::start("agency.example", rig::now(), first.clone());
    let (web, clock) = found(&agency, server.web(true)).await;
    assert_eq!(web.state, State::Good, "{web:?}");
    assert_eq!(clock, Some(Finding::good("clock")));

    // an authority that nobody knows, a certificate of another domain, no page at all
    is(
        &found(&agency, server.web(false)).await.0,
        State::Bad,
        Code::DescriptorUnreachable,
    );
    let other = Server::start("other.example", rig::now(), first.clone());
    is(
        &found(&agency, other.web(true)).await.0,
        State::Bad,
        Code::DescriptorUnreachable,
    );
    let empty = Server::start("agency.example", rig::now(), b"<html>".to_vec());
    is(
        &found(&agency, empty.web(true)).await.0,
        State::Bad,
        Code::Malformed,
    );

    let sign = || {
        success([
            "descriptor".as_ref(),
            "sign".as_ref(),
            "--root".as_ref(),
            agency.path("root").as_os_str(),
            "--out".as_ref(),
            agency.path("relay/descriptor.cose").as_os_str(),
        ])
    };
    // the web server was forgotten
    sign();
    is(
        &found(&agency, server.web(true)).await.0,
        State::Warning,
        Code::LowerSequence,
    );
    let page = agency.path("root/descriptor.toml");
    let text = std::fs::read_to_string(&page).unwrap();
    std::fs::write(&page, text.replace("sequence = 2", "sequence = 0")).unwrap();
    // an older copy, signed where nobody knew what was published
    std::fs::remove_file(agency.path("relay/descriptor.cose")).unwrap();
    sign();
    is(
        &found(&agency, server.web(true)).await.0,
        State::Bad,
        Code::Equivocation,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_found_by_the_web_servers() {
    let agency = Agency::new();
    let page = std::fs::read(agency.path("relay/descriptor.cose")).unwrap();
    for (shift, is_wrong) in [(-290, false), (290, false), (-310, true), (310, true)] {
        let date = Timestamp::from_secs(rig::now().as_secs() + shift);
        let server = Server::start("agency.example", date, page.clone());
        let (_, clock) = found(&agency, server.web(true)).await;
        let clock = clock.unwrap();
        if is_wrong {
            is(&clock, State::Bad, Code::WrongClock);
        } else {
            assert_eq!(clock.state, State::Good, "{shift}");
        }
    }
}
