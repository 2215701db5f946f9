//! `suora doctor` and `suora-relay doctor` on whole set-ups and on broken ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use suora_interop::peer::{Agency, DESK};
use suora_node::engine::ports::Recalled;
use suora_node::memory::Memory;
use suora_protocol::time::Timestamp;

use crate::program;

/// One finding a check: state and code.
struct Findings(Vec<Value>);

impl Findings {
    fn read(json: &str) -> Self {
        Self(serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}")))
    }

    fn of(&self, check: &str) -> &Value {
        let found = self.0.iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("{check}: {:?}", self.0))
    }

    fn state(&self, check: &str) -> (&str, Option<&str>) {
        let finding = self.of(check);
        let state = finding["state"].as_str().unwrap();
        (state, finding["code"].as_str())
    }

    /// Checks that are not good.
    fn troubles(&self) -> Vec<&str> {
        let troubled = self.0.iter().filter(|finding| finding["state"] != "good");
        troubled
            .filter_map(|finding| finding["check"].as_str())
            .collect()
    }
}

/// The node's doctor with these arguments.
async fn node(agency: &Agency, key: &Path, more: &[&str]) -> (bool, Findings) {
    let (key, descriptor) = (key.display().to_string(), agency.descriptor());
    let mut arguments = vec!["doctor", "--json", "--key", &key];
    let descriptor = descriptor.display().to_string();
    if !more.contains(&"--agency") {
        arguments.extend(["--agency", &descriptor]);
    }
    arguments.extend(more);
    let (well, said) = agency.said("node", &[], &arguments).await.unwrap();
    (well, Findings::read(&said))
}

/// The relay's doctor with these arguments.
async fn relay(agency: &Agency, more: &[&str]) -> (bool, Findings) {
    let dir = agency.dir().join("relay").display().to_string();
    let mut arguments = vec!["doctor", "--json", &dir];
    arguments.extend(more);
    let (well, said) = agency.said("relay", &[], &arguments).await.unwrap();
    (well, Findings::read(&said))
}

fn open_to(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_set_up_is_good_in_every_part() {
    let agency = Agency::new(program()).await.unwrap();
    let _relay = agency.serve(&[]).await.unwrap();
    let (key, credential) = agency.officer("officer", &[DESK]).await.unwrap();
    let credential = credential.display().to_string();
    let web = format!(
        "http://127.0.0.1:{}#root={}",
        agency.http,
        agency.page().unwrap().agency.to_text()
    );
    let more = [
        "--agency",
        &web,
        "--desk",
        DESK,
        "--credential",
        &credential,
    ];
    let (well, findings) = node(&agency, &key, &more).await;
    assert!(well, "{:?}", findings.0);
    assert_eq!(findings.troubles(), Vec::<&str>::new());
    for check in [
        "clock",
        "tls",
        "credential",
        "relay-quic",
        "relay-tcp",
        "relay-websocket",
    ] {
        findings.of(check);
    }
    let (well, findings) = relay(&agency, &["--no-web"]).await;
    assert!(well, "{:?}", findings.0);
    assert_eq!(findings.troubles(), Vec::<&str>::new());
    for check in ["running", "quic", "tcp", "websocket", "store"] {
        findings.of(check);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_on_a_persons_device_is_named_with_its_code() {
    let agency = Agency::new(program()).await.unwrap();
    let (key, credential) = agency.officer("officer", &[DESK]).await.unwrap();
    let (other, _) = agency.key("other").unwrap();
    let credential = credential.display().to_string();
    let with = ["--desk", DESK, "--credential", &credential];

    // no relay runs: every way is closed, and nothing else is wrong
    let (well, findings) = node(&agency, &key, &with).await;
    assert!(!well);
    let ways = ["relay-quic", "relay-tcp", "relay-websocket"];
    assert_eq!(findings.troubles(), ways);
    assert_eq!(
        findings.state("relay-tcp"),
        ("bad", Some("relay-unreachable"))
    );

    let _relay = agency.serve(&[]).await.unwrap();
    let (well, findings) = node(&agency, &other, &with).await;
    assert!(!well);
    assert_eq!(findings.state("credential"), ("bad", Some("wrong-signer")));
    let (_, findings) = node(&agency, &key, &["--desk", "moon"]).await;
    assert_eq!(findings.state("desk"), ("bad", Some("unknown-desk")));
    let now = suora_node::clock::Clock::start().now().utc;
    let hours = |hours: i64| Timestamp::from_secs(now.as_secs() + hours * 3_600);
    let peer = suora_node::keys::load(&key).unwrap().node_key().peer_id();
    for (span, state, code) in [
        ((-200, -30), "bad", "expired"),
        ((-20, 20), "warning", "ends-soon"),
        ((30, 200), "bad", "not-yet-valid"),
    ] {
        let span = (hours(span.0), hours(span.1));
        let path = agency.credential("span", peer, DESK, span).unwrap();
        let path = path.display().to_string();
        let (well, findings) = node(&agency, &key, &["--credential", &path]).await;
        assert_eq!(findings.state("credential"), (state, Some(code)));
        assert_eq!(well, state == "warning");
    }

    open_to(&key, 0o644);
    let (_, findings) = node(&agency, &key, &[]).await;
    assert_eq!(findings.state("key"), ("bad", Some("bad-key-file")));
    assert_eq!(
        findings.of("key")["next"].as_str().map(str::is_empty),
        Some(false)
    );
    open_to(&key, 0o600);
    fs::write(&key, "damaged").unwrap();
    let (_, findings) = node(&agency, &key, &[]).await;
    assert_eq!(findings.state("key"), ("bad", Some("bad-key-file")));

    let damaged = agency.file("damaged.cose");
    let mut bytes = fs::read(agency.descriptor()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let damaged = damaged.display().to_string();
    let (_, findings) = node(&agency, &other, &["--agency", &damaged]).await;
    assert_eq!(findings.state("agency"), ("bad", Some("bad-signature")));

    let key_log = [("SSLKEYLOGFILE", "/dev/null")];
    let other = other.display().to_string();
    let asked = ["doctor", "--json", "--key", &other];
    let (well, said) = agency.said("node", &key_log, &asked).await.unwrap();
    assert!(!well);
    assert_eq!(
        Findings::read(&said).state("environment"),
        ("bad", Some("bad-config"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_held_against_what_this_device_remembers_as_a_call_would() {
    let agency = Agency::new(program()).await.unwrap();
    let _relay = agency.serve(&[]).await.unwrap();
    let (key, _) = agency.key("somebody").unwrap();
    let key = key.display().to_string();
    let root = agency.page().unwrap().agency;
    let web = format!("http://127.0.0.1:{}#root={}", agency.http, root.to_text());
    let data = agency.file("data");
    let memory = Memory::of(&web.parse().unwrap(), data.join("suora"));
    let remember = |page: &Path| {
        let recalled = Recalled {
            root,
            bytes: fs::read(page).unwrap().into(),
            fetched: suora_node::clock::Clock::start().now().utc,
        };
        // what is there may be newer, and stays then
        let _ = fs::remove_file(memory.path().unwrap());
        memory.keep(&recalled).unwrap();
    };
    let data = data.display().to_string();
    let found = async || {
        let asked = ["doctor", "--json", "--key", &key, "--agency", &web];
        let home = [("XDG_DATA_HOME", data.as_str())];
        Findings::read(&agency.said("node", &home, &asked).await.unwrap().1)
    };
    assert_eq!(found().await.state("agency"), ("good", None));
    remember(&agency.descriptor());
    let known = found().await;
    assert_eq!(known.state("memory"), ("good", None));
    assert_eq!(known.state("agency"), ("good", None));

    // signed, remembered, and not what the relay serves
    let out = agency.file("signed.cose");
    let toml = agency.dir().join("root/descriptor.toml");
    let (root, out) = (agency.dir().join("root"), out.display().to_string());
    let root = root.display().to_string();
    let sign = ["descriptor", "sign", "--root", &root, "--out", &out];
    for (sequence, code) in [
        ("sequence = 1", "lower-sequence"),
        ("sequence = 0", "equivocation"),
    ] {
        let text = fs::read_to_string(&toml).unwrap();
        let at = text.find("sequence = ").unwrap();
        let end = at + text[at..].find('\n').unwrap();
        // another page though both may be signed within a second
        let rest = text[end..].replace(&format!("/{}/", agency.websocket), "/9/");
        fs::write(&toml, format!("{}{sequence}{rest}", &text[..at])).unwrap();
        let _ = fs::remove_file(&out);
        assert!(agency.said("relay", &[], &sign).await.unwrap().0);
        remember(Path::new(&out));
        assert_eq!(found().await.state("agency"), ("bad", Some(code)));
    }

    let path = memory.path().unwrap();
    open_to(&path, 0o666);
    let open = found().await;
    assert_eq!(open.state("memory"), ("bad", Some("unsafe-permissions")));
    open_to(&path, 0o600);
    fs::write(&path, "damaged").unwrap();
    let damaged = found().await;
    assert_eq!(damaged.state("memory"), ("bad", Some("bad-file")));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_looked_at_where_they_lie() {
    let agency = Agency::new(program()).await.unwrap();
    let (key, credential) = agency.officer("officer", &[DESK]).await.unwrap();
    let dir = agency.dir().join("relay");
    let (_, findings) = relay(&agency, &["--no-web"]).await;
    assert_eq!(findings.state("credentials"), ("good", None));
    let _relay = agency.serve(&[]).await.unwrap();
    // the one beside the key needs no naming
    let (well, findings) = node(&agency, &key, &[]).await;
    assert!(well, "{:?}", findings.0);
    assert_eq!(findings.state("credential"), ("good", None));
    fs::write(&credential, "damaged").unwrap();
    let (_, findings) = node(&agency, &key, &[]).await;
    assert_eq!(findings.state("credential"), ("bad", Some("bad-file")));

    let now = suora_node::clock::Clock::start().now().utc;
    let hours = |hours: i64| Timestamp::from_secs(now.as_secs() + hours * 3_600);
    let data = dir.display().to_string();
    for (name, ends, state, code, count) in [
        ("long", 100, "good", None, "1"),
        ("short", 30, "warning", Some("ends-soon"), "2"),
    ] {
        let (_, peer) = agency.key(name).unwrap();
        let span = (hours(-1), hours(ends));
        let path = agency.credential(name, peer, DESK, span).unwrap();
        let path = path.display().to_string();
        let add = ["credential", "add", "--relay", &data, &path];
        assert!(agency.said("relay", &[], &add).await.unwrap().0);
        let (_, findings) = relay(&agency, &["--no-web"]).await;
        assert_eq!(findings.state("credentials"), (state, code), "{name}");
        let sentence = findings.of("credentials")["sentence"].as_str().unwrap();
        assert!(sentence.contains(count), "{sentence}");
    }
    // what the store has not written down yet lies beside it
    open_to(&dir, 0o755);
    open_to(&dir.join("relay.db"), 0o600);
    for beside in ["relay.db-wal", "relay.db-shm"] {
        open_to(&dir.join(beside), 0o600);
    }
    let (_, findings) = relay(&agency, &["--no-web"]).await;
    assert_eq!(findings.state("permissions"), ("good", None));
    for beside in ["relay.db-wal", "relay.db-shm"] {
        open_to(&dir.join(beside), 0o644);
        let (_, findings) = relay(&agency, &["--no-web"]).await;
        let found = findings.state("permissions");
        assert_eq!(found, ("bad", Some("unsafe-permissions")), "{beside}");
        open_to(&dir.join(beside), 0o600);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_another_key_is_no_relay_of_the_agency() {
    let agency = Agency::new(program()).await.unwrap();
    let _relay = agency.serve(&[]).await.unwrap();
    let (key, _) = agency.key("somebody").unwrap();
    // another agency whose descriptor leads to this relay's ports
    let other = Agency::new(program()).await.unwrap();
    let page = other.dir().join("root/descriptor.toml");
    let mut text = fs::read_to_string(&page).unwrap();
    for (from, to) in [
        (other.control, agency.control),
        (other.websocket, agency.websocket),
    ] {
        text = text.replace(&format!("/{from}/"), &format!("/{to}/"));
    }
    fs::write(&page, text).unwrap();
    let (root, out) = (other.dir().join("root"), other.descriptor());
    let (root, out) = (root.display().to_string(), out.display().to_string());
    let sign = ["descriptor", "sign", "--root", &root, "--out", &out];
    assert!(other.said("relay", &[], &sign).await.unwrap().0);
    let (well, findings) = node(&other, &key, &[]).await;
    assert!(!well);
    let detail = findings.of("relay-tcp")["detail"].as_str().unwrap();
    assert!(detail.contains("another key"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_at_a_relay_is_named_with_its_code() {
    let agency = Agency::new(program()).await.unwrap();
    let dir = agency.dir().join("relay");

    // not running, and somebody else has its port
    let (well, findings) = relay(&agency, &["--no-web"]).await;
    assert!(well, "{:?}", findings.0);
    assert_eq!(
        findings.state("running"),
        ("warning", Some("relay-unreachable"))
    );
    assert_eq!(findings.state("ports"), ("good", None));
    let taken = taken(agency.http);
    let (well, findings) = relay(&agency, &["--no-web"]).await;
    assert!(!well);
    assert_eq!(findings.state("ports"), ("bad", Some("cannot-listen")));
    drop(taken);

    let mut served = agency.serve(&[]).await.unwrap();
    // signed again, and not yet taken; the domain leads nowhere
    let (root, out) = (agency.dir().join("root"), agency.descriptor());
    let (root, out) = (root.display().to_string(), out.display().to_string());
    let sign = ["descriptor", "sign", "--root", &root, "--out", &out];
    assert!(agency.said("relay", &[], &sign).await.unwrap().0);
    let (well, findings) = relay(&agency, &[]).await;
    assert!(!well);
    assert_eq!(findings.state("page"), ("warning", Some("lower-sequence")));
    assert_eq!(
        findings.state("web"),
        ("bad", Some("descriptor-unreachable"))
    );
    served.kill().await.unwrap();

    open_to(&dir, 0o770);
    let (_, findings) = relay(&agency, &["--no-web"]).await;
    assert_eq!(
        findings.state("permissions"),
        ("bad", Some("unsafe-permissions"))
    );
    open_to(&dir, 0o700);
    open_to(&dir.join("relay.key"), 0o640);
    let (_, findings) = relay(&agency, &["--no-web"]).await;
    assert_eq!(findings.state("key"), ("bad", Some("bad-key-file")));
    open_to(&dir.join("relay.key"), 0o600);
    fs::copy(agency.dir().join("issuing/issuing.key"), dir.join("old")).unwrap();
    let (_, findings) = relay(&agency, &["--no-web"]).await;
    assert_eq!(findings.state("powers"), ("bad", Some("bad-config")));
    fs::remove_file(dir.join("old")).unwrap();
    // without what the killed relay left beside it, from which the file would be whole again
    for beside in ["relay.db-wal", "relay.db-shm"] {
        let _ = fs::remove_file(dir.join(beside));
    }
    fs::write(dir.join("relay.db"), [0x55; 5_000]).unwrap();
    let (_, findings) = relay(&agency, &["--no-web"]).await;
    assert_eq!(findings.state("store"), ("bad", Some("bad-file")));
    fs::remove_file(dir.join("relay.db")).unwrap();

    let settings = fs::read_to_string(dir.join("relay.toml")).unwrap();
    let open = settings.replace("metrics = \"127.0.0.1", "metrics = \"0.0.0.0");
    fs::write(dir.join("relay.toml"), open).unwrap();
    let (well, findings) = relay(&agency, &["--no-web"]).await;
    assert!(well);
    assert_eq!(findings.state("metrics"), ("warning", Some("bad-config")));
    fs::write(
        dir.join("relay.toml"),
        format!("{settings}\nretention = 3\n"),
    )
    .unwrap();
    let (_, findings) = relay(&agency, &["--no-web"]).await;
    assert_eq!(findings.state("settings"), ("bad", Some("bad-config")));
    fs::write(dir.join("relay.toml"), settings).unwrap();

    // a key that the descriptor does not list
    fs::copy(dir.join("pass.key"), dir.join("relay.key")).unwrap();
    let (_, findings) = relay(&agency, &["--no-web"]).await;
    assert_eq!(findings.state("listed"), ("bad", Some("bad-config")));
    fs::remove_file(dir.join("descriptor.cose")).unwrap();
    let (_, findings) = relay(&agency, &["--no-web"]).await;
    assert_eq!(findings.state("descriptor"), ("bad", Some("bad-file")));
}

#[expect(
    clippy::disallowed_methods,
    reason = "door: a port that somebody else has"
)]
fn taken(port: u16) -> std::net::TcpListener {
    std::net::TcpListener::bind(("127.0.0.1", port)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_are_said_in_three_languages_for_people() {
    let agency = Agency::new(program()).await.unwrap();
    let (key, _) = agency.key("somebody").unwrap();
    let key = key.display().to_string();
    let dir = agency.dir().join("relay").display().to_string();
    let mut said = Vec::new();
    for language in ["fi", "sv", "en"] {
        let node = ["--language", language, "doctor", "--key", &key];
        let relay = ["doctor", &dir, "--no-web", "--language", language];
        let (well, of_node) = agency.said("node", &[], &node).await.unwrap();
        assert!(well, "{of_node}");
        let (_, of_relay) = agency.said("relay", &[], &relay).await.unwrap();
        assert!(of_relay.contains("[relay-unreachable]"), "{of_relay}");
        said.extend([of_node, of_relay]);
    }
    said.sort();
    said.dedup();
    assert_eq!(said.len(), 6);
    let english = said
        .iter()
        .find(|text| text.contains("The key file is whole"));
    assert!(english.is_some_and(|text| text.starts_with("ok ")));
}
