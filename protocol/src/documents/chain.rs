//! The one chain: root → descriptor → issuing key → credential → invite → hello →
//! welcome (`spec/documents.md`, section 6). Each step takes what the step before
//! verified; each refusal has its own code. The form of the envelope is judged
//! before the signature, the signature before anything that the document says.

use serde::Deserialize;

use super::credential::{Credential, Role};
use super::descriptor::{Descriptor, KeyUse};
use super::desk::DeskId;
use super::hello::{Hello, Welcome};
use super::invite::{Challenge, Invite, TicketId};
use super::{Signed, Verified, open};
use crate::fault::{Code, Fault};
use crate::identity::{AgencyId, Hash, PeerId};
use crate::limits;
use crate::time::Timestamp;

/// The ALPN of native ends.
pub const ALPN: &str = "suora/1";

fn refuse(code: Code, detail: &str) -> Fault {
    Fault::new(code).with(detail)
}

fn in_time(what: &str, from: Timestamp, until: Timestamp, now: Timestamp) -> Result<(), Fault> {
    if now + limits::CLOCK_TOLERANCE < from {
        return Err(refuse(Code::NotYetValid, what));
    }
    if now - limits::CLOCK_TOLERANCE > until {
        return Err(refuse(Code::Expired, what));
    }
    Ok(())
}

// What of a payload names its signer.

#[derive(Deserialize)]
struct Rooted {
    root: PeerId,
}

#[derive(Deserialize)]
struct Keyed {
    key: String,
}

#[derive(Deserialize)]
struct Spoken {
    peer: PeerId,
}

#[derive(Deserialize)]
struct Hosted {
    #[serde(with = "serde_bytes")]
    credential: Vec<u8>,
}

/// Verifies a descriptor under a trusted root id, and against the one known so far.
pub fn descriptor(
    signed: &Signed<Descriptor>,
    root: &AgencyId,
    now: Timestamp,
    known: Option<&Verified<Descriptor>>,
) -> Result<Verified<Descriptor>, Fault> {
    let opened = open(signed)?;
    // The root key travels in the descriptor; the id that the person trusts names it.
    let signer = opened.peek::<Rooted>()?.root;
    let verified = opened.verify(signed, &signer)?;
    if verified.root != signer {
        return Err(refuse(Code::WrongSigner, "descriptor"));
    }
    if AgencyId::of_root(&signer) != *root || verified.agency != *root {
        return Err(refuse(Code::WrongAgency, "descriptor"));
    }
    in_time("descriptor", verified.issued_at, verified.not_after, now)?;
    if let Some(known) = known {
        if verified.sequence < known.sequence {
            return Err(refuse(Code::LowerSequence, "descriptor"));
        }
        if verified.sequence == known.sequence && verified.hash() != known.hash() {
            return Err(refuse(
                Code::Equivocation,
                "two descriptors of one sequence",
            ));
        }
    }
    Ok(verified)
}

/// Verifies a descriptor that comes after a known one of the agency: under the same root, or under
/// the root that the known one names as its next, with a higher sequence.
pub fn descriptor_after(
    signed: &Signed<Descriptor>,
    known: &Verified<Descriptor>,
    now: Timestamp,
) -> Result<Verified<Descriptor>, Fault> {
    let same = descriptor(signed, &known.agency, now, Some(known));
    let (Err(fault), Some(next)) = (&same, known.next_root) else {
        return same;
    };
    if fault.code != Code::WrongAgency {
        return same;
    }
    let next = AgencyId::from_bytes(*next.as_bytes());
    let changed = descriptor(signed, &next, now, None)?;
    if changed.sequence <= known.sequence {
        return Err(refuse(Code::LowerSequence, "descriptor of the next root"));
    }
    Ok(changed)
}

/// Verifies a descriptor that was verified before, under its root: it may have ended since, and
/// its reader asks whether it has.
pub fn descriptor_remembered(
    signed: &Signed<Descriptor>,
    root: &AgencyId,
) -> Result<Verified<Descriptor>, Fault> {
    #[derive(Deserialize)]
    struct Dated {
        #[serde(with = "super::secs")]
        issued_at: Timestamp,
    }
    let dated: Dated = open(signed)?.peek()?;
    descriptor(signed, root, dated.issued_at, None)
}

/// Verifies a descriptor that a person trusts as given (a file): its own root signs it.
pub fn descriptor_as_given(
    signed: &Signed<Descriptor>,
    now: Timestamp,
) -> Result<Verified<Descriptor>, Fault> {
    let claimed: Rooted = open(signed)?.peek()?;
    descriptor(signed, &AgencyId::of_root(&claimed.root), now, None)
}

/// As [`descriptor_as_given`], whatever the time: the descriptor may have ended. What it says of
/// now counts for nothing.
pub fn descriptor_once_given(signed: &Signed<Descriptor>) -> Result<Verified<Descriptor>, Fault> {
    let claimed: Rooted = open(signed)?.peek()?;
    descriptor_remembered(signed, &AgencyId::of_root(&claimed.root))
}

/// Verifies a credential under the agency's descriptor.
pub fn credential(
    signed: &Signed<Credential>,
    descriptor: &Verified<Descriptor>,
    now: Timestamp,
) -> Result<Verified<Credential>, Fault> {
    let opened = open(signed)?;
    let named = opened.peek::<Keyed>()?.key;
    // An id that the descriptor does not list may be a changed byte: no key, no signature.
    let key = descriptor
        .keys
        .iter()
        .find(|key| key.id == named)
        .ok_or_else(|| refuse(Code::BadSignature, "credential: by no key of the agency"))?;
    let verified = opened.verify(signed, &key.key)?;
    if key.use_ != KeyUse::Issuing || verified.key != key.id {
        return Err(refuse(Code::WrongSigner, "credential: not an issuing key"));
    }
    if verified.agency != descriptor.agency {
        return Err(refuse(Code::WrongAgency, "credential"));
    }
    if verified.role == Role::Citizen {
        return Err(refuse(Code::WrongRole, "credential"));
    }
    if descriptor.revoked.contains(&verified.peer) {
        return Err(refuse(Code::Revoked, "credential"));
    }
    in_time("credential", verified.not_before, verified.not_after, now)?;
    in_time("issuing key", Timestamp::default(), key.not_after, now)?;
    Ok(verified)
}

/// Verifies that a credential lets `peer` serve `desk` as an officer.
pub fn officer(
    signed: &Signed<Credential>,
    descriptor: &Verified<Descriptor>,
    peer: &PeerId,
    desk: &DeskId,
    now: Timestamp,
) -> Result<Verified<Credential>, Fault> {
    let credential = credential(signed, descriptor, now)?;
    if credential.peer != *peer {
        return Err(refuse(Code::WrongSigner, "credential of another node"));
    }
    if credential.role != Role::Officer {
        return Err(refuse(Code::WrongRole, "credential"));
    }
    if !credential.desks.contains(desk) {
        return Err(refuse(Code::WrongDesk, "credential"));
    }
    Ok(credential)
}

/// What a guest waits for when an invite comes.
#[derive(Clone, Debug)]
pub struct InviteExpected {
    /// The desk that the guest joined.
    pub desk: DeskId,
    /// The guest's ticket.
    pub ticket: TicketId,
    /// The guest's key at this agency.
    pub guest: PeerId,
    /// The challenge of the guest's join.
    pub challenge: Challenge,
}

/// A verified invite and the credential inside.
#[derive(Clone, Debug)]
pub struct Invited {
    /// The invite.
    pub invite: Verified<Invite>,
    /// The host's credential.
    pub credential: Verified<Credential>,
}

impl Invited {
    /// The host's node.
    pub fn host(&self) -> PeerId {
        self.credential.peer
    }
}

/// The sequence of the descriptor that an invite names. Nobody has verified it: it is a hint that
/// there may be a newer descriptor.
pub fn named_sequence(invite: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Names {
        descriptor: Sequence,
    }
    #[derive(Deserialize)]
    struct Sequence {
        sequence: u64,
    }
    let signed: Signed<Invite> = Signed::from_bytes(invite.to_vec()).ok()?;
    let names: Names = open(&signed).ok()?.peek().ok()?;
    Some(names.descriptor.sequence)
}

fn invite_under(
    signed: &Signed<Invite>,
    descriptor: &Verified<Descriptor>,
    now: Timestamp,
) -> Result<Invited, Fault> {
    let opened = open(signed)?;
    // The credential inside names the key.
    let inner = opened.peek::<Hosted>()?.credential;
    if inner.is_empty() {
        return Err(refuse(Code::NoCredential, "the officer shows none"));
    }
    let inner = Signed::from_bytes(inner)?;
    let host = match credential(&inner, descriptor, now) {
        Ok(host) => host,
        // Is the officer's credential wrong, or was a byte of a good invite changed? The invite's
        // own signature tells, under the key that the credential claims.
        Err(fault) => {
            let claimed: Spoken = open(&inner)
                .and_then(|inner| inner.peek())
                .map_err(|_| refuse(Code::BadSignature, "invite"))?;
            opened.signed_by(&claimed.peer)?;
            return Err(fault);
        }
    };
    let invite = opened.verify(signed, &host.peer)?;
    in_time("invite", invite.issued_at, invite.not_after, now)?;
    if invite.agency != descriptor.agency {
        return Err(refuse(Code::WrongAgency, "invite"));
    }
    if host.role != Role::Officer {
        return Err(refuse(Code::WrongRole, "invite"));
    }
    if !host.desks.contains(&invite.desk) {
        return Err(refuse(
            Code::WrongDesk,
            "the officer's credential is of another desk",
        ));
    }
    if invite.descriptor.sequence == descriptor.sequence
        && invite.descriptor.hash != descriptor.hash()
    {
        return Err(refuse(
            Code::Equivocation,
            "the officer holds another descriptor of the same sequence",
        ));
    }
    Ok(Invited {
        invite,
        credential: host,
    })
}

/// Verifies an invite that a guest received while it waits for one.
pub fn invite(
    signed: &Signed<Invite>,
    descriptor: &Verified<Descriptor>,
    expected: &InviteExpected,
    now: Timestamp,
) -> Result<Invited, Fault> {
    let invited = invite_under(signed, descriptor, now)?;
    let invite = &invited.invite;
    if invite.desk != expected.desk {
        return Err(refuse(Code::WrongDesk, "invite"));
    }
    if invite.ticket != expected.ticket {
        return Err(refuse(Code::WrongTicket, "invite"));
    }
    if invite.guest != expected.guest {
        return Err(refuse(Code::WrongGuest, "invite"));
    }
    if invite.challenge != expected.challenge {
        return Err(refuse(Code::WrongChallenge, "invite"));
    }
    if invite.role != Role::Citizen {
        return Err(refuse(Code::WrongRole, "invite"));
    }
    if !invite.versions.iter().any(|version| version == ALPN) {
        return Err(refuse(Code::WrongVersion, "invite"));
    }
    let policy = descriptor
        .desk(&invite.desk)
        .ok_or_else(|| refuse(Code::UnknownDesk, "invite"))?;
    if policy.require_pq && !invite.require_pq {
        return Err(refuse(
            Code::PostQuantumRequired,
            "the invite drops the desk's demand",
        ));
    }
    if policy.address_policy != invite.address_policy {
        return Err(refuse(
            Code::WrongDesk,
            "the invite has another address policy than the desk",
        ));
    }
    Ok(invited)
}

/// Verifies the host's own invite, just signed, as its guest will.
pub fn own_invite(
    signed: &Signed<Invite>,
    descriptor: &Verified<Descriptor>,
    now: Timestamp,
) -> Result<Invited, Fault> {
    invite_under(signed, descriptor, now)
}

/// Verifies a guest's hello on a connection with this binding and ALPN.
pub fn hello(
    signed: &Signed<Hello>,
    invited: &Invited,
    binding: &Hash,
    alpn: &str,
    descriptor: &Verified<Descriptor>,
) -> Result<Verified<Hello>, Fault> {
    let hello = open(signed)?.verify(signed, &invited.invite.guest)?;
    if hello.invite != invited.invite.hash() {
        return Err(refuse(Code::WrongInvite, "hello"));
    }
    if hello.binding != *binding {
        return Err(refuse(Code::WrongBinding, "hello"));
    }
    if hello.alpn != alpn {
        return Err(refuse(Code::WrongVersion, "hello"));
    }
    if hello.descriptor.sequence == descriptor.sequence
        && hello.descriptor.hash != descriptor.hash()
    {
        return Err(refuse(
            Code::Equivocation,
            "the guest holds another descriptor of the same sequence",
        ));
    }
    Ok(hello)
}

/// Verifies the host's welcome in answer to `hello`.
pub fn welcome(
    signed: &Signed<Welcome>,
    invited: &Invited,
    hello: &Hash,
    binding: &Hash,
) -> Result<Verified<Welcome>, Fault> {
    let welcome = open(signed)?.verify(signed, &invited.host())?;
    if welcome.invite != invited.invite.hash() {
        return Err(refuse(Code::WrongInvite, "welcome"));
    }
    if welcome.binding != *binding {
        return Err(refuse(Code::WrongBinding, "welcome"));
    }
    if welcome.hello != *hello {
        return Err(refuse(Code::WrongInvite, "welcome to another hello"));
    }
    Ok(welcome)
}

#[cfg(test)]
mod tests;
