//! Behaviours seen from outside the crate.

mod clock;
mod media;
mod pictures;
mod session;
