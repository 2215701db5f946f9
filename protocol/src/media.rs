//! Sound and picture on the wire.
