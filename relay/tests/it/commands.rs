//! The command line, as a newcomer meets it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use suora_protocol::documents::{self, Credential, Role, Signed, chain};
use suora_protocol::fault::Code;
use suora_protocol::identity::{Key, PeerId};
use suora_protocol::time::Timestamp;
use suora_relay::text::Texts;

use crate::agency::{key, officer_key};
use crate::rig::{self, Agency, failure, success};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

// covers: SUORA-SEC-002
#[test]
fn init_makes_three_private_folders_and_says_what_comes_next() {
    let agency = Agency::new();
    for folder in ["root", "issuing", "relay"] {
        assert_eq!(mode(&agency.path(folder)), 0o700, "{folder}");
    }
    for file in [
        "root/root.key",
        "root/descriptor.toml",
        "issuing/issuing.key",
        "relay/relay.key",
        "relay/pass.key",
        "relay/turn.secret",
        "relay/relay.toml",
    ] {
        assert_eq!(mode(&agency.path(file)), 0o600, "{file}");
    }
    let page = agency.descriptor();
    assert_eq!(page.names.fi, "Virasto");
    assert_eq!(page.names.en, "agency.example");
    assert_eq!(
        (page.desks[0].names.get("fi"), page.desks[0].names.get("sv")),
        ("Verotus", "Beskattning")
    );
    assert_eq!(page.desks[1].names.en, "job");
    let again = failure([
        "init".as_ref(),
        agency.path("").as_os_str(),
        "--domain".as_ref(),
        "x.example".as_ref(),
        "--desk".as_ref(),
        "tax".as_ref(),
    ]);
    assert!(again.contains("holds an agency already"), "{again}");
}

#[test]
fn init_refuses_desks_and_names_that_it_does_not_understand() {
    let dir = tempfile::tempdir().unwrap();
    let init = |desk: &str, name: &str| {
        let path = dir.path().join("a");
        let path = path.to_str().unwrap();
        failure([
            "init",
            path,
            "--domain",
            "x.example",
            "--desk",
            desk,
            "--name",
            name,
        ])
    };
    assert!(init("Tax Office", "en=X").contains("a-z 0-9"));
    assert!(init("tax", "Agency").contains("--name Agency: write en="));
    assert!(init("tax:de=Steuer", "en=X").contains("--desk de=Steuer: write en="));
    assert!(!dir.path().join("a").exists(), "nothing is left behind");
}

#[test]
fn issue_signs_what_the_chain_accepts_and_nothing_else() {
    let agency = Agency::new();
    let officer = officer_key(1);
    let signed = Signed::from_bytes(agency.issue(&officer)).unwrap();
    let credential = chain::credential(&signed, &agency.descriptor(), rig::now()).unwrap();
    assert_eq!(
        (credential.peer, credential.role),
        (officer.peer_id(), Role::Officer)
    );
    let week = credential.not_after.since(credential.not_before);
    assert_eq!(week.as_secs(), 7 * 86_400);

    let out = agency.path("c");
    let issue = |issuing: &str, desk: &str, days: &str, peer: &str| {
        failure([
            "issue".as_ref(),
            "partner".as_ref(),
            "--role".as_ref(),
            "interpreter".as_ref(),
            "--issuing".as_ref(),
            agency.path(issuing).as_os_str(),
            "--descriptor".as_ref(),
            agency.path("relay/descriptor.cose").as_os_str(),
            "--desk".as_ref(),
            desk.as_ref(),
            "--days".as_ref(),
            days.as_ref(),
            "--peer".as_ref(),
            peer.as_ref(),
            "--name".as_ref(),
            "Name".as_ref(),
            "--out".as_ref(),
            out.as_os_str(),
        ])
    };
    let peer = officer.peer_id().to_text();
    for days in ["0", "31", "-1"] {
        let error = issue("issuing", "tax", days, &peer);
        assert!(error.contains("days"), "{error}");
    }
    assert!(issue("issuing", "moon", "7", &peer).contains("the descriptor lists tax, job"));
    assert!(issue("issuing", "tax", "7", "someone").contains("peer id"));
    fs::rename(
        agency.path("relay/pass.key"),
        agency.path("issuing/issuing.key"),
    )
    .unwrap();
    assert!(issue("issuing", "tax", "7", &peer).contains("does not list this key"));
    assert!(!out.exists());
}

#[test]
fn descriptor_shows_and_signs_the_next_one() {
    let agency = Agency::new();
    let file = agency.path("relay/descriptor.cose");
    let show = || success(["descriptor".as_ref(), "show".as_ref(), file.as_os_str()]);
    let text = show();
    for part in [
        "Virasto",
        "Taxation / Verotus / Beskattning",
        "sequence   1",
        "signs credentials",
        "The signature is good.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let page = agency.path("root/descriptor.toml");
    let text = fs::read_to_string(&page).unwrap();
    fs::write(&page, format!("# a note of ours\n{text}")).unwrap();
    let root = agency.path("root");
    let sign = [
        "descriptor".as_ref(),
        "sign".as_ref(),
        "--root".as_ref(),
        root.as_os_str(),
        "--out".as_ref(),
        file.as_os_str(),
    ];
    assert!(success(sign).contains("sequence 2"));
    assert!(show().contains("sequence   2"));
    assert_eq!(mode(&page), 0o600);
    let text = fs::read_to_string(&page).unwrap();
    assert!(
        text.starts_with("# a note of ours\n") && text.contains("\nsequence = 2\n"),
        "{text}"
    );
    fs::write(&page, format!("surprise = 1\n{text}")).unwrap();
    assert!(failure(sign).contains("surprise"));
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(
        failure(["descriptor".as_ref(), "show".as_ref(), file.as_os_str()])
            .contains("bad-signature")
    );
}

// covers: SUORA-SEC-131
#[test]
fn nothing_that_is_signed_is_written_over_a_key_or_settings() {
    let agency = Agency::new();
    let phrase = agency.path("phrase");
    suora_relay::keys::replace(&phrase, b"correct horse battery\n", 0o600).unwrap();
    let sign = |out: &str| {
        let mut arguments: Vec<OsString> =
            ["descriptor", "sign", "--root"].map(Into::into).to_vec();
        arguments.extend([agency.path("root").into(), "--out".into()]);
        arguments.push(agency.path(out).into());
        arguments.extend(["--passphrase-file".into(), phrase.clone().into()]);
        arguments
    };
    let issue = |out: &str| {
        let mut arguments: Vec<OsString> =
            ["issue", "officer", "--issuing"].map(Into::into).to_vec();
        arguments.extend([agency.path("issuing").into(), "--descriptor".into()]);
        arguments.push(agency.path("relay/descriptor.cose").into());
        let peer = officer_key(1).peer_id().to_text();
        for text in [
            "--peer", &peer, "--desk", "tax", "--name", "Officer", "--out",
        ] {
            arguments.push(text.into());
        }
        arguments.push(agency.path(out).into());
        arguments
    };
    // one under a passphrase is a key too
    success([
        "key".as_ref(),
        "protect".as_ref(),
        agency.path("root/root.key").as_os_str(),
        "--passphrase-file".as_ref(),
        phrase.as_os_str(),
    ]);
    success(issue("first"));
    for (file, what) in [
        ("root/root.key", "a key"),
        ("issuing/issuing.key", "a key"),
        ("relay/relay.key", "a key"),
        ("root/descriptor.toml", "settings"),
        ("issuing/register.toml", "settings"),
    ] {
        let before = fs::read(agency.path(file)).unwrap();
        for arguments in [sign(file), issue(file)] {
            let said = failure(arguments);
            assert!(said.contains(&format!("holds {what}")), "{file}: {said}");
            assert_eq!(fs::read(agency.path(file)).unwrap(), before, "{file}");
        }
    }
    assert_eq!(agency.descriptor().sequence, 1);
    // the controls: over an older document, over nothing
    success(sign("relay/descriptor.cose"));
    success(issue("first"));
    success(sign("second"));
}

fn serve(agency: &Agency) -> String {
    failure(["serve".as_ref(), agency.path("relay").as_os_str()])
}

// covers: SUORA-SEC-001
#[test]
fn serve_refuses_a_directory_with_a_key_that_makes_officers() {
    let agency = Agency::new();
    for (key, what) in [
        ("root/root.key", "the root key"),
        ("issuing/issuing.key", "an issuing key"),
    ] {
        for name in ["relay/harmless.key", "relay/notes.txt", "relay/backup/old"] {
            fs::create_dir_all(agency.path("relay/backup")).unwrap();
            fs::copy(agency.path(key), agency.path(name)).unwrap();
            let error = serve(&agency);
            assert!(
                error.contains(what) && error.contains(name.split('/').next_back().unwrap()),
                "{error}"
            );
            fs::remove_file(agency.path(name)).unwrap();
        }
    }
    // the key that the descriptor names as the next root makes officers tomorrow
    success([
        "root".as_ref(),
        "next".as_ref(),
        "--root".as_ref(),
        agency.path("root").as_os_str(),
        "--next".as_ref(),
        agency.path("next").as_os_str(),
        "--out".as_ref(),
        agency.path("relay/descriptor.cose").as_os_str(),
    ]);
    fs::copy(agency.path("next/root.key"), agency.path("relay/notes.txt")).unwrap();
    assert!(serve(&agency).contains("notes.txt holds the next root key"));
    fs::remove_file(agency.path("relay/notes.txt")).unwrap();
    // neither a link nor depth hides one
    symlink(agency.path("issuing"), agency.path("relay/backup/old")).unwrap();
    assert!(serve(&agency).contains("backup/old cannot be searched"));
    fs::remove_file(agency.path("relay/backup/old")).unwrap();
    symlink(
        agency.path("issuing/issuing.key"),
        agency.path("relay/backup/old"),
    )
    .unwrap();
    assert!(serve(&agency).contains("an issuing key"));
    fs::remove_file(agency.path("relay/backup/old")).unwrap();
    // nor does a file that nobody can read
    symlink("/proc/self/mem", agency.path("relay/backup/old")).unwrap();
    assert!(serve(&agency).contains("backup/old cannot be read"));
    fs::remove_file(agency.path("relay/backup/old")).unwrap();
    fs::create_dir_all(agency.path("relay/backup/a/b/c/d")).unwrap();
    assert!(serve(&agency).contains("a/b/c/d cannot be searched"));
    fs::remove_dir(agency.path("relay/backup/a/b/c/d")).unwrap();
    fs::write(agency.path("relay/issuing.key"), "encrypted").unwrap();
    assert!(serve(&agency).contains("issuing.key"));
    fs::remove_file(agency.path("relay/issuing.key")).unwrap();
    agency.serve().kill();
}

/// All files beneath a folder.
pub(crate) fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => walk(&path),
            false => vec![path],
        })
        // the local socket holds no bytes
        .filter(|path| path.is_file())
        .collect()
}

/// Every key that a thief could read out of bytes: any 32 of them in a row, and any 64
/// hexadecimal digits in a row.
pub(crate) fn seeds(bytes: &[u8]) -> BTreeSet<[u8; 32]> {
    let raw = bytes.windows(32).map(|seed| seed.try_into().unwrap());
    let digits = bytes.windows(64).filter_map(|text| {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
        let digits: Vec<u8> = text.iter().map(digit).collect::<Option<_>>()?;
        let seed: Vec<u8> = digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect();
        seed.try_into().ok()
    });
    raw.chain(digits).collect()
}

// covers: SUORA-SEC-006
#[test]
fn with_a_copy_of_the_relays_whole_directory_no_credential_can_be_made() {
    let agency = Agency::new();
    // it has run, and left behind all that a relay leaves
    agency.serve().kill();
    let (page, officer, now) = (agency.descriptor(), officer_key(1), rig::now());
    let tomorrow = Timestamp::from_secs(now.as_secs() + 86_400);
    let claim = agency.claim(&officer, (now, tomorrow));
    let sign = |key: &Key, id: &str| {
        let claim = Credential {
            key: id.into(),
            ..claim.clone()
        };
        let signed = documents::sign(&claim, key).unwrap();
        let verified = chain::credential(&signed, &page, now);
        verified.map(|_| ()).map_err(|fault| fault.code)
    };
    let pass = agency.key("relay/pass.key").peer_id();
    let issuing = agency.key("issuing/issuing.key");
    let listed = |key: PeerId| page.keys.iter().find(|listed| listed.key == key).unwrap();
    let (pass_id, issuing_id) = (&listed(pass).id, &listed(issuing.peer_id()).id);

    let files = walk(&agency.path("relay"));
    let mut found = BTreeSet::new();
    let mut tried = 0;
    for file in &files {
        let bytes = fs::read(file).unwrap();
        for seed in seeds(&bytes) {
            let key = Key::from_secret(&seed);
            found.insert(key.peer_id());
            // a store has too many bytes to sign with each: there a listed key would tell
            let is_listed = page.keys.iter().any(|listed| listed.key == key.peer_id());
            if bytes.len() > 4_096 && !is_listed {
                continue;
            }
            for listed in &page.keys {
                // the one listed key that lies here signs passes, and is refused as what it is
                let expected = match key.peer_id() == listed.key {
                    true => Code::WrongSigner,
                    false => Code::BadSignature,
                };
                let refused = sign(&key, &listed.id);
                assert_eq!(refused, Err(expected), "{file:?} as {}", listed.id);
                tried += 1;
            }
        }
    }
    // the search did find the keys that are there, and would have found a raw one
    assert!(found.contains(&pass) && found.contains(&agency.key("relay/relay.key").peer_id()));
    assert!(!found.contains(&issuing.peer_id()));
    assert!(page.keys.len() == 2 && tried >= 4, "{tried}");
    let hidden = [&[9][..], &*issuing.secret(), &[9]].concat();
    assert!(seeds(&hidden).contains(&*issuing.secret()));

    assert_eq!(
        sign(&agency.key("relay/pass.key"), pass_id),
        Err(Code::WrongSigner)
    );
    // the control: the key that does not lie here makes officers
    assert_eq!(sign(&issuing, issuing_id), Ok(()));
}

// covers: SUORA-SEC-002
#[test]
fn serve_says_what_is_wrong_with_its_directory() {
    let agency = Agency::new();
    let empty = tempfile::tempdir().unwrap();
    assert!(failure(["serve".as_ref(), empty.path().as_os_str()]).contains("suora-relay init"));

    let toml = agency.path("relay/relay.toml");
    let good = fs::read_to_string(&toml).unwrap();
    fs::write(&toml, format!("{good}\ncontrl = 1\n")).unwrap();
    let error = serve(&agency);
    assert!(
        error.contains("contrl") && error.contains("line"),
        "{error}"
    );
    fs::write(&toml, &good).unwrap();

    let relay_key = agency.path("relay/relay.key");
    fs::set_permissions(&relay_key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(serve(&agency).contains("chmod 600"));
    fs::remove_file(&relay_key).unwrap();
    suora_relay::keys::save(&relay_key, &key(9)).unwrap();
    assert!(serve(&agency).contains("does not list this relay"));
}

#[test]
fn serve_refuses_an_ended_descriptor_and_one_of_the_future() {
    let agency = Agency::new();
    let root = agency.key("root/root.key");
    let mut page = (*agency.descriptor()).clone();
    let day = |days: i64| Timestamp::from_secs(rig::now().as_secs() + days * 86_400);
    for (from, until, expected) in [
        (-20, -1, "descriptor sign"),
        (2, 20, "clock of this machine"),
    ] {
        (page.issued_at, page.not_after) = (day(from), day(until));
        let signed = documents::sign(&page, &root).unwrap();
        fs::write(agency.path("relay/descriptor.cose"), signed.bytes()).unwrap();
        let error = serve(&agency);
        assert!(error.contains(expected), "{error}");
    }
}

// covers: SUORA-SEC-003
#[test]
fn serve_refuses_to_leave_session_keys_in_a_file() {
    let agency = Agency::new();
    let mut command = std::process::Command::new(rig::PROGRAM);
    command.arg("serve").arg(agency.path("relay"));
    let output = command.env("SSLKEYLOGFILE", "/dev/null").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("SSLKEYLOGFILE"));
}

#[test]
fn serve_says_which_address_is_taken() {
    let agency = Agency::new();
    let _first = agency.serve();
    let error = serve(&agency);
    assert!(error.contains("control 127.0.0.1:"), "{error}");
}

#[test]
fn the_program_shows_help_and_exits_2_on_nonsense() {
    let help = success(["--help"]);
    for command in ["init", "issue", "descriptor", "serve"] {
        assert!(help.contains(command), "{help}");
    }
    assert_eq!(rig::run(["nonsense"]).status.code(), Some(2));
}

// covers: SUORA-REG-120
#[test]
fn a_refusal_says_what_happened_and_what_to_do_in_the_persons_language() {
    let said = |language: &str| {
        let output = std::process::Command::new(rig::PROGRAM)
            .args(["descriptor", "show", "/etc/passwd"])
            .env("LC_ALL", language)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    for (language, texts) in [
        ("fi_FI.UTF-8", Texts::new("fi")),
        ("sv_SE.UTF-8", Texts::new("sv")),
        ("C", Texts::new("en")),
    ] {
        let (sentence, next) = texts.code(Code::BadFile);
        let said = said(language);
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        assert_eq!(lines.len(), 3, "{said}");
        assert_eq!(lines[0], format!("suora-relay: {sentence}"));
        assert!(
            lines[1].starts_with("/etc/passwd: ") && lines[1].ends_with("[bad-file]"),
            "{said}"
        );
        assert_eq!(lines[2], next);
    }
}

#[test]
fn a_reader_that_has_enough_is_no_fault() {
    let agency = Agency::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = std::process::Command::new(rig::PROGRAM)
        .args(["descriptor", "show"])
        .arg(agency.path("relay/descriptor.cose"))
        .stdout(writer)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said, "");
}

#[test]
fn output_that_a_full_disk_loses_is_a_fault() {
    let agency = Agency::new();
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = std::process::Command::new(rig::PROGRAM)
        .args(["descriptor", "show"])
        .arg(agency.path("relay/descriptor.cose"))
        .stdout(full)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("standard output: ") && said.contains("[bad-file]"),
        "{said}"
    );
}
