//! Counters without people.
