//! The vectors of `spec/` are what the code makes and what the code does; and the schemas
//! say what the vectors hold.

use std::path::PathBuf;

use serde_json::{Value, json};
use suora_interop::vectors::{self, CONCEPTS, cddl, schema};
use suora_node::view::{Quality, Stats};
use suora_protocol::quality::{Cause, Word};

fn dir() -> PathBuf {
    vectors::spec().join("vectors")
}

#[test]
fn the_files_are_made_again_byte_for_byte() {
    assert_eq!(vectors::differences(&dir()), Ok(Vec::new()));
}

#[test]
fn a_changed_file_and_a_stray_one_are_noticed() {
    let copy = tempfile::tempdir().unwrap();
    vectors::make(copy.path()).unwrap();
    assert_eq!(vectors::differences(copy.path()), Ok(Vec::new()));
    let file = copy.path().join("documents/hello.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("bad-signature", "expired", 1)).unwrap();
    std::fs::write(copy.path().join("control/stray.json"), "{}").unwrap();
    std::fs::remove_file(copy.path().join("control/walk.md")).unwrap();
    let found = vectors::differences(copy.path()).unwrap();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found
            .iter()
            .any(|what| what.starts_with("documents/hello.json differs"))
    );
    // and the changed case is judged wrong
    assert_eq!(vectors::failures(copy.path()).unwrap().len(), 1);
}

// covers: SUORA-DOC-004, SUORA-DOC-005, SUORA-DOC-006, SUORA-DOC-007, SUORA-DOC-008
// covers: SUORA-DOC-009, SUORA-DOC-010, SUORA-DOC-011, SUORA-DOC-012, SUORA-DOC-013
// covers: SUORA-DOC-014, SUORA-DOC-015, SUORA-SET-001, SUORA-SET-007, SUORA-SET-008
#[test]
fn valid_cases_verify_and_invalid_ones_are_refused_with_their_code() {
    assert_eq!(vectors::failures(&dir()), Ok(Vec::new()));
}

#[test]
fn every_refusal_of_a_verifier_has_an_invalid_case() {
    let mut missing: Vec<&str> = vec![
        "bad-signature",
        "wrong-signer",
        "wrong-kind",
        "not-yet-valid",
        "expired",
        "wrong-agency",
        "wrong-role",
        "wrong-desk",
        "wrong-ticket",
        "wrong-guest",
        "wrong-challenge",
        "wrong-invite",
        "wrong-binding",
        "wrong-version",
        "lower-sequence",
        "equivocation",
        "revoked",
        "post-quantum-required",
        "no-credential",
        "malformed",
        "not-deterministic",
        "unknown-critical",
        "too-large",
    ];
    for concept in CONCEPTS {
        for case in (concept.make)().unwrap().invalid {
            missing.retain(|code| case["code"] != **code);
        }
    }
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn names_are_unique_and_every_field_is_described() {
    for concept in CONCEPTS {
        let file = (concept.make)().unwrap();
        let place = format!("{}/{}", file.chapter, file.concept);
        let cases: Vec<_> = file.valid.iter().chain(&file.invalid).collect();
        let mut names: Vec<&Value> = cases.iter().map(|case| &case["name"]).collect();
        names.sort_by_key(|name| name.to_string());
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{place} has two cases of one name");
        // any figures have a word, any exchanges an offset
        let total = ["session/clock", "media/quality"].contains(&place.as_str());
        assert!(!file.valid.is_empty(), "{place}");
        assert_eq!(file.invalid.is_empty(), total, "{place}");
        let common = ["name", "comment", "reason", "code"];
        for field in cases
            .iter()
            .flat_map(|case| case.keys())
            .chain(file.parameters.keys())
        {
            assert!(
                file.format.contains_key(field.as_str()) || common.contains(&field.as_str()),
                "{place} does not describe {field}"
            );
        }
    }
}

#[test]
fn every_file_has_the_form_of_the_schema() {
    let rules = vectors::read(&dir().join("schema.json")).unwrap();
    for path in vectors::all().unwrap().keys() {
        if path.ends_with(".json") {
            let file = vectors::read(&dir().join(path)).unwrap();
            assert_eq!(schema::check(&rules, &file), Vec::<String>::new(), "{path}");
        }
    }
    let mut file = vectors::read(&dir().join("documents/hello.json")).unwrap();
    file["invalid"][3].as_object_mut().unwrap().remove("reason");
    file["valid"][0]["comment"] = json!(7);
    file["zebra"] = json!("");
    let wrong = schema::check(&rules, &file);
    assert!(wrong.len() >= 3, "{wrong:?}");
}

#[test]
fn cddl_by_the_crate() {
    let items = cddl::items(&dir()).unwrap();
    assert!(items.len() > 50, "{}", items.len());
    assert_eq!(cddl::by_crate(&items), Ok(Vec::new()));
    let broken = cddl::broken(&items);
    assert_eq!(cddl::by_crate(&broken).unwrap().len(), broken.len());
}

// covers: SUORA-MED-050
#[test]
fn the_figures_of_a_second_match_their_schema_and_nothing_else_does() {
    let quality = Quality {
        word: Word::SoundOnly,
        cause: Some(Cause::Own),
        theirs: Some(Word::Good),
    };
    let mut whole = Stats {
        quality: Some(quality),
        latency_ms: Some(81.5),
        loss: 0.02,
        ..Stats::default()
    };
    whole.picture.width = Some(640);
    whole.clock.offset_ms = Some(-3.25);
    let item = |figures: &Value| {
        let mut bytes = Vec::new();
        ciborium::into_writer(figures, &mut bytes).unwrap();
        cddl::Item {
            place: figures.to_string(),
            schema: "media.cddl".into(),
            rule: "figures".into(),
            bytes,
        }
    };
    let whole = serde_json::to_value(whole).unwrap();
    let nothing = serde_json::to_value(Stats::default()).unwrap();
    let items = [item(&whole), item(&nothing)];
    assert_eq!(cddl::by_crate(&items), Ok(Vec::new()));
    for (path, wrong) in [
        ("/loss", json!(1.5)),
        ("/sent_bps", json!(-1)),
        ("/sound/played_ms", json!(null)),
        ("/quality/word", json!("fine")),
        ("/picture/width", json!("640")),
        ("/relay/network", json!(null)),
    ] {
        let mut broken = whole.clone();
        *broken.pointer_mut(path).unwrap() = wrong;
        let broken = [item(&broken)];
        assert_eq!(cddl::by_crate(&broken).unwrap().len(), 1, "{path}");
    }
    let mut more = whole;
    more["zebra"] = json!(0);
    assert_eq!(cddl::by_crate(&[item(&more)]).unwrap().len(), 1);
}

#[test]
fn cddl_independent() {
    let tool = cddl::tool();
    assert!(
        tool.exists(),
        "{} is not there: `make deps` installs it from interop-tests/requirements.txt",
        tool.display()
    );
    let items = cddl::items(&dir()).unwrap();
    assert_eq!(cddl::by_tool(&tool, &items), Ok(Vec::new()));
    // One broken item of each rule: the tool refuses every one of them.
    let mut broken = cddl::broken(&items);
    broken.sort_by(|a, b| (&a.schema, &a.rule).cmp(&(&b.schema, &b.rule)));
    broken.dedup_by(|a, b| (&a.schema, &a.rule) == (&b.schema, &b.rule));
    for item in broken {
        let refused = cddl::by_tool(&tool, std::slice::from_ref(&item)).unwrap();
        assert_eq!(refused.len(), 1, "{} is not refused", item.place);
    }
}
