//! Handlers of a server's backups: each writes a request into the record and returns.
//!
//! Source: HTTP API, "Backups".

use axum::extract::Path;
use http::StatusCode;
use serde::Deserialize;
use uuid::Uuid;

use crate::api::request::{RequestBody, ServerPath};
use crate::api::startup::Started;
use crate::api::{Api, ApiError, body};
use crate::archive::backup::IgnoreList;
use crate::model::{Backup, BackupStorage, Record, Requester, ServerId};
use crate::wait;

/// The message for a backup that a server does not have.
pub const NO_BACKUP: &str = "The requested backup was not found on this server.";

#[derive(Deserialize)]
struct BackupBody {
    #[serde(default)]
    adapter: String,
    #[serde(default)]
    uuid: String,
    #[serde(default)]
    ignore: String,
}

/// `POST /api/servers/{server}/backup`: accepts a backup and answers 202. The same request again changes nothing.
pub async fn create_backup(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    let wanted: BackupBody = body::object(&body)?;
    let backup = backup_id(&wanted.uuid)?;
    let storage = storage(&wanted.adapter)?;
    request_backup(&api, id, NewBackup { id: backup, storage, ignore: wanted.ignore, by: Requester::Panel }).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `DELETE /api/servers/{server}/backup/{backup}`: ends a running backup, and removes its archive.
pub async fn delete_backup(
    Started(api): Started,
    Path((server, backup)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let id = server.parse().map_err(|_| ApiError::no_server())?;
    let known = api.server(id)?;
    let backup = backup_id(&backup)?;
    match is_leaving(&known.snapshot.record) {
        true => detach_backup(&api, id, backup).await?,
        false => {
            request_backup_removal(&api, id, backup).await?;
            wait_for_removal(&api, id, |known| known.id == backup).await;
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Waits a moment until the record has no such backups that are to be removed. The removal continues after that: it is on disk.
async fn wait_for_removal(api: &Api, id: ServerId, which: impl Fn(&Backup) -> bool) {
    let store = &api.context.store;
    let is_left = |record: &Record| record.backups.iter().any(|known| known.deleting && which(known));
    let gone = || store.get(id).is_none_or(|known| !is_left(&known.record));
    wait::until(store.changes(), wait::DELETE_FOR_ARCHIVES, gone).await;
}

/// `DELETE /api/servers/{server}/deleteAllBackups`.
pub async fn delete_all_backups(Started(api): Started, ServerPath(id): ServerPath) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    let layout = api.context.node.layout.clone();
    let files = api.context.store.blocking().run(move || layout.list_backups(id)).await;
    let files = files.map_err(|error| ApiError::Failed(error.to_string()))?;
    let at = api.context.clock.now();
    let remove = move |record: &mut Record| {
        record.backups.extend(
            files
                .iter()
                .filter(|file| record.backup(file.id).is_none())
                .map(|file| file.adopted(at))
                .collect::<Vec<_>>(),
        );
        record.backups.iter_mut().for_each(|backup| backup.deleting = true);
    };
    api.context.store.commit_and_wake(id, remove).await?;
    wait_for_removal(&api, id, |_| true).await;
    Ok(StatusCode::NO_CONTENT)
}

/// A backup that a caller wants.
pub struct NewBackup {
    /// Its id.
    pub id: Uuid,
    /// Where it is kept.
    pub storage: BackupStorage,
    /// See [`Backup::ignore`].
    pub ignore: String,
    /// Who wants it.
    pub by: Requester,
}

/// Writes a request for a backup to disk.
///
/// # Errors
/// The ignore list is invalid, the id is that of a backup which is being removed, or the disk's error.
pub async fn request_backup(api: &Api, id: ServerId, new: NewBackup) -> Result<(), ApiError> {
    IgnoreList::parse(&new.ignore).map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let at = api.context.clock.now();
    let backup = Backup { ignore: new.ignore, ..Backup::new(new.id, at, new.by, new.storage) };
    let begin = move |record: &mut Record| {
        if record.backup(backup.id).is_none() {
            record.backups.push(backup);
        }
    };
    let snapshot = api.context.store.commit_and_wake(id, begin).await?;
    match snapshot.record.backup(new.id) {
        Some(known) if known.deleting => {
            Err(ApiError::new(StatusCode::CONFLICT, "The backup with this identifier is being deleted."))
        }
        _ => Ok(()),
    }
}

/// Writes to disk that a backup is to be removed. A file without a record is found, too.
///
/// # Errors
/// The server has no such backup (404), or the disk's error.
pub async fn request_backup_removal(api: &Api, id: ServerId, backup: Uuid) -> Result<(), ApiError> {
    let adopted = find_backup(api, id, backup).await?;
    let remove = move |record: &mut Record| match record.backup_mut(backup) {
        Some(known) => known.deleting = true,
        None => record.backups.push(Backup { deleting: true, ..adopted }),
    };
    api.context.store.commit_and_wake(id, remove).await?;
    Ok(())
}

/// Whether the server goes to another node. The panel forgets the backups that do not go along, even if the server stays.
fn is_leaving(record: &Record) -> bool {
    record.pending_transfer().is_some_and(|transfer| transfer.outgoing().is_some())
}

/// Keeps the archive of a backup that the panel forgets. One that is not made yet is given up.
async fn detach_backup(api: &Api, id: ServerId, backup: Uuid) -> Result<(), ApiError> {
    let found = find_backup(api, id, backup).await?;
    if !found.is_kept_here() {
        return request_backup_removal(api, id, backup).await;
    }
    let detach = move |record: &mut Record| match record.backup_mut(backup) {
        Some(known) => known.detached = true,
        None => record.backups.push(Backup { detached: true, ..found }),
    };
    api.context.store.run(move |store| store.commit(id, detach)).await?;
    Ok(())
}

/// A backup of a server: its entry in the record, or one for an archive that has none.
///
/// # Errors
/// The server has no such backup (404).
pub async fn find_backup(api: &Api, id: ServerId, backup: Uuid) -> Result<Backup, ApiError> {
    let snapshot = api.context.store.get(id).ok_or_else(ApiError::no_server)?;
    if let Some(known) = snapshot.record.backup(backup) {
        return if known.deleting { Err(no_backup()) } else { Ok(known.clone()) };
    }
    let layout = api.context.node.layout.clone();
    let found = api.context.store.blocking().run(move || layout.backup_file(id, backup)).await;
    let found = found.map_err(|error| ApiError::Failed(error.to_string()))?;
    found.map(|file| file.adopted(api.context.clock.now())).ok_or_else(no_backup)
}

/// The error for a backup that a server does not have.
pub fn no_backup() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, NO_BACKUP)
}

/// Reads the id of a backup. Source: backups, "Creating a backup".
///
/// # Errors
/// It is no UUID with hyphens.
pub fn backup_id(text: &str) -> Result<Uuid, ApiError> {
    let plain = Uuid::try_parse(text).ok().filter(|id| id.hyphenated().to_string().eq_ignore_ascii_case(text));
    plain.ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "The backup identifier must be a valid UUID."))
}

/// Reads the name of an adapter.
///
/// # Errors
/// There is no such adapter.
pub fn storage(adapter: &str) -> Result<BackupStorage, ApiError> {
    match adapter {
        "wings" => Ok(BackupStorage::Local),
        "s3" => Ok(BackupStorage::S3),
        _ => Err(ApiError::new(StatusCode::BAD_REQUEST, "The backup adapter must be one of: wings, s3.")),
    }
}
