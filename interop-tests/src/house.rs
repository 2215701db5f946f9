//! The rules of the house, checked on the sources themselves: who may import whom, where the
//! doors are, what no file may name. [`plan`] holds the tables, every rule takes sources and
//! gives the breaches it found, so that a fixture can show that the rule fires.

pub mod doors;
pub mod imports;
pub mod place;
pub mod plan;
pub mod supply;

use std::path::{Path, PathBuf};

/// One Rust file of the workspace.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path from the workspace's root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
    /// What it says.
    pub syntax: syn::File,
}

impl Source {
    /// Reads a file's text; text that is no Rust is a breach.
    pub fn parse(path: &str, text: &str) -> Result<Self, String> {
        let syntax = syn::parse_file(text)
            .map_err(|error| format!("{path}:{}: {error}", error.span().start().line))?;
        Ok(Self {
            path: path.into(),
            text: text.into(),
            syntax,
        })
    }

    /// The folder of its crate.
    pub fn member(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// Its module path, when it belongs to a library or program: `node/src/path/routes.rs` is
    /// `[path, routes]`, `lib.rs` is empty, `main.rs` is `[main]`.
    pub fn module(&self) -> Option<Vec<String>> {
        let inner = self.path.split_once("/src/")?.1.strip_suffix(".rs")?;
        if inner == "lib" {
            return Some(Vec::new());
        }
        Some(inner.split('/').map(String::from).collect())
    }

    /// The lines of its module doc.
    pub fn module_doc(&self) -> String {
        let lines = self.text.lines();
        lines
            .take_while(|line| line.starts_with("//!"))
            .map(|line| line.trim_start_matches("//!").trim())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The workspace's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// All files under `root` that belong to the project, by path; build output and git are none of it.
pub fn files(root: &Path) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .replace('\\', "/");
            if path.is_dir() {
                // cargo marks every build folder, whatever its name
                if name != ".git" && !path.join("CACHEDIR.TAG").exists() && name != "target" {
                    folders.push(path);
                }
            } else if name != ".git" {
                found.push(name);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// All Rust files of the workspace.
pub fn sources(root: &Path) -> Result<Vec<Source>, String> {
    files(root)?
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .map(|path| {
            let text = std::fs::read_to_string(root.join(&path))
                .map_err(|error| format!("{path}: {error}"))?;
            Source::parse(&path, &text)
        })
        .collect()
}
