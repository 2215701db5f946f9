//! Signed documents.
