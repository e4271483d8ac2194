//! Reads of servers.

use axum::response::Response;
use serde::Serialize;

use crate::api::request::ServerPath;
use crate::api::startup::Started;
use crate::api::{ApiError, response};

/// `GET /api/servers`.
///
/// At boot it waits for the servers' network: the panel may start servers as soon as it has the list.
pub async fn list(Started(api): Started) -> Result<Response, ApiError> {
    api.context.runtime.node_settled().await;
    serialized(&api.view.list(&api.context).await)
}

/// `GET /api/servers/{server}`.
pub async fn get(Started(api): Started, ServerPath(id): ServerPath) -> Result<Response, ApiError> {
    api.listed(id)?;
    if let Some(sync) = &api.context.sync {
        sync.wait_for_acknowledgement(id).await;
    }
    let snapshot = api.listed(id)?;
    let view = api.view.one(&api.context, &snapshot).await.ok_or_else(ApiError::no_server)?;
    serialized(&view)
}

fn serialized(views: &impl Serialize) -> Result<Response, ApiError> {
    let text = serde_json::to_vec(views);
    text.map(response::json).map_err(|error| ApiError::Failed(format!("cannot write servers as JSON: {error}")))
}
