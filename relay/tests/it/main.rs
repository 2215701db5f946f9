//! Behaviours seen from outside the crate.
