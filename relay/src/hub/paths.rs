//! Paths over the relay: who gets a grant for its TURN and when, and where a guest's media
//! socket is reached. An officer's node has a grant before anybody needs it, each
//! consultation its own pair, and a guest the pair of its officer. Nothing of it outlives
//! the process: nodes ask and tell again.

use std::net::SocketAddr;

use suora_protocol::documents::TicketId;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::PeerId;
use suora_protocol::limits;
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::grant::Grant;
use suora_protocol::wire::{citizen, officer};

use super::deadlines::Due;
use super::presence::Engagement;
use super::ticket::State;
use super::{Hub, LinkId};
use crate::grant::{Pair, Secret};

/// What an officer's node holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted {
    /// Shared by both ends of a consultation.
    pub pair: Pair,
    /// A guest has it: the next consultation gets another.
    pub shared: bool,
    /// When the next grant of this pair is due.
    pub renew: Timestamp,
}

impl Hub {
    /// From now on officers and those whom they serve get grants.
    pub fn set_secret(&mut self, secret: Option<Secret>) {
        self.secret = secret;
    }

    /// A grant where the descriptor names servers, and the relay has their secret.
    fn mint(&self, now: Now, pair: Pair) -> Option<Grant> {
        let secret = self.secret.as_ref()?;
        let mut grant = secret.mint(now.utc, pair, limits::GRANT, &self.descriptor.domain);
        grant.servers.clone_from(&self.descriptor.turn);
        grant.check().is_ok().then_some(grant)
    }

    /// Gives each officer who came or became free its grant for the next consultation.
    pub(super) fn grant_all(&mut self, now: Now) {
        for peer in std::mem::take(&mut self.ungranted) {
            let Some(officer) = self.officers.get(&peer) else {
                continue;
            };
            let spent = officer.granted.is_none_or(|granted| granted.shared);
            if spent && officer.engagement == Engagement::Free && officer.link.is_some() {
                let pair = Pair::from_bytes(self.draw.bytes());
                self.grant_officer(now, peer, pair, false);
            }
        }
    }

    fn grant_officer(&mut self, now: Now, peer: PeerId, pair: Pair, shared: bool) {
        let (Some(grant), Some(officer)) = (self.mint(now, pair), self.officers.get_mut(&peer))
        else {
            return;
        };
        let renew = now.utc + limits::GRANT / 2;
        officer.granted = Some(Granted {
            pair,
            shared,
            renew,
        });
        let link = officer.link;
        self.deadlines.set(Due::Grant(peer), renew);
        self.say(link, &officer::FromRelay::Grant { grant });
    }

    /// The guest of a match gets a grant of its officer's pair.
    pub(super) fn grant_guest(&mut self, now: Now, id: TicketId, peer: PeerId) {
        let Some(granted) = self.officers.get(&peer).and_then(|officer| officer.granted) else {
            return;
        };
        let Some(grant) = self.mint(now, granted.pair) else {
            return;
        };
        if let Some(officer) = self.officers.get_mut(&peer) {
            officer.granted = Some(Granted {
                shared: true,
                ..granted
            });
        }
        let link = self.tickets.get(&id).and_then(|ticket| ticket.link);
        let ticket = id;
        self.say(link, &citizen::FromRelay::Grant { ticket, grant });
    }

    /// Half of a grant is over: both ends get the next of the same pair.
    pub(super) fn grant_due(&mut self, now: Now, peer: PeerId) {
        let Some(officer) = self.officers.get(&peer) else {
            return;
        };
        let Some(granted) = officer.granted else {
            return;
        };
        let ticket = match officer.engagement {
            Engagement::Offered(ticket) | Engagement::Engaged(ticket) => Some(ticket),
            Engagement::Free | Engagement::Elsewhere => None,
        };
        self.grant_officer(now, peer, granted.pair, granted.shared);
        if let Some(ticket) = ticket {
            self.grant_guest(now, ticket, peer);
        }
    }

    /// A citizen's node tells where its media socket is reached; whoever serves it now hears of it.
    pub(super) fn addresses(&mut self, link: LinkId, addresses: Vec<String>) -> Result<(), Fault> {
        let good = |text: &String| {
            text.parse::<SocketAddr>()
                .is_ok_and(|address| address.port() != 0)
        };
        if addresses.len() > limits::ADDRESSES_MAX || !addresses.iter().all(good) {
            return Err(Fault::new(Code::Malformed).with("addresses are ip:port, 8 at most"));
        }
        let Some(link) = self.links.get_mut(&link) else {
            return Ok(());
        };
        if link.addresses == addresses {
            return Ok(());
        }
        link.addresses = addresses;
        let tickets: Vec<TicketId> = link.tickets.iter().copied().collect();
        for id in tickets {
            self.tell_addresses(id);
        }
        Ok(())
    }

    /// An officer is told of a match: and where its guest is reached, if that is known.
    pub(super) fn introduce(&mut self, id: TicketId) {
        let link = self.tickets.get(&id).and_then(|ticket| ticket.link);
        let known = link.and_then(|link| self.links.get(&link));
        if known.is_some_and(|link| !link.addresses.is_empty()) {
            self.tell_addresses(id);
        }
    }

    /// Tells the officer of a match where its guest is reached now.
    fn tell_addresses(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.get(&id) else {
            return;
        };
        let peer = match ticket.state {
            State::Waiting => return,
            State::Offered { officer, .. } | State::Engaged { officer } => officer,
        };
        let addresses = ticket
            .link
            .and_then(|link| self.links.get(&link))
            .map(|link| link.addresses.clone())
            .unwrap_or_default();
        let told = officer::FromRelay::Addresses {
            ticket: id,
            attempt: ticket.row.attempt,
            addresses,
        };
        let link = self.officers.get(&peer).and_then(|officer| officer.link);
        self.say(link, &told);
    }
}
