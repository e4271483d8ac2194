//! Changes of names and modes: rename, copy, delete, create-directory and chmod.

use std::time::SystemTime;

use http::StatusCode;
use serde::Deserialize;

use super::answer::{NOT_FOUND, answer};
use super::query::{joined, path};
use crate::api::request::{RequestBody, ServerPath};
use crate::api::startup::Started;
use crate::api::{ApiError, body};
use crate::files::tree::{Attributes, Follow, Recursive, Replace, TreeError};
use crate::server_files::{Access, FileError, OperationKind};

/// The highest mode.
const MAX_MODE: u32 = 0o7777;

/// Copies and removals of a server at a time.
const MAX_AT_ONCE: usize = 16;

/// The mode of new directories.
const DIRECTORY_MODE: u32 = 0o755;

#[derive(Deserialize)]
struct RenameBody {
    #[serde(default)]
    root: String,
    #[serde(default)]
    files: Vec<RenameItem>,
}

#[derive(Deserialize)]
struct RenameItem {
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
}

/// `PUT /api/servers/{server}/files/rename`. A missing file is ignored.
pub async fn rename(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    let RenameBody { root, files } = body::object(&body)?;
    if files.is_empty() {
        return Err(unprocessable("No files to move or rename were provided."));
    }
    let pairs = files.iter().map(|item| Ok((joined(&root, &item.from)?, joined(&root, &item.to)?)));
    let pairs: Vec<_> = pairs.collect::<Result<_, FileError>>().map_err(answer)?;
    let renamed = api.files.run_task(id, Access::PanelWrite, move |tree| {
        for (from, to) in &pairs {
            match tree.rename(from, to, Replace::Refuse) {
                Ok(()) => {}
                Err(TreeError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    });
    renamed.await.map_err(|error| match error {
        FileError::Tree(TreeError::Exists(_)) => {
            let message = "Cannot move or rename file, destination already exists.";
            ApiError::new(StatusCode::BAD_REQUEST, message)
        }
        other => answer(other),
    })?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct CopyBody {
    #[serde(default)]
    location: String,
}

/// `POST /api/servers/{server}/files/copy`.
pub async fn copy(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    let CopyBody { location } = body::object(&body)?;
    let path = path(&location).map_err(answer)?;
    let now = api.zone.format(SystemTime::now());
    let operation = api.files.operations().begin(id, OperationKind::Copy, MAX_AT_ONCE).map_err(too_many)?;
    let copied = api.files.run_task(id, Access::PanelWrite, move |tree| tree.copy(&path, &now, operation.cancelled()));
    copied.await.map_err(|error| match error {
        FileError::Tree(TreeError::IsDirectory(_)) => {
            ApiError::Identified { status: StatusCode::NOT_FOUND, message: NOT_FOUND.into() }
        }
        other => answer(other),
    })?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct DeleteBody {
    #[serde(default)]
    root: String,
    #[serde(default)]
    files: Vec<String>,
}

/// `POST /api/servers/{server}/files/delete`. What the denylist has stays, without an error.
pub async fn delete(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    let DeleteBody { root, files } = body::object(&body)?;
    if files.is_empty() {
        return Err(unprocessable("No files were specified for deletion."));
    }
    let paths = files.iter().map(|name| joined(&root, name));
    let paths: Vec<_> = paths.collect::<Result<_, _>>().map_err(answer)?;
    if paths.iter().any(crate::files::user_path::UserPath::is_root) {
        return Err(answer(TreeError::IsRoot.into()));
    }
    let operation = api.files.operations().begin(id, OperationKind::Remove, MAX_AT_ONCE).map_err(too_many)?;
    let removed = api.files.run_task(id, Access::PanelWrite, move |tree| {
        let mut first = Ok(());
        for path in &paths {
            let removed = match tree.remove(path, Recursive::Yes, operation.cancelled()) {
                Err(TreeError::Denied(_)) => Ok(()),
                removed => removed.map(drop),
            };
            // The others are removed, too.
            first = first.and(removed);
        }
        first
    });
    removed.await.map_err(answer)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct DirectoryBody {
    #[serde(default)]
    name: String,
    #[serde(default)]
    path: String,
}

/// `POST /api/servers/{server}/files/create-directory`.
pub async fn create_directory(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    let DirectoryBody { name, path } = body::object(&body)?;
    let path = joined(&path, &name).map_err(answer)?;
    let created =
        api.files.run_task(id, Access::PanelWrite, move |tree| tree.create_directory(&path, true, DIRECTORY_MODE));
    created.await.map_err(|error| match error {
        FileError::Tree(TreeError::NotDirectory(_)) => {
            let message = "Part of the path being created is not a directory (ENOTDIR).";
            ApiError::new(StatusCode::BAD_REQUEST, message)
        }
        other => answer(other),
    })?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct ModesBody {
    #[serde(default)]
    root: String,
    #[serde(default)]
    files: Vec<ModeItem>,
}

#[derive(Deserialize)]
struct ModeItem {
    #[serde(default)]
    file: String,
    #[serde(default)]
    mode: String,
}

/// `POST /api/servers/{server}/files/chmod`. A missing file is ignored.
pub async fn change_mode(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    let ModesBody { root, files } = body::object(&body)?;
    if files.is_empty() {
        return Err(unprocessable("No files to chmod were provided."));
    }
    let mut modes = Vec::new();
    for item in &files {
        let mode = mode(&item.mode).ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "Invalid file mode."))?;
        modes.push((joined(&root, &item.file).map_err(answer)?, mode));
    }
    let changed = api.files.run_task(id, Access::PanelWrite, move |tree| {
        for (path, mode) in &modes {
            let attributes = Attributes { mode: Some(*mode), ..Attributes::default() };
            match tree.set_attributes(path, Follow::Yes, attributes) {
                Ok(()) => {}
                Err(TreeError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    });
    changed.await.map_err(answer)?;
    Ok(StatusCode::NO_CONTENT)
}

/// An octal number.
fn mode(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= MAX_MODE)
}

fn unprocessable(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message)
}

fn too_many(error: crate::server_files::TooMany) -> ApiError {
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, format!("{error}; try again later."))
}
