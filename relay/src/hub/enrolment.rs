//! The newest credential of each officer (`spec/desk.md`, section 6). An administrator
//! brings it, signed elsewhere; the hub verifies it, keeps it and hands it on: to an
//! officer who comes, and at once to one who is there. It cannot make one.

use std::time::Duration;

use bytes::Bytes;
use suora_protocol::documents::{Credential, DeskId, Role, Signed, Verified, chain};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::PeerId;
use suora_protocol::limits;
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::officer::FromRelay;

use super::change::{Change, Enrolled};
use super::deadlines::Due;
use super::{Hub, admission};

/// Most officers whose credentials are kept.
pub const ENROLLED_MAX: usize = 10_000;

/// A credential that has ended is kept for so long: a relay whose clock is farther off finds
/// no valid descriptor either, so a wrong clock makes it forget nobody.
const FORGET: Duration = Duration::from_secs(limits::DESCRIPTOR_DAYS_MAX.unsigned_abs() * 86_400);

/// What became of a credential that an administrator brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enrolment {
    /// The officer's node.
    pub peer: PeerId,
    /// The name that citizens see.
    pub name: String,
    /// Until when it holds.
    pub not_after: Timestamp,
    /// Whether it is now the newest that is kept; else one as new stood already.
    pub newest: bool,
}

impl Enrolled {
    fn of(credential: &Verified<Credential>) -> Self {
        Self {
            peer: credential.peer,
            credential: credential.bytes().clone(),
            issued_at: credential.issued_at,
            not_after: credential.not_after,
        }
    }
}

impl Hub {
    /// Verifies a credential, and keeps it if it is newer than the one that is kept.
    pub(super) fn enrol(&mut self, now: Now, credential: Bytes) -> Result<Enrolment, Fault> {
        let signed: Signed<Credential> = Signed::from_bytes(credential)?;
        let credential = chain::credential(&signed, &self.descriptor, now.utc)?;
        if credential.role != Role::Officer {
            return Err(Fault::new(Code::WrongRole)
                .with("only officers attend; partners join by other ways"));
        }
        if credential.issued_at > now.utc + limits::CLOCK_TOLERANCE {
            // it would be the newest for ever
            return Err(Fault::new(Code::NotYetValid).with("it was signed in the future"));
        }
        let enrolled = Enrolled::of(&credential);
        let peer = enrolled.peer;
        let old = self.kept(now, &peer);
        let newest = old.is_none_or(|old| credential.supersedes(&old));
        if !self.enrolled.contains_key(&peer) && self.enrolled.len() >= ENROLLED_MAX {
            let full = format!("{ENROLLED_MAX} officers have a credential here already");
            return Err(Fault::new(Code::Busy).with(full));
        }
        if newest {
            self.changes.push(Change::Enrol(enrolled.clone()));
            self.keep(enrolled);
            self.hand_on(now, peer);
        }
        Ok(Enrolment {
            peer,
            name: credential.name.clone(),
            not_after: credential.not_after,
            newest,
        })
    }

    /// What is kept for a node, if it stands: one by a key that the agency no longer lists does not.
    fn kept(&self, now: Now, peer: &PeerId) -> Option<Verified<Credential>> {
        let kept = self.enrolled.get(peer)?;
        let signed = Signed::from_bytes(kept.credential.clone()).ok()?;
        chain::credential(&signed, &self.descriptor, now.utc).ok()
    }

    /// Remembers a credential, until it has long ended.
    pub(super) fn keep(&mut self, enrolled: Enrolled) {
        let due = enrolled.not_after + limits::CLOCK_TOLERANCE + FORGET;
        self.deadlines.set(Due::Enrolled(enrolled.peer), due);
        self.enrolled.insert(enrolled.peer, enrolled);
    }

    /// Forgets a credential that has long ended.
    pub(super) fn expel(&mut self, peer: PeerId) {
        self.enrolled.remove(&peer);
        self.changes.push(Change::Expel(peer));
    }

    /// Gives an officer who is here the newest credential; who may not attend with it goes.
    pub(super) fn hand_on(&mut self, now: Now, peer: PeerId) {
        let Some(officer) = self.officers.get(&peer) else {
            return;
        };
        let (desk, link) = (officer.desk.clone(), officer.link);
        match self.entitle(now, &peer, &desk, officer.credential.clone()) {
            Ok((newest, until)) => {
                if let Some(officer) = self.officers.get_mut(&peer)
                    && officer.credential != newest
                {
                    officer.credential = newest.clone();
                    let credential = newest.into();
                    self.say(link, &FromRelay::Credential { credential });
                }
                if let Some(until) = until {
                    self.deadlines.set(Due::Credential(peer), until);
                }
            }
            Err(fault) => self.dismiss(now, peer, &fault),
        }
    }

    /// The newest credential by which an officer may attend this desk, of the one that it shows
    /// and the one that is kept, and until when; `None` is for ever, when nothing was checked.
    pub(super) fn entitle(
        &self,
        now: Now,
        peer: &PeerId,
        desk: &DeskId,
        shown: Bytes,
    ) -> Result<(Bytes, Option<Timestamp>), Fault> {
        if self.faults.unchecked_credential {
            return Ok((shown, None));
        }
        let check =
            |bytes: &Bytes| admission::officer(&self.descriptor, peer, desk, bytes, now.utc);
        let credential = match (check(&shown), self.kept(now, peer)) {
            (Ok(shown), Some(kept)) if kept.supersedes(&shown) => check(kept.bytes())?,
            // what is shown has ended, or there is nothing to show
            (Err(_), Some(kept)) if *kept.bytes() != shown => check(kept.bytes())?,
            // nothing is shown, and what is kept says why it does not stand
            (Err(fault), None) if shown.is_empty() => match self.enrolled.get(peer) {
                Some(kept) => check(&kept.credential)?,
                None => return Err(fault),
            },
            (shown, _) => shown?,
        };
        let keys = self.descriptor.keys.iter();
        let key = keys.filter(|key| key.id == credential.key);
        let end = key.fold(credential.not_after, |end, key| end.min(key.not_after));
        // the first moment at which the same check fails
        let until = end + limits::CLOCK_TOLERANCE + Duration::from_micros(1);
        Ok((credential.bytes().clone(), Some(until)))
    }
}
