//! Stock js-libp2p and py-libp2p nodes at the real relay: they identify it, ping it and take
//! a turn at a desk, by what `spec/` says and nothing of this workspace's code.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use suora_interop::peer::{Agency, DESK};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::program;

/// Longer than a turn at a desk takes on a busy machine.
const TURN: Duration = Duration::from_secs(60);
/// Longer than both packages take to come over a slow line.
const INSTALL: Duration = Duration::from_secs(540);

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("foreign")
        .join(name)
}

async fn install(arguments: &[&std::ffi::OsStr]) -> Result<(), String> {
    let mut command = Command::new(source("install"));
    command.args(arguments).kill_on_drop(true);
    let output = timeout(INSTALL, command.output()).await;
    let output = output
        .map_err(|_| "no end".to_string())?
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Where both nodes are: among the tools of `make deps`, or put there by the first test.
async fn home() -> &'static Path {
    static HOME: OnceCell<PathBuf> = OnceCell::const_new();
    HOME.get_or_init(|| async {
        if let Some(tools) = std::env::var_os("SUORA_TOOLS") {
            let made = Path::new(&tools).join("foreign");
            if install(&["--check".as_ref(), made.as_ref()]).await.is_ok() {
                return made;
            }
        }
        let own = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign");
        install(&[own.as_ref()]).await.unwrap();
        own
    })
    .await
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Js,
    Py,
}

/// A turn at the desk; what the node learnt, or what it said at its failure.
async fn turn(kind: Kind, address: &str) -> Result<Vec<Value>, String> {
    let home = home().await;
    let (mut command, script) = match kind {
        // a script that comes by standard input takes its modules from the working folder
        Kind::Js => {
            let mut command = Command::new(home.join("js/node"));
            command.args(["--input-type=module", "-"]);
            (command, source("js/desk.mjs"))
        }
        Kind::Py => {
            let mut command = Command::new(home.join("py/bin/python"));
            command.arg("-");
            (command, source("py/desk.py"))
        }
    };
    let mut child = command
        .args([address, DESK])
        .current_dir(home.join("js"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let script = std::fs::read(script).map_err(|error| error.to_string())?;
    let mut input = child.stdin.take().ok_or("no standard input")?;
    input
        .write_all(&script)
        .await
        .map_err(|error| error.to_string())?;
    drop(input);
    let output = timeout(TURN, child.wait_with_output())
        .await
        .map_err(|_| "no end".to_string())?
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).map_err(|error| format!("{line}: {error}")))
        .collect()
}

// covers: SUORA-CTL-141, SUORA-SEC-143
#[tokio::test(flavor = "multi_thread")]
async fn stock_libp2p_nodes_take_a_turn_at_a_desk_over_websocket_and_tcp() {
    let _alone = crate::alone().await;
    let agency = Agency::new(program()).await.unwrap();
    let _relay = agency.serve(&[]).await.unwrap();
    let (control, websocket) = (agency.control, agency.websocket);
    let page = agency.page().unwrap();
    let end = page.relays[0].split("/p2p/").nth(1).unwrap();
    let addresses = [
        format!("/ip4/127.0.0.1/tcp/{websocket}/ws/p2p/{end}"),
        format!("/ip4/127.0.0.1/tcp/{control}/p2p/{end}"),
    ];
    for address in &addresses {
        assert!(page.relays.contains(address), "{:?}", page.relays);
    }
    for kind in [Kind::Js, Kind::Py] {
        for address in &addresses {
            let said = turn(kind, address)
                .await
                .unwrap_or_else(|why| panic!("{kind:?} by {address}: {why}"));
            let [identify, ping, queued, pong, ended, refused] = &said[..] else {
                panic!("{kind:?} by {address}: {said:?}");
            };
            assert_eq!(identify["what"], "identify", "{kind:?}");
            assert_eq!(identify["protocolVersion"], "/suora/1", "{kind:?}");
            assert_eq!(identify["agentVersion"], "suora-relay", "{kind:?}");
            assert_eq!(identify["peer"], end, "{kind:?}");
            assert_eq!(identify["listens"], 0, "{kind:?}");
            let protocols = identify["protocols"].as_array().unwrap();
            for protocol in ["/suora/desk/1", "/suora/attend/1", "/ipfs/ping/1.0.0"] {
                assert!(protocols.iter().any(|p| p == protocol), "{protocols:?}");
            }
            assert_eq!(ping["what"], "ping", "{kind:?}");
            assert!(ping["ms"].is_number(), "{ping}");
            assert_eq!(
                (&queued["what"], &queued["position"]),
                (&"queued".into(), &0.into())
            );
            assert_eq!(
                queued["ticket"].as_str().map(str::len),
                Some(32),
                "{queued}"
            );
            assert_eq!((&pong["what"], &pong["n"]), (&"pong".into(), &7.into()));
            assert_eq!(
                (&ended["what"], &ended["code"]),
                (&"ended".into(), &"left".into())
            );
            let unknown = (&"refused".into(), &"unknown-desk".into());
            assert_eq!((&refused["what"], &refused["code"]), unknown);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_another_key_than_the_address_names_fails_them() {
    let _alone = crate::alone().await;
    let agency = Agency::new(program()).await.unwrap();
    let _relay = agency.serve(&[]).await.unwrap();
    let (_, other) = agency.key("other").unwrap();
    let address = format!(
        "/ip4/127.0.0.1/tcp/{}/ws/p2p/{}",
        agency.websocket,
        other.to_text()
    );
    for kind in [Kind::Js, Kind::Py] {
        let why = turn(kind, &address).await.unwrap_err();
        assert!(!why.is_empty(), "{kind:?}");
    }
}
