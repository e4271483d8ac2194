//! How a command ends badly.

use std::io;
use std::path::PathBuf;

use crate::config::{ConfigError, Problem};
use crate::runtime::docker::InvalidAddress;
use crate::store::StoreError;
use crate::yaml::YamlError;

/// Why a command did not do what it was asked. The texts say what to do next.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line makes no sense; the exit code is 2.
    #[error("{0}")]
    Usage(String),
    /// It was said already, on the way.
    #[error("some of it failed")]
    Reported,
    /// Nobody reads the output any more: an end like any other.
    #[error("the output is closed")]
    Closed,
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// The configuration file.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// Neither a configuration file nor a state folder was named, and the default is not there.
    #[error("{0}; or name a state folder with --root")]
    NoConfig(ConfigError),
    /// A state folder makes no node.
    #[error("{}: {problem}", root.display())]
    Root {
        /// The folder.
        root: PathBuf,
        /// What is wrong.
        problem: Problem,
    },
    /// The state folder refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file cannot be read.
    #[error("cannot {action} {}: {source}{}", path.display(), remedy(source.kind()))]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon's socket.
    #[error("the daemon cannot be asked at {}: {why}", socket.display())]
    Daemon {
        /// The socket.
        socket: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The daemon said no.
    #[error("the daemon refused (HTTP {status}): {message}")]
    Rejected {
        /// HTTP status.
        status: u16,
        /// In its words.
        message: String,
    },
    /// `DOCKER_HOST`.
    #[error(transparent)]
    Docker(#[from] InvalidAddress),
    /// A value has no form in the wanted format.
    #[error("cannot be printed: {0}")]
    Yaml(#[from] YamlError),
    /// A value has no form in the wanted format.
    #[error("cannot be printed: {0}")]
    Json(#[from] serde_json::Error),
    /// Something else.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    /// What a person can do about a file, as the end of a message; empty where nobody knows.
    pub fn remedy(&self) -> &'static str {
        match self {
            CliError::File { source, .. } => remedy(source.kind()),
            _ => "",
        }
    }

    /// Whether the daemon cannot be asked: then nothing else can be either.
    pub fn is_of_daemon(&self) -> bool {
        matches!(self, CliError::Daemon { .. })
    }

    /// An error of writing to standard output.
    pub fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::Closed,
            _ => CliError::Output(error),
        }
    }
}

/// What a person can do about a file that cannot be read, as the end of a message.
fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => "; run this as root, or as the file's owner",
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::InvalidData => "; save it as UTF-8 text",
        _ => "",
    }
}
