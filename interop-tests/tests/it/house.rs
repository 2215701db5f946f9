//! The house keeps its rules; and each rule fires on a house that breaks it.

use suora_interop::house::{Source, doors, files, imports, place, plan, root, sources};

fn all() -> Vec<Source> {
    sources(&root()).unwrap()
}

fn none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

fn fixture(path: &str, text: &str) -> Vec<Source> {
    vec![Source::parse(path, text).unwrap()]
}

/// The rule fires on this text, once.
fn fires(breaches: &[String], says: &str) {
    assert_eq!(breaches.len(), 1, "{breaches:?}");
    assert!(breaches[0].contains(says), "{breaches:?}");
}

#[test]
fn crates_import_one_way() {
    none(place::crates(&place::edges(&root()).unwrap()));
}

#[test]
fn a_relay_that_knows_the_node_is_caught() {
    let edge = |name: &str, needs: &str| vec![(name.to_string(), vec![needs.to_string()])];
    fires(
        &place::crates(&edge("suora-relay", "suora-node")),
        "suora-relay may not depend on suora-node",
    );
    fires(
        &place::crates(&edge("suora-extra", "suora-node")),
        "no such crate",
    );
    none(place::crates(&edge("suora-node", "suora-protocol")));
}

#[test]
fn rooms_import_one_way_and_foreign_types_stay_at_their_doors() {
    none(imports::check(&all()));
}

#[test]
fn a_forbidden_import_is_caught_however_it_is_written() {
    let caught = |path: &str, text: &str, says: &str| {
        fires(&imports::check(&fixture(path, text)), says);
    };
    let back = "relay::hub may not import relay::store";
    caught("relay/src/hub.rs", "use crate::store::Store;", back);
    caught(
        "relay/src/hub/queue.rs",
        "use crate::{store::Store, Faults};",
        back,
    );
    caught("relay/src/hub/queue.rs", "use super::super::store;", back);
    caught("relay/src/hub.rs", "fn f() { crate::store::open(); }", back);
    caught(
        "relay/src/hub.rs",
        "fn f() { debug_assert!(crate::store::open()); }",
        back,
    );
    caught(
        "relay/src/hub.rs",
        "mod inner { use super::super::store::Store; }",
        back,
    );
    caught(
        "node/src/engine/desk.rs",
        "use crate::link::Link;",
        "node::engine may not import node::link",
    );
    caught(
        "node/src/path/routes.rs",
        "use super::socket::Socket;",
        "node::path may not import node::path::socket",
    );
    caught(
        "protocol/src/wire.rs",
        "use crate::media::EncodedFrame;",
        "protocol::wire may not import protocol::media",
    );
    caught(
        "protocol/src/documents/invite.rs",
        "use crate::wire::guest;",
        "protocol::documents may not import protocol::wire",
    );
    caught(
        "relay/src/serve.rs",
        "use suora_protocol::media::rtp;",
        "relay::serve may not import protocol::media",
    );
    caught(
        "node/src/engine.rs",
        "use suora_protocol::media::EncodedFrame;",
        "node::engine may not import protocol::media",
    );
    caught("node/src/cellar.rs", "", "the plan has no such room");
}

#[test]
fn a_foreign_type_away_from_its_door_is_caught() {
    let caught = |path: &str, text: &str, says: &str| {
        fires(&imports::check(&fixture(path, text)), says);
    };
    caught(
        "relay/src/serve.rs",
        "use libp2p::PeerId;",
        "relay::serve is no home of libp2p::PeerId",
    );
    caught(
        "node/src/run.rs",
        "async fn f(connection: quinn::Connection) {}",
        "node::run is no home of quinn::Connection",
    );
    caught(
        "relay/src/hub.rs",
        "use sqlx::Row;",
        "relay::hub is no home of sqlx::Row",
    );
    caught(
        "node/src/session.rs",
        "use ::opus::Encoder;",
        "node::session is no home of opus::Encoder",
    );
    // a room of one's own may bear the same name
    none(imports::check(&fixture(
        "node/src/encode.rs",
        "pub mod opus; use self::opus::Encoder; fn f() { opus::start(); }",
    )));
}

#[test]
fn a_pure_room_that_names_a_file_or_a_runtime_is_caught() {
    for name in [
        "std::fs::read",
        "std::path::Path",
        "tokio::spawn",
        "std::thread::park",
    ] {
        let text = format!("use {name};");
        for path in [
            "relay/src/hub/queue.rs",
            "node/src/engine.rs",
            "protocol/src/wire.rs",
        ] {
            fires(
                &imports::check(&fixture(path, &text)),
                "is pure and may not name",
            );
        }
        none(imports::check(&fixture("node/src/run.rs", &text)));
    }
}

#[test]
fn tests_may_look_anywhere() {
    none(imports::check(&fixture(
        "relay/src/hub.rs",
        "#[cfg(test)] mod tests { use crate::store::Store; use std::fs; }",
    )));
}

#[test]
fn doors_are_labelled_and_few() {
    let all = all();
    none(doors::labels(&all));
    none(doors::forgotten(&all));
}

#[test]
fn an_unplanned_or_unlabelled_door_is_caught() {
    let caught = |path: &str, text: &str, says: &str| {
        fires(&doors::labels(&fixture(path, text)), says);
    };
    let expect = |reason: &str| {
        format!("//! DOOR: x.\n#![expect(clippy::disallowed_methods, reason = \"{reason}\")]")
    };
    none(doors::labels(&fixture(
        "node/src/clock.rs",
        &expect("door: clock"),
    )));
    caught(
        "node/src/clock.rs",
        &expect("door: entropy"),
        "no door `entropy`",
    );
    caught("node/src/clock.rs", &expect("because"), "gives its reason");
    caught(
        "node/src/session.rs",
        &expect("door: clock"),
        "no door `clock` here",
    );
    caught(
        "node/src/clock.rs",
        "#[allow(clippy::disallowed_methods, reason = \"door: clock\")] fn f() {}",
        "a door says `expect`",
    );
    caught(
        "node/src/engine.rs",
        "//! DOOR: what?",
        "calls itself a door",
    );
    caught(
        "node/src/clock.rs",
        "//! A clock.\n#![expect(clippy::disallowed_methods, reason = \"door: clock\")]",
        "module doc begins with",
    );
    assert!(!doors::forgotten(&fixture("node/src/clock.rs", "")).is_empty());
}

#[test]
fn unsafe_code_stays_with_the_codecs() {
    none(doors::unsafe_code(&all()));
    let text = "fn f() { unsafe { g() } }";
    none(doors::unsafe_code(&fixture(
        "node/src/decode/h264.rs",
        text,
    )));
    fires(
        &doors::unsafe_code(&fixture("node/src/session.rs", text)),
        "node/src/session.rs:1",
    );
    let hidden = "macro_rules! m { () => { unsafe { g() } } }";
    fires(
        &doors::unsafe_code(&fixture("relay/src/hub.rs", hidden)),
        "hub.rs:1",
    );
}

#[test]
fn every_queue_is_bounded() {
    none(doors::queues(&all()));
    fires(
        &doors::queues(&fixture(
            "relay/src/serve.rs",
            "use tokio::sync::mpsc::unbounded_channel;",
        )),
        "every queue has a bound",
    );
    fires(
        &doors::queues(&fixture("node/src/session.rs", "use tokio::sync::mpsc;")),
        "mailboxes of `worker`",
    );
}

#[test]
fn rooms_that_read_bytes_deny_themselves_what_could_panic() {
    let all = all();
    none(doors::readers(&all));
    // each of them is there
    for room in plan::READERS {
        let front = format!("{room}.rs");
        assert!(all.iter().any(|source| source.path == front), "{front}");
    }
}

#[test]
fn a_reader_that_may_panic_is_caught() {
    let caught = |path: &str, text: &str, says: &str| {
        fires(&doors::readers(&fixture(path, text)), says);
    };
    let deny = "#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic";
    caught(
        "protocol/src/wire.rs",
        &format!("{deny})]"),
        "protocol/src/wire.rs: does not deny `indexing_slicing`",
    );
    none(doors::readers(&fixture(
        "protocol/src/wire.rs",
        &format!("{deny}, clippy::indexing_slicing)]"),
    )));
    caught(
        "protocol/src/media/rtp.rs",
        "#[allow(clippy::panic)] fn f() {}",
        "rtp.rs:1: `panic` is denied in all of protocol/src/media",
    );
    caught(
        "protocol/src/media/rtp.rs",
        "mod a { #![expect(clippy::unwrap_used, reason = \"why not\")] }",
        "`unwrap_used` is denied",
    );
    // a deny of one item is none of the room
    let item = format!("{deny})]\n#[deny(clippy::indexing_slicing)] fn f() {{}}");
    caught("protocol/src/media.rs", &item, "does not deny");
}

#[test]
fn files_are_short_or_say_why_not() {
    let lengths = place::lengths(&all());
    println!("median: {} lines; the longest:", lengths.median);
    for (lines, path) in &lengths.longest {
        println!("{lines:6}  {path}");
    }
    none(lengths.breaches);
}

#[test]
fn a_long_file_without_a_reason_is_caught() {
    let long = |doc: &str| format!("//! {doc}\n{}", "const A: u8 = 1;\n".repeat(600));
    let measure = |doc: &str| place::lengths(&fixture("node/src/run.rs", &long(doc)));
    fires(&measure("A loop.").breaches, "601 lines");
    none(measure("A loop. Long because one table holds all.").breaches);
}

#[test]
fn versions_and_features_are_the_workspaces() {
    none(place::manifests(&root()).unwrap());
    let caught = |line: &str| place::manifest("x/Cargo.toml", &format!("[dependencies]\n{line}\n"));
    fires(&caught("serde = \"1\""), "x/Cargo.toml:2");
    fires(
        &caught("serde = { workspace = true, features = [\"derive\"] }"),
        "x/Cargo.toml:2",
    );
    none(caught("serde.workspace = true"));
}

#[test]
fn tests_of_a_crate_are_one_binary() {
    none(place::test_binaries(&files(&root()).unwrap()));
    fires(
        &place::test_binaries(&["node/tests/extra.rs".into(), "node/tests/it/main.rs".into()]),
        "node/tests/extra.rs",
    );
}

#[test]
fn lint_files_say_the_same() {
    none(place::lint_files(&root()).unwrap());
    let other = tempfile::tempdir().unwrap();
    for member in ["node", "relay", "protocol", "interop-tests"] {
        std::fs::create_dir(other.path().join(member)).unwrap();
        let from = root().join(member).join("clippy.toml");
        std::fs::copy(from, other.path().join(member).join("clippy.toml")).unwrap();
    }
    none(place::lint_files(other.path()).unwrap());
    let relay = other.path().join("relay/clippy.toml");
    let text = std::fs::read_to_string(&relay).unwrap();
    std::fs::write(
        &relay,
        text.replace("    { path = \"std::thread::sleep\"", "    # {"),
    )
    .unwrap();
    fires(
        &place::lint_files(other.path()).unwrap(),
        "relay/clippy.toml differs",
    );
}

#[test]
fn the_top_level_is_the_plans() {
    none(place::top_level(&root()).unwrap());
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("notes.txt"), "").unwrap();
    let breaches = place::top_level(other.path()).unwrap();
    assert!(breaches.contains(&"notes.txt does not belong at the top level".into()));
    assert!(breaches.contains(&"spec is missing at the top level".into()));
}

#[test]
fn no_file_names_a_workplace() {
    none(place::workplaces(&root()).unwrap());
    let text = format!("see {}somebody/notes", concat!("/ho", "me/"));
    fires(&place::workplace("README.md", &text), "README.md:1");
}
