//! `files/pull`: downloads of files from the web, at most three at a time for each server.
//!
//! Source: HTTP API, "Files", pull.

use std::ffi::OsStr;
use std::io::Read;
use std::sync::Arc;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::answer::answer;
use super::archives::serialized;
use super::entry::EntryView;
use crate::api::request::{RequestBody, ServerPath};
use crate::api::startup::Started;
use crate::api::{Api, ApiError, body, response};
use crate::config::RemoteDownload;
use crate::files::tree::{Follow, TreeError};
use crate::files::user_path::UserPath;
use crate::model::ServerId;
use crate::remote_download::{DownloadError, Downloads, RemoteFile, download};
use crate::server_files::{Access, FileError, OperationKind, TooMany};

/// Downloads of one server at a time.
const MAX_RUNNING: usize = 3;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PullRequest {
    url: String,
    root: String,
    directory: String,
    file_name: String,
    use_header: bool,
    foreground: bool,
}

/// `GET /api/servers/{server}/files/pull`: the running downloads.
pub async fn pulls(Started(api): Started, ServerPath(id): ServerPath) -> Result<Response, ApiError> {
    api.server(id)?;
    settings(&api)?;
    let running = api.files.operations().list(id, OperationKind::Pull);
    let downloads: Vec<Value> =
        running.iter().map(|info| json!({"Identifier": info.id, "Progress": info.progress()})).collect();
    let downloads = if downloads.is_empty() { Value::Null } else { Value::Array(downloads) };
    Ok(response::json(json!({"downloads": downloads}).to_string()))
}

/// `POST /api/servers/{server}/files/pull`: begins a download; with `foreground` it waits for its end.
pub async fn begin_pull(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<Response, ApiError> {
    api.server(id)?;
    let max_redirects = settings(&api)?.max_redirects;
    let asked: PullRequest = body::object(&body)?;
    let file = remote_file(&asked, max_redirects)?;
    let tree = api.files.tree(id, Access::PanelWrite).await.map_err(answer)?;
    if !tree.account().has_space() {
        return Err(answer(FileError::Tree(TreeError::NoSpace(file.directory.clone()))));
    }
    let named = file.name.as_ref().and_then(|name| file.directory.join_clamped(OsStr::new(name)).ok());
    if let Some(denied) = named.filter(|path| tree.denylist().denies(path)) {
        return Err(answer(FileError::Tree(TreeError::Denied(denied))));
    }
    let operation = api.files.operations().begin(id, OperationKind::Pull, MAX_RUNNING).map_err(too_many)?;
    let identifier = operation.id();
    let downloads = downloads(&api).map_err(download_error)?;
    let (blocking, own) = (api.context.store.blocking(), tree.clone());
    let pulled = api.files.run_operation(id, Access::PanelWrite, operation, |progress| async move {
        let path = download(&downloads, &file, &own, blocking, &progress).await;
        if let Err(error) = &path {
            tracing::info!(server.id = %id, host = file.url.host_str(), %error, "a download for a server failed");
        }
        path
    });
    if !asked.foreground {
        drop(pulled);
        return Ok(
            (StatusCode::ACCEPTED, response::json(json!({"identifier": identifier}).to_string())).into_response()
        );
    }
    let path = pulled.await.map_err(download_error)?;
    let files = api.files.clone();
    let found = api.files.run(id, Access::PanelRead, move |tree| {
        let entry = tree.stat(&path, Follow::No)?;
        let mime = files.mime_types().of(&entry, |head| tree.open(&path).ok()?.0.read(head).ok());
        Ok((entry, mime))
    });
    let (entry, mime) = found.await.map_err(answer)?;
    serialized(&EntryView::new(entry.name.to_string_lossy(), &entry, mime, &api.zone))
}

/// `DELETE /api/servers/{server}/files/pull/{download}`: cancels a download of this server.
pub async fn cancel_pull(
    Started(api): Started,
    Path((id, download)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let id: ServerId = id.parse().map_err(|_| ApiError::no_server())?;
    api.server(id)?;
    settings(&api)?;
    if let Ok(download) = download.parse() {
        api.files.operations().cancel(id, download);
    }
    Ok(StatusCode::NO_CONTENT)
}

/// What the node's file says about downloads.
fn settings(api: &Arc<Api>) -> Result<RemoteDownload, ApiError> {
    let settings = api.context.node.config.files.remote_download.clone();
    let message = "This functionality is not currently enabled on this instance.";
    settings.ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, message))
}

/// What fetches files. Made once: it reads the system's certificates.
fn downloads(api: &Api) -> Result<Downloads, DownloadError> {
    if let Some(downloads) = api.downloads.get() {
        return Ok(downloads.clone());
    }
    let made = Downloads::new()?;
    Ok(api.downloads.get_or_init(|| made).clone())
}

fn remote_file(asked: &PullRequest, max_redirects: u32) -> Result<RemoteFile, ApiError> {
    let bad = |message: String| ApiError::new(StatusCode::BAD_REQUEST, message);
    if asked.url.is_empty() {
        return Err(ApiError::BadBody("no url".into()));
    }
    let directory = if asked.root.is_empty() { &asked.directory } else { &asked.root };
    if directory.is_empty() {
        return Err(ApiError::BadBody("neither root nor directory".into()));
    }
    let parsed = Url::parse(&asked.url);
    let url = parsed.map_err(|error| bad(format!("An error occurred while parsing that URL: {error}")))?;
    let directory = UserPath::clamped(OsStr::new(directory)).map_err(|error| answer(FileError::Tree(error.into())))?;
    let name = Some(asked.file_name.clone()).filter(|name| !name.is_empty());
    Ok(RemoteFile { url, directory, name, use_header: asked.use_header, max_redirects })
}

fn too_many(TooMany(most): TooMany) -> ApiError {
    let message = format!(
        "This server has reached its limit of {most} simultaneous remote file downloads at once. Please wait for one to \
         complete before trying again."
    );
    ApiError::new(StatusCode::BAD_REQUEST, message)
}

fn download_error(error: DownloadError) -> ApiError {
    match error {
        DownloadError::Tree(error) => answer(FileError::Tree(error)),
        other => ApiError::new(StatusCode::BAD_REQUEST, format!("The file was not downloaded: {other}.")),
    }
}
