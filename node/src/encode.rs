//! DOOR: the encoders, each on a thread of its own.

pub mod h264;
pub mod opus;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use suora_protocol::fault::Fault;
use suora_protocol::media::allot;
use suora_protocol::media::jitter::FRAME;
use suora_protocol::media::{EncodedFrame, Kind};

use crate::capture::{Picture, Sound};
use crate::worker::{Mailbox, Slot, Worker};

/// What the session asks of the encoders while they run.
#[derive(Debug)]
pub struct Control {
    target: AtomicU32,
    sound: AtomicU32,
    loss: AtomicU8,
    silence: AtomicBool,
    keyframe: AtomicBool,
    wanted: AtomicBool,
}

impl Control {
    /// The least target, in bits a second.
    pub const TARGET_MIN: u32 = 30_000;

    /// A control with a first target in bits a second.
    pub fn new(bits_per_second: u32) -> Self {
        Self {
            target: AtomicU32::new(bits_per_second),
            sound: AtomicU32::new(allot::SOUND),
            loss: AtomicU8::new(0),
            silence: AtomicBool::new(false),
            keyframe: AtomicBool::new(false),
            wanted: AtomicBool::new(true),
        }
    }

    /// From now on so many bits a second, at least [`Self::TARGET_MIN`].
    pub fn set_target(&self, bits_per_second: u32) {
        self.target.store(bits_per_second, Ordering::Relaxed);
    }

    /// The target in bits a second.
    pub fn target(&self) -> u32 {
        self.target.load(Ordering::Relaxed).max(Self::TARGET_MIN)
    }

    /// From now on so many bits of sound a second.
    pub fn set_sound(&self, bits_per_second: u32) {
        self.sound.store(bits_per_second, Ordering::Relaxed);
    }

    /// So many per cent of sound get lost: from now on its packets bring redundancy for that.
    pub fn set_loss(&self, percent: u8) {
        self.loss.store(percent, Ordering::Relaxed);
    }

    /// From now on silence is sent like speech.
    pub fn send_silence(&self) {
        self.silence.store(true, Ordering::Relaxed);
    }

    /// The next picture is to be a keyframe.
    pub fn keyframe(&self) {
        self.keyframe.store(true, Ordering::Relaxed);
    }

    /// Whether the camera's next picture is to be encoded: one that had to wait is worth less
    /// than the next.
    pub fn set_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Whether the camera's next picture is to be encoded.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Whether a keyframe was asked for since the last one.
    pub(crate) fn take_keyframe(&self) -> bool {
        self.keyframe.swap(false, Ordering::Relaxed)
    }
}

/// Encodes pictures as H.264 constrained baseline, one slice a picture. Ends when the slot
/// is closed.
pub fn video(
    pictures: Slot<Picture>,
    control: Arc<Control>,
    fps: u32,
    mut out: impl FnMut(EncodedFrame) + Send + 'static,
) -> Result<Worker, Fault> {
    let mut encoder = h264::Encoder::new(fps);
    Worker::start("video encoder", move |stop| {
        while let Some(picture) = pictures.wait() {
            if stop.is_set() {
                return;
            }
            if !control.is_wanted() {
                encoder.skip(picture.captured);
            } else if let Some(frame) = encoder.encode(&picture, &control) {
                out(frame);
            }
        }
    })
}

/// Encodes sound as Opus: 32 kbit/s, less where a way does not carry that, tuned for speech, in-band FEC for the loss that was
/// measured, nothing while nobody speaks unless that is asked for. Ends with the mailbox.
pub fn audio(
    mut sounds: Mailbox<Sound>,
    control: Arc<Control>,
    mut out: impl FnMut(EncodedFrame) + Send + 'static,
) -> Result<Worker, Fault> {
    let mut encoder = opus::Encoder::live()?;
    Worker::start("sound encoder", move |stop| {
        while let Some(sound) = sounds.wait() {
            if stop.is_set() {
                return;
            }
            if control.silence.load(Ordering::Relaxed) {
                encoder.send_silence();
            }
            encoder.set_loss(control.loss.load(Ordering::Relaxed));
            encoder.set_bitrate(control.sound.load(Ordering::Relaxed));
            if let Some(data) = encoder.speak(&sound.samples) {
                out(EncodedFrame {
                    kind: Kind::Audio,
                    captured: sound.captured,
                    data: data.into(),
                    keyframe: true,
                    width: 0,
                    height: 0,
                    duration: FRAME,
                });
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use suora_protocol::limits::SOUND_FRAME;
    use suora_protocol::time::Timestamp;

    use super::*;
    use crate::worker::mailbox;

    #[test]
    fn sound_goes_through_its_thread_in_order() {
        let (post, sounds) = mailbox(8);
        let (encoded, mut frames) = mailbox(8);
        let control = Arc::new(Control::new(0));
        let worker = audio(sounds, control, move |frame| {
            assert!(encoded.post(frame).is_ok());
        })
        .unwrap();
        for n in 0..5 {
            let captured = Timestamp::from_millis(20 * n);
            let samples = vec![0; SOUND_FRAME];
            post.post(Sound { captured, samples }).unwrap();
        }
        drop(post);
        let mut times = Vec::new();
        while let Some(frame) = frames.wait() {
            assert_eq!((frame.kind, frame.duration), (Kind::Audio, FRAME));
            times.push(frame.captured.as_millis());
        }
        drop(worker);
        assert_eq!(times, [0, 20, 40, 60, 80]);
    }

    #[test]
    fn the_target_has_a_floor() {
        let control = Control::new(0);
        assert_eq!(control.target(), Control::TARGET_MIN);
        control.set_target(500_000);
        assert_eq!(control.target(), 500_000);
        control.keyframe();
        assert!(control.take_keyframe() && !control.take_keyframe());
    }
}
