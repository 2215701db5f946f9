//! Strangers at every listener, for ten seconds: `make flood` does it for longer and harder.

use suora_interop::flood::{self, Ask};

use crate::program;

// covers: SUORA-SEC-121
#[tokio::test(flavor = "multi_thread")]
async fn strangers_move_nobody_and_are_heard_by_nobody() {
    let _alone = crate::alone().await;
    let ask = Ask {
        program: program().into(),
        seconds: 10,
        strength: 1,
    };
    let figures = flood::measure(&ask).await.unwrap();
    let faults = flood::faults(&figures);
    assert!(faults.is_empty(), "{faults:#?}\n{figures:#?}");
}
