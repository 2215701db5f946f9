//! RoQ flow ids and framing (`spec/media.md`, section 2; draft-ietf-avtcore-rtp-over-quic):
//! a QUIC varint names the flow, in front of a datagram and at the start of a stream;
//! in a stream another varint gives the length of each packet.

use crate::fault::{Code, Fault};

/// What a flow carries, the lower four bits of its id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// RTCP of all the participant's tracks.
    Rtcp,
    /// Sound.
    Audio,
    /// Picture.
    Video,
    /// Sound that was sent before.
    Again,
    /// A train that asks how much the way carries.
    Probe,
    /// The answer to one.
    Probed,
}

/// A flow: participant × 16 + kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Flow {
    /// The host is 0, the first guest 1.
    pub participant: u8,
    /// What it carries.
    pub part: Part,
}

impl Flow {
    /// The flow id on the wire.
    pub fn id(self) -> u64 {
        let part = match self.part {
            Part::Rtcp => 0,
            Part::Audio => 1,
            Part::Video => 2,
            Part::Again => 9,
            Part::Probe => 10,
            Part::Probed => 11,
        };
        u64::from(self.participant) * 16 + part
    }

    /// Reads a flow id; an unknown kind is `None`, and its bytes are ignored.
    pub fn from_id(id: u64) -> Option<Self> {
        let participant = u8::try_from(id / 16).ok()?;
        let part = match id % 16 {
            0 => Part::Rtcp,
            1 => Part::Audio,
            2 => Part::Video,
            9 => Part::Again,
            10 => Part::Probe,
            11 => Part::Probed,
            _ => return None,
        };
        Some(Self { participant, part })
    }
}

/// Appends a QUIC varint (RFC 9000, section 16) in its shortest form.
/// Values over 2^62 − 1 do not occur and are cut to it.
pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    let value = value.min((1 << 62) - 1);
    let bytes = value.to_be_bytes();
    let (skip, tag) = match value {
        0..=0x3f => (7, 0x00),
        0x40..=0x3fff => (6, 0x40),
        0x4000..=0x3fff_ffff => (4, 0x80),
        _ => (0, 0xc0),
    };
    let start = out.len();
    out.extend(bytes.iter().skip(skip));
    if let Some(first) = out.get_mut(start) {
        *first |= tag;
    }
}

/// Reads a QUIC varint: its value and its length. `None`: more bytes are needed.
pub fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1usize << (first >> 6);
    let rest = bytes.get(1..len)?;
    Some((
        rest.iter().fold(u64::from(first & 0x3f), |value, byte| {
            value << 8 | u64::from(*byte)
        }),
        len,
    ))
}

/// A datagram's flow id and packet.
pub fn datagram(bytes: &[u8]) -> Result<(u64, &[u8]), Fault> {
    let (id, len) = varint(bytes)
        .ok_or_else(|| Fault::new(Code::Malformed).with("a datagram without flow id"))?;
    Ok((id, bytes.get(len..).unwrap_or_default()))
}

/// A datagram of a flow.
pub fn to_datagram(flow: Flow, packet: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(packet.len() + 2);
    put_varint(&mut out, flow.id());
    out.extend_from_slice(packet);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // covers: SUORA-MED-001
    #[test]
    fn flows_number_participants_and_kinds() {
        let flow = Flow {
            participant: 1,
            part: Part::Video,
        };
        assert_eq!(flow.id(), 18);
        assert_eq!(Flow::from_id(18), Some(flow));
        assert_eq!(Flow::from_id(3), None);
        assert_eq!(Flow::from_id(1 << 20), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some((value, len)) = varint(&bytes) {
                prop_assert!(value < 1 << 62 && (1..=8).contains(&len));
                // an id that is known is written as the same id
                prop_assert!(Flow::from_id(value).is_none_or(|flow| flow.id() == value));
                let (id, packet) = datagram(&bytes).unwrap();
                prop_assert_eq!((id, packet), (value, &bytes[len..]));
            } else {
                prop_assert_eq!(datagram(&bytes).map_err(|f| f.code), Err(Code::Malformed));
            }
        }

        #[test]
        fn varints_round_trip(value in 0u64..(1 << 62)) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(varint(&out), Some((value, out.len())));
            prop_assert_eq!(varint(&out[..out.len() - 1]), None);
        }
    }
}
