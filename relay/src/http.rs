//! DOOR: HTTP. The public listener serves the descriptor and health, the operator's
//! listener the metrics, and a local socket takes credentials ([`local`]). Health, metrics
//! and credentials are answered by the loop itself. A listener takes [`CONNECTIONS`] at once,
//! each for one request that has to come and to be read in time; one more pushes out the oldest.
#![expect(clippy::disallowed_methods, reason = "door: listening sockets")]

pub mod local;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Hash;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::Faults;
use crate::hub::crowd::Prefix;
use crate::metrics::{Metrics, Pulse, Question};
use crate::porch::{Porch, Room};

/// Most connections of the public listener at once; one prefix may have all, where it is a web server's.
pub const CONNECTIONS: usize = 256;
/// Most of the operator's.
pub const OPERATORS: usize = 32;
/// How long a request's head may take to come.
const HEAD: Duration = Duration::from_secs(3);
/// How long a connection may take in all, its answer included.
const WHOLE: Duration = Duration::from_secs(15);
/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 8_192;
/// After a connection could not be taken, for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the loop may take to answer before the relay counts as ill.
const PULSE: Duration = Duration::from_secs(2);

/// The public pages: `/.well-known/suora`, `/health`.
pub fn public(descriptor: watch::Receiver<Bytes>, loop_: mpsc::Sender<Question>) -> Router {
    let page = move |headers: HeaderMap| {
        let descriptor = descriptor.borrow().clone();
        async move { well_known(descriptor, &headers) }
    };
    let health = move || {
        let loop_ = loop_.clone();
        async move {
            match pulse(&loop_).await {
                Some(_) => (StatusCode::OK, "ok\n"),
                None => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the relay does not answer\n",
                ),
            }
        }
    };
    bounded(
        Router::new()
            .route("/.well-known/suora", get(page))
            .route("/health", get(health)),
    )
}

fn well_known(descriptor: Bytes, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", Hash::of(&descriptor));
    let known = headers.get(header::IF_NONE_MATCH);
    if known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let headers = [
        (header::CONTENT_TYPE, "application/cose".to_string()),
        (header::CACHE_CONTROL, "public, max-age=300".into()),
        (header::ETAG, tag),
        // anybody may read it, a page of another origin too
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*".into()),
    ];
    (headers, descriptor).into_response()
}

/// The operator's page: `/metrics`.
pub fn operator(metrics: Arc<Metrics>, loop_: mpsc::Sender<Question>) -> Router {
    let page = move || {
        let (metrics, loop_) = (metrics.clone(), loop_.clone());
        async move {
            let Some(pulse) = pulse(&loop_).await else {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            };
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], metrics.text(&pulse)).into_response()
        }
    };
    bounded(Router::new().route("/metrics", get(page)))
}

/// Asks the loop how it is.
async fn pulse(loop_: &mpsc::Sender<Question>) -> Option<Pulse> {
    let (question, answer) = oneshot::channel();
    loop_.try_send(question).ok()?;
    tokio::time::timeout(PULSE, answer).await.ok()?.ok()
}

fn bounded(router: Router) -> Router {
    router
        .layer(RequestBodyLimitLayer::new(1_024))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            Duration::from_secs(10),
        ))
}

/// Listens; the address in the fault names the setting.
pub async fn listen(setting: &str, address: SocketAddr) -> Result<TcpListener, Fault> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Fault::new(Code::BadConfig).with(format!("{setting} {address}: {error}")))
}

/// Serves until dropped. Whoever is slow loses the connection, and where `connections` are there the
/// oldest of the prefix that has most, so that nobody waits.
pub async fn serve(listener: TcpListener, router: Router, connections: usize, faults: Faults) {
    let room = Room {
        prefix: connections,
        all: connections,
    };
    let porch = Porch::new(room, faults.first_stay);
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                sleep_until(Instant::now() + PAUSE).await;
                continue;
            }
        };
        let Some(place) = porch.enter(Prefix::of(from.ip())) else {
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tasks.spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(HEAD_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // an end that speaks badly or not at all is its own affair
            let _ = place.until(timeout(WHOLE, connection)).await;
        });
    }
}
