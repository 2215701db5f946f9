//! DOOR: the decoders, each on a thread of its own: what is due comes in order, what was
//! decoded goes to the [`Sink`], and what happened to the session as [`Event`]s.

pub mod h264;
pub mod noise;
pub mod opus;
pub mod player;
pub mod stretch;

use suora_protocol::fault::Fault;
use suora_protocol::media::playout;
use suora_protocol::media::receiver::AudioPacket;
use suora_protocol::time::Now;

use self::player::{Block, Player};
use crate::clock::Clock;
use crate::play::{Event, Sink};
use crate::worker::{Mailbox, Post, Worker};

/// What the session tells the thread of sound.
#[derive(Clone, Debug)]
pub enum Hear {
    /// A packet came.
    Packet(Now, AudioPacket),
    /// 20 ms are played from now on.
    Play(Now),
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

/// Plays sound into the sink, 20 ms whenever it is told to. Ends with the mailbox.
pub fn audio(mut heard: Mailbox<Hear>, sink: Sink, events: Post<Event>) -> Result<Worker, Fault> {
    let mut player = Player::new()?;
    Worker::start("sound decoder", move |stop| {
        while let Some(hear) = heard.wait() {
            if stop.is_set() {
                return;
            }
            let now = match hear {
                Hear::Packet(now, packet) => {
                    player.push(now, packet);
                    continue;
                }
                Hear::Play(now) => now,
            };
            let Block {
                samples,
                captured,
                kind,
            } = player.pull(now);
            // the ear hears it once the loudspeaker has played what waits before it
            let (at, ledger) = (now.utc + sink.delay(), player.ledger());
            tell(
                &events,
                Event::Played {
                    captured,
                    at,
                    kind,
                    ledger,
                },
            );
            if let Err(fault) = sink.sound(samples, at, kind) {
                tell(&events, Event::Failed(fault));
            }
        }
    })
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
    use suora_protocol::media::jitter::{self, Ledger};
    use suora_protocol::time::Timestamp;

    use super::*;
    use crate::capture::{Picture, pattern};
    use crate::encode::{Control, h264::Encoder, opus::Encoder as Sounds};
    use crate::play::SoundKind;
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
    fn sound_is_played_by_its_thread_in_the_order_of_what_it_is_told() {
        let mut encoder = Sounds::new().unwrap();
        let start = Clock::start().now();
        let (post, heard) = mailbox(128);
        let (events, mut told) = mailbox(128);
        let worker = audio(heard, Sink::none(), events).unwrap();
        for n in 0..50_u32 {
            let now = start.after(jitter::FRAME * n);
            let data = encoder.encode(&pattern::beep(n.into())).unwrap().into();
            let (sequence, captured) = (n.into(), now.utc);
            let packet = AudioPacket {
                sequence,
                captured,
                data,
            };
            // the last ones do not come
            if n < 40 {
                post.post(Hear::Packet(now, packet)).unwrap();
            }
            post.post(Hear::Play(now)).unwrap();
        }
        drop(post);
        let mut kinds = Vec::new();
        let mut last = Ledger::default();
        while let Some(Event::Played { kind, ledger, .. }) = told.wait() {
            kinds.push(kind);
            last = ledger;
        }
        drop(worker);
        kinds.dedup();
        use SoundKind::{Concealed, Packet, Quiet, Silence};
        assert_eq!(kinds, [Silence, Packet, Concealed, Quiet]);
        assert_eq!(last.played, jitter::FRAME * 40);
        assert_eq!(last.concealed, jitter::FRAME * 5);
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
