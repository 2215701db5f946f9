//! How many bytes of a picture leave together: apart, their headers would take more of a narrow
//! way than they do. Sound waits behind two such packets at most.

use std::time::Duration;

/// What leaves within this leaves together.
const TOGETHER: Duration = Duration::from_millis(10);
/// They are so many at least, and as many as a packet holds at most.
const BYTES: (f64, f64) = (250.0, 1_150.0);

/// Bytes of a picture that are worth a packet, where pictures leave at `pace` bits a second.
pub(super) fn of(pace: f64) -> usize {
    let bytes = pace / 8.0 * TOGETHER.as_secs_f64();
    bytes.clamp(BYTES.0, BYTES.1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_way_has_small_packets_and_a_wide_one_whole_ones() {
        assert_eq!([8e4, 4e5, 2e6].map(of), [250, 500, 1_150]);
    }
}
