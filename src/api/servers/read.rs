//! Reading servers.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;

use crate::api::request::ServerName;
use crate::api::{Api, ApiError};

/// `GET /api/servers`.
///
/// At boot it waits until the servers' network has been seen to: whoever has read the list may start servers.
pub async fn list(State(api): State<Arc<Api>>) -> Response {
    api.context.runtime.node_settled().await;
    json(api.view.list(&api.context))
}

/// `GET /api/servers/{server}`.
pub async fn get(State(api): State<Arc<Api>>, ServerName(server): ServerName) -> Result<Response, ApiError> {
    let id = api.server(&server)?.id;
    if let Some(sync) = &api.context.sync {
        sync.wait_for_acknowledgement(id).await;
    }
    let known = api.server(&server)?;
    Ok(json(api.view.one(&api.context, &known.snapshot)))
}

fn json(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}
