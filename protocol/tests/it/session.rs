//! Host and guest, one virtual clock: the chapters `spec/session.md` and `spec/consultation.md`.

use std::time::Duration;

use serde::Serialize;
use suora_protocol::consultation::guest::Guest;
use suora_protocol::consultation::host::Host;
use suora_protocol::consultation::talk::Talk;
use suora_protocol::consultation::{Output, Phase};
use suora_protocol::documents::chain::{self, InviteExpected};
use suora_protocol::documents::{
    self, AddressPolicy, Challenge, ConsultationId, Credential, Dcid, Descriptor, DescriptorRef,
    Desk, DeskId, Invite, KeyUse, Names, Nonce, Role, SessionId, TicketId, UseKey,
};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{AgencyId, Hash, Key};
use suora_protocol::limits;
use suora_protocol::quality::{Network, Word};
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::guest::{Bye, Chat, Clock, FromHost, Media, Quality, ToHost};
use suora_protocol::wire::{self, Framer};

use crate::clock::base;

const BINDING: Hash = Hash::from_bytes([5; 32]);

/// Both ends of one session, with the proofs still to come.
struct Pair {
    now: Now,
    host: Host,
    guest: Guest,
}

/// What one end said, by the names of its messages.
type Said<M> = Vec<M>;

fn body<M: Serialize>(message: &M) -> Vec<u8> {
    let mut framer = Framer::new();
    framer.push(&wire::encode(message).unwrap());
    framer.next_message().unwrap().unwrap().to_vec()
}

/// Drains one end: messages, and everything else.
fn drain<M: serde::de::DeserializeOwned>(talk: &mut Talk) -> (Said<M>, Vec<Output>) {
    let (mut said, mut rest) = (Vec::new(), Vec::new());
    let mut framer = Framer::new();
    while let Some(output) = talk.poll_output() {
        match output {
            Output::Send(bytes) => {
                framer.push(&bytes);
                let body = framer.next_message().unwrap().unwrap();
                said.push(wire::decode(&body).unwrap());
            }
            other => rest.push(other),
        }
    }
    (said, rest)
}

fn code(result: Result<(), Fault>) -> Option<Code> {
    result.err().map(|fault| fault.code)
}

impl Pair {
    /// An invite was made and taken; the QUIC handshake stands at both ends.
    fn connected() -> Self {
        let now = base();
        let key = |n: u8| Key::from_secret(&[n; 32]);
        let (root, issuing, officer, citizen) = (key(1), key(2), key(3), key(4));
        let desk = DeskId::new("tax").unwrap();
        let agency = AgencyId::of_root(&root.peer_id());
        let until = now.utc + Duration::from_secs(86_400);
        let page = Descriptor {
            agency,
            root: root.peer_id(),
            names: Names::default(),
            domain: "agency.example".into(),
            relays: vec![],
            turn: Vec::new(),
            keys: vec![UseKey {
                id: "issuing-1".into(),
                key: issuing.peer_id(),
                use_: KeyUse::Issuing,
                not_after: until,
            }],
            desks: vec![Desk::new(desk.clone(), Names::default())],
            revoked: vec![],
            sequence: 1,
            issued_at: now.utc,
            not_after: until,
            next_root: None,
        };
        let page = documents::sign(&page, &root).unwrap();
        let descriptor = chain::descriptor(&page, &agency, now.utc, None).unwrap();
        let credential = Credential {
            agency,
            peer: officer.peer_id(),
            role: Role::Officer,
            desks: vec![desk.clone()],
            name: "Aino".into(),
            key: "issuing-1".into(),
            issued_at: now.utc,
            not_before: now.utc,
            not_after: until,
        };
        let credential = documents::sign(&credential, &issuing).unwrap();
        let invite = Invite {
            agency,
            desk: desk.clone(),
            ticket: TicketId::from_bytes([1; 16]),
            consultation: ConsultationId::from_bytes([2; 16]),
            session: SessionId::from_bytes([3; 16]),
            nonce: Nonce::from_bytes([4; 32]),
            guest: citizen.peer_id(),
            challenge: Challenge::from_bytes([6; 16]),
            role: Role::Citizen,
            fingerprint: Hash::from_bytes([7; 32]),
            dcid: Dcid::from_bytes([8; 20]),
            versions: vec![chain::ALPN.into()],
            addresses: vec!["192.0.2.1:4433".into()],
            address_policy: AddressPolicy::Open,
            require_pq: false,
            descriptor: DescriptorRef {
                sequence: 1,
                hash: descriptor.hash(),
            },
            previous: None,
            credential: credential.bytes().to_vec(),
            issued_at: now.utc,
            not_after: now.utc + limits::INVITE_VALID,
        };
        let signed = documents::sign(&invite, &officer).unwrap();
        let expected = InviteExpected {
            desk,
            ticket: invite.ticket,
            guest: invite.guest,
            challenge: invite.challenge,
        };
        let own = chain::own_invite(&signed, &descriptor, now.utc).unwrap();
        let taken = chain::invite(&signed, &descriptor, &expected, now.utc).unwrap();
        let mut host = Host::new(own, descriptor.clone(), officer, now);
        host.connected(BINDING, chain::ALPN.into());
        let guest = Guest::new(taken, descriptor, citizen, now);
        Self { now, host, guest }
    }

    /// Both proofs crossed.
    fn warm() -> Self {
        let mut pair = Self::connected();
        pair.guest.connected(BINDING, chain::ALPN.into()).unwrap();
        pair.cross();
        assert_eq!(
            (pair.host.phase(), pair.guest.phase()),
            (Phase::Warm, Phase::Warm)
        );
        pair
    }

    /// Delivers what both ends say until neither says more; what else they gave, host's first.
    fn cross(&mut self) -> (Vec<Output>, Vec<Output>) {
        let (mut at_host, mut at_guest) = (Vec::new(), Vec::new());
        loop {
            let (to_guest, outputs) = drain::<FromHost>(self.host.talk());
            at_host.extend(outputs);
            let (to_host, outputs) = drain::<ToHost>(self.guest.talk());
            at_guest.extend(outputs);
            if to_guest.is_empty() && to_host.is_empty() {
                return (at_host, at_guest);
            }
            for message in to_guest {
                self.guest
                    .message(self.now, &body(&message), self.now.utc)
                    .unwrap();
            }
            for message in to_host {
                self.host
                    .message(self.now, &body(&message), self.now.utc)
                    .unwrap();
            }
        }
    }

    fn tell_host(&mut self, message: &ToHost) -> Option<Code> {
        code(self.host.message(self.now, &body(message), self.now.utc))
    }

    fn tell_guest(&mut self, message: &FromHost) -> Option<Code> {
        code(self.guest.message(self.now, &body(message), self.now.utc))
    }
}

fn chat(id: u64, text: &str) -> Chat {
    Chat {
        id,
        text: text.into(),
        at: Timestamp::from_secs(1),
    }
}

// covers: SUORA-SES-002
#[test]
fn the_guest_says_hello_first_and_the_host_answers_welcome() {
    let mut pair = Pair::connected();
    pair.guest.connected(BINDING, chain::ALPN.into()).unwrap();
    let (said, _) = drain::<ToHost>(pair.guest.talk());
    let [hello @ ToHost::Hello { .. }] = said.as_slice() else {
        panic!("{said:?}")
    };
    assert_eq!(pair.tell_host(hello), None);
    let (said, outputs) = drain::<FromHost>(pair.host.talk());
    assert!(matches!(
        said.as_slice(),
        [FromHost::Welcome { participant: 1, .. }, FromHost::Clock(_)]
    ));
    assert_eq!(outputs, [Output::Verified]);
}

// covers: SUORA-SES-003
#[test]
fn before_the_proofs_nothing_else_is_said_or_heard() {
    let mut pair = Pair::connected();
    assert!(pair.guest.talk().chat(pair.now, "hello?".into()).is_err());
    pair.guest
        .talk()
        .media(Media {
            audio: false,
            video: true,
        })
        .unwrap();
    pair.guest.tick(pair.now).unwrap();
    pair.host.tick(pair.now).unwrap();
    assert_eq!(drain::<ToHost>(pair.guest.talk()), (vec![], vec![]));
    assert_eq!(drain::<FromHost>(pair.host.talk()), (vec![], vec![]));
    assert_eq!(
        pair.tell_host(&ToHost::Chat(chat(1, "hi"))),
        Some(Code::ProtocolViolation)
    );
    assert_eq!(
        pair.tell_guest(&FromHost::Chat(chat(1, "hi"))),
        Some(Code::ProtocolViolation)
    );
}

// covers: SUORA-SES-004
#[test]
fn proofs_and_accept_come_once_and_in_order() {
    let mut pair = Pair::connected();
    let at = pair.now.utc;
    let welcome = FromHost::Welcome {
        welcome: vec![],
        participant: 1,
    };
    assert_eq!(
        pair.tell_guest(&FromHost::Accepted { at }),
        Some(Code::ProtocolViolation)
    );
    assert_eq!(pair.tell_guest(&welcome), Some(Code::ProtocolViolation));
    let mut pair = Pair::warm();
    assert_eq!(pair.tell_guest(&welcome), Some(Code::ProtocolViolation));
    assert_eq!(
        pair.tell_host(&ToHost::Hello { hello: vec![] }),
        Some(Code::ProtocolViolation)
    );
    assert_eq!(pair.tell_guest(&FromHost::Accepted { at }), None);
    assert_eq!(
        pair.tell_guest(&FromHost::Accepted { at }),
        Some(Code::ProtocolViolation)
    );
}

#[test]
fn a_proof_of_another_connection_is_refused_by_its_code() {
    let mut pair = Pair::connected();
    let other = Hash::from_bytes([6; 32]);
    pair.guest.connected(other, chain::ALPN.into()).unwrap();
    let (said, _) = drain::<ToHost>(pair.guest.talk());
    assert_eq!(pair.tell_host(&said[0]), Some(Code::WrongBinding));
    assert_eq!(pair.host.phase(), Phase::Proving);
}

// covers: SUORA-SES-005
#[test]
fn a_session_without_proof_ends_after_ten_seconds() {
    let mut pair = Pair::connected();
    let early = pair
        .now
        .after(limits::INVITE_WELCOME - Duration::from_millis(1));
    let late = pair.now.after(limits::INVITE_WELCOME);
    pair.host.tick(early).unwrap();
    pair.guest.tick(early).unwrap();
    assert_eq!(drain::<FromHost>(pair.host.talk()).1, []);
    assert_eq!(drain::<ToHost>(pair.guest.talk()).1, []);
    pair.host.tick(late).unwrap();
    pair.guest.tick(late).unwrap();
    for outputs in [
        drain::<FromHost>(pair.host.talk()).1,
        drain::<ToHost>(pair.guest.talk()).1,
    ] {
        assert!(
            matches!(outputs.as_slice(), [Output::Close(fault)] if fault.code == Code::Timeout)
        );
    }
    assert_eq!(
        (pair.host.phase(), pair.guest.phase()),
        (Phase::Ended, Phase::Ended)
    );
}

// covers: SUORA-CON-002
#[test]
fn only_the_host_opens_the_gate_once_both_are_proven() {
    let mut pair = Pair::connected();
    assert_eq!(
        code(pair.host.accept(pair.now)),
        Some(Code::ProtocolViolation)
    );
    let mut pair = Pair::warm();
    // what a guest calls an accept is a type that hosts do not know
    let accept = FromHost::Accepted { at: pair.now.utc };
    assert_eq!(
        code(pair.host.message(pair.now, &body(&accept), pair.now.utc)),
        None
    );
    assert_eq!(pair.host.phase(), Phase::Warm);
    pair.now = pair.now.after(Duration::from_secs(3));
    pair.host.accept(pair.now).unwrap();
    let (at_host, at_guest) = pair.cross();
    assert_eq!(at_host, [Output::Open(pair.now.utc)]);
    assert_eq!(at_guest, [Output::Open(pair.now.utc)]);
}

// covers: SUORA-CON-003
#[test]
fn a_line_has_one_to_four_thousand_bytes() {
    let mut pair = Pair::warm();
    let longest = "ä".repeat(limits::CHAT_MAX / 2);
    pair.guest.talk().chat(pair.now, longest.clone()).unwrap();
    let (at_host, _) = pair.cross();
    assert_eq!(at_host, [Output::Chat(longest.clone())]);
    for text in [String::new(), longest + "a"] {
        let line = ToHost::Chat(chat(9, &text));
        assert_eq!(pair.tell_host(&line), Some(Code::TooLarge));
        assert!(pair.guest.talk().chat(pair.now, text).is_err());
    }
}

// covers: SUORA-CON-004
#[test]
fn lines_count_upward() {
    let mut pair = Pair::warm();
    for _ in 0..2 {
        pair.guest.talk().chat(pair.now, "line".into()).unwrap();
    }
    let (said, _) = drain::<ToHost>(pair.guest.talk());
    let ids: Vec<u64> = said
        .iter()
        .filter_map(|message| match message {
            ToHost::Chat(chat) => Some(chat.id),
            _ => None,
        })
        .collect();
    assert_eq!(ids, [1, 2]);
    assert_eq!(pair.tell_host(&ToHost::Chat(chat(7, "a"))), None);
    assert_eq!(
        pair.tell_host(&ToHost::Chat(chat(7, "b"))),
        Some(Code::ProtocolViolation)
    );
}

// covers: SUORA-CON-011
#[test]
fn muting_is_told_when_it_changes() {
    let mut pair = Pair::warm();
    let both = Media {
        audio: true,
        video: true,
    };
    let muted = Media {
        audio: false,
        ..both
    };
    pair.guest.talk().media(both).unwrap();
    assert_eq!(pair.cross().0, []);
    pair.guest.talk().media(muted).unwrap();
    pair.guest.talk().media(muted).unwrap();
    assert_eq!(pair.cross().0, [Output::Media(muted)]);
}

#[test]
fn muting_before_the_proofs_is_told_after_them() {
    let mut pair = Pair::connected();
    let muted = Media {
        audio: false,
        video: true,
    };
    pair.guest.talk().media(muted).unwrap();
    pair.guest.connected(BINDING, chain::ALPN.into()).unwrap();
    pair.cross();
    pair.guest.talk().media(muted).unwrap();
    assert_eq!(pair.cross().0, [Output::Media(muted)]);
}

// covers: SUORA-CON-013
#[test]
fn quality_is_told_once_accepted_when_it_changes_and_at_most_once_a_second() {
    let quality = |word| Quality {
        word,
        network: Network::Good,
    };
    let mut pair = Pair::warm();
    let (good, poor) = (quality(Word::Good), quality(Word::Poor));
    pair.guest.talk().quality(pair.now, good).unwrap();
    assert_eq!(pair.cross().0, [], "nothing before the accept");
    pair.host.accept(pair.now).unwrap();
    pair.cross();
    let start = pair.now;
    let mut told = Vec::new();
    for (ms, said) in [
        (0, good),
        (900, poor),
        (1_000, poor),
        (2_000, poor),
        (3_000, good),
        (3_500, poor),
        (3_600, good),
    ] {
        pair.now = start.after(Duration::from_millis(ms));
        pair.guest.talk().quality(pair.now, said).unwrap();
        for output in pair.cross().0 {
            match output {
                Output::Quality(heard) => told.push((ms, heard.word)),
                Output::Clock(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(
        told,
        [(0, Word::Good), (1_000, Word::Poor), (3_000, Word::Good)]
    );
}

// covers: SUORA-CON-012
#[test]
fn each_question_of_the_clock_is_answered_with_its_own_times() {
    let mut pair = Pair::warm();
    let question = Clock {
        id: 77,
        t1: Timestamp::from_micros(5),
    };
    let read = pair.now.utc.shift(-1_500);
    let body = body(&ToHost::Clock(question));
    pair.host.message(pair.now, &body, read).unwrap();
    let (said, _) = drain::<FromHost>(pair.host.talk());
    let Some(FromHost::ClockAnswer(answer)) = said
        .iter()
        .find(|message| matches!(message, FromHost::ClockAnswer(_)))
    else {
        panic!("{said:?}")
    };
    assert_eq!(
        (answer.id, answer.t1, answer.t2, answer.t3),
        (77, question.t1, read, pair.now.utc)
    );
}

// covers: SUORA-CON-008
#[test]
fn a_goodbye_ends_both_ends_with_its_code() {
    let mut pair = Pair::warm();
    pair.host.accept(pair.now).unwrap();
    pair.cross();
    pair.guest.talk().bye(Code::Ended);
    let (at_host, at_guest) = pair.cross();
    for outputs in [at_host, at_guest] {
        assert!(matches!(outputs.as_slice(), [Output::Close(fault)] if fault.code == Code::Ended));
    }
    assert_eq!(
        (pair.host.phase(), pair.guest.phase()),
        (Phase::Ended, Phase::Ended)
    );
}

#[test]
fn an_unknown_code_of_a_goodbye_reads_as_internal() {
    let text = documents::encode(&ToHost::Bye(Bye { code: Code::Left })).unwrap();
    // "left" is the only text of four letters that begins with l
    let at = text.windows(4).position(|four| four == b"left").unwrap();
    let mut text = text;
    text[at..at + 4].copy_from_slice(b"lost");
    assert_eq!(
        wire::decode::<ToHost>(&text),
        Ok(ToHost::Bye(Bye {
            code: Code::Internal
        }))
    );
}
