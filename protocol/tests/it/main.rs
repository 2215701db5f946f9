//! Behaviours seen from outside the crate.

mod clock;
mod media;
mod session;
