//! PURE: whether the other end is still heard (`spec/session.md`, section 5).

use std::time::Instant;

use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits;

/// Packets heard, and since when it is so many.
#[derive(Clone, Copy, Debug)]
pub struct Alive {
    packets: u64,
    since: Instant,
}

impl Alive {
    /// Nothing was heard yet.
    pub const fn new(now: Instant) -> Self {
        Self {
            packets: 0,
            since: now,
        }
    }

    /// How long nothing was heard when this was last asked, in ms, of so many packets now.
    pub fn silent_ms(&self, now: Instant, packets: u64) -> u32 {
        let silent = if packets == self.packets {
            now.saturating_duration_since(self.since).as_millis()
        } else {
            0
        };
        u32::try_from(silent).unwrap_or(u32::MAX)
    }

    /// So many packets were heard so far. Silence over the bound is [`Code::PeerSilent`]:
    /// two who talk wait out a tunnel, one who waits for the accept does not.
    pub fn heard(&mut self, now: Instant, packets: u64, accepted: bool) -> Result<(), Fault> {
        if packets != self.packets {
            *self = Self {
                packets,
                since: now,
            };
        }
        let bound = if accepted {
            limits::SILENCE
        } else {
            limits::WARM_SILENCE
        };
        if now.saturating_duration_since(self.since) < bound {
            return Ok(());
        }
        let detail = format!("nothing came for {} seconds", bound.as_secs());
        Err(Fault::new(Code::PeerSilent).with(detail))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "door: the base of virtual time in tests"
    )]
    fn base() -> Instant {
        Instant::now()
    }

    // covers: SUORA-SES-006
    #[test]
    fn a_warm_session_ends_after_ten_silent_seconds_and_a_consultation_after_sixty() {
        let start = base();
        let secs = |secs| start + Duration::from_secs(secs);
        let mut alive = Alive::new(start);
        assert_eq!(alive.heard(secs(9), 0, false), Ok(()));
        assert_eq!(alive.heard(secs(12), 1, false), Ok(()));
        assert_eq!(alive.heard(secs(21), 1, false), Ok(()));
        let silent = alive.heard(secs(22), 1, false);
        assert_eq!(silent.map_err(|f| f.code), Err(Code::PeerSilent));
        assert_eq!(alive.heard(secs(71), 1, true), Ok(()));
        assert!(alive.heard(secs(72), 1, true).is_err());
        assert_eq!(alive.silent_ms(secs(72), 1), 60_000);
        assert_eq!(alive.silent_ms(secs(72), 2), 0);
    }
}
