//! Which descriptor this node trusts (`spec/documents.md`, section 7): from whom it learnt the
//! root, the newest page of it, which pages it knows by other addresses, when its source was last
//! asked, and what time it can be.

use std::time::Duration;

use bytes::Bytes;
use suora_protocol::documents::{Descriptor, Signed, Verified, chain};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Hash;
use suora_protocol::limits;
use suora_protocol::time::Timestamp;

use super::ports::{Contradiction, Fetched, Proof, Recalled};

/// The age at which a descriptor is asked for again.
pub const REFRESH: Duration = Duration::from_secs(3_600);
/// The least time between two questions.
const RETRY: Duration = Duration::from_secs(300);
/// The least time between two questions when the other end knows more.
const HINTED: Duration = Duration::from_secs(10);

/// The agency's descriptor, as far as it was verified.
#[derive(Debug, Default)]
pub struct Trust {
    /// The newest that was verified, in a former run perhaps: it may have ended.
    known: Option<Verified<Descriptor>>,
    /// The newest page of each agency that is remembered, by whatever address.
    others: Vec<Verified<Descriptor>>,
    /// When the source last had it.
    fetched: Option<Timestamp>,
    /// When the source was last asked, and whether it has not answered yet.
    asked: Option<Timestamp>,
    waits: bool,
    /// The page of which a guest said that there is another one.
    disputed: Option<Hash>,
}

impl Trust {
    /// The descriptor.
    pub const fn descriptor(&self) -> Option<&Verified<Descriptor>> {
        self.known.as_ref()
    }

    /// The descriptor, or a fault.
    pub fn get(&self) -> Result<&Verified<Descriptor>, Fault> {
        self.known
            .as_ref()
            .ok_or_else(|| Fault::new(Code::DescriptorUnreachable).with("not fetched yet"))
    }

    /// The time under which documents are judged: never before the descriptor was signed, so that
    /// a clock that was set back brings no ended document to life. A clock that is clearly wrong is
    /// [`Code::WrongClock`]; a descriptor that has ended judges nothing any more.
    pub fn time(&self, now: Timestamp) -> Result<Timestamp, Fault> {
        let known = self.get()?;
        if now + limits::CLOCK_TOLERANCE < known.issued_at {
            return Err(Fault::new(Code::WrongClock)
                .with("the agency's details are known already, and are of the future"));
        }
        if now - limits::CLOCK_TOLERANCE > known.not_after {
            return Err(Fault::new(Code::Expired).with("the agency's details have ended"));
        }
        Ok(now.max(known.issued_at))
    }

    /// Takes what a former run left, whose root is trusted since then. What is damaged is
    /// [`Code::BadFile`]: to go on without it would be to forget the root.
    pub fn recall(&mut self, recalled: &Recalled) -> Result<(), Fault> {
        let known = read(recalled).map_err(|fault| {
            Fault::new(Code::BadFile).with(format!("what was remembered of this agency: {fault}"))
        })?;
        self.uncontradicted(&known)?;
        self.known = Some(known);
        self.fetched = Some(recalled.fetched);
        Ok(())
    }

    /// Takes what is remembered of agencies under other addresses. From now on no root but theirs,
    /// and those that they name, speaks for a domain of theirs: that is [`Code::RootChanged`], also
    /// where the known page does. What is damaged is [`Code::BadFile`].
    pub fn hold(&mut self, others: &[Recalled]) -> Result<(), Fault> {
        let pages: Result<Vec<_>, Fault> = others.iter().map(read).collect();
        self.others = pages.map_err(|fault| {
            Fault::new(Code::BadFile).with(format!("what was remembered of an agency: {fault}"))
        })?;
        match &self.known {
            Some(known) => self.uncontradicted(known),
            None => Ok(()),
        }
    }

    /// Two sources that differ: the domain of this page is known under another root, which does not
    /// name this one.
    fn uncontradicted(&self, page: &Descriptor) -> Result<(), Fault> {
        let differs = |other: &&Verified<Descriptor>| {
            is_same_domain(&other.domain, &page.domain) && !continues(page, other)
        };
        match self.others.iter().find(differs) {
            Some(other) => Err(Fault::new(Code::RootChanged).with(format!(
                "{} is known under another root id, {}",
                other.domain,
                other.agency.to_text()
            ))),
            None => Ok(()),
        }
    }

    /// Whether the source had this page within the last hour.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        let young = |at: Timestamp| at <= now + limits::CLOCK_TOLERANCE && now.since(at) < REFRESH;
        self.fetched.is_some_and(young) && self.time(now).is_ok()
    }

    /// Whether it is time to ask the source again.
    pub fn is_due(&self, now: Timestamp) -> bool {
        !self.waits && !self.is_fresh(now) && self.asked.is_none_or(|at| now.since(at) >= RETRY)
    }

    /// Whether a page of this sequence would be newer than ours.
    pub fn is_behind(&self, sequence: u64) -> bool {
        let known = self.known.as_ref();
        known.is_some_and(|known| known.sequence < sequence)
    }

    /// Whether the source is being asked.
    pub const fn waits(&self) -> bool {
        self.waits
    }

    /// Whether the source may be asked again because the other end knows more.
    pub fn may_ask(&self, now: Timestamp) -> bool {
        !self.waits && self.asked.is_none_or(|at| now.since(at) >= HINTED)
    }

    /// The source is being asked.
    pub const fn asks(&mut self, now: Timestamp) {
        self.asked = Some(now);
        self.waits = true;
    }

    /// The source did not answer.
    pub const fn unanswered(&mut self) {
        self.waits = false;
    }

    /// Verifies a fetched descriptor: under the given root, or as given when the file itself is
    /// trusted; and against the one that is known. A root that is known gives way only to one that
    /// it named: else it is [`Code::RootChanged`], as is another root than the one that the page's
    /// domain is known under. Returns what is to be remembered.
    pub fn take(&mut self, fetched: &Fetched, now: Timestamp) -> Result<Recalled, Fault> {
        self.waits = false;
        let signed: Signed<Descriptor> = Signed::from_bytes(fetched.bytes.clone())?;
        let verified = match (&fetched.root, &self.known) {
            (_, Some(known)) => match chain::descriptor_after(&signed, known, now) {
                Err(fault) if fault.code == Code::WrongAgency && fetched.root.is_none() => {
                    Err(Fault::new(Code::RootChanged).with("and the old one does not name it"))
                }
                after => after,
            },
            (Some(root), None) => chain::descriptor(&signed, root, now, None),
            (None, None) => chain::descriptor_as_given(&signed, now),
        }?;
        self.uncontradicted(&verified)?;
        // another address of the same root may have brought more
        let known = self.others.iter();
        let known = known.filter(|other| other.agency == verified.agency);
        if let Some(newest) = known.max_by_key(|other| other.sequence) {
            chain::descriptor_after(&signed, newest, now)?;
        }
        for other in &mut self.others {
            if continues(&verified, other) && verified.sequence > other.sequence {
                other.clone_from(&verified);
            }
        }
        let recalled = Recalled {
            root: verified.agency,
            bytes: verified.bytes().clone(),
            fetched: now,
        };
        self.known = Some(verified);
        self.fetched = Some(now);
        Ok(recalled)
    }

    /// The known page, and what contradicts it.
    pub fn proof(&self, other: &Bytes, what: Contradiction) -> Option<Proof> {
        let known = self.known.as_ref()?;
        Some(Proof {
            known: known.bytes().clone(),
            other: other.clone(),
            what,
        })
    }

    /// The known page, and the first guest's hello that contradicts it: keys are free, so many
    /// who say the same prove no more than one.
    pub fn dispute(&mut self, hello: &Bytes) -> Option<Proof> {
        let page = self.known.as_ref()?.hash();
        if self.disputed.replace(page) == Some(page) {
            return None;
        }
        self.proof(hello, Contradiction::Hello)
    }
}

/// The page that is remembered, verified under its root; it may have ended.
pub fn read(recalled: &Recalled) -> Result<Verified<Descriptor>, Fault> {
    let signed = Signed::from_bytes(recalled.bytes.clone())?;
    chain::descriptor_remembered(&signed, &recalled.root)
}

/// Whether a page is of the root of a known one, or of the root that this one names as its next.
pub fn continues(page: &Descriptor, known: &Descriptor) -> bool {
    let is_next = |next: Hash| next.as_bytes() == page.agency.as_bytes();
    known.agency == page.agency || known.next_root.is_some_and(is_next)
}

/// Whether two domains are one, however they are written. No domain is nobody's.
fn is_same_domain(one: &str, other: &str) -> bool {
    let one = one.trim_end_matches('.');
    !one.is_empty() && one.eq_ignore_ascii_case(other.trim_end_matches('.'))
}

#[cfg(test)]
pub(crate) mod tests {
    use suora_protocol::documents::{self, Names};
    use suora_protocol::identity::{AgencyId, Key};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn key(number: u8) -> Key {
        Key::from_secret(&[number; 32])
    }

    /// A page of this root.
    pub(crate) fn page(root: &Key, sequence: u64) -> Descriptor {
        Descriptor {
            agency: AgencyId::of_root(&root.peer_id()),
            root: root.peer_id(),
            names: Names::default(),
            domain: "agency.example".into(),
            relays: Vec::new(),
            turn: Vec::new(),
            keys: Vec::new(),
            desks: Vec::new(),
            revoked: Vec::new(),
            sequence,
            issued_at: NOW,
            not_after: NOW + 10 * DAY,
            next_root: None,
        }
    }

    /// As the domain itself serves it, or under a root that a person named.
    fn fetched(page: &Descriptor, by: &Key, root: Option<AgencyId>) -> Fetched {
        let bytes = documents::sign(page, by).unwrap().bytes().clone();
        Fetched { bytes, root }
    }

    fn refused(result: Result<Recalled, Fault>) -> Option<Code> {
        result.err().map(|fault| fault.code)
    }

    fn recalled(recalled: &Recalled) -> Trust {
        let mut trust = Trust::default();
        trust.recall(recalled).unwrap();
        trust
    }

    // covers: SUORA-DOC-101
    #[test]
    fn a_root_that_was_learnt_at_first_contact_is_remembered() {
        let (one, other) = (key(1), key(2));
        let mut trust = Trust::default();
        let first = trust
            .take(&fetched(&page(&one, 1), &one, None), NOW)
            .unwrap();
        let mut trust = recalled(&first);
        let changed = fetched(&page(&other, 2), &other, None);
        assert_eq!(refused(trust.take(&changed, NOW)), Some(Code::RootChanged));
        // a person who names the other root has another agency in mind
        let named = fetched(&page(&other, 2), &other, Some(page(&other, 2).agency));
        assert_eq!(refused(trust.take(&named, NOW)), Some(Code::WrongAgency));
        assert_eq!(trust.get().unwrap().agency, page(&one, 1).agency);
        // without a memory anybody who holds the domain would be believed
        assert_eq!(refused(Trust::default().take(&changed, NOW)), None);
    }

    // covers: SUORA-DOC-100, SUORA-DOC-101
    #[test]
    fn a_root_gives_way_to_the_one_that_it_named_and_to_no_other() {
        let (one, next, other) = (key(1), key(2), key(3));
        let mut naming = page(&one, 1);
        let id = AgencyId::of_root(&next.peer_id());
        naming.next_root = Some(Hash::from_bytes(*id.as_bytes()));
        for root in [None, Some(naming.agency)] {
            let mut trust = Trust::default();
            let first = trust.take(&fetched(&naming, &one, root), NOW).unwrap();
            let mut trust = recalled(&first);
            let stranger = fetched(&page(&other, 2), &other, root);
            assert!(refused(trust.take(&stranger, NOW)).is_some());
            let changed = trust.take(&fetched(&page(&next, 2), &next, root), NOW);
            let changed = changed.unwrap();
            assert_eq!(changed.root, id);
            // from now on the new one is the known one
            let mut trust = recalled(&changed);
            let back = fetched(&page(&one, 9), &one, root);
            assert!(refused(trust.take(&back, NOW)).is_some());
        }
    }

    // covers: SUORA-DOC-106
    #[test]
    fn no_other_root_speaks_for_a_domain_that_is_known() {
        let (one, other, next) = (key(1), key(2), key(3));
        let mut known = page(&one, 5);
        let remembered = |known: &Descriptor, by: &Key| {
            let page = fetched(known, by, Some(known.agency));
            Trust::default().take(&page, NOW).unwrap()
        };
        // whoever named the page: a link with its root, a file, the domain's web server
        let evil = page(&other, 1);
        for root in [Some(evil.agency), None] {
            let mut trust = Trust::default();
            trust.hold(&[remembered(&known, &one)]).unwrap();
            let evil = fetched(&evil, &other, root);
            assert_eq!(refused(trust.take(&evil, NOW)), Some(Code::RootChanged));
            assert!(trust.descriptor().is_none());
        }
        // however it writes the name, and also where it began with another one
        let mut trust = Trust::default();
        trust.hold(&[remembered(&known, &one)]).unwrap();
        let mut turned = evil.clone();
        turned.domain = "elsewhere.example".into();
        trust.take(&fetched(&turned, &other, None), NOW).unwrap();
        (turned.domain, turned.sequence) = ("Agency.Example.".into(), 2);
        let turned = fetched(&turned, &other, None);
        assert_eq!(refused(trust.take(&turned, NOW)), Some(Code::RootChanged));
        // what was remembered of both before contradicts itself
        let mut trust = recalled(&remembered(&evil, &other));
        let contradicted = trust.hold(&[remembered(&known, &one)]).unwrap_err();
        assert_eq!(contradicted.code, Code::RootChanged);
        // the same root by another address takes nothing back, and says one thing at a time
        let mut trust = Trust::default();
        trust.hold(&[remembered(&known, &one)]).unwrap();
        let older = trust.take(&fetched(&page(&one, 4), &one, Some(known.agency)), NOW);
        assert!(refused(older).is_some());
        let mut two_faced = known.clone();
        two_faced.revoked.push(key(7).peer_id());
        let two_faced = trust.take(&fetched(&two_faced, &one, Some(known.agency)), NOW);
        assert_eq!(refused(two_faced), Some(Code::Equivocation));
        // the same root by another address, and the one that it names, in one run and the next
        let own = fetched(&page(&one, 6), &one, None);
        let mut trust = Trust::default();
        trust.hold(&[remembered(&known, &one)]).unwrap();
        trust.take(&own, NOW).unwrap();
        let heir = page(&next, 8);
        known.sequence = 7;
        known.next_root = Some(Hash::from_bytes(*heir.agency.as_bytes()));
        trust.take(&fetched(&known, &one, None), NOW).unwrap();
        trust.take(&fetched(&heir, &next, None), NOW).unwrap();
        let mut trust = Trust::default();
        trust.hold(&[remembered(&known, &one)]).unwrap();
        trust.take(&fetched(&heir, &next, None), NOW).unwrap();
        // who claims to have a successor is none
        let mut claims = evil;
        claims.next_root = Some(Hash::from_bytes(*known.agency.as_bytes()));
        let mut trust = Trust::default();
        trust.hold(&[remembered(&known, &one)]).unwrap();
        let claims = fetched(&claims, &other, None);
        assert_eq!(refused(trust.take(&claims, NOW)), Some(Code::RootChanged));
    }

    // covers: SUORA-DOC-106
    #[test]
    fn a_damaged_memory_of_another_agency_is_a_clear_fault() {
        let damaged = Recalled {
            root: page(&key(1), 1).agency,
            bytes: Bytes::from_static(b"x"),
            fetched: NOW,
        };
        let fault = Trust::default().hold(&[damaged]).unwrap_err();
        assert_eq!(fault.code, Code::BadFile);
    }

    // covers: SUORA-DOC-012
    #[test]
    fn what_a_former_run_saw_is_not_undone() {
        let one = key(1);
        let mut trust = Trust::default();
        let seen = trust
            .take(&fetched(&page(&one, 5), &one, None), NOW)
            .unwrap();
        let mut trust = recalled(&seen);
        let older = fetched(&page(&one, 4), &one, None);
        assert_eq!(refused(trust.take(&older, NOW)), Some(Code::LowerSequence));
        let mut twin = page(&one, 5);
        twin.revoked.push(key(7).peer_id());
        let twin = fetched(&twin, &one, None);
        assert_eq!(refused(trust.take(&twin, NOW)), Some(Code::Equivocation));
        let proof = trust.proof(&twin.bytes, Contradiction::Page).unwrap();
        assert_eq!((proof.known, proof.other), (seen.bytes, twin.bytes));
    }

    // covers: SUORA-DOC-104
    #[test]
    fn one_hello_a_page_is_kept_however_many_guests_dispute_it() {
        let one = key(1);
        let mut trust = Trust::default();
        let take = |trust: &mut Trust, sequence| {
            let page = fetched(&page(&one, sequence), &one, None);
            trust.take(&page, NOW).unwrap();
        };
        let hello = |number: u8| Bytes::from(vec![number]);
        take(&mut trust, 5);
        let first = trust.dispute(&hello(1)).unwrap();
        assert_eq!((first.other, first.what), (hello(1), Contradiction::Hello));
        take(&mut trust, 5);
        assert_eq!(trust.dispute(&hello(2)), None);
        take(&mut trust, 6);
        assert!(trust.dispute(&hello(3)).is_some());
    }

    #[test]
    fn a_damaged_memory_is_a_clear_fault() {
        let (one, other) = (key(1), key(2));
        let good = Trust::default()
            .take(&fetched(&page(&one, 5), &one, None), NOW)
            .unwrap();
        for bad in [
            Recalled {
                bytes: Bytes::from_static(b"x"),
                ..good.clone()
            },
            Recalled {
                root: page(&other, 1).agency,
                ..good
            },
        ] {
            let fault = Trust::default().recall(&bad).unwrap_err();
            assert_eq!(fault.code, Code::BadFile);
        }
    }

    // covers: SUORA-DOC-102
    #[test]
    fn a_page_is_asked_for_again_after_an_hour() {
        let one = key(1);
        let mut trust = Trust::default();
        assert!(trust.is_due(NOW));
        trust.asks(NOW);
        assert!(!trust.is_due(NOW), "it is on its way");
        trust
            .take(&fetched(&page(&one, 5), &one, None), NOW)
            .unwrap();
        let young = NOW + REFRESH - Duration::from_secs(1);
        assert!(trust.is_fresh(young) && !trust.is_due(young));
        let old = NOW + REFRESH;
        assert!(trust.is_due(old));
        trust.asks(old);
        trust.unanswered();
        assert!(!trust.is_due(old + RETRY - Duration::from_secs(1)));
        assert!(trust.is_due(old + RETRY));
        assert!(trust.time(old).is_ok(), "what is known still counts");
        // the other end knows more
        assert!(trust.is_behind(6) && !trust.is_behind(5));
        assert!(trust.may_ask(old + RETRY) && !trust.may_ask(old));
        // one that claims to come from the future is asked for
        let mut ahead = Trust::default();
        let bytes = trust.get().unwrap().bytes().clone();
        let root = page(&one, 5).agency;
        let fetched = NOW + DAY;
        ahead
            .recall(&Recalled {
                root,
                bytes,
                fetched,
            })
            .unwrap();
        assert!(ahead.is_due(NOW));
    }

    // covers: SUORA-DOC-103
    #[test]
    fn no_clock_is_believed_that_is_before_the_newest_page() {
        let one = key(1);
        let mut trust = Trust::default();
        trust
            .take(&fetched(&page(&one, 5), &one, None), NOW)
            .unwrap();
        let code = |now| trust.time(now).map_err(|fault| fault.code);
        assert_eq!(code(NOW + DAY), Ok(NOW + DAY));
        let within = NOW - limits::CLOCK_TOLERANCE;
        assert_eq!(code(within), Ok(NOW), "it cannot be earlier than that");
        let before = within - Duration::from_secs(1);
        assert_eq!(code(before), Err(Code::WrongClock));
        let end = NOW + 10 * DAY + limits::CLOCK_TOLERANCE;
        assert_eq!(code(end), Ok(end));
        assert_eq!(code(end + Duration::from_secs(1)), Err(Code::Expired));
    }
}
