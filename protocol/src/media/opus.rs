//! Opus packets (RFC 7587; `spec/media.md`, section 6): one packet of 20 ms each,
//! mono, at an RTP clock of 48 kHz whatever the coded bandwidth.

/// The duration of a packet in samples at 48 kHz, from its table of contents
/// (RFC 6716, section 3.1); `None` for a packet that no decoder takes.
pub fn samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let config = toc >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1_920, 2_880]
            .get(usize::from(config & 3))
            .copied()?,
        12..=15 => [480, 960].get(usize::from(config & 1)).copied()?,
        _ => [120, 240, 480, 960].get(usize::from(config & 3)).copied()?,
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    let samples = frame * count;
    (1..=5_760).contains(&samples).then_some(samples)
}

/// Whether a packet holds no sound but says that a pause begins or goes on: a table of
/// contents and at most one byte more, as an encoder's discontinuous transmission makes it.
pub const fn is_pause(packet: &[u8]) -> bool {
    packet.len() <= 2
}

/// Whether a mono packet of one SILK or hybrid frame of up to 20 ms holds a copy of the frame before it
/// at a lower rate (in-band FEC, LBRR of RFC 6716, section 4.2.4). The first two bits of
/// the frame are coded evenly and can be read as they stand: voice activity, then the copy.
pub fn has_fec(packet: &[u8]) -> bool {
    let [toc, first, _, ..] = packet else {
        return false;
    };
    let short = match toc >> 3 {
        // 10 and 20 ms of SILK
        config @ 0..=11 => config & 3 < 2,
        12..=15 => true,
        _ => false,
    };
    short && toc & 0b111 == 0 && first & 0x40 != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // covers: SUORA-MED-006
    #[test]
    fn the_table_of_contents_gives_the_duration() {
        assert_eq!(samples(&[0x78, 1, 2]), Some(960));
        assert_eq!(samples(&[0x08]), Some(960));
        assert_eq!(samples(&[0xf8]), Some(960));
        assert_eq!(samples(&[0x03, 0x3f]), None);
        assert_eq!(samples(&[]), None);
    }

    // covers: SUORA-MED-042
    #[test]
    fn a_pause_is_told_by_the_length_and_redundancy_by_its_bit() {
        assert!(is_pause(&[0x78]) && is_pause(&[0x78, 0]) && !is_pause(&[0x78, 0, 0]));
        assert!(has_fec(&[0x78, 0x40, 0]) && has_fec(&[0x08, 0xff, 0]));
        // none; a CELT frame; two frames; stereo; 40 ms; a mark of a pause
        for packet in [
            &[0x78, 0xbf, 0][..],
            &[0xf8, 0x40, 0],
            &[0x79, 0x40, 0],
            &[0x7c, 0x40, 0],
            &[0x10, 0x40, 0],
            &[0x78, 0x40],
        ] {
            assert!(!has_fec(packet), "{packet:?}");
        }
    }

    #[test]
    fn every_table_of_contents_is_a_whole_duration_or_none() {
        let heads = (0..=u8::MAX).flat_map(|toc| (0..=u8::MAX).map(move |count| [toc, count]));
        let durations: Vec<_> = heads.filter_map(|head| samples(&head)).collect();
        // of the 256 first bytes 192 say how many frames there are; the others ask the second byte
        assert!(durations.len() > 192 * 256);
        for samples in durations {
            // 2.5 to 120 ms
            assert!((120..=5_760).contains(&samples) && samples % 120 == 0);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            // two bytes say all
            prop_assert_eq!(samples(&bytes), samples(&bytes[..bytes.len().min(2)]));
            prop_assert!(!has_fec(&bytes) || !is_pause(&bytes));
        }
    }
}
