//! Errors of operations on a server's files.

use std::io;

use rustix::io::Errno;

use super::super::account::OverLimit;
use super::super::user_path::{PathError, UserPath};

/// Why an operation on a server's files failed. Each message names the path from the server's directory.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TreeError {
    #[error("{0}: no such file or directory")]
    NotFound(UserPath),
    #[error("{0}: is a directory")]
    IsDirectory(UserPath),
    #[error("{0}: not a directory")]
    NotDirectory(UserPath),
    #[error("{0}: file already exists")]
    Exists(UserPath),
    #[error("{0}: directory is not empty")]
    NotEmpty(UserPath),
    #[error(transparent)]
    BadPath(#[from] PathError),
    #[error("{0}: bad path resolution: a link leads out of the server's directory")]
    OutsideRoot(UserPath),
    #[error("{0}: too many links")]
    TooManyLinks(UserPath),
    #[error("{0}: the name is too long")]
    NameTooLong(UserPath),
    /// The egg's denylist keeps it from users.
    #[error("{0}: file access prohibited: it is on the denylist")]
    Denied(UserPath),
    /// The server's disk limit, or the disk's end.
    #[error("{0}: not enough disk space")]
    NoSpace(UserPath),
    #[error("{0}: not a regular file")]
    NotRegular(UserPath),
    #[error("the server's directory itself cannot be changed")]
    IsRoot,
    #[error("{0}: a directory cannot be moved into itself")]
    IntoItself(UserPath),
    #[error("{0}: in use by another process")]
    Busy(UserPath),
    #[error("{0}: cancelled")]
    Cancelled(UserPath),
    #[error("{0}: nested too deeply")]
    TooDeep(UserPath),
    #[error("{0}: not supported")]
    Unsupported(UserPath),
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: UserPath, source: io::Error },
}

impl TreeError {
    /// Converts an error of the system. `action` is a verb phrase.
    pub fn system(action: &'static str, path: &UserPath) -> impl FnOnce(Errno) -> Self {
        let path = path.clone();
        move |errno| match errno {
            Errno::NOENT => Self::NotFound(path),
            Errno::ISDIR => Self::IsDirectory(path),
            Errno::NOTDIR => Self::NotDirectory(path),
            Errno::EXIST => Self::Exists(path),
            Errno::NOTEMPTY => Self::NotEmpty(path),
            Errno::NAMETOOLONG => Self::NameTooLong(path),
            Errno::LOOP => Self::TooManyLinks(path),
            // Project quotas of xfs report the end of the disk.
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace(path),
            Errno::TXTBSY | Errno::BUSY | Errno::AGAIN => Self::Busy(path),
            Errno::OPNOTSUPP => Self::Unsupported(path),
            errno => Self::Io { action, path, source: errno.into() },
        }
    }

    /// As [`system`](Self::system), for an error of the standard library.
    pub fn io(action: &'static str, path: &UserPath) -> impl FnOnce(io::Error) -> Self {
        let path = path.clone();
        move |source| match source.downcast::<OverLimit>() {
            Ok(_) => Self::NoSpace(path),
            Err(source) => match Errno::from_io_error(&source) {
                Some(errno) => Self::system(action, &path)(errno),
                None => Self::Io { action, path, source },
            },
        }
    }
}
