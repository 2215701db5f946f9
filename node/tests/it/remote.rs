//! The control socket, by real programs' means.
#![expect(clippy::disallowed_methods, reason = "door: sockets of the test")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use suora_node::intent::Intent;
use suora_node::remote::{CLIENTS_MAX, LINE_MAX, Remote, listen};
use suora_node::view::{Stage, Stats, View};
use suora_node::worker::{Mailbox, mailbox};
use suora_protocol::fault::Code;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), work)
        .await
        .expect("in time")
}

/// A program on the socket.
struct Program(BufReader<UnixStream>);

impl Program {
    async fn connect(path: &Path) -> Self {
        Self(BufReader::new(
            soon(UnixStream::connect(path)).await.unwrap(),
        ))
    }

    async fn write(&mut self, line: &str) {
        soon(self.0.write_all(format!("{line}\n").as_bytes()))
            .await
            .unwrap();
    }

    /// The next line; `None`: the connection ended.
    async fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        match soon(self.0.read_line(&mut line)).await {
            Ok(1..) => Some(serde_json::from_str(&line).unwrap()),
            _ => None,
        }
    }

    async fn error(&mut self) -> String {
        let line = self.read().await.unwrap();
        assert!(line["error"]["message"].is_string(), "{line}");
        line["error"]["code"].as_str().unwrap().into()
    }
}

fn socket(dir: &Path, bound: usize) -> (std::path::PathBuf, Remote, Mailbox<Intent>) {
    let path = dir.join("node.sock");
    let (intents, wanted) = mailbox(bound);
    let remote = listen(&path, intents).unwrap();
    (path, remote, wanted)
}

fn session(stage: Stage) -> View {
    View::Session {
        stage,
        peer: None,
        security: None,
        path: None,
    }
}

#[tokio::test]
async fn the_socket_is_private_and_gone_with_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let (path, remote, _wanted) = socket(dir.path(), 4);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let mut program = Program::connect(&path).await;
    drop(remote);
    assert_eq!(program.read().await, None);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn intents_come_in_and_a_bad_line_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _remote, mut wanted) = socket(dir.path(), 16);
    let mut program = Program::connect(&path).await;
    for bad in [
        "",
        "accept",
        r#"{"intent":"rule-the-world"}"#,
        r#"{"intent":"chat","text":"x","to":"all"}"#,
        r#"{"intent":"chat"}"#,
        r#"["join"]"#,
        r#"{"intent":"join"} {"intent":"join"}"#,
    ] {
        program.write(bad).await;
        assert_eq!(program.error().await, "malformed", "{bad}");
    }
    program.write(&"x".repeat(LINE_MAX + 1)).await;
    assert_eq!(program.error().await, "too-large");
    program.write(r#"{"intent":"chat","text":"hei"}"#).await;
    program.write(r#"{"intent":"mute","on":true}"#).await;
    let chat = Intent::Chat { text: "hei".into() };
    assert_eq!(soon(wanted.recv()).await, Some(chat));
    assert_eq!(soon(wanted.recv()).await, Some(Intent::Mute { on: true }));
    assert!(wanted.take().is_none());
}

#[tokio::test]
async fn when_nobody_takes_the_intents_the_program_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _remote, mut wanted) = socket(dir.path(), 1);
    let mut program = Program::connect(&path).await;
    program.write(r#"{"intent":"join"}"#).await;
    program.write(r#"{"intent":"leave"}"#).await;
    assert_eq!(program.error().await, "busy");
    assert_eq!(wanted.take(), Some(Intent::Join));
    program.write(r#"{"intent":"quit"}"#).await;
    assert_eq!(soon(wanted.recv()).await, Some(Intent::Quit));
}

#[tokio::test]
async fn who_connects_is_told_where_things_stand_and_then_all_that_follows() {
    let dir = tempfile::tempdir().unwrap();
    let (path, remote, _wanted) = socket(dir.path(), 4);
    let mut early = Program::connect(&path).await;
    // an answer shows that the first program is taken in
    early.write("?").await;
    early.error().await;
    for view in [
        View::Link {
            up: false,
            code: Some(Code::RelayUnreachable),
        },
        View::Link {
            up: true,
            code: None,
        },
        View::Attending { waiting: 3 },
        View::Offer { waited: 12 },
        session(Stage::Warm),
        View::Chat {
            from: "peer",
            text: "gone".into(),
        },
    ] {
        remote.publish(&view);
    }
    let mut late = Program::connect(&path).await;
    for kind in ["link", "attending", "offer", "session"] {
        assert_eq!(late.read().await.unwrap()["view"], kind);
    }
    remote.publish(&session(Stage::Accepted));
    remote.publish(&View::PeerMedia {
        audio: true,
        video: false,
    });
    remote.publish(&View::Stats(Stats::default()));
    for kind in ["session", "peer-media", "stats"] {
        assert_eq!(late.read().await.unwrap()["view"], kind);
    }
    for kind in [
        "link",
        "link",
        "attending",
        "offer",
        "session",
        "chat",
        "session",
        "peer-media",
        "stats",
    ] {
        assert_eq!(early.read().await.unwrap()["view"], kind);
    }
    let mut third = Program::connect(&path).await;
    for kind in ["link", "attending", "session", "peer-media", "stats"] {
        assert_eq!(
            third.read().await.unwrap()["view"],
            kind,
            "the offer is over"
        );
    }
    remote.publish(&session(Stage::Idle));
    assert_eq!(third.read().await.unwrap()["stage"], "idle");
    let mut fourth = Program::connect(&path).await;
    for kind in ["link", "attending", "session"] {
        assert_eq!(fourth.read().await.unwrap()["view"], kind);
    }
    remote.publish(&View::Queue { position: 0 });
    let line = fourth.read().await.unwrap();
    assert_eq!(line, json!({ "view": "queue", "position": 0 }));
}

#[tokio::test]
async fn one_program_too_many_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let (path, remote, _wanted) = socket(dir.path(), 4);
    remote.publish(&View::Queue { position: 1 });
    let mut programs = Vec::new();
    for _ in 0..CLIENTS_MAX {
        let mut program = Program::connect(&path).await;
        assert_eq!(program.read().await.unwrap()["view"], "queue");
        programs.push(program);
    }
    let mut ninth = Program::connect(&path).await;
    assert_eq!(ninth.error().await, "busy");
    assert_eq!(ninth.read().await, None);
    // a place that becomes free is given again
    programs.pop();
    loop {
        let mut next = Program::connect(&path).await;
        if next.read().await.unwrap()["view"] == "queue" {
            break;
        }
    }
}

#[tokio::test]
async fn who_does_not_read_is_dropped_and_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let (path, remote, _wanted) = socket(dir.path(), 4);
    remote.publish(&View::Queue { position: 1 });
    let mut slow = Program::connect(&path).await;
    let mut quick = Program::connect(&path).await;
    assert_eq!(slow.read().await.unwrap()["view"], "queue");
    assert_eq!(quick.read().await.unwrap()["view"], "queue");
    let text = "x".repeat(4_000);
    for n in 0..2_000 {
        remote.publish(&View::Chat {
            from: "peer",
            text: format!("{n} {text}"),
        });
        let line = quick.read().await.unwrap();
        assert!(line["text"].as_str().unwrap().starts_with(&format!("{n} ")));
    }
    let mut rest = Vec::new();
    soon(slow.0.read_to_end(&mut rest)).await.unwrap();
    let told = rest.iter().filter(|byte| **byte == b'\n').count();
    assert!(told < 2_000, "{told} lines were kept for it");
}

#[tokio::test]
async fn a_dead_nodes_socket_is_replaced_and_a_live_ones_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "what a killed node leaves behind");
    let (path, remote, _wanted) = socket(dir.path(), 4);
    let (intents, _second) = mailbox(4);
    let fault = listen(&path, intents).unwrap_err();
    assert_eq!(fault.code, Code::BadFile);
    assert!(fault.to_string().contains("another program"), "{fault}");
    remote.publish(&View::Queue { position: 5 });
    let mut program = Program::connect(&path).await;
    assert_eq!(program.read().await.unwrap()["position"], 5);
}

#[tokio::test]
async fn a_file_in_its_place_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.sock");
    std::fs::write(&path, "letter").unwrap();
    let (intents, _wanted) = mailbox(4);
    assert_eq!(listen(&path, intents).unwrap_err().code, Code::BadFile);
    assert_eq!(std::fs::read(&path).unwrap(), b"letter");
}

#[tokio::test]
async fn a_socket_that_another_node_has_taken_over_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, remote, _wanted) = socket(dir.path(), 4);
    std::fs::remove_file(&path).unwrap();
    let (intents, _second) = mailbox(4);
    let successor = listen(&path, intents).unwrap();
    drop(remote);
    successor.publish(&View::Queue { position: 5 });
    let mut program = Program::connect(&path).await;
    assert_eq!(program.read().await.unwrap()["position"], 5);
}
