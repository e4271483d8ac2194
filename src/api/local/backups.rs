//! `/local/servers/{server}/backups`: backups for the command line, also of servers that their panel does not list.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Path;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::any;
use crate::api::request::{RequestBody, ServerPath};
use crate::api::response::json as json_response;
use crate::api::servers::backups::{
    NewBackup, backup_id, find_backup, no_backup, request_backup, request_backup_removal,
};
use crate::api::servers::restore::{NewRestore, request_restore};
use crate::api::startup::Started;
use crate::api::{Api, ApiError, body, files};
use crate::files::user_path::UserPath;
use crate::model::{Backup, BackupStorage, Record, Requester, RestoreFrom, ServerId};
use crate::server_files::{FileContent, WHOLE};

/// `GET /local/servers/{server}/backups`: what the record has of backups and restores, and the archives that are on disk.
pub async fn list(Started(api): Started, ServerPath(id): ServerPath) -> Result<Response, ApiError> {
    let snapshot = any(&api, id)?;
    let layout = api.context.node.layout.clone();
    let files = api.context.store.blocking().run(move || layout.list_backups(id)).await;
    let files = files.map_err(|error| ApiError::Failed(error.to_string()))?;
    let record = &snapshot.record;
    let answer = json!({
        "backups": record.backups,
        "files": files,
        "restore": record.restore,
        "formerFiles": record.former_files,
    });
    Ok(json_response(answer.to_string()))
}

#[derive(Deserialize)]
struct CreateBody {
    #[serde(default)]
    ignore: String,
}

/// `POST /local/servers/{server}/backups`: accepts a backup, and answers with its id.
pub async fn create(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<Response, ApiError> {
    any(&api, id)?;
    let wanted: CreateBody = body::object(&body)?;
    let backup = api.context.ids.next_uuid();
    let new = NewBackup { id: backup, storage: BackupStorage::Local, ignore: wanted.ignore, by: Requester::Cli };
    request_backup(&api, id, new).await?;
    Ok(json_response(json!({"backup": backup}).to_string()))
}

/// `DELETE /local/servers/{server}/backups/{backup}`: ends a running backup, and removes its archive.
pub async fn delete(Started(api): Started, Path(path): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    let (id, backup) = parts(&api, &path)?;
    request_backup_removal(&api, id, backup).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `GET /local/servers/{server}/backups/{backup}/archive`.
pub async fn archive(Started(api): Started, Path(path): Path<(String, String)>) -> Result<Response, ApiError> {
    let (id, backup) = parts(&api, &path)?;
    let (layout, blocking) = (api.context.node.layout.clone(), api.context.store.blocking());
    let opened = blocking.run(move || {
        let opened = layout.open_backup(id, backup).map_err(|error| error.to_string())?;
        let Some((file, entry)) = opened else { return Ok(None) };
        let mut content = FileContent::new(file, crate::server_files::Range { end: entry.size, ..WHOLE });
        let first = content.read().map_err(|error| error.to_string())?;
        Ok(Some((entry.size, first, content)))
    });
    let (size, first, rest) = opened.await.map_err(ApiError::Failed)?.ok_or_else(no_backup)?;
    let mut response: Response<Body> = Response::new(files::body(first, rest, blocking));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
    Ok(response)
}

#[derive(Deserialize)]
struct RestoreBody {
    #[serde(default)]
    truncate: bool,
    /// Only these paths.
    #[serde(default)]
    only: Vec<String>,
}

/// `POST /local/servers/{server}/backups/{backup}/restore`: accepts a restore, and answers with its token.
pub async fn restore(
    Started(api): Started,
    Path(path): Path<(String, String)>,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let (id, backup) = parts(&api, &path)?;
    let RestoreBody { truncate, only } = body::object(&body)?;
    for path in &only {
        let parsed = UserPath::parse(path.as_ref());
        parsed.map_err(|error| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{path:?}: {error}")))?;
    }
    if truncate && !only.is_empty() {
        let message = "single paths are restored over the present files: do not ask to remove the others";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    let new = NewRestore { backup, from: RestoreFrom::Local, truncate, only, by: Requester::Cli };
    let token = request_restore(&api, id, new).await?;
    Ok(json_response(json!({"restore": token}).to_string()))
}

/// `POST /local/servers/{server}/undo-restore`: exchanges the files that the latest restore has replaced, and those that it has brought.
pub async fn undo(Started(api): Started, ServerPath(id): ServerPath) -> Result<Response, ApiError> {
    let snapshot = any(&api, id)?;
    let former = snapshot.record.former_files.as_ref().filter(|former| !former.removing);
    let Some(former) = former else {
        let message = "there is nothing to undo: files that a restore has replaced are kept for a day, or until the server has run for ten minutes";
        return Err(ApiError::new(StatusCode::CONFLICT, message));
    };
    let backup = snapshot.record.restore.as_ref().map(|restore| restore.backup).unwrap_or_default();
    let from = RestoreFrom::Former { restore: former.restore, back: !former.undone };
    let new = NewRestore { backup, from, truncate: false, only: Vec::new(), by: Requester::Cli };
    let token = request_restore(&api, id, new).await?;
    Ok(json_response(json!({"restore": token}).to_string()))
}

/// `POST /local/servers/{server}/backups/{backup}/verify`: accepts a verification. A file without a record gets one.
pub async fn verify(Started(api): Started, Path(path): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    let (id, backup) = parts(&api, &path)?;
    let adopted = find_backup(&api, id, backup).await?;
    if !adopted.is_kept_here() {
        let message =
            "there is no archive on this node to verify: the backup is not complete, or is in an object store";
        return Err(ApiError::new(StatusCode::CONFLICT, message));
    }
    let verify = move |record: &mut Record| match record.backup_mut(backup) {
        Some(known) => known.verifying = true,
        None => record.backups.push(Backup { verifying: true, ..adopted }),
    };
    api.context.store.commit_and_wake(id, verify).await?;
    Ok(StatusCode::ACCEPTED)
}

fn parts(api: &Arc<Api>, (server, backup): &(String, String)) -> Result<(ServerId, Uuid), ApiError> {
    let id = server.parse().map_err(|_| ApiError::no_server())?;
    any(api, id)?;
    Ok((id, backup_id(backup)?))
}
