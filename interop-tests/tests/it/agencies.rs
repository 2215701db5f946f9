//! One device and several agencies at once: a link and a name of its own at each.

use std::path::Path;

use serde_json::Value;
use suora_interop::peer::{Agency, DESK, Failure, Peer, Process};
use suora_interop::rig::STEP;
use suora_node::intent::Intent;

use crate::program;

/// An agency with an officer who takes whoever comes.
async fn opens() -> Result<(Agency, Process, Peer), Failure> {
    let agency = Agency::new(program()).await?;
    let relay = agency.serve(&[]).await?;
    let (key, credential) = agency.officer("officer", &[DESK]).await?;
    let credential = credential.to_string_lossy().into_owned();
    let arguments = [
        "--credential",
        &credential,
        "--auto-accept",
        "--camera",
        "none",
    ];
    let officer = agency.attend(&key, &[], &arguments).await?;
    Ok((agency, relay, officer))
}

async fn calls(agency: &Agency, key: &Path) -> Result<Peer, Failure> {
    let mut citizen = agency
        .node("citizen", "call", key, &[], &["--camera", "none"])
        .await?;
    citizen.stage("accepted", STEP).await?;
    Ok(citizen)
}

async fn ends(mut peer: Peer) -> Result<Value, Failure> {
    peer.process.exit(STEP).await?;
    let report = peer.report()?;
    match report["outcome"] == "completed" {
        true => Ok(report),
        false => Err(report.to_string()),
    }
}

// covers: SUORA-DOC-001
#[tokio::test(flavor = "multi_thread")]
async fn a_device_talks_with_two_agencies_at_once_and_neither_can_know_of_the_other() {
    let (one, _relay, first) = opens().await.unwrap();
    let (other, _relay, second) = opens().await.unwrap();
    let (key, _) = one.key("device").unwrap();
    let mut citizens = Vec::new();
    for agency in [&one, &other] {
        citizens.push(calls(agency, &key).await.unwrap());
    }
    // both stand at once, each on its own link
    for citizen in &mut citizens {
        citizen.say(Intent::HangUp).await.unwrap();
    }
    for citizen in citizens {
        ends(citizen).await.unwrap();
    }
    let seed = suora_node::keys::load(&key).unwrap();
    let mut names = Vec::new();
    for (agency, officer) in [(&one, first), (&other, second)] {
        let report = ends(officer).await.unwrap();
        let name = report["peer"]["peer_id"].as_str().unwrap_or_default();
        let page = agency.page().unwrap();
        assert_eq!(name, seed.citizen_key(&page.agency).peer_id().to_text());
        names.push(name.to_string());
    }
    assert_ne!(names[0], names[1]);
}

/// Writes a second of silence.
fn silence(path: &Path) -> Result<(), hound::Error> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec)?;
    (0..48_000).try_for_each(|_| writer.write_sample(0_i16))?;
    writer.finalize()
}

/// How many packets of sound each end sends in a talk of four seconds in which nobody speaks:
/// the citizen's, the officer's.
async fn quiet_talk(is_sensitive: bool) -> Result<[u64; 2], Failure> {
    let agency = Agency::new(program()).await?;
    if is_sensitive {
        let (from, to) = ("sensitive = false", "sensitive = true");
        agency.change_page(from, to).await?;
    }
    let _relay = agency.serve(&[]).await?;
    let path = agency.file("silence.wav");
    silence(&path).map_err(|error| error.to_string())?;
    let path = path.display().to_string();
    let quiet = ["--camera", "none", "--mic", &path, "--auto-accept"];
    let (key, credential) = agency.officer("officer", &[DESK]).await?;
    let credential = credential.to_string_lossy().into_owned();
    let arguments = [&quiet[..], &["--credential", &credential]].concat();
    let officer = agency.attend(&key, &[], &arguments).await?;
    let (key, _) = agency.key("citizen")?;
    let arguments = [&quiet[..4], &["--seconds", "4"]].concat();
    let (_, citizen) = agency.run("citizen", "call", &key, &arguments).await?;
    let sent = |report: &Value| {
        let sent = report["audio"]["sent"]["packets"].as_u64();
        sent.ok_or_else(|| report.to_string())
    };
    Ok([sent(&citizen)?, sent(&ends(officer).await?)?])
}

// covers: SUORA-SEC-280
#[tokio::test(flavor = "multi_thread")]
async fn at_a_sensitive_desk_both_ends_send_their_silence_too() {
    for sent in quiet_talk(true).await.unwrap() {
        assert!(sent > 150, "{sent}");
    }
    // the control: at others silence is left out
    for sent in quiet_talk(false).await.unwrap() {
        assert!(sent < 100, "{sent}");
    }
}
