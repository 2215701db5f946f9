//! Who is in the world, what befalls them, what they ask and what they see.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use suora_node::engine::ports::{Input, Local, Proof};
use suora_node::engine::{Engine, Role, Settings};
use suora_node::intent::Intent;
use suora_node::path::Network;
use suora_node::report::Report;
use suora_node::view::{Stage, View};
use suora_protocol::documents::{Descriptor, DeskId, Signed, Verified, chain};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{Hash, Key, PeerId, Seed};
use suora_protocol::limits;
use suora_protocol::time::Timestamp;
use suora_protocol::wire::Framer;
use suora_protocol::wire::guest::Media;
use suora_relay::hub::crowd::{Bounds, Prefix};
use suora_relay::hub::{self, Hub};

use super::{Agency, DESK, Event, HUB_TICK, Node, NodeId, TICK, World, desk};

/// How an officer works.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Takes every offer.
    pub auto_accept: bool,
    /// Serves on after a consultation.
    pub stay: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            auto_accept: false,
            stay: true,
        }
    }
}

impl World {
    /// A citizen who joins the desk now.
    pub fn citizen(&mut self) -> NodeId {
        self.node(Role::Citizen { join: true }, 0)
    }

    /// A citizen who joins another desk now.
    pub fn citizen_at(&mut self, name: &str) -> NodeId {
        self.node_at(Role::Citizen { join: true }, 0, name)
    }

    /// The relay's bounds for crowds, until it starts again.
    pub fn bounds(&mut self, bounds: Bounds) {
        if let Some(hub) = &mut self.hub {
            hub.set_bounds(bounds);
        }
    }

    /// From now on this node is where another one is, as in an office.
    pub fn moves_to(&mut self, id: NodeId, other: NodeId) {
        self.nodes[id.0].prefix = self.nodes[other.0].prefix;
    }

    /// A node's machine is in this network, and nowhere else.
    pub fn is_in(&mut self, id: NodeId, network: Network) {
        let node = &mut self.nodes[id.0];
        for address in &mut node.local.addresses {
            address.set_ip(network.0);
        }
        node.networks = Some(vec![network]);
        let local = node.local.clone();
        self.tell(id, Input::Local(local));
    }

    /// An officer of the desk who answers by hand, and serves on.
    pub fn officer(&mut self) -> NodeId {
        self.officer_with(Manner::default(), Agency::issue_officer)
    }

    /// An officer who takes every offer.
    pub fn quick_officer(&mut self) -> NodeId {
        let quick = Manner {
            auto_accept: true,
            ..Manner::default()
        };
        self.officer_with(quick, Agency::issue_officer)
    }

    /// An officer with the credential that `issue` makes for its key.
    pub fn officer_with(
        &mut self,
        manner: Manner,
        issue: impl FnOnce(&Agency, PeerId, Timestamp) -> Bytes,
    ) -> NodeId {
        let seed = self.device(self.nodes.len());
        let peer = Seed::from_bytes(seed).node_key().peer_id();
        let role = Role::Officer {
            credential: issue(&self.agency, peer, self.now.utc),
            auto_accept: manner.auto_accept,
            stay: manner.stay,
        };
        self.node(role, 0)
    }

    fn device(&self, number: usize) -> [u8; 32] {
        let name = format!("device {number} of world {}", self.setup.seed);
        *Hash::of(name.as_bytes()).as_bytes()
    }

    /// Any node; its clock is `skew` microseconds ahead.
    pub fn node(&mut self, role: Role, skew: i64) -> NodeId {
        self.node_at(role, skew, DESK)
    }

    fn node_at(&mut self, role: Role, skew: i64, name: &str) -> NodeId {
        let number = self.nodes.len();
        let id = NodeId(number);
        let port = 40_000 + u16::try_from(number).unwrap_or(0);
        self.nodes.push(Node {
            engine: None,
            role,
            desk: desk(name),
            prefix: Prefix::of([10, (number >> 8) as u8, number as u8, 1].into()),
            seed: self.device(number),
            skew,
            kept: None,
            recalled: None,
            proofs: Vec::new(),
            local: Local {
                fingerprint: Hash::of(format!("certificate {number}").as_bytes()),
                addresses: vec![SocketAddr::from(([192, 0, 2, 1], port))],
                relayed: Vec::new(),
                learned: Vec::new(),
            },
            networks: None,
            account: None,
            link: None,
            framer: Framer::new(),
            held: false,
            expects: Vec::new(),
            open: BTreeSet::new(),
            views: Vec::new(),
            reports: Vec::new(),
            finished: None,
        });
        self.start(id);
        id
    }

    /// Starts a node's program, or starts it again with the same key.
    pub fn start(&mut self, id: NodeId) {
        let (seed, now) = (self.draw.bytes(), self.time_of(id));
        let node = &mut self.nodes[id.0];
        if let (Role::Officer { credential, .. }, Some(kept)) = (&mut node.role, &node.kept) {
            *credential = kept.clone();
        }
        let settings = Settings {
            role: node.role.clone(),
            seed: Seed::from_bytes(node.seed),
            desk: node.desk.clone(),
            talk: None,
            recalled: node.recalled.clone(),
            fresh: false,
        };
        let mut engine = Engine::new(settings, seed, now);
        if self.setup.careless {
            engine.take_any_challenge();
        }
        // officers of whom nobody asks a credential send what no honest node would
        if self.setup.faults.unchecked_credential {
            engine.send_any_invite();
        }
        engine.handle_input(now, Input::Local(node.local.clone()));
        node.engine = Some(engine);
        node.finished = None;
        node.views.clear();
        node.reports.clear();
        self.network.at(self.now.mono + TICK, Event::Tick(id));
        self.drain(id);
    }

    /// Kills a node's program: it says nothing more, and nobody is told.
    pub fn kill(&mut self, id: NodeId) {
        self.nodes[id.0].engine = None;
        self.leave_link(id);
        self.nodes[id.0].account = None;
        let wires: Vec<u64> = self.connections_of(id);
        for wire in wires {
            self.network.cut(wire);
            let Some(connection) = self.connections.remove(&wire) else {
                continue;
            };
            for (other, session) in connection.ends().filter(|(other, _)| *other != id) {
                let silent = Event::Closed(other, session, Fault::new(Code::PeerSilent));
                self.network.at(self.now.mono + limits::SILENCE, silent);
            }
        }
    }

    pub(super) fn connections_of(&self, id: NodeId) -> Vec<u64> {
        self.connections
            .iter()
            .filter(|(_, connection)| connection.ends().any(|(end, _)| end == id))
            .map(|(wire, _)| *wire)
            .collect()
    }

    /// A node's link falls; it dials again after a second, unless it is [held](Self::hold).
    pub fn cut(&mut self, id: NodeId) {
        if let Some(link) = self.nodes[id.0].link {
            self.network.cut(link.0);
            self.network.at(self.now.mono, Event::NodeDown(link));
            self.network
                .at(self.now.mono + self.setup.delay, Event::RelayDown(link));
        }
    }

    /// A node changes its network: it dials anew at once, and the relay learns nothing of the old
    /// link's end.
    pub fn change_network(&mut self, id: NodeId) {
        if let Some(link) = self.nodes[id.0].link {
            self.network.cut(link.0);
            self.network.at(self.now.mono, Event::NodeDown(link));
            self.network.at(self.now.mono, Event::Dial(id));
        }
    }

    /// Somebody else answers at this node's address from now on, with a certificate of its own.
    pub fn take_address(&mut self, id: NodeId) {
        self.nodes[id.0].local.fingerprint = Hash::of(b"another certificate");
    }

    /// A node's program starts again, with a new certificate as at each start; at its address
    /// somebody answers with the one of the former start.
    pub fn former_certificate(&mut self, id: NodeId) {
        let former = self.nodes[id.0].local.fingerprint;
        self.kill(id);
        self.nodes[id.0].local.fingerprint = Hash::of(b"the certificate of the new start");
        self.start(id);
        self.nodes[id.0].local.fingerprint = former;
    }

    /// A node's link falls, and it does not dial until it is let go.
    pub fn hold(&mut self, id: NodeId) {
        self.nodes[id.0].held = true;
        self.cut(id);
    }

    /// A held node dials again.
    pub fn let_go(&mut self, id: NodeId) {
        self.nodes[id.0].held = false;
    }

    /// From now on somebody's link falls, once in so long on average.
    pub fn links_fall(&mut self, mean: Option<Duration>) {
        self.falling = mean;
    }

    /// The relay's process dies: nothing that the store does not have survives.
    pub fn kill_relay(&mut self) {
        self.hub = None;
        let links = std::mem::take(&mut self.links);
        for (link, (node, _)) in links {
            self.network.cut(link.0);
            if self.nodes[node.0].link == Some(link) {
                let trip = self.network.trip();
                self.network.at(self.now.mono + trip, Event::NodeDown(link));
            }
        }
    }

    /// The relay starts, with what the store has.
    pub fn start_relay(&mut self) {
        let descriptor = self.verified();
        let seed = self.draw.bytes();
        self.life += 1;
        self.hub = Some(Hub::restore(
            descriptor,
            self.store.clone(),
            seed,
            self.now,
            self.setup.faults,
        ));
        self.network
            .at(self.now.mono + HUB_TICK, Event::HubTick(self.life));
        self.drain_hub();
    }

    /// An administrator brings a credential to the relay.
    pub fn enrol(&mut self, credential: Bytes) {
        self.hear(hub::Input::Credential { ask: 1, credential });
    }

    /// The relay reads the agency's page again.
    pub fn publish(&mut self) {
        let page = Box::new(self.verified());
        self.hear(hub::Input::Descriptor(page));
    }

    /// From now on the agency's web server answers nobody, or again everybody.
    pub fn web_server(&mut self, answers: bool) {
        self.away = !answers;
    }

    /// What a node kept as proof.
    pub fn proofs(&self, id: NodeId) -> &[Proof] {
        &self.nodes[id.0].proofs
    }

    /// A node's clock is so many microseconds ahead from its next start on.
    pub fn skew(&mut self, id: NodeId, skew: i64) {
        self.nodes[id.0].skew = skew;
    }

    /// The credential that a node keeps beside its key.
    pub fn kept(&self, id: NodeId) -> Option<&Bytes> {
        self.nodes[id.0].kept.as_ref()
    }

    /// The agency's page, verified.
    pub fn verified(&self) -> Verified<Descriptor> {
        let signed: Signed<Descriptor> = self.agency.descriptor();
        chain::descriptor(&signed, &self.agency.id(), self.now.utc, None)
            .unwrap_or_else(|fault| unreachable!("{fault}"))
    }

    /// From now on somebody ends every new connection in the middle and opens another one: both
    /// ends stand, and hold different exporters.
    pub fn sit_in_the_middle(&mut self) {
        self.middle = true;
    }

    /// A person asks something of a node.
    pub fn ask(&mut self, id: NodeId, intent: Intent) {
        self.tell(id, Input::Intent(intent));
    }

    /// From now on a node's microphone and camera give this.
    pub fn devices(&mut self, id: NodeId, capture: Media) {
        self.tell(id, Input::Capture(capture));
    }

    /// All that the person saw.
    pub fn views(&self, id: NodeId) -> &[View] {
        &self.nodes[id.0].views
    }

    /// What the person saw last of a kind.
    pub fn last<T>(&self, id: NodeId, of: impl Fn(&View) -> Option<T>) -> Option<T> {
        self.views(id).iter().rev().find_map(of)
    }

    /// The position last shown.
    pub fn position(&self, id: NodeId) -> Option<u32> {
        self.last(id, |view| match view {
            View::Queue { position } => Some(*position),
            _ => None,
        })
    }

    /// Where the consultation stands.
    pub fn stage(&self, id: NodeId) -> Stage {
        let stage = self.last(id, |view| match view {
            View::Session { stage, .. } => Some(*stage),
            _ => None,
        });
        stage.unwrap_or(Stage::Idle)
    }

    /// Whether the person was ever shown the other end as proven.
    pub fn saw_someone(&self, id: NodeId) -> bool {
        self.views(id)
            .iter()
            .any(|view| matches!(view, View::Session { peer: Some(_), .. }))
    }

    /// The fault last shown.
    pub fn fault(&self, id: NodeId) -> Option<Code> {
        self.last(id, |view| match view {
            View::Fault { code, .. } => Some(*code),
            _ => None,
        })
    }

    /// What the other end said last that it sends: sound, picture.
    pub fn peer_media(&self, id: NodeId) -> Option<(bool, bool)> {
        self.last(id, |view| match view {
            View::PeerMedia { audio, video } => Some((*audio, *video)),
            _ => None,
        })
    }

    /// Chat lines seen, with who wrote them.
    pub fn chat(&self, id: NodeId) -> Vec<(&'static str, String)> {
        let chat = |view: &View| match view {
            View::Chat { from, text } => Some((*from, text.clone())),
            _ => None,
        };
        self.views(id).iter().filter_map(chat).collect()
    }

    /// The reports written so far.
    pub fn reports(&self, id: NodeId) -> &[Report] {
        &self.nodes[id.0].reports
    }

    /// The exit status, once the program ended.
    pub fn finished(&self, id: NodeId) -> Option<u8> {
        self.nodes[id.0].finished
    }

    /// Whether the gate for sound and picture is open.
    pub fn gate_open(&self, id: NodeId) -> bool {
        !self.nodes[id.0].open.is_empty()
    }

    /// Whether the link to the relay stands.
    pub fn linked(&self, id: NodeId) -> bool {
        self.nodes[id.0].link.is_some()
    }

    /// The node's key at the relay.
    pub fn peer(&self, id: NodeId) -> PeerId {
        self.key(id).peer_id()
    }

    /// The key that a node signs with, for whoever stole it.
    pub fn key(&self, id: NodeId) -> Key {
        let seed = Seed::from_bytes(self.nodes[id.0].seed);
        match self.nodes[id.0].role {
            Role::Citizen { .. } => seed.citizen_key(&self.agency.id()),
            Role::Officer { .. } => seed.node_key(),
        }
    }

    /// Who waits at the desk, in the relay's order.
    pub fn waiting(&self) -> Vec<PeerId> {
        let at: DeskId = desk(DESK);
        self.hub
            .as_ref()
            .map_or_else(Vec::new, |hub| hub.waiting(&at))
    }

    /// The verified page of a node, if it has one.
    pub fn descriptor_of(&self, id: NodeId) -> bool {
        let engine = self.nodes[id.0].engine.as_ref();
        engine.is_some_and(|engine| engine.descriptor().is_some())
    }
}
