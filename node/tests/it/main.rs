//! Behaviours seen from outside the crate.

mod fetch;
mod link;
mod remote;
