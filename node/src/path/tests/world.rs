//! Two nodes behind routers, relays, a session between the two that talks, and a virtual clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use suora_protocol::documents::{AddressPolicy, Dcid, SessionId};
use suora_protocol::wire::path as wire;

use super::base;
use crate::path::candidates::Base;
use crate::path::turn::model::{Flight, Server, grant};
use crate::path::{Arrived, Event, Interfaces, Leaves, Output, Path, Settings};

pub(crate) const SESSION: SessionId = SessionId::from_bytes([1; 16]);
const DCID: Dcid = Dcid::from_bytes([7; 20]);
/// One way from a node to anybody else.
pub(crate) const LEG: Duration = Duration::from_millis(25);
/// Between two packets of sound.
const BEAT: Duration = Duration::from_millis(20);
pub(crate) const GUEST: usize = 0;
pub(crate) const HOST: usize = 1;

/// A router, after RFC 4787.
#[derive(Clone, Debug)]
pub(crate) struct Nat {
    public: IpAddr,
    /// A port for each destination, instead of one for all.
    per_destination: bool,
    /// Lets in who was sent to, by address and port; else by address.
    by_port: bool,
    ports: BTreeMap<(SocketAddr, Option<SocketAddr>), u16>,
    open: BTreeSet<(u16, SocketAddr)>,
    next: u16,
}

impl Nat {
    fn new(last: u8, per_destination: bool) -> Self {
        Self {
            public: IpAddr::from([198, 51, 100, last]),
            per_destination,
            by_port: true,
            ports: BTreeMap::new(),
            open: BTreeSet::new(),
            next: 40_000,
        }
    }

    fn out(&mut self, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let key = (from, Some(to).filter(|_| self.per_destination));
        let next = &mut self.next;
        let port = *self.ports.entry(key).or_insert_with(|| {
            *next += 7;
            *next
        });
        self.open.insert((port, to));
        SocketAddr::new(self.public, port)
    }

    fn back(&self, from: SocketAddr, port: u16) -> Option<SocketAddr> {
        let (key, _) = self.ports.iter().find(|(_, of)| **of == port)?;
        let mut open = self.open.iter().filter(|(of, _)| *of == port);
        let lets =
            |(_, to): &(u16, SocketAddr)| *to == from || (!self.by_port && to.ip() == from.ip());
        open.any(lets).then_some(key.0)
    }

    fn reboot(&mut self) {
        self.ports.clear();
        self.open.clear();
        self.next += 1_000;
    }
}

pub(crate) struct Node {
    pub(crate) path: Path,
    inside: SocketAddr,
    nat: Nat,
    quic: Option<SocketAddr>,
    /// When each packet of sound came, and which it was.
    pub(crate) heard: Vec<(Instant, u32)>,
    /// Everything that was told to this node inside the session.
    pub(crate) told: Vec<wire::Path>,
    pub(crate) moves: Vec<(Instant, u8)>,
    /// Every packet that left its own socket: when, where to, its first byte.
    pub(crate) left: Vec<(Instant, SocketAddr, Vec<u8>)>,
    begun: bool,
}

impl Node {
    /// Its router lets in any port of whom it sent to.
    pub(crate) fn filter_by_address(&mut self) {
        self.nat.by_port = false;
    }
}

enum Happens {
    Flight(Flight),
    Told(usize, wire::Path),
    Accepted(usize),
    Began(usize),
}

/// How the two are set up.
pub(crate) struct Plan {
    pub(crate) policy: AddressPolicy,
    pub(crate) per_destination: [bool; 2],
    pub(crate) hidden: bool,
    pub(crate) relays: u8,
    /// Whether the guest has a grant too.
    pub(crate) guest_grant: bool,
    /// Whether checks are made at all: not so in negative controls.
    pub(crate) checks: bool,
    pub(crate) loss: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            policy: AddressPolicy::AfterAccept,
            per_destination: [false, false],
            hidden: false,
            relays: 1,
            guest_grant: true,
            checks: true,
            loss: 0,
        }
    }
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) nodes: [Node; 2],
    pub(crate) servers: Vec<Server>,
    pub(crate) plan: Plan,
    /// Pairs of addresses between which nothing passes.
    pub(crate) cut: BTreeSet<(IpAddr, IpAddr)>,
    happens: BTreeMap<u64, Happens>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    count: u64,
    dice: u64,
    beat: Instant,
    sound: u32,
    talk: bool,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let start = base();
        let servers: Vec<Server> = (1..=plan.relays).map(Server::new).collect();
        let node = |at: usize| {
            let last = at as u8 + 1;
            let inside = SocketAddr::from(([192, 168, last, 20], 5_000));
            let settings = Settings {
                sockets: vec!["0.0.0.0:5000".parse().unwrap()],
                loopback: false,
                routed: false,
                hidden: plan.hidden && at == GUEST,
                fixed: false,
            };
            let mut path = Path::new(settings, [last; 32]);
            let networks = Ok(vec![(inside.ip(), 24)]);
            let hosts = vec![(0, inside)];
            path.interfaces(start, Interfaces { hosts, networks });
            Node {
                path,
                inside,
                nat: Nat::new(last, plan.per_destination[at]),
                quic: None,
                heard: Vec::new(),
                told: Vec::new(),
                moves: Vec::new(),
                left: Vec::new(),
                begun: false,
            }
        };
        Self {
            now: start,
            nodes: [node(GUEST), node(HOST)],
            servers,
            plan,
            cut: BTreeSet::new(),
            happens: BTreeMap::new(),
            queue: BinaryHeap::new(),
            count: 0,
            dice: 1,
            beat: start,
            sound: 0,
            talk: false,
        }
    }

    /// Until the two talk over a relay, before the accept.
    pub(crate) fn warm(plan: Plan) -> Self {
        Self::new(plan).warmed()
    }

    pub(crate) fn warmed(self) -> Self {
        let mut world = self;
        let loss = std::mem::take(&mut world.plan.loss);
        let servers: Vec<SocketAddr> = world.servers.iter().map(|one| one.address).collect();
        let right = grant(&world.servers.iter().collect::<Vec<_>>());
        let now = world.now;
        for (at, node) in world.nodes.iter_mut().enumerate() {
            node.path.servers(now, &servers);
            if at == HOST || world.plan.guest_grant {
                node.path.grant(now, right.clone()).unwrap();
            }
        }
        world.run(Duration::from_secs(1));
        let learned = world.nodes[GUEST].path.learned();
        let host = &mut world.nodes[HOST];
        host.path.permit(world.now, SESSION, &learned);
        host.quic = Some(host.path.expect(SESSION, DCID));
        let listed = host.path.relayed();
        assert_eq!(listed.len(), usize::from(world.plan.relays));
        world.run(4 * LEG);
        let guest = &mut world.nodes[GUEST];
        let address = guest.path.dial(world.now, SESSION, DCID, &listed).unwrap();
        guest.quic = Some(address);
        let mut initial = vec![0xc3, 0, 0, 0, 1, 20];
        initial.extend_from_slice(&[7; 20]);
        initial.resize(1_200, 0);
        world.quic(GUEST, &initial);
        world.run(20 * LEG);
        assert!(world.nodes[GUEST].begun && world.nodes[HOST].begun);
        (world.talk, world.plan.loss) = (true, loss);
        world.run(Duration::from_secs(1));
        world
    }

    /// The officer accepts.
    pub(crate) fn accept(&mut self) -> Instant {
        self.nodes[HOST].path.accepted(self.now, SESSION);
        self.drain(HOST);
        let after = self.session_trip(HOST);
        self.plan(after, Happens::Accepted(GUEST));
        self.now
    }

    /// The public address of a node's router.
    pub(crate) fn public(&self, at: usize) -> IpAddr {
        self.nodes[at].nat.public
    }

    /// Nothing passes between two addresses from now on.
    pub(crate) fn cut(&mut self, one: IpAddr, other: IpAddr) {
        self.cut.insert((one, other));
        self.cut.insert((other, one));
    }

    /// A node's router forgets all mappings.
    pub(crate) fn reboot(&mut self, at: usize) {
        self.nodes[at].nat.reboot();
    }

    /// A node is on another network from now on.
    pub(crate) fn roam(&mut self, at: usize, last: u8) {
        let node = &mut self.nodes[at];
        node.inside = SocketAddr::from(([192, 168, last, 30], 5_000));
        node.nat = Nat::new(last, false);
        let networks = Ok(vec![(node.inside.ip(), 24)]);
        let hosts = vec![(0, node.inside)];
        node.path
            .interfaces(self.now, Interfaces { hosts, networks });
        self.drain(at);
    }

    /// Relays on the way in use.
    pub(crate) fn hops(&self, at: usize) -> u8 {
        let (_, hops) = self.nodes[at].path.in_use(SESSION).unwrap();
        hops
    }

    /// The longest silence that a node heard since a moment, in ms.
    pub(crate) fn gap(&self, at: usize, since: Instant) -> u128 {
        let mut last = since;
        let mut longest = Duration::ZERO;
        let times = self.nodes[at].heard.iter().map(|(time, _)| *time);
        for time in times.filter(|time| *time >= since).chain([self.now]) {
            longest = longest.max(time.saturating_duration_since(last));
            last = time;
        }
        longest.as_millis()
    }

    /// Packets of sound that were sent to a node since a moment and never came.
    pub(crate) fn missing(&self, at: usize, since: Instant) -> usize {
        let heard: BTreeSet<u32> = self.nodes[at]
            .heard
            .iter()
            .filter(|(time, _)| *time >= since)
            .map(|(_, number)| *number)
            .collect();
        let (Some(first), Some(last)) = (heard.first(), heard.last()) else {
            return usize::MAX;
        };
        (last - first) as usize + 1 - heard.len()
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let queued = self.queue.peek().map(|Reverse((at, _))| *at);
            let due = self.nodes.iter().filter_map(|node| node.path.deadline());
            let next = due.chain(queued).chain([self.beat]).min().unwrap();
            if next > end {
                self.now = end;
                return;
            }
            self.now = next.max(self.now);
            if self.beat <= self.now {
                self.beat += BEAT;
                self.sound += 1;
                for at in [GUEST, HOST] {
                    let [a, b, c, d] = self.sound.to_be_bytes();
                    let mut packet = vec![0x41, a, b, c, d];
                    packet.resize(160, 0);
                    if self.talk {
                        self.quic(at, &packet);
                    }
                }
            }
            while let Some(Reverse((at, number))) = self.queue.peek().copied() {
                if at > self.now {
                    break;
                }
                self.queue.pop();
                let happens = self.happens.remove(&number).unwrap();
                self.happen(happens);
            }
            for at in [GUEST, HOST] {
                let path = &mut self.nodes[at].path;
                if path.deadline().is_some_and(|due| due <= self.now) {
                    path.tick(self.now);
                    self.drain(at);
                }
            }
        }
    }

    fn plan(&mut self, after: Duration, happens: Happens) {
        self.count += 1;
        self.happens.insert(self.count, happens);
        self.queue.push(Reverse((self.now + after, self.count)));
    }

    fn session_trip(&self, from: usize) -> Duration {
        let hops = self.nodes[from].path.in_use(SESSION);
        LEG * (1 + u32::from(hops.map_or(1, |(_, hops)| hops)).min(2))
    }

    fn happen(&mut self, happens: Happens) {
        match happens {
            Happens::Told(at, told) => {
                self.nodes[at].told.push(told.clone());
                self.nodes[at].path.heard(self.now, SESSION, told);
                self.drain(at);
            }
            Happens::Accepted(at) => {
                self.nodes[at].path.accepted(self.now, SESSION);
                self.drain(at);
            }
            Happens::Began(at) => self.begin(at),
            Happens::Flight(flight) => self.fly(flight),
        }
    }

    fn fly(&mut self, (from, to, bytes): Flight) {
        let servers = &mut self.servers;
        if let Some(server) = servers.iter_mut().find(|one| one.address.ip() == to.ip()) {
            for (from, to, bytes) in server.take((from, to, bytes)) {
                self.send(from, to, bytes);
            }
            return;
        }
        let Some(at) = self
            .nodes
            .iter()
            .position(|node| node.nat.public == to.ip())
        else {
            return;
        };
        let node = &mut self.nodes[at];
        if node.nat.back(from, to.port()) != Some(node.inside) {
            return;
        }
        let arrived = node.path.received(self.now, (0, from), &bytes);
        if let Arrived::Quic(address, range) = arrived {
            assert_eq!(Some(address), node.quic);
            self.heard(at, &bytes[range]);
        }
        self.drain(at);
    }

    /// What a packet of QUIC's means here.
    fn heard(&mut self, at: usize, packet: &[u8]) {
        match packet {
            // a first packet: the answer
            [0xc3, ..] => self.quic(HOST, &[0xe1; 1_200]),
            [0xe1, ..] if !self.nodes[at].begun => {
                self.nodes[at].begun = true;
                self.nodes[at].path.completed(self.now, SESSION);
                if at == GUEST {
                    self.quic(GUEST, &[0xe1; 1_200]);
                    // the welcome comes a round trip later
                    self.plan(4 * LEG, Happens::Began(GUEST));
                } else {
                    self.begin(HOST);
                }
            }
            [0x41, a, b, c, d, ..] => {
                let number = u32::from_be_bytes([*a, *b, *c, *d]);
                self.nodes[at].heard.push((self.now, number));
            }
            _ => {}
        }
    }

    fn begin(&mut self, at: usize) {
        if self.plan.checks {
            let policy = self.plan.policy;
            let path = &mut self.nodes[at].path;
            path.begin(self.now, SESSION, at == HOST, policy);
            self.drain(at);
        }
    }

    fn quic(&mut self, at: usize, packet: &[u8]) {
        let node = &mut self.nodes[at];
        let Some(address) = node.quic else {
            return;
        };
        let mut out = Vec::new();
        for way in node.path.leaves(self.now, address, packet.len()) {
            match way {
                Leaves::Direct(_, to) => out.push((to, packet.to_vec())),
                Leaves::Channel(channel) => {
                    let framed = [&channel.header(packet.len()), packet].concat();
                    out.push((channel.server, framed));
                }
                Leaves::Outside(relay, peer) => {
                    let packet = node.path.outside(relay, peer, packet);
                    out.extend(packet.map(|packet| (packet.to, packet.bytes)));
                }
            }
        }
        for (to, bytes) in out {
            self.leave(at, to, bytes);
        }
        self.drain(at);
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.nodes[at].path.poll_output() {
            match output {
                Output::Send(packet) => self.leave(at, packet.to, packet.bytes),
                Output::Event(Event::Tell(_, told)) => {
                    let after = self.session_trip(at);
                    self.plan(after, Happens::Told(1 - at, told));
                }
                Output::Event(Event::Moved(_)) => {
                    let hops = self.hops(at);
                    self.nodes[at].moves.push((self.now, hops));
                }
                Output::Event(_) => {}
            }
        }
    }

    fn leave(&mut self, at: usize, to: SocketAddr, bytes: Vec<u8>) {
        let node = &mut self.nodes[at];
        node.left.push((self.now, to, bytes.clone()));
        let from = node.nat.out(node.inside, to);
        self.send(from, to, bytes);
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        // a small generator, so that a run can be repeated
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let lost = (self.dice >> 33) % 100 < self.plan.loss;
        if !lost && !self.cut.contains(&(from.ip(), to.ip())) {
            self.plan(LEG, Happens::Flight((from, to, bytes)));
        }
    }

    /// Whether a node's way leads through an allocation of its own.
    pub(crate) fn is_own_relay(&self, at: usize) -> bool {
        let (way, _) = self.nodes[at].path.in_use(SESSION).unwrap();
        matches!(way.0, Base::Relay(_))
    }
}
