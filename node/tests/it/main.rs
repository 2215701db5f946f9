//! Behaviours seen from outside the crate.

mod endpoint;
mod fetch;
mod link;
mod remote;
