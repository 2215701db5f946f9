//! The paths of a node (`spec/setup.md`, section 4). QUIC sees one virtual address a
//! session; [`routes`] knows which real addresses stand behind it, [`socket`] is the
//! door. In this version a path is one of the addresses that the invite lists.

pub mod routes;
pub mod socket;
