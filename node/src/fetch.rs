//! DOOR: where an agency's descriptor comes from: a file that the person trusts, or a web
//! address (`spec/documents.md`, section 4). `http:` proves nothing about who answers, so
//! there the person must name the root. Over `https:` without a root the agency is the
//! domain itself: the descriptor has to name the host that was asked.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use suora_protocol::documents::{Descriptor, Signed, chain};
use suora_protocol::fault::{Code, Fault, root_cause};
use suora_protocol::identity::AgencyId;
use suora_protocol::time::Timestamp;
use tokio::io::AsyncReadExt;

use crate::clock::Clock;
use crate::engine::ports::Fetched;

/// Most bytes that are read, from a file or from the network.
pub const SIZE_MAX: usize = 256 * 1024;
/// Most time that a fetch takes in all.
pub const TIME_MAX: Duration = Duration::from_secs(10);
/// The path of an address that names none.
const WELL_KNOWN: &str = "/.well-known/suora";

/// Where the descriptor comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Agency {
    /// A file, trusted as given.
    File(PathBuf),
    /// A web address.
    Url {
        /// The address, with its path.
        url: Uri,
        /// The root that the person trusts; always there for `http:`.
        root: Option<AgencyId>,
    },
}

/// Reads a file's path, `https://host[/path][#root=ID]` or `http://host[/path]#root=ID`.
/// A text that is none of these is [`Code::BadConfig`] and says what to write.
impl FromStr for Agency {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        let bad = |what: &str| Fault::new(Code::BadConfig).with(format!("{text}: {what}"));
        let Some((scheme, _)) = text.split_once("://") else {
            return match text {
                "" => Err(bad(
                    "write a descriptor's file or https://<the agency's domain>",
                )),
                path => Ok(Self::File(path.into())),
            };
        };
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(bad("write https://<the agency's domain>, or a file's path")),
        };
        let (address, root) = match text.split_once('#') {
            None => (text, None),
            Some((address, fragment)) => {
                let id = fragment
                    .strip_prefix("root=")
                    .ok_or_else(|| bad("after # only root=<the agency's id> can stand"))?;
                (address, Some(AgencyId::parse(id)?))
            }
        };
        if !address.is_ascii() {
            return Err(bad("write the domain in its A-label form (xn--…)"));
        }
        let url: Uri = address
            .parse()
            .map_err(|error| bad(&format!("not a web address: {error}")))?;
        let authority = url.authority().ok_or_else(|| bad("no domain"))?.clone();
        if authority.as_str().contains('@') {
            return Err(bad("an address holds no user name"));
        }
        if !secure && root.is_none() {
            return Err(bad(
                "http: does not prove who answers; write https:, or add #root=<the agency's id>",
            ));
        }
        let url = if matches!(url.path(), "" | "/") && url.query().is_none() {
            format!("{scheme}://{authority}{WELL_KNOWN}")
                .parse()
                .map_err(|error| bad(&format!("not a web address: {error}")))?
        } else {
            url
        };
        // whoever may put a file on the agency's web server is not the agency
        if root.is_none() && (url.path() != WELL_KNOWN || url.query().is_some()) {
            return Err(bad(&format!(
                "only {scheme}://{authority}{WELL_KNOWN} tells who the agency is; for another page add #root=<the agency's id>"
            )));
        }
        Ok(Self::Url { url, root })
    }
}

/// `Fri, 27 Nov 2026 18:53:32 GMT`
fn date(value: &header::HeaderValue) -> Option<Timestamp> {
    let date = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(value.as_bytes())
        .ok()?;
    Some(Timestamp::from_secs(date.as_second()))
}

/// Fetches a descriptor, unverified, by the web's own authorities within [`TIME_MAX`].
pub async fn fetch(agency: &Agency) -> Result<Fetched, Fault> {
    fetcher()?.fetch(agency).await
}

/// By the web's own authorities, within [`TIME_MAX`].
pub fn fetcher() -> Result<Fetcher, Fault> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))?
        .with_webpki_roots()
        .with_no_client_auth();
    Ok(Fetcher {
        tls,
        time_max: TIME_MAX,
    })
}

/// How to fetch.
#[derive(Clone, Debug)]
pub struct Fetcher {
    /// Which authorities vouch for a domain.
    pub tls: ClientConfig,
    /// Most time in all.
    pub time_max: Duration,
}

impl Fetcher {
    /// Fetches a descriptor, unverified. A file that cannot be read or is no descriptor is [`Code::BadFile`], an
    /// address that gives no descriptor [`Code::DescriptorUnreachable`], more than
    /// [`SIZE_MAX`] bytes [`Code::TooLarge`], another domain's page [`Code::WrongAgency`].
    pub async fn fetch(&self, agency: &Agency) -> Result<Fetched, Fault> {
        let work = async {
            match agency {
                Agency::File(path) => read(path).await.map(|bytes| Fetched { bytes, root: None }),
                Agency::Url { url, root } => {
                    let (bytes, _) = self.get(url).await?;
                    if root.is_none() {
                        same_domain(&bytes, url, Clock::start().now().utc)?;
                    }
                    Ok(Fetched { bytes, root: *root })
                }
            }
        };
        match tokio::time::timeout(self.time_max, work).await {
            Ok(fetched) => fetched,
            Err(_) => Err(no_answer(&format!(
                "no answer within {} s",
                self.time_max.as_secs_f32()
            ))),
        }
    }

    /// What time it is where the descriptor comes from; none: a file, or a server that does
    /// not say.
    pub async fn clock(&self, agency: &Agency) -> Option<Timestamp> {
        let Agency::Url { url, .. } = agency else {
            return None;
        };
        let asked = tokio::time::timeout(self.time_max, self.get(url)).await;
        asked.ok()?.ok()?.1
    }

    /// The body, and the server's time.
    async fn get(&self, url: &Uri) -> Result<(Bytes, Option<Timestamp>), Fault> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.clone())
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build::<_, Empty<Bytes>>(connector);
        let request = Request::get(url.clone())
            .header(header::ACCEPT, "application/cose")
            .body(Empty::new())
            .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))?;
        let response = client
            .request(request)
            .await
            .map_err(|error| no_answer(&root_cause(&error)))?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => {
                return Err(no_answer(
                    "the address leads on to another one, which is not followed; write the last one",
                ));
            }
            status => return Err(no_answer(&format!("the web server answers {status}"))),
        }
        let date = response.headers().get(header::DATE).and_then(date);
        match Limited::new(response.into_body(), SIZE_MAX).collect().await {
            Ok(body) => Ok((body.to_bytes(), date)),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(error) => Err(no_answer(&root_cause(error.as_ref()))),
        }
    }
}

async fn read(path: &PathBuf) -> Result<Bytes, Fault> {
    let bad = |error: std::io::Error| {
        Fault::new(Code::BadFile).with(format!("{}: {error}", path.display()))
    };
    let file = tokio::fs::File::open(path).await.map_err(bad)?;
    let mut bytes = Vec::new();
    // one byte of room more, so that a longer file shows
    file.take(SIZE_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(bad)?;
    if bytes.len() > SIZE_MAX {
        return Err(too_large());
    }
    let bytes = Bytes::from(bytes);
    let given = Signed::from_bytes(bytes.clone())
        .and_then(|signed| chain::descriptor_as_given(&signed, Clock::start().now().utc));
    match given {
        // nobody sent it
        Err(fault) if fault.is_form() => Err(fault.lies_in(path.display())),
        _ => Ok(bytes),
    }
}

/// The descriptor that a domain serves has to be that domain's own.
fn same_domain(bytes: &Bytes, url: &Uri, now: Timestamp) -> Result<(), Fault> {
    let signed: Signed<Descriptor> = Signed::from_bytes(bytes.clone())?;
    let descriptor = chain::descriptor_as_given(&signed, now)?;
    let host = url.host().unwrap_or_default().trim_end_matches('.');
    if descriptor
        .domain
        .trim_end_matches('.')
        .eq_ignore_ascii_case(host)
    {
        Ok(())
    } else {
        Err(Fault::new(Code::WrongAgency).with(format!(
            "{host} serves the descriptor of another domain, {}",
            descriptor.domain
        )))
    }
}

fn no_answer(what: &str) -> Fault {
    Fault::new(Code::DescriptorUnreachable).with(what)
}

fn too_large() -> Fault {
    Fault::new(Code::TooLarge).with(format!("a descriptor of more than {SIZE_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_time_is_read_and_anything_else_is_none() {
        let read = |text: &str| date(&header::HeaderValue::from_str(text).unwrap());
        let time = read("Fri, 27 Nov 2026 18:53:32 GMT").unwrap();
        assert_eq!(time.as_secs(), 1_795_805_612);
        for wrong in ["", "yesterday", "2026-11-27T18:53:32Z"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    const ROOT: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn url(text: &str) -> (String, bool) {
        match text.parse() {
            Ok(Agency::Url { url, root }) => (url.to_string(), root.is_some()),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_path_is_a_file() {
        for path in ["agency.cose", "./a#b", "/etc/suora/agency.cose", "a:b"] {
            assert_eq!(path.parse(), Ok(Agency::File(path.into())));
        }
    }

    #[test]
    fn an_address_without_path_means_the_well_known_one() {
        for text in ["https://kela.example", "https://kela.example/"] {
            assert_eq!(
                url(text),
                ("https://kela.example/.well-known/suora".into(), false)
            );
        }
        assert_eq!(
            url(&format!("HTTP://127.0.0.1:8080#root={ROOT}")),
            ("http://127.0.0.1:8080/.well-known/suora".into(), true)
        );
        assert_eq!(
            url("https://kela.example:8443/.well-known/suora"),
            ("https://kela.example:8443/.well-known/suora".into(), false)
        );
        assert_eq!(
            url(&format!("https://kela.example/x#root={ROOT}")),
            ("https://kela.example/x".into(), true)
        );
    }

    #[test]
    fn a_wrong_address_says_what_to_write() {
        for (text, hint) in [
            ("", "https://"),
            ("http://kela.example", "#root="),
            ("http://kela.example#", "root="),
            ("https://kela.example#desk=1", "root="),
            ("https://kela.example#root=12", "64"),
            // a page that somebody uploaded, or that a query makes
            ("https://kela.example/uploads/suora.cose", "#root="),
            ("https://kela.example/.well-known/suora?of=other", "#root="),
            ("https://kela.example/.well-known/suora/", "#root="),
            ("ftp://kela.example", "https://"),
            ("https://työ.example", "A-label"),
            ("https://me:secret@kela.example", "user name"),
            ("https:///suora", "web address"),
        ] {
            let fault = text.parse::<Agency>().unwrap_err();
            assert_eq!(fault.code, Code::BadConfig, "{text}");
            assert!(fault.to_string().contains(hint), "{text}: {fault}");
        }
    }
}
