//! The paths of a node (`spec/setup.md`, sections 4 and 6), one pure machine. QUIC sees one
//! virtual address a session; a *way* is how a packet really goes: from a base (a socket of ours,
//! or an allocation on a relay) to an address.
//!
//! ```text
//!             first packet       handshake        both proven         a check answered
//!  (dialled,  ────────────▶ heard ───────▶ standing ───────▶ checking ────────────────▶ settled
//!   expected)  invite's dcid, │   stays on that way   creds      ▲      direct, or the     │
//!              or an answer   │                                  │      first, or better   │
//!                             ▼ silence: 10 s                    │                         ▼
//!                          (over) ◀── forgotten              in doubt ◀── silent though a packet
//!                                                        checks at once,  was due, address changed,
//!                                                        two ways         way gone
//! ```
//!
//! Who owns what: [`routes`] which sources are a session's and where its packets go until its
//! handshake completed; [`ice`] a session's checks and what they proved; [`select`] which proven
//! way is in use; [`candidates`] what may be told and checked; [`stun`] the questions for our own
//! addresses; [`turn`] the allocations, which all sessions share; [`reach`] which addresses are
//! sent to at all. [`link`] ties a session's part together, [`Path`] everything; [`socket`] and
//! [`interfaces`] are the doors. Packets pass through `received` and `leaves` and are not kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use stun_types::message::MessageClass;
use suora_protocol::documents::{AddressPolicy, Dcid, SessionId};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Draw;
use suora_protocol::wire::path as wire;

pub mod candidates;
pub mod ice;
pub mod interfaces;
pub mod link;
pub mod ports;
pub mod reach;
pub mod routes;
pub mod select;
pub mod socket;
pub mod stun;
pub mod turn;

use self::candidates::{Base, Local, Policy, Way};
use self::link::{Link, Said};
pub use self::ports::{Arrived, Event, Interfaces, Leaves, Output, Settings};
pub use self::reach::{Network, dialled, is_private, is_within_reach, refusal};
use self::routes::Routes;
use self::stun::{Packet, Questions};
use self::turn::{Grant, Received, Turn};

/// All paths of a node.
#[derive(Debug)]
pub struct Path {
    settings: Settings,
    draw: Draw,
    interfaces: Interfaces,
    looked: bool,
    routes: Routes,
    questions: Questions,
    turn: Turn,
    links: BTreeMap<SessionId, Link>,
    /// The addresses that dialled sessions try.
    dialled: BTreeMap<SessionId, Vec<SocketAddr>>,
    /// Peers of our allocations, by the session that needs them.
    permits: BTreeMap<SessionId, BTreeSet<SocketAddr>>,
    out: VecDeque<Output>,
}

impl Path {
    /// Nothing but sockets; all randomness comes from `seed`.
    pub fn new(settings: Settings, seed: [u8; 32]) -> Self {
        let mut draw = Draw::from_seed(seed);
        let families = settings.sockets.iter().map(SocketAddr::is_ipv4).collect();
        Self {
            questions: Questions::new(Draw::from_seed(draw.bytes())),
            turn: Turn::new(Draw::from_seed(draw.bytes()), families),
            settings,
            draw,
            interfaces: Interfaces::default(),
            looked: false,
            routes: Routes::default(),
            links: BTreeMap::new(),
            dialled: BTreeMap::new(),
            permits: BTreeMap::new(),
            out: VecDeque::new(),
        }
    }

    /// Breaks a rule on purpose: see [`Routes::follow_last`].
    pub const fn follow_last(&mut self) {
        self.routes.follow_last();
    }

    /// This machine's addresses, now and whenever they change: then all is asked and checked anew.
    pub fn interfaces(&mut self, now: Instant, found: Interfaces) {
        if self.interfaces == found {
            return;
        }
        self.interfaces = found;
        if std::mem::replace(&mut self.looked, true) {
            self.questions.restart(now);
            self.turn.probe(now, None);
            for link in self.links.values_mut() {
                link.restart(now);
            }
        }
        self.refresh(now);
    }

    /// These answer how they see us.
    pub fn servers(&mut self, now: Instant, servers: &[SocketAddr]) {
        for server in servers {
            let of_family = |bound: &SocketAddr| bound.is_ipv4() == server.is_ipv4();
            if let Some(at) = self.settings.sockets.iter().position(of_family) {
                self.questions.ask(now, at, *server);
            }
        }
        self.drain(now);
    }

    /// The right to allocations, on the relays that it names.
    pub fn grant(&mut self, now: Instant, grant: Grant) -> Result<(), Fault> {
        let taken = self.turn.grant(now, grant);
        self.drain(now);
        taken
    }

    /// Our relayed addresses: for an invite.
    pub fn relayed(&self) -> Vec<SocketAddr> {
        let relayed = self.turn.relayed().into_iter();
        relayed.map(|(_, address)| address).collect()
    }

    /// Where packets of ours come from, as others see it: for a join. Who hides shows relayed
    /// addresses alone.
    pub fn learned(&self) -> Vec<SocketAddr> {
        if self.settings.hidden {
            return self.relayed();
        }
        let learned = self.questions.learned().into_iter();
        learned.map(|(_, address)| address).collect()
    }

    /// The guest of a session will come from here: our relays let it in.
    pub fn permit(&mut self, now: Instant, session: SessionId, peers: &[SocketAddr]) {
        let permitted = self.permits.entry(session).or_default();
        for peer in peers {
            permitted.insert(*peer);
            self.turn.permit(now, *peer);
        }
        self.drain(now);
    }

    /// A guest may come with this connection id. Returns the virtual address.
    pub fn expect(&mut self, session: SessionId, dcid: Dcid) -> SocketAddr {
        self.routes.expect(session, dcid)
    }

    /// A host is dialled at these addresses: from our sockets, unless the person hides, and
    /// through every allocation that we have or get. Returns the virtual address; no way at all is
    /// [`Code::NoPath`].
    pub fn dial(
        &mut self,
        now: Instant,
        session: SessionId,
        dcid: Dcid,
        addresses: &[SocketAddr],
    ) -> Result<SocketAddr, Fault> {
        let allowed = (self.settings.loopback, self.settings.routed);
        let own = self.interfaces.networks.as_deref();
        let own = own.map_err(String::as_str);
        let direct = reach::dialled(addresses, &self.settings.sockets, own, allowed)?;
        let mut ways: Vec<Way> = Vec::new();
        if !self.settings.hidden {
            ways.extend(direct.iter().map(|(at, to)| (Base::Socket(*at), *to)));
        } else if !self.turn.has_grant() {
            return Err(Fault::new(Code::NoPath)
                .with("your address is to stay hidden, and no relay has been granted"));
        }
        let to: Vec<SocketAddr> = direct.into_iter().map(|(_, to)| to).collect();
        let address = self.routes.dial(session, dcid, ways);
        self.dialled.insert(session, to);
        self.dial_relayed(now);
        self.drain(now);
        Ok(address)
    }

    /// Sessions that are dialled try our allocations too.
    fn dial_relayed(&mut self, now: Instant) {
        for (session, addresses) in &self.dialled {
            for (relay, relayed) in self.turn.relayed() {
                for to in addresses
                    .iter()
                    .filter(|to| to.is_ipv4() == relayed.is_ipv4())
                {
                    self.permits.entry(*session).or_default().insert(*to);
                    self.turn.permit(now, *to);
                    self.routes.also(*session, (Base::Relay(relay), *to));
                }
            }
        }
    }

    /// The session is over, or its guest no longer expected.
    pub fn forget(&mut self, now: Instant, session: SessionId) {
        self.routes.forget(session);
        self.links.remove(&session);
        self.dialled.remove(&session);
        for peer in self.permits.remove(&session).unwrap_or_default() {
            if !self.permits.values().any(|others| others.contains(&peer)) {
                self.turn.forget(now, peer);
            }
        }
        self.drain(now);
    }

    /// The handshake completed: the session stays on its way until a check proves another.
    pub fn completed(&mut self, now: Instant, session: SessionId) {
        self.routes.completed(session);
        self.dialled.remove(&session);
        if let Some(address) = self.routes.address_of(session) {
            let way = self.routes.chosen(session);
            self.links.insert(session, Link::new(now, address, way));
        }
    }

    /// Both ends are proven: creds and what the policy allows of our candidates are told, and
    /// checks begin.
    pub fn begin(&mut self, now: Instant, session: SessionId, host: bool, desk: AddressPolicy) {
        let policy = Policy {
            desk,
            hidden: self.settings.hidden,
            host,
            accepted: false,
            loopback: self.settings.loopback,
            routed: self.settings.routed,
            fixed: self.settings.fixed,
        };
        let draw = Draw::from_seed(self.draw.bytes());
        if let Some(link) = self.links.get_mut(&session) {
            link.begin(policy, draw);
        }
        self.refresh(now);
    }

    /// The officer accepted.
    pub fn accepted(&mut self, now: Instant, session: SessionId) {
        if let Some(link) = self.links.get_mut(&session) {
            link.accept();
        }
        self.refresh(now);
    }

    /// The other end told this of itself.
    pub fn heard(&mut self, now: Instant, session: SessionId, told: wire::Path) {
        if let Some(link) = self.links.get_mut(&session) {
            link.heard(now, told);
        }
        self.refresh(now);
    }

    /// A session knows that a packet of the other end is due now.
    pub fn due(&mut self, now: Instant, session: SessionId) {
        if let Some(link) = self.links.get_mut(&session) {
            link.due(now);
        }
    }

    /// The way in use, and how many relays are on it.
    pub fn in_use(&self, session: SessionId) -> Option<(Way, u8)> {
        match self.links.get(&session) {
            Some(link) => link.in_use(),
            None => Some((self.routes.chosen(session)?, 0)),
        }
    }

    /// Whether a session stands: packets then change what is due without a word.
    pub fn is_busy(&self) -> bool {
        !self.links.is_empty()
    }

    /// Whether the person hides their address.
    pub const fn is_hidden(&self) -> bool {
        self.settings.hidden
    }

    /// A packet came to one of our sockets.
    pub fn received(&mut self, now: Instant, from: (usize, SocketAddr), packet: &[u8]) -> Arrived {
        let arrived = match self.turn.received(now, from, packet) {
            Received::Data { relay, peer, range } => {
                let way = (Base::Relay(relay), peer);
                let inner = packet.get(range.clone()).unwrap_or_default();
                match self.passed(now, way, inner) {
                    Some(address) => {
                        if self.turn.channel(relay, peer).is_none() {
                            self.bind(now, address, peer);
                        }
                        Arrived::Quic(address, range)
                    }
                    None => Arrived::Taken,
                }
            }
            Received::Taken => Arrived::Taken,
            Received::Other => {
                let ours = stun::is_stun(packet)
                    && stun::parse(packet)
                        .is_some_and(|message| self.questions.answered(now, from, &message));
                let way = (Base::Socket(from.0), from.1);
                match self.passed(now, way, packet).filter(|_| !ours) {
                    Some(address) => Arrived::Quic(address, 0..packet.len()),
                    None => Arrived::Taken,
                }
            }
        };
        self.drain(now);
        arrived
    }

    /// A packet from the other end's way: QUIC's is passed on.
    fn passed(&mut self, now: Instant, way: Way, packet: &[u8]) -> Option<SocketAddr> {
        if !matches!(packet, [0..=3, ..]) {
            return self.quic(now, way, packet, packet.len());
        }
        let message = stun::parse(packet)?;
        let own = self.interfaces.networks.as_deref().unwrap_or_default();
        match message.class() {
            MessageClass::Request => {
                let named = |link: &&mut Link| link.is_named(&message);
                let link = self.links.values_mut().find(named)?;
                link.requested(now, way, &message, own);
            }
            MessageClass::Success | MessageClass::Error => {
                let awaits = |link: &&mut Link| link.awaits(way, &message);
                let link = self.links.values_mut().find(awaits)?;
                link.answered(now, way, &message);
            }
            MessageClass::Indication => {}
        }
        None
    }

    /// Packets of QUIC's came, all of one train: their virtual address, or `None` to drop them.
    pub fn quic(&mut self, now: Instant, way: Way, first: &[u8], len: usize) -> Option<SocketAddr> {
        let address = self.routes.incoming(way, first, len)?;
        if let Some(link) = self.links.values_mut().find(|link| link.address == address) {
            link.packet(now, way);
        }
        Some(address)
    }

    /// Whether what comes from here may be looked at as a train of QUIC's: no server of ours.
    pub fn is_plain(&self, from: (usize, SocketAddr)) -> bool {
        !self.turn.is_server(from)
    }

    /// A peer of an allocation sends outside a channel: it gets one.
    fn bind(&mut self, now: Instant, address: SocketAddr, peer: SocketAddr) {
        if let Some(session) = self.routes.session_of(address) {
            self.permits.entry(session).or_default().insert(peer);
            self.turn.permit(now, peer);
        }
    }

    /// A packet of QUIC's leaves: by no way, by one, or by several.
    pub fn leaves(&mut self, now: Instant, to: SocketAddr, len: usize) -> Vec<Leaves> {
        let link = self.links.values_mut().find(|link| link.address == to);
        let ways = match link.filter(|_| !self.routes.follows_last()) {
            Some(link) => link.leaves(now, len),
            None => self.routes.outgoing(to, len),
        };
        let leaves = |(base, to): Way| match base {
            Base::Socket(at) => Leaves::Direct(at, to),
            Base::Relay(relay) => match self.turn.channel(relay, to) {
                Some(channel) => Leaves::Channel(channel),
                None => Leaves::Outside(relay, to),
            },
        };
        ways.into_iter().map(leaves).collect()
    }

    /// A packet through an allocation, outside a channel.
    pub fn outside(&mut self, relay: usize, peer: SocketAddr, data: &[u8]) -> Option<Packet> {
        self.turn.indication(relay, peer, data)
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant) {
        self.questions.tick(now);
        self.turn.tick(now);
        for link in self.links.values_mut() {
            link.tick(now);
        }
        self.drain(now);
    }

    /// When time has to pass next.
    pub fn deadline(&self) -> Option<Instant> {
        let links = self.links.values().filter_map(Link::deadline);
        let others = [self.questions.deadline(), self.turn.deadline()];
        links.chain(others.into_iter().flatten()).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn locals(&self) -> Vec<Local> {
        let bare = |kind| {
            move |(at, address): (usize, SocketAddr)| Local {
                base: Base::Socket(at),
                kind,
                address,
            }
        };
        let hosts = self.interfaces.hosts.iter().copied();
        let relayed = |(at, address)| Local {
            base: Base::Relay(at),
            kind: wire::Kind::Relayed,
            address,
        };
        let learned = self.questions.learned().into_iter();
        hosts
            .map(bare(wire::Kind::Host))
            .chain(learned.map(bare(wire::Kind::Reflexive)))
            .chain(self.turn.relayed().into_iter().map(relayed))
            .collect()
    }

    /// What we have, or may show, changed: tells the other ends, and pairs anew.
    fn refresh(&mut self, now: Instant) {
        self.pair(now);
        self.drain(now);
    }

    fn pair(&mut self, now: Instant) {
        let locals = self.locals();
        let own = self.interfaces.networks.clone().unwrap_or_default();
        for (session, link) in &mut self.links {
            let peers = link.pair(now, &locals, &self.settings.sockets, &own);
            let permitted = self.permits.entry(*session).or_default();
            for peer in peers {
                permitted.insert(peer);
                self.turn.permit(now, peer);
            }
        }
    }

    /// Drains all parts, until none has anything to say.
    fn drain(&mut self, now: Instant) {
        loop {
            let (mut anew, mut doubtful) = (false, false);
            while let Some(output) = self.questions.poll_output() {
                match output {
                    stun::Output::Send(packet) => self.out.push_back(Output::Send(packet)),
                    stun::Output::Changed => {
                        anew = true;
                        self.out.push_back(Output::Event(Event::Learned));
                    }
                }
            }
            while let Some(output) = self.turn.poll_output() {
                match output {
                    turn::Output::Send(packet) => self.out.push_back(Output::Send(packet)),
                    turn::Output::Changed => {
                        anew = true;
                        self.out.push_back(Output::Event(Event::Relayed));
                        self.dial_relayed(now);
                    }
                    turn::Output::Lost(relay, _) => {
                        self.routes.lost(Base::Relay(relay));
                        for link in self.links.values_mut() {
                            link.lost(now, relay);
                        }
                    }
                }
            }
            let mut said = Vec::new();
            for (session, link) in &mut self.links {
                while let Some(output) = link.poll_output() {
                    said.push((*session, output));
                }
            }
            let quiet = said.is_empty() && !anew;
            for (session, output) in said {
                match output {
                    Said::Send((Base::Socket(at), to), bytes) => {
                        self.out.push_back(Output::Send(Packet {
                            socket: at,
                            to,
                            bytes,
                        }));
                    }
                    Said::Send((Base::Relay(relay), to), bytes) => {
                        let packet = self.turn.wrap(relay, to, &bytes);
                        self.out.extend(packet.map(Output::Send));
                    }
                    Said::Admit(way) => self.routes.admit(session, way),
                    Said::Tell(told) => {
                        let tell = Event::Tell(session, told);
                        self.out.push_back(Output::Event(tell));
                    }
                    Said::Moved => self.out.push_back(Output::Event(Event::Moved(session))),
                    Said::Doubt => doubtful = true,
                }
            }
            if doubtful {
                // a relay may have forgotten an allocation, a router our mapping
                self.turn.probe(now, None);
                self.questions.again(now);
            }
            if anew {
                self.pair(now);
            }
            if quiet {
                return;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
