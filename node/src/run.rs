//! The only loop.
