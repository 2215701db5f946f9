//! Between a citizen's node and the relay, on `/suora/desk/1` (`spec/desk.md`, section 3).

use serde::{Deserialize, Serialize};

use crate::documents::{Challenge, DeskId, TicketId};
use crate::fault::Code;
use crate::wire::grant::Grant;
use crate::wire::work::{Slot, Work};

/// The libp2p protocol of a citizen's desk stream.
pub const PROTOCOL: &str = "/suora/desk/1";

/// From the citizen's node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToRelay {
    /// I ask to be served; with a ticket, I am back.
    Join {
        /// At which desk.
        desk: DeskId,
        /// To be echoed in the invite.
        challenge: Challenge,
        /// The ticket that I hold.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ticket: Option<TicketId>,
        /// The work that the relay asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        work: Option<Work>,
    },
    /// Here my media socket is reached from now on, as far as I know: `ip:port`,
    /// [`ADDRESSES_MAX`](crate::limits::ADDRESSES_MAX) at most.
    Addresses {
        /// As servers showed them to me.
        addresses: Vec<String>,
    },
    /// I no longer wait.
    Leave {
        /// My ticket.
        ticket: TicketId,
    },
    /// I refuse the invite of this attempt.
    Refused {
        /// My ticket.
        ticket: TicketId,
        /// The attempt.
        attempt: u32,
        /// Why.
        code: Code,
    },
    /// The session of my ticket has ended.
    Done {
        /// My ticket.
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
    /// You wait.
    Queued {
        /// Your ticket.
        ticket: TicketId,
        /// People ahead of you.
        position: u32,
    },
    /// Do this work, then ask again.
    Work {
        /// The desk that you asked for.
        desk: DeskId,
        /// The relay's slot of time.
        slot: Slot,
        /// Zero bits of the hash.
        bits: u8,
    },
    /// Your position changed.
    Position {
        /// Your ticket.
        ticket: TicketId,
        /// People ahead of you.
        position: u32,
    },
    /// An officer was found; an invite follows.
    Matched {
        /// Your ticket.
        ticket: TicketId,
        /// Numbered from 1.
        attempt: u32,
    },
    /// With this your node may use the relay's TURN for this consultation.
    Grant {
        /// Your ticket.
        ticket: TicketId,
        /// The grant.
        grant: Grant,
    },
    /// The officer's invite, passed on as it came.
    Invite {
        /// Your ticket.
        ticket: TicketId,
        /// The attempt.
        attempt: u32,
        /// The signed document.
        #[serde(with = "serde_bytes")]
        invite: Vec<u8>,
    },
    /// The match ended; you wait again at your old place.
    Waiting {
        /// Your ticket.
        ticket: TicketId,
        /// People ahead of you.
        position: u32,
        /// Why the match ended.
        code: Code,
    },
    /// Your ticket has ended.
    Ended {
        /// Your ticket.
        ticket: TicketId,
        /// How.
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
