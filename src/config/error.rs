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
    /// The file is not YAML, or a value has the wrong type.
    #[error("{}", broken(path, source))]
    Broken { path: PathBuf, source: Box<YamlError> },
    /// A value has the right type and is invalid.
    #[error("{}: {problem}", position(path, *at))]
    Invalid {
        path: PathBuf,
        /// Line and column of the key, counted from one, if the file has the key.
        at: Option<(usize, usize)>,
        problem: Problem,
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

impl ConfigError {
    /// An invalid value in a text, with the position of its key.
    pub(crate) fn invalid(path: &Path, text: &str, problem: Problem) -> Self {
        let keys: Vec<&str> = problem.key.split('.').collect();
        Self::Invalid { path: path.to_owned(), at: crate::yaml::locate(text, &keys), problem }
    }
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

fn position(path: &Path, at: Option<(usize, usize)>) -> String {
    match at {
        Some((line, column)) => format!("{}:{line}:{column}", path.display()),
        None => path.display().to_string(),
    }
}

fn broken(path: &Path, error: &YamlError) -> String {
    let at = error.line.map(|line| (line, error.column.unwrap_or(1)));
    format!("{}: {}", position(path, at), YamlError { line: None, ..error.clone() })
}
