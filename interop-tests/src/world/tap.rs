//! The hostile network: whoever holds the [`Tap`] sees every whole message and says what goes
//! on instead of it.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use suora_protocol::wire::guest::{FromHost, ToHost};
use suora_protocol::wire::{self, Framer, citizen, officer};

use super::{NodeId, World};

/// A whole message on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// The agency's page, to a node.
    Descriptor(Bytes),
    /// From a citizen to the relay.
    Desk(citizen::ToRelay),
    /// From the relay to a citizen.
    ToCitizen(citizen::FromRelay),
    /// From an officer to the relay.
    Attend(officer::ToRelay),
    /// From the relay to an officer.
    ToOfficer(officer::FromRelay),
    /// From a guest, inside the session.
    ToHost(ToHost),
    /// From a host, inside the session.
    FromHost(FromHost),
}

impl Message {
    pub(super) fn encode(&self) -> Bytes {
        fn framed<M: Serialize>(message: &M) -> Bytes {
            wire::encode(message).unwrap_or_default()
        }
        match self {
            Self::Descriptor(bytes) => bytes.clone(),
            Self::Desk(message) => framed(message),
            Self::ToCitizen(message) => framed(message),
            Self::Attend(message) => framed(message),
            Self::ToOfficer(message) => framed(message),
            Self::ToHost(message) => framed(message),
            Self::FromHost(message) => framed(message),
        }
    }
}

/// Reads framed bytes back as the message that they are.
fn read<M: DeserializeOwned>(framed: &[u8], kind: fn(M) -> Message) -> Option<Message> {
    let mut framer = Framer::new();
    framer.push(framed);
    let body = framer.next_message().ok()??;
    wire::decode(&body).ok().map(kind)
}

/// Sees each message with the node that it comes from or goes to (from, inside a session);
/// what it returns goes on instead.
pub type Tap = Box<dyn FnMut(NodeId, Message) -> Vec<Message>>;

/// Which kind of message a wire carries.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Desk,
    ToCitizen,
    Attend,
    ToOfficer,
    ToHost,
    FromHost,
}

impl World {
    /// Puts somebody on all wires.
    pub fn tap(&mut self, tap: impl FnMut(NodeId, Message) -> Vec<Message> + 'static) {
        self.tap = Some(Box::new(tap));
    }

    /// Takes the tap away.
    pub fn untap(&mut self) {
        self.tap = None;
    }

    /// What goes on instead of a message, by the tap's will.
    pub(super) fn pass(&mut self, id: NodeId, kind: Kind, framed: Bytes) -> Vec<Bytes> {
        let Some(tap) = &mut self.tap else {
            return vec![framed];
        };
        let message = match kind {
            Kind::Desk => read(&framed, Message::Desk),
            Kind::ToCitizen => read(&framed, Message::ToCitizen),
            Kind::Attend => read(&framed, Message::Attend),
            Kind::ToOfficer => read(&framed, Message::ToOfficer),
            Kind::ToHost => read(&framed, Message::ToHost),
            Kind::FromHost => read(&framed, Message::FromHost),
        };
        match message {
            Some(message) => tap(id, message).iter().map(Message::encode).collect(),
            None => vec![framed],
        }
    }
}
