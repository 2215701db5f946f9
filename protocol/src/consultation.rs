//! What is said inside a session.
