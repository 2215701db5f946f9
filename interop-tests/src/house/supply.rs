//! What is taken from others: under which licences, in how many versions, and from where.
//! The rules are those of `.deny.toml`, which cargo-deny reads too; this check needs nothing
//! but `cargo metadata` of what was downloaded for the build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{Metadata, MetadataCommand};
use serde::Deserialize;
use spdx::{Expression, ParseMode};

/// `.deny.toml`, as far as it is checked here.
#[derive(Debug, Deserialize)]
pub struct Policy {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

/// A licence that one crate may have.
#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Named>,
    skip: Vec<Named>,
}

/// A crate, perhaps with `@version`, and why.
#[derive(Debug, Deserialize)]
struct Named {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

/// A crate from elsewhere.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Foreign {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What its manifest says of its licence.
    pub license: Option<String>,
    /// Where it is from.
    pub source: String,
}

impl Policy {
    /// Reads the rules.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| format!(".deny.toml: {error}"))
    }

    /// Every breach of the rules by these crates.
    pub fn breaches(&self, crates: &BTreeSet<Foreign>) -> Vec<String> {
        let mut breaches = Vec::new();
        for foreign in crates {
            breaches.extend(self.license(foreign).err());
            if !foreign
                .source
                .starts_with("registry+https://github.com/rust-lang/")
            {
                breaches.push(format!("{}: from {}", foreign.name, foreign.source));
            }
            if let Some(banned) = self
                .bans
                .deny
                .iter()
                .find(|banned| banned.name == foreign.name)
            {
                breaches.push(format!("{}: banned, {}", foreign.name, banned.reason));
            }
        }
        breaches.extend(self.versions(crates));
        breaches
    }

    fn license(&self, foreign: &Foreign) -> Result<(), String> {
        let refuse = |what: &str| Err(format!("{} {}: {what}", foreign.name, foreign.version));
        let Some(license) = &foreign.license else {
            return refuse("names no licence");
        };
        let expression = match Expression::parse_mode(license, ParseMode::LAX) {
            Ok(expression) => expression,
            Err(error) => return refuse(&format!("licence {license}: {error}")),
        };
        let own = self.licenses.exceptions.iter();
        let own: Vec<_> = own
            .filter(|exception| exception.name == foreign.name)
            .collect();
        let stands = expression.evaluate(|asked| {
            let asked = asked.to_string();
            self.licenses.allow.contains(&asked) || own.iter().any(|one| one.allow.contains(&asked))
        });
        if stands {
            Ok(())
        } else {
            refuse(&format!(
                "licence {license} is not among those that .deny.toml allows"
            ))
        }
    }

    /// One version of each crate, but for those that are named with a reason; a name that is no
    /// longer needed is a breach too.
    fn versions(&self, crates: &BTreeSet<Foreign>) -> Vec<String> {
        let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for foreign in crates {
            let of_name = versions.entry(&foreign.name).or_default();
            of_name.insert(&foreign.version);
        }
        let mut breaches = Vec::new();
        for skipped in &self.bans.skip {
            let (name, version) = skipped.name.split_once('@').unwrap_or((&skipped.name, ""));
            let of_name = versions.get_mut(name);
            let is_needed = of_name.as_ref().is_some_and(|of_name| of_name.len() > 1);
            if !is_needed || !of_name.is_some_and(|of_name| of_name.remove(version)) {
                breaches.push(format!(
                    "{}: skipped in .deny.toml, and there is no need",
                    skipped.name
                ));
            }
            if skipped.reason.is_empty() {
                breaches.push(format!("{}: skipped without a reason", skipped.name));
            }
        }
        let many = versions.iter().filter(|(_, versions)| versions.len() > 1);
        breaches.extend(many.map(|(name, versions)| {
            let all: Vec<&str> = versions.iter().copied().collect();
            format!(
                "{name}: in versions {}; name all but one in .deny.toml",
                all.join(", ")
            )
        }));
        breaches
    }
}

/// All crates from elsewhere that a build for this machine takes, with those of tests and of every
/// feature. Nothing is downloaded: `cargo fetch` brings what no build took so far.
pub fn crates(root: &Path, policy: &Policy) -> Result<BTreeSet<Foreign>, String> {
    let here = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    if !policy.graph.targets.contains(&here) {
        return Err(format!(".deny.toml: {here} is not among the targets"));
    }
    let options = [
        "--locked",
        "--offline",
        "--all-features",
        "--filter-platform",
        &here,
    ];
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .other_options(options.map(String::from))
        .exec()
        .map_err(|error| error.to_string())?;
    foreign(&metadata)
}

fn foreign(metadata: &Metadata) -> Result<BTreeSet<Foreign>, String> {
    let resolve = metadata.resolve.as_ref().ok_or("no resolution")?;
    let taken: BTreeSet<_> = resolve.nodes.iter().map(|node| &node.id).collect();
    let packages = metadata
        .packages
        .iter()
        .filter(|package| taken.contains(&package.id));
    Ok(packages
        .filter_map(|package| {
            let source = package.source.as_ref()?;
            Some(Foreign {
                name: package.name.to_string(),
                version: package.version.to_string(),
                license: package.license.clone(),
                source: source.to_string(),
            })
        })
        .collect())
}
