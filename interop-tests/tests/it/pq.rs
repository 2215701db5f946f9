//! Which key exchange two nodes agree on, as both reports say it, and a desk that demands more.

use serde_json::Value;
use suora_interop::peer::Failure;
use suora_interop::rig::{Plan, Rig, STEP};

use crate::program;

const TALK: [&str; 4] = ["--seconds", "1", "--camera", "none"];
const SERVE: [&str; 3] = ["--auto-accept", "--camera", "none"];

fn plan<'a>() -> Plan<'a> {
    Plan {
        officer: &SERVE,
        citizen: &TALK,
        unrecorded: true,
        ..Plan::default()
    }
}

fn exchange(report: &Value) -> &Value {
    &report["security"]["key_exchange"]
}

// covers: SUORA-SET-013
#[tokio::test(flavor = "multi_thread")]
async fn both_reports_say_what_tls_negotiated() {
    for (citizen, officer, group) in [
        (&[][..], &[][..], "X25519MLKEM768"),
        (&["classical-only"][..], &[][..], "X25519"),
        (&[][..], &["classical-only"][..], "X25519"),
    ] {
        let plan = Plan {
            citizen_faults: citizen,
            officer_faults: officer,
            ..plan()
        };
        let mut rig = Rig::start(program(), plan).await.unwrap();
        let (citizen, officer) = rig.reports().await.unwrap();
        for report in [&citizen, &officer] {
            assert_eq!(exchange(report), group, "{report}");
        }
    }
}

/// A desk that demands the hybrid group.
const DEMANDS: Option<(&str, &str)> = Some(("require_pq = false", "require_pq = true"));

/// How the citizen's contact ends at such a desk, where this end is limited.
async fn demanded(citizen: &[&str], officer: &[&str]) -> Result<Value, Failure> {
    let plan = Plan {
        citizen_faults: citizen,
        officer_faults: officer,
        page: DEMANDS,
        ..plan()
    };
    let mut rig = Rig::start(program(), plan).await?;
    rig.citizen.process.exit(STEP).await?;
    rig.citizen.report()
}

// covers: SUORA-SET-013, SUORA-SET-100
#[tokio::test(flavor = "multi_thread")]
async fn a_desk_that_demands_the_hybrid_group_takes_nothing_less() {
    for (citizen, officer) in [
        (&["classical-only"][..], &[][..]),
        (&[][..], &["classical-only"][..]),
    ] {
        let report = demanded(citizen, officer).await.unwrap();
        assert_eq!(report["outcome"], "refused", "{report}");
        assert_eq!(report["error"]["code"], "post-quantum-required", "{report}");
    }
    let report = demanded(&[], &[]).await.unwrap();
    assert_eq!(report["outcome"], "completed", "{report}");
    assert_eq!(exchange(&report), "X25519MLKEM768");
}
