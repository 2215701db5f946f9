//! Suora's protocol: documents, messages, machines. Pure: no clock, socket, thread or entropy inside.

pub mod consultation;
pub mod desk;
pub mod documents;
pub mod fault;
pub mod finding;
pub mod identity;
pub mod limits;
#[cfg(feature = "media")]
pub mod media;
pub mod quality;
pub mod redact;
pub mod time;
pub mod wire;
