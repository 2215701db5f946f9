//! DOOR: the other end of the control socket: says intents, hears views as JSON values.
#![expect(clippy::disallowed_methods, reason = "door: sockets and clock")]

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use suora_protocol::fault::{Code, Fault};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::intent::Intent;

/// How often a socket that is not there yet is tried.
const RETRY: Duration = Duration::from_millis(20);

/// A client of a node's control socket.
#[derive(Debug)]
pub struct Client {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Client {
    /// Connects to a node that is starting. One that opens no socket in time is [`Code::Timeout`].
    pub async fn connect(path: &Path, within: Duration) -> Result<Self, Fault> {
        let until = Instant::now() + within;
        loop {
            match UnixStream::connect(path).await {
                Ok(stream) => {
                    let (reader, writer) = stream.into_split();
                    let lines = BufReader::new(reader).lines();
                    return Ok(Self { lines, writer });
                }
                Err(error) if Instant::now() >= until => {
                    return Err(
                        Fault::new(Code::Timeout).with(format!("{}: {error}", path.display()))
                    );
                }
                Err(_) => tokio::time::sleep_until((Instant::now() + RETRY).into()).await,
            }
        }
    }

    /// Says an intent.
    pub async fn say(&mut self, intent: &Intent) -> Result<(), Fault> {
        let internal =
            |error: &dyn std::fmt::Display| Fault::new(Code::Internal).with(error.to_string());
        let mut line = serde_json::to_string(intent).map_err(|error| internal(&error))?;
        line.push('\n');
        self.writer
            .write_all(line.as_bytes())
            .await
            .map_err(|error| Fault::new(Code::PeerSilent).with(error.to_string()))
    }

    /// The next view; `None` when the node has ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<Value> {
        let line = self.lines.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }

    /// The next view that fits, those before it being let go. The node's end is
    /// [`Code::PeerSilent`], too late is [`Code::Timeout`]; `what` names it in the fault.
    pub async fn until(
        &mut self,
        what: &str,
        within: Duration,
        mut fits: impl FnMut(&Value) -> bool,
    ) -> Result<Value, Fault> {
        let waiting = async {
            loop {
                match self.next().await {
                    Some(view) if fits(&view) => return Ok(view),
                    Some(_) => {}
                    None => {
                        return Err(
                            Fault::new(Code::PeerSilent).with(format!("ended before: {what}"))
                        );
                    }
                }
            }
        };
        tokio::time::timeout(within, waiting)
            .await
            .unwrap_or_else(|_| Err(Fault::new(Code::Timeout).with(what)))
    }
}
