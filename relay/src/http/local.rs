//! DOOR: the local socket of a running relay, for its administrator: `relay.sock` in the
//! data directory, open to its owner only. [`enrol`] is the other end, for the command line.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::hub::enrolment::Enrolment;

/// The socket's name in the data directory.
pub const SOCKET: &str = "relay.sock";
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer, in bytes.
const ANSWER_MAX: usize = 65_536;

/// A credential that an administrator brings, and where the hub's answer goes.
pub type Enrol = (Bytes, oneshot::Sender<Result<Enrolment, Fault>>);

/// What became of a credential, as the socket says it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Enrolled {
    /// The officer's peer id.
    pub peer: String,
    /// The name that citizens see.
    pub name: String,
    /// Until when it holds, in seconds since 1970.
    pub until: i64,
    /// Whether it is now the newest that is kept; else one as new stood already.
    pub newest: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refused {
    code: Code,
    message: Option<String>,
}

/// The socket, which goes with this.
#[derive(Debug)]
pub struct Local {
    listener: UnixListener,
    path: Gone,
}

/// A file that goes when this does.
#[derive(Debug)]
struct Gone(PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        // who stops cannot do more
        let _ = fs::remove_file(&self.0);
    }
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Fault {
    Fault::new(Code::BadConfig).with(format!("the local socket {}: {error}", path.display()))
}

impl Local {
    /// Listens in a data directory. Where another relay answers already, that is [`Code::BadConfig`].
    pub async fn listen(dir: &Path) -> Result<Self, Fault> {
        let path = dir.join(SOCKET);
        // one that a killed relay left behind answers nobody
        if UnixStream::connect(&path).await.is_ok() {
            return Err(failed(
                &path,
                &"another relay serves this directory; stop it first",
            ));
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&path, &error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(|error| failed(&path, &error))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))
            .map_err(|error| failed(&path, &error))?;
        let path = Gone(path);
        Ok(Self { listener, path })
    }

    /// Serves until dropped.
    pub async fn serve(self, router: Router) {
        let Self { listener, path } = self;
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the local socket ended");
        }
        drop(path);
    }
}

/// What an administrator may ask: `POST /credentials` with a signed credential.
pub fn router(desk: mpsc::Sender<Enrol>) -> Router {
    let credentials = move |credential: Bytes| {
        let desk = desk.clone();
        async move { answer(taken(&desk, credential).await) }
    };
    Router::new()
        .route("/credentials", post(credentials))
        .layer(RequestBodyLimitLayer::new(limits::DOCUMENT_MAX))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            PATIENCE,
        ))
}

/// Asks the loop; its answer stands once the store has what it tells of.
async fn taken(desk: &mpsc::Sender<Enrol>, credential: Bytes) -> Result<Enrolment, Fault> {
    let stops = || Fault::new(Code::RelayUnreachable).with("the relay stops");
    let (question, answer) = oneshot::channel();
    desk.send((credential, question))
        .await
        .map_err(|_| stops())?;
    answer.await.map_err(|_| stops())?
}

fn answer(taken: Result<Enrolment, Fault>) -> Response {
    match taken {
        Ok(enrolment) => Json(Enrolled {
            peer: enrolment.peer.to_text(),
            name: enrolment.name,
            until: enrolment.not_after.as_secs(),
            newest: enrolment.newest,
        })
        .into_response(),
        Err(Fault { code, detail }) => {
            let refused = Refused {
                code,
                message: detail,
            };
            (StatusCode::UNPROCESSABLE_ENTITY, Json(refused)).into_response()
        }
    }
}

/// Brings a credential to the relay that serves this data directory. Without one there it is
/// [`Code::RelayUnreachable`]; what the hub refuses bears its code.
pub async fn enrol(dir: &Path, credential: Bytes) -> Result<Enrolled, Fault> {
    let path = dir.join(SOCKET);
    let unreachable = |error: &dyn std::fmt::Display| {
        Fault::new(Code::RelayUnreachable).with(format!(
            "{}: {error}; is this the data directory of a running relay (suora-relay serve)?",
            path.display()
        ))
    };
    let request = async {
        let stream = UnixStream::connect(&path)
            .await
            .map_err(|error| unreachable(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        let connection = tokio::spawn(connection);
        let request = Request::post("/credentials")
            .header(hyper::header::HOST, "relay")
            .body(Full::new(credential))
            .map_err(|error| unreachable(&error))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| unreachable(&error))?;
        let is_ok = answer.status().is_success();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| unreachable(&error))?.to_bytes();
        connection.abort();
        if is_ok {
            serde_json::from_slice(&body).map_err(|error| unreachable(&error))
        } else {
            let Refused { code, message } =
                serde_json::from_slice(&body).map_err(|error| unreachable(&error))?;
            Err(Fault {
                code,
                detail: message,
            })
        }
    };
    match timeout(PATIENCE, request).await {
        Ok(answer) => answer,
        Err(_) => Err(unreachable(&"no answer")),
    }
}
