//! `POST /api/servers`: the panel wants a server to exist.

use std::sync::Arc;

use axum::extract::State;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;

use crate::api::{Api, ApiError, body};
use crate::model::manifest::digest;
use crate::model::{InstallIntent, Manifest, Record, ServerId, Timestamp};
use crate::panel::PanelServer;
use crate::reconcile::jobs::{new_manifest, sync_with_retries};
use crate::store::{Store, StoreError};

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    uuid: String,
    #[serde(default)]
    start_on_completion: bool,
}

/// Fetches the configuration, writes the record, answers 202. Asked again, it answers the same and does nothing.
pub async fn create(State(api): State<Arc<Api>>, body: Bytes) -> Result<StatusCode, ApiError> {
    let wanted: Wanted = body::object(&body)?;
    let id: Option<ServerId> = wanted.uuid.parse().ok().filter(ServerId::is_v4);
    let id = id.ok_or_else(|| {
        let message = "The data provided in the request could not be validated.";
        ApiError::worded(StatusCode::UNPROCESSABLE_ENTITY, message)
    })?;
    if api.world.store.get(id).is_some_and(|snapshot| snapshot.is_listed()) {
        return Ok(StatusCode::ACCEPTED);
    }
    let Some(panel) = api.world.panel.clone() else {
        return Err(ApiError::Failed(format!(
            "{id} was asked for through the API, but no panel is configured to fetch it from; set `remote` in config.yml"
        )));
    };
    let asked_at = api.world.clock.now();
    let server = sync_with_retries(&api.world, &*panel, id).await?;
    let manifest = wanted_manifest(id, &server, wanted.start_on_completion, asked_at);
    api.world.store.run(move |store| write(store, id, manifest, server, asked_at)).await?;
    Ok(StatusCode::ACCEPTED)
}

fn wanted_manifest(id: ServerId, server: &PanelServer, then_start: bool, now: Timestamp) -> Manifest {
    let mut manifest = new_manifest(id, server.clone());
    manifest.spec.install = Some(InstallIntent {
        token: uuid::Uuid::now_v7().to_string(),
        then_start,
        reinstall: false,
        skip_scripts: false,
        abort: false,
        timeout: None,
        requested_at: Some(now),
    });
    manifest
}

/// Writes a server that is new, was parked, or is still being deleted.
fn write(
    store: &Store,
    id: ServerId,
    manifest: Manifest,
    server: PanelServer,
    asked_at: Timestamp,
) -> Result<(), StoreError> {
    let hash = digest(&(&server.settings, &server.process, server.suspended));
    let record = Record { synced_at: Some(asked_at), synced_hash: Some(hash.clone()), ..Record::default() };
    match store.create(manifest.clone(), record) {
        Err(StoreError::Exists(_)) => {}
        result => return result.map(drop),
    }
    let listed = store.get(id).is_some_and(|snapshot| snapshot.is_listed());
    if listed {
        // Somebody was faster with the same request.
        return Ok(());
    }
    store.replace(id, manifest, |record| {
        record.parked = None;
        record.synced_at = Some(asked_at);
        record.synced_hash = Some(hash);
        if let Some(deletion) = &mut record.deletion {
            deletion.recreate = true;
        }
    })
}
