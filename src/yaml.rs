//! Reads and writes YAML: the only module that uses the YAML libraries.
//!
//! [`parse`] turns a text of any origin into a typed value, or into a [`YamlError`] with line, column and key.
//! [`edit`] changes values in a text and keeps its comments and layout.
//!
//! Each text but the node's file is parsed twice, and both parsers have to accept it. `tree` reads it with `saphyr-parser` within limits.
//! It rejects what the deserializer would accept (a key that is there twice) or could not handle (an alias bomb, a million
//! open brackets). `serde_yaml` then deserializes it.

use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed};

use tree::Keys;

pub mod edit;
mod explain;
mod nulls;
mod syntax;
mod tree;

#[cfg(test)]
mod tests;

pub use explain::nearest;

/// The longest text, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// The most mistakes that are listed.
pub const MAX_MISTAKES: usize = 20;

/// What is wrong with a YAML text, and where.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct YamlError {
    /// Line, counted from one.
    pub line: Option<usize>,
    /// Column, counted from one, in characters.
    pub column: Option<usize>,
    /// Dotted path of keys, such as `spec.install.timeout`, with list indices as in `spec.mounts[2]`.
    #[serde(rename = "key")]
    pub path: Option<String>,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl YamlError {
    /// An error of the whole text.
    pub fn new(message: impl Into<String>) -> Self {
        Self { line: None, column: None, path: None, message: message.into(), help: None }
    }

    fn at(line: usize, column: usize, message: impl Into<String>) -> Self {
        Self { line: Some(line), column: Some(column), ..Self::new(message) }
    }

    /// The error with advice.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl std::fmt::Display for YamlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}, column {}: ", self.column.unwrap_or(1))?;
        }
        if let Some(path) = &self.path {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for YamlError {}

/// Reads one document as a `T`.
///
/// # Errors
/// The text is not YAML or not a `T`, holds a second document or a key twice, or exceeds [`MAX_BYTES`] or the limits on nesting,
/// values and aliases.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    parse_with_tree(text).map(|(value, _)| value)
}

/// As [`parse`], and rejects `null` where a text or a word is expected, which the deserializer reads as the text `null`.
///
/// # Errors
/// As [`parse`].
pub fn parse_strict<T: DeserializeOwned + Serialize>(text: &str) -> Result<T, YamlError> {
    let (value, root) = parse_with_tree(text)?;
    let json = || serde_json::to_value(&value).unwrap_or_default();
    match root.and_then(|root| nulls::find(&root, &json())) {
        Some(fault) => Err(fault),
        None => Ok(value),
    }
}

fn parse_with_tree<T: DeserializeOwned>(text: &str) -> Result<(T, Option<tree::Node>), YamlError> {
    let text = admit(text)?;
    let root = tree::read(text, Keys::Unique)?;
    match serde_yaml::from_str(text) {
        Ok(value) => Ok((value, root)),
        Err(error) => Err(explain::shape(text, root.as_ref(), &error)),
    }
}

/// Reads the first document with a seed, as Go reads configuration files: what else is in the text is ignored. Returns whether there
/// is more.
///
/// Only `serde_yaml` reads the text. Its scanner is a port of `libyaml`, as Go's is, and accepts what `tree` rejects: a key that is
/// there twice, tabs between tokens, brackets in the first column.
///
/// # Errors
/// The document is not YAML, or the seed rejects it; the text exceeds [`MAX_BYTES`].
pub fn read_first<'t, S: DeserializeSeed<'t, Value = ()>>(text: &'t str, seed: S) -> Result<bool, YamlError> {
    let text = admit(text)?;
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else { return Ok(false) };
    seed.deserialize(first).map_err(|error| match tree::read(text, Keys::Any) {
        Ok(root) => explain::shape(text, root.as_ref(), &error),
        Err(fault) => explain::unplaced(fault, &error),
    })?;
    Ok(documents.next().is_some())
}

/// As [`parse`], but lists every value that has a wrong type, and every unknown or missing key.
///
/// # Errors
/// As [`parse`]; at most [`MAX_MISTAKES`].
pub fn parse_or_list<T: DeserializeOwned + Serialize>(text: &str) -> Result<T, Vec<YamlError>> {
    let mut mistakes = match parse_strict(text) {
        Ok(value) => return Ok(value),
        Err(mistake) => vec![mistake],
    };
    let Ok(mut rest) = parse_value(text) else { return Err(mistakes) };
    let mut wrong = mistakes[0].path.clone();
    let mut removed = Vec::new();
    // Without the wrong value, the next mistake is found.
    while let Some(path) = wrong.take().filter(|path| mistakes.len() < MAX_MISTAKES && remove(&mut rest, path)) {
        let mistake = to_string(&rest).ok().and_then(|rest| parse_strict::<T>(&rest).err());
        removed.push(path);
        let Some(mistake) = mistake else { break };
        wrong = mistake.path.clone();
        let missing = explain::missing_key(&mistake);
        if !missing.is_some_and(|key| removed.contains(&key)) {
            let position = mistake.path.as_deref().and_then(|path| locate_nearest(text, path));
            let (line, column) = position.unzip();
            mistakes.push(YamlError { line, column, ..mistake });
        }
    }
    Err(mistakes)
}

/// Removes the value at a dotted path, of a list also the elements after it. Returns whether it was there.
fn remove(root: &mut serde_json::Value, path: &str) -> bool {
    let steps = steps(path);
    let Some((last, parents)) = steps.split_last() else { return false };
    let pointer: String = parents.iter().map(|step| format!("/{step}")).collect();
    match root.pointer_mut(&pointer) {
        Some(serde_json::Value::Object(map)) => map.shift_remove(*last).is_some(),
        Some(serde_json::Value::Array(items)) => match last.parse() {
            Ok(index) if index < items.len() => {
                items.truncate(index);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// The keys and indices of a dotted path.
fn steps(path: &str) -> Vec<&str> {
    path.split(['.', '[']).map(|step| step.trim_end_matches(']')).collect()
}

/// Line and column of a dotted path of keys in a text, or of the last of its parents that is there.
pub fn locate_nearest(text: &str, path: &str) -> Option<(usize, usize)> {
    let steps = steps(path);
    (1..=steps.len()).rev().find_map(|length| locate(text, &steps[..length]))
}

/// Reads one document as a JSON value. A text without content is `null`.
///
/// # Errors
/// As [`parse`].
pub fn parse_value(text: &str) -> Result<serde_json::Value, YamlError> {
    parse::<crate::model::PlainValue>(text).map(|value| value.0)
}

/// Writes a value as YAML in block style.
///
/// # Errors
/// YAML cannot represent the value, such as a mapping whose keys are mappings.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, YamlError> {
    serde_yaml::to_string(value).map_err(|e| YamlError::new(format!("cannot be written as YAML: {e}")))
}

/// Line and column, counted from one, of the value at this path of keys and list indices. `None` if it is not there, or the
/// text is not YAML.
///
/// For errors that are found only after a text was merged with another one.
pub fn locate(text: &str, path: &[&str]) -> Option<(usize, usize)> {
    let root = tree::read(admit(text).ok()?, Keys::Any).ok()??;
    let mut node = &root;
    let mut position = (node.line, node.column);
    for step in path {
        if let Some(entry) = node.entry(step) {
            position = (entry.key.line, entry.key.column);
            node = &entry.value;
        } else {
            node = node.item(step.parse().ok()?)?;
            position = (node.line, node.column);
        }
    }
    Some(position)
}

/// Checks the length of a text and removes its byte order mark.
fn admit(text: &str) -> Result<&str, YamlError> {
    if text.len() > MAX_BYTES {
        let message = format!("{} bytes are too many: the limit is {MAX_BYTES} bytes (1 MiB)", text.len());
        return Err(YamlError::new(message).help("is this the right file?"));
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}
