//! Sender and receiver, one virtual clock: the chapter `spec/media.md`.

use std::time::Duration;

use bytes::Bytes;
use suora_protocol::fault::Code;
use suora_protocol::limits;
use suora_protocol::media::rate::Rate;
use suora_protocol::media::receiver::{self, Receiver};
use suora_protocol::media::rtcp::{self, ArrivalReport, Arrivals, Report};
use suora_protocol::media::rtp::{self, Out};
use suora_protocol::media::sender::{self, Sender};
use suora_protocol::media::{EncodedFrame, Kind, flow, h264};
use suora_protocol::time::Now;

use crate::clock::base;

const MS: Duration = Duration::from_millis(1);
/// The host's sound and picture.
const SSRCS: [u32; 2] = [1, 2];

fn picture(now: Now, keyframe: bool) -> EncodedFrame {
    let mut data = Vec::new();
    h264::join(&mut data, &[if keyframe { 0x65 } else { 0x41 }, 1, 2, 3]);
    frame(now, Kind::Video, data, keyframe)
}

fn sound(now: Now) -> EncodedFrame {
    frame(now, Kind::Audio, vec![0x78, 1, 2, 3], true)
}

fn frame(now: Now, kind: Kind, data: Vec<u8>, keyframe: bool) -> EncodedFrame {
    EncodedFrame {
        kind,
        captured: now.utc,
        data: data.into(),
        keyframe,
        width: 0,
        height: 0,
        duration: 20 * MS,
    }
}

/// The host's sender, with the open gate.
fn sender(now: Now) -> Sender {
    let mut sender = Sender::new(0, SSRCS);
    sender.handle_input(now, sender::Input::Open).unwrap();
    sender
}

/// The guest's receiver, with the open gate.
fn receiver(now: Now) -> Receiver {
    let mut receiver = Receiver::new(1, 0, 3);
    receiver
        .handle_input(now, receiver::Input::Accepted)
        .unwrap();
    receiver
}

fn send(sender: &mut Sender, now: Now, input: sender::Input) -> Vec<sender::Output> {
    sender.handle_input(now, input).unwrap();
    std::iter::from_fn(|| match sender.poll_output() {
        sender::Output::Wait(..) => None,
        output => Some(output),
    })
    .collect()
}

fn receive(
    receiver: &mut Receiver,
    now: Now,
    input: receiver::Input<'_>,
) -> Result<Vec<receiver::Output>, Code> {
    receiver
        .handle_input(now, input)
        .map_err(|fault| fault.code)?;
    Ok(std::iter::from_fn(|| match receiver.poll_output() {
        receiver::Output::Wait(..) => None,
        output => Some(output),
    })
    .collect())
}

/// The reports among a machine's datagrams.
fn reports<'a>(datagrams: impl IntoIterator<Item = &'a Bytes>) -> Vec<Report> {
    datagrams
        .into_iter()
        .filter_map(|bytes| {
            let (id, packet) = flow::datagram(bytes).unwrap();
            (id % 16 == 0).then(|| rtcp::read(packet).unwrap())
        })
        .flatten()
        .collect()
}

fn sent_reports(outputs: &[sender::Output]) -> Vec<Report> {
    reports(outputs.iter().filter_map(|output| match output {
        sender::Output::Datagram(bytes) => Some(bytes),
        _ => None,
    }))
}

fn received_reports(outputs: &[receiver::Output]) -> Vec<Report> {
    reports(outputs.iter().filter_map(|output| match output {
        receiver::Output::Datagram(bytes) => Some(bytes),
        _ => None,
    }))
}

// covers: SUORA-MED-057
#[test]
fn a_train_is_answered_before_the_accept_and_is_no_media() {
    let start = base();
    let mut sender = Sender::new(0, [1, 2]);
    let train = send(&mut sender, start, sender::Input::Probe);
    assert_eq!(train.len(), 6);
    let (mut guest, mut host) = (Receiver::new(1, 0, 9), Receiver::new(0, 1, 8));
    let mut told = None;
    for (n, output) in train.into_iter().enumerate() {
        let sender::Output::Datagram(bytes) = output else {
            panic!("{output:?}");
        };
        let now = start.after(Duration::from_millis(20) * u32::try_from(n).unwrap());
        for answer in receive(&mut guest, now, receiver::Input::Datagram(&bytes)).unwrap() {
            let receiver::Output::Datagram(bytes) = answer else {
                panic!("{answer:?}");
            };
            let outputs = receive(&mut host, now, receiver::Input::Datagram(&bytes)).unwrap();
            told = outputs.into_iter().next();
        }
    }
    assert_eq!(told, Some(receiver::Output::Probed(400_000)));
    // of one who is not the other end it is media, and too early
    let outputs = receive(&mut host, start, receiver::Input::Datagram(&[0x2b, 1]));
    assert!(outputs.is_err());
}

/// A datagram of the host's sound.
fn sound_datagram(now: Now, sequence: u16) -> Vec<u8> {
    let packet = rtp::write(Out {
        payload_type: rtp::PT_OPUS,
        marker: false,
        sequence,
        time: 0,
        ssrc: 1,
        captured: Some(now.utc),
        payload: &[0x78, 1],
    })
    .unwrap();
    let mut out = vec![1];
    out.extend_from_slice(&packet);
    out
}

/// A stream of one picture of the host's, cut into packets of `payloads`.
fn stream(now: Now, sequence: u16, payloads: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![2];
    for (at, payload) in payloads.iter().enumerate() {
        let packet = rtp::write(Out {
            payload_type: rtp::PT_H264,
            marker: at + 1 == payloads.len(),
            sequence: sequence.wrapping_add(u16::try_from(at).unwrap()),
            time: 9,
            ssrc: 2,
            captured: (at == 0).then_some(now.utc),
            payload,
        })
        .unwrap();
        flow::put_varint(&mut out, packet.len() as u64);
        out.extend_from_slice(&packet);
    }
    out
}

fn whole(
    receiver: &mut Receiver,
    now: Now,
    id: u64,
    bytes: &[u8],
) -> Result<Vec<receiver::Output>, Code> {
    let mut outputs = receive(receiver, now, receiver::Input::StreamData(id, bytes))?;
    outputs.extend(receive(receiver, now, receiver::Input::StreamEnd(id))?);
    Ok(outputs)
}

// covers: SUORA-MED-015
#[test]
fn each_track_that_sends_reports_once_a_second() {
    let start = base();
    let mut sender = sender(start);
    let mut all = Vec::new();
    for at in 0..150 {
        let now = start.after(20 * MS * at);
        all.extend(send(&mut sender, now, sender::Input::Frame(sound(now))));
        all.extend(send(&mut sender, now, sender::Input::Beat(1 << 20)));
    }
    let reports = sent_reports(&all);
    assert_eq!(reports.len(), 3, "{reports:?}");
    let Report::Sender {
        ssrc,
        at,
        time,
        packets,
        bytes,
    } = reports[1]
    else {
        panic!("{reports:?}")
    };
    assert_eq!((ssrc, at), (SSRCS[0], start.after(1_000 * MS).utc));
    assert_eq!(time, rtp::rtp_time(Kind::Audio, at));
    assert_eq!((packets, bytes), (51, 51 * 4));
}

// covers: SUORA-MED-016
#[test]
fn arrivals_are_reported_every_eighty_milliseconds_and_only_if_something_came() {
    let start = base();
    let mut receiver = receiver(start);
    let mut times = Vec::new();
    for at in 0..1_000u32 {
        let now = start.after(MS * at);
        let mut outputs = receive(&mut receiver, now, receiver::Input::Tick).unwrap();
        if at < 500 && at % 20 == 0 {
            let bytes = sound_datagram(now, u16::try_from(at / 20).unwrap());
            outputs.extend(receive(&mut receiver, now, receiver::Input::Datagram(&bytes)).unwrap());
        }
        if !received_reports(&outputs).is_empty() {
            times.push(at);
        }
    }
    assert_eq!(times, [80, 160, 240, 320, 400, 480, 560]);
}

#[test]
fn a_report_holds_at_most_256_entries_the_newest() {
    let now = base();
    let mut receiver = receiver(now);
    for sequence in [0, 1_000] {
        let bytes = sound_datagram(now, sequence);
        receive(&mut receiver, now, receiver::Input::Datagram(&bytes)).unwrap();
    }
    let outputs = receive(&mut receiver, now.after(80 * MS), receiver::Input::Tick).unwrap();
    let reports = received_reports(&outputs);
    let [Report::Arrivals(report)] = reports.as_slice() else {
        panic!("{reports:?}")
    };
    let tracks = &report.tracks;
    assert_eq!(
        (tracks[0].begin, tracks[0].ages.len()),
        (1_000 - 255, limits::REPORT_PACKETS_MAX)
    );
}

// covers: SUORA-MED-022
#[test]
fn a_report_repeats_the_interval_before_and_tells_what_came_late() {
    let start = base();
    let mut receiver = receiver(start);
    let mut sequences = Vec::new();
    // 3 comes late, alone in its interval
    for (at, sequence) in [(0, 2), (10, 4), (100, 3), (190, 5)] {
        let now = start.after(MS * at);
        let mut outputs = receive(&mut receiver, now, receiver::Input::Tick).unwrap();
        let bytes = sound_datagram(now, sequence);
        outputs.extend(receive(&mut receiver, now, receiver::Input::Datagram(&bytes)).unwrap());
        sequences.extend(received_reports(&outputs));
    }
    let last = start.after(300 * MS);
    let outputs = receive(&mut receiver, last, receiver::Input::Tick).unwrap();
    sequences.extend(received_reports(&outputs));
    let told: Vec<(u16, Vec<bool>)> = sequences
        .iter()
        .map(|report| match report {
            Report::Arrivals(report) => (
                report.tracks[0].begin,
                report.tracks[0].ages.iter().map(Option::is_some).collect(),
            ),
            other => panic!("{other:?}"),
        })
        .collect();
    let all = vec![true; 3];
    assert_eq!(
        told,
        [(2, vec![true, false, true]), (2, all), (5, vec![true])]
    );
}

// covers: SUORA-MED-021
#[test]
fn keyframes_are_asked_for_and_not_more_often_than_every_300_ms() {
    let start = base();
    let mut receiver = receiver(start);
    let mut asked = Vec::new();
    for at in 0..20u32 {
        let now = start.after(50 * MS * at);
        // a picture that refers to what never came
        let bytes = stream(now, u16::try_from(at).unwrap(), &[&[0x41, 1]]);
        let outputs = whole(&mut receiver, now, at.into(), &bytes).unwrap();
        assert!(
            !outputs
                .iter()
                .any(|output| matches!(output, receiver::Output::Frame(_)))
        );
        if received_reports(&outputs).contains(&Report::PictureLoss { ssrc: SSRCS[1] }) {
            asked.push(at * 50);
        }
    }
    assert_eq!(asked, [0, 300, 600, 900]);
    let pli = rtcp::picture_loss(9, 2).unwrap();
    let mut datagram = vec![0];
    datagram.extend_from_slice(&pli);
    let outputs = receive(
        &mut receiver,
        start.after(1_000 * MS),
        receiver::Input::Datagram(&datagram),
    )
    .unwrap();
    assert!(outputs.contains(&receiver::Output::Keyframe));
}

// covers: SUORA-MED-017
#[test]
fn what_waits_and_what_is_unacknowledged_is_bounded() {
    let now = base();
    let mut sender = sender(now);
    let (mut opened, mut gave_up) = (0, false);
    for number in 0..200 {
        let frame = picture(now, number == 0);
        let mut outputs = send(&mut sender, now, sender::Input::Frame(frame));
        outputs.extend(send(&mut sender, now, sender::Input::Beat(1 << 20)));
        for output in outputs {
            match output {
                sender::Output::Open(_) => opened += 1,
                // the first request is the gate's own
                sender::Output::Keyframe if number > 0 => gave_up = true,
                _ => {}
            }
        }
    }
    assert!(gave_up);
    assert_eq!(opened, limits::FRAME_STREAMS_MAX);
    // a keyframe goes on all the same
    let mut outputs = send(&mut sender, now, sender::Input::Frame(picture(now, true)));
    outputs.extend(send(&mut sender, now, sender::Input::Beat(1 << 20)));
    assert!(
        outputs
            .iter()
            .any(|output| matches!(output, sender::Output::Open(_)))
    );
}

// covers: SUORA-MED-017
#[test]
fn copies_end_before_a_long_way_is_full_of_them_and_the_picture_goes_on() {
    let now = base();
    let mut sender = sender(now);
    send(&mut sender, now, sender::Input::Copies(3));
    let (mut streams, mut pictures) = (0, 0);
    for number in 0..20 {
        let frame = picture(now, number == 0);
        let mut outputs = send(&mut sender, now, sender::Input::Frame(frame));
        for beat in 0..3 {
            let now = now.after(Duration::from_millis(15 * number + 5 * beat));
            outputs.extend(send(&mut sender, now, sender::Input::Beat(1 << 20)));
        }
        let opened = |output: &&sender::Output| matches!(output, sender::Output::Open(_));
        let opened = outputs.iter().filter(opened).count();
        streams += opened;
        pictures += usize::from(opened > 0);
    }
    assert_eq!((pictures, sender.sent().stale), (20, 0));
    assert!((30..45).contains(&streams), "{streams}");
}

// covers: SUORA-MED-018
#[test]
fn a_picture_over_the_bound_ends_the_session_and_a_long_datagram_does_not_leave() {
    let now = base();
    let mut receiver = receiver(now);
    let mut bytes = vec![2, 0x80, 0x10, 0, 0];
    bytes.resize(limits::FRAME_MAX, 0);
    assert_eq!(
        receive(&mut receiver, now, receiver::Input::StreamData(1, &bytes)),
        Ok(vec![])
    );
    assert_eq!(
        receive(&mut receiver, now, receiver::Input::StreamData(1, &[0])),
        Err(Code::TooLarge)
    );
    let mut sender = sender(now);
    let long = frame(now, Kind::Audio, vec![0x78; limits::DATAGRAM_MAX], true);
    assert_eq!(sent_datagrams(&mut sender, now, long), 0);
    assert_eq!(sent_datagrams(&mut sender, now, sound(now)), 1);
}

fn sent_datagrams(sender: &mut Sender, now: Now, frame: EncodedFrame) -> usize {
    send(sender, now, sender::Input::Frame(frame))
        .iter()
        .filter(|output| matches!(output, sender::Output::Datagram(_)))
        .count()
}

// covers: SUORA-MED-019
#[test]
fn malformed_media_is_dropped_and_the_session_goes_on() {
    let now = base();
    let mut receiver = receiver(now);
    let good = stream(now, 10, &[&[0x67, 1], &[0x65, 2]]);
    let fragments = stream(now, 7, &[&[0x7c, 0x85, 1]]);
    let aggregate = stream(now, 8, &[&[0x78, 0, 2, 0x67, 1, 0, 2, 0x68, 1]]);
    let bad: [&[u8]; 4] = [&good[..good.len() - 1], &fragments, &aggregate, &[0x40]];
    for (id, bytes) in bad.into_iter().enumerate() {
        assert_eq!(whole(&mut receiver, now, id as u64, bytes), Ok(vec![]));
    }
    for bytes in [&[][..], &[1, 0x80], &[0, 0x80, 200], &[0x40]] {
        assert_eq!(
            receive(&mut receiver, now, receiver::Input::Datagram(bytes)),
            Ok(vec![])
        );
    }
    assert_eq!(receiver.received().malformed, 8);
    let outputs = whole(&mut receiver, now, 9, &good).unwrap();
    assert!(matches!(
        outputs.as_slice(),
        [receiver::Output::Frame(frame)] if frame.keyframe
    ));
}

// covers: SUORA-MED-014
#[test]
fn longer_varints_are_read_and_unknown_flows_ignored() {
    let now = base();
    let mut receiver = receiver(now);
    let short = sound_datagram(now, 1);
    let mut long = vec![0xc0, 0, 0, 0, 0, 0, 0, 1];
    long.extend_from_slice(&short[1..]);
    let outputs = receive(&mut receiver, now, receiver::Input::Datagram(&long)).unwrap();
    assert!(matches!(outputs.as_slice(), [receiver::Output::Audio(_)]));
    // text of the host, and the guest's own sound
    for flow in [3, 17] {
        let mut foreign = short.clone();
        foreign[0] = flow;
        assert_eq!(
            receive(&mut receiver, now, receiver::Input::Datagram(&foreign)),
            Ok(vec![])
        );
    }
    assert_eq!(receiver.received().malformed, 0);
}

// covers: SUORA-MED-056
#[test]
fn what_quic_would_send_again_of_a_picture_is_taken_back_when_the_camera_goes_off() {
    let now = base();
    let mut sender = sender(now);
    send(&mut sender, now, sender::Input::Frame(picture(now, true)));
    send(&mut sender, now, sender::Input::Beat(1 << 20));
    assert_eq!(sender.sent().frames, 1);
    let off = sender::Input::Media {
        audio: true,
        video: false,
    };
    assert_eq!(send(&mut sender, now, off), [sender::Output::Reset(0)]);
}

#[test]
fn reports_whose_clock_runs_away_harm_nobody() {
    let mut now = base();
    let mut sender = sender(now);
    let mut rate = Rate::new((50_000, 2_000_000));
    for step in [0x7fff_ffff_u32, 0x8000_0001] {
        let mut at = 0_u32;
        for number in 0..6_000 {
            send(&mut sender, now, sender::Input::Frame(sound(now)));
            at = at.wrapping_add(step);
            let age = Some(Duration::from_millis(number % 8_000));
            let arrivals = Arrivals {
                ssrc: SSRCS[0],
                begin: u16::try_from(u64::from(SSRCS[0] >> 17) + number).unwrap(),
                ages: vec![age],
            };
            let tracks = vec![arrivals];
            let feedback = sender.feedback(&ArrivalReport { at, tracks });
            rate.report(now, &feedback);
            now = now.after(Duration::from_millis(20));
        }
        assert!((50_000..=2_000_000).contains(&rate.target()));
    }
}

// covers: SUORA-MED-020
#[test]
fn what_is_switched_off_stops_at_once_and_the_picture_comes_back_with_a_keyframe() {
    let now = base();
    let mut sender = sender(now);
    send(&mut sender, now, sender::Input::Frame(picture(now, true)));
    // ten bytes of it leave
    send(&mut sender, now, sender::Input::Beat(10));
    let off = sender::Input::Media {
        audio: false,
        video: false,
    };
    assert_eq!(
        send(&mut sender, now, off),
        [sender::Output::Reset(0)],
        "what has not left is given up"
    );
    for frame in [sound(now), picture(now, true)] {
        assert_eq!(send(&mut sender, now, sender::Input::Frame(frame)), []);
    }
    let on = sender::Input::Media {
        audio: true,
        video: true,
    };
    assert_eq!(send(&mut sender, now, on), [sender::Output::Keyframe]);
    send(&mut sender, now, sender::Input::Frame(picture(now, false)));
    assert_eq!(sender.backlog(), 0, "nothing that refers to the gap");
    send(&mut sender, now, sender::Input::Frame(picture(now, true)));
    assert!(sender.backlog() > 0);
}
