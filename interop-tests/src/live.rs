//! The bad network in real time: real processes on a wire that delays, loses, narrows and goes
//! dark as in [`crate::weather`], but by this machine's clock. What people would have seen and
//! heard is read out of the recordings of both ends.

pub mod wire;
