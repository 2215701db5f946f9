//! Suora's relay as a library.

pub mod clock;
pub mod command;
pub mod config;
pub mod control;
pub mod http;
pub mod hub;
pub mod keys;
pub mod metrics;
pub mod serve;
pub mod store;
