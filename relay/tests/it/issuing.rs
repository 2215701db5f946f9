//! The administrator's machine: credentials, their register, and revocation.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use suora_protocol::documents::{Credential, Role, Signed, Verified, chain};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Key;
use suora_protocol::wire::officer::FromRelay;

use crate::agency::officer_key;
use crate::rig::{self, Agency, By, failure, success};

/// `issue WHAT…` with the agency's issuing folder and descriptor.
fn issue<S: AsRef<OsStr>>(agency: &Agency, what: &[S]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["issue".into()];
    arguments.extend(what.iter().map(Into::into));
    arguments.extend(["--issuing".into(), agency.path("issuing").into()]);
    let descriptor = agency.path("relay/descriptor.cose");
    arguments.extend(["--descriptor".into(), descriptor.into()]);
    arguments
}

fn renew(agency: &Agency, whom: &[&str]) -> Vec<OsString> {
    let mut what = vec!["renew"];
    what.extend(whom);
    let mut arguments = issue(agency, &what);
    arguments.extend(["--out".into(), agency.path("renewed").into()]);
    arguments
}

fn verify(agency: &Agency, file: &Path) -> Result<Verified<Credential>, Fault> {
    let signed = Signed::from_bytes(fs::read(file).unwrap())?;
    chain::credential(&signed, &agency.descriptor(), rig::now())
}

fn renewed(agency: &Agency, officer: &Key) -> Verified<Credential> {
    let name = format!("renewed/{}.credential", officer.peer_id().to_text());
    verify(agency, &agency.path(&name)).unwrap()
}

/// An interpreter's credential, to the file `interpreter`.
fn interpreter(agency: &Agency, key: &Key) {
    let mut arguments = issue(agency, &["partner", "--role", "interpreter"]);
    let out = agency.path("interpreter");
    for (option, value) in [
        ("--peer", key.peer_id().to_text()),
        ("--desk", "job".into()),
        ("--name", "Ines".into()),
        ("--days", "30".into()),
        ("--out", out.to_str().unwrap().into()),
    ] {
        arguments.extend([option.into(), value.into()]);
    }
    success(arguments);
}

// covers: SUORA-SEC-100
#[test]
fn all_who_have_a_credential_are_renewed_in_one_go() {
    let agency = Agency::new();
    let (first, second) = (officer_key(1), officer_key(2));
    let issued = [agency.issue(&first), agency.issue(&second)];
    interpreter(&agency, &first);
    let register = agency.path("issuing/register.toml");
    let mode = fs::metadata(&register).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it names people");

    let said = success(renew(&agency, &["--all"]));
    assert_eq!(said.matches("until").count(), 3, "{said}");
    assert!(said.contains("Partners get theirs from you"), "{said}");
    for (officer, issued) in [&first, &second].into_iter().zip(issued) {
        let issued = Signed::from_bytes(issued).unwrap();
        let issued = chain::credential(&issued, &agency.descriptor(), rig::now()).unwrap();
        let renewed = renewed(&agency, officer);
        assert_eq!(renewed.peer, officer.peer_id());
        assert_eq!(
            (&renewed.name, &renewed.desks, renewed.role),
            (&issued.name, &issued.desks, issued.role)
        );
        assert!(!issued.supersedes(&renewed));
        let holds = renewed.not_after.since(renewed.not_before);
        assert_eq!(holds.as_secs(), 7 * 86_400);
    }
    let name = format!(
        "renewed/{}-interpreter.credential",
        first.peer_id().to_text()
    );
    let partner = verify(&agency, &agency.path(&name)).unwrap();
    assert_eq!(partner.role, Role::Interpreter);
    let holds = partner.not_after.since(partner.not_before);
    assert_eq!(holds.as_secs(), 30 * 86_400);

    // one alone, and nobody who was never there
    fs::remove_dir_all(agency.path("renewed")).unwrap();
    let text = second.peer_id().to_text();
    success(renew(&agency, &["--peer", &text]));
    assert_eq!(fs::read_dir(agency.path("renewed")).unwrap().count(), 1);
    let stranger = officer_key(3).peer_id().to_text();
    assert!(failure(renew(&agency, &["--peer", &stranger])).contains("issue first"));
    assert!(failure(renew(&agency, &[])).contains("--all"));
}

// covers: SUORA-SEC-100
#[test]
fn of_many_who_are_issued_at_once_the_register_has_all() {
    let agency = Agency::new();
    std::thread::scope(|scope| {
        for number in 1..=8 {
            let agency = &agency;
            scope.spawn(move || agency.issue(&officer_key(number)));
        }
    });
    let said = success(renew(&agency, &["--all"]));
    assert_eq!(said.matches("until").count(), 8, "{said}");
}

#[test]
fn who_is_forgotten_is_renewed_no_more() {
    let agency = Agency::new();
    let (stays, leaves) = (officer_key(1), officer_key(2));
    agency.issue(&stays);
    agency.issue(&leaves);
    let issuing = agency.path("issuing");
    let text = leaves.peer_id().to_text();
    let forget = [
        "issue".as_ref(),
        "forget".as_ref(),
        "--issuing".as_ref(),
        issuing.as_os_str(),
        text.as_ref(),
    ];
    success(forget);
    assert!(failure(forget).contains("not in the register"));
    success(renew(&agency, &["--all"]));
    assert_eq!(fs::read_dir(agency.path("renewed")).unwrap().count(), 1);
    renewed(&agency, &stays);
}

#[test]
fn a_damaged_register_is_refused_and_left_as_it_is() {
    let agency = Agency::new();
    agency.issue(&officer_key(1));
    let register = agency.path("issuing/register.toml");
    let text = fs::read_to_string(&register).unwrap();
    fs::write(&register, format!("{text}surprise = 1\n")).unwrap();
    let said = failure(renew(&agency, &["--all"]));
    assert!(
        said.contains("surprise") && said.contains("register.toml"),
        "{said}"
    );
    assert!(!agency.path("renewed").exists());
}

fn revoke(agency: &Agency, peer: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["descriptor", "revoke", peer].map(Into::into).to_vec();
    arguments.extend(["--root".into(), agency.path("root").into()]);
    let out = agency.path("relay/descriptor.cose");
    arguments.extend(["--out".into(), out.into()]);
    arguments
}

// covers: SUORA-SEC-101
#[test]
fn revoking_is_a_line_of_the_page_and_a_new_signature() {
    let agency = Agency::new();
    let officer = officer_key(1);
    let credential = agency.path("credential");
    fs::write(&credential, agency.issue(&officer)).unwrap();
    assert!(verify(&agency, &credential).is_ok());
    let page = agency.path("root/descriptor.toml");
    let text = fs::read_to_string(&page).unwrap();
    let text = text.replace("sequence = 1", "sequence = 1 # ours");
    fs::write(&page, format!("# a note\n{text}")).unwrap();

    let peer = officer.peer_id().to_text();
    let said = success(revoke(&agency, &peer));
    assert!(said.contains("Signed sequence 2"), "{said}");
    let refused = verify(&agency, &credential).unwrap_err();
    assert_eq!(refused.code, Code::Revoked);
    let text = fs::read_to_string(&page).unwrap();
    for part in ["# a note\n", "sequence = 2 # ours\n", &peer] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(failure(revoke(&agency, "somebody")).contains("peer id"));
    assert_eq!(agency.descriptor().sequence, 2, "nothing was signed");
    let said = success(renew(&agency, &["--all"]));
    assert!(said.contains("revoked, not renewed"), "{said}");
}

// covers: SUORA-SEC-101
#[test]
fn a_revocation_that_did_not_come_out_is_repeated() {
    let agency = Agency::new();
    let peer = officer_key(1).peer_id();
    let mut nowhere = revoke(&agency, &peer.to_text());
    nowhere.pop();
    nowhere.push(agency.path("nowhere/descriptor.cose").into());
    assert!(failure(nowhere).contains("cannot be written"));
    assert!(agency.descriptor().revoked.is_empty());
    for _ in 0..2 {
        let before = agency.descriptor().sequence;
        let said = success(revoke(&agency, &peer.to_text()));
        assert!(said.contains("was revoked already"), "{said}");
        let page = agency.descriptor();
        assert!(page.sequence > before);
        assert_eq!(page.revoked, [peer]);
    }
}

fn sign(agency: &Agency, out: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["descriptor", "sign", "--root"].map(Into::into).to_vec();
    arguments.extend([agency.path("root").into(), "--out".into()]);
    arguments.push(agency.path(out).into());
    arguments
}

// covers: SUORA-SEC-132
#[test]
fn an_older_copy_of_the_root_folder_signs_above_what_was_published() {
    let agency = Agency::new();
    let page = agency.path("root/descriptor.toml");
    let copy = fs::read(&page).unwrap();
    let officer = officer_key(1);
    let credential = agency.path("credential");
    fs::write(&credential, agency.issue(&officer)).unwrap();
    success(revoke(&agency, &officer.peer_id().to_text()));
    success(sign(&agency, "relay/descriptor.cose"));
    let published = agency.descriptor();
    assert_eq!(published.sequence, 3);

    fs::write(&page, &copy).unwrap();
    let said = success(sign(&agency, "relay/descriptor.cose"));
    assert!(said.contains("is newer (3)") && said.contains("Signed sequence 4"));
    let next = agency.descriptor();
    assert_eq!((next.sequence, &next.revoked), (4, &published.revoked));
    let refused = verify(&agency, &credential).unwrap_err();
    assert_eq!(refused.code, Code::Revoked);
    // the page has learnt it: in another place, too, the next one is the next
    assert!(success(sign(&agency, "elsewhere")).contains("Signed sequence 5"));

    // somebody else's descriptor counts for nothing, and neither does what is none: one is told
    let warned = || {
        let output = rig::run(sign(&agency, "elsewhere"));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("holds no descriptor of this root"), "{told}");
        String::from_utf8(output.stdout).unwrap()
    };
    let stranger = Agency::new();
    for _ in 0..8 {
        success(sign(&stranger, "relay/descriptor.cose"));
    }
    let theirs = stranger.path("relay/descriptor.cose");
    fs::copy(theirs, agency.path("elsewhere")).unwrap();
    assert!(warned().contains("Signed sequence 6"));
    fs::write(agency.path("elsewhere"), "half").unwrap();
    assert!(warned().contains("Signed sequence 7"));
    // the control: over one's own
    let output = rig::run(sign(&agency, "elsewhere"));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

// covers: SUORA-SEC-132
#[test]
fn many_who_sign_at_once_use_no_sequence_twice() {
    let agency = Agency::new();
    let files: Vec<String> = (0..6).map(|number| format!("page-{number}")).collect();
    std::thread::scope(|scope| {
        for file in &files {
            scope.spawn(|| success(sign(&agency, file)));
        }
    });
    let mut sequences: Vec<u64> = files
        .iter()
        .map(|file| {
            let signed = Signed::from_bytes(fs::read(agency.path(file)).unwrap()).unwrap();
            let page = chain::descriptor_as_given(&signed, rig::now()).unwrap();
            page.sequence
        })
        .collect();
    sequences.sort_unstable();
    assert_eq!(sequences, [2, 3, 4, 5, 6, 7]);
}

fn add(agency: &Agency, files: &[&Path]) -> Vec<OsString> {
    let relay = agency.path("relay");
    let mut arguments: Vec<OsString> = ["credential", "add", "--relay"].map(Into::into).to_vec();
    arguments.push(relay.into());
    arguments.extend(files.iter().map(|file| file.as_os_str().to_owned()));
    arguments
}

// covers: SUORA-DSK-100, SUORA-DSK-101, SUORA-DSK-102
#[tokio::test(flavor = "multi_thread")]
async fn a_running_relay_takes_credentials_by_a_socket_of_its_owner_and_keeps_them() {
    let agency = Agency::new();
    let relay = agency.serve();
    let socket = agency.path("relay/relay.sock");
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let officer = officer_key(1);
    let good = agency.path("good");
    fs::write(&good, agency.issue(&officer)).unwrap();
    interpreter(&agency, &officer);
    let (partner, damaged) = (agency.path("interpreter"), agency.path("damaged"));
    let mut bytes = fs::read(&good).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, bytes).unwrap();

    // what is good is taken, whatever stands beside it
    let said = failure(add(&agency, &[&damaged, &good, &partner]));
    assert!(said.contains("1 of 3 were not taken"), "{said}");
    assert!(said.contains("bad-signature") && !said.contains("wrong-role"));
    // a partner's is no error among officers', and alone it is
    let said = success(add(&agency, &[&partner, &good]));
    assert!(said.contains("one as new is kept already"), "{said}");
    assert!(said.contains("give it to the partner"), "{said}");
    assert!(failure(add(&agency, &[&partner])).contains("wrong-role"));

    // taken is taken, whatever becomes of the relay
    relay.kill();
    assert!(failure(add(&agency, &[&good])).contains("suora-relay serve"));
    let relay = agency.serve();
    let (_node, mut link) = rig::officer(&agency, &officer, By::Quic).await;
    link.say(&rig::attend(Vec::new())).await;
    let credential = fs::read(&good).unwrap();
    let handed = Some(FromRelay::Credential { credential });
    assert_eq!(link.hear().await, handed);
    assert!(matches!(
        link.hear().await,
        Some(FromRelay::Attending { .. })
    ));
    relay.terminate();
    assert!(!socket.exists(), "nothing is left behind");
}
