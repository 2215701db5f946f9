//! The table of the hostile relay: mode, who refused, code, and the twin without the lie.

use super::{Found, MODES, Mode, run};

/// The seed of the runs that the command prints.
const SEED: u8 = 1;

/// What is wrong with a run of a mode; nothing: it went as it has to.
pub fn wrong(mode: &Mode, found: &Found) -> Vec<String> {
    let mut wrong = found.fooled.clone();
    if found.refused != mode.refused {
        wrong.push(format!(
            "refused by {}, not by {}",
            refusal(found.refused),
            refusal(mode.refused)
        ));
    }
    if found.completed != mode.completes {
        wrong.push(format!(
            "the consultation {}",
            if found.completed {
                "completed"
            } else {
                "did not complete"
            }
        ));
    }
    wrong
}

/// What is wrong with a twin: without the lie nobody refuses, and the consultation completes.
pub fn wrong_twin(found: &Found) -> Vec<String> {
    let twin = Mode {
        refused: None,
        completes: true,
        ..MODES[0]
    };
    wrong(&twin, found)
}

fn refusal(refused: Option<(super::Who, suora_protocol::fault::Code)>) -> String {
    refused.map_or_else(
        || "nobody".into(),
        |(who, code)| format!("{} with {code}", who.as_str()),
    )
}

/// Runs these modes and their twins, and prints the table. What went wrong, line by line.
pub fn print(modes: &[&Mode]) -> Vec<String> {
    println!(
        "{:<19} {:<15} {:<18} {:<12} {:<9} lie: the relay …",
        "mode", "refused by", "code", "consultation", "twin"
    );
    let mut faults = Vec::new();
    for mode in modes {
        let (found, twin) = (run(mode, true, SEED), run(mode, false, SEED));
        let (who, code) = found.refused.map_or(("nobody", "–"), |(who, code)| {
            (who.as_str(), code.as_str())
        });
        let ended = |found: &Found| match found.completed {
            true => "completed",
            false => "none",
        };
        // not a line of an engine refused it
        let mark = if mode.shown_by.is_some() { "*" } else { "" };
        println!(
            "{:<19} {:<15} {code:<18} {:<12} {:<9} {}",
            mode.name,
            format!("{who}{mark}"),
            ended(&found),
            ended(&twin),
            mode.lie
        );
        let name = mode.name;
        faults.extend(
            wrong(mode, &found)
                .iter()
                .map(|what| format!("{name}: {what}")),
        );
        let twin = wrong_twin(&twin);
        faults.extend(twin.iter().map(|what| format!("{name}, twin: {what}")));
    }
    if modes.iter().any(|mode| mode.shown_by.is_some()) {
        println!(
            "* below the engine, by its socket or TLS: here by the contract of these worlds' \
             connections, on real endpoints by node/tests/it/endpoint.rs:"
        );
        for mode in modes {
            if let Some(test) = mode.shown_by {
                println!("  {:<19} {test}", mode.name);
            }
        }
    }
    faults
}

/// The modes of these names; an unknown one is the error, which lists them.
pub fn named(names: &[String]) -> Result<Vec<&'static Mode>, String> {
    names
        .iter()
        .map(|name| {
            MODES.iter().find(|mode| mode.name == name).ok_or_else(|| {
                let all: Vec<_> = MODES.iter().map(|mode| mode.name).collect();
                format!("no mode {name}; there are {}", all.join(", "))
            })
        })
        .collect()
}
