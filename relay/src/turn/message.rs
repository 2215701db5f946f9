//! STUN and TURN messages (RFC 8489, 8656) over the codec: what is read of a request, and how an answer is
//! made.

use std::net::{IpAddr, SocketAddr};

use stun_types::attribute::{
    AttributeType, ErrorCode, Nonce, PasswordAlgorithmValue, PasswordAlgorithms, RawAttribute,
    Realm, UnknownAttributes, XorMappedAddress, XorSocketAddr,
};
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, Message, MessageClass, MessageHeader, MessageType,
    MessageWriteVec, Method, TransactionId,
};
use stun_types::prelude::*;

/// Binding (RFC 8489).
pub const BINDING: u16 = 0x001;
/// Allocate.
pub const ALLOCATE: u16 = 0x003;
/// Refresh.
pub const REFRESH: u16 = 0x004;
/// CreatePermission.
pub const CREATE_PERMISSION: u16 = 0x008;
/// ChannelBind.
pub const CHANNEL_BIND: u16 = 0x009;

/// Numbers of attributes.
pub const USERNAME: u16 = 0x0006;
/// Integrity by SHA-1.
pub const INTEGRITY: u16 = 0x0008;
/// The channel of a ChannelBind.
pub const CHANNEL_NUMBER: u16 = 0x000c;
/// Seconds.
pub const LIFETIME: u16 = 0x000d;
/// A peer.
pub const XOR_PEER_ADDRESS: u16 = 0x0012;
/// What is relayed by an indication.
pub const DATA: u16 = 0x0013;
/// The realm.
pub const REALM: u16 = 0x0014;
/// The nonce.
pub const NONCE: u16 = 0x0015;
/// Where an allocation is reached.
pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
/// IPv4 or IPv6.
pub const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
/// A port that is even, and perhaps the next one kept.
pub const EVEN_PORT: u16 = 0x0018;
/// A protocol to peers.
pub const REQUESTED_TRANSPORT: u16 = 0x0019;
/// Not known here.
pub const DONT_FRAGMENT: u16 = 0x001a;
/// Integrity by SHA-256.
pub const INTEGRITY_SHA256: u16 = 0x001c;
/// The chosen password algorithm.
pub const PASSWORD_ALGORITHM: u16 = 0x001d;
/// A port that was kept.
pub const RESERVATION_TOKEN: u16 = 0x0022;
/// All password algorithms that a server knows.
pub const PASSWORD_ALGORITHMS: u16 = 0x8002;

/// Attributes of ICE that a Binding may hold (RFC 8445, section 16.1); nothing here looks at them.
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;

/// Attributes below this must be known.
const OPTIONAL: u16 = 0x8000;

/// The number of an attribute.
pub fn kind(attribute: &RawAttribute<'_>) -> u16 {
    attribute.get_type().value()
}

/// Whether a request with this attribute is refused where it is not known, and it is not.
pub fn must_be_known(kind: u16) -> bool {
    const KNOWN: &[u16] = &[
        0x0001, // MAPPED-ADDRESS
        USERNAME,
        INTEGRITY,
        0x0009, // ERROR-CODE
        0x000a, // UNKNOWN-ATTRIBUTES
        CHANNEL_NUMBER,
        LIFETIME,
        XOR_PEER_ADDRESS,
        DATA,
        REALM,
        NONCE,
        XOR_RELAYED_ADDRESS,
        REQUESTED_ADDRESS_FAMILY,
        EVEN_PORT,
        REQUESTED_TRANSPORT,
        INTEGRITY_SHA256,
        PASSWORD_ALGORITHM,
        0x0020, // XOR-MAPPED-ADDRESS
        RESERVATION_TOKEN,
        PRIORITY,
        USE_CANDIDATE,
    ];
    kind < OPTIONAL && !KNOWN.contains(&kind)
}

/// Reads a message that fills its packet. A fingerprint that is there stands.
pub fn read(packet: &[u8]) -> Option<Message<'_>> {
    let [_, _, high, low, ..] = packet else {
        return None;
    };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    if packet.len() != MessageHeader::LENGTH + len || !len.is_multiple_of(4) {
        return None;
    }
    Message::from_bytes(packet).ok()
}

/// The value of a message's first attribute of a kind.
pub fn value<const N: usize>(message: &Message<'_>, kind: u16) -> Option<[u8; N]> {
    let attribute = message.raw_attribute(AttributeType::new(kind))?;
    <[u8; N]>::try_from(&*attribute.value).ok()
}

/// Whether it is there.
pub fn has(message: &Message<'_>, kind: u16) -> bool {
    message.has_attribute(AttributeType::new(kind))
}

/// All peers of a message; `None`: one cannot be read.
pub fn peers(message: &Message<'_>) -> Option<Vec<SocketAddr>> {
    let attributes = message.iter_attributes();
    let peers = attributes.filter(|(_, attribute)| kind(attribute) == XOR_PEER_ADDRESS);
    let read = |(_, attribute)| {
        Some(
            XorSocketAddr::from_raw(&attribute)
                .ok()?
                .addr(message.transaction_id()),
        )
    };
    peers.map(read).collect()
}

/// A Data indication up to its data, and how long that part is.
pub fn data_indication(peer: SocketAddr, len: usize, transaction: u128) -> Option<([u8; 48], u8)> {
    let address_len = if peer.is_ipv4() { 8_u16 } else { 20 };
    let len = u16::try_from(len).ok()?;
    let body = (4 + address_len + 4).checked_add(len.checked_next_multiple_of(4)?)?;
    let mut head = [0; 48];
    let mut at = head.iter_mut();
    let mut put = |bytes: &[u8]| {
        bytes
            .iter()
            .zip(at.by_ref())
            .for_each(|(from, to)| *to = *from)
    };
    put(&0x0017_u16.to_be_bytes());
    put(&body.to_be_bytes());
    put(&stun_types::message::MAGIC_COOKIE.to_be_bytes());
    let id = transaction.to_be_bytes();
    put(id.get(4..)?);
    put(&XOR_PEER_ADDRESS.to_be_bytes());
    put(&address_len.to_be_bytes());
    let xored = XorSocketAddr::xor_addr(peer, TransactionId::from(transaction & MASK));
    put(&[0, if peer.is_ipv4() { 1 } else { 2 }]);
    put(&xored.port().to_be_bytes());
    match xored.ip() {
        IpAddr::V4(ip) => put(&ip.octets()),
        IpAddr::V6(ip) => put(&ip.octets()),
    }
    put(&DATA.to_be_bytes());
    put(&len.to_be_bytes());
    Some((head, u8::try_from(24 + address_len + 4).ok()?))
}

/// A transaction's 96 bits.
pub const MASK: u128 = (1 << 96) - 1;

/// How an answer proves where it comes from.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The user's key.
    pub key: IntegrityKey,
    /// By which hash.
    pub algorithm: IntegrityAlgorithm,
}

/// An answer that is being made.
#[derive(Debug)]
pub struct Answer(MessageWriteVec);

impl Answer {
    /// To a transaction of a method.
    pub fn new(class: MessageClass, method: u16, transaction: u128) -> Self {
        let kind = MessageType::from_class_method(class, Method::new(method));
        let id = TransactionId::from(transaction & MASK);
        Self(Message::builder(
            kind,
            id,
            MessageWriteVec::with_capacity(128),
        ))
    }

    /// With an attribute. The writer refuses none of those here.
    fn with(mut self, attribute: &dyn AttributeWrite) -> Self {
        let _ = self.0.add_attribute(attribute);
        self
    }

    /// With bytes of an attribute.
    pub fn with_raw(self, kind: u16, bytes: &[u8]) -> Self {
        self.with(&RawAttribute::new(AttributeType::new(kind), bytes))
    }

    /// With the address that the request came from.
    pub fn with_mapped(self, address: SocketAddr) -> Self {
        let id = self.0.transaction_id();
        self.with(&XorMappedAddress::new(address, id))
    }

    /// With an address under the transaction's mask.
    pub fn with_address(self, kind: u16, address: SocketAddr) -> Self {
        let id = self.0.transaction_id();
        let xored = XorSocketAddr::new(address, id);
        self.with(&xored.to_raw(AttributeType::new(kind)))
    }

    /// With an error; no phrase, since strangers are answered briefly.
    pub fn with_error(self, code: u16) -> Self {
        match ErrorCode::new(code, "") {
            Ok(error) => self.with(&error),
            Err(_) => self,
        }
    }

    /// With what was not known.
    pub fn with_unknown(self, kinds: &[u16]) -> Self {
        let kinds: Vec<AttributeType> =
            kinds.iter().map(|kind| AttributeType::new(*kind)).collect();
        self.with(&UnknownAttributes::new(&kinds))
    }

    /// With what the next request needs.
    pub fn with_challenge(self, realm: &str, nonce: &str) -> Self {
        let answer = match (Realm::new(realm), Nonce::new(nonce)) {
            (Ok(realm), Ok(nonce)) => self.with(&realm).with(&nonce),
            _ => self,
        };
        let both = [PasswordAlgorithmValue::SHA256, PasswordAlgorithmValue::MD5];
        answer.with(&PasswordAlgorithms::new(&both))
    }

    /// The bytes.
    pub fn finish(mut self, proof: Option<&Proof>, fingerprint: bool) -> Vec<u8> {
        if let Some(proof) = proof {
            let _ = self
                .0
                .add_message_integrity_with_key(&proof.key, proof.algorithm);
        }
        if fingerprint {
            let _ = self.0.add_fingerprint();
        }
        self.0.finish()
    }
}
