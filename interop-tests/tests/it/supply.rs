//! The rules for what is taken from others, on the crates of this build and on broken ones.

use suora_interop::house::{root, supply};

type Change<'a> = &'a dyn Fn(&mut supply::Foreign);

fn policy() -> supply::Policy {
    supply::Policy::parse(&std::fs::read_to_string(root().join(".deny.toml")).unwrap()).unwrap()
}

#[test]
fn what_is_taken_from_others_keeps_to_its_licences_versions_and_sources() {
    let crates = supply::crates(&root(), &policy()).unwrap();
    assert!(
        crates.len() > 300,
        "only {} crates were looked at",
        crates.len()
    );
    // what only a feature brings is looked at too
    assert!(crates.iter().any(|foreign| foreign.name == "libfuzzer-sys"));
    assert_eq!(policy().breaches(&crates), Vec::<String>::new());
}

#[test]
fn a_licence_a_second_version_a_ban_and_a_strange_source_are_caught() {
    let crates = supply::crates(&root(), &policy()).unwrap();
    let like = |change: Change<'_>| {
        let mut changed = crates
            .iter()
            .find(|foreign| foreign.name == "bytes")
            .unwrap()
            .clone();
        change(&mut changed);
        let mut crates = crates.clone();
        crates.insert(changed);
        policy().breaches(&crates)
    };
    let cases: [(Change<'_>, &str); 7] = [
        (
            &|foreign| foreign.license = Some("GPL-3.0-only".into()),
            "licence GPL-3.0-only is not",
        ),
        (
            &|foreign| foreign.license = Some("MIT AND GPL-2.0-only".into()),
            "GPL-2.0-only",
        ),
        (
            &|foreign| foreign.license = Some("Whatever".into()),
            "Whatever",
        ),
        (&|foreign| foreign.license = None, "names no licence"),
        (
            &|foreign| foreign.version = "0.4.0".into(),
            "in versions 0.4.0",
        ),
        (&|foreign| foreign.name = "openssl".into(), "banned"),
        (
            &|foreign| foreign.source = "git+https://host.example/bytes".into(),
            "from git+",
        ),
    ];
    for (change, why) in cases {
        let breaches = like(change);
        assert!(
            breaches.len() == 1 && breaches[0].contains(why),
            "{why}: {breaches:?}"
        );
    }
    // either of two licences is enough, and what is skipped without need is told
    assert_eq!(
        like(&|foreign| foreign.license = Some("GPL-3.0-only OR MIT".into())),
        Vec::<String>::new()
    );
    let fewer = crates
        .iter()
        .filter(|foreign| foreign.name != "soketto" && foreign.name != "rand");
    let breaches = policy().breaches(&fewer.cloned().collect());
    assert!(
        breaches.iter().any(|breach| breach.contains("no need")),
        "{breaches:?}"
    );
}
