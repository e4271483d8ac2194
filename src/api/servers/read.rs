//! Reading servers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;

use crate::api::request::ServerName;
use crate::api::{Api, ApiError};

/// At boot the list is held back until the servers' network is there, but no longer than this. Whoever has read the list
/// may start servers, and the first boot of a node takes a moment to make the network.
const NETWORK_PATIENCE: Duration = Duration::from_secs(1);

/// `GET /api/servers`.
pub async fn list(State(api): State<Arc<Api>>) -> Response {
    let mut settled = api.world.network_settled.subscribe();
    if !*settled.borrow() {
        // A time-out answers with what is known, as does an engine that cannot be reached.
        let _ = tokio::time::timeout(NETWORK_PATIENCE, settled.wait_for(|settled| *settled)).await;
        if !*settled.borrow() {
            api.world.network_settled.send_replace(true);
        }
    }
    json(api.view.list(&api.world))
}

/// `GET /api/servers/{server}`.
pub async fn get(State(api): State<Arc<Api>>, ServerName(server): ServerName) -> Result<Response, ApiError> {
    let known = api.server(&server)?;
    Ok(json(api.view.one(&api.world, &known.snapshot)))
}

fn json(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}
