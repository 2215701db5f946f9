//! The judge: follows a day by the rules and says the first thing that is wrong.

use suora_protocol::documents::{DeskId, TicketId};
use suora_protocol::identity::PeerId;
use suora_protocol::wire::citizen::FromRelay as ToCitizen;
use suora_protocol::wire::officer::FromRelay as ToOfficer;
use suora_relay::hub::LinkId;
use suora_relay::hub::change::Change;

use super::log::{Event, Heard};
use super::rules::{Model, State, Ticket, Whose, Word};

/// Judges a day.
pub(super) fn judge(log: &[Event]) -> Result<(), String> {
    let mut model = Model::default();
    for (at, event) in log.iter().enumerate() {
        let wrong = |what: String| {
            let context = &log[at.saturating_sub(12)..=at];
            format!("{what}\nlast events: {context:#?}")
        };
        model.event(event).map_err(wrong)?;
    }
    model.end()
}

impl Model {
    fn event(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Decided(changes) => return self.decide(changes),
            Event::Stands => {
                let changes = self
                    .pending
                    .pop_front()
                    .ok_or("the store answers nothing")?;
                self.store.apply(&changes);
                self.stands += 1;
                return Ok(());
            }
            Event::Heard(link, heard) => return self.heard(*link, heard),
            Event::Queue(desk, queue) => return self.queue(desk, queue),
            _ => {}
        }
        let decided = self.decided;
        for (_, _, after) in &mut self.expected {
            after.get_or_insert(decided);
        }
        match event {
            Event::Time(now) => self.now = *now,
            Event::Up(link, peer, officer) => {
                let old = self
                    .links
                    .iter()
                    .find(|(_, who)| **who == (*peer, *officer));
                if let Some(old) = old.map(|(old, _)| *old) {
                    self.down(old);
                }
                self.links.insert(*link, (*peer, *officer));
            }
            Event::Down(link) => self.down(*link),
            Event::Citizen(link, message) => {
                if let Some((peer, _)) = self.links.get(link).copied() {
                    self.citizen(*link, peer, message);
                }
            }
            Event::Officer(link, message) => {
                if let Some((peer, _)) = self.links.get(link).copied() {
                    self.officer(*link, peer, message);
                }
            }
            Event::Restart => self.restart()?,
            _ => {}
        }
        self.expire();
        self.match_all();
        Ok(())
    }

    fn end(&self) -> Result<(), String> {
        if let Some(missing) = self.expected.front() {
            return Err(format!("never heard: {missing:?}"));
        }
        for ticket in self.tickets.iter().filter(|t| t.link.is_some()) {
            let ahead = self.ahead(ticket);
            let told = self.told.get(&ticket.whose);
            if ticket.state == State::Waiting && told != Some(&ahead) {
                return Err(format!("was told {told:?}, is at {ahead}: {ticket:?}"));
            }
        }
        Ok(())
    }

    fn ahead(&self, ticket: &Ticket) -> u32 {
        let desk = &ticket.whose.1;
        let before = self
            .tickets
            .iter()
            .take_while(|other| other.whose != ticket.whose);
        let waits = before.filter(|t| t.state == State::Waiting && t.whose.1 == *desk);
        u32::try_from(waits.count()).unwrap()
    }

    // what the hub shows

    fn decide(&mut self, changes: &[Change]) -> Result<(), String> {
        for change in changes {
            if let Change::Put(row) = change {
                let whose = (row.guest, row.desk.clone());
                self.ids.insert(row.ticket, whose.clone());
                self.newest.insert(whose, row.ticket);
            }
        }
        self.decided += 1;
        self.pending.push_back(changes.to_vec());
        Ok(())
    }

    pub(super) fn whose(&self, id: TicketId) -> Option<Whose> {
        self.ids.get(&id).cloned()
    }

    fn heard(&mut self, link: LinkId, heard: &Heard) -> Result<(), String> {
        let whose = |id: &TicketId| self.whose(*id).ok_or("a ticket out of nowhere");
        let word = match heard {
            Heard::Citizen(ToCitizen::Queued { ticket, position }) => {
                self.told.insert(whose(ticket)?, *position);
                Word::Queued(self.whose(*ticket).ok_or("no ticket")?)
            }
            Heard::Citizen(ToCitizen::Position { ticket, position }) => {
                self.told.insert(whose(ticket)?, *position);
                return Ok(());
            }
            Heard::Citizen(ToCitizen::Waiting {
                ticket,
                position,
                code,
            }) => {
                self.told.insert(whose(ticket)?, *position);
                Word::Waiting(self.whose(*ticket).ok_or("no ticket")?, *code)
            }
            Heard::Citizen(ToCitizen::Matched { ticket, attempt }) => {
                Word::Matched(whose(ticket)?, *attempt)
            }
            Heard::Citizen(ToCitizen::Ended { ticket, code }) => {
                Word::Ended(self.whose(*ticket), *code)
            }
            Heard::Officer(ToOfficer::Attending { .. }) => Word::Attending,
            Heard::Officer(ToOfficer::Offer {
                ticket, attempt, ..
            }) => Word::Offer(whose(ticket)?, *attempt),
            Heard::Officer(ToOfficer::Withdrawn {
                ticket,
                attempt,
                code,
            }) => Word::Withdrawn(whose(ticket)?, *attempt, *code),
            // refusals, counts and pongs are no matter of the queue
            _ => return Ok(()),
        };
        let Some((to, expected, after)) = self.expected.pop_front() else {
            return Err(format!("nobody should hear {word:?}"));
        };
        if (to, &expected) != (link, &word) {
            return Err(format!(
                "heard {link:?} {word:?} instead of {to:?} {expected:?}"
            ));
        }
        if after.unwrap_or(self.decided) > self.stands {
            return Err(format!("said before it was durable: {word:?}"));
        }
        let durable = |whose: &Whose| {
            let of =
                |row: &&suora_relay::hub::change::Row| row.guest == whose.0 && row.desk == whose.1;
            self.store.rows.iter().rev().find(of)
        };
        let stands = match &word {
            Word::Queued(whose) => durable(whose).is_some(),
            Word::Offer(whose, attempt) | Word::Matched(whose, attempt) => {
                durable(whose).is_some_and(|row| row.attempt >= *attempt)
            }
            _ => true,
        };
        // unless a later commit, which stands too, has dropped it again
        if !stands && self.pending.is_empty() && self.tickets.iter().any(|t| word.is_of(&t.whose)) {
            return Err(format!("the store does not have it: {word:?}"));
        }
        Ok(())
    }

    fn queue(&self, desk: &DeskId, queue: &[PeerId]) -> Result<(), String> {
        let waits = |t: &&Ticket| t.state == State::Waiting && t.whose.1 == *desk;
        let own: Vec<PeerId> = self
            .tickets
            .iter()
            .filter(waits)
            .map(|t| t.whose.0)
            .collect();
        if own == queue {
            return Ok(());
        }
        let name = |peers: &[PeerId]| {
            peers
                .iter()
                .map(|peer| peer.as_bytes()[0])
                .collect::<Vec<_>>()
        };
        Err(format!(
            "at {desk} wait {:?} instead of {:?}",
            name(queue),
            name(&own)
        ))
    }
}
