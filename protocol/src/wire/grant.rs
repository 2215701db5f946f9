//! A grant: with this a node may use its relay's TURN (RFC 8656) for one consultation
//! (`spec/desk.md`, section 7).

use serde::{Deserialize, Serialize};

use crate::fault::{Code, Fault};
use crate::limits;

/// A TURN user for one consultation, after the scheme that is known as TURN REST.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// `<end>:<pair>`: seconds since 1970, and 32 hex digits that both ends of a consultation share.
    pub user: String,
    /// Its password: base64 of an HMAC-SHA-1 over the user.
    pub password: String,
    /// The realm of the relay's TURN.
    pub realm: String,
    /// A nonce that it takes, so that the first request is authenticated.
    pub nonce: String,
    /// How long it holds, in seconds from when it came.
    pub lasts_s: u64,
    /// Where: RFC 7065 URIs, the best first; [`limits::TURN_MAX`] at most.
    pub servers: Vec<String>,
}

impl Grant {
    /// Whether everything is within its bounds; else [`Code::Malformed`].
    pub fn check(&self) -> Result<(), Fault> {
        let texts = [&self.user, &self.password, &self.realm, &self.nonce];
        let short = |text: &String| (1..=limits::TEXT_MAX).contains(&text.len());
        let listed = (1..=limits::TURN_MAX).contains(&self.servers.len());
        if texts.into_iter().chain(&self.servers).all(short) && listed && self.lasts_s > 0 {
            Ok(())
        } else {
            Err(Fault::new(Code::Malformed).with("a grant over its bounds"))
        }
    }
}

/// Password and pair are no text for a log.
impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grant({} s)", self.lasts_s)
    }
}
