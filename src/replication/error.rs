//! Errors of replication.

use std::io;

use crate::files::tree::TreeError;

/// Why a tree was not replicated.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// A file of this node.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A manifest, a list or a frame cannot be read or written: the connection, or the disk.
    #[error("cannot {action}: {source}")]
    Io {
        /// A verb phrase.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The peer has sent something that no node sends.
    #[error("the other node has sent an invalid {what}: {why}")]
    Invalid {
        /// What it is.
        what: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// The trees differ.
    #[error("what has arrived is not what was sent: {0} differs")]
    Differs(String),
    /// It was ended early.
    #[error("cancelled")]
    Cancelled,
}

impl ReplicationError {
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    pub(super) fn invalid(what: &'static str, why: &'static str) -> Self {
        Self::Invalid { what, why }
    }

    /// Whether the peer has sent something that cannot be stored here.
    pub fn is_of_peer(&self) -> bool {
        match self {
            Self::Tree(error) => matches!(error, TreeError::NoSpace(_) | TreeError::NameTooLong(_)),
            Self::Invalid { .. } | Self::Differs(_) => true,
            Self::Io { .. } | Self::Cancelled => false,
        }
    }
}
