//! The answers for errors of file operations.

use http::StatusCode;

use crate::api::ApiError;
use crate::files::tree::TreeError;
use crate::files::user_path::PathError;
use crate::server_files::{FileError, Unavailable};

/// Nothing is at the path.
pub const NOT_FOUND: &str = "The requested resources was not found on the system.";
/// The egg keeps the file from users.
pub const DENIED: &str = "This file cannot be modified: present in egg denylist.";
const IS_DIRECTORY: &str = "Cannot perform that action: file is a directory.";
const NOT_DIRECTORY: &str = "Cannot perform that action: part of the path is not a directory.";
const NAME_TOO_LONG: &str = "Cannot perform that action: file name is too long.";
const NO_SPACE: &str = "There is not enough disk space available to perform that action.";
const OUTSIDE: &str = "Cannot perform that action: the path leads out of the server's directory.";

/// The answer for an error.
pub fn answer(error: FileError) -> ApiError {
    match error {
        FileError::Unavailable(Unavailable::Unknown) => ApiError::no_server(),
        FileError::Unavailable(held) => ApiError::new(StatusCode::CONFLICT, held.to_string()),
        FileError::Directory(error) => ApiError::Failed(error.to_string()),
        FileError::Tree(error) => of_tree(error),
    }
}

fn of_tree(error: TreeError) -> ApiError {
    use StatusCode as S;
    let text = error.to_string();
    let (status, message) = match error {
        TreeError::NotFound(_) => (S::NOT_FOUND, NOT_FOUND.to_owned()),
        TreeError::Denied(_) => (S::FORBIDDEN, DENIED.to_owned()),
        TreeError::IsDirectory(_) => (S::BAD_REQUEST, IS_DIRECTORY.to_owned()),
        TreeError::NotDirectory(_) => (S::BAD_REQUEST, NOT_DIRECTORY.to_owned()),
        TreeError::NameTooLong(_) | TreeError::BadPath(PathError::TooLong) => {
            (S::BAD_REQUEST, NAME_TOO_LONG.to_owned())
        }
        TreeError::NoSpace(_) => (S::BAD_REQUEST, NO_SPACE.to_owned()),
        TreeError::OutsideRoot(_) | TreeError::BadPath(PathError::Outside) => (S::BAD_REQUEST, OUTSIDE.to_owned()),
        TreeError::NotRegular(_) => (S::BAD_REQUEST, "Cannot open files of this type.".to_owned()),
        TreeError::Busy(_) | TreeError::Cancelled(_) => (S::CONFLICT, format!("Cannot perform that action: {text}.")),
        TreeError::Io { .. } => return ApiError::Failed(text),
        _ => (S::BAD_REQUEST, format!("Cannot perform that action: {text}.")),
    };
    ApiError::Identified { status, message }
}
