//! Between an officer's node and the relay, on `/suora/attend/1` (`spec/desk.md`, section 4).

use serde::{Deserialize, Serialize};

use crate::documents::{Challenge, DeskId, TicketId};
use crate::fault::Code;
use crate::identity::PeerId;
use crate::wire::grant::Grant;

/// The libp2p protocol of an officer's attend stream.
pub const PROTOCOL: &str = "/suora/attend/1";

/// An officer's status.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Takes offers.
    Available,
    /// Does something else.
    Busy,
    /// Rests.
    Break,
    /// Writes up the last consultation.
    WrapUp,
}

/// From the officer's node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToRelay {
    /// I attend this desk.
    Attend {
        /// Which desk.
        desk: DeskId,
        /// My credential, signed.
        #[serde(with = "serde_bytes")]
        credential: Vec<u8>,
        /// My status.
        status: Status,
        /// The ticket of the consultation that I am in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        engaged: Option<TicketId>,
    },
    /// My status changed.
    Status {
        /// To this.
        status: Status,
    },
    /// The invite for an offer, to be passed on as it is.
    Invite {
        /// The offer's ticket.
        ticket: TicketId,
        /// The offer's attempt.
        attempt: u32,
        /// The signed document.
        #[serde(with = "serde_bytes")]
        invite: Vec<u8>,
    },
    /// I took the offer.
    Accepted {
        /// The offer's ticket.
        ticket: TicketId,
        /// The offer's attempt.
        attempt: u32,
    },
    /// I do not take the offer.
    Declined {
        /// The offer's ticket.
        ticket: TicketId,
        /// The offer's attempt.
        attempt: u32,
        /// Why.
        code: Code,
    },
    /// The consultation of this ticket has ended.
    Done {
        /// Its ticket.
        ticket: TicketId,
        /// How.
        code: Code,
    },
    /// Are you there?
    Ping {
        /// To be echoed.
        n: u64,
    },
    /// A type that this version does not know.
    #[serde(other)]
    Unknown,
}

/// From the relay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromRelay {
    /// You attend.
    Attending {
        /// This desk.
        desk: DeskId,
        /// So many people wait.
        waiting: u32,
    },
    /// A newer credential than the one that you showed: keep it and show it from now on.
    Credential {
        /// The signed document.
        #[serde(with = "serde_bytes")]
        credential: Vec<u8>,
    },
    /// The number of people who wait changed.
    Waiting {
        /// At this desk.
        desk: DeskId,
        /// To this.
        waiting: u32,
    },
    /// Somebody waits for you: send an invite, then ask your officer.
    Offer {
        /// The ticket.
        ticket: TicketId,
        /// Numbered from 1.
        attempt: u32,
        /// The desk.
        desk: DeskId,
        /// The guest's peer id.
        guest: PeerId,
        /// To be echoed in the invite.
        challenge: Challenge,
        /// How long the guest has waited, in ms.
        waited_ms: u64,
        /// How long the offer stands, in ms.
        expires_in_ms: u64,
    },
    /// Here the guest's media socket is reached from now on: let it in.
    Addresses {
        /// The ticket.
        ticket: TicketId,
        /// The attempt.
        attempt: u32,
        /// As its node told: `ip:port`, [`ADDRESSES_MAX`](crate::limits::ADDRESSES_MAX) at most.
        addresses: Vec<String>,
    },
    /// With this your node may use the relay's TURN for your next consultation, or, while you are in
    /// one, for this.
    Grant {
        /// The grant.
        grant: Grant,
    },
    /// The offer, or the consultation's ticket, has ended.
    Withdrawn {
        /// The ticket.
        ticket: TicketId,
        /// The attempt.
        attempt: u32,
        /// Why.
        code: Code,
    },
    /// Your last request is refused.
    Refused {
        /// Why.
        code: Code,
        /// For the one who mends it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// I am here.
    Pong {
        /// As in the ping.
        n: u64,
    },
    /// A type that this version does not know.
    #[serde(other)]
    Unknown,
}
