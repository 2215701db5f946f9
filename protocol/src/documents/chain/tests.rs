//! Every refusal as a behaviour: one thing is wrong, and the code says which.

mod bytes;
mod roots;

use super::*;
use crate::documents::invite::{ConsultationId, Dcid, DescriptorRef, Nonce, SessionId};
use crate::documents::{self, AddressPolicy, Desk, Document, Names, UseKey};
use crate::identity::Key;

const DAY: i64 = 86_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + seconds)
}

fn now() -> Timestamp {
    at(0)
}

fn key(number: u8) -> Key {
    Key::from_secret(&[number; 32])
}

fn root() -> Key {
    key(1)
}

fn issuing() -> Key {
    key(2)
}

fn pass() -> Key {
    key(3)
}

fn officer_key() -> Key {
    key(4)
}

fn guest_key() -> Key {
    key(5)
}

fn desk(id: &str) -> DeskId {
    DeskId::new(id).unwrap()
}

fn page() -> Descriptor {
    let use_key = |id: &str, use_, key: Key| UseKey {
        id: id.into(),
        key: key.peer_id(),
        use_,
        not_after: at(400 * DAY),
    };
    Descriptor {
        agency: AgencyId::of_root(&root().peer_id()),
        root: root().peer_id(),
        names: Names::default(),
        domain: "tax.example".into(),
        relays: vec![format!(
            "/ip4/192.0.2.1/tcp/1/p2p/{}",
            key(6).peer_id().to_text()
        )],
        turn: Vec::new(),
        keys: vec![
            use_key("issuing", KeyUse::Issuing, issuing()),
            use_key("pass", KeyUse::Pass, pass()),
        ],
        desks: vec![
            Desk::new(desk("tax"), Names::default()),
            Desk::new(desk("law"), Names::default()),
        ],
        revoked: Vec::new(),
        sequence: 7,
        issued_at: at(-DAY),
        not_after: at(29 * DAY),
        next_root: None,
    }
}

fn signed<T: Document>(document: &T, key: &Key) -> Signed<T> {
    documents::sign(document, key).unwrap()
}

fn trusted(page: &Descriptor) -> Verified<Descriptor> {
    descriptor_as_given(&signed(page, &root()), page.issued_at).unwrap()
}

fn claim() -> Credential {
    Credential {
        agency: page().agency,
        peer: officer_key().peer_id(),
        role: Role::Officer,
        desks: vec![desk("tax")],
        name: "Oona".into(),
        key: "issuing".into(),
        issued_at: at(-60),
        not_before: at(-60),
        not_after: at(7 * DAY),
    }
}

fn call() -> Invite {
    Invite {
        agency: page().agency,
        desk: desk("tax"),
        ticket: TicketId::from_bytes([1; 16]),
        consultation: ConsultationId::from_bytes([2; 16]),
        session: SessionId::from_bytes([3; 16]),
        nonce: Nonce::from_bytes([4; 32]),
        guest: guest_key().peer_id(),
        challenge: Challenge::from_bytes([5; 16]),
        role: Role::Citizen,
        fingerprint: Hash::from_bytes([6; 32]),
        dcid: Dcid::from_bytes([7; 20]),
        versions: vec![ALPN.into()],
        addresses: vec!["192.0.2.2:4433".into()],
        address_policy: AddressPolicy::Open,
        require_pq: false,
        descriptor: DescriptorRef {
            sequence: 7,
            hash: trusted(&page()).hash(),
        },
        previous: None,
        credential: signed(&claim(), &issuing()).bytes().to_vec(),
        issued_at: now(),
        not_after: at(120),
    }
}

fn waiting() -> InviteExpected {
    InviteExpected {
        desk: desk("tax"),
        ticket: TicketId::from_bytes([1; 16]),
        guest: guest_key().peer_id(),
        challenge: Challenge::from_bytes([5; 16]),
    }
}

fn binding() -> Hash {
    Hash::from_bytes([8; 32])
}

fn code<T>(result: Result<T, Fault>) -> Option<Code> {
    result.err().map(|fault| fault.code)
}

/// What a descriptor is refused with after a change, then signed by `key`.
fn page_with(change: impl Fn(&mut Descriptor), key: &Key) -> Option<Code> {
    let mut page = page();
    change(&mut page);
    let root = AgencyId::of_root(&root().peer_id());
    code(descriptor(&signed(&page, key), &root, now(), None))
}

/// What an officer's credential is refused with after a change, then signed by `key`.
fn claim_with(change: impl Fn(&mut Credential), key: &Key) -> Option<Code> {
    let mut claim = claim();
    change(&mut claim);
    let (peer, desk) = (officer_key().peer_id(), desk("tax"));
    let result = officer(&signed(&claim, key), &trusted(&page()), &peer, &desk, now());
    code(result)
}

/// What an invite is refused with after a change, then signed by `key`.
fn call_with(change: impl Fn(&mut Invite), key: &Key) -> Option<Code> {
    let mut call = call();
    change(&mut call);
    let descriptor = trusted(&page());
    code(invite(&signed(&call, key), &descriptor, &waiting(), now()))
}

// covers: SUORA-DOC-010
#[test]
fn a_descriptor_counts_under_its_own_root_only() {
    assert_eq!(page_with(|_| (), &root()), None);
    assert_eq!(page_with(|_| (), &issuing()), Some(Code::BadSignature));
    let other = AgencyId::from_bytes([9; 32]);
    assert_eq!(
        code(descriptor(&signed(&page(), &root()), &other, now(), None)),
        Some(Code::WrongAgency)
    );
    assert_eq!(
        page_with(|page| page.agency = other, &root()),
        Some(Code::WrongAgency)
    );
    // whoever signs with an own root is another agency
    let stranger = key(9);
    assert_eq!(
        page_with(|page| page.root = stranger.peer_id(), &stranger),
        Some(Code::WrongAgency)
    );
}

// covers: SUORA-DOC-011
#[test]
fn validity_has_five_minutes_of_tolerance_at_both_ends() {
    let root = AgencyId::of_root(&root().peer_id());
    let document = signed(&page(), &self::root());
    let seen = |seconds| code(descriptor(&document, &root, at(seconds), None));
    assert_eq!(seen(-DAY - 300), None);
    assert_eq!(seen(-DAY - 301), Some(Code::NotYetValid));
    assert_eq!(seen(29 * DAY + 300), None);
    assert_eq!(seen(29 * DAY + 301), Some(Code::Expired));
}

// covers: SUORA-DOC-012
#[test]
fn the_highest_sequence_wins_and_one_sequence_has_one_page() {
    let root = AgencyId::of_root(&root().peer_id());
    let known = trusted(&page());
    let after = |change: &dyn Fn(&mut Descriptor)| {
        let mut page = page();
        change(&mut page);
        code(descriptor(
            &signed(&page, &self::root()),
            &root,
            now(),
            Some(&known),
        ))
    };
    assert_eq!(after(&|_| ()), None);
    assert_eq!(after(&|page| page.sequence = 8), None);
    assert_eq!(after(&|page| page.sequence = 6), Some(Code::LowerSequence));
    assert_eq!(
        after(&|page| page.domain = "tax2.example".into()),
        Some(Code::Equivocation)
    );
}

// covers: SUORA-DOC-009
#[test]
fn texts_lists_and_validities_keep_their_bounds() {
    type Change<T> = &'static dyn Fn(&mut T);
    let pages: [Change<Descriptor>; 12] = [
        &|page| page.domain = "a".repeat(257),
        &|page| page.names.fi = "a".repeat(257),
        &|page| page.desks[0].names.sv = "a".repeat(257),
        &|page| page.desks[0].channels = vec!["chat".into(); 33],
        &|page| page.relays = vec![page.relays[0].clone(); 9],
        &|page| page.relays[0] = "/ip4/192.0.2.1/tcp/1".into(),
        &|page| page.keys[0].id = "a".repeat(257),
        &|page| page.keys[1].id = page.keys[0].id.clone(),
        &|page| page.desks[1].id = page.desks[0].id.clone(),
        &|page| page.revoked = vec![page.root; 1_025],
        &|page| page.not_after = at(29 * DAY + 1),
        &|page| page.not_after = at(-DAY - 1),
    ];
    for change in pages {
        assert_eq!(page_with(change, &root()), Some(Code::Malformed));
    }
    let claims: [Change<Credential>; 5] = [
        &|claim| claim.name.clear(),
        &|claim| claim.name = "a".repeat(257),
        &|claim| claim.desks = vec![DeskId::new("tax").unwrap(); 257],
        &|claim| claim.not_after = at(30 * DAY),
        &|claim| claim.not_after = at(-61),
    ];
    for change in claims {
        assert_eq!(claim_with(change, &issuing()), Some(Code::Malformed));
    }
    let calls: [Change<Invite>; 6] = [
        &|call| call.addresses = vec![call.addresses[0].clone(); 9],
        &|call| call.addresses = vec!["tax.example:443".into()],
        &|call| call.addresses = vec!["192.0.2.2:0".into()],
        &|call| call.versions = vec![ALPN.into(); 33],
        &|call| call.not_after = at(121),
        &|call| call.not_after = at(-1),
    ];
    for change in calls {
        assert_eq!(call_with(change, &officer_key()), Some(Code::Malformed));
    }
}

// covers: SUORA-DOC-013
#[test]
fn only_an_issuing_key_makes_officers() {
    assert_eq!(claim_with(|_| (), &issuing()), None);
    let as_pass = |claim: &mut Credential| claim.key = "pass".into();
    assert_eq!(claim_with(as_pass, &pass()), Some(Code::WrongSigner));
    assert_eq!(claim_with(as_pass, &issuing()), Some(Code::BadSignature));
    for other in [pass(), root(), officer_key()] {
        assert_eq!(claim_with(|_| (), &other), Some(Code::BadSignature));
    }
    let unlisted = |claim: &mut Credential| claim.key = "issuing-9".into();
    assert_eq!(claim_with(unlisted, &issuing()), Some(Code::BadSignature));
}

// covers: SUORA-DOC-014
#[test]
fn a_credential_is_for_one_node_role_and_desk_and_for_a_time() {
    let refused = |change: &dyn Fn(&mut Credential)| claim_with(change, &issuing());
    let other = AgencyId::from_bytes([9; 32]);
    assert_eq!(refused(&|c| c.agency = other), Some(Code::WrongAgency));
    assert_eq!(refused(&|c| c.role = Role::Citizen), Some(Code::WrongRole));
    assert_eq!(refused(&|c| c.role = Role::Expert), Some(Code::WrongRole));
    assert_eq!(
        refused(&|c| c.desks = vec![desk("law")]),
        Some(Code::WrongDesk)
    );
    assert_eq!(
        refused(&|c| c.peer = key(9).peer_id()),
        Some(Code::WrongSigner)
    );
    assert_eq!(
        refused(&|c| c.not_before = at(301)),
        Some(Code::NotYetValid)
    );
    assert_eq!(
        refused(&|c| {
            c.not_before = at(-DAY);
            c.not_after = at(-301);
        }),
        Some(Code::Expired)
    );
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let neutral = PeerId::from_bytes(neutral);
    assert_eq!(refused(&|c| c.peer = neutral), Some(Code::Malformed));
}

#[test]
fn revoked_officers_and_ended_issuing_keys_count_no_more() {
    let under = |change: &dyn Fn(&mut Descriptor)| {
        let mut page = page();
        change(&mut page);
        code(credential(
            &signed(&claim(), &issuing()),
            &trusted(&page),
            now(),
        ))
    };
    assert_eq!(under(&|_| ()), None);
    assert_eq!(
        under(&|page| page.revoked = vec![officer_key().peer_id()]),
        Some(Code::Revoked)
    );
    assert_eq!(
        under(&|page| page.keys[0].not_after = at(-301)),
        Some(Code::Expired)
    );
}

// covers: SUORA-SET-001
#[test]
fn an_invite_is_for_who_waits_and_for_nobody_else() {
    let refused = |change: &dyn Fn(&mut Invite)| call_with(change, &officer_key());
    assert_eq!(refused(&|_| ()), None);
    let other = AgencyId::from_bytes([9; 32]);
    assert_eq!(refused(&|i| i.agency = other), Some(Code::WrongAgency));
    assert_eq!(refused(&|i| i.desk = desk("law")), Some(Code::WrongDesk));
    let ticket = TicketId::from_bytes([9; 16]);
    assert_eq!(refused(&|i| i.ticket = ticket), Some(Code::WrongTicket));
    let guest = key(9).peer_id();
    assert_eq!(refused(&|i| i.guest = guest), Some(Code::WrongGuest));
    let challenge = Challenge::from_bytes([9; 16]);
    assert_eq!(
        refused(&|i| i.challenge = challenge),
        Some(Code::WrongChallenge)
    );
    assert_eq!(refused(&|i| i.role = Role::Guardian), Some(Code::WrongRole));
    assert_eq!(refused(&|i| i.versions.clear()), Some(Code::WrongVersion));
    assert_eq!(
        refused(&|i| i.descriptor.hash = binding()),
        Some(Code::Equivocation)
    );
    assert_eq!(refused(&|i| i.descriptor.sequence = 8), None);
    assert_eq!(
        refused(&|i| i.address_policy = AddressPolicy::RelayOnly),
        Some(Code::WrongDesk)
    );
    assert_eq!(refused(&|i| i.credential.clear()), Some(Code::NoCredential));
    assert_eq!(call_with(|_| (), &key(9)), Some(Code::BadSignature));
    let seen = |seconds| {
        let signed = signed(&call(), &officer_key());
        code(invite(&signed, &trusted(&page()), &waiting(), at(seconds)))
    };
    assert_eq!((seen(-300), seen(420)), (None, None));
    assert_eq!(seen(-301), Some(Code::NotYetValid));
    assert_eq!(seen(421), Some(Code::Expired));
}

#[test]
fn an_invite_may_not_ask_for_less_than_its_desk() {
    let mut page = page();
    page.desks[0].require_pq = true;
    let descriptor = trusted(&page);
    let mut call = call();
    call.descriptor.hash = descriptor.hash();
    let verify = |call: &Invite| {
        code(invite(
            &signed(call, &officer_key()),
            &descriptor,
            &waiting(),
            now(),
        ))
    };
    assert_eq!(verify(&call), Some(Code::PostQuantumRequired));
    call.require_pq = true;
    assert_eq!(verify(&call), None);
}

#[test]
fn a_wrong_credential_is_named_only_in_an_invite_that_its_bearer_signed() {
    let with = |change: &dyn Fn(&mut Credential), key: &Key| {
        let mut claim = claim();
        change(&mut claim);
        let credential = signed(&claim, key).bytes().to_vec();
        move |call: &mut Invite| call.credential.clone_from(&credential)
    };
    let ended = with(
        &|claim| {
            claim.not_before = at(-DAY);
            claim.not_after = at(-301);
        },
        &issuing(),
    );
    assert_eq!(call_with(&ended, &officer_key()), Some(Code::Expired));
    assert_eq!(call_with(&ended, &key(9)), Some(Code::BadSignature));
    let partner = with(&|claim| claim.role = Role::Interpreter, &issuing());
    assert_eq!(call_with(partner, &officer_key()), Some(Code::WrongRole));
    let by_pass = with(&|claim| claim.key = "pass".into(), &pass());
    assert_eq!(call_with(by_pass, &officer_key()), Some(Code::WrongSigner));
    let colleague = with(&|claim| claim.peer = key(9).peer_id(), &issuing());
    assert_eq!(
        call_with(&colleague, &officer_key()),
        Some(Code::BadSignature)
    );
    let garbage = |call: &mut Invite| call.credential = vec![0xf6];
    assert_eq!(call_with(garbage, &officer_key()), Some(Code::BadSignature));
}

/// The verified invite, and hello and welcome in answer to it.
fn proofs() -> (Invited, Hello, Welcome) {
    let descriptor = trusted(&page());
    let signed = signed(&call(), &officer_key());
    let invited = invite(&signed, &descriptor, &waiting(), now()).unwrap();
    let hello = Hello {
        invite: invited.invite.hash(),
        binding: binding(),
        alpn: ALPN.into(),
        descriptor: invited.invite.descriptor,
    };
    let welcome = Welcome {
        invite: hello.invite,
        binding: binding(),
        hello: self::signed(&hello, &guest_key()).hash(),
    };
    (invited, hello, welcome)
}

// covers: SUORA-SET-007
#[test]
fn a_hello_answers_one_invite_on_one_connection() {
    let (invited, good, _) = proofs();
    let refused = |change: &dyn Fn(&mut Hello), key: &Key| {
        let mut changed = good.clone();
        change(&mut changed);
        let signed = signed(&changed, key);
        code(hello(
            &signed,
            &invited,
            &binding(),
            ALPN,
            &trusted(&page()),
        ))
    };
    let (guest, other) = (guest_key(), Hash::from_bytes([9; 32]));
    assert_eq!(refused(&|_| (), &guest), None);
    assert_eq!(refused(&|_| (), &key(9)), Some(Code::BadSignature));
    assert_eq!(
        refused(&|h| h.invite = other, &guest),
        Some(Code::WrongInvite)
    );
    assert_eq!(
        refused(&|h| h.binding = other, &guest),
        Some(Code::WrongBinding)
    );
    assert_eq!(
        refused(&|h| h.alpn = "h3".into(), &guest),
        Some(Code::WrongVersion)
    );
    assert_eq!(
        refused(&|h| h.descriptor.hash = other, &guest),
        Some(Code::Equivocation)
    );
    assert_eq!(refused(&|h| h.descriptor.sequence = 6, &guest), None);
}

// covers: SUORA-SET-008
#[test]
fn a_welcome_answers_one_hello_on_one_connection() {
    let (invited, hello, good) = proofs();
    let sent = signed(&hello, &guest_key()).hash();
    let refused = |change: &dyn Fn(&mut Welcome), key: &Key| {
        let mut changed = good.clone();
        change(&mut changed);
        code(welcome(&signed(&changed, key), &invited, &sent, &binding()))
    };
    let (host, other) = (officer_key(), Hash::from_bytes([9; 32]));
    assert_eq!(refused(&|_| (), &host), None);
    assert_eq!(refused(&|_| (), &guest_key()), Some(Code::BadSignature));
    assert_eq!(
        refused(&|w| w.invite = other, &host),
        Some(Code::WrongInvite)
    );
    assert_eq!(
        refused(&|w| w.binding = other, &host),
        Some(Code::WrongBinding)
    );
    assert_eq!(
        refused(&|w| w.hello = other, &host),
        Some(Code::WrongInvite)
    );
}

#[test]
fn a_document_of_another_kind_is_no_document_of_this_one() {
    let bytes = signed(&claim(), &issuing()).bytes().clone();
    let as_invite: Signed<Invite> = Signed::from_bytes(bytes).unwrap();
    assert_eq!(
        code(own_invite(&as_invite, &trusted(&page()), now())),
        Some(Code::WrongKind)
    );
    let long: Result<Signed<Invite>, Fault> = Signed::from_bytes(vec![0; 49_153]);
    assert_eq!(code(long), Some(Code::TooLarge));
}

/// Changes every bit of a document in turn, and says what `verify` makes of it: a bit of
/// payload or signature is a bad signature, one of the envelope breaks its encoding.
fn every_bit<T: Document>(good: &Signed<T>, verify: impl Fn(&Signed<T>) -> Option<Code>) {
    assert_eq!(verify(good), None);
    let bytes = good.bytes();
    // array head, protected header with its head, empty map, head of the payload: `58` or `59`
    // and one or two bytes
    let header = 2 + usize::from(bytes[1] & 0x1f);
    let payload = 1 + header;
    assert_eq!(bytes[header], 0xa0);
    let head = match bytes[payload] {
        0x58 => 2,
        0x59 => 3,
        other => panic!("a payload that begins with {other:#x}"),
    };
    let signature = bytes.len() - 66;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1 << bit;
            let code = verify(&Signed::from_bytes(changed).unwrap());
            let encoding = at < payload + head || (signature..signature + 2).contains(&at);
            let fits = if encoding {
                matches!(code, Some(Code::Malformed | Code::NotDeterministic))
            } else {
                code == Some(Code::BadSignature)
            };
            assert!(fits, "{} byte {at} bit {bit}: {code:?}", T::KIND);
        }
    }
}

// covers: SUORA-DOC-005, SUORA-DOC-006, SUORA-DOC-007
#[test]
fn no_changed_bit_is_ever_believed() {
    let agency = page().agency;
    let descriptor = trusted(&page());
    every_bit(&signed(&page(), &root()), |document| {
        code(self::descriptor(document, &agency, now(), None))
    });
    every_bit(&signed(&claim(), &issuing()), |document| {
        code(credential(document, &descriptor, now()))
    });
    every_bit(&signed(&call(), &officer_key()), |document| {
        code(invite(document, &descriptor, &waiting(), now()))
    });
}
