//! `DELETE /api/servers/{server}`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use http::StatusCode;

use crate::api::request::ServerName;
use crate::api::{Api, ApiError};
use crate::model::{Deletion, ServerId};

/// The answer waits this long for the containers to go.
const CONTAINER_PATIENCE: Duration = Duration::from_secs(3);

/// Writes the deletion mark; the reconciler carries it out. From now on the API does not know the server.
///
/// The answer waits a moment for the containers: the panel gives their ports to others as soon as it has it. What takes
/// longer is done all the same.
pub async fn delete(State(api): State<Arc<Api>>, ServerName(server): ServerName) -> Result<StatusCode, ApiError> {
    let known = api.server(&server)?;
    mark_deleted(&api, known.id).await?;
    // Nothing is lost when the time is over: the mark is on disk.
    api.world.rest_until(CONTAINER_PATIENCE, || containers_gone(&api, known.id)).await;
    Ok(StatusCode::NO_CONTENT)
}

fn containers_gone(api: &Api, id: ServerId) -> bool {
    api.world.store.get(id).is_none()
        || api
            .world
            .with_live(id, |live| matches!((live.server.fresh(), live.installer.fresh()), (Some(None), Some(None))))
}

/// Has the deletion mark on disk.
///
/// # Errors
/// The disk's refusal.
pub async fn mark_deleted(api: &Api, id: ServerId) -> Result<(), ApiError> {
    let at = api.world.clock.now();
    api.world
        .store
        .run(move |store| {
            store.commit(id, |record| record.deletion = Some(Deletion { at, recreate: false }))?;
            store.wake(id);
            Ok::<_, ApiError>(())
        })
        .await?;
    api.view.forget(id);
    Ok(())
}
