//! JSON lines on a local socket.
