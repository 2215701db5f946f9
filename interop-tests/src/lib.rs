//! Suora's interoperability tests.

pub mod faults;
pub mod house;
pub mod peer;
pub mod recording;
pub mod requirements;
pub mod vectors;
pub mod world;
