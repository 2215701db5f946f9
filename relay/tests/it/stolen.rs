//! Somebody has copied all that lies on a running relay.

use std::collections::BTreeSet;
use std::fs;

use suora_protocol::documents::chain::{self, InviteExpected};
use suora_protocol::documents::{
    self, AddressPolicy, Challenge, ConsultationId, Credential, Dcid, DescriptorRef, Invite, Nonce,
    Role, SessionId, Signed,
};
use suora_protocol::fault::Code;
use suora_protocol::identity::{Hash, Key};
use suora_protocol::limits::INVITE_VALID;
use suora_protocol::time::Timestamp;
use suora_protocol::wire::citizen::FromRelay;

use crate::agency::{desk, key, officer_key};
use crate::commands::{seeds, walk};
use crate::rig::{self, Agency, By, success};

// covers: SUORA-SEC-006
#[tokio::test(flavor = "multi_thread")]
async fn with_all_that_a_running_relay_has_no_invite_can_be_made() {
    let agency = Agency::new();
    let _relay = agency.serve();
    // an officer's credential is kept there, and a citizen waits
    let officer = officer_key(1);
    let credential = agency.issue(&officer);
    let file = agency.path("officer.credential");
    fs::write(&file, &credential).unwrap();
    let relay = agency.path("relay");
    success([
        "credential".as_ref(),
        "add".as_ref(),
        "--relay".as_ref(),
        relay.as_os_str(),
        file.as_os_str(),
    ]);
    let guest = key(40);
    let (_node, mut link) = rig::citizen(&agency, &guest, By::Quic).await;
    link.say(&rig::join("tax")).await;
    let Some(FromRelay::Queued { ticket, .. }) = link.hear().await else {
        panic!("not queued");
    };

    let mut found = BTreeSet::new();
    let mut has_credential = false;
    let secrets = ["root/root.key", "issuing/issuing.key"].map(|name| *agency.key(name).secret());
    for file in walk(&relay) {
        let bytes = fs::read(&file).unwrap();
        // in no form, in no file, of whatever length
        for secret in &secrets {
            let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            for form in [&secret[..], hex.as_bytes(), hex.to_uppercase().as_bytes()] {
                let holds = bytes.windows(form.len()).any(|part| part == form);
                assert!(!holds, "{}", file.display());
            }
        }
        has_credential |= bytes
            .windows(credential.len())
            .any(|part| part == credential);
        // what a store holds of keys would be listed in the descriptor, or be a relay's own
        if bytes.len() <= 4_096 {
            found.extend(seeds(&bytes));
        }
    }
    assert!(has_credential, "the thief has a true credential");
    let (page, now) = (agency.descriptor(), rig::now());
    let pass = agency.key("relay/pass.key");
    for own in [&pass, &agency.key("relay/relay.key")] {
        assert!(
            found.contains(&*own.secret()),
            "the thief has the relay's keys"
        );
    }

    let expected = InviteExpected {
        desk: desk("tax"),
        ticket,
        guest: guest.peer_id(),
        challenge: Challenge::from_bytes([5; 16]),
    };
    let judge = |by: &Key, credential: &[u8]| {
        let invite = Invite {
            agency: page.agency,
            desk: expected.desk.clone(),
            ticket,
            consultation: ConsultationId::from_bytes([1; 16]),
            session: SessionId::from_bytes([2; 16]),
            nonce: Nonce::from_bytes([3; 32]),
            guest: expected.guest,
            challenge: expected.challenge,
            role: Role::Citizen,
            fingerprint: Hash::from_bytes([4; 32]),
            dcid: Dcid::from_bytes([6; 20]),
            versions: vec![chain::ALPN.into()],
            addresses: vec!["192.0.2.1:9".into()],
            address_policy: AddressPolicy::Open,
            require_pq: false,
            descriptor: DescriptorRef {
                sequence: page.sequence,
                hash: page.hash(),
            },
            previous: None,
            credential: credential.to_vec(),
            issued_at: now,
            not_after: now + INVITE_VALID,
        };
        let signed: Signed<Invite> = documents::sign(&invite, by).unwrap();
        let judged = chain::invite(&signed, &page, &expected, now);
        judged.map(|_| ()).map_err(|fault| fault.code)
    };
    let tomorrow = Timestamp::from_secs(now.as_secs() + 86_400);
    let mut tried = 0;
    for seed in &found {
        let thief = Key::from_secret(seed);
        // the officer's credential under a key that is not the officer's
        assert_eq!(judge(&thief, &credential), Err(Code::BadSignature));
        // a credential of the thief's own making
        for listed in &page.keys {
            let claim = Credential {
                key: listed.id.clone(),
                ..agency.claim(&thief, (now, tomorrow))
            };
            let own = documents::sign(&claim, &thief).unwrap();
            let refused = judge(&thief, own.bytes());
            assert!(
                matches!(refused, Err(Code::BadSignature | Code::WrongSigner)),
                "{refused:?}"
            );
            tried += 1;
        }
    }
    assert!(tried >= 4, "{tried}");
    // the control: with the key that lies on the officer's device it can be made
    assert_eq!(judge(&officer, &credential), Ok(()));
}
