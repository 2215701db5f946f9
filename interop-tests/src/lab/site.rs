//! The lab's map: an internet with relay hosts, and sites on it: a router, a carrier's where the
//! kind says so, and hosts. Each site's line to the internet is a wire of the emulator.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::emulator::{Cable, CableId, Emulator};
use super::kind::{By, Kind, MTU, named};
use super::namespace::{Namespace, command};
use super::nat::{self, Place};
use super::rule::Side;
use crate::peer::Failure;
use crate::weather::line::Weather;
use crate::world::nat::Nat;

/// Sites beside the relay hosts; their numbers are in their addresses.
const SITES_MAX: usize = 200;
/// The relay host's number. A second one counts down.
const RELAY: u8 = 255;
/// The UDP and TCP port of the control plane.
pub const CONTROL: u16 = 4_433;

/// The public IPv4 network, one segment. RFC 2544 set it aside for tests, and no software takes
/// it for private.
const fn wan4(site: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, site, host)
}

/// The public IPv6 segment; the router of it is `ffff`.
const fn wan6(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0xffff, 0, 0, 0, host)
}

/// A site's own IPv6 network.
const fn lan6(site: u8, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, site as u16, 0, 0, 0, 0, host)
}

/// A host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Where it runs.
    pub namespace: Namespace,
    /// Its own address.
    pub v4: Option<Ipv4Addr>,
    /// Its own address.
    pub v6: Option<Ipv6Addr>,
}

/// What a site is to be.
#[derive(Clone, Copy, Debug)]
pub struct Draft {
    /// The kind of its network, as it is built.
    pub kind: &'static Kind,
    /// The kind that it claims to be.
    pub claims: &'static Kind,
    /// Homes; more than one behind a carrier only.
    pub homes: u8,
    /// Hosts in each home.
    pub hosts: u8,
}

impl Draft {
    /// One host in one home.
    pub const fn of(kind: &'static Kind) -> Self {
        Self {
            kind,
            claims: kind,
            homes: 1,
            hosts: 1,
        }
    }
}

/// A site.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its number.
    pub number: u8,
    /// What it claims to be.
    pub kind: &'static Kind,
    /// Its hosts, home by home.
    pub hosts: Vec<Host>,
    /// The hosts in each home.
    each: usize,
    /// The router towards the internet, where there is one, else the host.
    pub edge: Namespace,
    /// Its line to the internet.
    pub cable: CableId,
    /// Its public address.
    pub wan: Ipv4Addr,
}

impl Site {
    /// The end on the host of this number, as the rule sees it.
    pub fn side(&self, host: usize) -> Side {
        let number = u16::from(self.number);
        let home = u16::try_from(host / self.each.max(1)).unwrap_or(0);
        self.kind.side(number * 8 + home, number)
    }
}

/// The whole lab.
#[derive(Debug)]
pub struct Lab {
    /// The wires.
    pub wires: Emulator,
    /// Where all lines end.
    pub internet: Namespace,
    /// Relay hosts, the first is the one that proves and forwards.
    pub relays: Vec<Relay>,
    /// The sites, in the order of their drafts.
    pub sites: Vec<Site>,
}

/// A relay host: two public addresses of each family.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Where it runs.
    pub namespace: Namespace,
    /// Its addresses.
    pub v4: [Ipv4Addr; 2],
    /// Its addresses.
    pub v6: [Ipv6Addr; 2],
    /// Its line.
    pub cable: CableId,
}

impl Relay {
    /// All its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let six = self.v6.into_iter().map(IpAddr::from);
        self.v4.into_iter().map(IpAddr::from).chain(six)
    }
}

/// A namespace's orders, until all are known.
struct Orders {
    namespace: Namespace,
    settings: Vec<(String, String)>,
    ip: Vec<String>,
    nft: String,
}

impl Orders {
    fn new(name: &str) -> Result<Self, Failure> {
        let setting = |name: &str, value: &str| (name.to_string(), value.to_string());
        Ok(Self {
            namespace: Namespace::add(name)?,
            settings: vec![
                // an address can be used at once
                setting("ipv6/conf/all/accept_dad", "0"),
                setting("ipv6/conf/default/accept_dad", "0"),
                setting("ipv6/conf/all/accept_ra", "0"),
                setting("ipv6/conf/default/accept_ra", "0"),
            ],
            ip: vec!["link set lo up".into()],
            nft: String::new(),
        })
    }

    fn say(&mut self, line: String) {
        self.ip.push(line);
    }

    fn carry_out(self) -> Result<Namespace, Failure> {
        self.namespace.ip(&self.ip)?;
        if !self.nft.is_empty() {
            self.namespace.run("nft", &["-f", "-"], &self.nft)?;
        }
        Ok(self.namespace)
    }
}

/// What is being built.
struct Builder {
    links: Vec<String>,
    internet: Orders,
    orders: Vec<Orders>,
    cables: Vec<Cable>,
    weather: Weather,
}

impl Builder {
    /// A line from an edge's interface `wan` to the internet.
    fn line(&mut self, edge: &str, number: u8, nat: Option<Nat>) -> CableId {
        let veth = "gso_max_segs 1 type veth peer name";
        self.links.push(format!(
            "link add wan netns {edge} {veth} n{number} netns internet"
        ));
        self.links.push(format!(
            "link add q{number} netns internet {veth} p{number} netns internet"
        ));
        for name in ["n", "q", "p"] {
            self.internet.say(format!("link set {name}{number} up"));
        }
        self.internet.say(format!("link set p{number} master open"));
        self.cables.push(Cable {
            name: edge.into(),
            ends: [format!("n{number}"), format!("q{number}")],
            weather: self.weather.clone(),
            nat,
        });
        CableId(self.cables.len() - 1)
    }

    /// A host with public addresses.
    fn public(
        &mut self,
        name: &str,
        number: u8,
        v4: &[Ipv4Addr],
        v6: &[Ipv6Addr],
    ) -> Result<(Namespace, CableId), Failure> {
        let mut orders = Orders::new(name)?;
        for address in v4 {
            orders.say(format!("addr add {address}/16 dev wan"));
        }
        for address in v6 {
            orders.say(format!("addr add {address}/64 dev wan nodad"));
        }
        orders.say("link set wan up".into());
        orders.say(format!("route add default via {} dev wan", wan6(0xffff)));
        let namespace = orders.namespace.clone();
        self.orders.push(orders);
        Ok((namespace, self.line(name, number, None)))
    }

    fn site(&mut self, number: u8, draft: &Draft) -> Result<Site, Failure> {
        let kind = draft.kind;
        let wan = wan4(number, 1);
        let mut hosts = Vec::new();
        let (edge, cable) = match kind.v4 {
            Some([]) => {
                let v6 = kind.v6.then(|| wan6(number.into()));
                let (namespace, cable) =
                    self.public(&format!("s{number}"), number, &[wan], v6.as_slice())?;
                hosts.push(Host {
                    namespace: namespace.clone(),
                    v4: Some(wan),
                    v6,
                });
                (namespace, cable)
            }
            _ if kind.carried() => {
                let name = format!("s{number}c");
                let edge = self.router(&name, number, draft, 1, None)?;
                for home in 0..draft.homes {
                    let name = format!("s{number}r{home}");
                    self.router(&name, number, draft, 0, Some(home))?;
                    self.hosts(&name, number, home, draft, &mut hosts)?;
                }
                edge
            }
            _ => {
                let name = format!("s{number}r0");
                let edge = self.router(&name, number, draft, 0, None)?;
                self.hosts(&name, number, 0, draft, &mut hosts)?;
                edge
            }
        };
        Ok(Site {
            number,
            kind: draft.claims,
            hosts,
            each: draft.hosts.into(),
            edge,
            cable,
            wan,
        })
    }

    /// A router: the home's (`level` 0) or the carrier's; `home` is the number of one that is
    /// behind a carrier.
    fn router(
        &mut self,
        name: &str,
        number: u8,
        draft: &Draft,
        level: usize,
        home: Option<u8>,
    ) -> Result<(Namespace, CableId), Failure> {
        let kind = draft.kind;
        let mut orders = Orders::new(name)?;
        let router = kind.v4.and_then(|routers| routers.get(level));
        orders.settings.extend(nat::settings(router));
        orders.say("link add lan type bridge mcast_snooping 0".into());
        orders.say("link set lan up".into());
        let inside = match level {
            0 => (Ipv4Addr::new(192, 168, 1, 0), 24),
            _ => (Ipv4Addr::new(100, 64, 0, 0), 24),
        };
        let (wan, cable) = match home {
            Some(home) => {
                let carrier = format!("s{number}c");
                self.links.push(format!(
                    "link add wan netns {name} type veth peer name r{home} netns {carrier}"
                ));
                let of_carrier = self.of(&carrier)?;
                of_carrier.say(format!("link set r{home} master lan up"));
                (
                    Ipv4Addr::new(100, 64, 0, home + 2),
                    CableId(self.cables.len() - 1),
                )
            }
            None => {
                let wan = wan4(number, 1);
                let model = router.filter(|router| router.by == By::Model);
                let nat = model.map(|router| Nat::new(router.behaviour, wan.into(), number));
                (wan, self.line(name, number, nat))
            }
        };
        if let Some(router) = router {
            let second = kind.second.then(|| wan4(number, 2));
            let (bits, gateway) = match home {
                Some(_) => (24, Some(Ipv4Addr::new(100, 64, 0, 1))),
                None => (16, None),
            };
            let [a, b, c, _] = inside.0.octets();
            orders.say(format!("addr add {a}.{b}.{c}.1/24 dev lan"));
            orders.say(format!("addr add {wan}/{bits} dev wan"));
            second
                .iter()
                .for_each(|second| orders.say(format!("addr add {second}/{bits} dev wan")));
            orders.say(format!("link set wan mtu {} up", kind.mtu));
            gateway
                .iter()
                .for_each(|gateway| orders.say(format!("route add default via {gateway}")));
            let place = Place {
                wan,
                second,
                inside,
                first: level == 0,
                control: CONTROL,
            };
            orders.nft.push_str(&nat::rules(kind, router, &place));
        } else {
            orders.say(format!("link set wan mtu {} up", kind.mtu));
        }
        if kind.v6 {
            orders.say(format!("addr add {}/64 dev lan nodad", lan6(number, 1)));
            orders.say(format!("addr add {}/64 dev wan nodad", wan6(number.into())));
            orders.say(format!("route add default via {} dev wan", wan6(0xffff)));
            orders.nft.push_str(nat::wall());
            self.internet.say(format!(
                "route add {}/64 via {} dev open",
                lan6(number, 0),
                wan6(number.into())
            ));
        }
        let namespace = orders.namespace.clone();
        self.orders.push(orders);
        Ok((namespace, cable))
    }

    fn of(&mut self, name: &str) -> Result<&mut Orders, Failure> {
        let mut orders = self.orders.iter_mut();
        orders
            .find(|orders| orders.namespace.name == name)
            .ok_or_else(|| format!("no namespace {name}"))
    }

    fn hosts(
        &mut self,
        router: &str,
        number: u8,
        home: u8,
        draft: &Draft,
        hosts: &mut Vec<Host>,
    ) -> Result<(), Failure> {
        for host in 0..draft.hosts {
            let name = format!("s{number}h{home}{host}");
            let mut orders = Orders::new(&name)?;
            self.links.push(format!(
                "link add lan netns {name} type veth peer name h{host} netns {router}"
            ));
            self.of(router)?
                .say(format!("link set h{host} master lan up"));
            let v4 = draft.kind.v4.map(|_| Ipv4Addr::new(192, 168, 1, 2 + host));
            let v6 = draft.kind.v6.then(|| lan6(number, 2 + u16::from(host)));
            orders.say("link set lan up".into());
            if let Some(v4) = v4 {
                orders.say(format!("addr add {v4}/24 dev lan"));
                orders.say("route add default via 192.168.1.1".into());
            }
            if let Some(v6) = v6 {
                orders.say(format!("addr add {v6}/64 dev lan nodad"));
                orders.say(format!("route add default via {} dev lan", lan6(number, 1)));
            }
            hosts.push(Host {
                namespace: orders.namespace.clone(),
                v4,
                v6,
            });
            self.orders.push(orders);
        }
        Ok(())
    }
}

impl Lab {
    /// Builds it: relay hosts and sites, each with a line of this weather.
    pub fn build(drafts: &[Draft], relays: u8, weather: &Weather) -> Result<Self, Failure> {
        if drafts.len() > SITES_MAX || relays == 0 || relays > 8 {
            return Err(format!(
                "a lab has at most {SITES_MAX} sites and 8 relay hosts"
            ));
        }
        let mut internet = Orders::new("internet")?;
        let off = |name: &str| (name.to_string(), "1".to_string());
        internet
            .settings
            .push(off("ipv6/conf/default/disable_ipv6"));
        internet.settings.push(off("ipv6/conf/all/forwarding"));
        for name in ["iptables", "ip6tables"] {
            internet
                .settings
                .push((format!("bridge/bridge-nf-call-{name}?"), "0".into()));
        }
        internet.say("link add open type bridge mcast_snooping 0".into());
        internet.say("link set open up".into());
        let mut builder = Builder {
            links: Vec::new(),
            internet,
            orders: Vec::new(),
            cables: Vec::new(),
            weather: weather.clone(),
        };
        let mut hosts = Vec::new();
        for index in 0..relays {
            let number = RELAY - index;
            let v4 = [1, 2].map(|host| wan4(number, host));
            let v6 = [1, 2].map(|host| wan6(u16::from(number) * 256 + host));
            let name = format!("relay{}", index + 1);
            let (namespace, cable) = builder.public(&name, number, &v4, &v6)?;
            hosts.push(Relay {
                namespace,
                v4,
                v6,
                cable,
            });
        }
        let sites: Result<Vec<_>, _> = drafts
            .iter()
            .zip(1..)
            .map(|(draft, number)| builder.site(number, draft))
            .collect();
        let sites = sites?;
        // before there are interfaces, which take them over
        for orders in builder.orders.iter().chain([&builder.internet]) {
            orders.namespace.settings(&orders.settings)?;
        }
        let mut links = builder.links.join("\n");
        links.push('\n');
        command("ip", &["-batch", "-"], &links)?;
        let internet = builder.internet;
        let namespace = internet.namespace.clone();
        // the bridge is there only now, and shall have an address where the others must not
        let late = vec![format!("addr add {}/64 dev open nodad", wan6(0xffff))];
        let (first, rest): (Vec<_>, Vec<_>) = internet
            .ip
            .into_iter()
            .partition(|line| !line.starts_with("route"));
        namespace.ip(&first)?;
        namespace.settings(&[("ipv6/conf/open/disable_ipv6".into(), "0".into())])?;
        namespace.ip(&late)?;
        if !rest.is_empty() {
            namespace.ip(&rest)?;
        }
        for orders in builder.orders {
            orders.carry_out()?;
        }
        Ok(Self {
            wires: Emulator::start(&namespace, builder.cables)?,
            internet: namespace,
            relays: hosts,
            sites,
        })
    }

    /// The first relay host.
    pub fn relay(&self) -> Result<&Relay, Failure> {
        self.relays.first().ok_or_else(|| "no relay host".into())
    }

    /// The home or carrier of a site forgets all mappings and gets another public address.
    pub fn reboot(&self, site: &Site) -> Result<Ipv4Addr, Failure> {
        let (old, new) = (site.wan, wan4(site.number, 9));
        // the new one after the old: a second address of a segment goes with the first
        site.edge.ip(&[
            format!("addr del {old}/16 dev wan"),
            format!("addr add {new}/16 dev wan"),
        ])?;
        let forget = "flush map ip lab back\nflush set ip lab seen\n";
        site.edge.run("nft", &["-f", "-"], forget)?;
        super::conntrack::flush(&site.edge)?;
        self.wires.reboot(site.cable, new.into());
        Ok(new)
    }
}

/// A draft of a site of this kind, by its name.
pub fn draft(kind: &str) -> Result<Draft, Failure> {
    named(kind).map(Draft::of)
}

/// The longest packet that a kind takes, as far as its wire tells: fragments are cut at eight.
pub fn fits(kind: &Kind, longest: usize) -> bool {
    let mtu = usize::from(kind.mtu);
    match kind.mtu {
        MTU => longest == mtu,
        _ => longest <= mtu && longest + 8 > mtu,
    }
}
