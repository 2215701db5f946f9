//! A bad network on virtual time: two ends with the protocol's media machines and quinn's
//! own protocol core, and a wire between them that delays, loses, narrows and goes dark.
//! The same seed gives the same run.

pub mod day;
pub mod end;
pub mod judged;
pub mod line;
pub mod table;
pub mod voice;
pub mod wire;
