//! Media connections by their contract, and the control streams inside them.

use suora_node::engine::ports::{Dial, Expected, Input, SessionCommand, SessionEvent};
use suora_node::path;
use suora_node::report::{Path, Security};
use suora_protocol::documents::{SessionId, chain};
use suora_protocol::fault::{Code, Culprit, Fault};
use suora_protocol::identity::Hash;
use suora_protocol::wire::Framer;

use super::network::Lane;
use super::tap::Kind;
use super::{Event, HANDSHAKE, Node, NodeId, World};

/// One media connection, by its contract.
pub(super) struct Connection {
    dial: Dial,
    guest: (NodeId, SessionId),
    host: Option<(NodeId, Expected)>,
    pub(super) stood: bool,
    secret: Hash,
    framers: (Framer, Framer),
}

impl World {
    pub(super) fn dial(&mut self, id: NodeId, dial: Dial) {
        let node = &self.nodes[id.0];
        if let Some(networks) = &node.networks
            && let Err(fault) = path::dialled(
                &dial.addresses,
                &node.local.addresses,
                Ok(networks),
                (false, false),
            )
        {
            self.tell(
                id,
                Input::Session(dial.session, SessionEvent::Undialled(fault)),
            );
            return;
        }
        self.wires += 1;
        let wire = self.wires;
        let connection = Connection {
            guest: (id, dial.session),
            host: None,
            stood: false,
            secret: Hash::from_bytes(self.draw.bytes()),
            framers: (Framer::new(), Framer::new()),
            dial,
        };
        self.connections.insert(wire, connection);
        let lane = Lane { wire, back: false };
        self.network.send(self.now.mono, lane, Event::Initial(wire));
        self.network
            .at(self.now.mono + HANDSHAKE, Event::Unanswered(wire));
    }

    /// The first packet reaches whoever listens at one of its addresses and expects its dcid.
    pub(super) fn initial(&mut self, wire: u64) {
        let Some(connection) = self.connections.get_mut(&wire) else {
            return;
        };
        let dial = &connection.dial;
        let listens = |node: &Node| {
            let mut own = node.local.addresses.iter();
            node.engine.is_some() && own.any(|address| dial.addresses.contains(address))
        };
        let Some(at) = self.nodes.iter().position(listens) else {
            return;
        };
        let host = &mut self.nodes[at];
        let Some(expected) = host
            .expects
            .iter()
            .position(|expected| expected.dcid == dial.dcid)
        else {
            self.refusals.push((NodeId(at), Code::HandshakeFailed));
            return;
        };
        let expected = host.expects.remove(expected);
        let fault = (host.local.fingerprint != dial.fingerprint)
            .then(|| Fault::new(Code::WrongCertificate));
        connection.host = Some((NodeId(at), expected));
        let lane = Lane { wire, back: true };
        self.network
            .send(self.now.mono, lane, Event::Answered(wire, fault));
    }

    /// The host's answer reaches the guest: the handshake stands, and hello may go.
    pub(super) fn answered(&mut self, wire: u64, fault: Option<Fault>) {
        if let Some(fault) = fault {
            if let Some(connection) = self.connections.get(&wire) {
                self.refusals.push((connection.guest.0, fault.code));
            }
            self.close_wire(wire, fault);
            return;
        }
        let Some(connection) = self.connections.get_mut(&wire) else {
            return;
        };
        connection.stood = true;
        let (id, session) = connection.guest;
        let connected = connection.connected(&connection.dial.invite, connection.secret);
        let lane = Lane { wire, back: false };
        self.network.send(self.now.mono, lane, Event::Stood(wire));
        self.tell(id, Input::Session(session, connected));
    }

    pub(super) fn stood(&mut self, wire: u64) {
        let middle = self.middle;
        let Some(connection) = self.connections.get(&wire) else {
            return;
        };
        let secret = if middle {
            Hash::of(connection.secret.as_bytes())
        } else {
            connection.secret
        };
        if let Some((id, expected)) = &connection.host {
            let connected = connection.connected(&expected.invite, secret);
            let (id, session) = (*id, expected.session);
            self.tell(id, Input::Session(session, connected));
        }
    }

    pub(super) fn session_command(
        &mut self,
        id: NodeId,
        session: SessionId,
        command: SessionCommand,
    ) {
        match command {
            SessionCommand::Send(bytes) => {
                let Some((wire, to_host)) = self.wire_of(id, session) else {
                    return;
                };
                let kind = if to_host {
                    Kind::ToHost
                } else {
                    Kind::FromHost
                };
                let lane = Lane {
                    wire,
                    back: !to_host,
                };
                for bytes in self.pass(id, kind, bytes) {
                    let control = Event::Control {
                        wire,
                        to_host,
                        bytes,
                    };
                    self.network.send(self.now.mono, lane, control);
                }
            }
            SessionCommand::Open => {
                self.nodes[id.0].open.insert(session);
            }
            SessionCommand::Close(fault) => {
                self.refuses(id, fault.code);
                self.close(id, session, fault);
            }
            _ => {}
        }
    }

    /// A node says a code: it is a refusal if it blames the other end or a document.
    pub(super) fn refuses(&mut self, id: NodeId, code: Code) {
        if code.is_refusal() || code.culprit() == Culprit::Peer {
            self.refusals.push((id, code));
        }
    }

    /// The wire of an end's session, and whether the end is the guest.
    fn wire_of(&self, id: NodeId, session: SessionId) -> Option<(u64, bool)> {
        self.connections.iter().find_map(|(wire, connection)| {
            if connection.guest == (id, session) {
                return Some((*wire, true));
            }
            let (host, expected) = connection.host.as_ref()?;
            (*host == id && expected.session == session).then_some((*wire, false))
        })
    }

    /// An end closes: itself at once, the other end once what was sent before is there.
    fn close(&mut self, id: NodeId, session: SessionId, fault: Fault) {
        if let Some((wire, guest)) = self.wire_of(id, session)
            && let Some(connection) = self.connections.get(&wire)
            && let Some((other, other_session)) = connection.ends().find(|(end, _)| *end != id)
        {
            // only the code crosses the wire
            let closed = Event::Closed(other, other_session, Fault::new(fault.code));
            let lane = Lane { wire, back: !guest };
            self.network.send(self.now.mono, lane, closed);
        }
        self.network
            .at(self.now.mono, Event::Closed(id, session, fault));
    }

    pub(super) fn close_wire(&mut self, wire: u64, fault: Fault) {
        if let Some(connection) = self.connections.remove(&wire) {
            for (id, session) in connection.ends() {
                let closed = Event::Closed(id, session, fault.clone());
                self.network.at(self.now.mono, closed);
            }
        }
    }

    /// The session of these two falls silent.
    pub fn break_session(&mut self, id: NodeId) {
        for wire in self.connections_of(id) {
            self.network.cut(wire);
            self.close_wire(wire, Fault::new(Code::PeerSilent));
        }
    }

    pub(super) fn session_hears(&mut self, wire: u64, to_host: bool, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&wire) else {
            return;
        };
        let end = if to_host {
            connection
                .host
                .as_ref()
                .map(|(id, expected)| (*id, expected.session))
        } else {
            Some(connection.guest)
        };
        let framer = if to_host {
            &mut connection.framers.0
        } else {
            &mut connection.framers.1
        };
        framer.push(bytes);
        let mut bodies = Vec::new();
        while let Ok(Some(body)) = framer.next_message() {
            bodies.push(body);
        }
        let Some((id, session)) = end else {
            return;
        };
        for body in bodies {
            let at = self.time_of(id).utc;
            let control = SessionEvent::Control { body, at };
            self.tell(id, Input::Session(session, control));
        }
    }
}

impl Connection {
    pub(super) fn ends(&self) -> impl Iterator<Item = (NodeId, SessionId)> + '_ {
        let host = self
            .host
            .as_ref()
            .map(|(id, expected)| (*id, expected.session));
        std::iter::once(self.guest).chain(host)
    }

    /// What an end learns when the handshake stands. The exporter's context is the invite's hash.
    fn connected(&self, context: &Hash, secret: Hash) -> SessionEvent {
        let binding = [secret.as_bytes().as_slice(), context.as_bytes()].concat();
        SessionEvent::Connected {
            binding: Hash::of(&binding),
            alpn: chain::ALPN.into(),
            security: Security {
                tls: "1.3",
                key_exchange: "X25519MLKEM768".into(),
                fingerprint: self.dial.fingerprint.to_hex(),
            },
            path: Path {
                kind: "direct",
                transport: "udp",
                local: None,
                remote: None,
                relay: None,
                rtt_ms: None,
            },
        }
    }
}
