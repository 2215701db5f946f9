//! Nothing of sound or picture leaves a node before *accept*.

use std::time::Duration;

use serde_json::Value;
use suora_interop::peer::{Failure, Peer};
use suora_node::intent::Intent;

use suora_interop::rig::{Plan, Rig, STEP};

use crate::program;

/// Fails when a second's figures tell of media on the wire, and names all that they tell.
fn silent(name: &str, view: &Value) -> Result<(), Failure> {
    let number = |key: &str| view[key].as_u64().ok_or(format!("{name}: no {key}"));
    let (streams, control) = (number("stream_bytes")?, number("control_bytes")?);
    let mut leaks = Vec::new();
    if number("datagrams")? > 0 {
        leaks.push(format!("{name} sent {} DATAGRAM frames", view["datagrams"]));
    }
    if number("peer_streams")? > 0 {
        leaks.push(format!(
            "{name} was offered {} streams",
            view["peer_streams"]
        ));
    }
    if streams != control || control == 0 {
        leaks.push(format!(
            "{name} wrote {streams} bytes to streams, {control} of them text"
        ));
    }
    if leaks.is_empty() {
        Ok(())
    } else {
        Err(leaks.join("; "))
    }
}

#[test]
fn each_kind_of_leak_is_named() {
    let figures = |datagrams: u64, peer_streams: u64, stream_bytes: u64| {
        serde_json::json!({
            "datagrams": datagrams,
            "peer_streams": peer_streams,
            "stream_bytes": stream_bytes,
            "control_bytes": 500,
        })
    };
    silent("a", &figures(0, 0, 500)).unwrap();
    for (datagrams, streams, bytes, said) in [
        (7, 0, 500, "a sent 7 DATAGRAM frames"),
        (0, 3, 500, "a was offered 3 streams"),
        (0, 0, 900, "a wrote 900 bytes to streams, 500 of them text"),
    ] {
        let leak = silent("a", &figures(datagrams, streams, bytes)).unwrap_err();
        assert_eq!(leak, said);
    }
    let all = silent("a", &figures(7, 3, 900)).unwrap_err();
    assert_eq!(all.split("; ").count(), 3, "{all}");
    silent("a", &serde_json::json!({})).unwrap_err();
}

/// The figures of `seconds` seconds.
async fn watch(peer: &mut Peer, seconds: u32) -> Result<(), Failure> {
    let name = peer.name.clone();
    for _ in 0..seconds {
        let view = peer
            .until("figures", Duration::from_secs(10), |view| {
                view["view"] == "stats" || (view["view"] == "session" && view["stage"] == "idle")
            })
            .await?;
        if view["view"] == "session" {
            return Err(format!("{name}: the session ended"));
        }
        silent(&name, &view)?;
    }
    Ok(())
}

// covers: SUORA-MED-007
#[tokio::test(flavor = "multi_thread")]
async fn ten_seconds_without_accept_put_nothing_on_the_wire() {
    let mut rig = Rig::start(program(), Plan::default()).await.unwrap();
    rig.both("warm").await.unwrap();
    watch(&mut rig.citizen, 10).await.unwrap();
    watch(&mut rig.officer, 10).await.unwrap();
    // the gate is closed, not broken: accept opens it
    rig.officer.say(Intent::Accept).await.unwrap();
    rig.both("accepted").await.unwrap();
    rig.pictures().await.unwrap();
    rig.citizen.say(Intent::HangUp).await.unwrap();
    rig.citizen.process.exit(STEP).await.unwrap();
    assert_eq!(rig.citizen.report().unwrap()["outcome"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaks_is_caught() {
    let plan = Plan {
        citizen_faults: &["leak-before-accept"],
        ..Plan::default()
    };
    let mut rig = Rig::start(program(), plan).await.unwrap();
    rig.citizen.stage("warm", STEP).await.unwrap();
    // the one who leaks counts what it sent: sound, pictures or both, by who was first …
    let sent = watch(&mut rig.citizen, 3).await.unwrap_err();
    assert!(
        sent.contains("citizen sent ") && sent.contains(" DATAGRAM frames")
            || sent.contains("citizen wrote ") && sent.contains(" bytes to streams"),
        "{sent}"
    );
    assert!(!sent.contains("was offered"), "{sent}");
    // … and the other closes at the first piece of it, whether that was a stream, which it
    // counts, or a datagram, which it does not; it sent nothing itself
    let closed = watch(&mut rig.officer, 3).await.unwrap_err();
    assert!(
        closed.starts_with("officer was offered ") && !closed.contains(';')
            || closed == "officer: the session ended",
        "{closed}"
    );
}
