//! What two ends tell each other of their paths, inside the session (`spec/setup.md`,
//! section 6): ICE creds and candidates. It is all that the sender has: a later message of the
//! same generation replaces the list, one of a higher generation begins anew.

use serde::{Deserialize, Serialize};

use crate::fault::{Code, Fault};
use crate::limits::CANDIDATES_MAX;

/// Creds and candidates of one end.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// Counts from 0; a higher one restarts all checks.
    pub generation: u32,
    /// 4 to 32 characters of RFC 8445's alphabet.
    pub ufrag: String,
    /// 22 to 64 of them.
    pub pwd: String,
    /// At most 16.
    pub candidates: Vec<Candidate>,
    /// Whether no more come unless something changes.
    pub end: bool,
}

/// Creds stay out of logs.
impl std::fmt::Debug for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Path")
            .field("generation", &self.generation)
            .field("candidates", &self.candidates.len())
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// An address where the sender may be reached.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// How it was found.
    pub kind: Kind,
    /// `192.0.2.1:4433` or `[2001:db8::1]:4433`.
    pub address: String,
}

/// Addresses stay out of logs.
impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Candidate({:?})", self.kind)
    }
}

/// How an address was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Of an own interface.
    Host,
    /// As a server sees it.
    Reflexive,
    /// Of an allocation on a relay.
    Relayed,
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Path {
    /// Creds or a list out of bounds are [`Code::ProtocolViolation`], of the sender.
    pub fn check(&self) -> Result<(), Fault> {
        let fits = |text: &str, least: usize, most: usize| {
            (least..=most).contains(&text.len())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        };
        if fits(&self.ufrag, 4, 32)
            && fits(&self.pwd, 22, 64)
            && self.candidates.len() <= CANDIDATES_MAX
        {
            Ok(())
        } else {
            Err(Fault::new(Code::ProtocolViolation).with("creds or candidates out of bounds"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::guest::{FromHost, ToHost};
    use crate::wire::{Framer, decode, encode};

    fn path() -> Path {
        Path {
            generation: 0,
            ufrag: "abCD".into(),
            pwd: "0123456789abcdefABCDEF".into(),
            candidates: vec![Candidate {
                kind: Kind::Relayed,
                address: "192.0.2.1:49152".into(),
            }],
            end: true,
        }
    }

    // covers: SUORA-SET-206
    #[test]
    fn creds_and_lists_out_of_bounds_are_the_senders_fault() {
        assert_eq!(path().check(), Ok(()));
        let with = |change: &dyn Fn(&mut Path)| {
            let mut path = path();
            change(&mut path);
            path.check().map_err(|fault| fault.code)
        };
        let violation = Err(Code::ProtocolViolation);
        assert_eq!(with(&|path| path.ufrag = "abc".into()), violation);
        assert_eq!(with(&|path| path.ufrag = "a".repeat(33)), violation);
        assert_eq!(with(&|path| path.pwd = "0".repeat(21)), violation);
        assert_eq!(with(&|path| path.pwd = "0".repeat(65)), violation);
        assert_eq!(with(&|path| path.ufrag = "ab:cd".into()), violation);
        let many = |path: &mut Path| path.candidates = vec![path.candidates[0].clone(); 17];
        assert_eq!(with(&many), violation);
    }

    // covers: SUORA-SET-206
    #[test]
    fn both_ends_say_it_alike_and_nothing_of_it_is_printed() {
        let framed = encode(&ToHost::Path(path())).unwrap();
        assert_eq!(framed, encode(&FromHost::Path(path())).unwrap());
        let mut framer = Framer::new();
        framer.push(&framed);
        let body = framer.next_message().unwrap().unwrap();
        assert_eq!(decode(&body), Ok(ToHost::Path(path())));
        let shown = format!("{:?} {:?}", path(), path().candidates);
        for hidden in ["abCD", "0123456789", "192.0.2.1"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }
}
