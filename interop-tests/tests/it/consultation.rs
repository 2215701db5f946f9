//! A consultation of real processes, judged by what was recorded and reported.

mod speech;

use serde_json::Value;
use suora_interop::recording;

use suora_interop::peer::{Agency, DESK};
use suora_interop::rig::{Plan, Rig, STEP};

use crate::program;

const AUTO: [&str; 1] = ["--auto-accept"];

/// Every field of the report contract is there; what was not measured is null.
fn contract(report: &Value) -> Result<(), String> {
    let fields = [
        "/role",
        "/outcome",
        "/error",
        "/peer/peer_id",
        "/peer/verified_as",
        "/path/kind",
        "/path/transport",
        "/path/local",
        "/path/remote",
        "/path/relay",
        "/path/rtt_ms",
        "/security/tls",
        "/security/key_exchange",
        "/security/fingerprint",
        "/clock/offset_ms",
        "/clock/uncertainty_ms",
        "/timing_ms/button_to_relay",
        "/timing_ms/button_to_queue",
        "/timing_ms/match_to_session",
        "/timing_ms/accept_to_first_audio",
        "/timing_ms/accept_to_first_frame",
        "/timing_ms/button_to_first_frame",
        "/video/sent/frames",
        "/video/sent/bytes",
        "/video/sent/width",
        "/video/sent/height",
        "/video/sent/keyframes",
        "/video/received/frames_decoded",
        "/video/received/frames_dropped",
        "/video/received/freezes",
        "/video/received/freeze_ms",
        "/video/received/width",
        "/video/received/height",
        "/video/received/fps",
        "/video/received/latency_ms/p50",
        "/video/received/latency_ms/p95",
        "/video/received/latency_ms/max",
        "/audio/sent/packets",
        "/audio/sent/bytes",
        "/audio/received/packets",
        "/audio/received/concealed_ms",
        "/audio/received/played_ms",
        "/audio/received/latency_ms/p50",
        "/audio/received/latency_ms/p95",
        "/audio/received/latency_ms/max",
        "/audio/av_skew_ms/p50",
        "/audio/av_skew_ms/p95",
        "/chat/sent",
        "/chat/received",
        "/wire/sent_bytes",
        "/wire/received_bytes",
        "/wire/sent_packets",
        "/wire/lost_packets",
        "/cpu_seconds",
        "/max_rss_bytes",
    ];
    match fields.iter().find(|field| report.pointer(field).is_none()) {
        Some(field) => Err(format!("the report has no {field}: {report}")),
        None => Ok(()),
    }
}

/// Runs a consultation of six seconds with the test pattern; what the recordings say.
async fn run(officer_faults: &[&str]) -> (Value, Value, Result<recording::Summary, Vec<String>>) {
    let plan = Plan {
        officer_faults,
        officer: &AUTO,
        citizen: &["--seconds", "6"],
        ..Plan::default()
    };
    let mut rig = Rig::start(program(), plan).await.unwrap();
    let (citizen, officer) = rig.reports().await.unwrap();
    let movie = rig.agency.file("record/officer-saw.mp4");
    let checked = recording::read(&movie)
        .map_err(|error| vec![error.to_string()])
        .and_then(|recording| recording::check(&recording, &officer));
    (citizen, officer, checked)
}

fn names(problems: &[String], what: &str) -> bool {
    problems.iter().any(|problem| problem.contains(what))
}

/// Panics unless each problem is one of these.
fn only(problems: &[String], expected: &[&str]) {
    for problem in problems {
        let known = expected.iter().any(|what| problem.contains(what));
        assert!(known, "{problem}, in {problems:?}");
    }
}

// covers: SUORA-CON-001, SUORA-CON-009, SUORA-SET-013
#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_agrees_with_what_was_reported() {
    let (citizen, officer, checked) = run(&[]).await;
    for report in [&citizen, &officer] {
        contract(report).unwrap();
        assert_eq!(report["outcome"], "completed", "{report}");
        assert_eq!(report["security"]["key_exchange"], "X25519MLKEM768");
        assert_eq!(report["path"]["kind"], "direct");
    }
    assert_eq!(citizen["peer"]["verified_as"], "officer");
    assert_eq!(officer["peer"]["verified_as"], Value::Null);
    assert_eq!(
        citizen["security"]["fingerprint"],
        officer["security"]["fingerprint"]
    );
    checked.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_dropped_after_they_were_counted_fail_the_check() {
    let (.., checked) = run(&["drop-tenth"]).await;
    let problems = checked.unwrap_err();
    assert!(
        names(&problems, "pictures, but the report says"),
        "{problems:?}"
    );
    // what refers to a dropped picture cannot be decoded up to the next keyframe, so that few
    // flashes, which last one picture, are left to compare; and a gap may become a freeze
    only(
        &problems,
        &[
            "pictures, but the report says",
            "pictures cannot be decoded",
            "freezes, but the report says",
            "flashes with a beep",
            "ms apart, but the report says",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_shifted_by_200_ms_fails_the_check() {
    let (.., checked) = run(&["shift-sound"]).await;
    let problems = checked.unwrap_err();
    // too far apart for people, and further than the report says
    let apart = problems.iter().any(|problem| problem.ends_with("ms apart"));
    assert!(apart, "{problems:?}");
    assert!(
        names(&problems, "ms apart, but the report says"),
        "{problems:?}"
    );
    only(&problems, &["flash and beep lie"]);
}

// covers: SUORA-SET-013
#[tokio::test(flavor = "multi_thread")]
async fn an_end_limited_to_x25519_shows_as_classical_in_both_reports() {
    let plan = Plan {
        citizen_faults: &["classical-only"],
        officer: &AUTO,
        citizen: &["--seconds", "2"],
        ..Plan::default()
    };
    let mut rig = Rig::start(program(), plan).await.unwrap();
    let (citizen, officer) = rig.reports().await.unwrap();
    for report in [citizen, officer] {
        assert_eq!(report["security"]["key_exchange"], "X25519");
    }
}

// covers: SUORA-CON-010
#[tokio::test(flavor = "multi_thread")]
async fn a_consultation_whose_recording_is_not_whole_has_failed() {
    let agency = Agency::new(program()).await.unwrap();
    let _relay = agency.serve(&[]).await.unwrap();
    let (key, credential) = agency.officer("officer", &[DESK]).await.unwrap();
    let credential = credential.to_string_lossy().into_owned();
    let arguments = ["--credential", credential.as_str(), "--auto-accept"];
    let mut officer = agency.attend(&key, &[], &arguments).await.unwrap();
    // a disk without room
    let record = agency.file("record");
    std::fs::create_dir(&record).unwrap();
    std::os::unix::fs::symlink("/dev/full", record.join("citizen-saw.mp4.part")).unwrap();
    let (key, _) = agency.key("citizen").unwrap();
    let record = record.to_string_lossy().into_owned();
    let (succeeded, report) = agency
        .run(
            "citizen",
            "call",
            &key,
            &["--seconds", "3", "--record", &record],
        )
        .await
        .unwrap();
    assert!(!succeeded);
    assert_eq!(report["outcome"], "failed", "{report}");
    assert_eq!(report["error"]["code"], "bad-file", "{report}");
    // the talk itself went on to its end
    assert!(officer.process.exit(STEP).await.unwrap().success());
    assert_eq!(officer.report().unwrap()["outcome"], "completed");
}
