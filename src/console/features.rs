//! Finds lines that announce a feature of the server's egg, such as a missing acceptance of an EULA.
//!
//! Source: websocket, "Payloads"; `egg.features` of a server's settings: the name of a feature and texts, whose case does not matter.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

use super::done::strip;
use crate::events::FeatureMatch;
use crate::model::ServerId;

/// Most texts that are matched. Eggs have fewer than ten.
const TEXTS: usize = 64;
/// Memory of the compiled texts, and of the cache of their search, in bytes.
const COMPILED: usize = 1024 * 1024;

/// What a server's lines are matched with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features {
    /// Names and their texts.
    pub texts: BTreeMap<String, Vec<String>>,
    /// Remove terminal colours before lines are matched.
    pub strip_ansi: bool,
}

/// Matches lines against the texts.
#[derive(Debug, Default)]
pub(super) struct FeatureMatcher {
    /// Each text with its feature, and an expression that finds it.
    texts: Vec<(String, String, Regex)>,
    /// Finds any of them.
    any: Option<Regex>,
    strip_ansi: bool,
}

impl FeatureMatcher {
    /// Compiles the texts. Empty ones match nothing, and those that are too many or too long are logged with the server's id.
    pub fn new(server: ServerId, features: &Features) -> Self {
        let texts = features.texts.iter().flat_map(|(key, texts)| texts.iter().map(move |text| (key, text)));
        let texts: Vec<(&String, &String)> =
            texts.filter(|(_, text)| !text.trim().is_empty()).take(TEXTS + 1).collect();
        if texts.len() > TEXTS {
            tracing::warn!(%server, used = TEXTS, "too many texts in egg.features; the last ones are ignored");
        }
        let expressions: Vec<String> = texts.iter().take(TEXTS).map(|(_, text)| regex::escape(text)).collect();
        let compiled = || {
            let any = compile(&expressions.join("|"))?;
            let each = texts.iter().zip(&expressions);
            let each = each.map(|((key, text), each)| Ok(((*key).clone(), (*text).clone(), compile(each)?)));
            Ok::<_, regex::Error>((each.collect::<Result<Vec<_>, _>>()?, any))
        };
        match compiled() {
            Ok((texts, any)) => {
                let any = (!texts.is_empty()).then_some(any);
                Self { texts, any, strip_ansi: features.strip_ansi }
            }
            Err(error) => {
                tracing::warn!(%server, %error, "egg.features cannot be matched; shorten its texts in the egg");
                Self::default()
            }
        }
    }

    /// The first feature that this line announces.
    pub fn find(&self, line: &str) -> Option<FeatureMatch> {
        let any = self.any.as_ref()?;
        let line = strip(line, self.strip_ansi);
        if !any.is_match(&line) {
            return None;
        }
        let (key, text, _) = self.texts.iter().find(|(_, _, text)| text.is_match(&line))?;
        Some(FeatureMatch { key: key.clone(), line: line.into_owned(), pattern: text.clone() })
    }
}

fn compile(expression: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(expression).case_insensitive(true).size_limit(COMPILED).dfa_size_limit(COMPILED).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(texts: &[(&str, &[&str])], strip_ansi: bool) -> FeatureMatcher {
        let texts = texts.iter().map(|(key, texts)| ((*key).into(), texts.iter().map(|text| (*text).into()).collect()));
        let server = ServerId::new(uuid::Uuid::from_u128(1));
        FeatureMatcher::new(server, &Features { texts: texts.collect(), strip_ansi })
    }

    #[test]
    fn a_line_that_contains_a_text_announces_its_feature() {
        let features =
            matcher(&[("eula", &["You need to agree", "(eula)"]), ("java", &["Ünsupported class.*"])], false);
        let found = |line: &str| features.find(line).map(|found| (found.key, found.pattern));
        let eula = |pattern: &str| Some(("eula".to_owned(), pattern.to_owned()));
        assert_eq!(found("[Server] you NEED to agree to it"), eula("You need to agree"));
        assert_eq!(found("the (EULA)"), eula("(eula)"), "texts are no expressions");
        assert_eq!(found("ünSUPPORTED class.* version"), Some(("java".into(), "Ünsupported class.*".into())));
        assert_eq!(found("unsupported class"), None);
        assert_eq!(features.find("need (eula) X").unwrap().line, "need (eula) X");
    }

    #[test]
    fn colours_are_removed_where_the_egg_says_so() {
        let line = "you \u{1b}[31mneed\u{1b}[0m it";
        assert!(matcher(&[("a", &["you need"])], false).find(line).is_none());
        assert_eq!(matcher(&[("a", &["you need"])], true).find(line).unwrap().line, "you need it");
    }

    #[test]
    fn an_egg_with_odd_texts_matches_nothing_wrong() {
        assert!(matcher(&[], false).find("line").is_none());
        assert!(matcher(&[("a", &["", "  "]), ("b", &[])], false).find(" line").is_none());
        assert!(matcher(&[("a", &["x".repeat(1 << 20).as_str()])], false).find("xxx").is_none());
        let many: Vec<String> = (0..100).map(|number| format!("text {number}.")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let many = matcher(&[("a", &many)], false);
        assert!(many.find("text 63.").is_some() && many.find("text 64.").is_none());
    }
}
