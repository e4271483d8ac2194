//! Files and directories as a stream of bytes: from one tree into another, on this host or through a connection.
//!
//! ```text
//! head: length (32 bits, big endian), JSON of an entry      a directory, a link, a file; or the end, or an error
//! after a file: length (32 bits), bytes; and so on until a length of zero
//! ```
//!
//! Nothing is known before it is read: a file that changes meanwhile is as long as it was found to be. Directories come before what
//! is in them. Hard links become files, and what is neither file, directory nor link is left out.

mod read;
mod write;

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::tree::TreeError;

pub use read::{local_tree, receive, receive_locally};
pub use write::send;

/// The longest JSON of an entry, and the longest block of a file.
const MAX_BLOCK: usize = 256 * 1024;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Pipes, sockets and devices, which are left out.
    pub skipped: u64,
}

/// Why a copy has ended early. What was copied before stays.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StreamError {
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Of the other side.
    #[error("{0}")]
    Remote(String),
    /// Of a path of this host.
    #[error("cannot copy to or from {}: {source}", path.display())]
    Local { path: PathBuf, source: io::Error },
    #[error("the connection was lost: {0}")]
    Connection(io::Error),
    #[error("what arrives is no copy of files: {0}")]
    Invalid(&'static str),
}

impl StreamError {
    fn local(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Local { path, source }
    }
}

/// The head of an entry. Paths are relative to what is copied, which has the empty path itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
enum Head {
    Directory { path: Text, mode: u32 },
    File { path: Text, mode: u32, size: u64, seconds: u64, nanoseconds: u32 },
    Link { path: Text, target: Text },
    End { skipped: u64 },
    Error { message: String },
}

/// A path that need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Text {
    Utf8(String),
    Base64(String),
}

impl Text {
    fn new(text: &OsStr) -> Self {
        match text.to_str() {
            Some(text) => Self::Utf8(text.to_owned()),
            None => Self::Base64(STANDARD.encode(text.as_bytes())),
        }
    }

    fn into_os(self) -> Result<OsString, StreamError> {
        match self {
            Self::Utf8(text) => Ok(text.into()),
            Self::Base64(text) => {
                let bytes = STANDARD.decode(text).map_err(|_| StreamError::Invalid("a path is no base64"))?;
                Ok(OsString::from_vec(bytes))
            }
        }
    }
}

fn write_block(sink: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    sink.write_all(&length.to_be_bytes())?;
    sink.write_all(bytes)
}

/// Reads a block into the buffer. Returns its length.
fn read_block(source: &mut impl Read, buffer: &mut Vec<u8>) -> Result<usize, StreamError> {
    let mut length = [0; 4];
    source.read_exact(&mut length).map_err(StreamError::Connection)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_BLOCK {
        return Err(StreamError::Invalid("a block is too long"));
    }
    buffer.resize(length, 0);
    source.read_exact(buffer).map_err(StreamError::Connection)?;
    Ok(length)
}
