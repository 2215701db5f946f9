//! A connectivity check and its answer (RFC 8445 section 7), as bytes.

use std::net::SocketAddr;

use stun_types::attribute::{AttributeType, ErrorCode, RawAttribute, Username, XorMappedAddress};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, IntegrityKey, Message, MessageClass, MessageWrite as _,
    MessageWriteExt as _, MessageWriteVec, ShortTermCredentials, StunWriteError, TransactionId,
};

use crate::path::stun;

const PRIORITY: AttributeType = AttributeType::new(0x0024);
const USE_CANDIDATE: AttributeType = AttributeType::new(0x0025);
const ICE_CONTROLLED: AttributeType = AttributeType::new(0x8029);
const ICE_CONTROLLING: AttributeType = AttributeType::new(0x802a);

/// One end's name and password within the session.
#[derive(Clone, PartialEq, Eq)]
pub struct Creds {
    /// Names the end.
    pub ufrag: String,
    /// What requests to it and its answers are signed with.
    pub pwd: String,
    key: IntegrityKey,
}

impl std::fmt::Debug for Creds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Creds")
    }
}

impl Creds {
    /// Of an end.
    pub fn new(ufrag: String, pwd: String) -> Self {
        let key = ShortTermCredentials::new(pwd.clone()).make_key();
        Self { ufrag, pwd, key }
    }

    /// Whether the message is signed with this password, by the algorithm of RFC 8445.
    pub fn signed(&self, message: &Message<'_>) -> bool {
        let by = message.validate_integrity_with_key(&self.key);
        matches!(by, Ok(IntegrityAlgorithm::Sha1))
    }

    /// Whether a request is for this end.
    pub fn named(&self, request: &Message<'_>) -> bool {
        let name = request.attribute::<Username>();
        name.is_ok_and(|name| {
            let to = name.username().split_once(':').map(|(to, _)| to);
            to == Some(self.ufrag.as_str())
        })
    }
}

/// The two roles of RFC 8445, with the number that breaks a tie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Role {
    /// Whether this end names the pair that both use.
    pub controlling: bool,
    /// Random.
    pub tie: u64,
}

/// What a check says.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// The sender's role.
    pub role: Role,
    /// The priority of the candidate that the receiver would find by this check.
    pub priority: u32,
    /// The controlling end uses this pair.
    pub nominates: bool,
}

/// A check to an end from the one that `from` names.
pub fn request(check: Check, id: TransactionId, to: &Creds, from: &str) -> Option<Vec<u8>> {
    let mut message = stun::begin(MessageClass::Request, BINDING, id);
    let kind = if check.role.controlling {
        ICE_CONTROLLING
    } else {
        ICE_CONTROLLED
    };
    let write = |message: &mut MessageWriteVec| -> Result<(), StunWriteError> {
        message.add_attribute(&Username::new(&format!("{}:{from}", to.ufrag))?)?;
        message.add_attribute(&RawAttribute::new(PRIORITY, &check.priority.to_be_bytes()))?;
        message.add_attribute(&RawAttribute::new(kind, &check.role.tie.to_be_bytes()))?;
        if check.nominates {
            message.add_attribute(&RawAttribute::new(USE_CANDIDATE, &[]))?;
        }
        sign(message, to)
    };
    write(&mut message).ok()?;
    Some(message.finish())
}

/// What a signed request says.
pub fn read(request: &Message<'_>) -> Option<Check> {
    let number = |kind| -> Option<u64> {
        let raw = request.raw_attribute(kind)?;
        Some(u64::from_be_bytes(raw.value.as_ref().try_into().ok()?))
    };
    let role = match (number(ICE_CONTROLLING), number(ICE_CONTROLLED)) {
        (Some(tie), None) => Role {
            controlling: true,
            tie,
        },
        (None, Some(tie)) => Role {
            controlling: false,
            tie,
        },
        _ => return None,
    };
    let priority = request.raw_attribute(PRIORITY)?;
    Some(Check {
        role,
        priority: u32::from_be_bytes(priority.value.as_ref().try_into().ok()?),
        nominates: role.controlling && request.has_attribute(USE_CANDIDATE),
    })
}

/// The yes to a check: where it came from.
pub fn yes(request: &Message<'_>, from: SocketAddr, own: &Creds) -> Option<Vec<u8>> {
    let id = request.transaction_id();
    let mut message = stun::begin(MessageClass::Success, BINDING, id);
    let mapped = XorMappedAddress::new(from, id);
    message.add_attribute(&mapped).ok()?;
    sign(&mut message, own).ok()?;
    Some(message.finish())
}

/// Both ends have the same role, and the other one is to change: error 487.
pub fn conflict(request: &Message<'_>, own: &Creds) -> Option<Vec<u8>> {
    let mut message = stun::begin(MessageClass::Error, BINDING, request.transaction_id());
    let error = ErrorCode::new(487, "Role Conflict").ok()?;
    message.add_attribute(&error).ok()?;
    sign(&mut message, own).ok()?;
    Some(message.finish())
}

/// Whether an answer says that this end is to change its role.
pub fn is_conflict(answer: &Message<'_>) -> bool {
    answer.has_class(MessageClass::Error)
        && answer
            .attribute::<ErrorCode>()
            .is_ok_and(|error| error.code() == 487)
}

fn sign(message: &mut MessageWriteVec, creds: &Creds) -> Result<(), StunWriteError> {
    message.add_message_integrity_with_key(&creds.key, IntegrityAlgorithm::Sha1)?;
    message.add_fingerprint()
}
