//! Whose fault it is, and the code it closes with.
