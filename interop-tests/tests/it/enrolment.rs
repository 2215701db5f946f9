//! Enrolment and renewal by real processes, as an administrator does it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use suora_interop::peer::{Agency, DESK, Peer};
use suora_interop::rig::STEP;
use suora_protocol::time::Timestamp;

use crate::program;

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> Timestamp {
    suora_node::clock::Clock::start().now().utc
}

/// A citizen calls, is served and goes.
async fn served(agency: &Agency, name: &str) {
    let (key, _) = agency.key(name).unwrap();
    let arguments = ["--camera", "none", "--seconds", "1"];
    let (succeeded, report) = agency.run(name, "call", &key, &arguments).await.unwrap();
    assert!(succeeded && report["outcome"] == "completed", "{report}");
}

const SERVES: [&str; 4] = ["--auto-accept", "--stay", "--camera", "none"];
const ONCE: [&str; 3] = ["--auto-accept", "--camera", "none"];

async fn renewed(officer: &mut Peer) -> Value {
    officer
        .until("a credential", STEP, |view| view["view"] == "credential")
        .await
        .unwrap()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

// covers: SUORA-DSK-100, SUORA-DSK-102, SUORA-DSK-103, SUORA-DSK-104
#[tokio::test(flavor = "multi_thread")]
async fn from_a_key_to_a_renewed_credential_and_its_revocation() {
    let agency = Agency::new(program()).await.unwrap();
    let relay = agency.serve(&[]).await.unwrap();
    let (key, peer) = agency.key("officer").unwrap();
    let (issued, beside) = (agency.file("issued"), agency.file("officer.credential"));

    // nobody knows it yet
    let (_, report) = agency.run("early", "officer", &key, &ONCE).await.unwrap();
    assert_eq!(report["error"]["code"], "no-credential", "{report}");

    agency.issue("Olli", peer, &[DESK], &issued).await.unwrap();
    let said = agency.enrol(&[&issued]).await.unwrap();
    assert!(said.starts_with("Olli: taken, valid until "), "{said}");
    let said = agency.enrol(&[&issued]).await.unwrap();
    assert!(said.contains("one as new is kept already"), "{said}");
    let mut officer = agency.attend(&key, &[], &SERVES).await.unwrap();
    assert_eq!(read(&beside), read(&issued));
    served(&agency, "first").await;

    let out = agency.file("renewed");
    let (issuing, descriptor) = (agency.dir().join("issuing"), agency.descriptor());
    let renew = [
        "issue".as_ref(),
        "renew".as_ref(),
        "--all".as_ref(),
        "--issuing".as_ref(),
        issuing.as_os_str(),
        "--descriptor".as_ref(),
        descriptor.as_os_str(),
        "--out".as_ref(),
        out.as_os_str(),
    ];
    let said = agency.relay_command(&renew).await.unwrap();
    assert!(said.starts_with("Olli: until "), "{said}");
    let file: PathBuf = out.join(format!("{}.credential", peer.to_text()));
    agency.enrol(&[&file]).await.unwrap();
    let view = renewed(&mut officer).await;
    assert!(
        view["until"].as_i64() > Some((now() + 6 * DAY).as_secs()),
        "{view}"
    );
    served(&agency, "second").await;
    assert_eq!(read(&beside), read(&file));

    // revoked: the relay drops it as soon as it holds the new page, and it comes no more
    let root = agency.dir().join("root");
    let text = peer.to_text();
    let revoke = [
        "descriptor".as_ref(),
        "revoke".as_ref(),
        "--root".as_ref(),
        root.as_os_str(),
        "--out".as_ref(),
        descriptor.as_os_str(),
        text.as_ref(),
    ];
    agency.relay_command(&revoke).await.unwrap();
    relay.hang_up().unwrap();
    assert!(!officer.process.exit(STEP).await.unwrap().success());
    let log = officer.process.log();
    assert!(log.contains("the agency has withdrawn it"), "{log}");
    let refused = agency.enrol(&[&file]).await.unwrap_err();
    assert!(refused.contains("revoked"), "{refused}");
    let said = agency.relay_command(&renew).await.unwrap();
    assert!(said.starts_with("Olli: revoked, not renewed."), "{said}");
}

// covers: SUORA-DSK-103
#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_of_a_credential_who_was_renewed_stays_and_another_one_goes() {
    let agency = Agency::new(program()).await.unwrap();
    let mut relay = agency.serve(&[]).await.unwrap();
    let mut peers = Vec::new();
    // both end in some seconds: the tolerance for clocks is five minutes
    let ends = (now() - DAY, now() - Duration::from_secs(285));
    for (name, manner) in [("renewed", &SERVES[..]), ("other", &ONCE[..])] {
        let (key, peer) = agency.key(name).unwrap();
        let credential = agency.credential(name, peer, DESK, ends).unwrap();
        agency.enrol(&[&credential]).await.unwrap();
        let mut officer = agency
            .node(name, "officer", &key, &[], manner)
            .await
            .unwrap();
        officer
            .until("attending", STEP, |view| view["view"] == "attending")
            .await
            .unwrap();
        peers.push((officer, peer));
    }
    let (mut other, _) = peers.pop().unwrap();
    let (mut officer, peer) = peers.pop().unwrap();
    let longer = (now(), now() + DAY);
    let next = agency.credential("next", peer, DESK, longer).unwrap();
    agency.enrol(&[&next]).await.unwrap();
    renewed(&mut officer).await;
    // both first credentials end at once
    assert!(!other.process.exit(STEP).await.unwrap().success());
    assert_eq!(other.report().unwrap()["error"]["code"], "expired");
    served(&agency, "citizen").await;
    // and what was brought outlives a killed relay
    relay.kill().await.unwrap();
    let _relay = agency.serve(&[]).await.unwrap();
    officer
        .until("attending", STEP, |view| view["view"] == "attending")
        .await
        .unwrap();
    served(&agency, "later").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_running_relay_a_credential_is_not_taken() {
    let agency = Agency::new(program()).await.unwrap();
    let (_, credential) = agency.officer("officer", &[DESK]).await.unwrap();
    let refused = agency.enrol(&[&credential]).await.unwrap_err();
    assert!(
        refused.contains("relay-unreachable") && refused.contains("suora-relay serve"),
        "{refused}"
    );
}
