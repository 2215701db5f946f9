//! The relay's TOML.
