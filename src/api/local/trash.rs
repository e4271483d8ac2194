//! `/local/trash`: deleted servers that are kept for a while.

use std::sync::Arc;

use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use crate::api::response::json as json_response;
use crate::api::startup::Started;
use crate::api::{Api, ApiError};
use crate::files::FilesError;
use crate::files::trash::DeletedServer;
use crate::model::{InstallRecord, Record};
use crate::store::NewServer;

/// `GET /local/trash`: deleted servers, latest first.
pub async fn list(Started(api): Started) -> Result<Response, ApiError> {
    let layout = api.context.node.layout.clone();
    let deleted = api.context.store.blocking().run(move || layout.deleted_servers()).await.map_err(failed)?;
    Ok(json_response(json!(deleted).to_string()))
}

/// `POST /local/trash/{name}/restore`.
pub async fn restore(Started(api): Started, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    let (layout, blocking) = (api.context.node.layout.clone(), api.context.store.blocking());
    let deleted = blocking.run(move || layout.deleted_servers()).await.map_err(failed)?;
    let deleted = deleted.into_iter().find(|deleted| deleted.name() == name);
    let deleted = deleted.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "there is no such deleted server"))?;
    bring_back(&api, deleted).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The server is there again, with its files, backups and manifest. It does not start by itself.
///
/// # Errors
/// It has no valid manifest, or another one of its UUID is there; or the disk's error, after which it is tried again.
pub async fn bring_back(api: &Arc<Api>, deleted: DeletedServer) -> Result<(), ApiError> {
    let (layout, blocking) = (api.context.node.layout.clone(), api.context.store.blocking());
    let id = deleted.server;
    if api.context.store.get(id).is_some() {
        let message = "a server with this UUID is there: delete it first, and wait until it is gone";
        return Err(ApiError::new(StatusCode::CONFLICT, message));
    }
    let new = new_server(api, &deleted)?;
    let (files, moved) = (layout.clone(), deleted.clone());
    blocking.run(move || files.bring_back(&moved)).await.map_err(failed)?;
    api.context.store.run(move |store| store.create_again(new).inspect(|_| store.wake(id))).await?;
    // If this fails, the entry is removed at its time: nothing of the server is in it any more.
    let dropped = blocking.run(move || layout.forget_deleted(&deleted)).await;
    dropped.unwrap_or_else(|error| tracing::warn!(server.id = %id, %error, "an entry of the trash stays"));
    Ok(())
}

/// The server as it was, with nothing that is still to be done.
fn new_server(api: &Api, deleted: &DeletedServer) -> Result<NewServer, ApiError> {
    let Some(manifest) = deleted.manifest.clone() else {
        let moved = deleted.data.as_ref().map(|data| data.to.display().to_string()).unwrap_or_default();
        let message = format!("it had no valid manifest: write one, and copy its files from {moved}");
        return Err(ApiError::new(StatusCode::CONFLICT, message));
    };
    let before = &deleted.record;
    let mut done = before.install.done.clone();
    done.iter_mut().for_each(|done| done.reported = true);
    let mut backups = before.backups.clone();
    backups.retain(|backup| backup.result.is_some() && !backup.deleting);
    // The panel has deleted the server, or will learn of it again.
    backups.iter_mut().for_each(|backup| (backup.reported, backup.quieted) = (true, None));
    let record = Record {
        created_at: before.created_at.or(Some(api.context.clock.now())),
        generation: before.generation,
        accepted_hash: before.accepted_hash.clone(),
        install: InstallRecord { done, ..InstallRecord::default() },
        backups,
        scheduled: before.scheduled.clone(),
        ..Record::default()
    };
    Ok(NewServer { manifest, record, requests: Vec::new(), declared: deleted.declared.clone() })
}

fn failed(error: FilesError) -> ApiError {
    ApiError::Failed(error.to_string())
}
