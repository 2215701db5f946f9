//! The node's clock.
