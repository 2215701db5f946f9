//! Nodes and relays with one rule broken, for negative controls. Shipped programs have no
//! such switch: only this crate's program assembles the libraries with a fault.

use std::time::Duration;

/// The names of all faults, for the command line.
pub const NAMES: [&str; 9] = [
    "leak-before-accept",
    "drop-tenth",
    "shift-sound",
    "silence-fifth",
    "classical-only",
    "follow-last",
    "any-invite",
    "unchecked-credential",
    "first-stay",
];

/// The node and the relay that a list of fault names makes. An unknown name is the error.
pub fn parse(names: &[String]) -> Result<(suora_node::Faults, suora_relay::Faults), String> {
    let mut node = suora_node::Faults::default();
    let mut relay = suora_relay::Faults::default();
    for name in names {
        match name.as_str() {
            "leak-before-accept" => node.leak_before_accept = true,
            "drop-tenth" => node.drop_every = Some(10),
            "shift-sound" => node.shift_sound = Duration::from_millis(200),
            "silence-fifth" => node.silence_every = Some(5),
            "classical-only" => node.classical_only = true,
            "follow-last" => node.follow_last = true,
            "any-invite" => node.any_invite = true,
            "unchecked-credential" => relay.unchecked_credential = true,
            "first-stay" => relay.first_stay = true,
            other => return Err(format!("no fault {other}; there are {}", NAMES.join(", "))),
        }
    }
    Ok((node, relay))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_fault_and_nothing_else_is() {
        assert!(parse(&NAMES.map(String::from)).is_ok());
        assert!(parse(&["tidy".into()]).is_err());
    }
}
