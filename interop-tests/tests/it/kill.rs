//! `kill -9` of the relay: the two who talk notice nothing, those who wait keep their places.

use std::time::Duration;

use suora_interop::peer::{Agency, DESK};
use suora_interop::recording;
use suora_node::intent::Intent;

use suora_interop::rig::{Plan, Rig, STEP};

use crate::program;

// covers: SUORA-DSK-013, SUORA-SES-009
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_in_mid_consultation_changes_nothing_for_the_two_who_talk() {
    let plan = Plan {
        officer: &["--auto-accept"],
        citizen: &["--seconds", "6"],
        ..Plan::default()
    };
    let mut rig = Rig::start(program(), plan).await.unwrap();
    rig.both("accepted").await.unwrap();
    rig.pictures().await.unwrap();
    rig.relay.kill().await.unwrap();
    // text still flows with the relay dead
    rig.citizen
        .say(Intent::Chat {
            text: "still here".into(),
        })
        .await
        .unwrap();
    rig.officer
        .until("a line", STEP, |view| {
            view["view"] == "chat" && view["text"] == "still here"
        })
        .await
        .unwrap();
    let (citizen, officer) = rig.reports().await.unwrap();
    for (name, report) in [("citizen", &citizen), ("officer", &officer)] {
        assert_eq!(report["outcome"], "completed", "{name}: {report}");
        let movie = rig.agency.file(&format!("record/{name}-saw.mp4"));
        recording::check(&recording::read(&movie).unwrap(), report).unwrap();
    }
}

/// Fails unless exactly the expected peer ids were served, in the expected order.
fn in_order(served: &[String], expected: &[String]) -> Result<(), String> {
    match (served, expected) {
        ([], []) => Ok(()),
        ([one, rest @ ..], [other, others @ ..]) if one == other => in_order(rest, others),
        _ => Err(format!(
            "{:?} came next, not {:?}",
            served.first(),
            expected.first()
        )),
    }
}

#[test]
fn a_wrong_order_is_noticed() {
    let ids = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
    in_order(&ids("abc"), &ids("abc")).unwrap();
    for wrong in ["acb", "bac", "cba", "ab", "abcc", "aab", "abd", ""] {
        in_order(&ids(wrong), &ids("abc")).unwrap_err();
    }
}

// covers: SUORA-DSK-009
#[tokio::test(flavor = "multi_thread")]
async fn citizens_who_wait_have_the_same_order_after_a_killed_relay_is_back() {
    let agency = Agency::new(program()).await.unwrap();
    let mut relay = agency.serve(&[]).await.unwrap();
    let (mut waiting, mut joined) = (Vec::new(), Vec::new());
    for name in ["first", "second", "third"] {
        let (key, peer) = agency.citizen(name).unwrap();
        let mut citizen = agency
            .node(
                name,
                "call",
                &key,
                &[],
                &["--seconds", "1", "--camera", "none"],
            )
            .await
            .unwrap();
        let position = waiting.len() as u64;
        citizen
            .until("the queue", STEP, |view| {
                view["view"] == "queue" && view["position"] == position
            })
            .await
            .unwrap();
        waiting.push(citizen);
        joined.push(peer.to_text());
    }
    relay.kill().await.unwrap();
    for citizen in &mut waiting {
        citizen
            .until("the link falls", STEP, |view| view["up"] == false)
            .await
            .unwrap();
    }
    let _relay = agency.serve(&[]).await.unwrap();
    for (position, citizen) in (0u64..).zip(&mut waiting) {
        citizen
            .until("the old place", Duration::from_secs(60), |view| {
                view["view"] == "queue" && view["position"] == position
            })
            .await
            .unwrap();
    }
    // and they are served in that order: so says the one who serves, in one stream of views
    let (key, credential) = agency.officer("officer", &[DESK]).await.unwrap();
    let credential = credential.to_string_lossy().into_owned();
    let mut officer = agency
        .node(
            "officer",
            "officer",
            &key,
            &[],
            &[
                "--credential",
                &credential,
                "--auto-accept",
                "--stay",
                "--camera",
                "none",
            ],
        )
        .await
        .unwrap();
    let mut served = Vec::new();
    for _ in &waiting {
        let view = officer
            .until("a consultation's report", STEP, |view| {
                view["view"] == "report"
            })
            .await
            .unwrap();
        let report = &view["report"];
        assert_eq!(report["outcome"], "completed", "{report}");
        let peer = report["peer"]["peer_id"].as_str().unwrap_or_default();
        served.push(peer.to_string());
    }
    in_order(&served, &joined).unwrap();
    for citizen in &mut waiting {
        let status = citizen.process.exit(STEP).await.unwrap();
        assert!(status.success(), "{}", citizen.process.log());
    }
}
