//! Keys and the names made of them.
