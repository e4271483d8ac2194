//! Why a file was not downloaded.

use reqwest::StatusCode;

use crate::files::tree::TreeError;

/// Why a file was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The URL cannot be used.
    #[error("the URL cannot be used: {0}")]
    Url(String),
    /// Only http and https are.
    #[error("files are downloaded over http and https only, not over {0}")]
    Scheme(String),
    /// The address is not of the internet.
    #[error("{0} is not downloaded from: its address is of a private or special network")]
    Address(String),
    /// There is no name for the file.
    #[error("neither the request nor the URL has a name for the file")]
    NoName,
    /// Redirected too often.
    #[error("redirected more than {0} times")]
    TooManyRedirects(u32),
    /// The answer has no file.
    #[error("the server of the file answered with {0}")]
    Status(StatusCode),
    /// The size is unknown, so it cannot be checked against the disk limit.
    #[error("the server of the file did not announce its size (no Content-Length)")]
    NoLength,
    /// The connection.
    #[error("cannot download the file: {0}")]
    Transport(String),
    /// The connection ended too early.
    #[error("the download broke off after {received} of {length} bytes")]
    BrokenOff {
        /// Bytes that arrived.
        received: u64,
        /// Bytes that were announced.
        length: u64,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// It was cancelled.
    #[error("the download was cancelled")]
    Cancelled,
}
