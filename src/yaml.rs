//! YAML in and out: the only module that knows the YAML libraries.
//!
//! Text of any origin comes in; a typed value, a JSON value or a [`YamlError`] that names line,
//! column and key goes out. [`edit`] changes a text while keeping what people wrote around it.
//!
//! A text is read twice. `tree` takes it apart with the marks of `saphyr-parser`, within limits,
//! and finds what the deserializer would let pass (a key that is there twice) or would choke on (an alias
//! bomb, a million open brackets). Only then does `serde_yaml` make it the type that is asked for.
//! Both parsers have to accept a text.

use serde::{Serialize, de::DeserializeOwned};

pub mod edit;
mod explain;
mod syntax;
mod tree;

#[cfg(test)]
mod tests;

pub use explain::nearest;
use tree::Document;

/// The longest text, in bytes, that is looked at.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Why a text is not the YAML that was expected, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    /// Line, counted from one.
    pub line: Option<usize>,
    /// Column, counted from one, in characters.
    pub column: Option<usize>,
    /// Dotted path of keys, such as `spec.power.want`, with list indices as in `spec.mounts[2]`.
    pub path: Option<String>,
    /// What is wrong and what was expected.
    pub message: String,
    /// What the person who wrote the file may do about it.
    pub help: Option<String>,
}

impl YamlError {
    /// An error about a whole text.
    fn new(message: impl Into<String>) -> Self {
        Self { line: None, column: None, path: None, message: message.into(), help: None }
    }

    /// An error at a place, both counted from one.
    fn at(line: usize, column: usize, message: impl Into<String>) -> Self {
        Self { line: Some(line), column: Some(column), ..Self::new(message) }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl std::fmt::Display for YamlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}, ")?;
            match self.column {
                Some(column) => write!(f, "column {column}: ")?,
                None => write!(f, "column 1: ")?,
            }
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
/// The text is longer than [`MAX_BYTES`], is not YAML, holds a second document, a key twice, more
/// nesting, values or aliases than the limits allow, or is not a `T`.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let text = admit(text)?;
    let document = Document::read(text)?;
    serde_yaml::from_str(text).map_err(|error| explain::shape(text, &document, &error))
}

/// Reads one document as a JSON value; a text without content is `null`.
///
/// # Errors
/// As [`parse`].
pub fn parse_value(text: &str) -> Result<serde_json::Value, YamlError> {
    parse(text)
}

/// Writes a value as YAML in block style.
///
/// # Errors
/// The value has no form in YAML, such as a mapping whose keys are mappings.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, YamlError> {
    serde_yaml::to_string(value).map_err(|e| YamlError::new(format!("cannot be written as YAML: {e}")))
}

/// Refuses a file by its length, so that it need not be read first.
///
/// # Errors
/// `bytes` is more than [`MAX_BYTES`].
pub fn check_size(bytes: u64) -> Result<(), YamlError> {
    if bytes <= MAX_BYTES as u64 {
        return Ok(());
    }
    let message = format!("{bytes} bytes are too many: the limit is {MAX_BYTES} bytes (1 MiB)");
    Err(YamlError::new(message).help("is this the right file?"))
}

/// Where the value with this path of keys and list indices stands in the text: line and column,
/// both counted from one. `None` if it is not there, or the text is not YAML.
///
/// For errors that are found only after a text was merged with another one.
pub fn locate(text: &str, path: &[&str]) -> Option<(usize, usize)> {
    let document = Document::read(admit(text).ok()?).ok()?;
    let mut node = document.root.as_ref()?;
    let mut place = (node.line, node.column);
    for step in path {
        if let Some(entry) = node.entry(step) {
            place = (entry.key.line, entry.key.column);
            node = &entry.value;
        } else {
            node = node.item(step.parse().ok()?)?;
            place = (node.line, node.column);
        }
    }
    Some(place)
}

/// The text as it is read: not too long, and without a byte order mark.
fn admit(text: &str) -> Result<&str, YamlError> {
    check_size(text.len() as u64)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}
