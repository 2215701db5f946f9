//! H.264 access units (RFC 6184 in single NAL unit mode; `spec/media.md`, section 4):
//! cut from Annex B, joined to Annex B. Parameter sets and SEI travel like slices.

use crate::limits::NALS_MAX;

/// The NAL units of an Annex B access unit, without start codes; at most [`NALS_MAX`].
pub fn split(annex_b: &[u8]) -> Vec<&[u8]> {
    let mut units = Vec::new();
    let mut start: Option<usize> = None;
    let mut at = 0;
    while at + 3 <= annex_b.len() {
        if annex_b.get(at..at + 3) == Some(&[0, 0, 1]) {
            push(&mut units, annex_b, start, at);
            start = Some(at + 3);
            at += 3;
        } else {
            at += 1;
        }
    }
    push(&mut units, annex_b, start, annex_b.len());
    units
}

fn push<'a>(units: &mut Vec<&'a [u8]>, annex_b: &'a [u8], start: Option<usize>, end: usize) {
    let Some(unit) = start.and_then(|start| annex_b.get(start..end)) else {
        return;
    };
    // zero bytes before a start code belong to it
    let len = unit
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    if let Some(unit) = unit.get(..len)
        && !unit.is_empty()
        && units.len() < NALS_MAX
    {
        units.push(unit);
    }
}

/// Appends a NAL unit with its start code.
pub fn join(out: &mut Vec<u8>, unit: &[u8]) {
    out.extend_from_slice(&[0, 0, 0, 1]);
    out.extend_from_slice(unit);
}

/// The type of a NAL unit (5 IDR, 7 SPS, 8 PPS); 0 for none.
pub fn unit_type(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |first| first & 0x1f)
}

/// Whether decoding can start at this access unit.
pub fn is_keyframe(annex_b: &[u8]) -> bool {
    split(annex_b).iter().any(|unit| unit_type(unit) == 5)
}

/// Whether a NAL unit may be carried: forbidden bit 0, a type of RFC 6184's single NAL unit packet.
pub fn is_single(unit: &[u8]) -> bool {
    unit.first()
        .is_some_and(|first| first & 0x80 == 0 && (1..=23).contains(&(first & 0x1f)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // covers: SUORA-MED-005
    #[test]
    fn units_are_cut_at_both_forms_of_start_code() {
        let bytes = [
            0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 0, 1, 0x65, 9, 9,
        ];
        assert_eq!(
            split(&bytes),
            [&[0x67, 1, 2][..], &[0x68, 3], &[0x65, 9, 9]]
        );
        assert!(is_keyframe(&bytes));
        assert!(is_single(&[0x65]) && !is_single(&[0x7c]) && !is_single(&[0xe5]));
        assert!(split(&[1, 2, 3]).is_empty());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(0u8..4, 0..2_000)) {
            let units = split(&bytes);
            prop_assert!(units.len() <= NALS_MAX);
            prop_assert!(units.iter().all(|unit| !unit.is_empty()));
            // each unit had a start code of three bytes at least
            let carried: usize = units.iter().map(|unit| unit.len() + 3).sum();
            prop_assert!(carried <= bytes.len());
            let _ = (is_keyframe(&bytes), is_single(&bytes), unit_type(&bytes));
        }

        #[test]
        fn joined_units_are_cut_again(units in proptest::collection::vec(proptest::collection::vec(1u8.., 1..40), 1..8)) {
            let mut out = Vec::new();
            units.iter().for_each(|unit| join(&mut out, unit));
            prop_assert_eq!(split(&out), units.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }
}
