//! A desk that hides addresses until the accept, with real programs: the two meet over the
//! agency's relay, and talk directly once the officer accepted.

use serde_json::Value;
use suora_interop::peer::{Failure, Peer};
use suora_interop::rig::{Plan, Rig, STEP};
use suora_node::intent::Intent;

use crate::program;

fn plan() -> Plan<'static> {
    Plan {
        relayed: true,
        unrecorded: true,
        ..Plan::default()
    }
}

/// Seconds of figures, of which the last is given.
async fn figures(peer: &mut Peer, seconds: u32) -> Result<Value, Failure> {
    let mut last = Value::Null;
    for _ in 0..seconds {
        let is = |view: &Value| view["view"] == "stats";
        last = peer.until("figures", STEP, is).await?;
    }
    Ok(last)
}

// covers: SUORA-SET-016, SUORA-DSK-200, SUORA-DSK-202
#[tokio::test(flavor = "multi_thread")]
async fn two_who_hide_until_the_accept_meet_over_the_relay_and_talk_directly() {
    let mut rig = Rig::start(program(), plan()).await.unwrap();
    // an end names the path once it knows whose the other's address is
    for peer in [&mut rig.citizen, &mut rig.officer] {
        peer.stage("warm", STEP).await.unwrap();
        let relayed = |view: &Value| view["view"] == "stats" && view["relayed"] == true;
        peer.until("the relay", STEP, relayed).await.unwrap();
    }
    let still = figures(&mut rig.citizen, 2).await.unwrap();
    assert_eq!(still["relayed"], true, "{still}");
    rig.officer.say(Intent::Accept).await.unwrap();
    rig.both("accepted").await.unwrap();
    rig.pictures().await.unwrap();
    figures(&mut rig.citizen, 2).await.unwrap();
    // from now on the relay is not needed
    rig.relay.kill().await.unwrap();
    let before = figures(&mut rig.citizen, 2).await.unwrap();
    assert!(before["fps"].as_f64() > Some(20.0), "{before}");
    rig.citizen.say(Intent::HangUp).await.unwrap();
    // the officer's node waits for its relay
    rig.citizen.process.exit(STEP).await.unwrap();
    let report = rig.citizen.report().unwrap();
    assert_eq!(report["outcome"], "completed");
    assert_eq!(report["path"]["kind"], "direct", "{}", report["path"]);
    let made_up = report["audio"]["received"]["concealed_ms"].as_f64();
    assert!(made_up < Some(200.0), "{made_up:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_hidden_the_relay_carries_nothing() {
    let plan = Plan {
        page: Some(("after-accept", "open")),
        ..plan()
    };
    let mut rig = Rig::start(program(), plan).await.unwrap();
    for peer in [&mut rig.citizen, &mut rig.officer] {
        let view = peer.stage("warm", STEP).await.unwrap();
        assert_eq!(view["path"]["kind"], "direct");
    }
}
