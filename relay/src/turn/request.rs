//! Requests (RFC 8489, sections 9.2 and 12; RFC 8656, sections 7 to 13): who asks, whether he may, and the
//! answer. Those who prove nothing get a short one, and few.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use stun_types::attribute::{
    Nonce, PasswordAlgorithm, PasswordAlgorithmValue, PasswordAlgorithms, Realm, Username,
};
use stun_types::message::{
    IntegrityAlgorithm, LongTermCredentials, Message, MessageClass, MessageIntegrityCredentials,
};
use suora_protocol::time::Now;

use super::figures::Figures;
use super::message::{self, Answer, Proof};
use super::pairs::Full;
use super::policy::{Bucket, Place};
use super::table::{Allocation, Asked, Client, Slot};
use super::{Output, Turn};
use crate::grant::User;

/// Longest user name, realm and nonce that are looked at (RFC 8489, section 14 allows 508 and more).
const TEXT: usize = 128;

/// How long an allocation lasts whose client does not say (RFC 8656, section 3.2).
const LIFETIME: Duration = Duration::from_secs(600);

/// UDP, in REQUESTED-TRANSPORT.
const UDP: u8 = 17;

/// Ports that are tried for one allocation.
const TRIES: u8 = 16;

/// Channels. Those from 0x5000 on are left to clients of RFC 5766, which may choose them still.
const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x7fff;

/// A request whose sender is known.
struct Known<'a> {
    client: Client,
    message: &'a Message<'a>,
    user: User,
    proof: Proof,
}

/// What comes of a request: an error's code, or attributes.
type Outcome = Result<Answer, u16>;

impl Turn {
    /// Takes a request of a client.
    pub(super) fn request(&mut self, now: Now, client: Client, packet: &[u8]) {
        let Some(message) = message::read(packet) else {
            return self.drop_one();
        };
        // responses and indications are nothing that is waited for
        if message.class() != MessageClass::Request {
            return self.drop_one();
        }
        match message.method().value() {
            message::BINDING => self.binding(now, client, &message),
            message::ALLOCATE
            | message::REFRESH
            | message::CREATE_PERMISSION
            | message::CHANNEL_BIND => self.authenticate(now, client, &message),
            _ => self.refuse_stranger(now, client, &message, 400),
        }
    }

    fn drop_one(&self) {
        Figures::add(&self.shared.figures.dropped, 1);
    }

    fn say(&mut self, to: Client, bytes: Vec<u8>) {
        self.out.push_back(Output::Say { to, bytes });
    }

    /// Whether one who has proven nothing is answered.
    fn answers(&mut self, now: Now, client: Client) -> bool {
        let stands = self.strangers.take(now.mono, client.address.ip());
        let figures = &self.shared.figures;
        let counter = if stands {
            &figures.answered
        } else {
            &figures.unanswered
        };
        Figures::add(counter, 1);
        stands
    }

    fn binding(&mut self, now: Now, client: Client, message: &Message<'_>) {
        if !self.answers(now, client) {
            return;
        }
        let unknown = unknown(message);
        let answer = if unknown.is_empty() {
            answer(MessageClass::Success, message).with_mapped(client.address)
        } else {
            let error = answer(MessageClass::Error, message).with_error(420);
            error.with_unknown(unknown.get(..4).unwrap_or(&unknown))
        };
        self.say(client, answer.finish(None, has_fingerprint(message)));
    }

    fn refuse_stranger(&mut self, now: Now, client: Client, message: &Message<'_>, code: u16) {
        Figures::add(&self.shared.figures.refused, 1);
        if !self.answers(now, client) {
            return;
        }
        let mut error = answer(MessageClass::Error, message).with_error(code);
        if matches!(code, 401 | 438) {
            let nonce = self.rules.secret.nonce(now.utc);
            error = error.with_challenge(&self.rules.realm, &nonce);
        }
        self.say(client, error.finish(None, has_fingerprint(message)));
    }

    fn authenticate(&mut self, now: Now, client: Client, message: &Message<'_>) {
        let (user, proof) = match self.identify(now, message) {
            Ok(known) => known,
            Err(code) => return self.refuse_stranger(now, client, message, code),
        };
        let known = Known {
            client,
            message,
            user,
            proof,
        };
        let unknown = unknown(message);
        if !unknown.is_empty() {
            let error = answer(MessageClass::Error, message).with_error(420);
            return self.finish(&known, error.with_unknown(&unknown));
        }
        let outcome = match message.method().value() {
            message::ALLOCATE => match self.allocate(now, &known) {
                Ok(Some(answer)) => Ok(answer),
                // its socket first
                Ok(None) => return,
                Err(code) => Err(code),
            },
            message::REFRESH => self.refresh(now, &known),
            message::CREATE_PERMISSION => self.create_permission(now, &known),
            _ => self.channel_bind(now, &known),
        };
        match outcome {
            Ok(answer) => self.finish(&known, answer),
            Err(code) => {
                Figures::add(&self.shared.figures.refused, 1);
                let error = answer(MessageClass::Error, message).with_error(code);
                self.finish(&known, error);
            }
        }
    }

    fn finish(&mut self, known: &Known<'_>, answer: Answer) {
        let bytes = answer.finish(Some(&known.proof), has_fingerprint(known.message));
        self.say(known.client, bytes);
    }

    /// Who asks, or the code of what is missing. The nonce comes first: whoever has none of this
    /// relay costs one hash.
    fn identify(&self, now: Now, message: &Message<'_>) -> Result<(User, Proof), u16> {
        let is_sha256 = message::has(message, message::INTEGRITY_SHA256);
        if !is_sha256 && !message::has(message, message::INTEGRITY) {
            return Err(401);
        }
        let nonce = message.attribute::<Nonce>().map_err(|_| 400_u16)?;
        let name = message.attribute::<Username>().map_err(|_| 400_u16)?;
        let realm = message.attribute::<Realm>().map_err(|_| 400_u16)?;
        let (nonce, name, realm) = (nonce.nonce(), name.username(), realm.realm());
        if [nonce, name, realm].iter().any(|text| text.len() > TEXT) {
            return Err(400);
        }
        algorithm(message, is_sha256)?;
        if !self.rules.secret.takes(now.utc, nonce) {
            return Err(438);
        }
        let user = User::parse(name).ok_or(401_u16)?;
        if realm != self.rules.realm || user.until <= now.utc {
            return Err(401);
        }
        let proof = self.proof(name, is_sha256);
        let stands = message.validate_integrity_with_key(&proof.key);
        stands.map_err(|_| 401_u16)?;
        Ok((user, proof))
    }

    fn proof(&self, name: &str, is_sha256: bool) -> Proof {
        let password = self.rules.secret.password(name);
        let user = LongTermCredentials::new(name.into(), password);
        let key = MessageIntegrityCredentials::from(user.to_key(self.rules.realm.clone()));
        let algorithm = if is_sha256 {
            IntegrityAlgorithm::Sha256
        } else {
            IntegrityAlgorithm::Sha1
        };
        Proof {
            key: key.make_key(algorithm),
            algorithm,
        }
    }

    /// The allocation of a client, which has to be of the user's pair.
    fn own(&mut self, known: &Known<'_>) -> Result<(Slot, &mut Allocation), u16> {
        let (slot, allocation) = self.table.of(&known.client).ok_or(437_u16)?;
        if allocation.user.pair != known.user.pair {
            return Err(441);
        }
        if !allocation.stands {
            return Err(437);
        }
        Ok((slot, allocation))
    }

    fn allocate(&mut self, now: Now, known: &Known<'_>) -> Result<Option<Answer>, u16> {
        let message = known.message;
        let transaction: u128 = message.transaction_id().into();
        if let Some((slot, allocation)) = self.table.of(&known.client) {
            let is_repeated = allocation.asked.transaction == transaction
                && allocation.user.pair == known.user.pair;
            if !is_repeated {
                return Err(437);
            }
            if !allocation.stands {
                return Ok(None);
            }
            return Ok(self.allocated(now, slot));
        }
        let transport = message::value::<4>(message, message::REQUESTED_TRANSPORT);
        let [transport, ..] = transport.ok_or(400_u16)?;
        if transport != UDP {
            return Err(442);
        }
        let even = even(message)?;
        if message::has(message, message::RESERVATION_TOKEN) {
            let has_more = even.is_some() || family(message)?.is_some();
            return Err(if has_more { 400 } else { 508 });
        }
        if even == Some(true) {
            // no port is kept for later
            return Err(508);
        }
        let is_v6 = family(message)?.unwrap_or(false);
        let mut external = self.rules.policy.external.iter();
        let ip = external.find(|ip| ip.is_ipv6() == is_v6).copied();
        let ip = ip.ok_or(440_u16)?;
        let lifetime = self.lifetime(now, known.user, message);
        let quotas = self.rules.quotas;
        let common = self.shared.pairs.enter(known.user, now.utc, &quotas);
        let common = common.map_err(|full| match full {
            Full::Pair => 486_u16,
            Full::Relay => 508,
        })?;
        let asked = Asked {
            transaction,
            sha256: known.proof.algorithm == IntegrityAlgorithm::Sha256,
            fingerprint: has_fingerprint(message),
            even: even.is_some(),
            tries: 0,
        };
        let slot = self.table.insert(Allocation {
            client: known.client,
            relayed: SocketAddr::new(ip, 0),
            user: known.user,
            common,
            until: now.mono + lifetime,
            lifetime,
            asked,
            stands: false,
            permissions: Vec::new(),
            bindings: Vec::new(),
            sends: Bucket::new(quotas.rate, now.mono),
            receives: Bucket::new(quotas.rate, now.mono),
        });
        match slot {
            Some(slot) => self.try_port(now, slot),
            None => {
                self.shared.pairs.leave(known.user.pair, now.utc);
                return Err(508);
            }
        }
        Ok(None)
    }

    /// Asks for a socket at another port of this shard.
    fn try_port(&mut self, now: Now, slot: Slot) {
        let Some(allocation) = self.table.get(slot) else {
            return;
        };
        allocation.asked.tries += 1;
        let (ip, asked) = (allocation.relayed.ip(), allocation.asked);
        if asked.tries <= TRIES
            && let Some(port) = self.port(ip, asked.even)
        {
            let at = SocketAddr::new(ip, port);
            if let Some(allocation) = self.table.get(slot) {
                allocation.relayed = at;
            }
            self.out.push_back(Output::Open { slot, at });
            return;
        }
        let refused = self.table.remove(slot);
        if let Some(allocation) = refused {
            self.shared.pairs.leave(allocation.user.pair, now.utc);
            Figures::add(&self.shared.figures.refused, 1);
            let error = Answer::new(
                MessageClass::Error,
                message::ALLOCATE,
                allocation.asked.transaction,
            );
            self.answer_asked(&allocation, error.with_error(508));
        }
    }

    /// A port at random that is this shard's and not in use by it: shards take turns by twos, so that
    /// each has even ones too.
    fn port(&mut self, ip: IpAddr, even: bool) -> Option<u16> {
        let (first, last) = self.rules.policy.ports;
        for _ in 0..64 {
            let width = u64::from(last - first) + 1;
            let port = first.checked_add(u16::try_from(self.draw.below(width)).ok()?)?;
            let port = if even { port & !1 } else { port };
            let of = usize::from(port / 2) % self.of.1.max(1);
            let is_free = (first..=last).contains(&port) && of == self.of.0;
            if is_free && !self.table.has_relayed(SocketAddr::new(ip, port)) {
                return Some(port);
            }
        }
        None
    }

    /// The socket stands, or does not.
    pub(super) fn opened(&mut self, now: Now, slot: Slot, stands: bool) {
        let Some(allocation) = self.table.get(slot).filter(|one| !one.stands) else {
            return;
        };
        if !stands {
            return self.try_port(now, slot);
        }
        allocation.stands = true;
        Figures::add(&self.shared.figures.allocated, 1);
        self.publish(slot);
        if let Some(answer) = self.allocated(now, slot)
            && let Some(allocation) = self.table.get(slot)
        {
            let (asked, client) = (allocation.asked, allocation.client);
            let proof = self.proof_of(slot);
            let bytes = answer.finish(proof.as_ref(), asked.fingerprint);
            self.say(client, bytes);
        }
    }

    fn proof_of(&mut self, slot: Slot) -> Option<Proof> {
        let allocation = self.table.get(slot)?;
        let (name, sha256) = (allocation.user.name(), allocation.asked.sha256);
        Some(self.proof(&name, sha256))
    }

    fn answer_asked(&mut self, allocation: &Allocation, answer: Answer) {
        let proof = self.proof(&allocation.user.name(), allocation.asked.sha256);
        let bytes = answer.finish(Some(&proof), allocation.asked.fingerprint);
        self.say(allocation.client, bytes);
    }

    /// The answer to the Allocate that made an allocation.
    fn allocated(&mut self, now: Now, slot: Slot) -> Option<Answer> {
        let allocation = self.table.get(slot)?;
        let left = allocation.until.saturating_duration_since(now.mono);
        let kind = MessageClass::Success;
        let answer = Answer::new(kind, message::ALLOCATE, allocation.asked.transaction);
        let answer = answer
            .with_address(message::XOR_RELAYED_ADDRESS, allocation.relayed)
            .with_mapped(allocation.client.address)
            .with_raw(message::LIFETIME, &seconds(left.min(allocation.lifetime)));
        Some(answer)
    }

    /// As long as asked for, within the bounds, and never beyond the grant.
    fn lifetime(&self, now: Now, user: User, message: &Message<'_>) -> Duration {
        let asked = message::value::<4>(message, message::LIFETIME).map(u32::from_be_bytes);
        let asked = asked.map_or(LIFETIME, |secs| Duration::from_secs(secs.into()));
        asked
            .max(LIFETIME)
            .min(self.rules.quotas.lifetime)
            .min(user.until.since(now.utc))
    }

    fn refresh(&mut self, now: Now, known: &Known<'_>) -> Outcome {
        let lifetime = self.lifetime(now, known.user, known.message);
        let is_v6 = family(known.message)?;
        let (slot, allocation) = self.own(known)?;
        if is_v6.is_some_and(|is_v6| is_v6 != allocation.relayed.is_ipv6()) {
            return Err(443);
        }
        let answer = answer(MessageClass::Success, known.message);
        if message::value::<4>(known.message, message::LIFETIME) == Some([0; 4]) {
            self.end(now, slot);
            return Ok(answer.with_raw(message::LIFETIME, &[0; 4]));
        }
        // a newer grant of the pair goes on where the last one ends
        allocation.user = known.user;
        allocation.lifetime = lifetime;
        self.table.prolong(slot, now.mono + lifetime);
        self.publish(slot);
        Ok(answer.with_raw(message::LIFETIME, &seconds(lifetime)))
    }

    fn create_permission(&mut self, now: Now, known: &Known<'_>) -> Outcome {
        let peers = message::peers(known.message).filter(|peers| !peers.is_empty());
        let peers = peers.ok_or(400_u16)?;
        let rules = self.rules.clone();
        let (slot, allocation) = self.own(known)?;
        let is_v6 = allocation.relayed.is_ipv6();
        if peers.iter().any(|peer| peer.is_ipv6() != is_v6) {
            return Err(443);
        }
        let ips: Vec<IpAddr> = peers.iter().map(SocketAddr::ip).collect();
        if ips.iter().any(|ip| rules.policy.judge_ip(*ip).is_err()) {
            return Err(403);
        }
        if !allocation.has_room(&ips, &rules.policy, now.mono) {
            return Err(508);
        }
        for ip in ips {
            allocation.permit(ip, &rules.policy, now.mono);
        }
        self.publish(slot);
        Ok(answer(MessageClass::Success, known.message))
    }

    fn channel_bind(&mut self, now: Now, known: &Known<'_>) -> Outcome {
        let number = message::value::<4>(known.message, message::CHANNEL_NUMBER);
        let [high, low, ..] = number.ok_or(400_u16)?;
        let channel = u16::from_be_bytes([high, low]);
        let peers = message::peers(known.message).ok_or(400_u16)?;
        let peer = *peers.first().ok_or(400_u16)?;
        if !CHANNELS.contains(&channel) {
            return Err(400);
        }
        let rules = self.rules.clone();
        let (slot, allocation) = self.own(known)?;
        if peer.is_ipv6() != allocation.relayed.is_ipv6() {
            return Err(443);
        }
        match rules.policy.judge(peer) {
            Ok(Place::Outside) => {}
            // another pair's is nobody's
            Ok(Place::Relayed) if allocation.common.has_member(peer, now.mono) => {}
            _ => return Err(403),
        }
        if !allocation.has_room(&[peer.ip()], &rules.policy, now.mono) {
            return Err(508);
        }
        match allocation.bind(channel, peer, now.mono) {
            Some(true) => {}
            Some(false) => return Err(508),
            None => return Err(400),
        }
        allocation.permit(peer.ip(), &rules.policy, now.mono);
        self.publish(slot);
        Ok(answer(MessageClass::Success, known.message))
    }

    /// Shows the pair's other end how this one is.
    fn publish(&mut self, slot: Slot) {
        let rules = Arc::clone(&self.rules);
        if let Some(allocation) = self.table.get(slot) {
            allocation.common.publish(allocation.member(&rules.policy));
        }
    }

    /// An allocation ends.
    pub(super) fn end(&mut self, now: Now, slot: Slot) {
        if let Some(allocation) = self.table.remove(slot) {
            allocation.common.withdraw(allocation.relayed);
            self.shared.pairs.leave(allocation.user.pair, now.utc);
            self.out.push_back(Output::Close { slot });
        }
    }
}

fn answer(class: MessageClass, to: &Message<'_>) -> Answer {
    Answer::new(class, to.method().value(), to.transaction_id().into())
}

/// In whole seconds; the rest of one does not count.
fn seconds(duration: Duration) -> [u8; 4] {
    u32::try_from(duration.as_secs())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
}

fn has_fingerprint(message: &Message<'_>) -> bool {
    message::has(message, 0x8028)
}

/// Attributes of a request that would have to be known.
fn unknown(message: &Message<'_>) -> Vec<u16> {
    let kinds = message
        .iter_attributes()
        .map(|(_, attribute)| message::kind(&attribute));
    let mut unknown: Vec<u16> = kinds.filter(|kind| message::must_be_known(*kind)).collect();
    unknown.sort_unstable();
    unknown.dedup();
    unknown.truncate(16);
    unknown
}

/// Whether a client says which password algorithm it uses, and uses it (RFC 8489, section 9.2.4). MD5 goes
/// with SHA-1, SHA-256 with SHA-256.
fn algorithm(message: &Message<'_>, is_sha256: bool) -> Result<(), u16> {
    let has = |kind| message::has(message, kind);
    let chosen = match (
        has(message::PASSWORD_ALGORITHM),
        has(message::PASSWORD_ALGORITHMS),
    ) {
        (false, false) => PasswordAlgorithmValue::MD5,
        (true, true) => {
            let all = message
                .attribute::<PasswordAlgorithms>()
                .map_err(|_| 400_u16)?;
            let one = message
                .attribute::<PasswordAlgorithm>()
                .map_err(|_| 400_u16)?;
            // somebody on the way would have the weaker one
            let ours = [PasswordAlgorithmValue::SHA256, PasswordAlgorithmValue::MD5];
            if all.algorithms() != ours {
                return Err(400);
            }
            one.algorithm()
        }
        _ => return Err(400),
    };
    if (chosen == PasswordAlgorithmValue::SHA256) == is_sha256 {
        Ok(())
    } else {
        Err(400)
    }
}

/// Whether an even port is wanted, and the next one with it.
fn even(message: &Message<'_>) -> Result<Option<bool>, u16> {
    if !message::has(message, message::EVEN_PORT) {
        return Ok(None);
    }
    let [flags] = message::value(message, message::EVEN_PORT).ok_or(400_u16)?;
    Ok(Some(flags & 0x80 != 0))
}

/// The family that is asked for, if any: whether it is IPv6.
fn family(message: &Message<'_>) -> Result<Option<bool>, u16> {
    if !message::has(message, message::REQUESTED_ADDRESS_FAMILY) {
        return Ok(None);
    }
    match message::value::<4>(message, message::REQUESTED_ADDRESS_FAMILY) {
        Some([1, ..]) => Ok(Some(false)),
        Some([2, ..]) => Ok(Some(true)),
        _ => Err(440),
    }
}
