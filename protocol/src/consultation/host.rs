//! The host's end: expects the guest of its invite, proves itself, opens the gate.

use super::talk::{Line, Talk};
use super::{Output, Phase, violation};
use crate::documents::chain::{self, Invited};
use crate::documents::{self, Descriptor, Hello, Signed, Verified, Welcome};
use crate::fault::{Code, Fault};
use crate::identity::{Hash, Key};
use crate::limits;
use crate::time::{Now, Timestamp};
use crate::wire;
use crate::wire::guest::{FromHost, ToHost};

/// The host's end of one session.
#[derive(Debug)]
pub struct Host {
    talk: Talk,
    invited: Invited,
    descriptor: Verified<Descriptor>,
    key: Key,
    connection: Option<(Hash, String)>,
    deadline: Timestamp,
}

impl Host {
    /// Expects the guest of an own, verified invite; it is dead when no hello came within its bound.
    pub fn new(invited: Invited, descriptor: Verified<Descriptor>, key: Key, now: Now) -> Self {
        Self {
            talk: Talk::new(false),
            invited,
            descriptor,
            key,
            connection: None,
            deadline: now.utc + limits::INVITE_WELCOME,
        }
    }

    /// Both ends' common part.
    pub const fn talk(&mut self) -> &mut Talk {
        &mut self.talk
    }

    /// Where the session stands.
    pub const fn phase(&self) -> Phase {
        self.talk.phase
    }

    /// The invite.
    pub const fn invited(&self) -> &Invited {
        &self.invited
    }

    /// The guest's QUIC handshake stands.
    pub fn connected(&mut self, binding: Hash, alpn: String) {
        self.connection = Some((binding, alpn));
    }

    /// A control message, without its length.
    pub fn message(&mut self, now: Now, body: &[u8], at: Timestamp) -> Result<(), Fault> {
        match wire::decode::<ToHost>(body)? {
            ToHost::Hello { hello } => self.hello(now, hello),
            ToHost::Chat(line) => self.talk.heard(now, Line::Chat(line), at),
            ToHost::Media(line) => self.talk.heard(now, Line::Media(line), at),
            ToHost::Clock(line) => self.talk.heard(now, Line::Clock(line), at),
            ToHost::ClockAnswer(line) => self.talk.heard(now, Line::ClockAnswer(line), at),
            ToHost::Quality(line) => self.talk.heard(now, Line::Quality(line), at),
            ToHost::Path(line) => self.talk.heard(now, Line::Path(line), at),
            ToHost::Bye(line) => self.talk.heard(now, Line::Bye(line), at),
            ToHost::Unknown => Ok(()),
        }
    }

    fn hello(&mut self, now: Now, hello: Vec<u8>) -> Result<(), Fault> {
        if self.talk.phase != Phase::Proving {
            return Err(violation("a second hello"));
        }
        let (binding, alpn) = self
            .connection
            .as_ref()
            .ok_or_else(|| Fault::new(Code::Internal).with("a hello of no connection"))?;
        let signed: Signed<Hello> = Signed::from_bytes(hello)?;
        let hello = chain::hello(&signed, &self.invited, binding, alpn, &self.descriptor)
            .inspect_err(|fault| {
                if fault.code == Code::Equivocation {
                    self.talk.push(Output::Conflict(signed.bytes().clone()));
                }
            })?;
        let welcome = Welcome {
            invite: self.invited.invite.hash(),
            binding: *binding,
            hello: hello.hash(),
        };
        let welcome = documents::sign(&welcome, &self.key)?;
        self.talk.phase = Phase::Warm;
        self.talk.send(&FromHost::Welcome {
            welcome: welcome.bytes().to_vec(),
            participant: 1,
        })?;
        self.talk.push(Output::Verified);
        if hello.descriptor.sequence > self.descriptor.sequence {
            self.talk.push(Output::Newer(hello.descriptor.sequence));
        }
        self.talk.tick(now)
    }

    /// The officer takes the offer: the gate opens at both ends.
    pub fn accept(&mut self, now: Now) -> Result<(), Fault> {
        if self.talk.phase != Phase::Warm {
            return Err(violation("accept comes after the proofs"));
        }
        self.talk.phase = Phase::Accepted;
        self.talk.send(&FromHost::Accepted { at: now.utc })?;
        self.talk.push(Output::Open(now.utc));
        Ok(())
    }

    /// Time passed.
    pub fn tick(&mut self, now: Now) -> Result<(), Fault> {
        if self.talk.phase == Phase::Proving && now.utc >= self.deadline {
            self.talk
                .end(Fault::new(Code::Timeout).with("the guest did not come"));
        }
        self.talk.tick(now)
    }
}
