//! coturn's clients against the relay.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::{HERE, Server};
use suora_protocol::wire::grant::Grant;

/// Runs one of coturn's programs: whether it ended well, and what it said.
async fn run(program: &str, arguments: &[&str]) -> (bool, String) {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            panic!("{program} of the package coturn is needed, make deps installs it: {error}")
        }
    };
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (mut said, mut complained) = (String::new(), String::new());
    let both = async {
        let (out, err) = tokio::join!(
            out.read_to_string(&mut said),
            err.read_to_string(&mut complained)
        );
        out.unwrap();
        err.unwrap();
        child.wait().await.unwrap()
    };
    let ended = tokio::time::timeout(Duration::from_secs(60), both).await;
    (
        ended.is_ok_and(|status| status.success()),
        said + &complained,
    )
}

async fn uclient(server: &Server, grant: &Grant, more: &[&str]) -> (bool, String) {
    let (host, port) = (HERE.to_string(), server.at.port().to_string());
    let user = ["-u", &grant.user, "-w", &grant.password, "-p", &port];
    let all = [&user[..], more, &[&host]].concat();
    run("turnutils_uclient", &all).await
}

/// Packets sent, received and lost, of uclient's last lines.
fn total(said: &str) -> Option<(u64, u64, u64)> {
    let after = |key: &str| {
        let line = said.lines().rfind(|line| line.contains(key))?;
        let rest = line.split_once(key)?.1;
        let digits = rest
            .trim_start()
            .split(|c: char| !c.is_ascii_digit())
            .next()?;
        digits.parse().ok()
    };
    Some((
        after("tot_send_msgs=")?,
        after("tot_recv_msgs=")?,
        after("Total lost packets ")?,
    ))
}

// covers: SUORA-TRN-010
#[tokio::test]
async fn coturns_stun_client_hears_its_address() {
    let server = Server::new();
    let port = server.at.port().to_string();
    let (ended, said) = run("turnutils_stunclient", &["-p", &port, "127.0.0.1"]).await;
    assert!(
        ended && said.contains("UDP reflexive addr: 127.0.0.1:"),
        "{said}"
    );
}

// covers: SUORA-TRN-011, SUORA-TRN-031, SUORA-TRN-044
#[tokio::test]
async fn coturns_turn_clients_talk_through_the_relay() {
    let server = Server::new();
    let echo = super::peer().await;
    let at = echo.local_addr().unwrap();
    let peer = tokio::spawn(async move {
        let mut buffer = [0; 2_048];
        loop {
            let (len, from) = echo.recv_from(&mut buffer).await.unwrap();
            echo.send_to(&buffer[..len], from).await.unwrap();
        }
    });
    let (address, port) = (at.ip().to_string(), at.port().to_string());
    let to_peer = ["-e", &address, "-r", &port];
    for (what, more) in [
        // two clients of one pair, each to the other's relayed address
        (
            "channels between two",
            vec!["-y", "-c", "-m", "2", "-n", "20"],
        ),
        (
            "indications between two",
            vec!["-y", "-c", "-s", "-m", "2", "-n", "20"],
        ),
        (
            "channels to a peer",
            [&to_peer[..], &["-c", "-m", "4", "-n", "20"]].concat(),
        ),
        (
            "indications to a peer",
            [&to_peer[..], &["-c", "-s", "-m", "4", "-n", "20"]].concat(),
        ),
        (
            "large ones",
            [&to_peer[..], &["-c", "-l", "1200", "-m", "2", "-n", "20"]].concat(),
        ),
    ] {
        let (ended, said) = uclient(&server, &server.grant(1), &more).await;
        let total = total(&said);
        assert!(ended, "{what}: {said}");
        let stands =
            total.is_some_and(|(sent, received, lost)| sent > 0 && received == sent && lost == 0);
        assert!(stands, "{what}: {total:?} {said}");
    }
    peer.abort();
}

// covers: SUORA-TRN-012
#[tokio::test]
async fn coturns_turn_client_is_refused_with_a_wrong_password() {
    let server = Server::new();
    let mut grant = server.grant(1);
    grant.password = "guess".into();
    let (ended, said) = uclient(&server, &grant, &["-y", "-c", "-m", "2", "-n", "2"]).await;
    assert!(
        !ended || total(&said).is_none_or(|(sent, ..)| sent == 0),
        "{said}"
    );
    assert_eq!(server.allocations(), 0);
}
