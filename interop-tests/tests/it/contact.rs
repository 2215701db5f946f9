//! What a device remembers of an agency from one call to the next.

use std::path::Path;

use suora_interop::peer::{Agency, DESK, Failure};

use crate::program;

/// A citizen calls the agency at this address: how it ended, and with which code.
async fn calls(agency: &Agency, key: &Path, address: &str) -> Result<String, Failure> {
    let arguments = ["--agency", address, "--camera", "none", "--seconds", "1"];
    let (_, report) = agency.run("citizen", "call", key, &arguments).await?;
    let code = report["error"]["code"].as_str();
    Ok(code.unwrap_or("completed").into())
}

// covers: SUORA-DOC-101, SUORA-DOC-102
#[tokio::test(flavor = "multi_thread")]
async fn an_agency_that_was_reached_once_is_reached_while_its_web_server_is_away() {
    let agency = Agency::new(program()).await.unwrap();
    let _relay = agency.serve(&[]).await.unwrap();
    let (key, credential) = agency.officer("officer", &[DESK]).await.unwrap();
    let credential = credential.to_string_lossy().into_owned();
    let arguments = [
        "--credential",
        &credential,
        "--auto-accept",
        "--stay",
        "--camera",
        "none",
    ];
    let _officer = agency.attend(&key, &[], &arguments).await.unwrap();
    let (key, _) = agency.key("citizen").unwrap();
    let root = agency.page().unwrap().agency.to_text();
    let here = format!("http://127.0.0.1:{}#root={root}", agency.http);
    // nobody listens on this port
    let away = format!("http://127.0.0.1:1#root={root}");

    let first = calls(&agency, &key, &away).await.unwrap();
    assert_eq!(first, "descriptor-unreachable", "nothing is known yet");
    assert_eq!(calls(&agency, &key, &here).await.unwrap(), "completed");
    assert_eq!(calls(&agency, &key, &away).await.unwrap(), "completed");

    // a memory that was tampered with is not taken for a first contact
    let memory = agency.file(&format!("suora/agencies/{root}"));
    let mut bytes = std::fs::read(&memory).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&memory, &bytes).unwrap();
    let tampered = calls(&agency, &key, &here).await.unwrap();
    assert_eq!(tampered, "bad-file");
}

/// How a call to a desk that no agency has ends: its page was taken, or it was not.
async fn asks(device: &Agency, key: &Path, address: &str) -> Result<String, Failure> {
    let arguments = ["--agency", address, "--camera", "none", "--desk", "no-desk"];
    let (_, report) = device.run("citizen", "call", key, &arguments).await?;
    Ok(report["error"]["code"].as_str().unwrap_or_default().into())
}

// covers: SUORA-DOC-106
#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_another_root_does_not_speak_for_a_domain_that_is_known() {
    let known = Agency::new(program()).await.unwrap();
    let hostile = Agency::new(program()).await.unwrap();
    let _relays = (
        known.serve(&[]).await.unwrap(),
        hostile.serve(&[]).await.unwrap(),
    );
    let page = |agency: &Agency| agency.page().unwrap();
    assert_eq!(page(&known).domain, page(&hostile).domain);
    let link = |agency: &Agency| {
        let root = page(agency).agency.to_text();
        format!("http://127.0.0.1:{}#root={root}", agency.http)
    };
    let file = |agency: &Agency| agency.descriptor().display().to_string();
    let (key, _) = known.key("citizen").unwrap();
    let taken = "unknown-desk";
    assert_eq!(asks(&known, &key, &link(&known)).await.unwrap(), taken);
    for address in [link(&hostile), file(&hostile)] {
        let code = asks(&known, &key, &address).await.unwrap();
        assert_eq!(code, "root-changed", "{address}");
    }
    // the same root by another way is the same agency
    assert_eq!(asks(&known, &key, &file(&known)).await.unwrap(), taken);
    // the control: a device that does not know the domain
    let (key, _) = hostile.key("citizen").unwrap();
    for address in [link(&hostile), file(&hostile)] {
        assert_eq!(asks(&hostile, &key, &address).await.unwrap(), taken);
    }
}

// covers: SUORA-DOC-103
#[tokio::test(flavor = "multi_thread")]
async fn an_older_file_of_an_agency_takes_nothing_back() {
    let agency = Agency::new(program()).await.unwrap();
    let older = agency.file("older.cose");
    std::fs::copy(agency.descriptor(), &older).unwrap();
    agency
        .change_page("sensitive = false", "sensitive = true")
        .await
        .unwrap();
    let newer = agency.descriptor().display().to_string();
    let older = older.display().to_string();
    let (key, _) = agency.key("citizen").unwrap();
    let kept = || {
        let root = agency.page().unwrap().agency.to_text();
        std::fs::read(agency.file(&format!("suora/agencies/file-{root}"))).unwrap()
    };
    asks(&agency, &key, &newer).await.unwrap();
    let known = kept();
    assert_eq!(asks(&agency, &key, &older).await.unwrap(), "unknown-desk");
    assert_eq!(kept(), known);
}
