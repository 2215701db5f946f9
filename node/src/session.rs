//! One task a session.
