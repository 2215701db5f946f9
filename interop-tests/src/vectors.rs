//! Makes and checks `spec/vectors`: one JSON file a concept, from fixed seeds, the same
//! bytes each time. A file says its parameters, its format and how to verify it, and holds
//! valid cases and invalid ones, each of these with a reason and the code of the registry
//! that a verifier answers. To add a file, write a function that returns [`Vectors`] and one
//! that verifies a case, and list both in [`CONCEPTS`].

pub mod cast;
pub mod cddl;
pub mod control;
pub mod documents;
pub mod media;
pub mod quality;
pub mod raw;
pub mod schema;
pub mod session;
pub mod verify;
pub mod walk;
pub mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};
use suora_protocol::fault::{Code, Fault};

/// The vectors of one concept.
#[derive(Debug, Serialize)]
pub struct Vectors {
    /// The chapter of `spec/`, and the folder of `spec/vectors`.
    pub chapter: &'static str,
    /// The concept, and the file's name.
    pub concept: &'static str,
    /// Where the concept is specified.
    pub section: &'static str,
    /// The schema of `spec/cddl` that the cases' `cddl` rules belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cddl: Option<&'static str>,
    /// What all cases share; a case may say otherwise under the same name.
    pub parameters: Map<String, Value>,
    /// What each field of a case means.
    pub format: BTreeMap<&'static str, &'static str>,
    /// How to verify a case.
    pub verification: Vec<&'static str>,
    /// Cases that verify.
    pub valid: Vec<Map<String, Value>>,
    /// Cases that are refused.
    pub invalid: Vec<Map<String, Value>>,
}

/// The fields of a JSON object.
pub fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => Map::from_iter([("value".to_string(), other)]),
    }
}

impl Vectors {
    /// An empty file.
    pub fn new(chapter: &'static str, concept: &'static str, section: &'static str) -> Self {
        Self {
            chapter,
            concept,
            section,
            cddl: None,
            parameters: Map::new(),
            format: BTreeMap::new(),
            verification: Vec::new(),
            valid: Vec::new(),
            invalid: Vec::new(),
        }
    }

    /// Adds a case that verifies.
    pub fn valid(&mut self, name: &str, comment: &str, case: Value) {
        let mut case = fields(case);
        case.insert("name".into(), name.into());
        case.insert("comment".into(), comment.into());
        self.valid.push(case);
    }

    /// Adds a case that is refused with `code`.
    pub fn invalid(&mut self, name: &str, code: Code, reason: &str, case: Value) {
        let mut case = fields(case);
        case.insert("name".into(), name.into());
        case.insert("code".into(), code.as_str().into());
        case.insert("reason".into(), reason.into());
        self.invalid.push(case);
    }

    /// The file's text.
    pub fn text(&self) -> Result<String, Fault> {
        let value = serde_json::to_value(self).map_err(internal)?;
        let mut text = serde_json::to_string_pretty(&sorted(value)).map_err(internal)?;
        text.push('\n');
        Ok(text)
    }
}

/// Sorts the fields of all objects, whatever order the JSON library keeps.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<String, Value> =
                map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            Value::Object(map.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn internal(error: impl std::fmt::Display) -> Fault {
    Fault::new(Code::Internal).with(error.to_string())
}

/// What a verifier found: facts that are compared with the fields of the same name.
pub type Facts = Map<String, Value>;

/// A concept: how its file is made, and how a case of it is verified. The case that
/// `verify` gets holds the file's parameters too.
#[derive(Clone, Copy)]
pub struct Concept {
    /// Makes the file.
    pub make: fn() -> Result<Vectors, Fault>,
    /// Verifies a case by the public API of `suora-protocol`.
    pub verify: fn(&Map<String, Value>) -> Result<Facts, Fault>,
}

/// All concepts.
pub const CONCEPTS: &[Concept] = &[
    Concept {
        make: documents::identity::make,
        verify: documents::identity::verify,
    },
    Concept {
        make: documents::signature::make,
        verify: documents::signature::verify,
    },
    Concept {
        make: documents::cbor::make,
        verify: documents::cbor::verify,
    },
    Concept {
        make: documents::descriptor::make,
        verify: verify::descriptor,
    },
    Concept {
        make: documents::credential::make,
        verify: verify::credential,
    },
    Concept {
        make: documents::invite::make,
        verify: verify::invite,
    },
    Concept {
        make: documents::hello::make,
        verify: verify::hello,
    },
    Concept {
        make: documents::welcome::make,
        verify: verify::welcome,
    },
    Concept {
        make: documents::chain::make,
        verify: verify::chain,
    },
    Concept {
        make: control::framing::make,
        verify: control::framing::verify,
    },
    Concept {
        make: control::citizen,
        verify: control::verify_message,
    },
    Concept {
        make: control::officer,
        verify: control::verify_message,
    },
    Concept {
        make: work::make,
        verify: work::verify,
    },
    Concept {
        make: control::unknown::make,
        verify: control::verify_message,
    },
    Concept {
        make: session::guest,
        verify: control::verify_message,
    },
    Concept {
        make: quality::clock,
        verify: quality::verify_clock,
    },
    Concept {
        make: quality::make,
        verify: quality::verify,
    },
    Concept {
        make: media::flow,
        verify: media::verify_flow,
    },
    Concept {
        make: media::rtp::make,
        verify: media::rtp::verify,
    },
    Concept {
        make: media::picture::make,
        verify: media::picture::verify,
    },
    Concept {
        make: media::opus::make,
        verify: media::opus::verify,
    },
    Concept {
        make: media::playout::make,
        verify: media::playout::verify,
    },
    Concept {
        make: media::reports::control,
        verify: media::reports::verify,
    },
    Concept {
        make: media::reports::arrivals,
        verify: media::reports::verify,
    },
];

/// A walk through bytes, one line an item: `(file, text)`.
type Walk = Result<(&'static str, String), Fault>;

const WALKS: &[fn() -> Walk] = &[walk::hello, walk::join];

/// All files of `spec/vectors` that are made, by their path below it.
pub fn all() -> Result<BTreeMap<String, String>, Fault> {
    let mut files = BTreeMap::new();
    for concept in CONCEPTS {
        let vectors = (concept.make)()?;
        let path = format!("{}/{}.json", vectors.chapter, vectors.concept);
        files.insert(path, vectors.text()?);
    }
    for walk in WALKS {
        let (path, text) = walk()?;
        files.insert(path.into(), text);
    }
    Ok(files)
}

/// `spec/` of this workspace.
pub fn spec() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec")
}

/// Writes all files below `dir`.
pub fn make(dir: &Path) -> Result<usize, Fault> {
    let files = all()?;
    for (path, text) in &files {
        let path = dir.join(path);
        let parent = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| {
                Fault::new(Code::BadFile).with(format!("{}: {error}", path.display()))
            })?;
    }
    Ok(files.len())
}

/// Compares all files below `dir` with what would be made; the differences, in words.
pub fn differences(dir: &Path) -> Result<Vec<String>, Fault> {
    let files = all()?;
    let mut wrong = Vec::new();
    for (path, text) in &files {
        match std::fs::read_to_string(dir.join(path)) {
            Ok(found) if found == *text => {}
            Ok(found) => {
                let line = found
                    .lines()
                    .zip(text.lines())
                    .position(|(a, b)| a != b)
                    .unwrap_or_else(|| found.lines().count().min(text.lines().count()));
                wrong.push(format!("{path} differs from line {} on", line + 1));
            }
            Err(error) => wrong.push(format!("{path}: {error}")),
        }
    }
    for path in files_below(dir)? {
        let name = path.strip_prefix(dir).unwrap_or(&path);
        let name = name.to_string_lossy().into_owned();
        if name != "schema.json" && !files.contains_key(&name) {
            wrong.push(format!("{name} is made by no concept"));
        }
    }
    Ok(wrong)
}

fn files_below(dir: &Path) -> Result<Vec<PathBuf>, Fault> {
    let failed = |error: std::io::Error| {
        Fault::new(Code::BadFile).with(format!("{}: {error}", dir.display()))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A vector file as read from disk.
pub fn read(path: &Path) -> Result<Value, Fault> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::new(Code::BadFile).with(format!("{}: {error}", path.display())))?;
    serde_json::from_str(&text).map_err(internal)
}

/// Verifies every case of every file below `dir`; what does not behave as its case says.
pub fn failures(dir: &Path) -> Result<Vec<String>, Fault> {
    let mut wrong = Vec::new();
    for concept in CONCEPTS {
        let made = (concept.make)()?;
        let name = format!("{}/{}", made.chapter, made.concept);
        let file = read(&dir.join(format!("{name}.json")))?;
        wrong.extend(
            judge(&file, concept.verify)
                .into_iter()
                .map(|what| format!("{name}: {what}")),
        );
    }
    Ok(wrong)
}

/// Verifies every case of a file; what does not behave as its case says.
pub fn judge(file: &Value, verify: fn(&Map<String, Value>) -> Result<Facts, Fault>) -> Vec<String> {
    let empty = Map::new();
    let parameters = file["parameters"].as_object().unwrap_or(&empty);
    let cases = |kind: &str| file[kind].as_array().cloned().unwrap_or_default();
    let whole = |case: &Value| {
        let mut whole = parameters.clone();
        whole.extend(case.as_object().cloned().unwrap_or_default());
        whole
    };
    let mut wrong = Vec::new();
    for case in cases("valid") {
        match verify(&whole(&case)) {
            Ok(facts) => {
                for (name, fact) in facts {
                    if case.get(&name).is_some_and(|said| *said != fact) {
                        wrong.push(format!("{}: {name} is {fact}", case["name"]));
                    }
                }
            }
            Err(fault) => wrong.push(format!("{}: refused as {fault}", case["name"])),
        }
    }
    for case in cases("invalid") {
        match verify(&whole(&case)) {
            Ok(_) => wrong.push(format!("{}: not refused", case["name"])),
            Err(fault) if Some(fault.code.as_str()) == case["code"].as_str() => {}
            Err(fault) => wrong.push(format!("{}: refused as {fault}", case["name"])),
        }
    }
    wrong
}
