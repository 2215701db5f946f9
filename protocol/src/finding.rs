//! What a program finds when it looks at its own set-up (`suora doctor`,
//! `suora-relay doctor`): one [`Finding`] a check, which the texts of its program turn into
//! something that is [`Said`] to people, and to other programs as JSON.

use std::fmt;

use serde::Serialize;

use crate::fault::{Code, Fault};

/// How a check stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Good,
    /// It works, and something should be done soon.
    Warning,
    /// It does not work, or is not safe.
    Bad,
}

/// The outcome of one check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What was looked at, by its name in the texts.
    pub check: &'static str,
    /// How it stands.
    pub state: State,
    /// What is wrong; none where all is good.
    pub fault: Option<Fault>,
    /// What the sentence names.
    pub values: Vec<(&'static str, String)>,
}

impl Finding {
    const fn new(check: &'static str, state: State, fault: Option<Fault>) -> Self {
        let values = Vec::new();
        Self {
            check,
            state,
            fault,
            values,
        }
    }

    /// All is well.
    pub const fn good(check: &'static str) -> Self {
        Self::new(check, State::Good, None)
    }

    /// It works, and something should be done soon.
    pub const fn warning(check: &'static str, fault: Fault) -> Self {
        Self::new(check, State::Warning, Some(fault))
    }

    /// It does not work, or is not safe.
    pub const fn bad(check: &'static str, fault: Fault) -> Self {
        Self::new(check, State::Bad, Some(fault))
    }

    /// Good, or bad with its fault.
    pub fn of<T>(check: &'static str, result: &Result<T, Fault>) -> Self {
        match result {
            Ok(_) => Self::good(check),
            Err(fault) => Self::bad(check, fault.clone()),
        }
    }

    /// The same finding with something that its sentence names.
    #[must_use]
    pub fn naming(mut self, name: &'static str, value: impl ToString) -> Self {
        self.values.push((name, value.to_string()));
        self
    }

    /// The id of its sentence among the texts: `doctor-<check>`, and behind it the state
    /// unless all is good.
    pub fn id(&self) -> String {
        match self.state {
            State::Good => format!("doctor-{}", self.check),
            State::Warning => format!("doctor-{}-warning", self.check),
            State::Bad => format!("doctor-{}-bad", self.check),
        }
    }

    /// What people are told of it.
    pub fn said(&self, sentence: String, next: Option<String>) -> Said {
        Said {
            check: self.check,
            state: self.state,
            code: self.fault.as_ref().map(|fault| fault.code),
            sentence,
            next: next.filter(|_| self.state != State::Good),
            detail: self.fault.as_ref().and_then(|fault| fault.detail.clone()),
        }
    }
}

/// A finding in a language. `check` and `state` name it to other programs, whatever the language;
/// where something is wrong, `code` says of the registry's codes which.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Said {
    /// What was looked at: a short name that stays the same.
    pub check: &'static str,
    /// How it stands.
    pub state: State,
    /// The registry's code of what is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// One plain sentence.
    pub sentence: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What exactly was found, for the one who mends it; English.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A mark and the sentence; below it what exactly was found and what to do.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.state {
            State::Good => "ok",
            State::Warning => "!",
            State::Bad => "!!",
        };
        write!(f, "{mark:<3}{}", self.sentence)?;
        if let Some(code) = self.code {
            write!(f, " [{code}]")?;
        }
        for line in [&self.detail, &self.next].into_iter().flatten() {
            write!(f, "\n   {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_said_in_lines_and_good_ones_ask_for_nothing() {
        let fault = Fault::new(Code::BadKeyFile).with("a.key: damaged");
        let bad = Finding::bad("key", fault);
        assert_eq!(bad.id(), "doctor-key-bad");
        let said = bad.said(
            "The key file is damaged.".into(),
            Some("Restore it.".into()),
        );
        assert_eq!(
            said.to_string(),
            "!! The key file is damaged. [bad-key-file]\n   a.key: damaged\n   Restore it."
        );
        let good = Finding::of("key", &Ok(()));
        assert_eq!(good.id(), "doctor-key");
        let said = good.said("The key is good.".into(), Some("-".into()));
        assert_eq!(said.to_string(), "ok The key is good.");
        assert!(State::Good < State::Warning && State::Warning < State::Bad);
    }
}
