//! `files/compress` and `files/decompress`. Both are operations: they go on if the caller goes away, which the panel does after
//! 15 minutes.
//!
//! Source: HTTP API, "Files"; file system, "Archives made through the file API" and "Decompress".

use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::answer::answer;
use super::entry::EntryView;
use crate::api::request::{RequestBody, ServerPath};
use crate::api::startup::Started;
use crate::api::{ApiError, body, response};
use crate::archive::{self, ArchiveError, Compression, Format};
use crate::files::tree::{Entry, Follow, TreeError};
use crate::files::user_path::UserPath;
use crate::server_files::{Access, FileError, OperationKind, TooMany};

/// The level of gzip and zip: that of `gzip` and `pigz`.
const LEVEL: u32 = 6;

/// Archives that are written, or read, for one server at a time.
const MAX_RUNNING: usize = 2;

#[derive(Debug, Deserialize)]
#[serde(default)]
struct CompressRequest {
    root: String,
    files: Vec<String>,
    name: String,
    extension: String,
}

impl Default for CompressRequest {
    fn default() -> Self {
        Self { root: "/".into(), files: Vec::new(), name: String::new(), extension: String::new() }
    }
}

/// `POST /api/servers/{server}/files/compress`: the entry of the new archive.
pub async fn compress(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<Response, ApiError> {
    api.server(id)?;
    let asked: CompressRequest = body::object(&body)?;
    if asked.files.is_empty() {
        let message = "No files were passed through to be compressed.";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    let tree = api.files.tree(id, Access::PanelWrite).await.map_err(answer)?;
    if !tree.account().has_space() {
        let message = "This server does not have enough available disk space to generate a compressed archive.";
        return Err(ApiError::new(StatusCode::CONFLICT, message));
    }
    let format = Format::from_extension(&asked.extension);
    let what = Compression {
        directory: UserPath::clamped(OsStr::new(&asked.root)).map_err(|error| answer(FileError::Tree(error.into())))?,
        names: asked.files.into_iter().map(OsString::from).collect(),
        format,
        level: LEVEL,
    };
    let now = api.zone.format(SystemTime::now());
    let name = match last_name(&asked.name) {
        Some(name) => name.to_owned(),
        None => format!("archive-{}", now.replace(':', "")),
    };
    let names = archive::archive_names(OsStr::new(&name), format, &now);
    let spawn = archive::spawn_helper(api.context.store.blocking());
    let operation = api.files.operations().begin(id, OperationKind::Compress, MAX_RUNNING).map_err(too_many)?;
    let packed = api.files.run_archive_operation(id, Access::PanelWrite, operation, move |tree, progress| {
        let path = archive::compress(tree, &what, names, spawn, progress)?;
        let entry = tree.stat(&path, Follow::No).map_err(ArchiveError::Tree)?;
        Ok::<_, ArchiveError>(entry)
    });
    let entry: Entry = packed.await.map_err(answer)?.map_err(archive_error)?;
    let view = EntryView::new(entry.name.to_string_lossy(), &entry, format.mime(), &api.zone);
    serialized(&view)
}

/// The last part of a name: the archive is put next to the files.
fn last_name(name: &str) -> Option<&str> {
    let name = name.rsplit('/').next().unwrap_or_default();
    (!matches!(name, "" | "." | "..")).then_some(name)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DecompressRequest {
    root: String,
    file: String,
}

/// `POST /api/servers/{server}/files/decompress`.
pub async fn decompress(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    let asked: DecompressRequest = body::object(&body)?;
    let into = UserPath::clamped(OsStr::new(&asked.root)).map_err(|error| answer(FileError::Tree(error.into())))?;
    let file = into.join_clamped(OsStr::new(&asked.file)).map_err(|error| answer(FileError::Tree(error.into())))?;
    let operation = api.files.operations().begin(id, OperationKind::Decompress, MAX_RUNNING).map_err(too_many)?;
    let unpacked = api.files.run_archive_operation(id, Access::PanelWrite, operation, move |tree, progress| {
        archive::extract(tree, &file, &into, progress)
    });
    let done = unpacked.await.map_err(answer)?.map_err(archive_error)?;
    tracing::debug!(server.id = %id, entries = done.entries, bytes = done.bytes, "archive unpacked");
    Ok(StatusCode::NO_CONTENT)
}

fn archive_error(error: ArchiveError) -> ApiError {
    let bad = |message: String| ApiError::new(StatusCode::BAD_REQUEST, message);
    match error {
        ArchiveError::UnknownFormat => bad("The archive provided is in a format Wings does not understand.".into()),
        ArchiveError::NoSpace => answer(FileError::Tree(TreeError::NoSpace(UserPath::root()))),
        ArchiveError::Entry { source: TreeError::Busy(_), .. } => {
            bad("One or more files this archive is attempting to \
             overwrite are currently in use by another process. Please try again."
                .into())
        }
        ArchiveError::Entry { source: TreeError::Io { .. }, .. } | ArchiveError::Io(_) => {
            ApiError::Failed(error.to_string())
        }
        ArchiveError::Tree(error) => answer(FileError::Tree(error)),
        ArchiveError::Cancelled => ApiError::new(StatusCode::CONFLICT, "The operation was cancelled."),
        ArchiveError::NothingToCompress => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "No valid files were passed through to be compressed.")
        }
        ArchiveError::Damaged(_) | ArchiveError::Refused { .. } | ArchiveError::Entry { .. } => {
            bad(sentence(&error.to_string()))
        }
    }
}

fn too_many(TooMany(most): TooMany) -> ApiError {
    let message =
        format!("This server has {most} such operations in progress already. Please wait for one to complete.");
    ApiError::new(StatusCode::CONFLICT, message)
}

pub(super) fn serialized(view: &impl Serialize) -> Result<Response, ApiError> {
    let text = serde_json::to_vec(view);
    text.map(response::json).map_err(|error| ApiError::Failed(format!("cannot write the answer as JSON: {error}")))
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).chain(['.']).collect()
}
