//! Spec and tests in step. A requirement is a paragraph or a table row of a chapter that
//! begins with its number in bold; a test proves it by a line `covers: <number>[, …]` in a
//! comment above. A requirement that no test names is a fault, and so is a `covers` line
//! that names no requirement or stands above no test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use suora_protocol::fault::{Code, Fault};

/// What was found, and what is wrong.
#[derive(Debug, Default)]
pub struct Report {
    /// Requirements, with the chapter that states them.
    pub stated: BTreeMap<String, String>,
    /// Requirements that tests name, with the tests' places.
    pub covered: BTreeMap<String, Vec<String>>,
    /// What is wrong, in words.
    pub faults: Vec<String>,
}

/// The length of `SUORA-DOC-001`.
const LENGTH: usize = 13;

/// Whether `text` is a requirement's number.
fn is_number(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("SUORA-") else {
        return false;
    };
    let Some((chapter, digits)) = rest.split_once('-') else {
        return false;
    };
    chapter.len() == 3
        && chapter.bytes().all(|byte| byte.is_ascii_uppercase())
        && digits.len() == 3
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The number that a line of a chapter states, if it states one.
fn stated(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("| ").unwrap_or(line);
    let number = line.strip_prefix("**")?.split_once("**")?.0;
    is_number(number).then_some(number)
}

/// All numbers that a line mentions.
fn mentioned(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("SUORA-")
        .filter_map(|(at, _)| line.get(at..at + LENGTH))
        .filter(|number| is_number(number))
}

/// Reads all chapters of `spec`.
fn read_chapters(spec: &Path, report: &mut Report) -> Result<(), Fault> {
    let mut mentions = Vec::new();
    for path in files(spec, &["md"])? {
        let chapter = path
            .strip_prefix(spec)
            .unwrap_or(&path)
            .display()
            .to_string();
        for (index, line) in read(&path)?.lines().enumerate() {
            let place = format!("spec/{chapter}:{}", index + 1);
            if let Some(number) = stated(line)
                && let Some(other) = report.stated.insert(number.into(), place.clone())
            {
                report
                    .faults
                    .push(format!("{place}: {number} is stated in {other} already"));
            }
            mentions.extend(mentioned(line).map(|number| (number.to_string(), place.clone())));
        }
    }
    for (number, place) in mentions {
        if !report.stated.contains_key(&number) {
            report
                .faults
                .push(format!("{place}: {number} is mentioned and stated nowhere"));
        }
    }
    Ok(())
}

/// What a `covers` line of a comment lists, if the line is one.
fn covers(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let comment = line
        .strip_prefix("//")
        .or_else(|| line.strip_prefix('#'))?
        .trim_start();
    comment.strip_prefix("covers:")
}

/// Whether a test begins after the `covers` line: comments and attributes, then a function.
fn leads_to_test<'a>(mut rest: impl Iterator<Item = &'a str>) -> bool {
    let mut test = false;
    rest.find_map(|line| {
        let line = line.trim();
        if line.starts_with("def test_") || line.starts_with("async def test_") {
            return Some(true);
        }
        if line.starts_with("#[") || line.starts_with("@") {
            test |= line == "#[test]" || line.starts_with("#[tokio::test");
            return None;
        }
        if line.starts_with("//") || line.starts_with('#') {
            return None;
        }
        let function = ["fn ", "async fn ", "pub fn "];
        Some(test && function.iter().any(|start| line.starts_with(start)))
    })
    .unwrap_or(false)
}

fn read_tests(root: &Path, report: &mut Report) -> Result<(), Fault> {
    for path in files(root, &["rs", "py"])? {
        let text = read(&path)?;
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .display()
            .to_string();
        for (index, line) in text.lines().enumerate() {
            let Some(list) = covers(line) else { continue };
            let place = format!("{name}:{}", index + 1);
            if !leads_to_test(text.lines().skip(index + 1)) {
                report
                    .faults
                    .push(format!("{place}: covers stands above no test"));
            }
            for number in list.split(',').map(str::trim) {
                if !report.stated.contains_key(number) {
                    report
                        .faults
                        .push(format!("{place}: {number} is no requirement of a chapter"));
                }
                report
                    .covered
                    .entry(number.into())
                    .or_default()
                    .push(place.clone());
            }
        }
    }
    Ok(())
}

/// Compares the chapters of `spec` with the tests below `root`.
pub fn check(spec: &Path, root: &Path) -> Result<Report, Fault> {
    let mut report = Report::default();
    read_chapters(spec, &mut report)?;
    read_tests(root, &mut report)?;
    let covered: BTreeSet<&String> = report.covered.keys().collect();
    let bare: Vec<String> = report
        .stated
        .iter()
        .filter(|(number, _)| !covered.contains(number))
        .map(|(number, place)| format!("{place}: no test names {number}"))
        .collect();
    report.faults.extend(bare);
    Ok(report)
}

fn read(path: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(path)
        .map_err(|error| Fault::new(Code::BadFile).with(format!("{}: {error}", path.display())))
}

/// All files below `dir` with one of these endings, in order; build output and hidden
/// folders left out.
fn files(dir: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, Fault> {
    let failed = |error: std::io::Error| {
        Fault::new(Code::BadFile).with(format!("{}: {error}", dir.display()))
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if path.is_dir() {
            let skipped = ["target", "node_modules", "fixtures"];
            if !name.starts_with('.') && !skipped.contains(&name.as_str()) {
                found.extend(files(&path, endings)?);
            }
        } else if path
            .extension()
            .is_some_and(|ending| endings.iter().any(|known| ending == *known))
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
