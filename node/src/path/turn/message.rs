//! The messages of TURN (RFC 8656) as a client says and hears them.

use std::net::SocketAddr;

use stun_types::attribute::{
    AttributeType, ErrorCode, MessageIntegrity, Nonce, RawAttribute, Realm, Username, XorSocketAddr,
};
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, LongTermCredentials, Message, MessageClass,
    MessageWrite as _, MessageWriteExt as _, Method, StunWriteError, TransactionId,
};
use suora_protocol::fault::{Code, Fault};

use crate::path::stun;

/// The methods.
pub const ALLOCATE: Method = Method::new(0x003);
/// Also with the lifetime 0: the end.
pub const REFRESH: Method = Method::new(0x004);
/// A client's data for a peer.
pub const SEND: Method = Method::new(0x006);
/// A peer's data for the client.
pub const DATA: Method = Method::new(0x007);
/// Permissions only.
pub const CREATE_PERMISSION: Method = Method::new(0x008);
/// A channel, and the permission with it.
pub const CHANNEL_BIND: Method = Method::new(0x009);

const CHANNEL_NUMBER: AttributeType = AttributeType::new(0x000c);
const LIFETIME: AttributeType = AttributeType::new(0x000d);
const XOR_PEER_ADDRESS: AttributeType = AttributeType::new(0x0012);
const DATA_VALUE: AttributeType = AttributeType::new(0x0013);
const XOR_RELAYED_ADDRESS: AttributeType = AttributeType::new(0x0016);
const REQUESTED_ADDRESS_FAMILY: AttributeType = AttributeType::new(0x0017);
const REQUESTED_TRANSPORT: AttributeType = AttributeType::new(0x0019);

/// What a server has to be shown, and what it showed.
#[derive(Clone, Debug)]
pub struct Proof {
    user: String,
    password: String,
    realm: String,
    nonce: String,
    key: IntegrityKey,
}

impl Proof {
    /// Of a grant. A user, realm or nonce that STUN cannot carry is [`Code::Malformed`].
    pub fn new(user: &str, password: &str, realm: &str, nonce: &str) -> Result<Self, Fault> {
        let bad = |error: StunWriteError| {
            Fault::new(Code::Malformed).with(format!("a grant that no server takes: {error}"))
        };
        Username::new(user).map_err(bad)?;
        Realm::new(realm).map_err(bad)?;
        Nonce::new(nonce).map_err(bad)?;
        Ok(Self {
            key: key(user, password, realm),
            user: user.into(),
            password: password.into(),
            realm: realm.into(),
            nonce: nonce.into(),
        })
    }

    /// What a 401 or 438 says; `None`: nothing new, so asking again is of no use.
    pub fn corrected(&self, answer: &Message<'_>) -> Option<Self> {
        let nonce = answer.attribute::<Nonce>().ok()?.nonce().to_owned();
        let realm = answer
            .attribute::<Realm>()
            .map_or_else(|_| self.realm.clone(), |realm| realm.realm().to_owned());
        if (&nonce, &realm) == (&self.nonce, &self.realm) {
            return None;
        }
        Some(Self {
            key: key(&self.user, &self.password, &realm),
            realm,
            nonce,
            ..self.clone()
        })
    }

    /// Whether the server signed an answer with our key.
    pub fn signed(&self, answer: &Message<'_>) -> bool {
        answer.has_attribute(<MessageIntegrity as stun_types::attribute::AttributeStaticType>::TYPE)
            && answer.validate_integrity_with_key(&self.key).is_ok()
    }
}

fn key(user: &str, password: &str, realm: &str) -> IntegrityKey {
    let long = LongTermCredentials::new(user.into(), password.into());
    long.to_key(realm.into()).make_key(IntegrityAlgorithm::Sha1)
}

/// What a request asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// An allocation.
    Allocate {
        /// With a relayed address of IPv6 instead of IPv4.
        six: bool,
        /// Without a proof, so that the server says what it wants.
        bare: bool,
    },
    /// Another while of life.
    Refresh,
    /// The end.
    Delete,
    /// A permission for the peer's address, whatever its port.
    Permit(SocketAddr),
    /// A channel to the peer, with its permission.
    Bind(SocketAddr, u16),
}

impl Ask {
    /// Its method.
    pub const fn method(self) -> Method {
        match self {
            Self::Allocate { .. } => ALLOCATE,
            Self::Refresh | Self::Delete => REFRESH,
            Self::Permit(_) => CREATE_PERMISSION,
            Self::Bind(..) => CHANNEL_BIND,
        }
    }
}

/// A signed request.
pub fn request(ask: Ask, id: TransactionId, proof: &Proof) -> Result<Vec<u8>, StunWriteError> {
    let mut message = stun::begin(MessageClass::Request, ask.method(), id);
    let mut raw = |kind, value: &[u8]| message.add_attribute(&RawAttribute::new(kind, value));
    match ask {
        Ask::Allocate { six, .. } => {
            // 17 is UDP
            raw(REQUESTED_TRANSPORT, &[17, 0, 0, 0])?;
            if six {
                raw(REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0])?;
            }
        }
        Ask::Refresh => {}
        Ask::Delete => raw(LIFETIME, &[0; 4])?,
        Ask::Permit(peer) => {
            message.add_attribute(&XorSocketAddr::new(peer, id).to_raw(XOR_PEER_ADDRESS))?;
        }
        Ask::Bind(peer, channel) => {
            let [high, low] = channel.to_be_bytes();
            raw(CHANNEL_NUMBER, &[high, low, 0, 0])?;
            message.add_attribute(&XorSocketAddr::new(peer, id).to_raw(XOR_PEER_ADDRESS))?;
        }
    }
    if matches!(ask, Ask::Allocate { bare: true, .. }) {
        return Ok(message.finish());
    }
    message.add_attribute(&Username::new(&proof.user)?)?;
    message.add_attribute(&Realm::new(&proof.realm)?)?;
    message.add_attribute(&Nonce::new(&proof.nonce)?)?;
    message.add_message_integrity_with_key(&proof.key, IntegrityAlgorithm::Sha1)?;
    Ok(message.finish())
}

/// Data for a peer outside a channel.
pub fn send(peer: SocketAddr, data: &[u8], id: TransactionId) -> Result<Vec<u8>, StunWriteError> {
    let mut message = stun::begin(MessageClass::Indication, SEND, id);
    message.add_attribute(&XorSocketAddr::new(peer, id).to_raw(XOR_PEER_ADDRESS))?;
    message.add_attribute(&RawAttribute::new(DATA_VALUE, data))?;
    Ok(message.finish())
}

/// A peer's data outside a channel, and where in the message it lies.
pub fn data(message: &Message<'_>) -> Option<(SocketAddr, std::ops::Range<usize>)> {
    if !message.has_class(MessageClass::Indication) || !message.has_method(DATA) {
        return None;
    }
    let peer = address(message, XOR_PEER_ADDRESS)?;
    let (at, raw) = message.raw_attribute_and_offset(DATA_VALUE)?;
    Some((peer, at + 4..at + 4 + usize::from(raw.header.length())))
}

/// The relayed address of an answer.
pub fn relayed(answer: &Message<'_>) -> Option<SocketAddr> {
    address(answer, XOR_RELAYED_ADDRESS)
}

/// Seconds of life that an answer grants.
pub fn lifetime(answer: &Message<'_>) -> Option<u32> {
    let raw = answer.raw_attribute(LIFETIME)?;
    Some(u32::from_be_bytes(raw.value.as_ref().try_into().ok()?))
}

/// The number of an error.
pub fn error(answer: &Message<'_>) -> u16 {
    let code = answer.attribute::<ErrorCode>();
    code.map_or(500, |code| code.code())
}

fn address(message: &Message<'_>, kind: AttributeType) -> Option<SocketAddr> {
    let raw = message.raw_attribute(kind)?;
    let address = XorSocketAddr::from_raw(&raw).ok()?;
    Some(address.addr(message.transaction_id()))
}
