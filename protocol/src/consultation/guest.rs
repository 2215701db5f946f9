//! The guest's end: proves itself at once, believes nobody before the welcome.

use super::talk::{Line, Talk};
use super::{Output, Phase, violation};
use crate::documents::chain::{self, Invited};
use crate::documents::{self, Descriptor, DescriptorRef, Hello, Signed, Verified, Welcome};
use crate::fault::{Code, Fault};
use crate::identity::{Hash, Key};
use crate::limits;
use crate::time::{Now, Timestamp};
use crate::wire;
use crate::wire::guest::{FromHost, ToHost};

/// The guest's end of one session.
#[derive(Debug)]
pub struct Guest {
    talk: Talk,
    invited: Invited,
    descriptor: Verified<Descriptor>,
    key: Key,
    sent: Option<(Hash, Hash)>,
    deadline: Timestamp,
}

impl Guest {
    /// Dials the host of a verified invite; it is dead when no welcome came within its bound.
    pub fn new(invited: Invited, descriptor: Verified<Descriptor>, key: Key, now: Now) -> Self {
        Self {
            talk: Talk::new(true),
            invited,
            descriptor,
            key,
            sent: None,
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

    /// The QUIC handshake stands, under the certificate of the invite: say hello.
    pub fn connected(&mut self, binding: Hash, alpn: String) -> Result<(), Fault> {
        let descriptor = DescriptorRef {
            sequence: self.descriptor.sequence,
            hash: self.descriptor.hash(),
        };
        let hello = documents::sign(
            &Hello {
                invite: self.invited.invite.hash(),
                binding,
                alpn,
                descriptor,
            },
            &self.key,
        )?;
        self.sent = Some((hello.hash(), binding));
        self.talk.send(&ToHost::Hello {
            hello: hello.bytes().to_vec(),
        })
    }

    /// A control message, without its length.
    pub fn message(&mut self, now: Now, body: &[u8], at: Timestamp) -> Result<(), Fault> {
        match wire::decode::<FromHost>(body)? {
            FromHost::Welcome {
                welcome,
                participant,
            } => {
                if self.talk.phase != Phase::Proving || participant != 1 {
                    return Err(violation("a second welcome"));
                }
                let (hello, binding) = self
                    .sent
                    .ok_or_else(|| violation("a welcome before the hello"))?;
                let signed: Signed<Welcome> = Signed::from_bytes(welcome)?;
                chain::welcome(&signed, &self.invited, &hello, &binding)?;
                self.talk.phase = Phase::Warm;
                self.talk.push(Output::Verified);
                self.talk.tick(now)
            }
            FromHost::Accepted { at } => {
                if self.talk.phase != Phase::Warm {
                    return Err(violation("accepted at the wrong moment"));
                }
                self.talk.phase = Phase::Accepted;
                self.talk.push(Output::Open(at));
                Ok(())
            }
            FromHost::Chat(line) => self.talk.heard(now, Line::Chat(line), at),
            FromHost::Media(line) => self.talk.heard(now, Line::Media(line), at),
            FromHost::Clock(line) => self.talk.heard(now, Line::Clock(line), at),
            FromHost::ClockAnswer(line) => self.talk.heard(now, Line::ClockAnswer(line), at),
            FromHost::Quality(line) => self.talk.heard(now, Line::Quality(line), at),
            FromHost::Path(line) => self.talk.heard(now, Line::Path(line), at),
            FromHost::Bye(line) => self.talk.heard(now, Line::Bye(line), at),
            FromHost::Unknown => Ok(()),
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Now) -> Result<(), Fault> {
        if self.talk.phase == Phase::Proving && now.utc >= self.deadline {
            self.talk
                .end(Fault::new(Code::Timeout).with("no welcome came"));
        }
        self.talk.tick(now)
    }
}
