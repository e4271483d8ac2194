//! Why a runtime call failed, by kind.

use std::fmt::Display;
use std::time::Duration;

/// What kind of failure it is: what callers decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The engine does not answer.
    Unavailable,
    /// The engine took too long.
    Timeout,
    /// A file system that the container mounts does not answer.
    VolumeUnresponsive,
    /// There is no such container, image or network.
    NotFound,
    /// Another container has the name.
    NameTaken,
    /// The state of the container or the engine does not allow it now.
    Conflict,
    /// The container or the request cannot be what was asked for.
    Invalid,
    /// The image reference is none: only another reference helps.
    InvalidImage,
    /// The registry or the engine denies it.
    Denied,
    /// The disk is full.
    NoSpace,
    /// The engine cannot do this at all.
    Unsupported,
    /// Anything else that the engine reports.
    Failed,
}

/// A failed runtime call. `Display` says what was attempted, and why it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    message: String,
}

impl RuntimeError {
    /// `attempt` failed because of `cause`, as the engine words it.
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

    /// The same with a sentence of its own.
    pub fn with_message(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The engine did not answer within `limit`.
    pub fn timeout(attempt: impl Display, limit: Duration) -> Self {
        let cause = format!("no answer from the container engine within {limit:?}");
        Self::new(ErrorKind::Timeout, attempt, cause)
    }

    /// Whether the same call may work later although nothing is changed: the engine, or a file system, was away or slow.
    pub fn is_outage(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::VolumeUnresponsive)
    }
}
