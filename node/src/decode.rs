//! DOOR: the decoders, each on a thread of its own: what is due comes in order, what was
//! decoded goes to the [`Sink`], and what happened to the session as [`Event`]s.

pub mod h264;
pub mod opus;

use suora_protocol::fault::Fault;
use suora_protocol::limits::SOUND_FRAME;
use suora_protocol::media::{jitter, playout};
use suora_protocol::time::Timestamp;

use crate::clock::Clock;
use crate::play::{Event, Sink, SoundKind};
use crate::worker::{Mailbox, Post, Worker};

/// What the session pulled out of the jitter buffer for 20 ms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot20 {
    /// What to play.
    pub sound: jitter::Sound,
    /// When these 20 ms are heard.
    pub at: Timestamp,
}

/// Decodes pictures and hands them to the sink. A picture that cannot be decoded is
/// [`Event::Undecodable`]; nothing is shown from then to the next keyframe. Ends with the
/// mailbox.
pub fn video(
    mut due: Mailbox<playout::Due>,
    sink: Sink,
    clock: Clock,
    events: Post<Event>,
) -> Result<Worker, Fault> {
    let mut decoder = h264::Decoder::new()?;
    Worker::start("video decoder", move |stop| {
        while let Some(playout::Due { frame, show }) = due.wait() {
            if stop.is_set() {
                return;
            }
            match decoder.decode(&frame.data, frame.keyframe) {
                Ok(Some(picture)) => {
                    let (width, height) = picture.size();
                    let at = clock.now().utc;
                    tell(
                        &events,
                        Event::Shown {
                            captured: frame.captured,
                            at,
                            width,
                            height,
                            show,
                        },
                    );
                    if let Err(fault) = sink.picture(frame, at, show) {
                        tell(&events, Event::Failed(fault));
                    }
                }
                Ok(None) => {}
                Err(h264::Undecodable) => tell(&events, Event::Undecodable),
            }
        }
    })
}

/// Decodes sound and hands it to the sink. A packet that cannot be decoded is concealed.
/// Ends with the mailbox.
pub fn audio(mut slots: Mailbox<Slot20>, sink: Sink, events: Post<Event>) -> Result<Worker, Fault> {
    let mut decoder = opus::Decoder::new()?;
    Worker::start("sound decoder", move |stop| {
        while let Some(Slot20 { sound, at }) = slots.wait() {
            if stop.is_set() {
                return;
            }
            let (samples, captured, kind) = decode(&mut decoder, &sound);
            tell(&events, Event::Played { captured, at, kind });
            if let Err(fault) = sink.sound(samples, at, kind) {
                tell(&events, Event::Failed(fault));
            }
        }
    })
}

fn decode(
    decoder: &mut opus::Decoder,
    sound: &jitter::Sound,
) -> (Vec<i16>, Option<Timestamp>, SoundKind) {
    match sound {
        jitter::Sound::Packet { captured, data } => match decoder.packet(data) {
            Some(samples) => (samples, Some(*captured), SoundKind::Packet),
            None => (decoder.conceal(), None, SoundKind::Concealed),
        },
        jitter::Sound::Fec { data } => (decoder.rebuild(data), None, SoundKind::Concealed),
        jitter::Sound::Conceal => (decoder.conceal(), None, SoundKind::Concealed),
        jitter::Sound::Silence => (vec![0; SOUND_FRAME], None, SoundKind::Silence),
    }
}

/// Nobody blocks who posts: a session that does not read its events loses them.
fn tell(events: &Post<Event>, event: Event) {
    if let Err(event) = events.post(event)
        && !events.is_closed()
    {
        tracing::warn!(?event, "the session does not read its events");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use suora_protocol::media::EncodedFrame;

    use super::*;
    use crate::capture::{Picture, pattern};
    use crate::encode::{Control, h264::Encoder, opus::Encoder as Sounds};
    use crate::worker::mailbox;

    fn frames(count: u64) -> Vec<EncodedFrame> {
        let pattern = pattern::Pattern::new(320, 180, 30);
        let control = Control::new(300_000);
        let mut encoder = Encoder::new(30);
        (0..count)
            .filter_map(|n| {
                encoder.encode(
                    &Picture {
                        captured: Timestamp::from_millis(i64::try_from(n).unwrap() * 33),
                        width: 320,
                        height: 180,
                        data: pattern.draw(n),
                    },
                    &control,
                )
            })
            .collect()
    }

    fn run(frames: Vec<EncodedFrame>) -> Vec<Event> {
        let (due, waiting) = mailbox(frames.len());
        let (events, mut told) = mailbox(2 * frames.len());
        let worker = video(waiting, Sink::none(), Clock::start(), events).unwrap();
        for frame in frames {
            due.post(playout::Due { frame, show: true }).unwrap();
        }
        drop(due);
        let mut all = Vec::new();
        while let Some(event) = told.wait() {
            all.push(event);
        }
        drop(worker);
        all
    }

    #[test]
    fn every_picture_is_shown_once_and_in_order() {
        let frames = frames(20);
        let shown: Vec<_> = run(frames.clone())
            .into_iter()
            .map(|event| match event {
                Event::Shown {
                    captured,
                    width: 320,
                    height: 180,
                    show: true,
                    ..
                } => captured,
                event => panic!("{event:?}"),
            })
            .collect();
        assert_eq!(
            shown,
            frames
                .iter()
                .map(|frame| frame.captured)
                .collect::<Vec<_>>()
        );
    }

    // covers: SUORA-MED-008
    #[test]
    fn after_a_broken_picture_nothing_is_shown_until_the_next_keyframe() {
        let mut frames = frames(30);
        let again = self::frames(1).remove(0);
        frames[10].data = Bytes::from_static(&[0, 0, 0, 1, 0x41, 0xff, 0xff]);
        frames.push(again);
        let events = run(frames);
        let undecodable = events
            .iter()
            .filter(|event| **event == Event::Undecodable)
            .count();
        assert_eq!((undecodable, events.len()), (1, 12));
        assert_eq!(events[10], Event::Undecodable);
    }

    #[test]
    fn a_missing_picture_is_never_smeared_over() {
        let mut frames = frames(30);
        frames.remove(10);
        let events = run(frames);
        assert_eq!(events.len(), 11, "{events:?}");
        assert_eq!(events[10], Event::Undecodable);
    }

    #[test]
    fn garbage_is_undecodable_and_does_no_harm() {
        let mut frames = frames(3);
        for (at, frame) in frames.iter_mut().enumerate() {
            frame.data = vec![at as u8; 3_000].into();
            frame.keyframe = true;
        }
        assert!(run(frames).iter().all(|event| *event == Event::Undecodable));
    }

    #[test]
    fn sound_is_what_its_slot_says() {
        let mut encoder = Sounds::new().unwrap();
        let packet =
            |n, encoder: &mut Sounds| Bytes::from(encoder.encode(&pattern::beep(n)).unwrap());
        let packets: Vec<_> = (0..4).map(|n| packet(n, &mut encoder)).collect();
        let at = |n: i64| Timestamp::from_millis(20 * n);
        let whole = |n: usize| jitter::Sound::Packet {
            captured: at(n as i64 - 5),
            data: packets[n].clone(),
        };
        let sounds = [
            jitter::Sound::Silence,
            whole(0),
            whole(1),
            jitter::Sound::Fec {
                data: packets[3].clone(),
            },
            whole(3),
            jitter::Sound::Conceal,
            jitter::Sound::Packet {
                captured: at(9),
                data: Bytes::from_static(&[0xff; 40]),
            },
        ];
        let (post, slots) = mailbox(8);
        let (events, mut told) = mailbox(8);
        let worker = audio(slots, Sink::none(), events).unwrap();
        for (n, sound) in sounds.into_iter().enumerate() {
            let at = at(n as i64);
            post.post(Slot20 { sound, at }).unwrap();
        }
        drop(post);
        let mut kinds = Vec::new();
        while let Some(Event::Played { captured, kind, .. }) = told.wait() {
            assert_eq!(captured.is_some(), kind == SoundKind::Packet);
            kinds.push(kind);
        }
        drop(worker);
        use SoundKind::{Concealed, Packet, Silence};
        assert_eq!(
            kinds,
            [
                Silence, Packet, Packet, Concealed, Packet, Concealed, Concealed
            ]
        );
    }

    #[test]
    fn a_decoder_ends_while_nobody_reads_its_events() {
        let (due, waiting) = mailbox(4);
        let (events, _told) = mailbox(1);
        let worker = video(waiting, Sink::none(), Clock::start(), events).unwrap();
        for frame in frames(3) {
            due.post(playout::Due { frame, show: true }).unwrap();
        }
        drop(due);
        drop(worker);
    }
}
