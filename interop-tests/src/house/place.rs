//! What surrounds the code: the top level, manifests, lint files, lengths, and words that
//! have no place in a project.

use std::path::Path;

use cargo_metadata::MetadataCommand;

use super::plan::{DEPENDENCIES, LINES_MAX, TOP, WORKPLACE};
use super::{Source, files};

/// A crate of the workspace and the crates of the workspace that it depends on.
pub type Edges = Vec<(String, Vec<String>)>;

/// Which crate of the workspace depends on which, dev- and build-dependencies too.
pub fn edges(root: &Path) -> Result<Edges, String> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .map_err(|error| error.to_string())?;
    let names: Vec<String> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    Ok(metadata
        .workspace_packages()
        .iter()
        .map(|package| {
            let inside = package.dependencies.iter().map(|needs| needs.name.clone());
            let inside = inside.filter(|name| names.contains(name)).collect();
            (package.name.to_string(), inside)
        })
        .collect())
}

/// Crates import one way.
pub fn crates(edges: &Edges) -> Vec<String> {
    let mut breaches = Vec::new();
    for (name, needs) in edges {
        match DEPENDENCIES.iter().find(|(known, _)| known == name) {
            None => breaches.push(format!("{name}: the plan has no such crate")),
            Some((_, allowed)) => breaches.extend(
                needs
                    .iter()
                    .filter(|needed| !allowed.contains(&needed.as_str()))
                    .map(|needed| format!("{name} may not depend on {needed}")),
            ),
        }
    }
    breaches
}

/// Features and versions of foreign crates are chosen in the workspace's manifest only.
pub fn manifest(path: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut inside = false;
    for (line, number) in text.lines().zip(1..) {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
        } else if inside && line.contains('=') && !line.trim_start().starts_with('#') {
            let shared = line.contains("workspace = true");
            if !shared || line.contains("features") || line.contains("version") {
                breaches.push(format!(
                    "{path}:{number}: versions and features are the workspace's"
                ));
            }
        }
    }
    breaches
}

/// All manifests under `root`.
pub fn manifests(root: &Path) -> Result<Vec<String>, String> {
    let mut breaches = Vec::new();
    for path in files(root)? {
        if path.ends_with("/Cargo.toml") {
            breaches.extend(manifest(&path, &read(root, &path)?));
        }
    }
    Ok(breaches)
}

/// One test binary a crate.
pub fn test_binaries(paths: &[String]) -> Vec<String> {
    paths
        .iter()
        .filter(|path| {
            let inner = path.split_once("/tests/").map(|(_, inner)| inner);
            path.matches('/').count() == 2 && inner.is_some_and(|inner| inner.ends_with(".rs"))
        })
        .map(|path| format!("{path}: a crate's tests are one binary, tests/it"))
        .collect()
}

fn read(root: &Path, path: &str) -> Result<String, String> {
    std::fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"))
}

/// The lint files of all crates say the same; the protocol's, whose crate sees no runtime, says
/// a part of it.
pub fn lint_files(root: &Path) -> Result<Vec<String>, String> {
    let lines = |member: &str| -> Result<Vec<String>, String> {
        let text = read(root, &format!("{member}/clippy.toml"))?;
        Ok(text.lines().map(String::from).collect())
    };
    let (whole, common) = (lines("node")?, lines("protocol")?);
    let mut breaches = Vec::new();
    for member in ["relay", "interop-tests"] {
        if lines(member)? != whole {
            breaches.push(format!(
                "{member}/clippy.toml differs from node/clippy.toml"
            ));
        }
    }
    breaches.extend(
        common
            .iter()
            .filter(|line| !whole.contains(line))
            .map(|line| format!("protocol/clippy.toml alone says `{}`", line.trim())),
    );
    let bans = common
        .iter()
        .filter(|line| line.contains("path = \"std::"))
        .count();
    let wanted = whole
        .iter()
        .filter(|line| line.contains("path = \"std::"))
        .count();
    if bans != wanted {
        breaches.push("protocol/clippy.toml lacks a ban on the standard library".into());
    }
    Ok(breaches)
}

/// The top level is exactly the plan's.
pub fn top_level(root: &Path) -> Result<Vec<String>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", root.display());
    let mut present = Vec::new();
    for entry in std::fs::read_dir(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // a build folder of another name says so itself
        if !entry.path().join("CACHEDIR.TAG").exists() {
            present.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    let (needed, optional) = TOP;
    let strange = present
        .iter()
        .filter(|name| !needed.contains(&name.as_str()) && !optional.contains(&name.as_str()))
        .map(|name| format!("{name} does not belong at the top level"));
    let absent = needed
        .iter()
        .filter(|name| !present.iter().any(|have| have == *name))
        .map(|name| format!("{name} is missing at the top level"));
    let mut breaches: Vec<String> = strange.chain(absent).collect();
    breaches.sort();
    Ok(breaches)
}

/// Words of a workplace in a text.
pub fn workplace(path: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        for word in WORKPLACE.iter().filter(|word| line.contains(**word)) {
            breaches.push(format!("{path}:{number}: `{word}` names a workplace"));
        }
    }
    breaches
}

/// Words of a workplace in all text files under `root`. The lock file names its registry.
pub fn workplaces(root: &Path) -> Result<Vec<String>, String> {
    let mut breaches = Vec::new();
    for path in files(root)?.iter().filter(|path| *path != "Cargo.lock") {
        let bytes = std::fs::read(root.join(path)).map_err(|error| format!("{path}: {error}"))?;
        if let Ok(text) = std::str::from_utf8(&bytes) {
            breaches.extend(workplace(path, text));
        }
    }
    Ok(breaches)
}

/// How long the files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lengths {
    /// Half of the files are no longer.
    pub median: usize,
    /// The ten longest, longest first.
    pub longest: Vec<(usize, String)>,
    /// Too long, and the module doc gives no reason.
    pub breaches: Vec<String>,
}

/// Measures all files.
pub fn lengths(sources: &[Source]) -> Lengths {
    let mut all: Vec<(usize, String)> = sources
        .iter()
        .map(|source| (source.text.lines().count(), source.path.clone()))
        .collect();
    all.sort_by(|a, b| b.cmp(a));
    let breaches = sources
        .iter()
        .filter(|source| source.text.lines().count() > LINES_MAX)
        .filter(|source| !source.module_doc().contains("Long because "))
        .map(|source| {
            let lines = source.text.lines().count();
            format!("{}: {lines} lines, and no `Long because …`", source.path)
        })
        .collect();
    Lengths {
        median: all.get(all.len() / 2).map_or(0, |(lines, _)| *lines),
        longest: all.into_iter().take(10).collect(),
        breaches,
    }
}
