//! Threads, slots and mailboxes.
