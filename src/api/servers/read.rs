//! Reads of servers.

use axum::response::Response;

use crate::api::request::ServerPath;
use crate::api::startup::Started;
use crate::api::{ApiError, response};

/// `GET /api/servers`.
///
/// At boot it waits for the servers' network: the panel may start servers as soon as it has the list.
pub async fn list(Started(api): Started) -> Result<Response, ApiError> {
    api.context.runtime.node_settled().await;
    response::serialized(&api.view.list(&api.context))
}

/// `GET /api/servers/{server}`.
pub async fn get(Started(api): Started, ServerPath(id): ServerPath) -> Result<Response, ApiError> {
    api.server(id)?;
    if let Some(sync) = &api.context.sync {
        sync.wait_for_acknowledgement(id).await;
    }
    let known = api.server(id)?;
    let view = api.view.one(&api.context, &known.snapshot).ok_or_else(ApiError::no_server)?;
    response::serialized(&view)
}
