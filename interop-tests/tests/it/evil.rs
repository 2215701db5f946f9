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

/// The table would be red if a node forgot a rule: the lies that the rule is against go through,
/// and no others.
#[test]
fn nodes_that_forgot_a_rule_are_seen_in_the_table() {
    for mode in MODES {
        let found = evil::run_careless(mode, SEEDS[0]);
        let faults = table::wrong(mode, &found);
        let concerned = mode.refused == Some((Who::Citizen, Code::WrongChallenge));
        assert_eq!(!faults.is_empty(), concerned, "{mode:?}: {faults:?}");
        if mode.name == "lie-challenge" {
            assert_eq!((found.refused, found.completed), (None, true));
        }
    }
}

#[test]
fn what_no_engine_refuses_is_shown_on_real_endpoints() {
    let tests = include_str!("../../../node/tests/it/endpoint.rs");
    let shown = MODES.iter().filter_map(|mode| mode.shown_by);
    let shown: Vec<&str> = shown.collect();
    assert_eq!(shown.len(), 3);
    for test in shown {
        assert!(tests.contains(&format!("async fn {test}()")), "{test}");
    }
}

#[test]
fn an_unknown_mode_lists_the_known_ones() {
    assert_eq!(table::named(&["middle".into()]).unwrap().len(), 1);
    let error = table::named(&["muddle".into()]).unwrap_err();
    assert!(error.contains("middle"), "{error}");
}
