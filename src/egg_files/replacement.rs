//! Replacements, prepared for any parser.

use regex::Regex;
use serde_json::Value;

use super::{MAX_BYTES, Omission, Placeholders};
use crate::model::expression;
use crate::model::settings;

/// What Wings writes for values that are no scalars.
const NULL: &str = "<nil>";
const NOT_A_SCALAR: &str = "<invalid>";

/// A replacement with its placeholders replaced and its condition compiled.
#[derive(Debug, Clone)]
pub struct Replacement {
    pub(super) key: String,
    pub(super) text: String,
    /// The value, if the egg has a boolean and no text.
    pub(super) flag: Option<bool>,
    pub(super) condition: Option<Condition>,
}

/// When a value is replaced.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    /// If it has exactly this text.
    Equals(String),
    /// Each match in its text, which the new value may refer to: `$1`.
    Matches(Regex),
}

impl Replacement {
    /// Prepares the replacements of a configuration file. Those with an invalid expression are left out.
    pub fn prepare(replacements: &[settings::Replacement], placeholders: &Placeholders) -> (Vec<Self>, Vec<Omission>) {
        let mut omitted = Vec::new();
        let mut prepared = Vec::new();
        for replacement in replacements {
            let settings::Replacement { key, if_value, replace_with } = replacement;
            let mut omit = |why| omitted.push(Omission { key: key.clone(), why });
            let text = placeholders.expand(&text(replace_with));
            if key.contains('\0') || text.contains('\0') {
                omit("the key or the value contains a NUL");
                continue;
            }
            match if_value.as_deref().map(Condition::read).transpose() {
                Ok(condition) => {
                    prepared.push(Self { key: key.clone(), text, flag: replace_with.as_bool(), condition });
                }
                Err(_) => omit("the expression in `if_value` is invalid or too large; correct it in the egg"),
            }
        }
        (prepared, omitted)
    }

    /// The new text of a value with this text; `None` if its condition does not hold. A condition needs a value.
    pub(super) fn new_text(&self, old: Option<&str>) -> Option<String> {
        match (&self.condition, old) {
            (None, _) => Some(self.text.clone()),
            (Some(Condition::Equals(expected)), Some(old)) => (expected == old).then(|| self.text.clone()),
            (Some(Condition::Matches(expression)), Some(old)) => {
                // A text for each character of a long value would fill the memory.
                let is_bounded = old.len().saturating_mul(self.text.len()) <= MAX_BYTES;
                let matches = is_bounded && expression.is_match(old);
                matches.then(|| expression.replace_all(old, &self.text).into_owned())
            }
            (Some(_), None) => None,
        }
    }
}

impl Condition {
    fn read(text: &str) -> Result<Self, regex::Error> {
        match text.strip_prefix("regex:") {
            Some(expression) => Ok(Self::Matches(Regex::new(&expression::translate(expression))?)),
            None => Ok(Self::Equals(text.to_owned())),
        }
    }
}

/// A value as the parsers write it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Null => NULL.into(),
        Value::Array(_) | Value::Object(_) => NOT_A_SCALAR.into(),
    }
}
