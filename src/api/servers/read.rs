//! Reading servers.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;

use crate::api::{Api, ApiError};

/// `GET /api/servers`.
pub async fn list(State(api): State<Arc<Api>>) -> Response {
    json(api.view.list(&api.world))
}

/// `GET /api/servers/{server}`.
pub async fn get(State(api): State<Arc<Api>>, Path(server): Path<String>) -> Result<Response, ApiError> {
    let known = api.server(&server)?;
    Ok(json(api.view.one(&api.world, &known.snapshot)))
}

fn json(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}
