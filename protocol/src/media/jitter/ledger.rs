//! What became of a track's time.

use std::time::Duration;

/// How much sound of which kind was played since the first packet. Their sum without
/// `faster`, `slower` and `skipped`, which are about these, is the time since then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    /// From packets, as long as they were before stretching.
    pub played: Duration,
    /// From the redundancy of the next packet.
    pub rebuilt: Duration,
    /// Made up, in place of sound that was lost or too late.
    pub concealed: Duration,
    /// Nobody sent any: pauses.
    pub quiet: Duration,
    /// Time saved by playing faster.
    pub faster: Duration,
    /// Time won by playing slower.
    pub slower: Duration,
    /// Sound that came far too late, or of which there was far too much, and was let go.
    pub skipped: Duration,
}

impl Ledger {
    /// Everything that was heard in place of the other end's sound or as it: all but pauses.
    pub fn heard(&self) -> Duration {
        self.played + self.rebuilt + self.concealed
    }

    /// The share that was made up, 0 to 1; 0 where nothing was heard.
    pub fn made_up(&self) -> f64 {
        let heard = self.heard().as_secs_f64();
        if heard > 0.0 {
            self.concealed.as_secs_f64() / heard
        } else {
            0.0
        }
    }

    /// What was taken for a pause was lost sound.
    pub(super) fn was_lost(&mut self, time: Duration) {
        let time = time.min(self.quiet);
        self.quiet -= time;
        self.concealed += time;
    }

    /// What was taken for lost sound was a pause.
    pub(super) fn was_pause(&mut self, time: Duration) {
        let time = time.min(self.concealed);
        self.concealed -= time;
        self.quiet += time;
    }
}
