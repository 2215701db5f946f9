//! What the relay serves over HTTP.
