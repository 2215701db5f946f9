//! Officers at their desks: status, and what each is engaged in.

use suora_protocol::documents::{DeskId, TicketId};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::PeerId;
use suora_protocol::limits;
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::officer::{FromRelay, Status};

use super::ticket::State;
use super::{Hub, LinkId, Output};

/// What an officer is engaged in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engagement {
    /// Nothing.
    Free,
    /// Was asked to take a ticket.
    Offered(TicketId),
    /// In consultation.
    Engaged(TicketId),
}

impl Engagement {
    /// The ticket, if any.
    pub const fn ticket(self) -> Option<TicketId> {
        match self {
            Self::Free => None,
            Self::Offered(ticket) | Self::Engaged(ticket) => Some(ticket),
        }
    }
}

/// An officer who attends a desk.
#[derive(Debug)]
pub struct Officer {
    /// The desk.
    pub desk: DeskId,
    /// The officer's stream.
    pub link: Option<LinkId>,
    /// Since when there is none.
    pub gone: Option<Timestamp>,
    /// As the officer chose.
    pub status: Status,
    /// What the officer is engaged in.
    pub engagement: Engagement,
    /// Since when the officer could take an offer: the longest free is asked first.
    pub free_since: Timestamp,
    /// Until when the credential holds.
    pub until: Timestamp,
    /// The number of waiting people that was last told.
    pub told: Option<u32>,
}

impl Hub {
    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of one message, and who sent it"
    )]
    pub(super) fn attend(
        &mut self,
        now: Now,
        link: LinkId,
        peer: PeerId,
        desk: DeskId,
        until: Timestamp,
        status: Status,
        engaged: Option<TicketId>,
    ) -> Result<(), Fault> {
        let at_desk = self
            .officers
            .values()
            .filter(|officer| officer.desk == desk)
            .count();
        if !self.officers.contains_key(&peer) && at_desk >= limits::OFFICERS_MAX {
            return Err(Fault::new(Code::Busy).with("too many officers at this desk"));
        }
        if let Some(old) = self
            .officers
            .get(&peer)
            .and_then(|officer| officer.link)
            .filter(|old| *old != link)
        {
            self.officer_gone(now, peer, Code::OfficerGone);
            self.hold(Output::Close(old));
        }
        // An officer who comes back in mid-consultation keeps it; the relay may have forgotten in between.
        let engagement = match engaged {
            Some(id)
                if self.tickets.get(&id).is_some_and(
                    |t| matches!(t.state, State::Engaged { officer } if officer == peer),
                ) =>
            {
                Engagement::Engaged(id)
            }
            Some(id) if !self.tickets.contains_key(&id) => Engagement::Engaged(id),
            _ => Engagement::Free,
        };
        let waiting = u32::try_from(
            self.queues
                .get(&desk)
                .map_or(0, std::collections::BTreeSet::len),
        )
        .unwrap_or(u32::MAX);
        let officer = Officer {
            desk: desk.clone(),
            link: Some(link),
            gone: None,
            status,
            engagement,
            free_since: now.utc,
            until,
            told: Some(waiting),
        };
        self.officers.insert(peer, officer);
        self.say(Some(link), &FromRelay::Attending { desk, waiting });
        Ok(())
    }

    /// An officer's stream ended: an offer goes on to the next, a consultation does not need us.
    pub(super) fn officer_gone(&mut self, now: Now, peer: PeerId, code: Code) {
        let Some(officer) = self.officers.get_mut(&peer) else {
            return;
        };
        officer.link = None;
        officer.gone = Some(now.utc);
        match officer.engagement {
            Engagement::Offered(ticket) => self.wait_again(now, ticket, code),
            Engagement::Engaged(_) => return,
            Engagement::Free => {}
        }
        self.officers.remove(&peer);
    }

    /// Officers whom the new descriptor revokes lose their links.
    pub(super) fn drop_revoked(&mut self, now: Now) {
        for peer in self.descriptor.revoked.clone() {
            let link = self.officers.get(&peer).and_then(|officer| officer.link);
            if link.is_some() {
                self.say(
                    link,
                    &FromRelay::Refused {
                        code: Code::Revoked,
                        message: None,
                    },
                );
            }
            self.officer_gone(now, peer, Code::OfficerGone);
            self.officers.remove(&peer);
            if let Some(link) = link {
                self.hold(Output::Close(link));
            }
        }
    }
}
