//! Why an archive cannot be written or unpacked.

use std::io;

use super::limits::MAX_DECODER_MEMORY;
use crate::files::tree::TreeError;

/// Why an archive cannot be written or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file is no archive, or of a format that is not supported.
    #[error("the file is not an archive of a known format")]
    UnknownFormat,
    /// The archive's bytes make no sense, or it ends too early.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// An entry is not unpacked, and nothing after it.
    #[error("entry \"{entry}\" of the archive is refused: {refusal}")]
    Refused {
        /// The entry's name in the archive.
        entry: String,
        /// The reason.
        refusal: Refusal,
    },
    /// The archive's content is larger than the server's disk limit allows.
    #[error("the content of the archive does not fit into the server's disk limit")]
    NoSpace,
    /// None of the given files may be put into an archive.
    #[error("no valid files to compress")]
    NothingToCompress,
    /// The operation was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A file of the server cannot be read or written.
    #[error(transparent)]
    Tree(TreeError),
    /// An entry cannot be written.
    #[error("entry \"{entry}\" of the archive cannot be written: {source}")]
    Entry {
        /// The entry's name in the archive.
        entry: String,
        /// The cause.
        source: TreeError,
    },
    /// The archive file itself cannot be read or written.
    #[error("cannot read or write the archive: {0}")]
    Io(#[source] io::Error),
}

/// Why an entry is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its name is not a path.
    #[error("its name is empty, too long, or has a NUL")]
    Name,
    /// It would be a device, a pipe or a socket.
    #[error("it is a device or a pipe")]
    Device,
    /// It names a place outside of the server's directory, or leads there through a link.
    #[error("it leads out of the server's directory")]
    Outside,
    /// It is encrypted.
    #[error("it is encrypted")]
    Encrypted,
    /// It is compressed in an unknown way.
    #[error("its compression method is not supported")]
    Method,
    /// Its bytes are also those of another entry, or of the archive's directory.
    #[error("it overlaps another entry (an archive bomb)")]
    Overlap,
    /// The archive has more entries than one archive may have.
    #[error("the archive has too many entries")]
    TooMany,
    /// The archive's content is many times larger than the archive.
    #[error("the content is out of proportion to the archive's size (an archive bomb)")]
    Ratio,
    /// The archive's content does not fit onto the disk of the node.
    #[error("the content does not fit onto the node's disk")]
    TooLarge,
    /// The target of a link is no path.
    #[error("the target of the link is empty or too long")]
    Target,
    /// It is part of a set of several archive files.
    #[error("it continues in another file of a split archive")]
    Split,
}

impl ArchiveError {
    /// An error about an entry.
    pub(super) fn refused(entry: &[u8], refusal: Refusal) -> Self {
        Self::Refused { entry: shown(entry), refusal }
    }

    /// The archive's decoder reports an error. Errors of the operating system stay what they are.
    pub(super) fn decoding(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(_) => Self::Io(error),
            None if error.to_string().contains("memory") => Self::Damaged(format!(
                "{error}; its dictionary may need more than the {} MiB of memory that one archive gets",
                MAX_DECODER_MEMORY >> 20
            )),
            None => Self::Damaged(error.to_string()),
        }
    }

    /// Whether the request was wrong, and not the node.
    pub fn is_of_archive(&self) -> bool {
        matches!(self, Self::UnknownFormat | Self::Damaged(_) | Self::Refused { .. })
    }
}

/// An entry's name for messages: without control characters, at most 200 characters.
pub(super) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let printable = |character: char| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character };
    text.chars().map(printable).take(200).collect()
}
