//! What a server and its installer printed.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_util::StreamExt;
use http::StatusCode;
use serde_json::json;

use crate::api::request::ServerName;
use crate::api::system::axum_json;
use crate::api::{Api, ApiError};
use crate::files::install_log;
use crate::model::Role;
use crate::runtime::LogPart;

/// Most lines that are answered.
const MAX_LINES: u32 = 100;
/// Longest time that the engine is read from for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of a log that are read for an answer.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// `GET /api/servers/{server}/logs?size=`: the last lines of the server's container.
pub async fn logs(
    State(api): State<Arc<Api>>,
    ServerName(server): ServerName,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let known = api.server(&server)?;
    let size = query.as_deref().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("size="));
    let size = size.and_then(|size| size.parse::<i64>().ok()).unwrap_or(0);
    let size = u32::try_from(size).ok().filter(|size| (1..=MAX_LINES).contains(size)).unwrap_or(MAX_LINES);
    let failed = |error: crate::runtime::RuntimeError| ApiError::Failed(error.to_string());
    let container = api.context.runtime.inspect(known.id, Role::Server).await.map_err(failed)?;
    let container = container.ok_or_else(|| ApiError::Failed(format!("{} has no container", known.id)))?;
    let mut output = api.context.runtime.logs(&container.id, LogPart::Tail(size)).await.map_err(failed)?;
    let mut bytes = Vec::new();
    let until = tokio::time::Instant::now() + PATIENCE;
    // What an engine that hangs has said by then is the answer.
    while let Ok(Some(chunk)) = tokio::time::timeout_at(until, output.next()).await {
        bytes.extend_from_slice(&chunk.map_err(failed)?);
        if bytes.len() > MAX_BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches('\r')).collect();
    let value = if lines.is_empty() { json!({"data": null}) } else { json!({"data": lines}) };
    Ok(axum_json(&value))
}

/// `GET /api/servers/{server}/install-logs`: what the last install script printed.
pub async fn install_logs(State(api): State<Arc<Api>>, ServerName(server): ServerName) -> Result<Response, ApiError> {
    let known = api.server(&server)?;
    let (id, layout) = (known.id, api.context.node.layout.clone());
    let read = api.context.store.blocking().run(move || install_log::read_output(&layout, id, MAX_BYTES)).await;
    match read {
        Ok(Some(text)) => Ok(axum_json(&json!({"data": text}))),
        Ok(None) => Err(no_log()),
        Err(error) => {
            tracing::warn!(server.id = %id, "{error}");
            Err(no_log())
        }
    }
}

fn no_log() -> ApiError {
    ApiError::worded(StatusCode::INTERNAL_SERVER_ERROR, "failed to read the log for the installation process.")
}
