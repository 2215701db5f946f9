//! The paths of a node (`spec/setup.md`, section 4). QUIC sees one virtual address a
//! session; [`routes`] knows which real addresses stand behind it, [`socket`] is the
//! door. In this version a path is one of the addresses that the invite lists.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub mod routes;
pub mod socket;

/// Why an address of an invite can never be dialled (SUORA-SET-015); `None`: it can. `loopback`:
/// whether a person asked for addresses of this machine.
pub fn refusal(address: SocketAddr, loopback: bool) -> Option<&'static str> {
    let ip = address.ip();
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
    } else {
        None
    }
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
        ] {
            assert!(refused(never, true), "{never}");
        }
        for own in ["127.0.0.1:443", "[::1]:443"] {
            assert!(refused(own, false) && !refused(own, true), "{own}");
        }
        for fine in ["192.0.2.1:443", "10.0.0.1:1", "[2001:db8::1]:65535"] {
            assert!(!refused(fine, false), "{fine}");
        }
    }
}
