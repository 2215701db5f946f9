//! Instants that die with the process, timestamps that outlive it.
