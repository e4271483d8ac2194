//! `DELETE /api/servers/{server}`.

use std::sync::Arc;

use axum::extract::{Path, State};
use http::StatusCode;

use crate::api::{Api, ApiError};
use crate::model::{Deletion, ServerId};

/// Writes the deletion mark; the reconciler carries it out. From now on the API does not know the server.
pub async fn delete(State(api): State<Arc<Api>>, Path(server): Path<String>) -> Result<StatusCode, ApiError> {
    let known = api.server(&server)?;
    mark_deleted(&api, known.id).await?;
    Ok(StatusCode::NO_CONTENT)
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
        .await
}
