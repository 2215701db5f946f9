//! The status line.
