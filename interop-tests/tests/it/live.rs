//! Real processes on a wire in real time.

use suora_interop::rig::{Plan, Rig};
use suora_interop::weather::line::{Loss, Weather};

use crate::program;

#[tokio::test(flavor = "multi_thread")]
async fn a_consultation_over_a_wire_that_delays_and_loses_completes_and_shows_both() {
    let weather = Weather::delay(30).losing(Loss::Random(0.02));
    let plan = Plan {
        officer: &["--auto-accept"],
        citizen: &["--seconds", "5"],
        weather: Some((&weather, 5)),
        ..Plan::default()
    };
    let mut rig = Rig::start(program(), plan).await.unwrap();
    let (citizen, officer) = rig.reports().await.unwrap();
    let wire = rig.wire.as_ref().unwrap();
    for report in [&citizen, &officer] {
        assert_eq!(report["outcome"], "completed", "{report}");
        // there and back
        assert!(report["path"]["rtt_ms"].as_f64() >= Some(60.0), "{report}");
        let latency = &report["audio"]["received"]["latency_ms"];
        assert!(latency["p50"].as_f64() >= Some(30.0), "{report}");
        assert!(report["video"]["received"]["frames_decoded"].as_u64() > Some(50));
    }
    // the citizen came to the address that was announced, and nowhere else
    assert_eq!(citizen["path"]["remote"], wire.address.to_string());
    for tally in wire.tallies() {
        assert!(tally.packets > 400, "{tally:?}");
        let share = tally.lost as f64 / tally.packets as f64;
        assert!((0.002..0.06).contains(&share), "{tally:?}");
        assert!(tally.shortest >= 30_000, "{tally:?}");
        assert_eq!(tally.dropped, 0, "{tally:?}");
    }
}
