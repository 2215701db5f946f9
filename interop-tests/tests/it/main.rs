//! The tests of the whole: what no crate can show alone.

mod requirements;
mod vectors;
