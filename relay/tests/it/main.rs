//! Behaviours seen from outside the crate.

mod agency;
mod desk;
mod durable;
mod officers;
mod stage;
