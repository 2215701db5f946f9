//! How often those are answered who have proven nothing (`spec/turn.md`, section 6). Their source may be
//! forged, so what counts is where an answer goes: each prefix (/24, /56) has so many a second. The
//! table has one size, whoever comes: prefixes that fall together share, and which do so nobody
//! outside can know.

use std::net::IpAddr;
use std::time::Instant;

/// Places in the table.
const PLACES: usize = 4_096;

/// Answers that a prefix may have at once, in seconds of its rate.
const BURST: u32 = 4;

#[derive(Clone, Copy, Debug)]
struct Place {
    left: u32,
    /// Milliseconds since the table began.
    at: u32,
}

/// The table.
#[derive(Debug)]
pub struct Strangers {
    key: [u64; 2],
    rate: u32,
    began: Instant,
    places: Vec<Place>,
}

fn prefix(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u64::from(u32::from(ip) >> 8) | (4 << 56),
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, ..] = ip.octets();
            u64::from_be_bytes([6, a, b, c, d, e, f, g])
        }
    }
}

impl Strangers {
    /// For so many answers a second and prefix, under a key that a door drew.
    pub fn new(rate: u32, key: [u64; 2], now: Instant) -> Self {
        let full = Place {
            left: rate.saturating_mul(BURST),
            at: 0,
        };
        Self {
            key,
            rate,
            began: now,
            places: vec![full; PLACES],
        }
    }

    /// Whether one more answer may go there.
    pub fn take(&mut self, now: Instant, ip: IpAddr) -> bool {
        let [add, multiply] = self.key;
        let mixed = (prefix(ip) ^ add).wrapping_mul(multiply | 1);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(multiply.rotate_left(31) | 1) >> 48;
        let index = usize::try_from(mixed).unwrap_or(0) % PLACES;
        let millis = now.saturating_duration_since(self.began).as_millis();
        let millis = u32::try_from(millis % (1 << 32)).unwrap_or(0);
        let Some(place) = self.places.get_mut(index) else {
            return false;
        };
        let since = u64::from(millis.wrapping_sub(place.at)).min(60_000);
        let more = since * u64::from(self.rate) / 1_000;
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            place.left = place.left.saturating_add(more);
            place.left = place.left.min(self.rate.saturating_mul(BURST));
            place.at = millis;
        }
        let stands = place.left > 0;
        place.left = place.left.saturating_sub(1);
        stands
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "door: the base of virtual time in tests"
    )]
    // covers: SUORA-TRN-061
    #[test]
    fn a_prefix_has_its_answers_and_takes_nobody_elses() {
        let start = Instant::now();
        let mut strangers =
            Strangers::new(10, [0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15], start);
        let crowd = |host: u8| IpAddr::from([192, 0, 2, host]);
        let taken = |strangers: &mut Strangers, now| {
            (0..=255)
                .filter(|host| strangers.take(now, crowd(*host)))
                .count()
        };
        assert_eq!(taken(&mut strangers, start), 40);
        assert!(strangers.take(start, [198, 51, 100, 1].into()));
        assert!(strangers.take(start, "2001:db8::1".parse().unwrap()));
        let second = start + Duration::from_secs(1);
        assert_eq!(taken(&mut strangers, second), 10);
        assert_eq!(
            taken(&mut strangers, second + Duration::from_secs(3_600)),
            40
        );
        // one network of many hosts of IPv6 is one prefix
        let many = (0..500_u16).filter(|n| {
            let ip = format!("2001:db8:1:{:x}::{n:x}", n % 256).parse().unwrap();
            strangers.take(start, ip)
        });
        assert_eq!(many.count(), 40);
    }
}
