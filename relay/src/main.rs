//! The `suora-relay` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    suora_relay::command::main(suora_relay::Faults::default())
}
