//! What can be wrong with the node's file.

use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

use super::DEFAULT_PATH;
use crate::yaml::YamlError;

/// Why the node's file gives no configuration. The texts name the file and the next step, and never show a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no such file.
    #[error(
        "there is no configuration file {}: write one there, or name another one with --config (the default is {DEFAULT_PATH})",
        path.display()
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}{}", path.display(), remedy(source.kind()))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not YAML, or a value has the wrong type.
    #[error("{}", broken(path, source))]
    Broken {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<YamlError>,
    },
    /// A value has the right type and makes no sense.
    #[error("{}: {problem}", place(path, *at))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line and column of the key, counted from one, if the file has it.
        at: Option<(usize, usize)>,
        /// What is wrong with which key.
        problem: Problem,
    },
}

/// A key of the file whose value makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted name of the key, such as `api.port`.
    pub key: String,
    /// What was found, and what was expected.
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
    /// A problem with a file's text, with the place of the key.
    pub(crate) fn invalid(path: &Path, text: &str, problem: Problem) -> Self {
        let keys: Vec<&str> = problem.key.split('.').collect();
        Self::Invalid { path: path.to_owned(), at: crate::yaml::locate(text, &keys), problem }
    }
}

/// What a person can do about a file that cannot be read, as the end of a message.
fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => "; run this as root, or as the file's owner",
        io::ErrorKind::InvalidData => "; save it as UTF-8 text",
        io::ErrorKind::IsADirectory => "; name the file itself with --config",
        _ => "",
    }
}

/// The file, and the place in it.
pub(super) fn place(path: &Path, at: Option<(usize, usize)>) -> String {
    match at {
        Some((line, column)) => format!("{}:{line}:{column}", path.display()),
        None => path.display().to_string(),
    }
}

fn broken(path: &Path, error: &YamlError) -> String {
    let mut text = place(path, error.line.map(|line| (line, error.column.unwrap_or(1))));
    if let Some(key) = &error.path {
        let _ = write!(text, ": {key}");
    }
    let _ = write!(text, ": {}", error.message);
    if let Some(help) = &error.help {
        let _ = write!(text, "; {help}");
    }
    text
}
