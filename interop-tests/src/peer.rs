//! Drives a node or relay.
