//! `[turn]` of `relay.toml`: STUN and TURN.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

/// One, or a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Listen {
    One(SocketAddr),
    Many(Vec<SocketAddr>),
}

/// `[turn]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    udp: Listen,
    #[serde(default)]
    external: Vec<IpAddr>,
    /// First and last port of relayed addresses.
    #[serde(default = "default_ports")]
    pub ports: (u16, u16),
    /// The file of the grant secret, from the data directory on.
    #[serde(default = "default_secret")]
    pub secret: PathBuf,
    /// Networks of the agency that nobody is relayed to, as `10.1.0.0/16`.
    #[serde(default)]
    pub networks: Vec<String>,
    /// Takes private peers: for a lab only.
    #[serde(default)]
    pub private_peers: bool,
    /// Most allocations in all.
    #[serde(default = "default_allocations")]
    pub allocations: usize,
    /// Most allocations of one consultation.
    #[serde(default = "default_per_pair")]
    pub allocations_per_pair: usize,
    /// Most bytes that are relayed for one consultation, in MiB.
    #[serde(default = "default_pair_mib")]
    pub pair_mib: u64,
    /// Most KiB a second that are relayed for one allocation, each way.
    #[serde(default = "default_rate_kib")]
    pub rate_kib: u64,
    /// Most seconds that an allocation stands without a Refresh.
    #[serde(default = "default_lifetime_s")]
    pub lifetime_s: u64,
    /// Most answers a second to those of one prefix who have proven nothing.
    #[serde(default = "default_strangers")]
    pub strangers_per_prefix: u32,
    /// Threads; 0 takes one a core, 8 at most.
    #[serde(default)]
    pub shards: usize,
    /// Takes and sends trains of packets whole where the kernel can (GRO, GSO).
    #[serde(default = "default_offload")]
    pub offload: bool,
}

const fn default_ports() -> (u16, u16) {
    (49_152, 65_535)
}

fn default_secret() -> PathBuf {
    "turn.secret".into()
}

const fn default_allocations() -> usize {
    4_096
}

const fn default_per_pair() -> usize {
    4
}

const fn default_pair_mib() -> u64 {
    8_192
}

const fn default_rate_kib() -> u64 {
    1_024
}

const fn default_lifetime_s() -> u64 {
    3_600
}

const fn default_strangers() -> u32 {
    64
}

const fn default_offload() -> bool {
    true
}

/// Most addresses that are listened on.
const LISTENERS: usize = 4;

impl Turn {
    /// Where clients come by UDP.
    pub fn listen(&self) -> Vec<SocketAddr> {
        match &self.udp {
            Listen::One(address) => vec![*address],
            Listen::Many(addresses) => addresses.clone(),
        }
    }

    /// Where relayed addresses are.
    pub fn external(&self) -> Vec<IpAddr> {
        if !self.external.is_empty() {
            return self.external.clone();
        }
        let listen = self.listen();
        listen.iter().map(SocketAddr::ip).collect()
    }

    /// What TOML cannot say.
    pub(super) fn check(&self, control: SocketAddr) -> Result<(), String> {
        let listen = self.listen();
        if listen.is_empty() || listen.len() > LISTENERS {
            return Err(format!("turn.udp: between 1 and {LISTENERS} addresses"));
        }
        let any = |ip: &IpAddr| ip.is_unspecified();
        if listen.iter().any(|at| any(&at.ip())) || self.external.iter().any(any) {
            return Err("turn: name the addresses of this machine, not 0.0.0.0 or ::, since packets must come from the address that they went to".into());
        }
        if let Some(at) = listen.iter().find(|at| at.port() == 0) {
            return Err(format!(
                "turn.udp: {at} would change its port with each start, but the descriptor lists the port; choose one"
            ));
        }
        let meets_control = |at: &SocketAddr| {
            let same_ip = at.ip() == control.ip() || control.ip().is_unspecified();
            same_ip && at.port() == control.port()
        };
        if listen.iter().any(meets_control) {
            return Err(
                "turn.udp: has the port of control, which takes QUIC there; choose another".into(),
            );
        }
        let (first, last) = self.ports;
        if first < 1_024 || last < first || last - first < 15 {
            return Err("turn.ports: the first and the last of at least 16 ports, none below 1024, as [49152, 65535]".into());
        }
        let inside = |at: &SocketAddr| (first..=last).contains(&at.port());
        if listen.iter().any(inside) || inside(&control) {
            return Err("turn.ports: holds a port that is listened on; choose others".into());
        }
        let counts = [self.allocations, self.allocations_per_pair];
        if counts.contains(&0) || self.strangers_per_prefix == 0 {
            return Err("turn.allocations, allocations_per_pair and strangers_per_prefix: 0 would let nobody in; at least 1".into());
        }
        if self.lifetime_s < 60 || self.rate_kib == 0 || self.pair_mib == 0 {
            return Err("turn.lifetime_s is 60 at least, rate_kib and pair_mib 1".into());
        }
        Ok(())
    }

    /// The section that `init` writes: as comments without a port.
    pub fn template(host: IpAddr, port: Option<u16>) -> String {
        let mark = if port.is_some() { "" } else { "# " };
        let udp = SocketAddr::new(host, port.unwrap_or(3_478));
        let (first, last) = default_ports();
        format!(
            "# STUN and TURN, for those whom no direct path reaches: their packets go through this\n\
             # machine, which cannot read them. Without this section there is none.\n\
             {mark}[turn]\n\n\
             # Where nodes come, by UDP: one address or a list, with the machine's own addresses. On\n\
             # port 443 it gets through most firewalls.\n\
             {mark}udp = \"{udp}\"\n\n\
             # The addresses of this machine that relayed packets come from, one a family. Those of\n\
             # udp if there are none.\n\
             # external = [\"{host}\"]\n\n\
             # Their ports, the first and the last. The firewall lets UDP in to all of them.\n\
             {mark}ports = [{first}, {last}]\n\n\
             # The file of the secret under which nodes get their grants. A second relay that shall\n\
             # take the same grants has a copy.\n\
             {mark}secret = \"turn.secret\"\n\n\
             # Networks of the agency that nobody is relayed to, beside all private ones.\n\
             # networks = [\"198.51.100.0/24\"]\n\n\
             # Takes peers on private addresses. For a lab only: it opens your inner network.\n\
             # private_peers = false\n\n\
             # How much: allocations in all and of one consultation, MiB of one consultation, KiB a\n\
             # second of one allocation each way, seconds between two signs of life, answers a second to\n\
             # strangers of one address prefix.\n\
             # allocations = {}\n\
             # allocations_per_pair = {}\n\
             # pair_mib = {}\n\
             # rate_kib = {}\n\
             # lifetime_s = {}\n\
             # strangers_per_prefix = {}\n\n\
             # Threads (0: one a core, 8 at most), and whether trains of packets are taken whole.\n\
             # shards = 0\n\
             # offload = true\n",
            default_allocations(),
            default_per_pair(),
            default_pair_mib(),
            default_rate_kib(),
            default_lifetime_s(),
            default_strangers(),
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn read(turn: Option<u16>, change: impl Fn(&str) -> String) -> Result<Config, String> {
        let text = Config::template([192, 0, 2, 7].into(), 4_433, None, 0, 9_090, turn);
        Config::parse(&change(&text))
    }

    #[test]
    fn the_template_has_it_as_comments_or_stands() {
        assert!(read(None, str::to_string).unwrap().turn.is_none());
        let turn = read(Some(443), str::to_string).unwrap().turn.unwrap();
        assert_eq!(turn.listen(), ["192.0.2.7:443".parse().unwrap()]);
        assert_eq!(turn.external(), [std::net::IpAddr::from([192, 0, 2, 7])]);
        // each line in comments is one that could stand
        let all = |text: &str| {
            let lines = text.lines().map(|line| {
                let bare = line.strip_prefix("# ").unwrap_or(line);
                if bare.contains(" = ") && !bare.contains("websocket") {
                    bare
                } else {
                    line
                }
            });
            lines.collect::<Vec<_>>().join("\n")
        };
        let turn = read(Some(443), all).unwrap().turn.unwrap();
        assert_eq!(turn.networks, ["198.51.100.0/24"]);
        assert!(!turn.private_peers && turn.offload);
    }

    #[test]
    fn one_address_or_several() {
        let two = |text: &str| {
            let list = "udp = [\"192.0.2.7:443\", \"[2001:db8::7]:443\"]";
            text.replace("udp = \"192.0.2.7:443\"", list)
        };
        let turn = read(Some(443), two).unwrap().turn.unwrap();
        assert_eq!(turn.listen().len(), 2);
        assert_eq!(turn.external().len(), 2);
    }

    #[test]
    fn senseless_values_are_refused_by_name() {
        for (from, to, named) in [
            ("udp = \"192.0.2.7:443\"", "udp = \"0.0.0.0:443\"", "turn"),
            (
                "udp = \"192.0.2.7:443\"",
                "udp = \"192.0.2.7:0\"",
                "turn.udp",
            ),
            (
                "udp = \"192.0.2.7:443\"",
                "udp = \"192.0.2.7:4433\"",
                "control",
            ),
            (
                "udp = \"192.0.2.7:443\"",
                "udp = \"192.0.2.7:50000\"",
                "turn.ports",
            ),
            ("udp = \"192.0.2.7:443\"", "udp = []", "turn.udp"),
            (
                "ports = [49152, 65535]",
                "ports = [1000, 2000]",
                "turn.ports",
            ),
            (
                "ports = [49152, 65535]",
                "ports = [2000, 2001]",
                "turn.ports",
            ),
            ("# allocations = 4096", "allocations = 0", "allocations"),
            ("# lifetime_s = 3600", "lifetime_s = 1", "lifetime_s"),
            ("# shards = 0", "threads = 0", "threads"),
        ] {
            let refused = read(Some(443), |text| {
                assert!(text.contains(from), "{from}");
                text.replace(from, to)
            });
            let refused = refused.unwrap_err();
            assert!(refused.contains(named), "{to}: {refused}");
        }
    }
}
