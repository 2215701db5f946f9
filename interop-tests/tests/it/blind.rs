//! Nothing of sound or picture leaves a node before *accept*.

use std::time::Duration;

use serde_json::Value;
use suora_interop::peer::{Failure, Peer};
use suora_node::intent::Intent;

use suora_interop::rig::{Plan, Rig, STEP};

use crate::program;

/// Fails when a second's figures tell of media on the wire.
fn silent(name: &str, view: &Value) -> Result<(), Failure> {
    let number = |key: &str| view[key].as_u64().ok_or(format!("{name}: no {key}"));
    if number("datagrams")? > 0 {
        return Err(format!("{name} sent {} DATAGRAM frames", view["datagrams"]));
    }
    if number("peer_streams")? > 0 {
        return Err(format!(
            "{name} was offered {} streams",
            view["peer_streams"]
        ));
    }
    if number("stream_bytes")? != number("control_bytes")? || number("control_bytes")? == 0 {
        return Err(format!(
            "{name} wrote {} bytes to streams, {} of them text",
            view["stream_bytes"], view["control_bytes"]
        ));
    }
    Ok(())
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
    let caught =
        watch(&mut rig.citizen, 3).await.is_err() || watch(&mut rig.officer, 3).await.is_err();
    assert!(caught, "a leak went unseen");
}
