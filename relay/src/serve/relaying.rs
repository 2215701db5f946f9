//! What `[turn]` of the settings and the data directory come to: the rules of STUN and TURN.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use suora_protocol::fault::{Code, Fault};

use crate::config::Config;
use crate::grant::Secret;
use crate::keys;
use crate::net::udp::Settings;
use crate::turn::Rules;
use crate::turn::policy::{Network, Policy, Quotas};

/// Most threads that are chosen where the settings choose none.
const SHARDS: usize = 8;

/// The grant secret of a data directory.
pub fn secret(dir: &Path, config: &crate::config::turn::Turn) -> Result<Secret, Fault> {
    let path = dir.join(&config.secret);
    let bad = |what: String| {
        Fault::new(Code::BadConfig).with(format!("turn.secret: {}: {what}", path.display()))
    };
    let bytes = keys::private(&path).map_err(bad)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| bad(error.to_string()))?;
    Secret::read(text).map_err(|fault| bad(fault.detail.unwrap_or_default()))
}

/// All addresses of this machine. What cannot be had is left to the settings.
fn interfaces() -> Vec<IpAddr> {
    let Ok(all) = getifaddrs() else {
        return Vec::new();
    };
    let ips = all.filter_map(|one| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    ips.collect()
}

/// The rules of the settings, if they want any. The realm is the agency's domain.
pub fn read(dir: &Path, config: &Config, domain: &str) -> Result<Option<(Settings, Rules)>, Fault> {
    let Some(turn) = &config.turn else {
        return Ok(None);
    };
    let bad = |what: String| Fault::new(Code::BadConfig).with(format!("turn.networks: {what}"));
    let networks = turn.networks.iter().map(|text| Network::parse(text));
    let listen = turn.listen();
    let named = [Some(config.control), config.websocket, Some(config.http)];
    let mut own: BTreeSet<IpAddr> = interfaces().into_iter().collect();
    own.extend(listen.iter().map(|at| at.ip()));
    own.extend(named.iter().flatten().map(|at| at.ip()));
    own.retain(|ip| !ip.is_unspecified());
    let mut services: BTreeSet<u16> = named.iter().flatten().map(|at| at.port()).collect();
    services.extend(listen.iter().map(|at| at.port()));
    services.insert(config.metrics.port());
    if turn.private_peers {
        tracing::warn!(
            "turn.private_peers is on: whoever has a grant reaches the private networks of this machine; this is for labs only"
        );
    }
    let rules = Rules {
        secret: secret(dir, turn)?,
        realm: domain.into(),
        policy: Policy {
            own: own.into_iter().collect(),
            external: turn.external(),
            services: services.into_iter().collect(),
            networks: networks.collect::<Result<_, _>>().map_err(bad)?,
            ports: turn.ports,
            private: turn.private_peers,
        },
        quotas: Quotas {
            allocations: turn.allocations,
            per_pair: turn.allocations_per_pair,
            lifetime: Duration::from_secs(turn.lifetime_s),
            bytes: turn.pair_mib.saturating_mul(1 << 20),
            rate: turn.rate_kib.saturating_mul(1 << 10),
            strangers: turn.strangers_per_prefix,
        },
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = match turn.shards {
        0 => cores.min(SHARDS),
        chosen => chosen.min(64),
    };
    let settings = Settings {
        listen,
        shards,
        offload: turn.offload,
    };
    Ok(Some((settings, rules)))
}
