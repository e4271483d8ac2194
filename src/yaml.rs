//! YAML in and out: the only module that knows the YAML library.
//!
//! Text of unknown origin comes in, typed values or a [`YamlError`] that names the place goes out.

use serde::{Serialize, de::DeserializeOwned};

pub mod edit;

/// The longest text, in bytes, that is looked at.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Why a text is not the YAML that was expected, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// Line, counted from one.
    pub line: Option<usize>,
    /// Column, counted from one, in characters.
    pub column: Option<usize>,
    /// Dotted path of keys, such as `spec.power.want`.
    pub path: Option<String>,
    /// What is wrong and what was expected.
    pub message: String,
    /// What a person may do about it.
    pub help: Option<String>,
}

impl From<serde_yaml::Error> for YamlError {
    fn from(e: serde_yaml::Error) -> Self {
        let place = e.location();
        Self {
            line: place.as_ref().map(|p| p.line()),
            column: place.as_ref().map(|p| p.column()),
            path: None,
            message: e.to_string(),
            help: None,
        }
    }
}

/// Reads one document as a `T`.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    Ok(serde_yaml::from_str(text)?)
}

/// Reads one document as a JSON value.
pub fn parse_value(text: &str) -> Result<serde_json::Value, YamlError> {
    parse(text)
}

/// Writes a value as YAML in block style.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, YamlError> {
    Ok(serde_yaml::to_string(value)?)
}
