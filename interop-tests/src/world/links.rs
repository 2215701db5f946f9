//! The control links between nodes and the relay, and what engines and hub ask of their doors.

use bytes::Bytes;
use suora_node::engine::Role;
use suora_node::engine::ports::{Input, LinkCommand, LinkEvent, Output};
use suora_protocol::wire::{self, Framer, citizen, officer};
use suora_relay::hub::{self, LinkId};

use super::network::Lane;
use super::tap::{Kind, Message};
use super::{Event, NodeId, REDIAL, STORE, WORK, World};

impl World {
    pub(super) fn tell(&mut self, id: NodeId, input: Input) {
        let now = self.time_of(id);
        if let Some(engine) = &mut self.nodes[id.0].engine {
            engine.handle_input(now, input);
            self.drain(id);
        }
    }

    pub(super) fn drain(&mut self, id: NodeId) {
        loop {
            let Some(engine) = &mut self.nodes[id.0].engine else {
                return;
            };
            match engine.poll_output() {
                Output::Wait(..) => return,
                Output::Fetch => self.fetch(id),
                Output::Link(command) => self.link_command(id, command),
                Output::Work(puzzle) => {
                    let worked = puzzle.solve();
                    self.works += 1;
                    self.network
                        .at(self.now.mono + WORK, Event::Worked(id, worked));
                }
                Output::Expect(expected) => self.nodes[id.0].expects.push(expected),
                Output::Dial(dial) => self.dial(id, dial),
                Output::Forget(session) => {
                    let node = &mut self.nodes[id.0];
                    node.expects.retain(|expected| expected.session != session);
                }
                Output::Session(session, command) => self.session_command(id, session, command),
                // paths have a network of their own: the node's tests of them
                Output::Path(..) | Output::Servers(_) | Output::Grant(_) | Output::Permit(..) => {}
                Output::View(view) => self.nodes[id.0].views.push(view),
                Output::Remember(recalled) => self.nodes[id.0].recalled = Some(recalled),
                Output::Prove(proof) => self.nodes[id.0].proofs.push(proof),
                Output::Keep(credential) => self.nodes[id.0].kept = Some(credential),
                Output::Report(report) => self.nodes[id.0].reports.push(*report),
                Output::Finished(status) => self.nodes[id.0].finished = Some(status),
            }
        }
    }

    fn fetch(&mut self, id: NodeId) {
        self.fetches += 1;
        let trip = self.network.trip() + self.network.trip();
        if self.away {
            let fetched = Event::Fetched(id, None);
            self.network.at(self.now.mono + trip, fetched);
            return;
        }
        let page = self.agency.descriptor().bytes().clone();
        let passed = match &mut self.tap {
            Some(tap) => tap(id, Message::Descriptor(page)),
            None => vec![Message::Descriptor(page)],
        };
        for message in passed {
            let fetched = Event::Fetched(id, Some(message.encode()));
            self.network.at(self.now.mono + trip, fetched);
        }
    }

    fn link_command(&mut self, id: NodeId, command: LinkCommand) {
        match command {
            LinkCommand::Open { key, officer, .. } => {
                self.nodes[id.0].account = Some((key, officer));
                self.dial_relay(id);
            }
            LinkCommand::Citizen(message) => {
                if let citizen::ToRelay::Refused { code, .. } = &message {
                    self.refuses(id, *code);
                }
                self.say_to_relay(id, Kind::Desk, Message::Desk(message).encode());
            }
            LinkCommand::Officer(message) => {
                if let officer::ToRelay::Declined { code, .. } = &message {
                    self.refuses(id, *code);
                }
                self.say_to_relay(id, Kind::Attend, Message::Attend(message).encode());
            }
            LinkCommand::Close => self.leave_link(id),
        }
    }

    pub(super) fn leave_link(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.0];
        node.account = None;
        if let Some(link) = node.link.take() {
            let lane = Lane {
                wire: link.0,
                back: false,
            };
            self.network
                .send(self.now.mono, lane, Event::RelayDown(link));
        }
    }

    pub(super) fn dial_relay(&mut self, id: NodeId) {
        let node = &self.nodes[id.0];
        if node.link.is_some() || node.account.is_none() {
            return;
        }
        if self.hub.is_none() || node.held {
            self.network.at(self.now.mono + REDIAL, Event::Dial(id));
            return;
        }
        self.wires += 1;
        let link = LinkId(self.wires);
        let node = &mut self.nodes[id.0];
        node.link = Some(link);
        node.framer = Framer::new();
        self.links.insert(link, (id, Framer::new()));
        let wire = link.0;
        let there = Lane { wire, back: false };
        self.network.send(self.now.mono, there, Event::Up(link));
        // the answer to the handshake
        let trip = self.network.trip();
        let back = Lane { wire, back: true };
        self.network
            .send(self.now.mono + trip, back, Event::NodeUp(link));
    }

    fn say_to_relay(&mut self, id: NodeId, kind: Kind, bytes: Bytes) {
        if let Some(link) = self.nodes[id.0].link {
            let lane = Lane {
                wire: link.0,
                back: false,
            };
            for bytes in self.pass(id, kind, bytes) {
                self.network
                    .send(self.now.mono, lane, Event::ToRelay(link, bytes));
            }
        }
    }

    pub(super) fn node_hears(&mut self, link: LinkId, bytes: &[u8]) {
        let Some(id) = self.owner(link) else {
            return;
        };
        self.nodes[id.0].framer.push(bytes);
        while let Ok(Some(body)) = self.nodes[id.0].framer.next_message() {
            let event = match self.nodes[id.0].role {
                Role::Citizen { .. } => wire::decode(&body).map(LinkEvent::Citizen),
                Role::Officer { .. } => wire::decode(&body).map(LinkEvent::Officer),
            };
            match event {
                Ok(event) => self.tell(id, Input::Link(event)),
                Err(fault) => unreachable!("the hub said what no node reads: {fault}"),
            }
        }
    }

    pub(super) fn relay_hears(&mut self, link: LinkId, bytes: &[u8]) {
        let Some((_, framer)) = self.links.get_mut(&link) else {
            return;
        };
        framer.push(bytes);
        while let Some((_, framer)) = self.links.get_mut(&link)
            && let Ok(Some(body)) = framer.next_message()
        {
            self.hear(hub::Input::Message { link, body });
        }
    }

    pub(super) fn hear(&mut self, input: hub::Input) {
        if let Some(hub) = &mut self.hub {
            if let Err(fault) = hub.handle_input(self.now, input) {
                self.refused.push(fault.code);
            }
            self.drain_hub();
        }
    }

    pub(super) fn drain_hub(&mut self) {
        while let Some(hub) = &mut self.hub {
            match hub.poll_output() {
                hub::Output::Wait(..) => return,
                hub::Output::Commit(commit, changes) => {
                    let committed = Event::Committed(self.life, commit, changes);
                    self.network.at(self.now.mono + STORE, committed);
                }
                hub::Output::Say(link, bytes) => {
                    let Some((id, _)) = self.links.get(&link) else {
                        continue;
                    };
                    let id = *id;
                    let kind = match self.nodes[id.0].role {
                        Role::Citizen { .. } => Kind::ToCitizen,
                        Role::Officer { .. } => Kind::ToOfficer,
                    };
                    let lane = Lane {
                        wire: link.0,
                        back: true,
                    };
                    for bytes in self.pass(id, kind, bytes) {
                        self.network
                            .send(self.now.mono, lane, Event::FromRelay(link, bytes));
                    }
                }
                hub::Output::Answer(_, answer) => self.enrolled.push(answer),
                hub::Output::Close(link) => {
                    let lane = Lane {
                        wire: link.0,
                        back: true,
                    };
                    self.network
                        .send(self.now.mono, lane, Event::NodeDown(link));
                    self.network.at(self.now.mono, Event::RelayDown(link));
                }
            }
        }
    }
}
