//! The `suora` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    suora_node::command::main(suora_node::Faults::default())
}
