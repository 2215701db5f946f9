//! PURE: what the doctor and a refusal tell an administrator, in Finnish, Swedish and English:
//! `locales/*.ftl`, in the Fluent format, as the node's texts are, and the codes' sentences.

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
pub struct Texts(FluentBundle<FluentResource>);

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Texts({:?})", self.0.locales)
    }
}

impl Texts {
    /// The texts of `fi` or `sv`, also with a region as in `fi_FI.UTF-8`; of English for
    /// anything else.
    pub fn new(language: &str) -> Self {
        match language.split(['_', '-', '.', '@']).next() {
            Some("fi") => Self::of(langid!("fi"), FI),
            Some("sv") => Self::of(langid!("sv"), SV),
            _ => Self::of(langid!("en"), EN),
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

    fn of(id: LanguageIdentifier, sources: [&str; 2]) -> Self {
        let mut bundle = FluentBundle::new_concurrent(vec![id]);
        bundle.set_use_isolating(false);
        for source in sources {
            // a test shows that each file reads without an error
            let resource = FluentResource::try_new(source.into()).unwrap_or_else(|(read, _)| read);
            bundle.add_resource_overriding(resource);
        }
        Self(bundle)
    }

    /// What a finding says, and what to do next.
    pub fn finding(&self, finding: &Finding) -> Said {
        let args: FluentArgs<'_> = finding
            .values
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let (sentence, next) = self.told(&finding.id(), &args);
        finding.said(sentence, next)
    }

    /// What a code means, and what to do next.
    pub fn code(&self, code: Code) -> (String, String) {
        let (sentence, next) = self.told(&format!("code-{code}"), &FluentArgs::new());
        (sentence, next.unwrap_or_default())
    }

    /// A text and its next step; the id itself where there is none.
    fn told(&self, id: &str, args: &FluentArgs<'_>) -> (String, Option<String>) {
        let message = self.0.get_message(id);
        let told = |pattern| {
            let told = self.0.format_pattern(pattern, Some(args), &mut Vec::new());
            told.into_owned()
        };
        let sentence = message.as_ref().and_then(|message| message.value());
        let next = message
            .as_ref()
            .and_then(|message| message.get_attribute("next"));
        (
            sentence.map_or_else(|| id.into(), told),
            next.map(|next| told(next.value())),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Id, or id and attribute → the text as it stands in the file.
    fn read(source: &str) -> BTreeMap<String, String> {
        let mut entries = BTreeMap::new();
        let mut last = "";
        let lines = source
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let (name, text) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
            let name = match name.strip_prefix("    .") {
                Some(attribute) => format!("{last}.{attribute}"),
                None => {
                    last = name;
                    name.into()
                }
            };
            assert_eq!(entries.insert(name.clone(), text.into()), None, "{name}");
        }
        entries
    }

    fn variables(text: &str) -> Vec<&str> {
        let rest = text.split("{$").skip(1);
        let mut all: Vec<&str> = rest.filter_map(|rest| rest.split('}').next()).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn all_languages_say_the_same_in_words_of_their_own() {
        let files = [FI, SV, EN].map(|sources| sources.concat());
        for source in &files {
            let resource = FluentResource::try_new(source.clone());
            assert!(resource.is_ok(), "{:?}", resource.err());
        }
        let [fi, sv, en] = files.each_ref().map(|source| read(source));
        assert!(en.keys().eq(fi.keys()) && en.keys().eq(sv.keys()));
        for (id, english) in &en {
            assert_eq!(variables(english), variables(&fi[id]), "{id}");
            assert_eq!(variables(english), variables(&sv[id]), "{id}");
            assert!(
                english != &fi[id] && english != &sv[id] && fi[id] != sv[id],
                "{id}"
            );
        }
    }

    /// Codes that a language says nothing of, or no next step for.
    fn untold(texts: &Texts, codes: &[Code]) -> Vec<Code> {
        let untold = |code: &Code| {
            let (sentence, next) = texts.code(*code);
            sentence.starts_with("code-") || next.is_empty()
        };
        codes.iter().copied().filter(untold).collect()
    }

    // covers: SUORA-REG-120
    #[test]
    fn every_code_has_a_sentence_and_a_next_step_here_too() {
        for language in ["fi", "sv", "en"] {
            let texts = Texts::new(language);
            assert_eq!(untold(&texts, Code::ALL), Vec::<Code>::new(), "{language}");
        }
        // the control: a program that lacks the file of the codes
        let own = Texts::of(langid!("sv"), ["", SV[1]]);
        assert_eq!(untold(&own, Code::ALL), Code::ALL);
    }

    #[test]
    fn the_environment_chooses_and_english_is_for_everybody_else() {
        let sentence = |texts: Texts| texts.finding(&Finding::good("running")).sentence;
        let with = |value: &str| {
            let value = value.to_string();
            sentence(Texts::from_env(|name| {
                (name == "LANG").then(|| value.clone())
            }))
        };
        assert_eq!(with("fi_FI.UTF-8"), read(FI[1])["doctor-running"]);
        assert_eq!(with("sv"), read(SV[1])["doctor-running"]);
        assert_eq!(with("fil_PH"), read(EN[1])["doctor-running"]);
    }
}
