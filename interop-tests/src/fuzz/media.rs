//! What comes over the media connection.

use std::sync::OnceLock;
use std::time::Duration;

use suora_node::decode;
use suora_protocol::limits::{FRAME_MAX, NALS_MAX, REPORT_PACKETS_MAX};
use suora_protocol::media::receiver::{Input, Output, Receiver};
use suora_protocol::media::{flow, h264 as units, opus as packets, rtcp as reports, rtp as packet};
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

/// Reports tell of no more packets than they may.
pub fn rtcp(bytes: &[u8]) {
    let Ok(read) = reports::read(bytes) else {
        return;
    };
    assert!(read.len() * 4 <= bytes.len(), "more packets than bytes");
    for report in read {
        if let reports::Report::Arrivals(report) = report {
            for track in &report.tracks {
                assert!(track.ages.len() <= REPORT_PACKETS_MAX);
            }
        }
    }
}

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
