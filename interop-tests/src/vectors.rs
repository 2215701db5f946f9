//! Makes and checks vectors.
