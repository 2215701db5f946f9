//! Rooms import one way. Every path of every file that leads into the workspace or to a
//! guarded foreign crate is compared with the tables of [`super::plan`]. Test modules are
//! exempt: they may look wherever they like.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::Source;
use super::plan::{CRATES, FOREIGN, House, PURE, PURE_NEVER, ROOMS};

/// A path that a file mentions.
struct Mention {
    segments: Vec<String>,
    /// Inside which inline module.
    within: Vec<String>,
    /// `::name`: a foreign crate, whatever lies beside.
    rooted: bool,
    line: usize,
}

/// Collects mentions; what only tests compile is left out.
#[derive(Default)]
struct Walk {
    within: Vec<String>,
    children: Vec<String>,
    found: Vec<Mention>,
}

fn only_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

impl Walk {
    fn mention(&mut self, segments: Vec<String>, rooted: bool, line: usize) {
        let within = self.within.clone();
        self.found.push(Mention {
            segments,
            within,
            rooted,
            line,
        });
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree, rooted: bool) {
        let with = |ident: &syn::Ident| {
            let mut path = before.to_vec();
            path.push(ident.to_string());
            path
        };
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree, rooted),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(before, tree, rooted);
                }
            }
            syn::UseTree::Glob(glob) => {
                self.mention(before.to_vec(), rooted, glob.span().start().line);
            }
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.mention(before.to_vec(), rooted, name.span().start().line);
            }
            syn::UseTree::Name(name) => {
                self.mention(with(&name.ident), rooted, name.span().start().line);
            }
            syn::UseTree::Rename(name) => {
                self.mention(with(&name.ident), rooted, name.span().start().line);
            }
        }
    }

    /// Paths inside the tokens of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 && !path.is_empty() {
                        self.mention(std::mem::take(&mut path), false, line);
                    }
                    line = ident.span().start().line;
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    if !path.is_empty() {
                        self.mention(std::mem::take(&mut path), false, line);
                    }
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        if !path.is_empty() {
            self.mention(path, false, line);
        }
    }
}

impl<'ast> Visit<'ast> for Walk {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Const(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !only_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_none() && self.within.is_empty() {
            self.children.push(item.ident.to_string());
        }
        self.within.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.within.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree, item.leading_colon.is_some());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|one| one.ident.to_string());
        self.mention(
            segments.collect(),
            path.leading_colon.is_some(),
            path.span().start().line,
        );
        visit::visit_path(self, path);
    }

    /// `pub(super)` and the like lead nowhere.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        visit::visit_macro(self, item);
        self.tokens(item.tokens.clone());
    }
}

/// Where a mention leads.
enum Target {
    /// A module of a crate of the workspace, by the crate's folder.
    Module(&'static str, Vec<String>),
    /// A foreign path.
    Foreign(Vec<String>),
}

fn resolve(member: &str, module: &[String], children: &[String], mention: &Mention) -> Target {
    let own = |path: Vec<String>| {
        let member = CRATES.iter().find(|(folder, _)| *folder == member);
        Target::Module(member.map_or("", |(folder, _)| folder), path)
    };
    let mut here = module.to_vec();
    here.extend(mention.within.iter().cloned());
    let mut rest = mention.segments.as_slice();
    let first = rest.first().map(String::as_str).unwrap_or_default();
    if mention.rooted {
        return Target::Foreign(rest.to_vec());
    }
    match first {
        "crate" => {
            // a program's main.rs is a crate of its own
            return own(rest[1..].to_vec());
        }
        "self" => {
            here.extend_from_slice(&rest[1..]);
            return own(here);
        }
        "super" => {
            while rest.first().is_some_and(|segment| segment == "super") {
                here.pop();
                rest = &rest[1..];
            }
            here.extend_from_slice(rest);
            return own(here);
        }
        _ => {}
    }
    if let Some((folder, _)) = CRATES.iter().find(|(_, name)| *name == first) {
        return Target::Module(folder, rest[1..].to_vec());
    }
    if mention.within.is_empty() && children.iter().any(|child| child == first) {
        here.extend_from_slice(rest);
        return own(here);
    }
    Target::Foreign(rest.to_vec())
}

fn starts_with(path: &[String], prefix: &str) -> bool {
    let mut wanted = prefix.split("::");
    let mut path = path.iter();
    wanted.all(|segment| path.next().is_some_and(|have| have == segment))
}

/// The room of a module: the longest entry of the plan that it lies in; the root is `""`.
fn room(house: &House, module: &[String]) -> Option<&'static str> {
    if module.is_empty() {
        return Some("");
    }
    let rooms = house.iter().map(|(room, _)| *room);
    rooms
        .filter(|room| starts_with(module, room))
        .max_by_key(|room| room.len())
}

fn exempt(module: &[String]) -> bool {
    module.iter().any(|name| name == "tests")
}

/// Every breach of the tables in these sources.
pub fn check(sources: &[Source]) -> Vec<String> {
    let mut breaches = Vec::new();
    for source in sources {
        let Some(module) = source.module().filter(|module| !exempt(module)) else {
            continue;
        };
        let Some((_, house)) = ROOMS.iter().find(|(member, _)| *member == source.member()) else {
            continue;
        };
        let Some(from) = room(house, &module) else {
            breaches.push(format!("{}: the plan has no such room", source.path));
            continue;
        };
        let mut walk = Walk::default();
        walk.visit_file(&source.syntax);
        for mention in &walk.found {
            let target = resolve(source.member(), &module, &walk.children, mention);
            if let Some(breach) = judge(source.member(), house, from, &target) {
                breaches.push(format!("{}:{}: {breach}", source.path, mention.line));
            }
        }
    }
    breaches.sort();
    breaches.dedup();
    breaches
}

fn judge(member: &str, house: &House, from: &str, target: &Target) -> Option<String> {
    let name = |room: &str| format!("{member}::{room}");
    match target {
        Target::Module(other, path) if *other == member => {
            // what lies in the root itself (`Faults`) is everybody's
            let to = room(house, path).unwrap_or("");
            // the root composes all rooms; a room may look into itself
            if from.is_empty() || to.is_empty() || from == to {
                return None;
            }
            let (_, allowed) = house.iter().find(|(room, _)| *room == from)?;
            let fits = allowed
                .iter()
                .any(|allowed| *allowed == "*" || *allowed == to);
            (!fits).then(|| format!("{} may not import {}", name(from), name(to)))
        }
        Target::Module(other, path) => {
            let media = *other == "protocol" && starts_with(path, "media");
            let barred = match member {
                "protocol" => true,
                "relay" => *other != "protocol" || media,
                "node" => *other != "protocol" || (media && PURE.contains(&("node", from))),
                _ => false,
            };
            let room = path.first().map(String::as_str).unwrap_or_default();
            barred.then(|| format!("{} may not import {other}::{room}", name(from)))
        }
        Target::Foreign(path) => foreign(member, from, path),
    }
}

fn foreign(member: &str, from: &str, path: &[String]) -> Option<String> {
    let full = path.join("::");
    let pure = member == "protocol" || PURE.contains(&(member, from));
    if pure && PURE_NEVER.iter().any(|never| starts_with(path, never)) {
        return Some(format!("{member}::{from} is pure and may not name {full}"));
    }
    let (_, homes) = FOREIGN.iter().find(|(name, _)| starts_with(path, name))?;
    let at_home = homes
        .iter()
        .any(|(home, room)| *home == member && (*room == from || *room == "*"));
    (!at_home).then(|| format!("{member}::{from} is no home of {full}"))
}
