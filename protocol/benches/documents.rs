//! What verifying a chain costs: descriptor, credential and invite, as a citizen's node does.

use divan::{Bencher, black_box};
use suora_protocol::documents::chain::{self, InviteExpected};
use suora_protocol::documents::{
    self, AddressPolicy, Challenge, ConsultationId, Credential, Dcid, Descriptor, DescriptorRef,
    Desk, DeskId, Invite, KeyUse, Names, Nonce, Role, SessionId, Signed, TicketId, UseKey,
};
use suora_protocol::fault::Fault;
use suora_protocol::identity::{AgencyId, Hash, Key};
use suora_protocol::time::Timestamp;

fn main() {
    divan::main();
}

const DAY: i64 = 86_400;

struct Chain {
    root: AgencyId,
    descriptor: Signed<Descriptor>,
    invite: Signed<Invite>,
    expected: InviteExpected,
    now: Timestamp,
}

fn make() -> Result<Chain, Fault> {
    let now = Timestamp::from_secs(1_795_525_200);
    let end = Timestamp::from_secs(now.as_secs() + 7 * DAY);
    let key = |byte| Key::from_secret(&[byte; 32]);
    let (root, issuing, node, guest) = (key(1), key(2), key(3), key(4));
    let desk = DeskId::new("advice")?;
    let names = Names {
        en: "Advice".into(),
        fi: "Neuvonta".into(),
        sv: "Rådgivning".into(),
    };
    let agency = AgencyId::of_root(&root.peer_id());
    let relay = key(5).peer_id().to_text();
    let descriptor = Descriptor {
        agency,
        root: root.peer_id(),
        names: names.clone(),
        domain: "agency.example".into(),
        relays: vec![format!("/ip4/192.0.2.1/udp/4433/quic-v1/p2p/{relay}")],
        turn: Vec::new(),
        keys: vec![UseKey {
            id: "issuing-1".into(),
            key: issuing.peer_id(),
            use_: KeyUse::Issuing,
            not_after: end,
        }],
        desks: vec![Desk::new(desk.clone(), names)],
        revoked: Vec::new(),
        sequence: 1,
        issued_at: now,
        not_after: end,
        next_root: None,
    };
    let descriptor = documents::sign(&descriptor, &root)?;
    let credential = Credential {
        agency,
        peer: node.peer_id(),
        role: Role::Officer,
        desks: vec![desk.clone()],
        name: "Maija Virtanen".into(),
        key: "issuing-1".into(),
        issued_at: now,
        not_before: now,
        not_after: end,
    };
    let credential = documents::sign(&credential, &issuing)?;
    let expected = InviteExpected {
        desk: desk.clone(),
        ticket: TicketId::from_bytes([6; 16]),
        guest: guest.peer_id(),
        challenge: Challenge::from_bytes([7; 16]),
    };
    let invite = Invite {
        agency,
        desk,
        ticket: expected.ticket,
        consultation: ConsultationId::from_bytes([8; 16]),
        session: SessionId::from_bytes([9; 16]),
        nonce: Nonce::from_bytes([10; 32]),
        guest: expected.guest,
        challenge: expected.challenge,
        role: Role::Citizen,
        fingerprint: Hash::of(b"certificate"),
        dcid: Dcid::from_bytes([11; 20]),
        versions: vec![chain::ALPN.into()],
        addresses: vec!["192.0.2.1:4444".into()],
        address_policy: AddressPolicy::Open,
        require_pq: false,
        descriptor: DescriptorRef {
            sequence: 1,
            hash: descriptor.hash(),
        },
        previous: None,
        credential: credential.bytes().to_vec(),
        issued_at: now,
        not_after: end,
    };
    Ok(Chain {
        root: agency,
        invite: documents::sign(&invite, &node)?,
        descriptor,
        expected,
        now,
    })
}

#[divan::bench]
fn verify_a_chain(bencher: Bencher<'_, '_>) {
    let made = make().unwrap_or_else(|fault| unreachable!("{fault}"));
    bencher.bench(|| {
        let made = black_box(&made);
        let descriptor = chain::descriptor(&made.descriptor, &made.root, made.now, None)?;
        chain::invite(&made.invite, &descriptor, &made.expected, made.now)
    });
    let descriptor = chain::descriptor(&made.descriptor, &made.root, made.now, None);
    // a benchmark of a refusal would measure nothing
    assert!(descriptor.is_ok_and(|descriptor| {
        chain::invite(&made.invite, &descriptor, &made.expected, made.now).is_ok()
    }));
}
