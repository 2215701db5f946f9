//! Doors stay labelled and few, unsafe code stays with the codecs, every queue is bounded, and
//! rooms that read bytes from outside deny themselves what could panic.

use std::str::FromStr;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::Source;
use super::plan::{DOOR_ROOMS, DOORS, PANICS, QUEUES, READERS, UNSAFE_ROOMS};

/// A label on the lint that guards the doors.
struct Label {
    expected: bool,
    /// At the head of a file or module: all of it is the door.
    inner: bool,
    reason: Option<String>,
    line: usize,
}

#[derive(Default)]
struct Labels(Vec<Label>);

impl<'ast> Visit<'ast> for Labels {
    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let expected = attribute.path().is_ident("expect");
        if let (true, syn::Meta::List(list)) = (
            expected || attribute.path().is_ident("allow"),
            &attribute.meta,
        ) {
            let text = list.tokens.to_string();
            if text.contains("disallowed_methods") || text.contains("disallowed_types") {
                let reason = list
                    .tokens
                    .clone()
                    .into_iter()
                    .find_map(|token| match token {
                        TokenTree::Literal(literal) => {
                            Some(literal.to_string().trim_matches('"').to_string())
                        }
                        _ => None,
                    });
                self.0.push(Label {
                    expected,
                    inner: matches!(attribute.style, syn::AttrStyle::Inner(_)),
                    reason,
                    line: list.path.segments[0].ident.span().start().line,
                });
            }
        }
        visit::visit_attribute(self, attribute);
    }
}

/// Whether a file lies in a room: it is the room's front page or beneath it.
fn inside(path: &str, rooms: &[&str]) -> bool {
    rooms.iter().any(|room| {
        path.strip_prefix(room)
            .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    })
}

/// Every door says `expect` and why, and is one that the plan knows.
pub fn labels(sources: &[Source]) -> Vec<String> {
    let mut breaches = Vec::new();
    for source in sources {
        let mut labels = Labels::default();
        labels.visit_file(&source.syntax);
        for label in &labels.0 {
            let place = format!("{}:{}", source.path, label.line);
            let reason = label.reason.as_deref().unwrap_or_default();
            match reason.strip_prefix("door: ") {
                _ if !label.expected => breaches.push(format!(
                    "{place}: a door says `expect`, which fails when it is no longer needed"
                )),
                Some(what) if DOORS.contains(&(source.path.as_str(), what)) => {}
                Some(what) => breaches.push(format!("{place}: the plan has no door `{what}` here")),
                None => breaches.push(format!("{place}: a door gives its reason as `door: …`")),
            }
        }
        let says = source.module_doc().starts_with("DOOR: ");
        if says && !inside(&source.path, DOOR_ROOMS) {
            breaches.push(format!(
                "{}: calls itself a door, the plan does not",
                source.path
            ));
        }
        let whole = labels.0.iter().any(|label| label.inner);
        if whole && !says && source.module().is_some() {
            breaches.push(format!(
                "{}: a door's module doc begins with `DOOR: `",
                source.path
            ));
        }
    }
    breaches
}

/// Doors of the plan whose file has no such label any more.
pub fn forgotten(sources: &[Source]) -> Vec<String> {
    DOORS
        .iter()
        .filter(|(path, what)| {
            let source = sources.iter().find(|source| source.path == *path);
            source.is_none_or(|source| !source.text.contains(&format!("door: {what}")))
        })
        .map(|(path, what)| format!("{path}: the plan has a door `{what}` that is not there"))
        .collect()
}

/// All identifiers, with the line of each.
fn words(tokens: TokenStream, found: &mut Vec<(String, usize)>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => found.push((ident.to_string(), ident.span().start().line)),
            TokenTree::Group(group) => words(group.stream(), found),
            _ => {}
        }
    }
}

fn words_of(source: &Source) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    if let Ok(tokens) = TokenStream::from_str(&source.text) {
        words(tokens, &mut found);
    }
    found
}

/// Unsafe code is where the plan allows it, and nowhere else.
pub fn unsafe_code(sources: &[Source]) -> Vec<String> {
    let elsewhere = sources
        .iter()
        .filter(|source| !inside(&source.path, UNSAFE_ROOMS));
    elsewhere
        .flat_map(|source| {
            words_of(source)
                .into_iter()
                .filter(|(word, _)| word == "unsafe")
                .map(|(_, line)| format!("{}:{line}: unsafe code outside the codecs", source.path))
        })
        .collect()
}

/// No queue is unbounded; in the node only the workers' mailboxes and the listed files have channels.
pub fn queues(sources: &[Source]) -> Vec<String> {
    let mut breaches = Vec::new();
    for source in sources {
        let node = source.path.starts_with("node/src/") && !QUEUES.contains(&source.path.as_str());
        for (word, line) in words_of(source) {
            let place = format!("{}:{line}", source.path);
            if word.starts_with("unbounded") {
                breaches.push(format!("{place}: `{word}`: every queue has a bound"));
            } else if node && (word == "mpsc" || word == "broadcast" || word == "sync_channel") {
                breaches.push(format!(
                    "{place}: `{word}`: queues of the node are mailboxes of `worker`"
                ));
            }
        }
    }
    breaches
}

/// Attributes that speak of a lint of [`PANICS`], and whether each denies it to its whole file.
#[derive(Default)]
struct Lints(Vec<(&'static str, bool, usize)>);

impl<'ast> Visit<'ast> for Lints {
    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            let mut named = Vec::new();
            words(list.tokens.clone(), &mut named);
            let denied = list.path.is_ident("deny");
            for (word, line) in named {
                if let Some(lint) = PANICS.iter().find(|lint| **lint == word) {
                    self.0.push((lint, denied, line));
                }
            }
        }
    }
}

/// Every room of readers denies all of [`PANICS`] at the head of its front page, and no file
/// of the room takes that back.
pub fn readers(sources: &[Source]) -> Vec<String> {
    let mut breaches = Vec::new();
    for room in READERS {
        let front = format!("{room}.rs");
        for source in sources.iter().filter(|one| inside(&one.path, &[room])) {
            let mut lints = Lints::default();
            lints.visit_file(&source.syntax);
            let lowered = lints.0.iter().filter(|(_, denied, _)| !denied);
            breaches.extend(lowered.map(|(lint, _, line)| {
                format!(
                    "{}:{line}: `{lint}` is denied in all of {room}",
                    source.path
                )
            }));
            if source.path != front {
                continue;
            }
            let mut head = Lints::default();
            for attribute in &source.syntax.attrs {
                head.visit_attribute(attribute);
            }
            let denied = |lint: &str| {
                head.0
                    .iter()
                    .any(|(name, denied, _)| *denied && *name == lint)
            };
            let missing = PANICS.iter().filter(|lint| !denied(lint));
            breaches.extend(missing.map(|lint| format!("{front}: does not deny `{lint}`")));
        }
    }
    breaches
}
