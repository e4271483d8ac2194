//! Errors of the node's file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::DEFAULT_PATH;
use crate::yaml::YamlError;

/// Why the node's file cannot be used. The messages name the file and the next step, and never contain a secret.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConfigError {
    #[error(
        "there is no configuration file {}: write one there, or name another one with --config (the default is {DEFAULT_PATH})",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error("cannot read the configuration file {}: {source}{}", path.display(), remedy(source.kind()))]
    Unreadable { path: PathBuf, source: io::Error },
    /// The file is not YAML, or values in it are invalid.
    #[error("{}", lines(path, faults))]
    Invalid {
        path: PathBuf,
        /// At least one.
        faults: Vec<YamlError>,
    },
}

/// An invalid value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted name of the key, such as `api.port`.
    pub key: String,
    /// The value, and what was expected.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

/// An invalid value in a text, with the position of its key.
pub fn located(text: &str, problem: Problem) -> YamlError {
    let keys: Vec<&str> = problem.key.split('.').filter(|key| !key.is_empty()).collect();
    let (line, column) = crate::yaml::locate(text, &keys).unzip();
    let path = (!keys.is_empty()).then(|| problem.key.clone());
    YamlError { line, column, path, ..YamlError::new(problem.message) }
}

/// What to do about a file that cannot be read, as the end of a message.
fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => "; run this as root, or as the file's owner",
        io::ErrorKind::InvalidData => "; save it as UTF-8 text",
        io::ErrorKind::IsADirectory => "; name the file itself with --config",
        _ => "",
    }
}

/// A fault in a file as one line.
pub(super) fn line(path: &Path, fault: &YamlError) -> String {
    let position = fault.line.map(|line| format!(":{line}:{}", fault.column.unwrap_or(1))).unwrap_or_default();
    format!("{}{position}: {}", path.display(), YamlError { line: None, ..fault.clone() })
}

fn lines(path: &Path, faults: &[YamlError]) -> String {
    let mut lines: Vec<String> = faults.iter().map(|fault| line(path, fault)).collect();
    // A file that is no YAML is one mistake to all that read it.
    lines.dedup();
    lines.join("\n")
}
