//! Officers who may not serve: the hub refuses them with the reason; where a hub does not
//! check, the citizen's node does.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use suora_interop::peer::{Agency, DESK, Failure};
use suora_protocol::time::Timestamp;

use suora_interop::rig::STEP;

use crate::program;

const DAY: Duration = Duration::from_secs(86_400);

/// An officer's node with this credential runs to its end: the code in its report.
async fn attend(agency: &Agency, key: &Path, credential: Option<&Path>) -> Result<String, Failure> {
    let credential = credential.map(|path| path.to_string_lossy().into_owned());
    let mut arguments = vec!["--auto-accept", "--camera", "none"];
    if let Some(credential) = &credential {
        arguments.extend(["--credential", credential]);
    }
    let (succeeded, report) = agency.run("officer", "officer", key, &arguments).await?;
    if succeeded || report["outcome"] != "refused" {
        return Err(format!("success {succeeded}, {report}"));
    }
    Ok(code(&report))
}

fn code(report: &Value) -> String {
    let code = report["error"]["code"].as_str().unwrap_or_default();
    code.to_string()
}

async fn refused(agency: &Agency, key: &Path, credential: Option<&Path>, code: &str) {
    assert_eq!(attend(agency, key, credential).await.unwrap(), code);
}

fn now() -> Timestamp {
    suora_node::clock::Clock::start().now().utc
}

// covers: SUORA-DSK-002
#[tokio::test(flavor = "multi_thread")]
async fn the_hub_refuses_an_officer_with_the_reason() {
    let agency = Agency::with_desks(program(), &[DESK, "other"])
        .await
        .unwrap();
    let _relay = agency.serve(&[]).await.unwrap();
    let (key, peer) = agency.key("officer").unwrap();

    refused(&agency, &key, None, "no-credential").await;

    let past = (now() - 3 * DAY, now() - DAY);
    let expired = agency.credential("expired", peer, DESK, past).unwrap();
    refused(&agency, &key, Some(&expired), "expired").await;

    let valid = (now(), now() + DAY);
    let other_desk = agency.credential("desk", peer, "other", valid).unwrap();
    refused(&agency, &key, Some(&other_desk), "wrong-desk").await;

    let (_, stranger) = agency.key("stranger").unwrap();
    let other_node = agency.credential("node", stranger, DESK, valid).unwrap();
    refused(&agency, &key, Some(&other_node), "wrong-signer").await;

    // signed by the issuing key of another agency: both call theirs `issuing-1`, so the hub
    // finds a key of that id, its own, and the signature is not by it
    let other_agency = Agency::new(program()).await.unwrap();
    let foreign = other_agency
        .credential("foreign", peer, DESK, valid)
        .unwrap();
    refused(&agency, &key, Some(&foreign), "bad-signature").await;
}

/// Under a relay that does not check: the citizen's refusal, and what the officer learns.
async fn under_an_unchecking_relay(faults: &[&str]) -> Result<(String, bool), Failure> {
    let agency = Agency::new(program()).await?;
    let _relay = agency.serve(faults).await?;
    let (key, peer) = agency.key("officer")?;
    let past = (now() - 3 * DAY, now() - DAY);
    let credential = agency.credential("expired", peer, DESK, past)?;
    let credential = credential.to_string_lossy().into_owned();
    let mut officer = agency
        .attend(
            &key,
            &["any-invite"],
            &[
                "--auto-accept",
                "--camera",
                "none",
                "--credential",
                &credential,
            ],
        )
        .await?;
    let (key, _) = agency.key("citizen")?;
    let (citizen_succeeded, report) = agency
        .run("citizen", "call", &key, &["--camera", "none"])
        .await?;
    let officer_succeeded = officer.process.exit(STEP).await?.success();
    if report["outcome"] != "refused" {
        return Err(format!("the citizen's report: {report}"));
    }
    Ok((code(&report), !citizen_succeeded && !officer_succeeded))
}

// covers: SUORA-SET-001, SUORA-DSK-011
#[tokio::test(flavor = "multi_thread")]
async fn under_an_unchecking_relay_the_citizens_node_refuses_and_says_why() {
    let (code, failed) = under_an_unchecking_relay(&["unchecked-credential"])
        .await
        .unwrap();
    assert_eq!(code, "expired");
    assert!(failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_checking_relay_that_officer_never_attends() {
    let failure = under_an_unchecking_relay(&[]).await.unwrap_err();
    // whether it ended before or after anybody spoke to it, its log says why
    assert!(failure.contains("no longer valid"), "{failure}");
}
