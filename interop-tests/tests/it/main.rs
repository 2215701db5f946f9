//! Behaviours of whole programs, of the spec, and of the house they live in.

mod blind;
mod consultation;
mod impostor;
mod kill;
mod requirements;
mod vectors;

use std::path::Path;

/// This crate's program, which assembles nodes and relays with faults.
fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_suora-interop"))
}
