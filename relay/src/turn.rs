//! STUN and TURN of the relay (`spec/turn.md`; RFC 8489, RFC 8656), pure: one machine a shard. Packets
//! that can be forwarded are judged by [`forward`] alone; everything else is a request, which
//! [`Turn::handle_input`] takes and whose answers [`Turn::poll_output`] gives. Shards share a grant
//! secret, which needs no state, and [`pairs`], since the two ends of a consultation may be on
//! different ones.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod figures;
pub mod forward;
pub mod message;
pub mod pairs;
pub mod policy;
pub mod request;
pub mod strangers;
pub mod table;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use suora_protocol::identity::Draw;
use suora_protocol::time::Now;

use crate::grant::Secret;
use figures::Figures;
use forward::{Forward, Verdict};
use pairs::Pairs;
use policy::{Policy, Quotas};
use strangers::Strangers;
use table::{Client, Slot, Table};

/// What holds for all shards.
#[derive(Debug)]
pub struct Rules {
    /// Under which grants are minted.
    pub secret: Secret,
    /// The realm.
    pub realm: String,
    /// Who may be a peer, and where relayed addresses are: the first of a family is taken.
    pub policy: Policy,
    /// How much.
    pub quotas: Quotas,
}

/// What the shards share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Who belongs together.
    pub pairs: Pairs,
    /// What was done.
    pub figures: Figures,
}

/// What a shard hears.
#[derive(Debug)]
pub enum Input<'a> {
    /// A packet of a client that [`Turn::client_packet`] called a request.
    Request(Client, &'a [u8]),
    /// The socket of an [`Output::Open`] stands, or its address cannot be had.
    Opened(Slot, bool),
    /// Time has passed.
    Tick,
}

/// What a shard does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this to a client.
    Say {
        /// The client.
        to: Client,
        /// A whole message.
        bytes: Vec<u8>,
    },
    /// Open a socket at this address, and say whether it stands.
    Open {
        /// Whose.
        slot: Slot,
        /// Where.
        at: SocketAddr,
    },
    /// Close a socket.
    Close {
        /// Whose.
        slot: Slot,
    },
    /// Nothing until then, or until something comes.
    Wait(Option<Instant>),
}

/// A shard's STUN and TURN.
#[derive(Debug)]
pub struct Turn {
    rules: Arc<Rules>,
    shared: Arc<Shared>,
    /// Which shard of how many.
    of: (usize, usize),
    table: Table,
    strangers: Strangers,
    draw: Draw,
    /// The transaction of the last Data indication.
    indications: u128,
    out: VecDeque<Output>,
}

impl Turn {
    /// Shard number so many of so many; `seed` is its own and secret.
    pub fn new(
        rules: Arc<Rules>,
        shared: Arc<Shared>,
        of: (usize, usize),
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        let mut draw = Draw::from_seed(seed);
        let key = [draw.bytes(), draw.bytes()].map(u64::from_be_bytes);
        Self {
            strangers: Strangers::new(rules.quotas.strangers, key, now),
            indications: u128::from_be_bytes(draw.bytes()),
            rules,
            shared,
            of,
            table: Table::default(),
            draw,
            out: VecDeque::new(),
        }
    }

    /// How many allocations stand on this shard.
    pub fn allocations(&self) -> usize {
        self.table.len()
    }

    fn forward(&mut self, now: Instant) -> Forward<'_> {
        Forward {
            table: &mut self.table,
            policy: &self.rules.policy,
            quotas: &self.rules.quotas,
            indications: &mut self.indications,
            now,
        }
    }

    /// Judges a packet of a client.
    pub fn client_packet(&mut self, now: Instant, client: Client, packet: &[u8]) -> Verdict {
        self.forward(now).client_packet(client, packet)
    }

    /// Judges a packet of so many bytes that came to an allocation's socket.
    pub fn peer_packet(
        &mut self,
        now: Instant,
        slot: Slot,
        peer: SocketAddr,
        len: usize,
    ) -> Verdict {
        self.forward(now).peer_packet(slot, peer, len)
    }

    /// Takes an input.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>) {
        match input {
            Input::Request(client, packet) => self.request(now, client, packet),
            Input::Opened(slot, stands) => self.opened(now, slot, stands),
            Input::Tick => {}
        }
        while let Some((until, slot)) = self.table.next_deadline() {
            if now.mono < until {
                break;
            }
            self.end(now, slot);
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Output {
        self.out.pop_front().unwrap_or_else(|| {
            let next = self.table.next_deadline();
            Output::Wait(next.map(|(until, _)| until))
        })
    }
}

#[cfg(test)]
mod tests;
