//! Pictures between a sender and a receiver, one virtual clock (`spec/media.md`, sections 2 to 7).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use suora_protocol::fault::Code;
use suora_protocol::limits;
use suora_protocol::media::rate::Fate;
use suora_protocol::media::receiver::{Input, Output, Receiver};
use suora_protocol::media::rtcp::{self, Report};
use suora_protocol::media::sender::{self, Sender};
use suora_protocol::media::{EncodedFrame, Kind, h264};
use suora_protocol::time::Now;

use crate::clock::base;

/// A picture of one or two NAL units whose bytes tell its number.
fn picture(now: Now, number: u8, keyframe: bool) -> EncodedFrame {
    let mut data = Vec::new();
    if keyframe {
        h264::join(&mut data, &[0x67, number, 1]);
    }
    h264::join(
        &mut data,
        &[
            vec![if keyframe { 0x65 } else { 0x41 }, number],
            vec![number | 1; 3_000],
        ]
        .concat(),
    );
    EncodedFrame {
        kind: Kind::Video,
        captured: now.utc,
        data: data.into(),
        keyframe,
        width: 0,
        height: 0,
        duration: Duration::from_micros(33_333),
    }
}

/// Hands over frames, and as much budget as they need.
fn send(sender: &mut Sender, now: Now, sent: impl IntoIterator<Item = EncodedFrame>) {
    for frame in sent {
        let input = sender::Input::Frame(frame);
        sender.handle_input(now, input).unwrap();
    }
    let beat = sender::Input::Beat(1 << 20);
    sender.handle_input(now, beat).unwrap();
}

/// Everything that the sender has to say, by stream.
fn drain(sender: &mut Sender) -> (BTreeMap<u64, Vec<u8>>, Vec<Bytes>, usize) {
    let (mut streams, mut datagrams, mut keyframes) =
        (BTreeMap::<u64, Vec<u8>>::new(), Vec::new(), 0);
    loop {
        match sender.poll_output() {
            sender::Output::Write(stream, bytes) => {
                streams.entry(stream).or_default().extend_from_slice(&bytes)
            }
            sender::Output::Datagram(bytes) => datagrams.push(bytes),
            sender::Output::Keyframe => keyframes += 1,
            sender::Output::Wait(..) => return (streams, datagrams, keyframes),
            _ => {}
        }
    }
}

fn frames(receiver: &mut Receiver) -> (Vec<EncodedFrame>, usize) {
    let (mut frames, mut asked) = (Vec::new(), 0);
    loop {
        match receiver.poll_output() {
            Output::Frame(frame) => frames.push(frame),
            Output::Datagram(bytes)
                if rtcp::read(&bytes[1..])
                    .unwrap()
                    .iter()
                    .any(|r| matches!(r, Report::PictureLoss { .. })) =>
            {
                asked += 1
            }
            Output::Wait(..) => return (frames, asked),
            _ => {}
        }
    }
}

fn pair(now: Now) -> (Sender, Receiver) {
    let (mut sender, mut receiver) = (Sender::new(0, [1, 2]), Receiver::new(1, 0, 3));
    sender.handle_input(now, sender::Input::Open).unwrap();
    receiver.handle_input(now, Input::Accepted).unwrap();
    (sender, receiver)
}

// covers: SUORA-MED-002, SUORA-MED-003
#[test]
fn pictures_arrive_as_they_left_in_any_order_of_streams() {
    let now = base();
    let (mut sender, mut receiver) = pair(now);
    let sent: Vec<_> = (0..4)
        .map(|number| {
            picture(
                now.after(Duration::from_millis(33) * u32::from(number)),
                number,
                number == 0,
            )
        })
        .collect();
    send(&mut sender, now, sent.clone());
    let (streams, ..) = drain(&mut sender);
    assert_eq!(streams.len(), 4);
    for stream in [0, 2, 3, 1] {
        for bytes in streams[&stream].chunks(700) {
            receiver
                .handle_input(now, Input::StreamData(stream, bytes))
                .unwrap();
        }
        receiver
            .handle_input(now, Input::StreamEnd(stream))
            .unwrap();
    }
    assert_eq!(frames(&mut receiver).0, sent);
}

// covers: SUORA-MED-008
#[test]
fn a_missing_picture_asks_for_a_keyframe_and_nothing_smeared_is_shown() {
    let now = base();
    let (mut sender, mut receiver) = pair(now);
    let four = (0..4).map(|number| picture(now, number, number == 0));
    send(&mut sender, now, four);
    let (streams, ..) = drain(&mut sender);
    for stream in [0, 2, 3] {
        receiver
            .handle_input(now, Input::StreamData(stream, &streams[&stream]))
            .unwrap();
        receiver
            .handle_input(now, Input::StreamEnd(stream))
            .unwrap();
    }
    receiver
        .handle_input(now.after(Duration::from_millis(150)), Input::Tick)
        .unwrap();
    let (shown, asked) = frames(&mut receiver);
    assert_eq!((shown.len(), asked), (1, 1));
    send(&mut sender, now, [picture(now, 9, true)]);
    let (streams, ..) = drain(&mut sender);
    receiver
        .handle_input(now, Input::StreamData(4, &streams[&4]))
        .unwrap();
    receiver.handle_input(now, Input::StreamEnd(4)).unwrap();
    assert_eq!(frames(&mut receiver).0.len(), 1);
}

/// Tells the receiver one whole stream.
fn stream(receiver: &mut Receiver, now: Now, stream: u64, bytes: &[u8]) {
    let data = Input::StreamData(stream, bytes);
    receiver.handle_input(now, data).unwrap();
    let end = Input::StreamEnd(stream);
    receiver.handle_input(now, end).unwrap();
}

// covers: SUORA-MED-008
#[test]
fn a_picture_that_ends_a_long_gap_is_taken_however_many_wait() {
    let now = base();
    for last in [1, 60] {
        let (mut sender, mut receiver) = pair(now);
        receiver
            .handle_input(now, Input::RoundTrip(Duration::from_secs(1)))
            .unwrap();
        let mut streams = BTreeMap::new();
        for number in 0..61 {
            let keyframe = number == 0 || number == 60;
            send(&mut sender, now, [picture(now, number, keyframe)]);
            streams.extend(drain(&mut sender).0);
            let acked = sender::Input::Acked(u64::from(number));
            sender.handle_input(now, acked).unwrap();
        }
        for number in (0..60).filter(|number| *number != 1) {
            stream(&mut receiver, now, number, &streams[&number]);
        }
        assert_eq!(frames(&mut receiver), (vec![picture(now, 0, true)], 0));
        stream(&mut receiver, now, last, &streams[&last]);
        let (shown, asked) = frames(&mut receiver);
        let first = shown.first().map(|frame| frame.keyframe);
        // the missing one lets 32 that waited through, a keyframe needs none of them
        let expected = if last == 1 { (33, false) } else { (1, true) };
        assert_eq!(
            (shown.len(), first, asked),
            (expected.0, Some(expected.1), 0)
        );
    }
}

// covers: SUORA-MED-007
#[test]
fn nothing_leaves_before_the_gate_opens() {
    let now = base();
    let mut sender = Sender::new(0, [1, 2]);
    send(&mut sender, now, [picture(now, 1, true)]);
    let (streams, datagrams, keyframes) = drain(&mut sender);
    assert!(streams.is_empty() && datagrams.is_empty() && keyframes == 0);
    // the host knows of its own accept
    let mut host = Receiver::new(0, 1, 3);
    let early = host.handle_input(now, Input::Datagram(&[17, 0x80]));
    assert_eq!(
        early.map_err(|fault| fault.code),
        Err(Code::ProtocolViolation)
    );
}

// covers: SUORA-MED-010
#[test]
fn stale_pictures_are_reset_and_a_keyframe_follows() {
    let now = base();
    let (mut sender, _) = pair(now);
    drain(&mut sender);
    sender
        .handle_input(now, sender::Input::Frame(picture(now, 1, true)))
        .unwrap();
    sender.handle_input(now, sender::Input::Beat(100)).unwrap();
    let mut outputs = |late| {
        let late = now.after(late);
        sender.handle_input(late, sender::Input::Beat(100)).unwrap();
        std::iter::from_fn(|| match sender.poll_output() {
            sender::Output::Wait(..) => None,
            output => Some(output),
        })
        .collect::<Vec<_>>()
    };
    // a keyframe has three times as long: giving it up only asks for the next
    let early = outputs(limits::FRAME_STALE + Duration::from_millis(1));
    assert!(!early.contains(&sender::Output::Reset(0)));
    let late = outputs(limits::FRAME_STALE * 3 + Duration::from_millis(1));
    assert!(late.contains(&sender::Output::Reset(0)) && late.contains(&sender::Output::Keyframe));
    assert_eq!(sender.sent().frames, 0);
    let late = now.after(limits::FRAME_STALE * 4);
    sender
        .handle_input(late, sender::Input::Frame(picture(late, 2, false)))
        .unwrap();
    assert_eq!(
        sender.backlog(),
        0,
        "a delta picture must wait for the keyframe"
    );
}

#[test]
fn the_budget_bounds_what_pictures_write_in_a_beat() {
    let now = base();
    let (mut sender, _) = pair(now);
    sender
        .handle_input(now, sender::Input::Frame(picture(now, 1, true)))
        .unwrap();
    sender
        .handle_input(now, sender::Input::Beat(1_000))
        .unwrap();
    let (streams, ..) = drain(&mut sender);
    assert_eq!(streams[&0].len(), 1_000);
}

#[test]
fn a_picture_leaves_by_whole_pieces_and_at_last_by_what_is_left() {
    let now = base();
    let (mut sender, _) = pair(now);
    for input in [
        sender::Input::Frame(picture(now, 1, true)),
        sender::Input::Piece(1_000),
    ] {
        sender.handle_input(now, input).unwrap();
    }
    let whole = sender.backlog();
    let mut leave = |budget| {
        let before = sender.backlog();
        sender
            .handle_input(now, sender::Input::Beat(budget))
            .unwrap();
        before - sender.backlog()
    };
    assert_eq!(leave(999), 0);
    assert_eq!(leave(2_999), 2_000);
    let rest = whole - 2_000;
    for _ in 0..rest / 1_000 {
        assert_eq!(leave(1_000), 1_000);
    }
    assert_eq!(leave(1_000), rest % 1_000);
}

// covers: SUORA-MED-022
#[test]
fn what_was_sent_meets_what_arrived_and_is_told_once() {
    let now = base();
    let (mut sender, mut receiver) = pair(now);
    let sound = EncodedFrame {
        kind: Kind::Audio,
        data: vec![0x78; 60].into(),
        ..picture(now, 1, true)
    };
    for _ in 0..6 {
        sender
            .handle_input(now, sender::Input::Frame(sound.clone()))
            .unwrap();
    }
    let (_, datagrams, _) = drain(&mut sender);
    let mut told = Vec::new();
    // 2 and 4 are missing; 2 comes late, 4 never
    for (came, at) in [
        (&[0, 1, 3, 5][..], 25),
        (&[], 100),
        (&[2], 110),
        (&[], 200),
        (&[], 400),
    ] {
        let then = now.after(Duration::from_millis(at));
        for number in came {
            receiver
                .handle_input(then, Input::Datagram(&datagrams[*number]))
                .unwrap();
        }
        receiver.handle_input(then, Input::Tick).unwrap();
        loop {
            match receiver.poll_output() {
                Output::Datagram(bytes) => {
                    let reports = rtcp::read(&bytes[1..]).unwrap();
                    let [Report::Arrivals(report)] = reports.as_slice() else {
                        panic!("{reports:?}")
                    };
                    let feedback = sender.feedback(report);
                    for packet in feedback.packets {
                        assert_eq!((packet.kind, packet.sent), (Kind::Audio, now.mono));
                        told.push((at, packet.fate != Fate::Lost));
                        if let Fate::Arrived(Some(arrived)) = packet.fate {
                            // 75 and 90 ms before their reports, to the units of both times
                            let age = Duration::from_micros((feedback.at - arrived) as u64);
                            let real = Duration::from_millis(if at == 100 { 75 } else { 90 });
                            assert!(age.abs_diff(real) < Duration::from_millis(1), "{age:?}");
                        }
                    }
                }
                Output::Wait(..) => break,
                _ => {}
            }
        }
    }
    // what a later one overtook by 75 ms is lost, and stays lost though it comes
    let arrived = [(100, true); 4];
    let lost = [(100, false); 2];
    told.sort_by_key(|(at, arrived)| (*at, !arrived));
    assert_eq!(told, [&arrived[..], &lost[..]].concat());
}

#[test]
fn a_pictures_packet_left_when_quic_took_its_last_byte() {
    let now = base();
    let (mut sender, mut receiver) = pair(now);
    send(&mut sender, now, [picture(now, 1, true)]);
    let (streams, ..) = drain(&mut sender);
    let bytes = &streams[&0];
    let taken = now.after(Duration::from_millis(30));
    let half = bytes.len() / 2;
    for (at, taken_bytes) in [(now, half), (taken, bytes.len())] {
        sender
            .handle_input(at, sender::Input::Taken(0, taken_bytes))
            .unwrap();
    }
    receiver
        .handle_input(taken, Input::StreamData(0, bytes))
        .unwrap();
    receiver
        .handle_input(now.after(Duration::from_millis(100)), Input::Tick)
        .unwrap();
    let report = loop {
        match receiver.poll_output() {
            Output::Datagram(bytes) => break bytes,
            Output::Wait(..) => panic!("no report"),
            _ => {}
        }
    };
    let reports = rtcp::read(&report[1..]).unwrap();
    let [Report::Arrivals(report)] = reports.as_slice() else {
        panic!("{reports:?}")
    };
    let packets = sender.feedback(report).packets;
    let last = packets.last().unwrap();
    assert_eq!((last.kind, last.sent), (Kind::Video, taken.mono));
}

/// What a host sends right after its accept: a picture and a sound.
fn burst(now: Now) -> (Vec<u8>, Bytes) {
    let mut sender = Sender::new(0, [1, 2]);
    sender.handle_input(now, sender::Input::Open).unwrap();
    let sound = EncodedFrame {
        kind: Kind::Audio,
        data: vec![0x78; 60].into(),
        ..picture(now, 1, true)
    };
    send(&mut sender, now, [sound, picture(now, 1, true)]);
    let (mut streams, datagrams, _) = drain(&mut sender);
    (streams.remove(&0).unwrap(), datagrams[0].clone())
}

// covers: SUORA-MED-007
#[test]
fn a_guest_holds_what_overtakes_the_accept() {
    let now = base();
    let (stream, datagram) = burst(now);
    let mut guest = Receiver::new(1, 0, 3);
    guest.handle_input(now, Input::Datagram(&datagram)).unwrap();
    guest
        .handle_input(now, Input::StreamData(0, &stream))
        .unwrap();
    guest.handle_input(now, Input::StreamEnd(0)).unwrap();
    let outputs = |guest: &mut Receiver| {
        std::iter::from_fn(|| match guest.poll_output() {
            Output::Wait(..) => None,
            output => Some(output),
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(outputs(&mut guest), []);
    let late = now.after(limits::EARLY_WAIT - Duration::from_millis(1));
    guest.handle_input(late, Input::Tick).unwrap();
    guest.handle_input(late, Input::Accepted).unwrap();
    assert!(matches!(
        outputs(&mut guest).as_slice(),
        [Output::Audio(_), Output::Frame(_), ..]
    ));
}

#[test]
fn media_that_no_accept_follows_is_a_violation() {
    let now = base();
    let (_, datagram) = burst(now);
    let mut guest = Receiver::new(1, 0, 3);
    guest.handle_input(now, Input::Datagram(&datagram)).unwrap();
    let Output::Wait(Some(due), _) = guest.poll_output() else {
        panic!("no deadline")
    };
    assert_eq!(due, now.after(limits::EARLY_WAIT).mono);
    let late = guest.handle_input(now.after(limits::EARLY_WAIT), Input::Tick);
    assert_eq!(
        late.map_err(|fault| fault.code),
        Err(Code::ProtocolViolation)
    );
    // nor is it held without bound
    let mut guest = Receiver::new(1, 0, 3);
    let flood = (0..100_000)
        .map(|_| guest.handle_input(now, Input::Datagram(&datagram)))
        .find_map(Result::err);
    assert_eq!(flood.map(|fault| fault.code), Some(Code::ProtocolViolation));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let now = base();
        let (_, mut receiver) = pair(now);
        let _ = receiver.handle_input(now, Input::Datagram(&bytes));
        let _ = receiver.handle_input(now, Input::StreamData(0, &bytes));
        let _ = receiver.handle_input(now, Input::StreamEnd(0));
    }
}

// covers: SUORA-MED-023
#[test]
fn a_picture_that_is_sent_three_times_is_shown_once_and_ends_with_the_first_that_is_whole() {
    let now = base();
    let (mut sender, mut receiver) = pair(now);
    let copies = sender::Input::Copies(3);
    sender.handle_input(now, copies).unwrap();
    send(&mut sender, now, (0..3).map(|n| picture(now, n, n == 0)));
    let mut streams = BTreeMap::new();
    for beat in 1..=9 {
        // a frame of sound makes a beat of the same moment
        send(
            &mut sender,
            now.after(Duration::from_millis(5 * (beat - 1))),
            [],
        );
        let (written, ..) = drain(&mut sender);
        // one packet of QUIC never holds a picture twice
        let pictures: Vec<_> = written.keys().map(|stream| stream / 3).collect();
        assert!(
            pictures.windows(2).all(|two| two[0] != two[1]),
            "{written:?}"
        );
        streams.extend(written);
        send(&mut sender, now.after(Duration::from_millis(5 * beat)), []);
    }
    assert_eq!(streams.len(), 9);
    // of the second picture the first copy is lost, of the others it is the only one
    let mut given = Vec::new();
    for (stream, bytes) in &streams {
        if *stream != 3 {
            let data = Input::StreamData(*stream, bytes);
            receiver.handle_input(now, data).unwrap();
            receiver
                .handle_input(now, Input::StreamEnd(*stream))
                .unwrap();
        }
        given.extend(frames(&mut receiver).0);
    }
    assert_eq!(given.len(), 3);
    let received = receiver.received();
    assert_eq!((received.frames, received.dropped), (3, 0));
    // one copy has arrived: the others are taken back
    sender.handle_input(now, sender::Input::Acked(4)).unwrap();
    let mut reset = Vec::new();
    loop {
        match sender.poll_output() {
            sender::Output::Reset(stream) => reset.push(stream),
            sender::Output::Wait(..) => break,
            _ => {}
        }
    }
    assert_eq!(reset, [3, 5]);
    assert_eq!(sender.sent().frames, 3);
    // nor does any copy leave of what arrived before
    let late = now.after(Duration::from_secs(1));
    send(&mut sender, late, [picture(late, 3, false)]);
    assert_eq!(drain(&mut sender).0.keys().collect::<Vec<_>>(), [&9]);
    sender.handle_input(late, sender::Input::Acked(9)).unwrap();
    assert_eq!(sender.backlog(), 0);
}
