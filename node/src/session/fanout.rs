//! A participant's own sound and picture → each session that may have it. Capture and
//! encoders run from the session's beginning, so that accept finds them warm; who may
//! send what is the uplink's gate, not this room's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use suora_protocol::fault::Fault;
use suora_protocol::media::{EncodedFrame, Kind};

use crate::capture::{Capture, Source};
use crate::clock::Clock;
use crate::devices::reference::Reference;
use crate::devices::watch::Notice;
use crate::encode::{self, Control};
use crate::worker::{Mailbox, Post, Worker, mailbox};

/// Encoded pictures that a session has not yet taken.
const PICTURES: usize = 2;
/// Encoded sound that a session has not yet taken, in 20 ms each.
const SOUNDS: usize = 8;

#[derive(Debug)]
struct Seat {
    video: Post<EncodedFrame>,
    audio: Post<EncodedFrame>,
    /// A picture found no room: those that refer to it are of no use.
    gap: bool,
}

type Seats = Arc<Mutex<Vec<Seat>>>;

fn lock(seats: &Seats) -> MutexGuard<'_, Vec<Seat>> {
    seats.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Our own sound and picture, for any number of sessions.
#[derive(Clone, Debug)]
pub struct Fanout {
    seats: Seats,
    control: Arc<Control>,
}

/// Capture and encoders; they stop when this is dropped, which waits for their threads.
#[derive(Debug)]
pub struct Studio {
    fanout: Fanout,
    // capture ends first: the encoders wait for its pictures and sounds
    _capture: Capture,
    _encoders: Vec<Worker>,
}

impl Studio {
    /// Starts capture and encoders. What happens to devices goes to `notices`; `played` is
    /// what the loudspeaker says meanwhile.
    pub fn start(
        source: &Source,
        (fps, bitrate): (u32, u32),
        clock: Clock,
        notices: &Post<Notice>,
        played: &Reference,
    ) -> Result<Self, Fault> {
        let mut capture = source.start(clock, notices, played)?;
        let sounds = std::mem::replace(&mut capture.sounds, mailbox(1).1);
        let fanout = Fanout {
            seats: Seats::default(),
            control: Arc::new(Control::new(bitrate)),
        };
        let (video, audio) = (fanout.clone(), fanout.clone());
        let encoders = vec![
            encode::video(
                capture.pictures.clone(),
                fanout.control.clone(),
                fps,
                move |frame| video.give(&frame),
            )?,
            encode::audio(sounds, fanout.control.clone(), move |frame| {
                audio.give(&frame)
            })?,
        ];
        Ok(Self {
            fanout,
            _capture: capture,
            _encoders: encoders,
        })
    }

    /// Where sessions take frames from.
    pub fn fanout(&self) -> Fanout {
        self.fanout.clone()
    }
}

impl Fanout {
    /// The picture encoder's knobs.
    pub fn control(&self) -> Arc<Control> {
        self.control.clone()
    }

    /// A seat for a session: its pictures and its sound. It falls when both are dropped.
    pub fn subscribe(&self) -> (Mailbox<EncodedFrame>, Mailbox<EncodedFrame>) {
        let (video, pictures) = mailbox(PICTURES);
        let (audio, sounds) = mailbox(SOUNDS);
        lock(&self.seats).push(Seat {
            video,
            audio,
            gap: false,
        });
        (pictures, sounds)
    }

    fn give(&self, frame: &EncodedFrame) {
        let mut seats = lock(&self.seats);
        seats.retain(|seat| !seat.video.is_closed());
        for seat in seats.iter_mut() {
            match frame.kind {
                // sound that finds no room is late: the next is better
                Kind::Audio => drop(seat.audio.post(frame.clone())),
                Kind::Video if seat.gap && !frame.keyframe => {}
                Kind::Video => {
                    seat.gap = seat.video.post(frame.clone()).is_err();
                    if seat.gap {
                        self.control.keyframe();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use suora_protocol::time::Timestamp;

    use super::*;

    fn picture(keyframe: bool) -> EncodedFrame {
        EncodedFrame {
            kind: Kind::Video,
            captured: Timestamp::default(),
            data: bytes::Bytes::new(),
            keyframe,
            width: 0,
            height: 0,
            duration: Duration::from_millis(33),
        }
    }

    #[test]
    fn after_a_picture_without_room_nothing_passes_before_a_keyframe() {
        let fanout = Fanout {
            seats: Seats::default(),
            control: Arc::new(Control::new(600_000)),
        };
        let (mut pictures, _sounds) = fanout.subscribe();
        fanout.give(&picture(true));
        fanout.give(&picture(false));
        fanout.give(&picture(false));
        assert!(pictures.take().is_some() && pictures.take().is_some());
        fanout.give(&picture(false));
        assert!(pictures.take().is_none());
        fanout.give(&picture(true));
        assert!(pictures.take().is_some_and(|frame| frame.keyframe));
    }
}
