//! `POST /api/servers/{server}/backup/{backup}/restore`: writes the request into the record and returns.
//!
//! Nothing is changed before the archive was found. Source: backups, "Restore".

use axum::extract::Path;
use http::StatusCode;
use serde::Deserialize;
use uuid::Uuid;

use super::backups::{backup_id, find_backup, no_backup, storage};
use crate::api::request::RequestBody;
use crate::api::startup::Started;
use crate::api::{Api, ApiError, body};
use crate::model::{BackupStorage, PowerState, Record, Requester, Restore, RestoreFrom, ServerId};
use crate::remote_download::BackupDownloads;
use crate::requests::admission::{Denied, admit_operation};

#[derive(Deserialize)]
struct RestoreBody {
    #[serde(default)]
    adapter: String,
    #[serde(default)]
    truncate_directory: bool,
    #[serde(default)]
    download_url: String,
}

/// Accepts a restore and answers 202.
pub async fn restore_backup(
    Started(api): Started,
    Path((server, backup)): Path<(String, String)>,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    let id: ServerId = server.parse().map_err(|_| ApiError::no_server())?;
    api.server(id)?;
    let wanted: RestoreBody = body::object(&body)?;
    let backup = backup_id(&backup)?;
    let from = match storage(&wanted.adapter)? {
        // The panel sends a link for these, too.
        BackupStorage::Local => RestoreFrom::Local,
        BackupStorage::S3 if wanted.download_url.is_empty() => {
            let message = "The download_url field is required when the backup adapter is set to S3.";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, message));
        }
        BackupStorage::S3 => RestoreFrom::Url(wanted.download_url),
    };
    let truncate = wanted.truncate_directory;
    request_restore(&api, id, NewRestore { backup, from, truncate, only: Vec::new(), by: Requester::Panel }).await?;
    Ok(StatusCode::ACCEPTED)
}

/// A restore that a caller wants.
pub struct NewRestore {
    /// The backup.
    pub backup: Uuid,
    /// Where its archive is.
    pub from: RestoreFrom,
    /// See [`Restore::truncate`].
    pub truncate: bool,
    /// See [`Restore::only`].
    pub only: Vec<String>,
    /// Who wants it.
    pub by: Requester,
}

/// Finds the archive, and writes a request to restore it to disk. Returns the token of the restore.
///
/// # Errors
/// There is no such archive, another operation holds the server's files, or the disk's error.
pub async fn request_restore(api: &Api, id: ServerId, new: NewRestore) -> Result<Uuid, ApiError> {
    let _permit = api.permit_install().await;
    let known = api.server_as_on_disk(id).await?;
    admit_operation(known.snapshot.asked(api.context.clock.now()))?;
    match &new.from {
        RestoreFrom::Local => find_archive(api, id, new.backup).await?,
        RestoreFrom::Url(url) => check_link(api, url).await?,
        // The caller has found them.
        RestoreFrom::Former { .. } => {}
    }
    let (token, at) = (api.context.ids.next_uuid(), api.context.clock.now());
    let runs = known.status.state != PowerState::Offline;
    let restore = Restore {
        truncate: new.truncate,
        only: new.only,
        // A panel starts the server itself after its own restores.
        then_start: runs && (new.by != Requester::Panel || !known.manifest.is_managed_by_panel()),
        ..Restore::new(token, new.backup, at, new.by, new.from)
    };
    let begin = move |record: &mut Record| record.begin_restore(restore);
    let snapshot = api.context.store.commit_and_wake(id, begin).await?;
    match snapshot.record.pending_restore() {
        Some(pending) if pending.token == token => Ok(token),
        // Another caller was faster.
        _ => Err(Denied::Restoring.into()),
    }
}

async fn find_archive(api: &Api, id: ServerId, backup: Uuid) -> Result<(), ApiError> {
    if !find_backup(api, id, backup).await?.is_kept_here() {
        return Err(no_backup());
    }
    let layout = api.context.node.layout.clone();
    let found = api.context.store.blocking().run(move || layout.backup_file(id, backup)).await;
    found.map_err(|error| ApiError::Failed(error.to_string()))?.map(drop).ok_or_else(no_backup)
}

/// Opens a link, so that a wrong one is an error of the request and not of the restore.
async fn check_link(api: &Api, url: &str) -> Result<(), ApiError> {
    let downloads = BackupDownloads::new(api.context.node.config.backups.restore_hosts.clone());
    let opened = match downloads {
        Ok(downloads) => downloads.open(url).await,
        Err(error) => Err(error),
    };
    opened.map(drop).map_err(|error| match error.is_rejection() {
        true => ApiError::new(StatusCode::BAD_REQUEST, error.to_string()),
        false => ApiError::Failed(error.to_string()),
    })
}
