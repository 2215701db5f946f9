//! What the agency's web server serves: the page that people find by the domain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_rustls::{ConfigBuilderExt, FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use suora_protocol::fault::{Code, Fault, root_cause};
use suora_protocol::time::Timestamp;

/// Most bytes of a page.
const SIZE_MAX: usize = 256 * 1_024;
/// Most time that an answer may take.
const TIME_MAX: Duration = Duration::from_secs(10);

/// How web servers are asked.
#[derive(Clone, Debug)]
pub struct Web {
    /// Which authorities vouch for a domain.
    pub tls: ClientConfig,
    /// Where the domain's server is; none: where its name leads.
    pub at: Option<SocketAddr>,
}

/// A page, and the server's time.
pub(super) type Page = (Bytes, Option<Timestamp>);

fn failed(what: impl Into<String>) -> Fault {
    Fault::new(Code::DescriptorUnreachable).with(what)
}

impl Web {
    /// By the web's own authorities.
    pub fn new(at: Option<SocketAddr>) -> Result<Self, Fault> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))?
            .with_webpki_roots()
            .with_no_client_auth();
        Ok(Self { tls, at })
    }

    /// The descriptor that a domain serves, by HTTPS.
    pub(super) async fn domain(&self, domain: &str) -> Result<Page, Fault> {
        let host = self.at.map_or_else(|| domain.into(), |at| at.to_string());
        let url = format!("https://{host}/.well-known/suora");
        let name = ServerName::try_from(domain.to_string())
            .map_err(|error| failed(format!("{domain}: {error}")))?;
        get(&url, self.tls.clone(), name).await
    }

    /// The descriptor that the relay itself serves.
    pub(super) async fn relay(&self, at: SocketAddr) -> Result<Page, Fault> {
        let url = format!("http://{at}/.well-known/suora");
        get(
            &url,
            self.tls.clone(),
            ServerName::IpAddress(at.ip().into()),
        )
        .await
    }
}

async fn get(url: &str, tls: ClientConfig, name: ServerName<'static>) -> Result<Page, Fault> {
    let because = |what: String| failed(format!("{url}: {what}"));
    let uri: Uri = url.parse().map_err(|error| because(format!("{error}")))?;
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .with_server_name_resolver(FixedServerNameResolver::new(name))
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build::<_, Empty<Bytes>>(connector);
    let request = Request::get(uri)
        .header(header::ACCEPT, "application/cose")
        .body(Empty::new())
        .map_err(|error| because(error.to_string()))?;
    let asked = async {
        let response = client
            .request(request)
            .await
            .map_err(|error| because(root_cause(&error)))?;
        if response.status() != StatusCode::OK {
            return Err(because(format!("the answer is {}", response.status())));
        }
        let date = response.headers().get(header::DATE).and_then(date);
        let body = Limited::new(response.into_body(), SIZE_MAX).collect().await;
        let body = body.map_err(|error| because(root_cause(error.as_ref())))?;
        Ok((body.to_bytes(), date))
    };
    match tokio::time::timeout(TIME_MAX, asked).await {
        Ok(page) => page,
        Err(_) => Err(because("no answer in time".into())),
    }
}

fn date(value: &header::HeaderValue) -> Option<Timestamp> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    let date = parser.parse_timestamp(value.as_bytes()).ok()?;
    Some(Timestamp::from_secs(date.as_second()))
}
