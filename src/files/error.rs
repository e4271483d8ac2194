//! What can go wrong in a server's directory.

use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};

use crate::atomic::AtomicError;

/// Longest path that a message shows, in characters: what is below a server's directory is as deep as its user likes.
const SHOWN_PATH: usize = 300;

/// Why something was not done to a server's files. The texts say what was attempted on what, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The system said no.
    #[error("cannot {action} {}: {source}{}", Shown(path), remedy(source.kind()))]
    Disk {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something is there that must not be touched, and that a person has to look at.
    #[error("cannot {action} {}: {reason}", Shown(path))]
    Rejected {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What is in the way, and what to do about it.
        reason: &'static str,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] AtomicError),
    /// Whoever asked for it does not want it any more.
    #[error("told to stop before it was done: {action} {}", Shown(path))]
    Cancelled {
        /// What was under way, as a verb phrase.
        action: &'static str,
        /// On what.
        path: PathBuf,
    },
}

impl FilesError {
    /// The kind of failure; [`io::ErrorKind::StorageFull`], say, is nobody's mistake.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Disk { source, .. } => source.kind(),
            Self::Write(error) => error.kind(),
            Self::Rejected { .. } => io::ErrorKind::Other,
            Self::Cancelled { .. } => io::ErrorKind::Interrupted,
        }
    }

    /// Whether it only ended because it was told to.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled { .. })
    }

    /// Makes an error of what the system said.
    pub(super) fn disk<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self + use<E> {
        let path = path.to_owned();
        move |source| Self::Disk { action, path, source: source.into() }
    }

    pub(super) fn rejected(action: &'static str, path: &Path, reason: &'static str) -> Self {
        Self::Rejected { action, path: path.to_owned(), reason }
    }
}

/// Files could not all be counted.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct Uncounted {
    /// Bytes of those that were: there are at least so many.
    pub bytes: u64,
    /// What stood in the way.
    pub source: FilesError,
}

impl Uncounted {
    /// Whether there is room where nobody can look: anything may hide there.
    pub fn hides_something(&self) -> bool {
        matches!(self.source, FilesError::Rejected { .. })
    }

    /// Whether it only ended because it was told to.
    pub fn is_cancelled(&self) -> bool {
        self.source.is_cancelled()
    }
}

/// What a person can do about a failure, as the end of a message.
fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free space or inodes on that disk",
        io::ErrorKind::ReadOnlyFilesystem => "; see why that disk is read-only (`dmesg`, `mount`)",
        io::ErrorKind::PermissionDenied => {
            "; check who owns it (`ls -ld`), its attributes (`lsattr -d`), and what the daemon runs as"
        }
        io::ErrorKind::ResourceBusy => "; something is mounted there: unmount it",
        io::ErrorKind::DirectoryNotEmpty => {
            "; something keeps writing there: find it (`fuser -vm`, `lsof +D`) and stop it"
        }
        _ => "",
    }
}

/// A path for people: on one line and not too long, whatever names a server gave to its files.
struct Shown<'a>(&'a Path);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let text = self.0.to_string_lossy();
        let escaped = text.chars().flat_map(|char| {
            let (plain, escape) = match char.is_control() {
                true => (None, Some(char.escape_default())),
                false => (Some(char), None),
            };
            plain.into_iter().chain(escape.into_iter().flatten())
        });
        for (count, char) in escaped.enumerate() {
            if count == SHOWN_PATH {
                return f.write_str("…");
            }
            f.write_char(char)?;
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
    fn hostile_names_stay_on_one_short_line() {
        let name = [b"/srv/a\nb\x1b[2J\xff".as_slice(), &[b'x'; 5000]].concat();
        let path = Path::new(OsStr::from_bytes(&name));
        let text = FilesError::rejected("measure", path, "why").to_string();
        assert!(text.starts_with("cannot measure /srv/a\\nb\\u{1b}[2J\u{fffd}xxx"), "{text}");
        assert!(text.ends_with("x…: why"), "{text}");
        assert!(text.chars().count() < SHOWN_PATH + 50);
    }

    #[test]
    fn an_error_says_what_to_do() {
        let full = rustix::io::Errno::NOSPC;
        let error = FilesError::disk("write", Path::new("/a/b"))(full);
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let text = error.to_string();
        assert!(text.starts_with("cannot write /a/b: ") && text.ends_with("on that disk"), "{text}");
    }
}
