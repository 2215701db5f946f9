//! The keys that an agency stands on: under passphrases, and from one root to the next.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use suora_protocol::documents::{self, Credential, Descriptor, Signed, Verified, chain};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{AgencyId, Key};
use suora_protocol::time::Timestamp;
use suora_relay::serve::boot;

use crate::agency::officer_key;
use crate::rig::{self, Agency, failure, success};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A private file with this first line.
fn phrase(dir: &Path, name: &str, line: &str) -> PathBuf {
    let path = dir.join(name);
    suora_relay::keys::replace(&path, format!("{line}\n").as_bytes(), 0o600).unwrap();
    path
}

fn sign(agency: &Agency, phrase: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["descriptor", "sign", "--root"].map(Into::into).to_vec();
    arguments.push(agency.path("root").into());
    arguments.extend(["--out".into(), agency.path("relay/descriptor.cose").into()]);
    arguments.extend(["--passphrase-file".into(), phrase.into()]);
    arguments
}

/// An agency whose keys are under the passphrase of this file.
fn sealed(phrase: &Path) -> Agency {
    Agency::with(&[
        "--passphrase".as_ref(),
        "--passphrase-file".as_ref(),
        phrase.as_os_str(),
    ])
}

// covers: SUORA-SEC-102
#[test]
fn root_and_issuing_key_open_with_their_passphrase_alone() {
    let dir = tempfile::tempdir().unwrap();
    let good = phrase(dir.path(), "good", "correct horse battery");
    let other = phrase(dir.path(), "other", "incorrect horse battery");
    let agency = sealed(&good);
    for key in ["root/root.key", "issuing/issuing.key"] {
        let text = fs::read_to_string(agency.path(key)).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
        assert_eq!(mode(&agency.path(key)), 0o600);
    }
    assert!(failure(sign(&agency, &other)).contains("wrong-passphrase"));
    assert_eq!(agency.descriptor().sequence, 1);
    assert!(success(sign(&agency, &good)).contains("sequence 2"));
    // a passphrase that others can read protects nothing
    fs::set_permissions(&good, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(failure(sign(&agency, &good)).contains("chmod 600"));

    // a relay with a sealed key in its folder does not start, whatever the file is called
    let hidden = agency.path("relay/notes.txt");
    fs::copy(agency.path("issuing/issuing.key"), &hidden).unwrap();
    let said = failure(["serve".as_ref(), agency.path("relay").as_os_str()]);
    assert!(
        said.contains("passphrase") && said.contains("notes.txt"),
        "{said}"
    );
    fs::remove_file(hidden).unwrap();
    agency.serve().kill();
}

// covers: SUORA-SEC-132
#[test]
fn who_waits_for_another_tool_says_so_and_a_passphrase_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let good = phrase(dir.path(), "good", "correct horse battery");
    let other = phrase(dir.path(), "other", "incorrect horse battery");
    let agency = sealed(&good);
    let held = suora_relay::keys::hold(&agency.path("root"), || {}).unwrap();
    // the key comes before the folder
    let (mut child, said) = rig::begins(sign(&agency, &other));
    assert!(said.starts_with("suora-relay:"), "{said}");
    assert!(!child.wait().unwrap().success());
    let (mut child, said) = rig::begins(sign(&agency, &good));
    assert!(
        said.starts_with("Waiting for another suora-relay"),
        "{said}"
    );
    assert_eq!(agency.descriptor().sequence, 1);
    drop(held);
    assert!(child.wait().unwrap().success());
    assert_eq!(agency.descriptor().sequence, 2);
}

// covers: SUORA-SEC-102
#[test]
fn a_key_goes_under_a_passphrase_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let agency = Agency::new();
    let root = agency.path("root/root.key");
    let plain = fs::read(&root).unwrap();
    let key = |what: &str, phrase: &Path, old: Option<&Path>| -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["key".into(), what.into(), root.clone().into()];
        arguments.extend(["--passphrase-file".into(), phrase.into()]);
        if let Some(old) = old {
            arguments.extend(["--old-passphrase-file".into(), old.into()]);
        }
        arguments
    };
    let short = phrase(dir.path(), "short", "too short");
    let first = phrase(dir.path(), "first", "correct horse battery");
    let second = phrase(dir.path(), "second", "another horse battery");
    // characters count, not bytes
    let letters = phrase(dir.path(), "letters", "åäöåäöåäöåä");
    for short in [&short, &letters] {
        assert!(failure(key("protect", short, None)).contains("12 characters"));
    }
    assert_eq!(fs::read(&root).unwrap(), plain);
    success(key("protect", &first, None));
    assert!(failure(key("protect", &second, Some(&second))).contains("wrong-passphrase"));
    success(key("protect", &second, Some(&first)));
    assert!(failure(key("unprotect", &first, None)).contains("wrong-passphrase"));
    success(key("unprotect", &second, None));
    assert_eq!(fs::read(&root).unwrap(), plain);
    assert_eq!(mode(&root), 0o600);
}

// covers: SUORA-SEC-102
#[test]
fn a_passphrase_is_asked_for_at_the_terminal_and_not_shown() {
    const GOOD: &str = "correct horse battery";
    const NEW: &str = "New passphrase for";
    const AGAIN: &str = "The same again";
    let agency = Agency::new();
    let root = agency.path("root/root.key");
    let plain = fs::read(&root).unwrap();
    let protect = format!("key protect {}", root.display());
    let type_ = |arguments: &str, lines: &[(&str, &str)]| {
        let (is_well, shown) = rig::typed(arguments, lines);
        let hidden = lines.iter().all(|(_, line)| !shown.contains(line));
        assert!(hidden, "{shown}");
        (is_well, shown)
    };
    let (is_well, shown) = type_(&protect, &[(NEW, "too short")]);
    assert!(!is_well && shown.contains("12 characters"), "{shown}");
    let (is_well, shown) = type_(&protect, &[(NEW, GOOD), (AGAIN, "correct horse batterY")]);
    assert!(!is_well && shown.contains("not the same"), "{shown}");
    assert_eq!(fs::read(&root).unwrap(), plain);
    let (is_well, shown) = type_(&protect, &[(NEW, GOOD), (AGAIN, GOOD)]);
    assert!(
        is_well && shown.contains("opens with the passphrase"),
        "{shown}"
    );

    let sign = format!(
        "descriptor sign --root {} --out {}",
        agency.path("root").display(),
        agency.path("relay/descriptor.cose").display()
    );
    let asked = "Passphrase for";
    let (is_well, shown) = type_(&sign, &[(asked, "incorrect horse battery")]);
    assert!(!is_well && shown.contains("wrong-passphrase"), "{shown}");
    let (is_well, shown) = type_(&sign, &[(asked, GOOD)]);
    assert!(is_well && shown.contains("Signed sequence 2"), "{shown}");
}

fn root(agency: &Agency, step: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["root".into(), step.into()];
    arguments.extend(["--root".into(), agency.path("root").into()]);
    arguments.extend(["--next".into(), agency.path("next").into()]);
    arguments.extend(["--out".into(), agency.path("relay/descriptor.cose").into()]);
    if step == "change" {
        arguments.push("--yes".into());
    }
    arguments
}

fn page(agency: &Agency) -> Signed<Descriptor> {
    Signed::from_bytes(fs::read(agency.path("relay/descriptor.cose")).unwrap()).unwrap()
}

fn judge(agency: &Agency, credential: &[u8]) -> Result<Verified<Credential>, Fault> {
    let signed = Signed::from_bytes(credential.to_vec())?;
    chain::credential(&signed, &agency.descriptor(), rig::now())
}

// covers: SUORA-DOC-100
#[test]
fn a_root_names_the_next_one_and_then_gives_way_to_it() {
    let agency = Agency::new();
    let officer = officer_key(1);
    let credential = agency.issue(&officer);
    let first = agency.descriptor();
    assert!(failure(root(&agency, "change")).contains("next/root.key"));

    success(root(&agency, "next"));
    let naming = agency.descriptor();
    assert_eq!((naming.agency, naming.sequence), (first.agency, 2));
    let mut another = root(&agency, "next");
    let named = another
        .iter()
        .position(|argument| argument == "--next")
        .unwrap()
        + 1;
    another[named] = agency.path("another").into();
    assert!(failure(&another).contains("names a next root already"));
    assert!(!agency.path("another").exists());
    let said = success([
        "descriptor".as_ref(),
        "show".as_ref(),
        agency.path("relay/descriptor.cose").as_os_str(),
    ]);
    assert!(said.contains("next root  "), "{said}");
    assert!(
        judge(&agency, &credential).is_ok(),
        "nothing has changed yet"
    );

    // every credential ends by it, so it asks
    let with = |more: &[&str]| {
        let mut arguments = root(&agency, "change");
        arguments.retain(|argument| argument != "--yes");
        arguments.extend(more.iter().map(Into::into));
        arguments
    };
    let issuing = agency.path("issuing").display().to_string();
    assert!(failure(with(&[])).contains("--yes"));
    let said = failure(with(&["--issuing", &issuing]));
    assert!(said.contains("the register: 1"), "{said}");
    let nowhere = agency.path("next").display().to_string();
    assert!(failure(with(&["--issuing", &nowhere])).contains("no issuing.key"));
    assert_eq!(agency.descriptor().sequence, 2, "nothing has changed yet");
    let said = success(with(&["--issuing", &issuing, "--yes"]));
    assert!(said.contains("to renew: 1."), "{said}");
    let changed = agency.descriptor();
    let next = agency.key("next/root.key").peer_id();
    assert_eq!(changed.agency, AgencyId::of_root(&next));
    assert_eq!((changed.sequence, changed.next_root), (3, None));
    assert_eq!(changed.desks, first.desks);
    // who knows the page that named it follows; who does not, does not
    assert!(chain::descriptor_after(&page(&agency), &naming, rig::now()).is_ok());
    let lost = chain::descriptor_after(&page(&agency), &first, rig::now());
    assert_eq!(lost.unwrap_err().code, Code::WrongAgency);
    // credentials name the agency, so they are signed anew
    let refused = judge(&agency, &credential).unwrap_err();
    assert_eq!(refused.code, Code::WrongAgency);
    assert!(judge(&agency, &agency.issue(&officer)).is_ok());
    // the old root names nobody any more
    assert!(failure(root(&agency, "next")).contains("holds a root's page already"));
    assert_eq!(agency.descriptor().sequence, 3);
}

// covers: SUORA-DOC-100, SUORA-SEC-132
#[test]
fn a_step_whose_descriptor_did_not_come_out_is_repeated() {
    let agency = Agency::new();
    let to = |step: &str, out: &str| {
        let mut arguments = root(&agency, step);
        let named = arguments.iter().position(|argument| argument == "--out");
        arguments[named.unwrap() + 1] = agency.path(out).into();
        arguments
    };
    // what cannot be right is found before a key is made
    assert!(failure(to("next", "root/root.key")).contains("holds a key"));
    assert!(!agency.path("next").exists());

    assert!(failure(to("next", "nowhere/page")).contains("cannot be written"));
    let next = agency.key("next/root.key").peer_id();
    assert_eq!(agency.descriptor().next_root, None);
    let said = success(root(&agency, "next"));
    assert!(said.contains("was named already"), "{said}");
    let naming = agency.descriptor();
    let id = AgencyId::of_root(&next);
    let named = naming.next_root.as_ref().map(|next| *next.as_bytes());
    assert_eq!(named, Some(*id.as_bytes()), "another key was made");

    assert!(failure(to("change", "nowhere/page")).contains("cannot be written"));
    assert_eq!(agency.descriptor().sequence, naming.sequence);
    // whom the old root revokes in between stays revoked
    let revoked = Key::from_secret(&[77; 32]).peer_id();
    let mut page_of_old: toml::Table =
        toml::from_str(&fs::read_to_string(agency.path("root/descriptor.toml")).unwrap()).unwrap();
    page_of_old.insert("revoked".into(), vec![revoked.to_text()].into());
    fs::write(
        agency.path("root/descriptor.toml"),
        toml::to_string(&page_of_old).unwrap(),
    )
    .unwrap();
    let said = success(root(&agency, "change"));
    assert!(said.contains("was made already"), "{said}");
    let changed = chain::descriptor_after(&page(&agency), &naming, rig::now()).unwrap();
    assert_eq!(changed.agency, id);
    assert_eq!(changed.revoked, [revoked]);
    assert!(changed.sequence > naming.sequence);
}

// covers: SUORA-DOC-100
#[test]
fn a_next_root_key_that_nobody_named_yet_is_named_and_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let good = phrase(dir.path(), "good", "correct horse battery");
    let agency = Agency::new();
    // as a tool leaves it that was killed between the two
    fs::create_dir(agency.path("next")).unwrap();
    let key = suora_relay::keys::generate().unwrap();
    suora_relay::keys::save(&agency.path("next/root.key"), &key).unwrap();
    let mut arguments = root(&agency, "next");
    arguments.extend([
        "--passphrase".into(),
        "--passphrase-file".into(),
        good.into(),
    ]);
    let said = success(arguments);
    let id = AgencyId::of_root(&key.peer_id());
    assert!(said.contains(&id.to_text()), "{said}");
    let text = fs::read_to_string(agency.path("next/root.key")).unwrap();
    assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
}

// covers: SUORA-SEC-001
#[test]
fn a_relay_that_follows_to_the_next_root_wants_no_key_of_the_one_before() {
    let agency = Agency::new();
    success(root(&agency, "next"));
    let naming = agency.descriptor();
    success(root(&agency, "change"));
    let key = agency.key("relay/relay.key");
    let again = || boot::descriptor_again(&agency.path("relay"), &key, &naming, rig::now());
    // nodes that have not followed yet believe the former root
    let notes = agency.path("relay/notes.txt");
    fs::copy(agency.path("root/root.key"), &notes).unwrap();
    let said = again().unwrap_err().to_string();
    assert!(
        said.contains("notes.txt holds the root key of the last descriptor"),
        "{said}"
    );
    fs::remove_file(notes).unwrap();
    assert_eq!(again().unwrap().sequence, 3);
}

// covers: SUORA-SEC-132
#[test]
fn an_older_copy_of_the_old_root_changes_above_what_was_published() {
    let agency = Agency::new();
    success(root(&agency, "next"));
    let copy = fs::read(agency.path("root/descriptor.toml")).unwrap();
    let mut sign: Vec<OsString> = ["descriptor", "sign", "--root"].map(Into::into).to_vec();
    sign.push(agency.path("root").into());
    sign.extend(["--out".into(), agency.path("relay/descriptor.cose").into()]);
    success(&sign);
    let naming = agency.descriptor();
    assert_eq!(naming.sequence, 3);
    fs::write(agency.path("root/descriptor.toml"), copy).unwrap();
    success(root(&agency, "change"));
    let changed = chain::descriptor_after(&page(&agency), &naming, rig::now()).unwrap();
    assert_eq!(changed.sequence, 4);
}

// covers: SUORA-SEC-132
#[test]
fn an_older_copy_changes_above_a_published_page_that_has_ended() {
    let agency = Agency::new();
    success(root(&agency, "next"));
    let mut ended = (*agency.descriptor()).clone();
    let day = |days: i64| Timestamp::from_secs(rig::now().as_secs() + days * 86_400);
    (ended.issued_at, ended.not_after) = (day(-40), day(-12));
    ended.sequence = 7;
    ended.revoked = vec![officer_key(1).peer_id()];
    let ended = documents::sign(&ended, &agency.key("root/root.key")).unwrap();
    fs::write(agency.path("relay/descriptor.cose"), ended.bytes()).unwrap();
    assert!(success(root(&agency, "change")).contains("is newer (7)"));
    let changed = agency.descriptor();
    let next = agency.key("next/root.key").peer_id();
    assert_eq!(changed.agency, AgencyId::of_root(&next));
    assert_eq!(changed.sequence, 8);
    assert_eq!(changed.revoked, [officer_key(1).peer_id()]);
}

// covers: SUORA-DOC-100
#[tokio::test(flavor = "multi_thread")]
async fn a_running_relay_takes_the_next_roots_page_and_no_strangers() {
    let agency = Agency::new();
    let relay = agency.serve();
    let served = async || rig::get(relay.http, "/.well-known/suora", "").await.1;
    for step in ["next", "change"] {
        success(root(&agency, step));
        let page = page(&agency).bytes().to_vec();
        relay.hang_up();
        rig::until(step, || async { served().await == page }).await;
    }
    // a stranger's page changes nothing
    let last = served().await;
    let stranger = Agency::new();
    fs::copy(
        stranger.path("relay/descriptor.cose"),
        agency.path("relay/descriptor.cose"),
    )
    .unwrap();
    relay.hang_up();
    // the next signal is taken after this one
    let mut sign: Vec<OsString> = ["descriptor", "sign", "--root"].map(Into::into).to_vec();
    sign.push(agency.path("next").into());
    sign.extend(["--out".into(), agency.path("signed").into()]);
    success(sign);
    assert_eq!(served().await, last);
    fs::rename(agency.path("signed"), agency.path("relay/descriptor.cose")).unwrap();
    let page = page(&agency).bytes().to_vec();
    relay.hang_up();
    rig::until("the own page", || async { served().await == page }).await;
}
