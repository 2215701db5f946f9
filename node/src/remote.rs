//! DOOR: the local control socket. Every intent in, every view out, one JSON object a
//! line; only the person's own programs reach it. A program that connects is told at once
//! where things stand, then all that follows; one that does not read loses its connection.
#![expect(clippy::disallowed_methods, reason = "door: local socket")]

pub mod client;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, process};

use serde::Serialize;
use suora_protocol::fault::{Code, Fault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinHandle};

use crate::intent::Intent;
use crate::view::{Device, Stage, View};
use crate::worker::{Mailbox, Post, mailbox};

/// Most programs at once.
pub const CLIENTS_MAX: usize = 8;
/// Longest line that is read, in bytes, without its line feed.
pub const LINE_MAX: usize = 16 * 1024;
/// Lines that one program may be behind.
const BEHIND: usize = 256;

/// No line: after it nothing is written.
const END: &str = "";

type Line = Arc<str>;

/// The listening socket. Dropped, it is gone, with all its connections.
#[derive(Debug)]
pub struct Remote {
    path: PathBuf,
    inode: (u64, u64),
    listening: AbortHandle,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    latest: Latest,
    clients: BTreeMap<u64, Client>,
    next: u64,
}

#[derive(Debug)]
struct Client {
    lines: Post<Line>,
    task: JoinHandle<()>,
}

/// The newest view of each kind that lasts, as its line.
#[derive(Debug, Default)]
struct Latest {
    link: Option<Line>,
    queue: Option<Line>,
    attending: Option<Line>,
    offer: Option<Line>,
    session: Option<Line>,
    peer_media: Option<Line>,
    devices: BTreeMap<Device, Line>,
    stats: Option<Line>,
}

impl Latest {
    fn take(&mut self, view: &View, line: &Line) {
        if let View::Device { device, .. } = view {
            self.devices.insert(*device, line.clone());
        }
        let line = Some(line.clone());
        match view {
            View::Link { .. } => self.link = line,
            View::Queue { .. } => self.queue = line,
            View::Attending { .. } => self.attending = line,
            View::Offer { .. } => self.offer = line,
            View::Session { stage, .. } => {
                self.session = line;
                if *stage == Stage::Accepted {
                    self.queue = None;
                }
                if matches!(stage, Stage::Accepted | Stage::Idle) {
                    self.offer = None;
                }
                if *stage == Stage::Idle {
                    self.peer_media = None;
                    self.stats = None;
                }
            }
            View::PeerMedia { .. } => self.peer_media = line,
            View::Stats(_) => self.stats = line,
            View::Credential { .. }
            | View::Device { .. }
            | View::Chat { .. }
            | View::Fault { .. }
            | View::Report { .. } => {}
        }
    }

    fn lines(&self) -> impl Iterator<Item = Line> {
        [
            &self.link,
            &self.queue,
            &self.attending,
            &self.offer,
            &self.session,
            &self.peer_media,
            &self.stats,
        ]
        .into_iter()
        .flatten()
        .chain(self.devices.values())
        .cloned()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens on a local socket at `path`, private from its first moment; intents go to
/// `intents`. The socket that a dead program left behind is replaced. One that somebody
/// listens on, another kind of file, or a folder that cannot be written is [`Code::BadFile`].
/// Has to be called inside the runtime.
pub fn listen(path: &Path, intents: Post<Intent>) -> Result<Remote, Fault> {
    let bad = |what: String| {
        Fault::new(Code::BadFile).with(format!("control socket {}: {what}", path.display()))
    };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(bad(
                "this file is not a socket and stays; name another".into()
            ));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(bad(
                "another program listens here; end it, or name another socket".into(),
            ));
        }
        _ => {}
    }
    let (listener, inode) = bind_private(path).map_err(|error| bad(error.to_string()))?;
    let state = Arc::new(Mutex::new(State::default()));
    let listening = tokio::spawn(take(listener, state.clone(), intents)).abort_handle();
    Ok(Remote {
        path: path.into(),
        inode,
        listening,
        state,
    })
}

/// Binds in a folder of our own and moves the socket to its place: it never stands there
/// open to others, and it replaces a dead one in one step.
fn bind_private(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let folder = path.with_file_name(format!(".suora-{}", process::id()));
    DirBuilder::new().mode(0o700).create(&folder)?;
    let within = folder.join("s");
    let bound = UnixListener::bind(&within).and_then(|listener| {
        fs::set_permissions(&within, Permissions::from_mode(0o600))?;
        let meta = fs::metadata(&within)?;
        fs::rename(&within, path)?;
        Ok((listener, (meta.dev(), meta.ino())))
    });
    let _ = fs::remove_file(&within);
    let _ = fs::remove_dir(&folder);
    bound
}

impl Remote {
    /// Shows a view to every program. One that is too far behind loses its connection.
    pub fn publish(&self, view: &View) {
        let line = json(view);
        let mut state = lock(&self.state);
        state.latest.take(view, &line);
        state.clients.retain(|_, client| {
            let follows = client.lines.post(line.clone()).is_ok();
            if !follows {
                client.task.abort();
            }
            follows
        });
    }
}

impl Remote {
    /// Waits, at most so long, until every program has all that was shown. Nothing more is shown.
    pub async fn finish(&self, at_most: Duration) {
        self.listening.abort();
        let clients = std::mem::take(&mut lock(&self.state).clients);
        let written = async {
            for client in clients.into_values() {
                if client.lines.post(END.into()).is_ok() {
                    // one that was aborted has all that it will get
                    let _ = client.task.await;
                }
            }
        };
        let _ = tokio::time::timeout(at_most, written).await;
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.listening.abort();
        for client in lock(&self.state).clients.values() {
            client.task.abort();
        }
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == self.inode);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn json(value: &impl Serialize) -> Line {
    let mut line = serde_json::to_string(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a view cannot be written as JSON");
        r#"{"error":{"code":"internal","message":"a view cannot be written"}}"#.into()
    });
    line.push('\n');
    line.into()
}

fn error(code: Code, message: &str) -> Line {
    json(&serde_json::json!({ "error": { "code": code, "message": message } }))
}

async fn take(listener: UnixListener, state: Arc<Mutex<State>>, intents: Post<Intent>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => admit(stream, &state, &intents),
            Err(error) => {
                tracing::warn!(%error, "the control socket takes nobody any more");
                return;
            }
        }
    }
}

/// Takes a program in, up to the bound. It misses no view between the first lines and the rest.
fn admit(stream: UnixStream, state: &Arc<Mutex<State>>, intents: &Post<Intent>) {
    let mut held = lock(state);
    if held.clients.len() >= CLIENTS_MAX {
        let busy = error(Code::Busy, "too many programs are connected");
        // fits into the buffer of a new socket
        let _ = stream.try_write(busy.as_bytes());
        return;
    }
    let number = held.next;
    held.next += 1;
    let (lines, outgoing) = mailbox(BEHIND);
    for line in held.latest.lines() {
        // the bound is far above the number of kinds
        let _ = lines.post(line);
    }
    let serving = serve(stream, lines.clone(), outgoing, intents.clone());
    let list = state.clone();
    let task = tokio::spawn(async move {
        serving.await;
        lock(&list).clients.remove(&number);
    });
    held.clients.insert(number, Client { lines, task });
}

/// Serves one program until either end closes.
async fn serve(
    stream: UnixStream,
    answers: Post<Line>,
    outgoing: Mailbox<Line>,
    intents: Post<Intent>,
) {
    let (reader, writer) = stream.into_split();
    tokio::select! {
        () = write(writer, outgoing) => {}
        () = read(reader, answers, intents) => {}
    }
}

async fn write(mut writer: OwnedWriteHalf, mut outgoing: Mailbox<Line>) {
    while let Some(line) = outgoing.recv().await {
        if &*line == END || writer.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads lines. A bad one is answered, and nothing else happens.
async fn read(mut reader: OwnedReadHalf, answers: Post<Line>, intents: Post<Intent>) {
    let mut lines = Lines::default();
    let mut buffer = [0; 4_096];
    loop {
        let chunk = match reader.read(&mut buffer).await {
            Ok(count @ 1..) => buffer.get(..count).unwrap_or_default(),
            _ => return,
        };
        for line in lines.push(chunk) {
            let answer = match line.and_then(|line| intent(&line)) {
                Ok(intent) => match intents.post(intent) {
                    Ok(()) => continue,
                    Err(_) => error(Code::Busy, "too much at once; try again"),
                },
                Err(fault) => error(fault.code, &fault.detail.unwrap_or_default()),
            };
            if !answers.send(answer).await {
                return;
            }
        }
    }
}

fn intent(line: &[u8]) -> Result<Intent, Fault> {
    let bad = |what: String| Fault::new(Code::Malformed).with(what);
    // serde would read an array as well
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err(bad("not a JSON object".into()));
    }
    serde_json::from_slice(line).map_err(|error| bad(error.to_string()))
}

/// Cuts bytes into lines; of one that is too long nothing is kept.
#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
    skips: bool,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Vec<Result<Vec<u8>, Fault>> {
        let mut whole = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (content, ends) = match part.strip_suffix(b"\n") {
                Some(content) => (content, true),
                None => (part, false),
            };
            if !self.skips {
                if self.begun.len() + content.len() > LINE_MAX {
                    self.begun = Vec::new();
                    self.skips = true;
                    whole.push(Err(Fault::new(Code::TooLarge)
                        .with(format!("a line of more than {LINE_MAX} bytes"))));
                } else {
                    self.begun.extend_from_slice(content);
                }
            }
            if ends {
                if !self.skips {
                    whole.push(Ok(std::mem::take(&mut self.begun)));
                }
                self.skips = false;
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lengths(lines: Vec<Result<Vec<u8>, Fault>>) -> Vec<Result<usize, Code>> {
        lines
            .into_iter()
            .map(|line| line.map(|line| line.len()).map_err(|fault| fault.code))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_bytes_are_lines_that_are_bounded_and_read_or_refused(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300),
            cuts in proptest::collection::vec(1..40usize, 1..8),
        ) {
            let mut lines = Lines::default();
            let mut rest = &bytes[..];
            let mut whole = 0;
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                for line in lines.push(now) {
                    whole += 1;
                    if let Err(fault) = line.and_then(|line| intent(&line)) {
                        prop_assert_eq!(fault.code, Code::Malformed);
                    }
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(whole, bytes.iter().filter(|byte| **byte == b'\n').count());
        }

        #[test]
        fn an_intent_with_anything_in_it_is_read_or_refused(
            name in "(chat|status|mute|camera|accept|[a-z]{0,9})",
            value in "\\PC{0,40}",
        ) {
            for value in [format!("{value:?}"), value] {
                let line = format!(r#"{{"intent":"{name}","text":{value},"on":{value},"status":{value}}}"#);
                if let Err(fault) = intent(line.as_bytes()) {
                    prop_assert_eq!(fault.code, Code::Malformed);
                }
            }
        }
    }

    #[test]
    fn lines_survive_any_cut() {
        let text = b"one\n\nthree\n";
        for cut in 0..text.len() {
            let mut lines = Lines::default();
            let mut all = lines.push(&text[..cut]);
            all.extend(lines.push(&text[cut..]));
            assert_eq!(lengths(all), [Ok(3), Ok(0), Ok(5)]);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_told_once_and_skipped() {
        let mut lines = Lines::default();
        assert_eq!(lengths(lines.push(&[b'x'; LINE_MAX])), []);
        assert_eq!(lengths(lines.push(b"x")), [Err(Code::TooLarge)]);
        assert_eq!(lengths(lines.push(&[b'x'; 3 * LINE_MAX])), []);
        assert_eq!(lengths(lines.push(b"\nnext\n")), [Ok(4)]);
        assert_eq!(lengths(lines.push(&[b'x'; LINE_MAX])), []);
        assert_eq!(lengths(lines.push(b"\n")), [Ok(LINE_MAX)]);
    }
}
