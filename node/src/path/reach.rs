//! Which addresses a node sends to at all (`spec/setup.md`, section 4). Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use suora_protocol::fault::{Code, Fault};

/// A network of an own interface: an address in it, and how many bits its addresses share.
pub type Network = (IpAddr, u8);

/// Why an address of an invite can never be dialled (SUORA-SET-015); `None`: it can. `loopback`:
/// whether a person asked for addresses of this machine. An IPv4 address counts as itself
/// however it is written.
pub fn refusal(address: SocketAddr, loopback: bool) -> Option<&'static str> {
    let ip = address.ip().to_canonical();
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if ip.is_unspecified() {
        Some("it names no machine")
    } else if ip.is_multicast() || ip == Ipv4Addr::BROADCAST {
        Some("it names many machines")
    } else if link_local {
        Some("it is link-local")
    } else if address.port() == 0 {
        Some("port 0 is none")
    } else if ip.is_loopback() && !loopback {
        Some("it is this machine's own; --loopback allows that")
    } else if hides_another(ip) {
        Some("another address is inside it")
    } else {
        None
    }
}

/// NAT64, 6to4 and Teredo: a gateway takes the IPv4 address inside for the real one, which none
/// of the other rules has seen.
fn hides_another(ip: IpAddr) -> bool {
    let IpAddr::V6(v6) = ip else {
        return false;
    };
    matches!(
        v6.segments(),
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] | [0x2002, ..] | [0x2001, 0, ..]
    )
}

/// Whether an address means another machine in each network: RFC 1918, RFC 6598, RFC 4193.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_private() || shares((v4.into(), 10), Ipv4Addr::new(100, 64, 0, 0).into())
        }
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// Whether an address may be dialled as far as own networks go: a private one only inside one of them.
pub fn is_within_reach(ip: IpAddr, own: &[Network]) -> bool {
    !is_private(ip)
        || own
            .iter()
            .any(|network| shares(*network, ip.to_canonical()))
}

/// Which addresses of an invite are dialled, each through the first of our sockets of its family:
/// `sockets` says where each is bound. `own` are this machine's networks, or why they cannot be
/// listed; then every private address counts as a stranger's. `loopback` and `routed` are what
/// the person asked for. None that may be dialled is [`Code::NoPath`], with what would help.
pub fn dialled(
    addresses: &[SocketAddr],
    sockets: &[SocketAddr],
    own: Result<&[Network], &str>,
    (loopback, routed): (bool, bool),
) -> Result<Vec<(usize, SocketAddr)>, Fault> {
    let near = own.unwrap_or_default();
    let mut reals: Vec<(usize, SocketAddr)> = Vec::new();
    let mut is_foreign = false;
    for address in addresses {
        // one address written in two ways is still one
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let of_family = |bound: &SocketAddr| bound.is_ipv4() == address.is_ipv4();
        let Some(ours) = sockets.iter().position(of_family) else {
            continue;
        };
        if refusal(address, loopback).is_some() || reals.contains(&(ours, address)) {
            continue;
        }
        if routed || is_within_reach(address.ip(), near) {
            reals.push((ours, address));
        } else {
            is_foreign = true;
        }
    }
    if !reals.is_empty() {
        return Ok(reals);
    }
    let why = match own {
        _ if !is_foreign => "none of the officer's addresses can be dialled from here".into(),
        Ok(_) => "the officer is in a private network that is none of this machine's; where \
                  routers join the two, --routed lets it be dialled"
            .into(),
        Err(error) => format!(
            "the officer is in a private network, and which are this machine's own cannot be \
             found out ({error}); --routed lets it be dialled all the same"
        ),
    };
    Err(Fault::new(Code::NoPath).with(why))
}

fn shares((address, bits): Network, ip: IpAddr) -> bool {
    // a prefix of no bits would make everything near
    let differ = match (address, ip) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => return false,
    };
    bits > 0 && differ >= u32::from(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: SUORA-SET-015
    #[test]
    fn only_addresses_of_one_machine_that_others_reach_are_dialled() {
        let refused = |text: &str, loopback| refusal(text.parse().unwrap(), loopback).is_some();
        for never in [
            "0.0.0.0:443",
            "[::]:443",
            "224.0.0.1:443",
            "255.255.255.255:443",
            "[ff02::1]:443",
            "169.254.3.4:443",
            "[fe80::1]:443",
            "192.0.2.1:0",
            "[::ffff:0.0.0.0]:443",
            "[::ffff:224.0.0.1]:443",
            "[::ffff:255.255.255.255]:443",
            "[::ffff:169.254.1.1]:443",
            "[64:ff9b::7f00:1]:443",
            "[2002:7f00:1::]:443",
            "[2001:0:53aa:64c::1]:443",
        ] {
            assert!(refused(never, true), "{never}");
        }
        for own in ["127.0.0.1:443", "[::1]:443", "[::ffff:127.0.0.1]:443"] {
            assert!(refused(own, false) && !refused(own, true), "{own}");
        }
        let fine = [
            "192.0.2.1:443",
            "10.0.0.1:1",
            "[2001:db8::1]:65535",
            "[::ffff:192.0.2.1]:443",
        ];
        for fine in fine {
            assert!(!refused(fine, false), "{fine}");
        }
    }

    // covers: SUORA-SET-130
    #[test]
    fn a_private_address_is_near_only_inside_a_network_of_ours() {
        let own: Vec<Network> = [
            ("192.168.7.20", 24),
            ("100.64.9.1", 16),
            ("fd00:1:2:3::5", 64),
            // a tunnel's end has no neighbour, and a broken mask makes nobody one
            ("10.8.0.2", 32),
            ("172.16.0.1", 0),
        ]
        .map(|(ip, bits)| (ip.parse().unwrap(), bits))
        .into();
        let reaches = |text: &str| is_within_reach(text.parse().unwrap(), &own);
        for near in [
            "192.168.7.1",
            "::ffff:192.168.7.1",
            "100.64.200.1",
            "fd00:1:2:3:ffff::1",
            "10.8.0.2",
        ] {
            assert!(reaches(near), "{near}");
        }
        for far in [
            "192.168.8.1",
            "::ffff:192.168.8.1",
            "10.8.0.1",
            "172.16.0.2",
            "172.31.255.1",
            "100.65.0.1",
            "100.127.255.1",
            "fd00:1:2:4::1",
            "fc00::1",
        ] {
            assert!(!reaches(far), "{far}");
        }
        for public in ["192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1"] {
            assert!(reaches(public), "{public}");
        }
    }

    // covers: SUORA-SET-015, SUORA-SET-130
    #[test]
    fn where_nothing_can_be_dialled_the_person_learns_what_would_help() {
        let of = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let sockets = of(&["0.0.0.0:40000", "[::]:40000"]);
        let own: &[Network] = &[("10.2.0.7".parse().unwrap(), 16)];
        let why = |addresses: &[&str], own| {
            let fault = dialled(&of(addresses), &sockets, own, (false, false)).unwrap_err();
            assert_eq!(fault.code, Code::NoPath);
            fault.detail.unwrap()
        };
        let far = ["10.1.0.7:443", "127.0.0.1:443"];
        assert!(why(&far, Ok(own)).contains("none of this machine's"));
        assert!(why(&far, Ok(own)).contains("--routed"));
        // a machine that may not look at its interfaces does not blame the officer
        let blind = why(&["10.2.0.8:443"], Err("permission denied"));
        assert!(blind.contains("permission denied") && blind.contains("--routed"));
        assert!(!why(&["127.0.0.1:443", "10.2.0.8:0"], Ok(own)).contains("--routed"));
        let listed = of(&["10.2.0.8:443", "[::ffff:10.2.0.8]:443", "10.1.0.7:443"]);
        let near = vec![(0, listed[0])];
        assert_eq!(
            dialled(&listed, &sockets, Ok(own), (false, false)),
            Ok(near.clone())
        );
        let both = vec![near[0], (0, listed[2])];
        assert_eq!(dialled(&listed, &sockets, Ok(own), (false, true)), Ok(both));
    }
}
