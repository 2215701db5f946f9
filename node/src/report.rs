//! The call report.
