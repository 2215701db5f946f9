//! PURE: the live status line, from what was verified and from the route in use.

use crate::text::Texts;
use crate::view::View;

/// What the line tells.
#[derive(Debug)]
pub struct Status {
    officer: bool,
}

impl Status {
    /// The line of an officer or of a citizen.
    pub const fn new(officer: bool) -> Self {
        Self { officer }
    }

    /// Something changed.
    pub fn take(&mut self, _: &View) {}

    /// The line.
    pub fn line(&self, _: &Texts) -> String {
        format!("{}", self.officer)
    }
}
