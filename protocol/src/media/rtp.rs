//! RTP headers (RFC 3550) with the capture time (abs-capture-time, header extension
//! id 1 in the one-byte form of RFC 8285), as `spec/media.md`, section 3 uses them.

use rtp_types::{RtpPacket, RtpPacketBuilder};

use super::{EncodedFrame, Kind};
use crate::fault::{Code, Fault};
use crate::time::Timestamp;

/// Payload type of H.264.
pub const PT_H264: u8 = 96;
/// Payload type of Opus.
pub const PT_OPUS: u8 = 111;
/// RTP clock of pictures, in Hz.
pub const VIDEO_CLOCK: u64 = 90_000;
/// RTP clock of sound, in Hz.
pub const AUDIO_CLOCK: u64 = 48_000;

/// A padded payload is a multiple of so many bytes long.
pub const STEP: usize = 32;
/// The profile id of one-byte header extensions.
const ONE_BYTE: u16 = 0xbede;
/// Seconds from 1900 (NTP) to 1970.
const NTP_EPOCH: i64 = 2_208_988_800;

/// 64-bit NTP time, seconds since 1900 in 32.32 fixed point.
pub fn to_ntp(time: Timestamp) -> u64 {
    let micros = time
        .as_micros()
        .saturating_add(NTP_EPOCH * 1_000_000)
        .max(0);
    let micros = u128::try_from(micros).unwrap_or(0);
    // rounded, so that the way back gives the same microsecond
    u64::try_from((((micros << 32) + 500_000) / 1_000_000) & u128::from(u64::MAX)).unwrap_or(0)
}

/// UTC of a 64-bit NTP time, to the nearest microsecond; without its first bit it is of the era
/// that begins in 2036 (RFC 4330, section 3).
pub fn from_ntp(ntp: u64) -> Timestamp {
    let era = u128::from(ntp >> 63 == 0) << 64;
    let micros = ((era + u128::from(ntp)) * 1_000_000 + (1 << 31)) >> 32;
    Timestamp::from_micros(
        i64::try_from(micros)
            .unwrap_or(i64::MAX)
            .saturating_sub(NTP_EPOCH * 1_000_000),
    )
}

/// The RTP time of a capture time: its clock runs from 1970 and wraps at 32 bits.
pub fn rtp_time(kind: Kind, captured: Timestamp) -> u32 {
    let clock = match kind {
        Kind::Audio => AUDIO_CLOCK,
        Kind::Video => VIDEO_CLOCK,
    };
    let ticks =
        u128::try_from(captured.as_micros().max(0)).unwrap_or(0) * u128::from(clock) / 1_000_000;
    u32::try_from(ticks & u128::from(u32::MAX)).unwrap_or(0)
}

/// A packet to send.
#[derive(Clone, Copy, Debug)]
pub struct Out<'a> {
    /// Payload type.
    pub payload_type: u8,
    /// Last packet of a picture.
    pub marker: bool,
    /// Sequence number.
    pub sequence: u16,
    /// RTP time.
    pub time: u32,
    /// The track.
    pub ssrc: u32,
    /// The capture time, on the first packet of a frame.
    pub captured: Option<Timestamp>,
    /// The payload.
    pub payload: &'a [u8],
}

/// Writes a packet.
pub fn write(out: Out<'_>) -> Result<Vec<u8>, Fault> {
    build(out, None)
}

/// Writes a packet of sound. `padded`: up to a multiple of [`STEP`] bytes of payload, so that its
/// length tells less of what it holds.
pub fn sound(
    (ssrc, sequence): (u32, u16),
    frame: &EncodedFrame,
    padded: bool,
) -> Result<Vec<u8>, Fault> {
    let out = Out {
        payload_type: PT_OPUS,
        marker: false,
        sequence,
        time: rtp_time(Kind::Audio, frame.captured),
        ssrc,
        captured: Some(frame.captured),
        payload: &frame.data,
    };
    let over = frame.data.len().next_multiple_of(STEP) - frame.data.len();
    let padding = u8::try_from(over).ok();
    build(out, padding.filter(|over| padded && *over > 0))
}

fn build(out: Out<'_>, padding: Option<u8>) -> Result<Vec<u8>, Fault> {
    let mut extension = vec![0x17];
    let mut builder = RtpPacketBuilder::<&[u8], &[u8]>::new()
        .payload_type(out.payload_type)
        .marker_bit(out.marker)
        .sequence_number(out.sequence)
        .timestamp(out.time)
        .ssrc(out.ssrc)
        .maybe_padding(padding)
        .payload(out.payload);
    if let Some(captured) = out.captured {
        extension.extend_from_slice(&to_ntp(captured).to_be_bytes());
        extension.resize(12, 0);
        builder = builder.extension(ONE_BYTE, &extension);
    }
    builder
        .write_vec()
        .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))
}

/// A received packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct In<'a> {
    /// Payload type.
    pub payload_type: u8,
    /// Last packet of a picture.
    pub marker: bool,
    /// Sequence number.
    pub sequence: u16,
    /// RTP time.
    pub time: u32,
    /// The track.
    pub ssrc: u32,
    /// The capture time, where the packet carries one.
    pub captured: Option<Timestamp>,
    /// The payload.
    pub payload: &'a [u8],
}

/// Reads a packet; anything that is no RTP is [`Code::Malformed`].
pub fn read(bytes: &[u8]) -> Result<In<'_>, Fault> {
    let malformed = |what: String| Fault::new(Code::Malformed).with(what);
    let packet = RtpPacket::parse(bytes).map_err(|error| malformed(error.to_string()))?;
    let start = packet.payload_offset();
    let end = start.checked_add(packet.payload_len()).unwrap_or(start);
    Ok(In {
        payload_type: packet.payload_type(),
        marker: packet.marker_bit(),
        sequence: packet.sequence_number(),
        time: packet.timestamp(),
        ssrc: packet.ssrc(),
        captured: packet
            .extension()
            .and_then(|(profile, data)| capture_time(profile, data)),
        payload: bytes
            .get(start..end)
            .ok_or_else(|| malformed("cut short".into()))?,
    })
}

/// Finds abs-capture-time among one-byte header extensions.
fn capture_time(profile: u16, mut data: &[u8]) -> Option<Timestamp> {
    if profile != ONE_BYTE {
        return None;
    }
    while let Some((head, rest)) = data.split_first() {
        if *head == 0 {
            data = rest;
            continue;
        }
        let len = usize::from(head & 0x0f) + 1;
        let element = rest.get(..len)?;
        if head >> 4 == 1 {
            // 16 bytes when the sender adds its clock offset: the first 8 are the time
            let ntp: [u8; 8] = element.get(..8)?.try_into().ok()?;
            return Some(from_ntp(u64::from_be_bytes(ntp)));
        }
        data = rest.get(len..)?;
    }
    None
}

/// Extends 16-bit sequence numbers by the nearest distance to the last one.
#[derive(Clone, Debug, Default)]
pub struct Extend {
    last: Option<i64>,
}

impl Extend {
    /// The extended number of `sequence`.
    pub fn extend(&mut self, sequence: u16) -> i64 {
        let last = match self.last {
            // begins one cycle up, so that early reordering stays positive
            None => {
                let first = 65_536 + i64::from(sequence);
                self.last = Some(first);
                return first;
            }
            Some(last) => last,
        };
        let delta = sequence.wrapping_sub(u16::try_from(last & 0xffff).unwrap_or(0));
        let signed = i64::from(i16::from_ne_bytes(delta.to_ne_bytes()));
        let extended = last + signed;
        self.last = Some(last.max(extended));
        extended
    }
}

/// Jitter of arrival, as RFC 3550 (section 6.4.1) smooths it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread {
    last: Option<i64>,
    micros: f64,
}

impl Spread {
    /// A packet came; `transit` is its arrival minus its capture, in microseconds, by
    /// whatever two clocks.
    pub fn take(&mut self, transit: i64) {
        if let Some(last) = self.last.replace(transit) {
            let difference = transit.saturating_sub(last).unsigned_abs() as f64;
            self.micros += (difference - self.micros) / 16.0;
        }
    }

    /// In ms; `None` before there was anything to compare.
    pub fn ms(&self) -> Option<f64> {
        self.last.map(|_| self.micros / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    // covers: SUORA-MED-004
    #[test]
    fn the_capture_time_survives_to_the_microsecond() {
        for micros in [1_700_000_000_000_001, 1_795_525_200_999_999, 0] {
            let captured = Timestamp::from_micros(micros);
            let bytes = write(Out {
                payload_type: 111,
                marker: true,
                sequence: 7,
                time: 9,
                ssrc: 3,
                captured: Some(captured),
                payload: b"abc",
            })
            .unwrap();
            let packet = read(&bytes).unwrap();
            assert_eq!(
                (packet.captured, packet.payload, packet.sequence),
                (Some(captured), &b"abc"[..], 7)
            );
        }
    }

    // covers: SUORA-SEC-280
    #[test]
    fn a_padded_packet_has_whole_steps_and_reads_as_what_it_holds() {
        let mut lengths = Vec::new();
        for len in 1..=100 {
            let frame = EncodedFrame {
                kind: Kind::Audio,
                captured: Timestamp::from_secs(1),
                data: vec![7_u8; len].into(),
                keyframe: true,
                width: 0,
                height: 0,
                duration: Duration::from_millis(20),
            };
            let [plain, padded] = [false, true].map(|padded| sound((3, 7), &frame, padded));
            let (plain, padded) = (plain.unwrap(), padded.unwrap());
            assert_eq!(read(&padded).unwrap(), read(&plain).unwrap());
            assert_eq!(read(&padded).unwrap().payload, frame.data);
            assert!(padded.len() - plain.len() < STEP);
            lengths.push(padded.len());
        }
        lengths.dedup();
        assert_eq!(lengths, [32, 64, 96, 128].map(|len| 28 + len));
    }

    // covers: SUORA-MED-140
    #[test]
    fn times_go_on_where_the_seconds_of_ntp_wrap() {
        let wrap = Timestamp::from_secs(2_085_978_496);
        for micros in [-1_000_000, -1, 0, 1, 1_000_000] {
            let time = wrap.shift(micros);
            assert_eq!(from_ntp(to_ntp(time)), time, "{micros}");
        }
    }

    #[test]
    fn sequence_numbers_extend_over_the_wrap() {
        let mut extend = Extend::default();
        let first = extend.extend(65_534);
        assert_eq!(extend.extend(1), first + 3);
        assert_eq!(extend.extend(65_535), first + 1);
        assert_eq!(extend.extend(2), first + 4);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes);
        }

        #[test]
        fn arbitrary_extensions_never_panic(
            head in proptest::array::uniform12(any::<u8>()),
            one_byte in any::<bool>(),
            words in 0u16..20,
            rest in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            // version 2 with an extension; padding and sources as they come
            let mut bytes = head.to_vec();
            bytes[0] = 0x90 | head[0] & 0x2f;
            let sources = usize::from(head[0] & 0x0f) * 4;
            bytes.resize(12 + sources, 0);
            let profile = if one_byte { ONE_BYTE } else { 0x1000 };
            bytes.extend_from_slice(&profile.to_be_bytes());
            bytes.extend_from_slice(&words.to_be_bytes());
            bytes.extend_from_slice(&rest);
            if let Ok(packet) = read(&bytes) {
                prop_assert!(packet.payload.len() <= rest.len());
                prop_assert!(one_byte || packet.captured.is_none());
            }
        }
    }

    #[test]
    fn jitter_is_smoothed_by_a_sixteenth_and_knows_no_offset() {
        let mut spread = Spread::default();
        assert_eq!(spread.ms(), None);
        for _ in 0..1_000 {
            spread.take(-3_600_000_000);
        }
        assert_eq!(spread.ms(), Some(0.0));
        spread.take(-3_600_000_000 + 16_000);
        assert_eq!(spread.ms(), Some(1.0));
    }
}
