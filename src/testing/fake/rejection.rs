//! The fake engine's rejections, with Docker's messages and statuses.

use crate::runtime::{ErrorKind, RuntimeError};

/// A rejected call.
#[derive(Debug)]
pub(super) struct Rejection {
    status: u16,
    message: String,
}

impl Rejection {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(super) fn no_container(key: &str) -> Self {
        Self::new(404, format!("No such container: {key}"))
    }

    pub(super) fn into_error(self, attempt: String) -> RuntimeError {
        let kind = match self.status {
            400 => ErrorKind::Invalid,
            404 => ErrorKind::NotFound,
            409 => ErrorKind::NameTaken,
            501 => ErrorKind::Unsupported,
            _ => ErrorKind::Failed,
        };
        RuntimeError::new(kind, attempt, self.message)
    }
}

/// The full name of a signal, as the engine reads it: with or without `SIG`, in any case.
pub(super) fn signal_name(signal: &str) -> Result<String, Rejection> {
    const KNOWN: [&str; 12] = [
        "SIGHUP", "SIGINT", "SIGQUIT", "SIGABRT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGCONT", "SIGSTOP",
        "SIGWINCH", "SIGPIPE",
    ];
    let upper = signal.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    if KNOWN.contains(&full.as_str()) {
        Ok(full)
    } else {
        Err(Rejection::new(400, format!("Invalid signal: {signal}")))
    }
}
