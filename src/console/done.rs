//! Detects the end of a start-up in console lines.
//!
//! An entry of `startup.done` is a text that a line contains, or after `regex:` a regular expression in the language
//! of Go (RE2), which eggs are written for. An expression that does not compile is logged and compared as text, including its
//! prefix. Source: the reference's "Attach, console, stdin".

use std::borrow::Cow;

use anstream::adapter::strip_str;
use regex::{Regex, RegexBuilder};

use crate::model::settings::Startup;
use crate::model::{ServerId, expression};

/// Most entries that are matched. Eggs have fewer than ten.
const ENTRIES: usize = 64;
/// Memory of one compiled expression, and of the cache of its search, in bytes.
const EXPRESSION: usize = 1024 * 1024;

/// Matches lines against the entries of `startup.done`.
#[derive(Debug)]
pub struct DoneMatcher {
    entries: Vec<Entry>,
    strip_ansi: bool,
}

#[derive(Debug)]
enum Entry {
    Text(String),
    Expression(Regex),
}

impl DoneMatcher {
    /// Compiles the entries. Invalid ones are logged with the server's id.
    pub fn new(server: ServerId, startup: &Startup) -> Self {
        if startup.done.len() > ENTRIES {
            tracing::warn!(%server, entries = startup.done.len(), used = ENTRIES, "too many startup.done entries; the last ones are ignored");
        }
        let entries = startup.done.iter().take(ENTRIES).map(|text| Entry::new(server, text)).collect();
        Self { entries, strip_ansi: startup.strip_ansi }
    }

    /// Whether this line ends the start-up.
    pub fn matches(&self, line: &str) -> bool {
        let line = strip(line, self.strip_ansi);
        self.entries.iter().any(|entry| match entry {
            Entry::Text(text) => line.contains(text.as_str()),
            Entry::Expression(expression) => expression.is_match(&line),
        })
    }
}

/// The line, without terminal colours if `strip_ansi`.
pub(super) fn strip(line: &str, strip_ansi: bool) -> Cow<'_, str> {
    if strip_ansi { strip_str(line).to_string().into() } else { line.into() }
}

impl Entry {
    fn new(server: ServerId, text: &str) -> Self {
        let Some(expression) = text.strip_prefix("regex:").filter(|expression| !expression.is_empty()) else {
            return Self::Text(text.to_owned());
        };
        let compiled = RegexBuilder::new(&expression::translate(expression))
            .size_limit(EXPRESSION)
            .dfa_size_limit(EXPRESSION)
            .build();
        match compiled {
            Ok(expression) => Self::Expression(expression),
            Err(error) => {
                let entry: String = text.chars().take(200).collect();
                tracing::warn!(%server, %entry, %error, "invalid regular expression in startup.done is compared as text; correct it in the egg or in override.yml");
                Self::Text(text.to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests;
