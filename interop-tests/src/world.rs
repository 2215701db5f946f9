//! A world on one virtual clock: the real engines of nodes and the real hub of a relay, joined
//! by a seeded network. QUIC is played by its contract: a connection stands if the dcid is
//! expected and the certificate fits, both ends then hold the same exporter, unless somebody
//! sits in between. Sound and picture are not simulated. A [`Tap`] is the hostile network: it
//! sees every whole message and says what goes on instead of it.

pub mod agency;
pub mod internet;
mod links;
pub mod nat;
pub mod network;
mod people;
mod sessions;
pub mod tap;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use suora_node::engine::ports::{
    Expected, Fetched, Input, LinkEvent, Local, Proof, Recalled, SessionEvent,
};
use suora_node::engine::{Engine, Role};
use suora_node::path;
use suora_node::report::Report;
use suora_node::view::View;
use suora_protocol::documents::{DeskId, SessionId};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{Draw, Key};
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::Framer;
use suora_protocol::wire::work::Work;
use suora_relay::hub::change::{Change, Snapshot};
use suora_relay::hub::crowd::Prefix;
use suora_relay::hub::enrolment::Enrolment;
use suora_relay::hub::{self, Hub, LinkId};

pub use agency::{Agency, DESK, desk};
use network::Network;
pub use people::Manner;
use sessions::Connection;
pub use tap::{Message, Tap};

/// How long the store needs to make a commit durable.
const STORE: Duration = Duration::from_millis(2);
/// How long a node works for its ticket.
const WORK: Duration = Duration::from_millis(100);
/// How often an engine hears that time passed.
const TICK: Duration = Duration::from_millis(250);
/// How often the hub hears that time passed.
const HUB_TICK: Duration = Duration::from_secs(1);
/// How long a node waits before it dials a relay again.
const REDIAL: Duration = Duration::from_secs(1);
/// How long a first packet is repeated before the door gives up.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// One base moment, from which every world counts.
#[expect(clippy::disallowed_methods, reason = "door: the base of virtual time")]
pub fn base() -> Now {
    Now {
        mono: Instant::now() + Duration::from_secs(3_600),
        utc: Timestamp::from_secs(1_795_525_200),
    }
}

/// A node of the world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NodeId(usize);

enum Event {
    Tick(NodeId),
    HubTick(u64),
    Dial(NodeId),
    Fetched(NodeId, Option<Bytes>),
    Worked(NodeId, Result<Work, Fault>),
    Up(LinkId),
    NodeUp(LinkId),
    ToRelay(LinkId, Bytes),
    FromRelay(LinkId, Bytes),
    RelayDown(LinkId),
    NodeDown(LinkId),
    Committed(u64, u64, Vec<Change>),
    Initial(u64),
    Answered(u64, Option<Fault>),
    Stood(u64),
    Unanswered(u64),
    Control {
        wire: u64,
        to_host: bool,
        bytes: Bytes,
    },
    Closed(NodeId, SessionId, Fault),
}

/// A node's door to the world, and what its person saw.
struct Node {
    engine: Option<Engine>,
    role: Role,
    desk: DeskId,
    prefix: Prefix,
    seed: [u8; 32],
    skew: i64,
    /// The file beside the key.
    kept: Option<Bytes>,
    /// What it remembers of the agency.
    recalled: Option<Recalled>,
    proofs: Vec<Proof>,
    local: Local,
    /// The networks of its machine; none: every address is within its reach.
    networks: Option<Vec<path::Network>>,
    account: Option<(Key, bool)>,
    link: Option<LinkId>,
    framer: Framer,
    held: bool,
    expects: Vec<Expected>,
    open: BTreeSet<SessionId>,
    views: Vec<View>,
    reports: Vec<Report>,
    finished: Option<u8>,
}

/// What a world begins with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Everything random comes from it.
    pub seed: u8,
    /// One way between any two.
    pub delay: Duration,
    /// And up to so much more.
    pub jitter: Duration,
    /// Rules that the relay breaks.
    pub faults: suora_relay::Faults,
    /// Whether nodes break a rule: see [`Engine::take_any_challenge`].
    pub careless: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(10),
            faults: suora_relay::Faults::default(),
            careless: false,
        }
    }
}

/// The world.
pub struct World {
    /// The agency that everybody goes to.
    pub agency: Agency,
    /// What the relay's store has.
    pub store: Snapshot,
    /// What the hub refused, in order.
    pub refused: Vec<Code>,
    /// What nodes refused of each other's words and proofs, in order. A first packet that a
    /// host's socket drops in silence is there as `handshake-failed`, what its guest sees.
    pub refusals: Vec<(NodeId, Code)>,
    /// Puzzles that nodes solved.
    pub works: u32,
    /// What the hub answered administrators, in order.
    pub enrolled: Vec<Result<Enrolment, Fault>>,
    setup: Setup,
    now: Now,
    network: Network<Event>,
    draw: Draw,
    hub: Option<Hub>,
    life: u64,
    links: BTreeMap<LinkId, (NodeId, Framer)>,
    wires: u64,
    nodes: Vec<Node>,
    connections: BTreeMap<u64, Connection>,
    tap: Option<Tap>,
    middle: bool,
    /// The agency's web server does not answer.
    away: bool,
    /// How often the agency's page was asked for.
    pub fetches: usize,
    falling: Option<Duration>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World({} nodes)", self.nodes.len())
    }
}

impl World {
    /// A world with a relay and nobody else.
    pub fn new(setup: Setup) -> Self {
        Self::with_agency(setup, |_| {})
    }

    /// A world whose agency is changed before its page is signed.
    pub fn with_agency(setup: Setup, change: impl FnOnce(&mut Agency)) -> Self {
        let now = base();
        let mut agency = Agency::new(setup.seed, now.utc);
        change(&mut agency);
        let mut draw = Draw::from_seed([setup.seed; 32]);
        let mut world = Self {
            agency,
            store: Snapshot::default(),
            refused: Vec::new(),
            refusals: Vec::new(),
            works: 0,
            enrolled: Vec::new(),
            now,
            network: Network::new(draw.bytes(), setup.delay, setup.jitter),
            draw,
            hub: None,
            life: 0,
            links: BTreeMap::new(),
            wires: 0,
            nodes: Vec::new(),
            connections: BTreeMap::new(),
            tap: None,
            middle: false,
            away: false,
            fetches: 0,
            falling: None,
            setup,
        };
        world.start_relay();
        world
    }

    /// The moment.
    pub const fn now(&self) -> Now {
        self.now
    }

    // --- time

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        self.until(time, |_| false);
    }

    /// Lets time pass until something holds; says whether it came to hold within `bound`.
    pub fn until(&mut self, bound: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now.mono + bound;
        loop {
            if done(self) {
                return true;
            }
            if self.network.next_at().is_none_or(|at| at > end) {
                self.advance(end);
                return false;
            }
            if let Some((at, event)) = self.network.take() {
                self.advance(at);
                self.happen(event);
            }
        }
    }

    fn advance(&mut self, to: Instant) {
        let passed = to.saturating_duration_since(self.now.mono);
        self.now = self.now.after(passed);
    }

    fn time_of(&self, id: NodeId) -> Now {
        Now {
            mono: self.now.mono,
            utc: self.now.utc.shift(self.nodes[id.0].skew),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(id) => {
                if self.nodes[id.0].engine.is_some() {
                    self.network.at(self.now.mono + TICK, Event::Tick(id));
                    self.tell(id, Input::Tick);
                }
            }
            Event::HubTick(life) => {
                if life == self.life && self.hub.is_some() {
                    self.network
                        .at(self.now.mono + HUB_TICK, Event::HubTick(life));
                    self.fall();
                    self.hear(hub::Input::Tick);
                }
            }
            Event::Dial(id) => self.dial_relay(id),
            Event::Fetched(id, bytes) => {
                let root = Some(self.agency.id());
                let away = || Fault::new(Code::DescriptorUnreachable);
                let fetched = bytes.map(|bytes| Fetched { bytes, root });
                self.tell(id, Input::Descriptor(fetched.ok_or_else(away)));
            }
            Event::Worked(id, work) => self.tell(id, Input::Worked(work)),
            Event::Up(link) => {
                let Some((id, _)) = self.links.get(&link) else {
                    return;
                };
                let node = &self.nodes[id.0];
                if let Some((key, officer)) = &node.account {
                    let (peer, officer) = (key.peer_id(), *officer);
                    let prefix = node.prefix;
                    self.hear(hub::Input::Up {
                        link,
                        peer,
                        officer,
                        prefix,
                    });
                }
            }
            Event::NodeUp(link) => {
                if let Some(id) = self.owner(link) {
                    self.tell(id, Input::Link(LinkEvent::Up));
                }
            }
            Event::ToRelay(link, bytes) => self.relay_hears(link, &bytes),
            Event::FromRelay(link, bytes) => self.node_hears(link, &bytes),
            Event::RelayDown(link) => {
                if self.links.remove(&link).is_some() {
                    self.hear(hub::Input::Down(link));
                }
            }
            Event::NodeDown(link) => {
                if let Some(id) = self.owner(link) {
                    self.nodes[id.0].link = None;
                    let trip = self.network.trip();
                    self.network
                        .at(self.now.mono + REDIAL + trip, Event::Dial(id));
                    let fault = Fault::new(Code::RelayUnreachable);
                    self.tell(id, Input::Link(LinkEvent::Down(fault)));
                }
            }
            Event::Committed(life, commit, changes) => {
                if life == self.life && self.hub.is_some() {
                    self.store.apply(&changes);
                    self.hear(hub::Input::Committed(commit));
                }
            }
            Event::Initial(wire) => self.initial(wire),
            Event::Answered(wire, fault) => self.answered(wire, fault),
            Event::Stood(wire) => self.stood(wire),
            Event::Unanswered(wire) => {
                if self.connections.get(&wire).is_some_and(|one| !one.stood) {
                    self.close_wire(wire, Fault::new(Code::HandshakeFailed));
                }
            }
            Event::Control {
                wire,
                to_host,
                bytes,
            } => self.session_hears(wire, to_host, &bytes),
            Event::Closed(id, session, fault) => {
                self.nodes[id.0].open.remove(&session);
                self.tell(id, Input::Session(session, SessionEvent::Closed(fault)));
            }
        }
    }

    fn owner(&self, link: LinkId) -> Option<NodeId> {
        let at = self.nodes.iter().position(|node| node.link == Some(link))?;
        Some(NodeId(at))
    }

    /// Now and then a link falls.
    fn fall(&mut self) {
        let Some(mean) = self.falling else {
            return;
        };
        if self.draw.below(mean.as_secs().max(1)) == 0 {
            let count = u64::try_from(self.nodes.len()).unwrap_or(1);
            let which = usize::try_from(self.draw.below(count)).unwrap_or(0);
            if self.draw.below(2) == 0 {
                self.cut(NodeId(which));
            } else {
                self.change_network(NodeId(which));
            }
        }
    }
}
