//! How much a way carries, asked while nobody speaks yet (`spec/media.md`, section 9): a short
//! train of packets leaves at once, the narrowest part of the way spreads them, and the other
//! end says at what rate they came. So a first picture does not fill a narrow way for a
//! second. The idea is Keshav's (SIGCOMM 1991), its errors are in Dovrolis, Ramanathan and
//! Moore (INFOCOM 2001): a radio that aggregates or a shaper with a bucket makes the answer
//! too high, so it only bounds what is begun with.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::flow;
use crate::fault::{Code, Fault};
use crate::limits::{PROBE_BYTES, PROBE_PACKETS};

/// Steps between packets that an answer is made of at least.
const STEPS: u8 = 2;
/// The least time that counts, whatever the clock says.
const LEAST: Duration = Duration::from_millis(1);

/// The payloads of a train, in order: number and zeros.
pub fn train() -> impl Iterator<Item = Bytes> {
    (0..PROBE_PACKETS).map(|number| {
        let mut packet = BytesMut::zeroed(PROBE_BYTES);
        if let Some(first) = packet.first_mut() {
            *first = number;
        }
        packet.freeze()
    })
}

/// A train as it arrives.
#[derive(Debug, Default)]
pub struct Arrivals {
    first: Option<(u8, Instant)>,
    last: u8,
}

impl Arrivals {
    /// A packet of the train came: the payload of the answer, once one can be given. Packets
    /// that come twice or out of order tell nothing, and a train has an end.
    pub fn take(&mut self, now: Instant, packet: &[u8]) -> Result<Option<Bytes>, Fault> {
        let number = packet.first().copied();
        let number = number
            .filter(|number| *number < PROBE_PACKETS && packet.len() == PROBE_BYTES)
            .ok_or_else(|| Fault::new(Code::Malformed).with("not a packet of a train"))?;
        let Some((first, begin)) = self.first else {
            (self.first, self.last) = (Some((number, now)), number);
            return Ok(None);
        };
        if number <= self.last {
            return Ok(None);
        }
        self.last = number;
        let steps = number.saturating_sub(first);
        if steps < STEPS {
            return Ok(None);
        }
        let time = now.saturating_duration_since(begin).max(LEAST);
        let bits = f64::from(steps) * PROBE_BYTES as f64 * 8.0;
        let mut answer = Vec::new();
        flow::put_varint(&mut answer, (bits / time.as_secs_f64()) as u64);
        Ok(Some(answer.into()))
    }
}

/// The bits a second that an answer tells.
pub fn read(packet: &[u8]) -> Result<u64, Fault> {
    match flow::varint(packet) {
        Some((bits, len)) if len == packet.len() => Ok(bits),
        _ => Err(Fault::new(Code::Malformed).with("not an answer to a train")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::tests::base;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// The last answer to a train of which these arrive, at these times in ms.
    fn answer(came: &[(usize, u64)]) -> Option<u64> {
        let (start, mut arrivals) = (base(), Arrivals::default());
        let train: Vec<_> = train().collect();
        let mut last = None;
        for (number, at) in came {
            let answer = arrivals.take(start.after(MS(*at)).mono, &train[*number]);
            last = answer
                .unwrap()
                .map(|answer| read(&answer).unwrap())
                .or(last);
        }
        last
    }

    // covers: SUORA-MED-058
    #[test]
    fn the_answer_is_the_rate_at_which_a_train_came() {
        let even: Vec<_> = (0..6).map(|n| (n, n as u64 * 40)).collect();
        assert_eq!(answer(&even), Some(200_000));
        // one that is lost took its time on the way all the same
        let lost: Vec<_> = even.iter().copied().filter(|(n, _)| *n != 3).collect();
        assert_eq!(answer(&lost), Some(200_000));
        assert_eq!(answer(&even[..2]), None);
        assert_eq!(answer(&[(0, 0), (0, 40), (1, 40), (1, 80)]), None);
        // faster than a clock can tell
        let fast: Vec<_> = (0..6).map(|n| (n, 0)).collect();
        assert_eq!(answer(&fast), Some(40_000_000));
    }

    #[test]
    fn what_is_no_train_and_no_answer_is_malformed() {
        let (now, mut arrivals) = (base().mono, Arrivals::default());
        let long = [0; PROBE_BYTES + 1];
        let mut late = [0; PROBE_BYTES];
        late[0] = PROBE_PACKETS;
        for bytes in [&[][..], &[0; 20], &long, &late] {
            assert!(arrivals.take(now, bytes).is_err());
            assert!(read(bytes).is_err());
        }
    }
}
