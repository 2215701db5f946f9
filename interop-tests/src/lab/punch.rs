//! PURE: plain UDP punching, one socket each: both send to every address of the other until an
//! answer comes from the very address that was asked, as ICE wants it (RFC 8445 section 7.2.5.2.1).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// How often each address is asked.
pub const BEAT: Duration = Duration::from_millis(50);
/// Addresses of the other that are asked, learnt ones included.
const ADDRESSES_MAX: usize = 8;
/// Questions whose address is remembered.
const ASKED_MAX: usize = 512;
/// Bytes of a question or answer.
const LEN: usize = 16;
/// First bytes: below 4, as STUN's (RFC 9443), so that no wire counts them as media.
const MAGIC: [u8; 2] = [0, b'p'];
const ASK: u8 = 1;
const ANSWER: u8 = 2;

/// What happens to a puncher.
#[derive(Debug)]
pub enum Input<'a> {
    /// A packet came.
    Packet(SocketAddr, &'a [u8]),
    /// Time passed.
    Tick,
}

/// What a puncher wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this there.
    Send(SocketAddr, Vec<u8>),
    /// Nothing until then.
    Wait(Duration),
}

/// One end.
#[derive(Debug)]
pub struct Puncher {
    pair: [u8; 8],
    side: u8,
    addresses: Vec<SocketAddr>,
    asked: BTreeMap<u32, SocketAddr>,
    number: u32,
    next: Duration,
    proven: BTreeMap<SocketAddr, Duration>,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Puncher {
    /// An end of the pair `pair`: `side` is 0 or 1. It begins at `now` to ask the other's
    /// `addresses`, of which the first eight count.
    pub fn new(now: Duration, pair: [u8; 8], side: u8, addresses: &[SocketAddr]) -> Self {
        Self {
            pair,
            side,
            addresses: addresses.iter().copied().take(ADDRESSES_MAX).collect(),
            asked: BTreeMap::new(),
            number: 0,
            next: now,
            proven: BTreeMap::new(),
            out: VecDeque::new(),
        }
    }

    /// Addresses of the other from which answers to own questions came, and when first.
    pub const fn proven(&self) -> &BTreeMap<SocketAddr, Duration> {
        &self.proven
    }

    /// Something happened.
    pub fn handle_input(&mut self, now: Duration, input: Input<'_>) {
        if let Input::Packet(from, bytes) = input {
            self.packet(now, from, bytes);
        }
        if now >= self.next {
            self.next = now + BEAT;
            for to in self.addresses.clone() {
                self.ask(to);
            }
        }
    }

    /// What it wants next, until it waits.
    pub fn poll_output(&mut self) -> Output {
        match self.out.pop_front() {
            Some((to, bytes)) => Output::Send(to, bytes),
            None => Output::Wait(self.next),
        }
    }

    fn ask(&mut self, to: SocketAddr) {
        self.number = self.number.wrapping_add(1);
        self.asked.insert(self.number, to);
        if self.asked.len() > ASKED_MAX {
            self.asked.pop_first();
        }
        let bytes = self.bytes(ASK, self.number);
        self.out.push_back((to, bytes));
    }

    fn bytes(&self, what: u8, number: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend(MAGIC);
        bytes.extend([what, self.side]);
        bytes.extend(self.pair);
        bytes.extend(number.to_be_bytes());
        bytes
    }

    fn packet(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) {
        let Some((what, number)) = self.read(bytes) else {
            return;
        };
        if what == ASK {
            let answer = self.bytes(ANSWER, number);
            self.out.push_back((from, answer));
            if !self.addresses.contains(&from) && self.addresses.len() < ADDRESSES_MAX {
                self.addresses.push(from);
                self.ask(from);
            }
        } else if self.asked.get(&number) == Some(&from) {
            self.proven.entry(from).or_insert(now);
        }
    }

    /// What the other end of this pair said: never an own packet that came back, nor one of
    /// another pair.
    fn read(&self, bytes: &[u8]) -> Option<(u8, u32)> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        let [a, b, what, side, rest @ ..] = bytes;
        let (pair, number) = rest.split_at(8);
        let ours = [*a, *b] == MAGIC && pair == self.pair && *side != self.side;
        let number = u32::from_be_bytes(number.try_into().ok()?);
        (ours && [ASK, ANSWER].contains(what)).then_some((*what, number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([198, 18, 0, 1], port))
    }

    fn drained(puncher: &mut Puncher) -> Vec<(SocketAddr, Vec<u8>)> {
        std::iter::from_fn(|| match puncher.poll_output() {
            Output::Send(to, bytes) => Some((to, bytes)),
            Output::Wait(_) => None,
        })
        .collect()
    }

    /// Two ends that have begun, and the first question of each.
    fn pair() -> (Puncher, Puncher, Vec<u8>, Vec<u8>) {
        let mut a = Puncher::new(MS(0), [7; 8], 0, &[at(2)]);
        let mut b = Puncher::new(MS(0), [7; 8], 1, &[at(1)]);
        let first = |puncher: &mut Puncher| {
            puncher.handle_input(MS(0), Input::Tick);
            drained(puncher).remove(0).1
        };
        let (one, two) = (first(&mut a), first(&mut b));
        (a, b, one, two)
    }

    #[test]
    fn an_answer_from_where_was_asked_proves_an_address() {
        let (mut a, mut b, ask, _) = pair();
        b.handle_input(MS(10), Input::Packet(at(1), &ask));
        let answer = drained(&mut b).remove(0);
        assert_eq!(answer.0, at(1));
        a.handle_input(MS(20), Input::Packet(at(2), &answer.1));
        assert_eq!(a.proven().get(&at(2)), Some(&MS(20)));
    }

    #[test]
    fn an_answer_from_elsewhere_proves_nothing() {
        let (mut a, mut b, ask, _) = pair();
        b.handle_input(MS(10), Input::Packet(at(1), &ask));
        let answer = drained(&mut b).remove(0).1;
        a.handle_input(MS(20), Input::Packet(at(3), &answer));
        assert!(a.proven().is_empty());
    }

    #[test]
    fn who_asks_from_an_unknown_address_is_asked_there() {
        let (mut a, _, _, ask) = pair();
        a.handle_input(MS(10), Input::Packet(at(9), &ask));
        let sent: Vec<_> = drained(&mut a).into_iter().map(|(to, _)| to).collect();
        assert_eq!(sent, [at(9), at(9)]);
    }

    #[test]
    fn own_packets_and_those_of_other_pairs_are_nobodys() {
        let (mut a, _, own, _) = pair();
        let mut other = Puncher::new(MS(0), [8; 8], 1, &[at(1)]);
        other.handle_input(MS(0), Input::Tick);
        let foreign = drained(&mut other).remove(0).1;
        for bytes in [own.as_slice(), &foreign, &[], &[0; 16], &[0; 99]] {
            a.handle_input(MS(1), Input::Packet(at(2), bytes));
        }
        assert!(drained(&mut a).is_empty() && a.proven().is_empty());
    }

    #[test]
    fn it_asks_at_every_beat_and_learns_no_more_than_a_few() {
        let (mut a, _, _, ask) = pair();
        for port in 100..200 {
            a.handle_input(MS(1), Input::Packet(at(port), &ask));
        }
        drained(&mut a);
        a.handle_input(BEAT, Input::Tick);
        assert_eq!(drained(&mut a).len(), ADDRESSES_MAX);
        assert_eq!(a.poll_output(), Output::Wait(BEAT * 2));
    }
}
