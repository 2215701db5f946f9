//! The Opus decoder: mono, 48 kHz, whatever comes in.

use suora_protocol::fault::{Code, Fault};
use suora_protocol::limits::SOUND_FRAME;

/// Samples of the longest packet, 120 ms.
pub const PACKET_MAX: usize = 5_760;

/// A decoder of one track.
#[derive(Debug)]
pub struct Decoder(opus::Decoder);

impl Decoder {
    /// A decoder of silence so far.
    pub fn new() -> Result<Self, Fault> {
        opus::Decoder::new(48_000, opus::Channels::Mono)
            .map(Self)
            .map_err(|error| Fault::new(Code::Internal).with(format!("Opus decoder: {error}")))
    }

    /// The samples of a packet of any length, stereo mixed to mono; `None` for one that is damaged.
    pub fn any(&mut self, packet: &[u8]) -> Option<Vec<i16>> {
        if packet.is_empty() {
            return None;
        }
        let mut samples = vec![0; PACKET_MAX];
        let len = self.0.decode(packet, &mut samples, false).ok()?;
        samples.truncate(len);
        Some(samples)
    }

    /// The 20 ms before a packet, from its redundancy; concealed where it has none.
    pub fn rebuild(&mut self, next: &[u8]) -> Vec<i16> {
        let mut samples = vec![0; SOUND_FRAME];
        if next.is_empty() || self.0.decode(next, &mut samples, true).is_err() {
            return self.conceal();
        }
        samples
    }

    /// 20 ms that continue what was played.
    pub fn conceal(&mut self) -> Vec<i16> {
        let mut samples = vec![0; SOUND_FRAME];
        if let Err(error) = self.0.decode(&[], &mut samples, false) {
            tracing::debug!(%error, "cannot conceal");
        }
        samples
    }
}
