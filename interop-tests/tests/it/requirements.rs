//! The chapters of `spec/`, the tests and the registries say the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use suora_interop::{requirements, vectors};
use suora_protocol::fault::{Code, Culprit};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_requirement_is_named_by_a_test_and_every_test_names_requirements() {
    let report = requirements::check(&vectors::spec(), &root()).unwrap();
    assert!(report.faults.is_empty(), "{}", report.faults.join("\n"));
    assert!(report.stated.len() > 50);
}

/// A chapter and a test file, as small as can be.
fn fixture(chapter: &str, test: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let (spec, tests) = (dir.path().join("spec"), dir.path().join("tests"));
    std::fs::create_dir_all(&spec).unwrap();
    std::fs::create_dir_all(&tests).unwrap();
    std::fs::write(spec.join("zebra.md"), chapter).unwrap();
    // written in two parts, so that this file does not claim to cover it
    std::fs::write(tests.join("zebra.rs"), test.replace("COVERS", "// covers")).unwrap();
    requirements::check(&spec, dir.path()).unwrap().faults
}

const CHAPTER: &str = "# Zebra\n\n**SUORA-ZEB-001** A zebra MUST have stripes.\n\n\
    | number | text |\n|---|---|\n| **SUORA-ZEB-002** | And hooves. |\n";
const TEST: &str = "COVERS: SUORA-ZEB-001, SUORA-ZEB-002\n#[test]\nfn stripes() {}\n";

#[test]
fn a_requirement_without_test_and_a_test_without_requirement_are_noticed() {
    assert_eq!(fixture(CHAPTER, TEST), Vec::<String>::new());
    let faults = |chapter: &str, test: &str, words: &str| {
        let faults = fixture(chapter, test);
        assert!(
            faults.iter().any(|fault| fault.contains(words)),
            "{words}: {faults:?}"
        );
    };
    let unnamed = TEST.replace(", SUORA-ZEB-002", "");
    faults(CHAPTER, &unnamed, "no test names SUORA-ZEB-002");
    let unknown = TEST.replace("ZEB-002", "ZEB-003");
    faults(CHAPTER, &unknown, "SUORA-ZEB-003 is no requirement");
    faults(CHAPTER, &TEST.replace("#[test]\n", ""), "above no test");
    faults(CHAPTER, &TEST.replace(", ", "; "), "is no requirement");
    let twice = format!("{CHAPTER}\n**SUORA-ZEB-001** Again.\n");
    faults(&twice, TEST, "stated in");
    let stray = format!("{CHAPTER}\nSee SUORA-ZEB-009.\n");
    faults(&stray, TEST, "stated nowhere");
}

/// Requirements that a text does not name; `A to B` names all between.
fn unnamed(text: &str, stated: &BTreeSet<String>) -> Vec<String> {
    let words: Vec<&str> = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| !word.is_empty())
        .collect();
    let mut named: BTreeSet<&str> = words.iter().copied().collect();
    for part in words.windows(3) {
        if let [from, "to", until] = part
            && [from, until].iter().all(|end| end.starts_with("SUORA-"))
            && from <= until
        {
            let between = stated.range(from.to_string()..=until.to_string());
            named.extend(between.map(String::as_str));
        }
    }
    let missing = |number: &&String| !named.contains(number.as_str());
    stated.iter().filter(missing).cloned().collect()
}

#[test]
fn the_security_chapter_says_where_each_rule_of_trust_stands() {
    let report = requirements::check(&vectors::spec(), &root()).unwrap();
    let ours = ["SUORA-SEC-", "SUORA-DOC-", "SUORA-SET-"];
    let stated: BTreeSet<String> = report
        .stated
        .into_keys()
        .filter(|number| ours.iter().any(|chapter| number.starts_with(chapter)))
        .collect();
    let text = std::fs::read_to_string(vectors::spec().join("security.md")).unwrap();
    let table = text.split("\n## ").find(|part| part.starts_with("9. "));
    let table = table.unwrap();
    assert_eq!(unnamed(table, &stated), Vec::<String>::new());
    // the control: without one of its rows
    let rows: Vec<&str> = table.lines().collect();
    let cut: Vec<&str> = rows
        .iter()
        .copied()
        .filter(|row| !row.contains("SUORA-SET-016"))
        .collect();
    assert_eq!(unnamed(&cut.join("\n"), &stated), ["SUORA-SET-016"]);
}

/// The rows of a table below a heading, cell by cell; heading and rule of the table left out.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(vectors::spec().join("registries.md")).unwrap();
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with(heading))
        .unwrap_or_else(|| panic!("registries.md has no section {heading}"));
    section
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().replace('`', "")).collect()
        })
        .collect()
}

// covers: SUORA-REG-001, SUORA-REG-003
#[test]
fn the_registry_of_codes_is_the_code() {
    let culprit = |culprit| match culprit {
        Culprit::Person => "person",
        Culprit::Us => "this end",
        Culprit::Peer => "other end",
        Culprit::Relay => "relay",
        Culprit::Agency => "agency",
        Culprit::Network => "network",
    };
    let ours: Vec<Vec<String>> = Code::ALL
        .iter()
        .map(|code| {
            vec![
                format!("{:#04x}", code.close()),
                code.as_str().to_string(),
                culprit(code.culprit()).to_string(),
                if code.is_refusal() { "yes" } else { "" }.to_string(),
            ]
        })
        .collect();
    let theirs: Vec<Vec<String>> = table("2. Codes")
        .into_iter()
        .map(|row| row[..4].to_vec())
        .collect();
    assert_eq!(theirs, ours);
}

/// The value of a constant of `limits.rs`, in the words of the registry.
fn value(expression: &syn::Expr) -> String {
    let number = |expression: &syn::Expr| match expression {
        syn::Expr::Lit(syn::ExprLit {
            lit: syn::Lit::Int(number),
            ..
        }) => number.base10_parse::<u64>().unwrap(),
        _ => panic!("a limit is a number or a length of time"),
    };
    match expression {
        syn::Expr::Call(call) => {
            let syn::Expr::Path(function) = &*call.func else {
                panic!("a limit calls a constructor of Duration");
            };
            let name = function.path.segments.last().unwrap().ident.to_string();
            let count = number(&call.args[0]);
            let length = match name.as_str() {
                "from_secs" => Duration::from_secs(count),
                "from_millis" => Duration::from_millis(count),
                other => panic!("a limit calls {other}"),
            };
            if length.subsec_millis() == 0 {
                format!("{} s", length.as_secs())
            } else {
                format!("{} ms", length.as_millis())
            }
        }
        plain => number(plain).to_string(),
    }
}

// covers: SUORA-REG-002
#[test]
fn the_registry_of_limits_is_the_code() {
    let text = std::fs::read_to_string(root().join("protocol/src/limits.rs")).unwrap();
    let ours: Vec<(String, String)> = syn::parse_file(&text)
        .unwrap()
        .items
        .iter()
        .filter_map(|item| match item {
            syn::Item::Const(limit) => Some((limit.ident.to_string(), value(&limit.expr))),
            _ => None,
        })
        .collect();
    let theirs: Vec<(String, String)> = table("5. Limits")
        .into_iter()
        .map(|row| {
            let words: Vec<&str> = row[1].split(' ').collect();
            // bytes, days and counts are plain numbers in the code
            let value = match words.as_slice() {
                [number, unit @ ("s" | "ms")] => format!("{number} {unit}"),
                [number, ..] => (*number).to_string(),
                [] => String::new(),
            };
            (row[0].clone(), value)
        })
        .collect();
    assert_eq!(theirs, ours);
}
