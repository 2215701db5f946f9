//! PURE: what a person reads, in Finnish, Swedish and English: `locales/*.ftl`, in the
//! Fluent format. Every code of the registry has a sentence that says what happened and
//! one that says what to do next.

use std::borrow::Cow;
use std::fmt;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource};
use suora_protocol::fault::{Code, sentences};
use suora_protocol::finding::{Finding, Said};
use unic_langid::{LanguageIdentifier, langid};

// the codes' sentences, which are everybody's, and our own texts
const FI: [&str; 2] = [sentences::FI, include_str!("../locales/fi.ftl")];
const SV: [&str; 2] = [sentences::SV, include_str!("../locales/sv.ftl")];
const EN: [&str; 2] = [sentences::EN, include_str!("../locales/en.ftl")];

/// The texts of one language.
pub struct Texts {
    bundle: FluentBundle<FluentResource>,
    language: &'static str,
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Texts({})", self.language)
    }
}

impl Texts {
    /// The texts of `fi` or `sv`, also with a region as in `fi_FI.UTF-8`; of English for
    /// anything else.
    pub fn new(language: &str) -> Self {
        let primary = language.split(['_', '-', '.', '@']).next().unwrap_or("");
        if primary.eq_ignore_ascii_case("fi") {
            Self::of("fi", langid!("fi"), FI)
        } else if primary.eq_ignore_ascii_case("sv") {
            Self::of("sv", langid!("sv"), SV)
        } else {
            Self::of("en", langid!("en"), EN)
        }
    }

    /// The texts of the language that the environment names, in the order of POSIX;
    /// `variable` reads it.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Self {
        let language = ["LC_ALL", "LC_MESSAGES", "LANG"]
            .into_iter()
            .find_map(|name| variable(name).filter(|value| !value.is_empty()));
        Self::new(&language.unwrap_or_default())
    }

    fn of(language: &'static str, id: LanguageIdentifier, sources: [&str; 2]) -> Self {
        let mut bundle = FluentBundle::new_concurrent(vec![id]);
        bundle.set_use_isolating(false);
        for source in sources {
            // a test shows that each file reads without an error
            let resource = FluentResource::try_new(source.into()).unwrap_or_else(|(read, _)| read);
            bundle.add_resource_overriding(resource);
        }
        Self { bundle, language }
    }

    /// Which language this is: `fi`, `sv` or `en`.
    pub const fn language(&self) -> &'static str {
        self.language
    }

    /// A text without variables; the id itself where there is none.
    pub fn get(&self, id: &str) -> String {
        self.with(id, &[])
    }

    /// A text with its variables. What they hold may come from strangers: it cannot
    /// steer the terminal, nor turn the direction of the line.
    pub fn with(&self, id: &str, args: &[(&str, &str)]) -> String {
        let args: FluentArgs<'_> = args
            .iter()
            .map(|(name, value)| (*name, plain(value)))
            .collect();
        self.format(id, None, Some(&args))
    }

    /// What happened, in a sentence.
    pub fn sentence(&self, code: Code) -> String {
        self.format(&format!("code-{code}"), None, None)
    }

    /// What to do next, in a sentence.
    pub fn next(&self, code: Code) -> String {
        self.format(&format!("code-{code}"), Some("next"), None)
    }

    /// What happened, and what to do next. `own`: it is this end's own proof that was refused.
    pub fn told(&self, code: Code, own: bool) -> (String, String) {
        let id = format!("own-{code}");
        if own && self.bundle.has_message(&id) {
            (self.get(&id), self.get("own-next"))
        } else {
            (self.sentence(code), self.next(code))
        }
    }

    /// What a finding of the doctor says, and what to do next: its own words, else its code's.
    pub fn finding(&self, finding: &Finding) -> Said {
        let args: FluentArgs<'_> = finding
            .values
            .iter()
            .map(|(name, value)| (*name, plain(value)))
            .collect();
        let id = finding.id();
        let sentence = self.format(&id, None, Some(&args));
        let own = self.format(&id, Some("next"), Some(&args));
        let code = finding.fault.as_ref().map(|fault| fault.code);
        let next = if own == id {
            code.map(|code| self.next(code))
        } else {
            Some(own)
        };
        finding.said(sentence, next)
    }

    /// A number with so many decimals, as this language writes it.
    pub fn number(&self, value: f64, decimals: usize) -> String {
        let text = format!("{value:.decimals$}");
        match self.language {
            "en" => text,
            _ => text.replace('.', ","),
        }
    }

    fn format(&self, id: &str, attribute: Option<&str>, args: Option<&FluentArgs<'_>>) -> String {
        let message = self.bundle.get_message(id);
        let pattern = message.and_then(|message| match attribute {
            None => message.value(),
            Some(name) => message.get_attribute(name).map(|found| found.value()),
        });
        match pattern {
            Some(pattern) => self
                .bundle
                .format_pattern(pattern, args, &mut Vec::new())
                .into_owned(),
            None => id.into(),
        }
    }
}

/// A text in one line, without control characters and without marks that turn its direction.
pub fn plain(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(steers) {
        text.chars()
            .map(|c| if steers(c) { ' ' } else { c })
            .collect::<String>()
            .into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use super::*;

    /// Id, or id and attribute → the text as it stands in the file.
    fn read(source: &str) -> BTreeMap<String, String> {
        let mut entries = BTreeMap::new();
        let mut last = "";
        for line in source.lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, text) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
            let name = match name.strip_prefix("    .") {
                Some(attribute) => format!("{last}.{attribute}"),
                None => {
                    last = name;
                    name.into()
                }
            };
            assert!(!text.trim().is_empty(), "{name}");
            assert_eq!(entries.insert(name.clone(), text.into()), None, "{name}");
        }
        entries
    }

    fn variables(text: &str) -> BTreeSet<&str> {
        text.split("{$")
            .skip(1)
            .filter_map(|rest| rest.split('}').next())
            .collect()
    }

    /// Differences between two files that have to agree.
    fn differences(one: &str, other: &str) -> Vec<String> {
        let (one, other) = (read(one), read(other));
        let ids: BTreeSet<_> = one.keys().chain(other.keys()).collect();
        ids.into_iter()
            .filter(|id| match (one.get(*id), other.get(*id)) {
                (Some(one), Some(other)) => variables(one) != variables(other),
                _ => true,
            })
            .cloned()
            .collect()
    }

    fn files() -> [(&'static str, String); 3] {
        [
            ("fi", FI.concat()),
            ("sv", SV.concat()),
            ("en", EN.concat()),
        ]
    }

    #[test]
    fn every_file_reads_without_an_error() {
        for (language, source) in files() {
            let resource = FluentResource::try_new(source);
            assert!(resource.is_ok(), "{language}: {:?}", resource.err());
            assert_eq!(Texts::new(language).language(), language);
        }
    }

    #[test]
    fn all_languages_have_the_same_texts_with_the_same_variables() {
        assert_eq!(
            differences(&EN.concat(), &FI.concat()),
            Vec::<String>::new()
        );
        assert_eq!(
            differences(&EN.concat(), &SV.concat()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_missing_text_or_variable_would_be_found() {
        assert_eq!(
            differences("a = x {$n}\nb = y", "a = z {$m}\nc = y").len(),
            3
        );
    }

    /// Codes without a sentence, or without what to do next.
    fn untold(entries: &BTreeMap<String, String>) -> Vec<String> {
        let ids = Code::ALL.iter().map(|code| format!("code-{code}"));
        ids.flat_map(|id| [format!("{id}.next"), id])
            .filter(|id| !entries.contains_key(id))
            .collect()
    }

    #[test]
    fn a_code_without_its_sentence_or_its_next_step_would_be_found() {
        let mut entries = read(&SV.concat());
        assert_eq!(untold(&entries), Vec::<String>::new());
        entries.remove("code-crowded.next");
        assert_eq!(untold(&entries), ["code-crowded.next"]);
        entries.remove("code-crowded");
        assert_eq!(untold(&entries), ["code-crowded.next", "code-crowded"]);
    }

    // covers: SUORA-REG-120
    #[test]
    fn every_code_has_a_sentence_and_a_next_step() {
        for (language, source) in files() {
            let (texts, entries) = (Texts::new(language), read(&source));
            assert_eq!(untold(&entries), Vec::<String>::new(), "{language}");
            for code in Code::ALL {
                let id = format!("code-{code}");
                assert_eq!(entries.get(&id), Some(&texts.sentence(*code)), "{language}");
                let next = entries.get(&format!("{id}.next"));
                assert_eq!(next, Some(&texts.next(*code)), "{language} {id}");
            }
            let own = entries.keys().filter_map(|id| id.strip_prefix("own-"));
            for code in own.filter(|code| *code != "next") {
                assert!(Code::parse(code).is_some_and(Code::is_refusal), "{code}");
            }
            let codes = entries.keys().filter(|id| id.starts_with("code-")).count();
            assert_eq!(
                codes,
                2 * Code::ALL.len(),
                "{language}: a code that is not registered"
            );
        }
    }

    #[test]
    fn every_text_is_translated() {
        let words = |text: &str| {
            let mut rest = text;
            let mut words = String::new();
            while let Some((before, after)) = rest.split_once('{') {
                words.push_str(before);
                rest = after.split_once('}').map_or("", |(_, after)| after);
            }
            words.push_str(rest);
            words
        };
        let [fi, sv, en] = files().map(|(_, source)| read(&source));
        for (id, english) in &en {
            if words(english).contains(char::is_alphabetic) {
                assert_ne!(words(english), words(&fi[id]), "{id}: Finnish");
                assert_ne!(words(english), words(&sv[id]), "{id}: Swedish");
                assert_ne!(words(&fi[id]), words(&sv[id]), "{id}: Finnish and Swedish");
            }
        }
    }

    fn sources(folder: &Path, into: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = std::fs::read_to_string(path).unwrap();
                let shipped = text.split("#[cfg(test)]\nmod tests").next().unwrap_or("");
                into.extend(shipped.chars().filter(|c| !c.is_whitespace()));
            }
        }
    }

    /// Ids that the sources ask for.
    fn asked(source: &str) -> BTreeSet<&str> {
        ["texts.get(\"", "texts.with(\""]
            .into_iter()
            .flat_map(|call| source.split(call).skip(1))
            .filter_map(|rest| rest.split('"').next())
            .collect()
    }

    #[test]
    fn no_text_is_missing_and_none_is_unused() {
        let mut source = String::new();
        sources(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut source,
        );
        let entries = read(&EN.concat());
        let asked = asked(&source);
        assert!(asked.len() > 10, "the search finds nothing: {asked:?}");
        let missing: Vec<_> = asked
            .iter()
            .filter(|id| !entries.contains_key(**id))
            .collect();
        assert!(missing.is_empty(), "asked for, but in no file: {missing:?}");
        // an id stands in the sources, or a format that ends in its number
        let named = |id: &str| {
            let stem = id.trim_end_matches(|c: char| c.is_ascii_digit());
            source.contains(&format!("\"{id}\""))
                || (stem != id && source.contains(&format!("\"{stem}{{")))
        };
        let unused: Vec<_> = entries
            .keys()
            .filter(|id| {
                !["code-", "own-", "doctor-"]
                    .iter()
                    .any(|kind| id.starts_with(kind))
            })
            .filter(|id| !named(id))
            .collect();
        assert!(
            unused.is_empty(),
            "in the files, but never used: {unused:?}"
        );
    }

    #[test]
    fn the_environment_chooses_as_posix_says() {
        let with = |set: &[(&str, &str)]| {
            let set: BTreeMap<String, String> = set
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect();
            Texts::from_env(|name| set.get(name).cloned()).language()
        };
        assert_eq!(with(&[("LANG", "fi_FI.UTF-8")]), "fi");
        assert_eq!(with(&[("LANG", "fi_FI.UTF-8"), ("LC_ALL", "sv_FI")]), "sv");
        assert_eq!(with(&[("LANG", "sv"), ("LC_ALL", "")]), "sv");
        assert_eq!(with(&[("LANG", "fil_PH")]), "en");
        assert_eq!(with(&[("LC_ALL", "C")]), "en");
        assert_eq!(with(&[]), "en");
    }

    #[test]
    fn what_strangers_write_cannot_steer_the_terminal() {
        let texts = Texts::new("en");
        let shown = texts.with(
            "progress-chat-me",
            &[("text", "a\u{1b}[2Jb\nc\u{202e}d\u{9b}7 007 {$x}")],
        );
        assert_eq!(shown, "You: a [2Jb c d 7 007 {$x}");
    }

    #[test]
    fn numbers_have_the_decimal_mark_of_the_language() {
        assert_eq!(Texts::new("en").number(1.25, 1), "1.2");
        assert_eq!(Texts::new("fi").number(29.97, 1), "30,0");
    }
}
