//! Strangers at every listener, for ten seconds: `make flood` does it for longer and harder.

use suora_interop::flood::{self, Ask, Figures};

use crate::program;

async fn flooded(faults: &[&str]) -> Figures {
    let _alone = crate::alone().await;
    let ask = Ask {
        program: program().into(),
        seconds: 10,
        strength: 1,
        faults: faults.iter().map(ToString::to_string).collect(),
    };
    flood::measure(&ask).await.unwrap()
}

// covers: SUORA-SEC-121, SUORA-SEC-270
#[tokio::test(flavor = "multi_thread")]
async fn strangers_move_nobody_and_are_heard_by_nobody() {
    let figures = flooded(&[]).await;
    let faults = flood::faults(&figures);
    assert!(faults.is_empty(), "{faults:#?}\n{figures:#?}");
}

/// The control: where those who came first stay, the same strangers keep a newcomer out.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_lets_the_first_stay_keeps_a_newcomer_out() {
    let figures = flooded(&["first-stay"]).await;
    let faults = flood::faults(&figures);
    let is_named = faults.iter().any(|fault| fault.contains("newcomer"));
    assert!(is_named, "{faults:#?}\n{figures:#?}");
}
