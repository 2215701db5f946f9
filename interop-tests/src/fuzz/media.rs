//! What comes over the media connection.

use std::sync::OnceLock;
use std::time::Duration;

use suora_node::decode;
use suora_protocol::limits::{FRAME_MAX, NALS_MAX, REPORT_INTERVAL, REPORT_PACKETS_MAX};
use suora_protocol::media::rate::{Rate, Way};
use suora_protocol::media::receiver::{Input, Output, Receiver};
use suora_protocol::media::sender::{self, Sender};
use suora_protocol::media::{
    EncodedFrame, Kind, flow, h264 as units, opus as packets, rtcp as reports, rtp as packet,
};
use suora_protocol::time::Now;

/// The payload lies within the packet, and times outlive a trip through NTP's form.
pub fn rtp(bytes: &[u8]) {
    let Ok(read) = packet::read(bytes) else {
        return;
    };
    assert!(read.payload.len() <= bytes.len());
    // in 2104 the second era ends: the last half microsecond of it is rounded beyond
    if let Some(captured) = read.captured
        && packet::to_ntp(captured) != 1 << 63
    {
        let again = packet::from_ntp(packet::to_ntp(captured));
        assert!(again.micros_since(captured).abs() <= 1, "{captured:?}");
    }
}

/// Reports tell of no more packets than they may, and a sender whose packets they name takes
/// whatever they tell, each packet once, and keeps its target within its bounds.
pub fn rtcp(bytes: &[u8]) {
    let Ok(read) = reports::read(bytes) else {
        return;
    };
    assert!(read.len() * 4 <= bytes.len(), "more packets than bytes");
    let mut sending = None;
    let mut told = 0;
    for report in read {
        let reports::Report::Arrivals(report) = report else {
            continue;
        };
        for track in &report.tracks {
            assert!(track.ages.len() <= REPORT_PACKETS_MAX);
        }
        let ssrc = report.tracks.first().map_or(1, |track| track.ssrc);
        let (sender, rate, now) = sending.get_or_insert_with(|| spoken(ssrc));
        let feedback = sender.feedback(&report);
        told += feedback.packets.len();
        assert!(told <= SPOKEN, "a packet was told twice");
        now.mono += REPORT_INTERVAL;
        now.utc = now.utc + REPORT_INTERVAL;
        rate.report(*now, &feedback);
        assert!((50_000..=2_000_000).contains(&rate.target()));
        rate.beat(*now, Way::default());
    }
}

/// Packets of sound that a sender sent before it is told of them.
const SPOKEN: usize = 300;

/// A sender that has sent sound on a track of this source, and its rate control.
fn spoken(ssrc: u32) -> (Sender, Rate, Now) {
    let mut sender = Sender::new(0, [ssrc, ssrc ^ 1]);
    let mut now = base();
    let mut input = |now, input| {
        sender
            .handle_input(now, input)
            .unwrap_or_else(|fault| panic!("{fault}"));
    };
    input(now, sender::Input::Open);
    for _ in 0..SPOKEN {
        let frame = EncodedFrame {
            kind: Kind::Audio,
            captured: now.utc,
            data: vec![0x78; 60].into(),
            keyframe: false,
            width: 0,
            height: 0,
            duration: SOUND,
        };
        input(now, sender::Input::Frame(frame));
        now.mono += SOUND;
        now.utc = now.utc + SOUND;
    }
    while !matches!(sender.poll_output(), sender::Output::Wait(..)) {}
    (sender, Rate::new((50_000, 2_000_000)), now)
}

/// A packet of sound lasts so long.
const SOUND: Duration = Duration::from_millis(20);

fn base() -> Now {
    static BASE: OnceLock<Now> = OnceLock::new();
    *BASE.get_or_init(crate::world::base)
}

/// A receiver that is told things as the bytes say: which, how much of the rest, and how late.
pub fn roq(bytes: &[u8]) {
    if let Some((value, length)) = flow::varint(bytes) {
        let mut again = Vec::new();
        flow::put_varint(&mut again, value);
        assert_eq!(flow::varint(&again), Some((value, again.len())));
        assert!(again.len() <= length);
    }
    let mut receiver = Receiver::new(0, 1, 7);
    let mut now = base();
    let mut rest = bytes;
    while let [what, length, more @ ..] = rest {
        let (piece, behind) = more.split_at(usize::from(*length).min(more.len()));
        rest = behind;
        let stream = u64::from(what >> 4);
        let input = match what & 7 {
            0 | 1 => Input::Datagram(piece),
            2 | 3 => Input::StreamData(stream, piece),
            4 => Input::StreamEnd(stream),
            5 => Input::StreamReset(stream),
            6 => Input::Accepted,
            _ => Input::Undecodable,
        };
        let _ = receiver.handle_input(now, input);
        let late = Duration::from_millis(u64::from(*length) * 4);
        now.mono += late;
        now.utc = now.utc + late;
        let _ = receiver.handle_input(now, Input::Tick);
        drain(&mut receiver, bytes.len());
    }
    // nothing is held for ever: after a minute all that will come has come
    for _ in 0..60 {
        now.mono += Duration::from_secs(1);
        now.utc = now.utc + Duration::from_secs(1);
        let _ = receiver.handle_input(now, Input::Tick);
        drain(&mut receiver, bytes.len());
    }
}

/// Takes everything; a machine that is drained names a time or rests.
fn drain(receiver: &mut Receiver, came: usize) {
    for _ in 0..10_000 {
        match receiver.poll_output() {
            Output::Wait(..) => return,
            // start codes are longer than the lengths on the wire
            Output::Frame(frame) => {
                assert!(frame.data.len() <= (came * 4).min(FRAME_MAX + 4 * NALS_MAX))
            }
            Output::Audio(sound) => assert!(sound.data.len() <= came),
            _ => {}
        }
    }
    panic!("a receiver that always has more to say");
}

/// Units that were cut can be joined and are cut the same way again; no unit harms a decoder.
pub fn h264(bytes: &[u8]) {
    let cut = units::split(bytes);
    assert!(cut.len() <= NALS_MAX);
    let mut joined = Vec::new();
    for unit in &cut {
        units::join(&mut joined, unit);
    }
    assert_eq!(units::split(&joined), cut, "joined and cut otherwise");
    assert_eq!(units::is_keyframe(&joined), units::is_keyframe(bytes));
    if let Ok(mut decoder) = decode::h264::Decoder::new() {
        for keyframe in [true, false] {
            if let Ok(Some(picture)) = decoder.decode(bytes, keyframe) {
                let (width, height) = picture.size();
                assert!(width > 0 && height > 0);
            }
        }
    }
}

/// A packet's length in samples is one of Opus', and a decoder agrees with it.
pub fn opus(bytes: &[u8]) {
    let told = packets::samples(bytes);
    let _ = packets::has_fec(bytes);
    if let Some(told) = told {
        assert!((120..=5_760).contains(&told), "{told}");
    }
    if let Ok(mut decoder) = decode::opus::Decoder::new() {
        if let Some(samples) = decoder.any(bytes) {
            assert_eq!(
                u32::try_from(samples.len()).ok(),
                told,
                "the decoder counts otherwise"
            );
        }
        assert_eq!(decoder.rebuild(bytes).len(), decoder.conceal().len());
    }
}
