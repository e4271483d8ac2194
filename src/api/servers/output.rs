//! The output of a server and of its installer.

use axum::extract::RawQuery;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use crate::api::request::{ServerPath, parameter};
use crate::api::startup::Started;
use crate::api::{Api, ApiError, response};
use crate::files::install_log;
use crate::model::{Role, ServerId};

/// Maximum of lines in a response.
const MAX_LINES: u32 = 100;
/// Maximum of bytes that are read of an install log.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// `GET /api/servers/{server}/logs?size=`: the last lines of the server's container.
pub async fn logs(
    Started(api): Started,
    ServerPath(id): ServerPath,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    api.server(id)?;
    let size = parameter(query.as_deref(), "size").and_then(|size| size.parse().ok());
    let size = size.filter(|size| (1..=MAX_LINES).contains(size)).unwrap_or(MAX_LINES);
    let lines = last_lines(&api, id, size).await?;
    let value = json!({"data": (!lines.is_empty()).then_some(lines)});
    Ok(response::json(value.to_string()))
}

/// The last lines of the log of a server's container.
///
/// # Errors
/// There is no container, or its log cannot be read.
pub async fn last_lines(api: &Api, id: ServerId, count: u32) -> Result<Vec<String>, ApiError> {
    let failed = |error: crate::runtime::RuntimeError| ApiError::Failed(error.to_string());
    let container = api.context.runtime.inspect(id, Role::Server).await.map_err(failed)?;
    let container = container.ok_or_else(|| ApiError::Failed(format!("server {id} has no container")))?;
    api.context.last_lines(id, &container.id, count).await.map_err(|error| ApiError::Failed(error.to_string()))
}

/// `GET /api/servers/{server}/install-logs`: the output of the last install script.
pub async fn install_logs(Started(api): Started, ServerPath(id): ServerPath) -> Result<Response, ApiError> {
    let known = api.server(id)?;
    let (id, layout) = (known.id, api.context.node.layout.clone());
    let read = api.context.store.blocking().run(move || install_log::read_output(&layout, id, MAX_BYTES)).await;
    let text = read.unwrap_or_else(|error| {
        tracing::warn!(server.id = %id, %error, "cannot read install log");
        None
    });
    let message = "failed to read the log for the installation process.";
    let text = text.ok_or_else(|| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message))?;
    Ok(response::json(json!({"data": text}).to_string()))
}
