//! The `suora-relay` program.

fn main() {}
