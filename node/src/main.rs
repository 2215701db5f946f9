//! The `suora` program.

fn main() {}
