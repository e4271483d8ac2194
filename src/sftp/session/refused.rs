//! Why a request is refused, as a status and a text for people.

use std::borrow::Cow;
use std::io::{self, ErrorKind};

use crate::files::tree::TreeError;
use crate::server_files::{FileError, Unavailable};
use crate::sftp::wire::{Malformed, Status};

/// A request that is answered with an error, or with the end of a file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub status: Status,
    pub message: Cow<'static, str>,
}

impl Refused {
    pub const EOF: Self = Self::new(Status::Eof, "end of file");
    pub const READ_ONLY: Self = Self::new(Status::Unsupported, "this node accepts no changes over SFTP");
    pub const DENIED: Self = Self::new(Status::PermissionDenied, "permission denied");
    pub const UNSUPPORTED: Self = Self::new(Status::Unsupported, "operation unsupported");
    pub const HANDLE: Self = Self::new(Status::Failure, "no such handle");
    pub const QUOTA: Self = Self::new(Status::QuotaExceeded, "Quota Exceeded");
    pub const EXISTS: Self = Self::new(Status::Failure, "it exists already");

    const fn new(status: Status, message: &'static str) -> Self {
        Self { status, message: Cow::Borrowed(message) }
    }

    /// A failure with a text.
    pub fn failure(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Status::Failure, message: message.into() }
    }
}

impl From<Malformed> for Refused {
    fn from(error: Malformed) -> Self {
        Self { status: Status::BadMessage, message: error.to_string().into() }
    }
}

impl From<Unavailable> for Refused {
    fn from(error: Unavailable) -> Self {
        Self { status: Status::PermissionDenied, message: error.to_string().into() }
    }
}

impl From<FileError> for Refused {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Unavailable(error) => error.into(),
            FileError::Tree(error) => error.into(),
            FileError::Directory(error) => Self::failure(error.to_string()),
        }
    }
}

impl From<TreeError> for Refused {
    fn from(error: TreeError) -> Self {
        let status = match &error {
            TreeError::NotFound(_) => Status::NoSuchFile,
            TreeError::OutsideRoot(_) | TreeError::IsRoot => Status::PermissionDenied,
            TreeError::NoSpace(_) => return Self::QUOTA,
            // The text is that of Wings.
            TreeError::Denied(path) => {
                let text = format!("filesystem: file access prohibited: [{path}] is on the denylist");
                return Self::failure(text);
            }
            TreeError::Io { source, .. } => of_kind(source.kind()),
            _ => Status::Failure,
        };
        Self { status, message: error.to_string().into() }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::QuotaExceeded | ErrorKind::StorageFull => Self::QUOTA,
            kind => Self { status: of_kind(kind), message: error.to_string().into() },
        }
    }
}

fn of_kind(kind: ErrorKind) -> Status {
    match kind {
        ErrorKind::NotFound => Status::NoSuchFile,
        ErrorKind::PermissionDenied => Status::PermissionDenied,
        _ => Status::Failure,
    }
}
