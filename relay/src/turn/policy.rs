//! What is never relayed, and how much of the rest (`spec/turn.md`, sections 4 and 5; SECURITY
//! considerations of RFC 8656, section 21). An address is judged as what it leads to: IPv4 that
//! travels inside IPv6 is IPv4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Why a peer is not relayed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Private, loopback, link-local, shared, or no unicast address of the internet.
    NotPublic,
    /// In one of the agency's networks.
    Network,
    /// The relay itself.
    Own,
    /// A port under 1024 that is not 443, or none.
    Port,
}

/// What a peer's address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Somewhere behind a socket.
    Outside,
    /// One of the relay's own relayed addresses, or its port range at least: reached in memory.
    Relayed,
}

/// A range of addresses: `10.1.0.0/16`, `2001:db8::/32`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    ip: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads one; an error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("{text}: a network is an address and a length, as 10.1.0.0/16");
        let (ip, bits) = text.split_once('/').ok_or_else(bad)?;
        let ip: IpAddr = ip.parse().map_err(|_| bad())?;
        let bits: u8 = bits.parse().map_err(|_| bad())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        if bits > most {
            return Err(bad());
        }
        Ok(Self { ip, bits })
    }

    /// Whether an address lies in it.
    pub fn holds(&self, ip: IpAddr) -> bool {
        let wide = |ip| match ip {
            IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
            IpAddr::V6(ip) => u128::from(ip),
        };
        let differ = wide(self.ip) ^ wide(ip);
        let rest = 128 - u32::from(self.bits);
        self.ip.is_ipv4() == ip.is_ipv4() && differ.checked_shr(rest).unwrap_or(0) == 0
    }
}

/// The IPv4 addresses that an IPv6 address carries: mapped and NAT64 one, 6to4 one, Teredo the
/// server's and the client's.
fn inside(ip: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let of = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match (a, b) {
        (0, 0) if [c, d, e, f] == [0, 0, 0, 0xffff] => [of(g, h), None],
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => [of(g, h), None],
        (0x2002, _) => [of(b, c), None],
        (0x2001, 0) => [of(c, d), of(!g, !h)],
        _ => [None, None],
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || matches!((a, b), (0, _) | (100, 64..=127) | (198, 18..=19))
        || matches!((a, b, c), (192, 0, 0) | (192, 88, 99)))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    // global unicast, and the well-known NAT64 and mapped prefixes, whose insides are judged too
    matches!(ip.segments(), [0x2000..=0x3fff, ..])
        || matches!(ip.segments(), [0x64, 0xff9b, 0, 0, 0, 0, ..])
        || ip.to_ipv4_mapped().is_some()
}

/// Whether no lab switch makes this a peer: several at once, none, or all.
fn is_never_one(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] >= 224 || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_multicast() || ip.is_unspecified(),
    }
}

/// Who may be a peer.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The machine's own addresses.
    pub own: Vec<IpAddr>,
    /// Those of them that relayed addresses have.
    pub external: Vec<IpAddr>,
    /// Ports of its services.
    pub services: Vec<u16>,
    /// Networks of the agency.
    pub networks: Vec<Network>,
    /// First and last port of relayed addresses.
    pub ports: (u16, u16),
    /// Private peers are taken: for a lab.
    pub private: bool,
}

impl Policy {
    /// Whether this is an address of the machine.
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.own.contains(&ip) || self.is_external(ip)
    }

    /// Whether relayed addresses are there.
    pub fn is_external(&self, ip: IpAddr) -> bool {
        self.external.contains(&ip)
    }

    /// Whether a port may be one of a relayed address.
    pub fn is_relayed_port(&self, port: u16) -> bool {
        (self.ports.0..=self.ports.1).contains(&port)
    }

    /// Judges an address without a port, as a permission has it.
    pub fn judge_ip(&self, ip: IpAddr) -> Result<Place, Refusal> {
        if self.is_external(ip) {
            return Ok(Place::Relayed);
        }
        if self.is_own(ip) && !self.private {
            return Err(Refusal::Own);
        }
        self.judge_one(ip)?;
        if let IpAddr::V6(outer) = ip {
            for inner in inside(outer).into_iter().flatten() {
                let inner = IpAddr::V4(inner);
                if self.is_own(inner) {
                    return Err(Refusal::Own);
                }
                self.judge_one(inner)?;
            }
        }
        Ok(Place::Outside)
    }

    fn judge_one(&self, ip: IpAddr) -> Result<(), Refusal> {
        if self.networks.iter().any(|network| network.holds(ip)) {
            return Err(Refusal::Network);
        }
        let is_public = match ip {
            IpAddr::V4(ip) => is_public_v4(ip),
            IpAddr::V6(ip) => is_public_v6(ip),
        };
        if is_never_one(ip) || !(is_public || self.private) {
            return Err(Refusal::NotPublic);
        }
        Ok(())
    }

    /// Judges an address to send to.
    pub fn judge(&self, peer: SocketAddr) -> Result<Place, Refusal> {
        let (ip, port) = (peer.ip(), peer.port());
        let place = self.judge_ip(ip)?;
        if place == Place::Relayed {
            return match port {
                _ if self.is_relayed_port(port) => Ok(Place::Relayed),
                // everything lies on one machine in a lab
                _ if self.private && self.is_free(port) => Ok(Place::Outside),
                _ => Err(Refusal::Own),
            };
        }
        if (self.is_own(ip) || ip.is_loopback()) && !self.is_free(port) {
            return Err(Refusal::Own);
        }
        if port < 1_024 && port != 443 {
            return Err(Refusal::Port);
        }
        Ok(place)
    }

    fn is_free(&self, port: u16) -> bool {
        port >= 1_024 && !self.services.contains(&port)
    }
}

/// How much of it all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quotas {
    /// Allocations on all shards.
    pub allocations: usize,
    /// Allocations of one pair.
    pub per_pair: usize,
    /// Longest lifetime of an allocation between two Refreshes; never beyond its grant.
    pub lifetime: Duration,
    /// Bytes that one pair may have relayed under its grants.
    pub bytes: u64,
    /// Bytes a second that one allocation may have relayed each way.
    pub rate: u64,
    /// Answers a second to those of one prefix who have proven nothing.
    pub strangers: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            allocations: 4_096,
            per_pair: 4,
            lifetime: Duration::from_secs(3_600),
            bytes: 8 << 30,
            rate: 1 << 20,
            strangers: 64,
        }
    }
}

/// The shortest burst that a rate allows is this long.
const BURST_MS: u64 = 500;
/// A bucket that waited so long is filled before it is asked.
const REFILL: Duration = Duration::from_millis(1);

/// Bytes that may pass now: as many a second as its rate, and half a second's at once.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: u64,
    left: u64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: u64, now: Instant) -> Self {
        Self {
            rate,
            left: Self::most(rate),
            at: now,
        }
    }

    fn most(rate: u64) -> u64 {
        // a keyframe in one burst at least
        (rate / 1_000).saturating_mul(BURST_MS).max(65_536)
    }

    /// Takes so much, or nothing.
    pub fn take(&mut self, now: Instant, amount: u64) -> bool {
        let idle = now.saturating_duration_since(self.at);
        // not at each packet of a burst
        if self.left < amount || idle >= REFILL {
            self.refill(now, idle);
        }
        let stands = self.left >= amount;
        if stands {
            self.left -= amount;
        }
        stands
    }

    fn refill(&mut self, now: Instant, idle: Duration) {
        let most = Self::most(self.rate);
        let micros = u64::try_from(idle.as_micros().min(10_000_000)).unwrap_or(0);
        let more = self.rate.saturating_mul(micros) / 1_000_000;
        if self.left.saturating_add(more) >= most {
            (self.left, self.at) = (most, now);
        } else if more > 0 {
            // what is less than a byte stays due
            self.left += more;
            self.at += Duration::from_micros(more * 1_000_000 / self.rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            services: vec![443, 4_433, 8_080],
            ports: (49_152, 65_535),
            ..crate::turn::tests::policy()
        }
    }

    fn judge(policy: &Policy, peer: &str) -> Result<Place, Refusal> {
        policy.judge(peer.parse().unwrap())
    }

    // covers: SUORA-TRN-040
    #[test]
    fn no_clothes_hide_an_address_that_is_not_public() {
        let policy = policy();
        for private in [
            "10.0.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "0.0.0.0",
            "0.1.2.3",
            "192.0.0.8",
            "192.88.99.1",
            "198.19.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            let refused = |peer: String| {
                let judged = judge(&policy, &peer);
                assert_eq!(judged, Err(Refusal::NotPublic), "{peer}");
            };
            refused(format!("{private}:5000"));
            refused(format!("[::ffff:{private}]:5000"));
            refused(format!("[64:ff9b::{private}]:5000"));
            let [a, b, c, d] = private.parse::<Ipv4Addr>().unwrap().octets();
            refused(format!("[2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1]:5000"));
            refused(format!("[2001:0:{a:02x}{b:02x}:{c:02x}{d:02x}::1]:5000"));
            let [a, b, c, d] = [!a, !b, !c, !d];
            refused(format!(
                "[2001:0:808:808:0:0:{a:02x}{b:02x}:{c:02x}{d:02x}]:5000"
            ));
        }
        for private in [
            "::",
            "::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "::8.8.8.8",
            "4000::1",
        ] {
            let judged = judge(&policy, &format!("[{private}]:5000"));
            assert_eq!(judged, Err(Refusal::NotPublic), "{private}");
        }
        // control: the same clothes over a public address
        for public in [
            "192.0.2.1:5000",
            "100.63.255.255:5000",
            "[2001:db8::1]:5000",
            "[64:ff9b::192.0.2.1]:5000",
            "[::ffff:192.0.2.1]:5000",
            "[2002:c000:201::1]:443",
            "[2001:0:808:808:0:0:f7f7:f7f7]:5000",
        ] {
            assert_eq!(judge(&policy, public), Ok(Place::Outside), "{public}");
        }
    }

    // covers: SUORA-TRN-041
    #[test]
    fn the_agencys_networks_are_closed_and_the_relay_is_its_relayed_ports() {
        let policy = policy();
        assert_eq!(judge(&policy, "198.51.100.9:5000"), Err(Refusal::Network));
        assert_eq!(
            judge(&policy, "[64:ff9b::198.51.100.9]:5000"),
            Err(Refusal::Network)
        );
        for own in [
            "203.0.113.7:443",
            "203.0.113.7:4433",
            "203.0.113.7:9999",
            "203.0.113.8:50000",
            "[2001:db8::7]:22",
            "[64:ff9b::203.0.113.7]:50000",
        ] {
            assert_eq!(judge(&policy, own), Err(Refusal::Own), "{own}");
        }
        for relayed in ["203.0.113.7:49152", "[2001:db8::7]:65535"] {
            assert_eq!(judge(&policy, relayed), Ok(Place::Relayed), "{relayed}");
        }
        for (port, judged) in [
            (443, Ok(Place::Outside)),
            (1_024, Ok(Place::Outside)),
            (0, Err(Refusal::Port)),
            (53, Err(Refusal::Port)),
            (1_023, Err(Refusal::Port)),
        ] {
            assert_eq!(
                judge(&policy, &format!("192.0.2.1:{port}")),
                judged,
                "{port}"
            );
        }
    }

    // covers: SUORA-TRN-042
    #[test]
    fn a_labs_switch_opens_private_peers_and_nothing_else() {
        let mut policy = policy();
        policy.private = true;
        for private in ["10.0.0.1:5000", "127.0.0.1:5000", "[fe80::1]:5000"] {
            assert_eq!(judge(&policy, private), Ok(Place::Outside), "{private}");
        }
        for (never, why) in [
            ("224.0.0.1:5000", Refusal::NotPublic),
            ("255.255.255.255:5000", Refusal::NotPublic),
            ("[ff02::1]:5000", Refusal::NotPublic),
            ("198.51.100.1:5000", Refusal::Network),
            ("127.0.0.1:8080", Refusal::Own),
            ("203.0.113.7:4433", Refusal::Own),
            ("10.0.0.1:53", Refusal::Port),
        ] {
            assert_eq!(judge(&policy, never), Err(why), "{never}");
        }
    }

    #[test]
    fn networks_are_read_and_hold_what_they_should() {
        let network = |text| Network::parse(text).unwrap();
        let ip = |text: &str| text.parse().unwrap();
        assert!(network("10.1.0.0/16").holds(ip("10.1.255.1")));
        assert!(!network("10.1.0.0/16").holds(ip("10.2.0.1")));
        assert!(network("0.0.0.0/0").holds(ip("9.9.9.9")));
        assert!(!network("0.0.0.0/0").holds(ip("::1")));
        assert!(network("2001:db8::/33").holds(ip("2001:db8:7fff::1")));
        assert!(!network("2001:db8::/33").holds(ip("2001:db8:8000::1")));
        assert!(network("192.0.2.1/32").holds(ip("192.0.2.1")));
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8", "::/129", "10.0.0.0/-1"] {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "door: the base of virtual time in tests"
    )]
    // covers: SUORA-TRN-051
    #[test]
    fn a_bucket_lets_its_rate_through_and_a_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1_000_000, start);
        let mut passed = 0;
        for millis in 0..10_000 {
            let now = start + Duration::from_millis(millis);
            // twice the rate
            for _ in 0..2 {
                passed += if bucket.take(now, 1_000) { 1_000 } else { 0 };
            }
        }
        assert!((10_400_000..=10_510_000).contains(&passed), "{passed}");
        assert!(!bucket.take(start, 1_000_000));
        let later = start + Duration::from_secs(3_600);
        assert!(!bucket.take(later, 600_000) && bucket.take(later, 500_000));
        // what waited has its burst and no more
        let mut waited = Bucket::new(1_000_000, start);
        let passed = (0..1_000).filter(|_| waited.take(later, 1_000)).count();
        assert_eq!(passed, 500);
        // and small steps lose nothing
        let mut slow = Bucket::new(100_000, start);
        let steps = (0..1_000_000).filter(|n| slow.take(start + Duration::from_micros(15 * n), 10));
        assert!((1_550_000..1_570_000).contains(&(steps.count() * 10)));
    }
}
