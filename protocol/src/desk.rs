//! Both ends of a desk, as their nodes see it (`spec/desk.md`): the citizen's ticket
//! and the officer's offer. The hub of the relay is the third, in its own crate.

pub mod citizen;
pub mod officer;
