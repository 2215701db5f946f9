//! Logs name nobody: neither peer ids nor addresses of people, whatever level is asked for but
//! the one that shows everything.

use std::time::Duration;

use suora_interop::peer::{Agency, DESK, Failure};
use suora_interop::rig::STEP;
use suora_node::intent::Intent;

use crate::program;

/// What of a text names a person or a place: a peer id, a key, an IP address.
fn leaks(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':');
    text.split(|c: char| !is_part(c))
        .filter(|word| {
            let word = word.trim_end_matches(['.', ':']);
            let host = word.rsplit_once(':').map_or(word, |(host, _)| host);
            let is_address = [word, host]
                .iter()
                .any(|text| text.parse::<std::net::IpAddr>().is_ok());
            let is_peer = word.contains("12D3Koo") || word.starts_with("Qm");
            let is_key = word.len() >= 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_address || is_peer || is_key
        })
        .collect()
}

#[test]
fn each_kind_of_leak_is_noticed() {
    for leak in [
        "from /ip4/192.0.2.7/udp/4433",
        "from 192.0.2.7:4433.",
        "dial [2001:db8::7]:4433",
        "peer=12D3KooWGzBvbGZLhQh6wDtGAnLhWX1vYpJZnmM1Yt8oHk6o1ab1",
        &format!("key {}", "0f".repeat(32)),
    ] {
        assert_eq!(leaks(leak).len(), 1, "{leak}");
    }
    let good = "2026-11-27T19:30:00.123456Z  INFO suora_relay::serve: relay runs tickets=0 \
        peer=[peer] address=[redacted] version 0.1.0 12:30 1.25";
    assert_eq!(leaks(good), Vec::<&str>::new());
}

/// All that a relay and two nodes log while two people talk, one is refused and a relay dies.
async fn logs(level: &'static str) -> Result<String, Failure> {
    let mut agency = Agency::new(program()).await?;
    agency.log = level;
    let mut relay = agency.serve(&[]).await?;
    let (key, credential) = agency.officer("officer", &[DESK]).await?;
    let credential = credential.to_string_lossy().into_owned();
    let quiet = ["--camera", "none"];
    let arguments = [&quiet[..], &["--credential", &credential]].concat();
    let mut officer = agency.attend(&key, &[], &arguments).await?;
    let (stranger, _) = agency.key("stranger")?;
    let once = [&quiet[..], &["--auto-accept"]].concat();
    agency.run("stranger", "officer", &stranger, &once).await?;
    let (key, _) = agency.key("citizen")?;
    let mut citizen = agency.node("citizen", "call", &key, &[], &quiet).await?;
    officer.stage("warm", STEP).await?;
    officer.say(Intent::Accept).await?;
    citizen.stage("accepted", STEP).await?;
    relay.kill().await?;
    citizen
        .until("the link falls", STEP, |view| view["up"] == false)
        .await?;
    citizen.say(Intent::HangUp).await?;
    citizen.process.exit(STEP).await?;
    officer.process.terminate()?;
    officer.process.exit(Duration::from_secs(20)).await?;
    let mut all = String::new();
    for name in ["relay", "officer", "stranger", "citizen"] {
        let log = std::fs::read_to_string(agency.file(&format!("{name}.log")));
        all += &log.map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(all)
}

// covers: SUORA-SEC-005
#[tokio::test(flavor = "multi_thread")]
async fn no_log_names_a_peer_or_an_address() {
    // who asks for all of one part of ours asks for nothing of other crates
    let part = "debug,suora_relay::none=trace,suora_node::none=trace";
    for asked in ["debug", part] {
        let all = logs(asked).await.unwrap();
        assert!(all.contains("relay runs") && all.contains("DEBUG"), "{all}");
        assert_eq!(leaks(&all), Vec::<&str>::new(), "{asked}");
    }
}

/// The control: other crates do name both, so the reader sees what the filter keeps away.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_everything_sees_addresses() {
    let all = logs("trace").await.unwrap();
    assert!(!leaks(&all).is_empty());
}

// covers: SUORA-SEC-003
#[tokio::test(flavor = "multi_thread")]
async fn a_node_refuses_to_leave_session_keys_in_a_file() {
    let agency = Agency::new(program()).await.unwrap();
    let (key, _) = agency.key("citizen").unwrap();
    let mut command = tokio::process::Command::new(program());
    command.args(["node", "--", "call", "--desk", DESK, "--camera", "none"]);
    command.args(["--agency".as_ref(), agency.descriptor().as_os_str()]);
    command.args(["--key".as_ref(), key.as_os_str()]);
    command.env("SUORA_DEVICES", "{}").env("LC_ALL", "C");
    let output = command.env("SSLKEYLOGFILE", "/dev/null").output().await;
    let output = output.unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("SSLKEYLOGFILE"), "{said}");
}
