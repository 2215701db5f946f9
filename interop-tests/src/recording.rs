//! Reads recordings.
