//! Errors of the runtime.

use std::fmt::Display;
use std::time::Duration;

use crate::model::OtherNode;

/// The kind of an error, by which callers decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The engine does not answer.
    Unavailable,
    /// The engine took too long.
    Timeout,
    /// A file system that the container mounts does not answer.
    VolumeUnresponsive,
    /// The container, image or network does not exist.
    NotFound,
    /// Another container has the name.
    NameTaken,
    /// The state of the container or the engine does not allow the call now.
    Conflict,
    /// The container or the request is invalid.
    Invalid,
    /// The image reference is invalid. Only another reference helps.
    InvalidImage,
    /// The registry or the engine denies access.
    Denied,
    /// The disk is full.
    NoSpace,
    /// The engine does not support the call.
    Unsupported,
    /// Any other error of the engine.
    Failed,
}

/// A failed call. `Display` contains the attempt and the cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    /// By which callers decide.
    pub kind: ErrorKind,
    message: String,
}

impl RuntimeError {
    /// `attempt` failed because of `cause`.
    pub fn new(kind: ErrorKind, attempt: impl Display, cause: impl Display) -> Self {
        let message = match kind {
            ErrorKind::Unavailable => {
                format!("{attempt}: the container engine does not answer ({cause}); check that it runs")
            }
            ErrorKind::NotFound => format!("{attempt}: not found ({cause})"),
            _ => format!("{attempt}: {cause}"),
        };
        Self { kind, message }
    }

    /// An error with a complete message.
    pub fn with_message(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A container of another node has the name of one to create.
    pub fn held_by_other_node(attempt: impl Display, container: &str, other: &OtherNode) -> Self {
        let cause = format!(
            "the container {container} of {other} has this name, and two nodes that share an engine cannot run the same server: stop it \
             here, or delete it on that node"
        );
        Self::new(ErrorKind::NameTaken, attempt, cause)
    }

    /// The engine did not answer within `limit`.
    pub fn timeout(attempt: impl Display, limit: Duration) -> Self {
        let cause = format!("no answer from the container engine within {limit:?}");
        Self::new(ErrorKind::Timeout, attempt, cause)
    }

    /// Whether the same call may succeed later: the engine or a file system did not answer.
    pub fn is_outage(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::VolumeUnresponsive)
    }
}
