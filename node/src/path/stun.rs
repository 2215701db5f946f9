//! STUN (RFC 8489): what the machines of [`super`] share of its messages, and the questions by
//! which a node learns how servers see its media sockets (`spec/setup.md`, section 6). Pure.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stun_types::attribute::XorMappedAddress;
use stun_types::message::{
    BINDING, Message, MessageClass, MessageType, MessageWrite as _, MessageWriteVec, Method,
    TransactionId,
};
use suora_protocol::identity::Draw;

/// Longest STUN message that is read, in bytes: nobody here sends a longer one.
pub const STUN_MAX: usize = 1_500;
/// Most questions at a time: some servers, from each of our sockets.
const QUESTIONS_MAX: usize = 32;
/// An answered question is asked again after this, so that the mapping lives and a change is seen:
/// half of the shortest mapping that routers keep (30 s).
pub const AGAIN: Duration = Duration::from_secs(15);
/// Between two times that a question is asked because something else is in doubt.
const CALM: Duration = Duration::from_secs(1);
/// The first retransmission.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait between two.
const LONGEST: Duration = Duration::from_millis(600);
/// How often a request is sent at most: RFC 8489 section 6.2.1, `Rc`.
const SENDS: u32 = 7;

/// A packet to send from one of our sockets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The socket.
    pub socket: usize,
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

/// Whether a packet is one of STUN's (RFC 9443): its first two bits are 0, and it has the cookie.
pub fn is_stun(packet: &[u8]) -> bool {
    matches!(packet, [0..=3, _, _, _, 0x21, 0x12, 0xa4, 0x42, ..])
}

/// Reads a message; the bytes after its length count as damage.
pub fn parse(packet: &[u8]) -> Option<Message<'_>> {
    let [_, _, high, low, ..] = packet else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if !is_stun(packet) || packet.len() > STUN_MAX || packet.len() != length + 20 {
        return None;
    }
    Message::from_bytes(packet).ok()
}

/// A transaction's id from 12 bytes of entropy.
pub fn transaction(bytes: [u8; 12]) -> TransactionId {
    let number = bytes
        .iter()
        .fold(0, |number: u128, byte| number << 8 | u128::from(*byte));
    number.into()
}

/// Begins a message.
pub fn begin(class: MessageClass, method: Method, id: TransactionId) -> MessageWriteVec {
    let kind = MessageType::from_class_method(class, method);
    Message::builder(kind, id, MessageWriteVec::with_capacity(160))
}

/// When a request is sent again: after 100, 200, 400, then each 600 ms, seven times in all.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    sends: u32,
    due: Instant,
}

impl Retry {
    /// The request is due at once.
    pub const fn new(now: Instant) -> Self {
        Self { sends: 0, due: now }
    }

    /// When there is something to do.
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Whether the request is to be sent now; `None`: nobody answers.
    pub fn tick(&mut self, now: Instant) -> Option<bool> {
        if now < self.due {
            return Some(false);
        }
        if self.sends >= SENDS {
            return None;
        }
        self.due = now + (FIRST * (1 << self.sends.min(3))).min(LONGEST);
        self.sends += 1;
        Some(true)
    }
}

/// What the questions give.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this.
    Send(Packet),
    /// What servers show of us has changed: see [`Questions::learned`].
    Changed,
}

#[derive(Debug)]
struct Question {
    socket: usize,
    server: SocketAddr,
    id: TransactionId,
    /// While an answer is awaited.
    retry: Option<Retry>,
    /// When it was asked last, and the next time.
    asked: Instant,
    again: Instant,
    learned: Option<SocketAddr>,
}

/// The questions to all servers from all sockets.
#[derive(Debug)]
pub struct Questions {
    draw: Draw,
    open: Vec<Question>,
    out: VecDeque<Output>,
}

impl Questions {
    /// None yet; transaction ids come from `draw`.
    pub const fn new(draw: Draw) -> Self {
        Self {
            draw,
            open: Vec::new(),
            out: VecDeque::new(),
        }
    }

    /// Asks `server` how it sees a socket, now and then every [`AGAIN`]; once however often this
    /// is said.
    pub fn ask(&mut self, now: Instant, socket: usize, server: SocketAddr) {
        let known = |one: &Question| one.socket == socket && one.server == server;
        if self.open.len() < QUESTIONS_MAX && !self.open.iter().any(known) {
            self.open.push(Question {
                socket,
                server,
                id: transaction(self.draw.bytes()),
                retry: Some(Retry::new(now)),
                asked: now,
                again: now + AGAIN,
                learned: None,
            });
            self.tick(now);
        }
    }

    /// Our own addresses changed: what was learned is old, and all is asked again.
    pub fn restart(&mut self, now: Instant) {
        for question in &mut self.open {
            question.id = transaction(self.draw.bytes());
            question.retry = Some(Retry::new(now));
            question.asked = now;
            question.again = now + AGAIN;
            question.learned = None;
        }
        self.tick(now);
    }

    /// A router may have forgotten us: asks all again, unless that was done within a second.
    pub fn again(&mut self, now: Instant) {
        for question in &mut self.open {
            let calm = now.saturating_duration_since(question.asked) >= CALM;
            if question.retry.is_none() && calm {
                question.again = now;
            }
        }
        self.tick(now);
    }

    /// How servers see each socket, each address once, in the order of the questions.
    pub fn learned(&self) -> Vec<(usize, SocketAddr)> {
        let mut learned = Vec::new();
        for question in &self.open {
            if let Some(address) = question.learned
                && !learned.contains(&(question.socket, address))
            {
                learned.push((question.socket, address));
            }
        }
        learned
    }

    /// A STUN message came; true: it is the answer to a question, from whom we asked.
    pub fn answered(
        &mut self,
        now: Instant,
        from: (usize, SocketAddr),
        answer: &Message<'_>,
    ) -> bool {
        let asked = |one: &Question| {
            one.retry.is_some()
                && (one.socket, one.server) == from
                && one.id == answer.transaction_id()
        };
        if answer.method() != BINDING || !answer.is_response() {
            return false;
        }
        let Some(question) = self.open.iter_mut().find(|one| asked(one)) else {
            return false;
        };
        question.retry = None;
        question.again = now + AGAIN;
        let address = answer
            .attribute::<XorMappedAddress>()
            .ok()
            .map(|mapped| mapped.addr(answer.transaction_id()))
            .filter(|_| answer.has_class(MessageClass::Success))
            .filter(|address| super::refusal(*address, true).is_none());
        if question.learned != address {
            question.learned = address;
            self.out.push_back(Output::Changed);
        }
        true
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant) {
        for question in &mut self.open {
            if question.retry.is_none() && now >= question.again {
                question.id = transaction(self.draw.bytes());
                question.retry = Some(Retry::new(now));
                question.asked = now;
                question.again = now + AGAIN;
            }
            let Some(retry) = &mut question.retry else {
                continue;
            };
            match retry.tick(now) {
                Some(true) => self.out.push_back(Output::Send(Packet {
                    socket: question.socket,
                    to: question.server,
                    bytes: begin(MessageClass::Request, BINDING, question.id).finish(),
                })),
                Some(false) => {}
                // whether the mapping lives nobody can tell
                None => {
                    question.retry = None;
                    if question.learned.take().is_some() {
                        self.out.push_back(Output::Changed);
                    }
                }
            }
        }
    }

    /// When time has to pass next.
    pub fn deadline(&self) -> Option<Instant> {
        let due = |one: &Question| one.retry.map_or(one.again, |retry| retry.due());
        self.open.iter().map(due).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use stun_types::message::MessageWriteExt as _;

    use super::*;
    use crate::path::tests::base;

    fn server(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 3_478))
    }

    fn sent(questions: &mut Questions) -> Vec<Packet> {
        std::iter::from_fn(|| questions.poll_output())
            .filter_map(|output| match output {
                Output::Send(packet) => Some(packet),
                Output::Changed => None,
            })
            .collect()
    }

    fn answer(packet: &Packet, seen: SocketAddr) -> Vec<u8> {
        let asked = parse(&packet.bytes).unwrap();
        let mut answer = begin(MessageClass::Success, BINDING, asked.transaction_id());
        let mapped = XorMappedAddress::new(seen, asked.transaction_id());
        answer.add_attribute(&mapped).unwrap();
        answer.finish()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    // covers: SUORA-SET-200
    #[test]
    fn a_node_learns_its_address_of_each_family_from_whom_it_asked_alone() {
        let now = base();
        let mut questions = Questions::new(Draw::from_seed([1; 32]));
        let six: SocketAddr = "[2001:db8::1]:3478".parse().unwrap();
        questions.ask(now, 0, server(1));
        questions.ask(now, 1, six);
        questions.ask(now, 0, server(1));
        let asked = sent(&mut questions);
        assert_eq!(asked.len(), 2);
        let seen: SocketAddr = "198.51.100.7:40001".parse().unwrap();
        let good = answer(&asked[0], seen);
        let message = parse(&good).unwrap();
        for other in [(0, server(2)), (1, server(1)), (0, six)] {
            assert!(!questions.answered(now, other, &message));
        }
        assert!(questions.answered(now, (0, server(1)), &message));
        // once
        assert!(!questions.answered(now, (0, server(1)), &message));
        let seen_six: SocketAddr = "[2001:db8::99]:40001".parse().unwrap();
        let good = answer(&asked[1], seen_six);
        assert!(questions.answered(now, (1, six), &parse(&good).unwrap()));
        assert_eq!(questions.learned(), [(0, seen), (1, seen_six)]);
        assert_eq!(questions.poll_output(), Some(Output::Changed));
    }

    // covers: SUORA-SET-200
    #[test]
    fn a_lost_question_is_asked_again_after_100_200_400_and_600_ms_and_then_not() {
        let start = base();
        let mut questions = Questions::new(Draw::from_seed([1; 32]));
        questions.ask(start, 0, server(1));
        let mut at = Vec::new();
        let mut now = start;
        while now < start + AGAIN {
            questions.tick(now);
            for _ in sent(&mut questions) {
                at.push(now.duration_since(start).as_millis());
            }
            now += ms(10);
        }
        // the first was sent at once, and is not in this list's 0
        assert_eq!(at, [0, 100, 300, 700, 1_300, 1_900, 2_500]);
    }

    // covers: SUORA-SET-200
    #[test]
    fn a_mapping_that_changed_or_fell_silent_is_told() {
        let mut now = base();
        let mut questions = Questions::new(Draw::from_seed([1; 32]));
        questions.ask(now, 0, server(1));
        for port in [40_001, 40_001, 40_002] {
            let seen = SocketAddr::from(([198, 51, 100, 7], port));
            let asked = sent(&mut questions);
            let good = answer(asked.last().unwrap(), seen);
            assert!(questions.answered(now, (0, server(1)), &parse(&good).unwrap()));
            assert_eq!(questions.learned(), [(0, seen)]);
            now = questions.deadline().unwrap();
            questions.tick(now);
        }
        for _ in 0..20 {
            now = questions.deadline().unwrap();
            questions.tick(now);
        }
        assert_eq!(questions.learned(), []);
    }

    #[test]
    fn what_is_no_stun_or_has_a_tail_is_not_read() {
        let request = begin(MessageClass::Request, BINDING, transaction([7; 12])).finish();
        assert!(parse(&request).is_some());
        let mut tail = request.clone();
        tail.extend_from_slice(&[0; 4]);
        assert!(parse(&tail).is_none());
        assert!(parse(&request[..19]).is_none());
        let mut quic = request;
        quic[0] = 0x40;
        assert!(!is_stun(&quic));
    }
}
