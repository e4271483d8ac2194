//! Errors of replacements.

use std::path::PathBuf;

use uuid::Uuid;

use super::super::{FilesError, tree::TreeError};

/// Why a server's files could not be replaced.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReplacementError {
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The bytes that are needed, and those that are free on the file system.
    #[error("{needed} bytes are needed beside {}, and {free} bytes are free: free space on that disk", data.display())]
    NoSpace { data: PathBuf, needed: u64, free: u64 },
    #[error("the files would have {used} bytes, and the server's limit is {limit} bytes: raise the limit")]
    OverLimit { used: u64, limit: u64 },
    #[error("{} is a mount, which cannot be exchanged: mount the directory that contains it", data.display())]
    Mounted { data: PathBuf },
    /// The staging of the operation is missing, or not finished.
    #[error("no files are ready to replace those of the server for the operation {token}")]
    NotReady { token: Uuid },
    /// Nothing of the operation can be undone.
    #[error("the files before the operation {token} are not there any more")]
    NoFormer { token: Uuid },
}

impl ReplacementError {
    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Files(FilesError::Cancelled { .. }) | Self::Tree(TreeError::Cancelled(_)))
    }
}
