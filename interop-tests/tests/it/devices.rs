//! A consultation over cameras, microphones and loudspeakers of a written list: the same
//! programs and the same way as with real ones.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use suora_interop::peer::{Agency, DESK, Peer};
use suora_interop::rig::STEP;
use suora_node::intent::Intent;

use crate::program;

fn write(path: &Path, list: &Value) {
    // in one step: a node that looks meanwhile reads the old list or the new one
    let new = path.with_extension("new");
    std::fs::write(&new, list.to_string()).unwrap();
    std::fs::rename(&new, path).unwrap();
}

async fn device(peer: &mut Peer, kind: &str, state: &str) -> Value {
    let what = format!("{kind} {state}");
    peer.until(&what, STEP, |view| {
        view["view"] == "device" && view["device"] == kind && view["state"] == state
    })
    .await
    .unwrap()
}

async fn peer_media(peer: &mut Peer, audio: bool, video: bool) {
    let what = format!("sound {audio}, picture {video}");
    peer.until(&what, STEP, |view| {
        view["view"] == "peer-media" && view["audio"] == audio && view["video"] == video
    })
    .await
    .unwrap();
}

/// The share of 20-ms blocks of a WAV file that are loud, and how many there are.
fn loud(path: &Path) -> (f64, usize) {
    let mut reader = hound::WavReader::open(path).unwrap();
    let block = reader.spec().sample_rate as usize / 50;
    let samples: Vec<i16> = reader.samples::<i16>().map_while(Result::ok).collect();
    let blocks = samples.chunks_exact(block);
    let count = blocks.len();
    let is_loud = |block: &&[i16]| block.iter().any(|sample| sample.unsigned_abs() > 1_000);
    (
        blocks.filter(is_loud).count() as f64 / count.max(1) as f64,
        count,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consultation_goes_on_while_devices_come_and_go() {
    let agency = Agency::new(program()).await.unwrap();
    let _relay = agency.serve(&[]).await.unwrap();
    let wav = |name: &str| agency.file(&format!("{name}.wav"));
    let officer_has = json!({
        "cameras": [{"name": "Desk camera"}],
        "microphones": [{"name": "Desk microphone", "rate": 44_100}],
        "speakers": [{"name": "Desk speaker", "rate": 44_100, "file": wav("officer")}],
    });
    let headset = json!({"name": "Headset"});
    let citizen_has = |cameras: Value, microphones: Value| {
        json!({
            "cameras": cameras,
            "microphones": microphones,
            "speakers": [{"name": "Headset", "buffer_ms": 60, "file": wav("citizen")}],
        })
    };
    write(&agency.devices_file("officer"), &officer_has);
    // at first the citizen has no camera
    let has = citizen_has(json!([]), json!([headset]));
    write(&agency.devices_file("citizen"), &has);

    let (key, credential) = agency.officer("officer", &[DESK]).await.unwrap();
    let credential = credential.to_string_lossy().into_owned();
    let arguments = [
        "--credential",
        &credential,
        "--auto-accept",
        "--camera",
        "desk",
    ];
    let mut officer = agency.attend(&key, &[], &arguments).await.unwrap();
    let (key, _) = agency.key("citizen").unwrap();
    let mut citizen = agency
        .node("citizen", "call", &key, &[], &["--mic", "head"])
        .await
        .unwrap();
    device(&mut citizen, "camera", "missing").await;
    citizen.stage("accepted", STEP).await.unwrap();
    peer_media(&mut officer, true, false).await;

    // a camera is plugged in, and pulled out again
    let cameras = json!([{"name": "Webcam"}]);
    let has = citizen_has(cameras.clone(), json!([headset]));
    write(&agency.devices_file("citizen"), &has);
    let view = device(&mut citizen, "camera", "using").await;
    assert_eq!(view["name"], "Webcam");
    peer_media(&mut officer, true, true).await;
    officer
        .until("pictures", STEP, |view| {
            view["view"] == "stats" && view["fps"].as_f64() > Some(5.0)
        })
        .await
        .unwrap();
    let has = citizen_has(json!([]), json!([headset]));
    write(&agency.devices_file("citizen"), &has);
    device(&mut citizen, "camera", "lost").await;
    peer_media(&mut officer, true, false).await;

    // the microphone is taken by another program, then free again
    write(
        &agency.devices_file("citizen"),
        &citizen_has(json!([]), json!([])),
    );
    device(&mut citizen, "microphone", "missing").await;
    peer_media(&mut officer, false, false).await;
    let busy = json!({"name": "Headset", "answer": "busy"});
    write(
        &agency.devices_file("citizen"),
        &citizen_has(json!([]), json!([busy])),
    );
    device(&mut citizen, "microphone", "busy").await;
    write(
        &agency.devices_file("citizen"),
        &citizen_has(json!([]), json!([headset])),
    );
    device(&mut citizen, "microphone", "using").await;
    peer_media(&mut officer, true, false).await;
    tokio::time::sleep_until(tokio::time::Instant::from_std(
        suora_node::clock::Clock::start().now().mono + Duration::from_secs(3),
    ))
    .await;

    citizen.say(Intent::HangUp).await.unwrap();
    assert!(citizen.process.exit(STEP).await.unwrap().success());
    assert!(officer.process.exit(STEP).await.unwrap().success());
    // the loudspeakers played the other one's beep: 0.1 s of each second
    for name in ["officer", "citizen"] {
        let (part, blocks) = loud(&wav(name));
        assert!(blocks > 150, "{name}: {blocks}");
        assert!((0.03..0.2).contains(&part), "{name}: {part} of {blocks}");
    }
    // what waits in a loudspeaker counts as time from mouth to ear, and lips wait for it
    let latency = |report: &Value| report["audio"]["received"]["latency_ms"]["p50"].as_f64();
    let (officer, citizen) = (officer.report().unwrap(), citizen.report().unwrap());
    assert!(latency(&citizen) > Some(60.0), "{citizen}");
    println!(
        "mouth to ear: officer {:?} ms, citizen {:?} ms; lips: citizen {}",
        latency(&officer),
        latency(&citizen),
        citizen["audio"]["av_skew_ms"]
    );
    let skew = citizen["audio"]["av_skew_ms"]["p95"].as_f64();
    assert!(skew < Some(80.0), "{citizen}");
}

/// ALSA itself, without a card: a configuration of its own names two devices and a plug-in.
#[test]
fn what_alsa_names_is_listed_and_its_plugins_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("asound.conf");
    let pcm = |id: &str, description: &str| {
        format!("pcm.{id} {{ type null hint {{ show on description \"{description}\" }} }}\n")
    };
    let text = [
        pcm("room", "Room microphone"),
        pcm("!default", "Playback"),
        pcm("dmix", "Direct mixing"),
    ];
    std::fs::write(&config, text.concat()).unwrap();
    let output = std::process::Command::new(program())
        .args(["node", "--", "devices", "--json"])
        .env("ALSA_CONFIG_PATH", &config)
        .env_remove("SUORA_DEVICES")
        .output()
        .unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    for kind in ["microphones", "speakers"] {
        let devices = list[kind].as_array().unwrap();
        let names: Vec<_> = devices.iter().map(|device| &device["name"]).collect();
        assert_eq!(names, ["Default", "Room microphone"], "{list}");
    }
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
