//! Descriptors from files and the web.
