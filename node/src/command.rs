//! The command line.

pub mod keygen;
