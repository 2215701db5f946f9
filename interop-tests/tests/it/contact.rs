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
