//! The connectivity checks of one session (RFC 8445, RFC 7675; `spec/setup.md`, section 6). Pure.
//!
//! An agent proves ways to the other end, and keeps them proven; which of them is used is
//! [`super::select`]'s. Both ends may send on a way as soon as they proved it: nobody waits for a
//! nomination, which only makes both use the same one in the end.
//!
//! The first four bytes of a check's transaction id count up. A check that somebody repeats is
//! not answered, whatever address it comes from.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod check;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use stun_types::message::{BINDING, Message, MessageClass, TransactionId};
use suora_protocol::identity::Draw;
use suora_protocol::wire::path::Kind;

use self::check::{Check, Creds, Role};
use super::candidates::{Way, pair_priority, preference, priority};
use super::stun;

/// Most pairs of a session.
pub const PAIRS_MAX: usize = 40;
/// Of these, found by checks of the other end.
const REFLEXIVE_MAX: usize = 8;
/// Most checks in a second.
pub const CHECKS_MAX: usize = 20;
/// Of these, checks that the other end's caused, and others than of the way in use.
const TRIGGERED_MAX: usize = 17;
const ORDINARY_MAX: usize = 14;
/// So many leave at once; then one in [`PACE`].
const BURST: usize = 6;
/// `Ta` of RFC 8445.
const PACE: Duration = Duration::from_millis(50);
/// While the way in use is in doubt, it is checked so often.
const DOUBT: Duration = Duration::from_millis(100);
/// The way in use is checked so often: RFC 7675 asks for 5 s.
const KEEP: Duration = Duration::from_secs(2);
/// Another proven way, so that its mapping lives.
const SPARE: Duration = Duration::from_secs(5);
/// Retries of a way that nobody answers on.
const RETRIES: [u64; 4] = [100, 200, 400, 600];
/// After so many a way is checked more rarely.
const FAST: u32 = 10;
/// How long a proof lasts without another: RFC 7675 section 5.1.
pub const FRESH: Duration = Duration::from_secs(30);
/// Checks of a pair whose answer is awaited.
const AWAITED: usize = 8;

/// What the checks say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this.
    Send(Way, Vec<u8>),
    /// A check was answered: the way works both ways, with this round trip and jitter.
    Proven(Way, Duration, Duration),
    /// A signed check came this way: packets that come from there are the other end's.
    Heard(Way),
    /// One came from where nothing of the other end was known to be.
    Stranger,
    /// The controlling end uses this way.
    Nominated(Way),
}

#[derive(Clone, Copy, Debug)]
struct Proof {
    at: Instant,
    trip: Duration,
    jitter: Duration,
}

#[derive(Debug)]
struct Pair {
    way: Way,
    remote: Kind,
    priority: u64,
    /// Found by the other end's check, not told.
    reflexive: bool,
    triggered: bool,
    tries: u32,
    due: Instant,
    awaited: VecDeque<(TransactionId, Instant)>,
    proof: Option<Proof>,
}

/// Which counts of the other end's checks were seen.
#[derive(Debug, Default)]
struct Seen {
    most: u32,
    /// Bit n: `most - n`.
    bits: u128,
}

impl Seen {
    /// Whether a count is new; it is not a second time, nor if it is very old.
    fn take(&mut self, count: u32) -> bool {
        if self.bits == 0 || count > self.most {
            let ahead = if self.bits == 0 {
                128
            } else {
                count - self.most
            };
            self.bits = self.bits.checked_shl(ahead).unwrap_or(0) | 1;
            self.most = count;
            return true;
        }
        let Some(bit) = 1u128.checked_shl(self.most - count) else {
            return false;
        };
        let new = self.bits & bit == 0;
        self.bits |= bit;
        new
    }
}

/// The agent of one end of a session.
#[derive(Debug)]
pub struct Agent {
    role: Role,
    own: Creds,
    theirs: Option<Creds>,
    draw: Draw,
    count: u32,
    seen: Seen,
    pairs: Vec<Pair>,
    in_use: Option<Way>,
    doubt: bool,
    sent: VecDeque<Instant>,
    paced: Option<Instant>,
    blocked: Option<Instant>,
    out: VecDeque<Output>,
}

/// The count in a transaction's id.
fn count_of(id: TransactionId) -> u32 {
    u32::try_from(u128::from(id) >> 64 & u128::from(u32::MAX)).unwrap_or(0)
}

impl Agent {
    /// An agent with creds of its own; the controlling end is the guest.
    pub fn new(controlling: bool, mut draw: Draw) -> Self {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let text = |bytes: &[u8]| -> String {
            bytes
                .iter()
                .filter_map(|byte| ALPHABET.get(usize::from(*byte & 63)))
                .map(|letter| char::from(*letter))
                .collect()
        };
        let (ufrag, pwd) = (text(&draw.bytes::<8>()), text(&draw.bytes::<24>()));
        let tie = u64::from_be_bytes(draw.bytes());
        Self {
            role: Role { controlling, tie },
            own: Creds::new(ufrag, pwd),
            theirs: None,
            draw,
            count: 0,
            seen: Seen::default(),
            pairs: Vec::new(),
            in_use: None,
            doubt: false,
            sent: VecDeque::new(),
            paced: None,
            blocked: None,
            out: VecDeque::new(),
        }
    }

    /// Our creds, for the other end.
    pub const fn own(&self) -> &Creds {
        &self.own
    }

    /// Whether the other end's creds are known.
    pub const fn stands(&self) -> bool {
        self.theirs.is_some()
    }

    /// The other end's creds. Others than before begin a new count of its checks.
    pub fn creds(&mut self, ufrag: &str, pwd: &str) {
        let same = |known: &Creds| known.ufrag == ufrag && known.pwd == pwd;
        if !self.theirs.as_ref().is_some_and(same) {
            if self.theirs.is_some() {
                self.seen = Seen::default();
            }
            self.theirs = Some(Creds::new(ufrag.into(), pwd.into()));
        }
    }

    /// The ways there are now, with the kinds of our and of the other end's address. Those that are
    /// known stay as they are; what the other end's checks found stays while it is proven.
    pub fn ways(&mut self, now: Instant, ways: &[(Way, Kind, Kind)]) {
        let listed = |way: Way| ways.iter().any(|(one, ..)| *one == way);
        let in_use = self.in_use;
        self.pairs.retain(|pair| {
            listed(pair.way) || pair.reflexive || pair.proof.is_some() || in_use == Some(pair.way)
        });
        for (way, local, remote) in ways {
            let (ours, theirs) = (priority(*local, way.1), priority(*remote, way.1));
            let priority = if self.role.controlling {
                pair_priority(ours, theirs)
            } else {
                pair_priority(theirs, ours)
            };
            match self.pairs.iter_mut().find(|pair| pair.way == *way) {
                Some(pair) => {
                    pair.remote = *remote;
                    pair.priority = priority;
                }
                None => self
                    .pairs
                    .push(new_pair(now, *way, *remote, priority, false)),
            }
        }
        self.pairs
            .sort_by_key(|pair| std::cmp::Reverse((in_use == Some(pair.way), pair.priority)));
        self.pairs.truncate(PAIRS_MAX);
    }

    /// The way in use, and whether it is in doubt. A change is checked at once, so that the other
    /// end hears of it.
    pub fn in_use(&mut self, now: Instant, way: Way, doubt: bool) {
        if self.in_use != Some(way) {
            self.in_use = Some(way);
            if !self.pairs.iter().any(|pair| pair.way == way) {
                self.pairs.push(new_pair(now, way, Kind::Unknown, 0, true));
            }
            if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.way == way) {
                pair.due = now;
            }
        }
        self.doubt = doubt;
        self.tick(now);
    }

    /// Checks all ways at once.
    pub fn check_all(&mut self, now: Instant) {
        for pair in &mut self.pairs {
            pair.tries = 0;
            pair.due = now;
        }
        self.tick(now);
    }

    /// Ways are no more.
    pub fn gone(&mut self, is_gone: impl Fn(Way) -> bool) {
        self.pairs.retain(|pair| !is_gone(pair.way));
        if self.in_use.is_some_and(is_gone) {
            self.in_use = None;
        }
    }

    /// Since when a check of a way waits for an answer, while none came after it.
    pub fn unanswered(&self, way: Way) -> Option<Instant> {
        let pair = self.pairs.iter().find(|pair| pair.way == way)?;
        pair.awaited.front().map(|(_, at)| *at)
    }

    /// Whether a request is for this end, by its name.
    pub fn is_named(&self, request: &Message<'_>) -> bool {
        self.own.named(request)
    }

    /// Whether an answer is to a check of ours on this way.
    pub fn awaits(&self, way: Way, answer: &Message<'_>) -> bool {
        let id = answer.transaction_id();
        let awaited = |pair: &Pair| pair.awaited.iter().any(|(one, _)| *one == id);
        self.pairs
            .iter()
            .any(|pair| pair.way == way && awaited(pair))
    }

    /// A check of the other end. What is not signed, or came before, is not answered.
    pub fn requested(&mut self, now: Instant, way: Way, request: &Message<'_>) {
        if request.method() != BINDING
            || !request.has_class(MessageClass::Request)
            || !self.own.named(request)
            || !self.own.signed(request)
            || !self.seen.take(count_of(request.transaction_id()))
        {
            return;
        }
        let Some(check) = check::read(request) else {
            return;
        };
        if check.role.controlling == self.role.controlling {
            // the larger number controls: RFC 8445 section 7.3.1.1
            if (self.role.tie >= check.role.tie) == self.role.controlling {
                if let Some(bytes) = check::conflict(request, &self.own) {
                    self.out.push_back(Output::Send(way, bytes));
                }
                return;
            }
            self.role.controlling = !self.role.controlling;
        }
        if !self.pairs.iter().any(|pair| pair.way == way) {
            let found = self.pairs.iter().filter(|pair| pair.reflexive).count();
            if found >= REFLEXIVE_MAX || self.pairs.len() >= PAIRS_MAX {
                let in_use = self.in_use;
                let stale = |pair: &Pair| {
                    pair.reflexive && in_use != Some(pair.way) && !is_fresh(now, pair)
                };
                match self.pairs.iter().position(stale) {
                    Some(at) => drop(self.pairs.remove(at)),
                    None => return,
                }
            }
            let theirs = check.priority;
            let priority = pair_priority(theirs, priority(Kind::Reflexive, way.1));
            self.pairs
                .push(new_pair(now, way, Kind::Unknown, priority, true));
            self.out.push_back(Output::Stranger);
        }
        if let Some(bytes) = check::yes(request, way.1, &self.own) {
            self.out.push_back(Output::Send(way, bytes));
        }
        if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.way == way)
            && !is_fresh(now, pair)
        {
            pair.triggered = true;
            pair.tries = 0;
            pair.due = now;
        }
        self.out.push_back(Output::Heard(way));
        if check.nominates && !self.role.controlling {
            self.out.push_back(Output::Nominated(way));
        }
        self.tick(now);
    }

    /// An answer to a check, from where the check went.
    pub fn answered(&mut self, now: Instant, way: Way, answer: &Message<'_>) {
        let signed = self.theirs.as_ref().is_some_and(|it| it.signed(answer));
        let Some(pair) = self.pairs.iter_mut().find(|pair| pair.way == way) else {
            return;
        };
        let id = answer.transaction_id();
        let Some(at) = pair.awaited.iter().position(|(one, _)| *one == id) else {
            return;
        };
        if !signed || answer.method() != BINDING || !answer.is_response() {
            return;
        }
        let asked = pair.awaited.get(at).map_or(now, |(_, asked)| *asked);
        if check::is_conflict(answer) {
            pair.awaited.clear();
            pair.due = now;
            self.role.controlling = !self.role.controlling;
            return self.tick(now);
        }
        if !answer.has_class(MessageClass::Success) {
            return;
        }
        pair.awaited.drain(..=at);
        let trip = now.saturating_duration_since(asked);
        let proof = match pair.proof {
            Some(old) => Proof {
                at: now,
                trip: (old.trip * 3 + trip) / 4,
                jitter: (old.jitter * 3 + old.trip.abs_diff(trip)) / 4,
            },
            None => Proof {
                at: now,
                trip,
                jitter: trip / 8,
            },
        };
        pair.proof = Some(proof);
        (pair.tries, pair.triggered) = (0, false);
        let in_use = self.in_use == Some(way);
        pair.due = now + interval(pair, true, in_use, self.doubt && in_use);
        self.out
            .push_back(Output::Proven(way, proof.trip, proof.jitter));
    }

    /// Time passed: sends the checks that are due, within the bounds.
    pub fn tick(&mut self, now: Instant) {
        let past = |sent: &Instant| now.saturating_duration_since(*sent) >= Duration::from_secs(1);
        while self.sent.front().is_some_and(past) {
            self.sent.pop_front();
        }
        self.blocked = None;
        let Some(theirs) = self.theirs.clone() else {
            return;
        };
        let in_use = self.in_use;
        loop {
            // the way in use first, then what the other end waits for, then proven ways, then by rank
            let next = self
                .pairs
                .iter_mut()
                .filter(|pair| now >= pair.due)
                .max_by_key(|pair| {
                    let first = in_use == Some(pair.way);
                    let rarely = pair.tries < FAST;
                    (
                        first,
                        pair.triggered,
                        rarely,
                        pair.proof.is_some(),
                        pair.priority,
                    )
                });
            let Some(pair) = next else {
                return;
            };
            let first = in_use == Some(pair.way);
            let paced = self
                .paced
                .is_none_or(|last| now.saturating_duration_since(last) >= PACE);
            let count = self.sent.len();
            let may = if first {
                count < CHECKS_MAX
            } else if pair.triggered {
                count < TRIGGERED_MAX
            } else {
                count < BURST || (paced && count < ORDINARY_MAX)
            };
            if !may {
                self.blocked = Some(now + Duration::from_millis(10));
                return;
            }
            let [a, b, c, d] = self.count.to_be_bytes();
            let [e, f, g, h, i, j, k, l] = self.draw.bytes::<8>();
            self.count = self.count.wrapping_add(1);
            let id = stun::transaction([a, b, c, d, e, f, g, h, i, j, k, l]);
            // as the other end would find it by this check: peer-reflexive, RFC 8445 section 7.1.1
            let kind = match pair.way.0 {
                super::candidates::Base::Socket(_) => preference(Kind::Reflexive) + 10,
                super::candidates::Base::Relay(_) => preference(Kind::Relayed),
            };
            let check = Check {
                role: self.role,
                priority: (kind << 24) + (65_534 << 8) + 255,
                nominates: self.role.controlling && first,
            };
            pair.tries += 1;
            pair.triggered = false;
            let fresh = is_fresh(now, pair) && pair.awaited.is_empty();
            pair.due = now + interval(pair, fresh && !first, first, self.doubt && first);
            if let Some(bytes) = check::request(check, id, &theirs, &self.own.ufrag) {
                if pair.awaited.len() >= AWAITED {
                    // the oldest says since when nobody answers
                    pair.awaited.remove(1);
                }
                pair.awaited.push_back((id, now));
                self.sent.push_back(now);
                if !first {
                    self.paced = Some(now);
                }
                self.out.push_back(Output::Send(pair.way, bytes));
            }
        }
    }

    /// When time has to pass next.
    pub fn deadline(&self) -> Option<Instant> {
        self.theirs.as_ref()?;
        let due = self.pairs.iter().map(|pair| pair.due).min()?;
        Some(self.blocked.map_or(due, |blocked| due.max(blocked)))
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }
}

fn new_pair(now: Instant, way: Way, remote: Kind, priority: u64, reflexive: bool) -> Pair {
    Pair {
        way,
        remote,
        priority,
        reflexive,
        triggered: false,
        tries: 0,
        due: now,
        awaited: VecDeque::new(),
        proof: None,
    }
}

fn is_fresh(now: Instant, pair: &Pair) -> bool {
    let fresh = |proof: Proof| now.saturating_duration_since(proof.at) < FRESH;
    pair.proof.is_some_and(fresh)
}

/// Until a pair is checked again.
fn interval(pair: &Pair, answered: bool, in_use: bool, doubt: bool) -> Duration {
    if doubt {
        return DOUBT;
    }
    if in_use && answered {
        return KEEP;
    }
    if answered {
        return SPARE;
    }
    let retry = pair.tries.saturating_sub(1) as usize;
    match RETRIES.get(retry) {
        Some(ms) => Duration::from_millis(*ms),
        None if pair.tries < FAST => Duration::from_millis(600),
        None if in_use => Duration::from_millis(600),
        None if pair.tries < 3 * FAST => KEEP,
        None => SPARE,
    }
}

#[cfg(test)]
mod tests;
