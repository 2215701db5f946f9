//! Checks the bytes of vectors against `spec/cddl`, twice: by the crate `cddl-cat` and by
//! the independent `cddl-verify` (PyPI `cddl-verifier`, pinned in `requirements.txt`).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use suora_protocol::fault::{Code, Fault};

use super::raw::{head, unhex};
use super::{internal, read, spec};

/// Bytes that have to match a rule.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where the bytes stand: file, case and field.
    pub place: String,
    /// The schema's file.
    pub schema: String,
    /// The rule.
    pub rule: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// All bytes of the vectors below `dir` that name a rule.
pub fn items(dir: &Path) -> Result<Vec<Item>, Fault> {
    let mut items = Vec::new();
    for path in super::files_below(dir)? {
        let name = path
            .strip_prefix(dir)
            .unwrap_or(&path)
            .display()
            .to_string();
        if name == "schema.json" || !name.ends_with(".json") {
            continue;
        }
        let file = read(&path)?;
        for case in file["valid"].as_array().into_iter().flatten() {
            for (field, rule) in case["cddl"].as_object().into_iter().flatten() {
                let place = format!("{name}, {}, {field}", case["name"]);
                let bytes = case[field].as_str().and_then(unhex);
                let (Some(schema), Some(rule), Some(bytes)) =
                    (file["cddl"].as_str(), rule.as_str(), bytes)
                else {
                    return Err(internal(format!("{place}: no schema, rule or bytes")));
                };
                items.push(Item {
                    place,
                    schema: schema.into(),
                    rule: rule.into(),
                    bytes,
                });
            }
        }
    }
    Ok(items)
}

/// The text of a schema of `spec/cddl`.
pub fn schema(name: &str) -> Result<String, Fault> {
    let path = spec().join("cddl").join(name);
    std::fs::read_to_string(&path)
        .map_err(|error| Fault::new(Code::BadFile).with(format!("{}: {error}", path.display())))
}

/// What does not match, by `cddl-cat`.
pub fn by_crate(items: &[Item]) -> Result<Vec<String>, Fault> {
    let mut wrong = Vec::new();
    for item in items {
        let schema = schema(&item.schema)?;
        if let Err(error) = cddl_cat::validate_cbor_bytes(&item.rule, &schema, &item.bytes) {
            wrong.push(format!("{} is no {}: {error}", item.place, item.rule));
        }
    }
    Ok(wrong)
}

/// What does not match, by `cddl-verify`. One run a rule: all its bytes in one array.
pub fn by_tool(tool: &Path, items: &[Item]) -> Result<Vec<String>, Fault> {
    let mut by_rule: BTreeMap<(&str, &str), Vec<&Item>> = BTreeMap::new();
    for item in items {
        by_rule
            .entry((&item.schema, &item.rule))
            .or_default()
            .push(item);
    }
    let mut wrong = Vec::new();
    for ((name, rule), items) in by_rule {
        let text = format!("{}\nall-of-it = [+ {rule}]\n", schema(name)?);
        let mut bytes = head(4, items.len());
        items
            .iter()
            .for_each(|item| bytes.extend_from_slice(&item.bytes));
        if let Some(said) = run(tool, &text, "all-of-it", &bytes)? {
            let places: Vec<&str> = items.iter().map(|item| item.place.as_str()).collect();
            wrong.push(format!("{rule} ({}): {said}", places.join("; ")));
        }
    }
    Ok(wrong)
}

/// Runs the tool once. `None`: the bytes match.
fn run(tool: &Path, schema: &str, rule: &str, bytes: &[u8]) -> Result<Option<String>, Fault> {
    let failed = |error: std::io::Error| {
        Fault::new(Code::BadFile).with(format!("{}: {error}", tool.display()))
    };
    let dir = tempfile::tempdir().map_err(failed)?;
    let (cddl, cbor) = (dir.path().join("schema.cddl"), dir.path().join("item.cbor"));
    std::fs::write(&cddl, schema).map_err(failed)?;
    std::fs::write(&cbor, bytes).map_err(failed)?;
    // Without -t the tool takes anything.
    let output = Command::new(tool)
        .args(["--require-deterministic", "--no-annotate", "-t", rule])
        .args([&cddl, &cbor])
        .output()
        .map_err(failed)?;
    if output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Some(said.trim().into()))
}

/// The tool of this workspace, as `make deps` installs it.
pub fn tool() -> std::path::PathBuf {
    let tools = std::env::var_os("SUORA_TOOLS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools"),
        std::path::PathBuf::from,
    );
    tools.join("bin/cddl-verify")
}

/// The same items, each with a break that its rule must refuse: the last field of a map is
/// a float, or the last part of an array is gone.
pub fn broken(items: &[Item]) -> Vec<Item> {
    // no rule takes a float, and a field may be absent but not of another type
    let wrong_last = |value: ciborium::Value| match value {
        ciborium::Value::Map(mut entries) => {
            let known = |(key, _): &&mut (ciborium::Value, _)| key.as_text() != Some("zebra");
            if let Some((_, value)) = entries.iter_mut().rfind(known) {
                *value = ciborium::Value::Float(0.5);
            }
            ciborium::Value::Map(entries)
        }
        ciborium::Value::Array(mut parts) => {
            parts.pop();
            ciborium::Value::Array(parts)
        }
        other => other,
    };
    let broken = |item: &Item| {
        let value: ciborium::Value = ciborium::from_reader(item.bytes.as_slice()).ok()?;
        let mut bytes = Vec::new();
        ciborium::into_writer(&wrong_last(value), &mut bytes).ok()?;
        Some(Item {
            bytes,
            ..item.clone()
        })
    };
    items.iter().filter_map(broken).collect()
}
