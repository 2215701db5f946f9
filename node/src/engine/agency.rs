//! The agency of this node: its descriptor, remembered or fetched, kept fresh, and the link
//! that it leads to.

use bytes::Bytes;
use suora_protocol::documents::{AddressPolicy, Desk};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Key;
use suora_protocol::time::Now;

use super::ports::{Contradiction, Fetched, LinkCommand, Output};
use super::{Engine, Side};

impl Engine {
    /// The person begins. A page that its source had within the hour will do.
    pub(super) fn begin(&mut self, now: Now) {
        if self.button.is_some() {
            return;
        }
        self.button = Some(now.utc);
        let recalled = self.settings.recalled.take();
        if let Some(Err(fault)) = recalled.map(|recalled| self.trust.recall(&recalled)) {
            self.fail(now, fault);
            return;
        }
        match self.trust.time(now.utc) {
            // a question to the web would not mend it
            Err(fault) if fault.code == Code::WrongClock => self.fail(now, fault),
            _ if self.trust.is_fresh(now.utc) => {
                if let Err(fault) = self.open_link() {
                    self.fail(now, fault);
                }
            }
            _ => self.ask(now),
        }
    }

    /// Asks the source for the page: never the relay, which may show an old one.
    fn ask(&mut self, now: Now) {
        self.trust.asks(now.utc);
        self.out.push_back(Output::Fetch);
    }

    /// Asks again what is older than an hour.
    pub(super) fn refresh(&mut self, now: Now) {
        if self.key.is_some() && self.trust.is_due(now.utc) {
            self.ask(now);
        }
    }

    /// The other end names a page of this sequence. Whether it is newer than ours and may come.
    pub(super) fn hinted(&mut self, now: Now, sequence: u64) -> bool {
        self.trust.is_behind(sequence) && self.may_cure(now)
    }

    /// Asks for the page, unless that was done just now. Whether one may come.
    pub(super) fn may_cure(&mut self, now: Now) -> bool {
        if self.trust.may_ask(now.utc) {
            self.ask(now);
        }
        self.trust.waits()
    }

    /// A guest signed that there is another page of our page's sequence.
    pub(super) fn conflict(&mut self, hello: &Bytes) {
        if let Some(proof) = self.trust.dispute(hello) {
            self.out.push_back(Output::Prove(proof));
        }
    }

    /// The source answered, or did not. Two pages that cannot both be true end everything but a
    /// consultation; an old page, or none, leaves what is known.
    pub(super) fn fetched(
        &mut self,
        now: Now,
        fetched: Result<Fetched, Fault>,
    ) -> Result<(), Fault> {
        let is_first = self.key.is_none();
        let taken = fetched.and_then(|fetched| {
            let taken = self.trust.take(&fetched, now.utc);
            if let Err(fault) = &taken
                && fault.code == Code::Equivocation
                && let Some(proof) = self.trust.proof(&fetched.bytes, Contradiction::Page)
            {
                self.out.push_back(Output::Prove(proof));
            }
            taken
        });
        let known = match taken {
            Ok(recalled) => {
                self.out.push_back(Output::Remember(recalled));
                Ok(())
            }
            Err(fault) => {
                self.trust.unanswered();
                let usable = self.trust.time(now.utc).is_ok();
                let stops = match fault.code {
                    Code::Equivocation | Code::RootChanged => true,
                    // another agency's page, in a run that had ours: no news from the agency
                    Code::WrongAgency => is_first,
                    _ => false,
                };
                if usable && !stops { Ok(()) } else { Err(fault) }
            }
        };
        let linked = known.and_then(|()| if is_first { self.open_link() } else { Ok(()) });
        match linked {
            Ok(()) => self.judge_again(now),
            Err(fault) if self.session.is_none() => {
                self.fail(now, fault);
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    /// The desk, as the descriptor has it. A policy that needs a relayed path is [`Code::NoPath`]
    /// where the agency's relays have no TURN; relays alone are not dialled yet.
    pub(super) fn desk(&self) -> Result<&Desk, Fault> {
        let descriptor = self.trust.get()?;
        let desk = descriptor
            .desk(&self.settings.desk)
            .ok_or_else(|| Fault::new(Code::UnknownDesk).with(self.settings.desk.as_str()))?;
        let hides = "this desk hides addresses, which needs a relayed path";
        match desk.address_policy {
            AddressPolicy::Open => Ok(desk),
            AddressPolicy::AfterAccept if !descriptor.turn.is_empty() => Ok(desk),
            AddressPolicy::AfterAccept => Err(Fault::new(Code::NoPath).with(format!(
                "{hides}, and the agency's descriptor lists no TURN"
            ))),
            AddressPolicy::RelayOnly => Err(Fault::new(Code::NoPath).with(hides)),
        }
    }

    /// Whether the desk wants the rhythm of speech hidden.
    pub(super) fn is_sensitive(&self) -> bool {
        let page = self.trust.descriptor();
        page.and_then(|page| page.desk(&self.settings.desk))
            .is_some_and(|desk| desk.sensitive)
    }

    fn open_link(&mut self) -> Result<(), Fault> {
        let is_anonymous = self.desk()?.anonymous || self.settings.fresh;
        let descriptor = self.trust.get()?;
        let seed = &self.settings.seed;
        let (key, officer) = match self.side {
            Side::Citizen(_) if is_anonymous => (Key::from_secret(&self.draw.bytes::<32>()), false),
            Side::Citizen(_) => (seed.citizen_key(&descriptor.agency), false),
            Side::Officer(_) => (seed.node_key(), true),
        };
        let relays = descriptor.relays.clone();
        self.key = Some(key.clone());
        self.out.push_back(Output::Link(LinkCommand::Open {
            relays,
            key,
            officer,
        }));
        self.ask_servers();
        Ok(())
    }
}
