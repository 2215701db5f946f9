//! DOOR: the relay's own listeners beneath libp2p: STUN and TURN over UDP.

pub mod batch;
pub mod probe;
pub mod udp;
