//! The hostile relay: each lie is refused by the right end with the right code, nobody is
//! fooled, and the same people without the lie complete their consultation.

use suora_interop::evil::{self, Found, MODES, Who, table};
use suora_protocol::fault::Code;

/// More than one order of events.
const SEEDS: [u8; 3] = [1, 2, 3];

// covers: SUORA-SEC-120
#[test]
fn each_lie_is_refused_by_the_right_end_with_its_code_and_fools_nobody() {
    let mut wrong = Vec::new();
    for mode in MODES {
        for seed in SEEDS {
            let found = evil::run(mode, true, seed);
            let faults = table::wrong(mode, &found);
            wrong.extend(
                faults
                    .iter()
                    .map(|what| format!("{mode:?}, seed {seed}: {what}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_lies_twin_completes_without_it() {
    let mut wrong = Vec::new();
    for mode in MODES {
        let found = evil::run(mode, false, SEEDS[0]);
        let faults = table::wrong_twin(&found);
        wrong.extend(faults.iter().map(|what| format!("{mode:?}: {what}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_lie_that_worked_would_be_noticed() {
    let mode = &MODES[0];
    let good = Found {
        refused: mode.refused,
        completed: false,
        fooled: Vec::new(),
    };
    assert!(table::wrong(mode, &good).is_empty());
    for bad in [
        Found {
            refused: None,
            ..good.clone()
        },
        Found {
            refused: Some((Who::Officer, Code::BadSignature)),
            ..good.clone()
        },
        Found {
            refused: Some((Who::Citizen, Code::WrongGuest)),
            ..good.clone()
        },
        Found {
            completed: true,
            ..good.clone()
        },
        Found {
            fooled: vec!["the citizen was shown somebody else as proven".into()],
            ..good.clone()
        },
    ] {
        assert!(!table::wrong(mode, &bad).is_empty(), "{bad:?}");
    }
}

#[test]
fn an_unknown_mode_lists_the_known_ones() {
    assert_eq!(table::named(&["middle".into()]).unwrap().len(), 1);
    let error = table::named(&["muddle".into()]).unwrap_err();
    assert!(error.contains("middle"), "{error}");
}
