//! Behaviours seen from outside the crate.

mod house;
mod world;
