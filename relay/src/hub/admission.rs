//! How often somebody may speak: a token bucket a link, fed by the hub's time.

use std::time::Instant;

use suora_protocol::limits;

/// Tokens of one link.
#[derive(Debug)]
pub struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(now: Instant) -> Self {
        Self {
            tokens: f64::from(limits::LINK_BURST),
            at: now,
        }
    }

    /// Takes one token; false when there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens =
            (self.tokens + since * f64::from(limits::LINK_RATE)).min(f64::from(limits::LINK_BURST));
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}
