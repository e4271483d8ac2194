//! Errors of file operations.

use std::fmt::{self, Display, Write};
use std::io;
use std::path::{Path, PathBuf};

use crate::atomic::{self, AtomicError};

/// The longest path in a message, in characters. Users control the names and depth of paths.
const MAX_PATH: usize = 300;

/// Why an operation on a server's files failed. The messages name the operation, the path and the next step. `action` is a
/// verb phrase.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum FilesError {
    #[error("cannot {action} {}: {source}{}", Escaped(path), remedy(source.kind()))]
    Disk { action: &'static str, path: PathBuf, source: io::Error },
    /// Something is in the way that the daemon must not touch.
    #[error("cannot {action} {}: {reason}", Escaped(path))]
    Rejected { action: &'static str, path: PathBuf, reason: &'static str },
    #[error(transparent)]
    Write(#[from] AtomicError),
    #[error("cancelled: {action} {}", Escaped(path))]
    Cancelled { action: &'static str, path: PathBuf },
}

impl FilesError {
    /// The kind of failure, such as [`io::ErrorKind::StorageFull`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Disk { source, .. } => source.kind(),
            Self::Write(error) => error.kind(),
            Self::Rejected { .. } => io::ErrorKind::Other,
            Self::Cancelled { .. } => io::ErrorKind::Interrupted,
        }
    }

    /// Converts an error of the system.
    pub(super) fn disk<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self + use<E> {
        let path = path.to_owned();
        move |source| Self::Disk { action, path, source: source.into() }
    }

    pub(super) fn rejected(action: &'static str, path: &Path, reason: &'static str) -> Self {
        Self::Rejected { action, path: path.to_owned(), reason }
    }
}

/// Some files could not be counted.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
#[allow(missing_docs)]
pub struct UsageError {
    /// Bytes of the counted files: a lower bound.
    pub bytes: u64,
    pub source: FilesError,
}

impl UsageError {
    /// Whether files may be hidden where the daemon cannot count them.
    pub fn hides_something(&self) -> bool {
        matches!(self.source, FilesError::Rejected { .. })
    }

    /// Whether the count was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.source, FilesError::Cancelled { .. })
    }
}

/// What to do about a failure, as the end of a message.
fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => {
            "; check who owns it (`ls -ld`), its attributes (`lsattr -d`), and what the daemon runs as"
        }
        io::ErrorKind::ResourceBusy => "; something is mounted there: unmount it",
        io::ErrorKind::DirectoryNotEmpty => {
            "; something keeps writing there: find it (`fuser -vm`, `lsof +D`) and stop it"
        }
        other => atomic::remedy(other),
    }
}

/// A path on one line, cut to [`MAX_PATH`].
struct Escaped<'a>(&'a Path);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, char) in self.0.to_string_lossy().chars().enumerate() {
            match char {
                _ if count == MAX_PATH => return f.write_char('…'),
                char if char.is_control() => write!(f, "{}", char.escape_default())?,
                char => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn paths_are_escaped_and_cut() {
        let name = [b"/srv/a\nb\x1b[2J\xff".as_slice(), &[b'x'; 5000]].concat();
        let path = Path::new(OsStr::from_bytes(&name));
        let text = FilesError::rejected("measure", path, "why").to_string();
        assert!(text.starts_with("cannot measure /srv/a\\nb\\u{1b}[2J\u{fffd}xxx"), "{text}");
        assert!(text.ends_with("x…: why"), "{text}");
        assert!(text.chars().count() < MAX_PATH + 50);
    }

    #[test]
    fn an_error_has_a_remedy() {
        let full = rustix::io::Errno::NOSPC;
        let error = FilesError::disk("write", Path::new("/a/b"))(full);
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let text = error.to_string();
        assert!(text.starts_with("cannot write /a/b: ") && text.ends_with("on that disk"), "{text}");
    }
}
