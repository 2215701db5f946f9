//! An invite: the host's node says "come into this session"
//! (`spec/setup.md`, section 2). It may be public; nothing in it is a secret.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::credential::Role;
use super::desk::{AddressPolicy, DeskId};
use super::{Document, lasts, secs, short};
use crate::identity::{AgencyId, Hash, PeerId, bytes_name, open_name};
use crate::limits;
use crate::time::Timestamp;

bytes_name!(
    /// A ticket of the hub.
    TicketId, 16
);
open_name!(TicketId);
bytes_name!(
    /// A consultation: one id through all its sessions.
    ConsultationId, 16
);
open_name!(ConsultationId);
bytes_name!(
    /// A session of host and guest; kept over reconnects.
    SessionId, 16
);
open_name!(SessionId);
bytes_name!(
    /// What the guest drew and the host echoes, so that freshness needs no clock.
    Challenge, 16
);
open_name!(Challenge);
bytes_name!(
    /// New in each invite.
    Nonce, 32
);
open_name!(Nonce);
bytes_name!(
    /// The destination connection id of the guest's first packet.
    Dcid, 20
);
open_name!(Dcid);

/// Which descriptor an end holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DescriptorRef {
    /// Its sequence.
    pub sequence: u64,
    /// The hash of its bytes.
    pub hash: Hash,
}

/// Come into this session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Invite {
    /// The agency for which the host acts.
    pub agency: AgencyId,
    /// The desk.
    pub desk: DeskId,
    /// The guest's ticket.
    pub ticket: TicketId,
    /// The consultation.
    pub consultation: ConsultationId,
    /// The session.
    pub session: SessionId,
    /// New in each invite.
    pub nonce: Nonce,
    /// The guest's peer id.
    pub guest: PeerId,
    /// The challenge of the guest's join, echoed.
    pub challenge: Challenge,
    /// The role in which the guest is invited.
    pub role: Role,
    /// SHA-256 of the host's TLS certificate.
    pub fingerprint: Hash,
    /// The connection id by which the host knows the guest's first packet.
    pub dcid: Dcid,
    /// ALPNs that the host takes.
    pub versions: Vec<String>,
    /// Where the host listens: `ip:port`, 8 at most.
    pub addresses: Vec<String>,
    /// The desk's address policy, repeated.
    pub address_policy: AddressPolicy,
    /// The desk's demand for the hybrid group, repeated.
    pub require_pq: bool,
    /// The descriptor that the host holds.
    pub descriptor: DescriptorRef,
    /// The hash of the last invite of this session, on reconnect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Hash>,
    /// The host's credential, signed.
    #[serde(with = "serde_bytes")]
    pub credential: Vec<u8>,
    /// When it was signed.
    #[serde(with = "secs")]
    pub issued_at: Timestamp,
    /// Until when it may be taken.
    #[serde(with = "secs")]
    pub not_after: Timestamp,
}

impl Document for Invite {
    const KIND: &'static str = "invite";
    const KEYS: &'static [&'static str] = &[
        "agency",
        "desk",
        "ticket",
        "consultation",
        "session",
        "nonce",
        "guest",
        "challenge",
        "role",
        "fingerprint",
        "dcid",
        "versions",
        "addresses",
        "address_policy",
        "require_pq",
        "descriptor",
        "previous",
        "credential",
        "issued_at",
        "not_after",
        "critical",
    ];

    fn check(&self) -> Result<(), &'static str> {
        if self.addresses.len() > limits::ADDRESSES_MAX {
            return Err("more than 8 addresses");
        }
        if !self.addresses.iter().all(|text| dialable(text)) {
            return Err("an address that is not ip:port");
        }
        if self.versions.len() > limits::ITEMS_MAX || !short(&self.versions) {
            return Err("a list over its bound");
        }
        lasts(self.issued_at, self.not_after, limits::INVITE_VALID)
    }
}

fn dialable(text: &str) -> bool {
    text.parse::<SocketAddr>()
        .is_ok_and(|address| address.port() != 0)
}
