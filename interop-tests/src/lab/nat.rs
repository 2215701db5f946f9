//! PURE: what a router of the lab is told: rules of nftables, and kernel settings.

use std::fmt::Write;
use std::net::Ipv4Addr;

use super::kind::{By, Kind, MTU, Router, Tcp};
use crate::world::nat::{Behaviour, Dependence};

/// A router's place.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its address outside.
    pub wan: Ipv4Addr,
    /// Another one, from which control connections leave.
    pub second: Option<Ipv4Addr>,
    /// The network inside, as `address/bits`.
    pub inside: (Ipv4Addr, u8),
    /// It is the first on the way out: what the kind blocks is blocked here.
    pub first: bool,
    /// The UDP port that control connections go to.
    pub control: u16,
}

/// The rules of nftables for a router.
///
/// A home router's translator is conntrack's own: `masquerade` keeps ports, so one inside address
/// has one outside address, and lets in what answers. Filters that are wider take the outside
/// ports in use from a map, and the others' addresses from a set, which packets on their way out
/// fill. What reaches no insider is dropped before it leaves an entry in conntrack, which would
/// stand in the way of the insider's own first packet.
pub fn rules(kind: &Kind, router: &Router, place: &Place) -> String {
    let mut text = String::new();
    // writing to a string cannot fail
    let _ = write!(
        text,
        "table ip lab {{\n{}{}{}{}  chain input {{ type filter hook input priority 0;\n    \
         iifname \"wan\" meta l4proto udp drop\n  }}\n}}\n",
        memory(router.behaviour),
        inward(router, place),
        outward(router, place),
        through(kind, place),
    );
    text
}

/// The rules of a firewall for IPv6: answers come in, and what was asked for goes out.
pub fn wall() -> &'static str {
    "table ip6 lab {
  chain forward { type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname \"lan\" accept
    meta l4proto ipv6-icmp accept
  }
}
"
}

/// Kernel settings of a router: name under /proc/sys/net, and value.
pub fn settings(router: Option<&Router>) -> Vec<(String, String)> {
    let mut settings = vec![
        ("ipv4/ip_forward".into(), "1".into()),
        ("ipv6/conf/all/forwarding".into(), "1".into()),
        // bridged frames are no business of the translator
        ("bridge/bridge-nf-call-iptables?".into(), "0".into()),
        ("bridge/bridge-nf-call-ip6tables?".into(), "0".into()),
    ];
    if let Some(router) = router {
        let seconds = router.behaviour.lifetime.as_secs().to_string();
        for name in ["udp_timeout", "udp_timeout_stream"] {
            settings.push((format!("netfilter/nf_conntrack_{name}"), seconds.clone()));
        }
    }
    settings
}

fn memory(behaviour: Behaviour) -> String {
    let seconds = behaviour.lifetime.as_secs();
    format!(
        "  map back {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout {seconds}s; }}
  set seen {{ type inet_service . ipv4_addr; flags dynamic,timeout; timeout {seconds}s; }}
"
    )
}

/// What strangers and insiders send to the outside address.
fn inward(router: &Router, place: &Place) -> String {
    if router.by == By::Model {
        return "  chain raw { type filter hook prerouting priority raw;\n    meta l4proto udp notrack\n  }\n".into();
    }
    let Behaviour {
        filtering, hairpin, ..
    } = router.behaviour;
    let mut rules = String::new();
    let seen = match filtering {
        Dependence::Independent => Some(""),
        Dependence::Address => Some("udp dport . ip saddr @seen "),
        Dependence::AddressAndPort => None,
    };
    if let Some(seen) = seen {
        let _ = writeln!(
            rules,
            "    iifname \"wan\" meta l4proto udp {seen}dnat ip to udp dport map @back"
        );
    }
    if hairpin {
        let _ = writeln!(
            rules,
            "    iifname \"lan\" ip daddr {} meta l4proto udp dnat ip to udp dport map @back",
            place.wan
        );
    }
    format!("  chain inward {{ type nat hook prerouting priority dstnat;\n{rules}  }}\n")
}

/// What leaves, and what is remembered of it.
fn outward(router: &Router, place: &Place) -> String {
    let mut rules = String::new();
    if let Some(second) = place.second {
        let _ = writeln!(
            rules,
            "    oifname \"wan\" meta l4proto tcp snat to {second}
    oifname \"wan\" udp dport {} snat to {second}
    oifname \"wan\" snat to {}",
            place.control, place.wan
        );
    } else if router.by == By::Model {
        rules.push_str("    oifname \"wan\" meta l4proto != udp masquerade\n");
    } else if router.behaviour.mapping == Dependence::Independent {
        rules.push_str("    oifname \"wan\" masquerade\n");
    } else {
        rules.push_str("    oifname \"wan\" masquerade fully-random\n");
    }
    if router.behaviour.hairpin {
        let _ = writeln!(
            rules,
            "    oifname \"lan\" ct status dnat ip saddr {}/{} snat to {}",
            place.inside.0, place.inside.1, place.wan
        );
    }
    let mut text =
        format!("  chain outward {{ type nat hook postrouting priority srcnat;\n{rules}  }}\n");
    if router.by == By::Kernel {
        text.push_str(
            "  chain remember { type filter hook postrouting priority 101;
    oifname \"wan\" meta l4proto udp ct direction original update @back { udp sport : ct original ip saddr . ct original proto-src }
    oifname \"wan\" meta l4proto udp update @seen { udp sport . ip daddr }
  }
",
        );
    }
    text
}

/// What passes at all.
fn through(kind: &Kind, place: &Place) -> String {
    let mut rules = String::new();
    if place.first && !kind.udp {
        rules.push_str("    meta l4proto udp drop\n");
    }
    if place.first && kind.tcp == Tcp::Only443 {
        rules.push_str(
            "    iifname \"lan\" meta l4proto != tcp drop\n    iifname \"lan\" tcp dport != 443 drop\n",
        );
    }
    if kind.mtu < MTU {
        // as every home router does in front of a narrow line
        rules.push_str("    tcp flags syn tcp option maxseg size set rt mtu\n");
    }
    format!("  chain through {{ type filter hook forward priority 0;\n{rules}  }}\n")
}
