//! A third machine repeats every datagram of a consultation, from its own and from forged
//! addresses: it receives nothing, moves nothing, and nobody hears it.

use std::time::Duration;

use serde_json::Value;
use suora_interop::peer::Failure;
use suora_interop::repeater::Tally;
use suora_interop::rig::{Plan, Rig, STEP};

use crate::program;

/// How long the two talk, in seconds.
const TALK: &str = "5";

/// What is wrong with a consultation beside the third machine.
fn wrong(tally: Tally, citizen: &Value, officer: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    if tally.received > 0 {
        wrong.push(format!("the third machine received {}", tally.received));
    }
    let least = tally.forged.min(tally.own).min(tally.reflected);
    if tally.passed < 500 || least < tally.passed {
        wrong.push(format!("it did not repeat all that passed: {tally:?}"));
    }
    for (name, report) in [("citizen", citizen), ("officer", officer)] {
        if report["outcome"] != "completed" {
            wrong.push(format!("the {name}'s consultation: {}", report["outcome"]));
        }
        let received = &report["audio"]["received"];
        let number = |key: &str| received[key].as_f64().unwrap_or(f64::NAN);
        let share = number("concealed_ms") / number("played_ms");
        // the machine is busy with other tests too
        if share.is_nan() || share > 0.05 {
            wrong.push(format!("the {name} heard gaps: {received}"));
        }
    }
    wrong
}

async fn talk() -> Result<Rig, Failure> {
    let plan = Plan {
        officer: &["--auto-accept"],
        citizen: &["--seconds", TALK],
        repeated: true,
        unrecorded: true,
        ..Plan::default()
    };
    let mut rig = Rig::start(program(), plan).await?;
    rig.both("accepted").await?;
    Ok(rig)
}

// covers: SUORA-SET-120
#[tokio::test(flavor = "multi_thread")]
async fn a_third_machine_that_repeats_everything_receives_and_moves_nothing() {
    let mut rig = talk().await.unwrap();
    let (citizen, officer) = rig.reports().await.unwrap();
    let repeater = rig.repeater.as_ref().unwrap();
    // the citizen's path leads to the host's place from the first packet to the last
    let remote = citizen["path"]["remote"].as_str().unwrap_or_default();
    assert_eq!(remote, repeater.address.to_string());
    let wrong = wrong(repeater.tally(), &citizen, &officer);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_follows_whoever_was_heard_last_is_caught() {
    let plan = Plan {
        officer: &["--auto-accept"],
        officer_faults: &["follow-last"],
        repeated: true,
        unrecorded: true,
        ..Plan::default()
    };
    let mut rig = Rig::start(program(), plan).await.unwrap();
    // how far the two come is chance: the machine hears them
    let heard = async {
        let mut beat = tokio::time::interval(Duration::from_millis(50));
        while rig
            .repeater
            .as_ref()
            .is_some_and(|one| one.tally().received == 0)
        {
            beat.tick().await;
        }
    };
    tokio::time::timeout(STEP, heard).await.unwrap();
    let tally = rig.repeater.as_ref().unwrap().tally();
    let faults = wrong(tally, &Value::Null, &Value::Null);
    assert!(
        faults[0].starts_with("the third machine received"),
        "{faults:?}"
    );
    rig.relay.kill().await.unwrap();
}

// covers: SUORA-SET-120
#[tokio::test(flavor = "multi_thread")]
async fn a_third_machine_that_is_faster_costs_the_set_up_and_reads_nothing() {
    let plan = Plan {
        officer: &["--auto-accept"],
        citizen: &["--seconds", "1"],
        repeated: true,
        ahead: true,
        unrecorded: true,
        ..Plan::default()
    };
    let mut rig = Rig::start(program(), plan).await.unwrap();
    // a try fails, and the citizen is first in the queue again
    rig.citizen.stage("connecting", STEP).await.unwrap();
    rig.citizen.stage("idle", STEP).await.unwrap();
    let queue = rig
        .citizen
        .until("its place", STEP, |view| view["view"] == "queue");
    assert_eq!(queue.await.unwrap()["position"], 0);
    let repeater = rig.repeater.as_ref().unwrap();
    let tally = repeater.tally();
    assert!(tally.received > 0, "it was not heard first: {tally:?}");
    // an answer to each copy of a first packet, and no more: no media, no second flight
    assert!(tally.received <= 3 * tally.own, "{tally:?}");
    // once it is gone, all is as without it
    repeater.slow();
    let (citizen, officer) = rig.reports().await.unwrap();
    assert_eq!(citizen["outcome"], "completed");
    assert_eq!(officer["outcome"], "completed");
}
