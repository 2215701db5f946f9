//! The `suora-interop` program.

fn main() {}
