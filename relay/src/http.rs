//! DOOR: HTTP. The public listener serves the descriptor and health, the operator's
//! listener the metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Hash;
use tokio::net::TcpListener;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::metrics::Metrics;

/// The public pages.
pub fn public(descriptor: Bytes) -> Router {
    let tag = format!("\"{}\"", Hash::of(&descriptor));
    let page = move |headers: HeaderMap| {
        let (descriptor, tag) = (descriptor.clone(), tag.clone());
        async move {
            if headers
                .get(header::IF_NONE_MATCH)
                .is_some_and(|known| known.as_bytes() == tag.as_bytes())
            {
                return StatusCode::NOT_MODIFIED.into_response();
            }
            let headers = [
                (header::CONTENT_TYPE, "application/cose".to_string()),
                (header::CACHE_CONTROL, "public, max-age=300".into()),
                (header::ETAG, tag),
            ];
            (headers, descriptor).into_response()
        }
    };
    bounded(
        Router::new()
            .route("/.well-known/suora", get(page))
            .route("/health", get(|| async { "ok\n" })),
    )
}

/// The operator's pages.
pub fn operator(metrics: Arc<Metrics>) -> Router {
    let page = move || {
        let text = metrics.text();
        async move {
            (
                [(
                    header::CONTENT_TYPE,
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                )],
                text,
            )
        }
    };
    bounded(Router::new().route("/metrics", get(page)))
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

/// Serves until dropped.
pub async fn serve(listener: TcpListener, router: Router) {
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "HTTP ended");
    }
}
