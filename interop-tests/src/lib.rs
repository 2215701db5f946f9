//! Suora's interoperability tests: the simulated world, real processes and their
//! recordings, vectors and requirements of the specification, and the rules of the house.

pub mod bench;
pub mod cpu;
pub mod durable;
pub mod evil;
pub mod faults;
pub mod figures;
pub mod film;
pub mod flood;
pub mod fuzz;
pub mod house;
pub mod lab;
pub mod live;
pub mod peer;
pub mod recording;
pub mod relaying;
pub mod repeater;
pub mod requirements;
pub mod rig;
pub mod soak;
pub mod speech;
pub mod traces;
pub mod vectors;
pub mod weather;
pub mod world;
