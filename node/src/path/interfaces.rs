//! DOOR: this machine's addresses, and word of each change of them. The system says so over
//! netlink, by a crate that libp2p has in the program anyway and that knows the other systems'
//! ways too; where a sandbox forbids that, they are looked at every other second.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt as _;
use if_addrs::{IfAddr, Interface};
use if_watch::tokio::IfWatcher;
use tokio::time::Interval;

use super::{Interfaces, Network};

/// Between two looks where nobody tells.
const LOOK: Duration = Duration::from_secs(2);

/// The interfaces. A sandbox may forbid to look at them.
fn interfaces() -> io::Result<Vec<Interface>> {
    let listed = if_addrs::get_if_addrs();
    listed.inspect_err(|error| tracing::warn!(%error, "this machine's interfaces are not listed"))
}

fn network(interface: &Interface) -> Network {
    match &interface.addr {
        IfAddr::V4(v4) => (IpAddr::V4(v4.ip), v4.prefixlen),
        IfAddr::V6(v6) => (IpAddr::V6(v6.ip), v6.prefixlen),
    }
}

/// Where sockets that are bound to `bound` are reached, and the networks about them. Loopback
/// only on request; link-local never.
pub fn look(bound: &[SocketAddr], loopback: bool) -> Interfaces {
    let listed = interfaces();
    let found = listed.as_deref().unwrap_or_default();
    let mut hosts = Vec::new();
    for (socket, local) in bound.iter().enumerate() {
        if !local.ip().is_unspecified() {
            hosts.push((socket, *local));
            continue;
        }
        let of_family = found
            .iter()
            .map(Interface::ip)
            .filter(|ip| ip.is_ipv4() == local.is_ipv4());
        hosts.extend(of_family.map(|ip| (socket, SocketAddr::new(ip, local.port()))));
    }
    hosts.retain(|(_, address)| match address {
        SocketAddr::V4(v4) => !v4.ip().is_link_local() && (loopback || !v4.ip().is_loopback()),
        SocketAddr::V6(v6) => {
            !v6.ip().is_unicast_link_local() && (loopback || !v6.ip().is_loopback())
        }
    });
    Interfaces {
        hosts,
        networks: match &listed {
            Ok(found) => Ok(found.iter().map(network).collect()),
            Err(error) => Err(error.to_string()),
        },
    }
}

/// Tells when there may be something new to [`look`] at.
pub struct Watch {
    watcher: Option<IfWatcher>,
    look: Interval,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    /// Begins to watch.
    pub fn start() -> Self {
        let watcher = IfWatcher::new();
        Self {
            watcher: watcher
                .inspect_err(|error| tracing::info!(%error, "changes of addresses are not told"))
                .ok(),
            look: tokio::time::interval(LOOK),
        }
    }

    /// Waits for a change, or for the time to look. Safe to cancel.
    pub async fn changed(&mut self) {
        if let Some(watcher) = &mut self.watcher {
            match watcher.select_next_some().await {
                Ok(_) => return,
                Err(error) => tracing::info!(%error, "changes of addresses are no longer told"),
            }
            self.watcher = None;
        }
        self.look.tick().await;
    }
}
