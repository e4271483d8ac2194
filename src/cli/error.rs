//! Why a command fails. The texts say what to do next.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::runtime::docker::InvalidAddress;
use crate::store::StoreError;
use crate::yaml::YamlError;

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line is wrong; the exit code is 2.
    #[error("{0}")]
    Usage(String),
    /// The command has printed its errors already.
    #[error("some of it failed")]
    Reported,
    /// The reader of standard output has closed it, which is no failure.
    #[error("the output is closed")]
    Closed,
    /// The node's configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file that cannot be read.
    #[error("cannot {action} {}: {source}{}", path.display(), remedy(source.kind()))]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The daemon cannot be reached, or its answer cannot be read.
    #[error("the daemon cannot be asked at {}: {why}", socket.display())]
    Daemon {
        /// The socket.
        socket: PathBuf,
        /// The cause, and what to do.
        why: String,
    },
    /// The daemon's error response.
    #[error("the daemon rejected it (HTTP {status}): {message}")]
    Rejected {
        /// HTTP status.
        status: u16,
        /// The response's message.
        message: String,
    },
    /// `DOCKER_HOST`.
    #[error(transparent)]
    Docker(#[from] InvalidAddress),
    /// YAML cannot express a value.
    #[error("cannot be printed: {0}")]
    Yaml(#[from] YamlError),
    /// JSON cannot express a value.
    #[error("cannot be printed: {0}")]
    Json(#[from] serde_json::Error),
    /// Something else.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    /// Whether the daemon cannot be reached, so that further requests fail, too.
    pub fn is_of_daemon(&self) -> bool {
        matches!(self, CliError::Daemon { .. })
    }
}

/// What to do about a file that cannot be read, as the end of a message; empty if there is no advice.
pub fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => "; run this as root, or as the file's owner",
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::InvalidData => "; save it as UTF-8 text",
        _ => "",
    }
}

/// The error with its causes, each one once: the texts of many errors end with their cause.
pub fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.is_empty() {
        true => cause,
        false if text.contains(&cause) => text,
        false => format!("{text}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_is_printed_once() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let file = CliError::File { action: "write", path: "/a/b".into(), source: denied() };
        let expected = "cannot write /a/b: permission denied; run this as root, or as the file's owner";
        assert_eq!(chain(&file.into()), expected);
        let file = || CliError::File { action: "write", path: "/a/b".into(), source: denied() };
        let wrapped = Err::<(), _>(file()).context("cannot start").unwrap_err();
        assert_eq!(chain(&wrapped), format!("cannot start: {expected}"));
        let repeated = Err::<(), _>(file()).context(file().to_string()).unwrap_err();
        assert_eq!(chain(&repeated), expected);
        let other = Err::<(), _>(denied()).context("cannot open the socket").unwrap_err();
        assert_eq!(chain(&other), "cannot open the socket: permission denied");
    }
}
