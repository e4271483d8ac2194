//! Why an archive was not uploaded.

use std::io;

use http::StatusCode;

use crate::panel::PanelError;

/// Why an archive was not uploaded. Messages have no URLs, whose queries are secret.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// No links. The panel's error says whether a later attempt can succeed: [`PanelError::is_final`], and for a new backup
    /// [`COMMIT_TIME`](crate::panel::COMMIT_TIME).
    #[error("cannot get links for the upload: {0}")]
    Links(#[source] PanelError),
    /// A link of the panel is no web address.
    #[error("the panel's link for part {part} cannot be used: {reason}")]
    Link {
        /// The part, counted from one.
        part: u32,
        /// What is wrong.
        reason: String,
    },
    /// The store's final answer.
    #[error("the store rejected part {part} with {status} ({reason})")]
    Rejected {
        /// The part, counted from one.
        part: u32,
        /// The status.
        status: StatusCode,
        /// The code in the answer.
        reason: String,
    },
    /// The store accepted the part and did not identify it.
    #[error("the store accepted part {part} without an ETag")]
    NoEtag {
        /// The part, counted from one.
        part: u32,
    },
    /// The links expired before all parts were sent.
    #[error("the links of the upload expired before all parts were sent (last error: {last})")]
    Expired {
        /// The last error of a part.
        last: String,
    },
    /// The links expired again and again.
    #[error(
        "the upload did not end while links lived, {rounds} times: it is too slow, or the store does not answer ({last})"
    )]
    TooSlow {
        /// How often links were requested.
        rounds: u32,
        /// The last error of a part.
        last: String,
    },
    /// The archive is longer than the links are for.
    #[error("the archive is longer than the {bytes} bytes that the links are for")]
    TooLong {
        /// Bytes that were announced.
        bytes: u64,
    },
    /// The archive or the journal beside it.
    #[error("cannot {action}: {source}")]
    File {
        /// What was attempted, as a verb phrase.
        action: String,
        /// The system's error.
        source: io::Error,
    },
    /// The client for HTTPS.
    #[error("cannot use the certificates of the system: {0}")]
    Client(String),
    /// It was cancelled.
    #[error("the upload was cancelled")]
    Cancelled,
}

impl UploadError {
    /// Adds to a system error what was attempted.
    pub(super) fn file(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        |source| Self::File { action: action.into(), source }
    }
}
