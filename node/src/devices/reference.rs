//! What the loudspeaker plays, on its way to the one who takes it out of what the
//! microphone hears.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Samples of a block: 10 ms at 48 kHz.
pub const BLOCK: usize = 480;
/// Blocks that wait: half a second.
const WAITING: usize = 50;

/// A block of sound, mono, −1 to 1.
pub type Block = [f32; BLOCK];

/// The last blocks that were played and not yet taken.
#[derive(Clone, Debug, Default)]
pub struct Reference(Arc<Mutex<VecDeque<Block>>>);

impl Reference {
    fn blocks(&self) -> MutexGuard<'_, VecDeque<Block>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block goes to the loudspeaker; the oldest is forgotten when nobody takes them.
    pub fn put(&self, block: Block) {
        let mut blocks = self.blocks();
        if blocks.len() == WAITING {
            blocks.pop_front();
        }
        blocks.push_back(block);
    }

    /// The next block.
    pub fn take(&self) -> Option<Block> {
        self.blocks().pop_front()
    }
}
