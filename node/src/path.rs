//! Ways between two sockets.
