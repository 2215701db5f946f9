//! Behaviours seen from outside the crate.

#[cfg(feature = "devices")]
mod devices;
mod endpoint;
mod fetch;
mod link;
mod printed;
mod private;
mod relayed;
mod remote;
mod turn;
