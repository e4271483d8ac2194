//! The output of a server and of its installer.

use std::io;
use std::time::Duration;

use axum::extract::RawQuery;
use axum::response::Response;
use futures_util::StreamExt;
use http::StatusCode;
use serde_json::json;

use crate::api::request::{ServerPath, parameter};
use crate::api::startup::Started;
use crate::api::{Api, ApiError, response};
use crate::files::install_log;
use crate::model::{Role, ServerId};
use crate::reconcile::context::Context;
use crate::runtime::{ErrorKind, LogPart};

/// Maximum of lines in a response.
const MAX_LINES: u32 = 100;
/// Timeout of reading from the engine.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum of bytes that are read of a log.
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
    let mut output = match api.context.runtime.logs(&container.id, LogPart::Tail(count)).await {
        // A log driver such as `none` keeps nothing that can be read.
        Err(error) if error.kind == ErrorKind::Unsupported => {
            let read = transcript(&api.context, id, count).await;
            return read.map(|bytes| lines_of(&bytes, count)).map_err(|error| ApiError::Failed(error.to_string()));
        }
        output => output.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    let until = tokio::time::Instant::now() + READ_TIMEOUT;
    // If the engine hangs, the response has what was read by then.
    while let Ok(Some(chunk)) = tokio::time::timeout_at(until, output.next()).await {
        bytes.extend_from_slice(&chunk.map_err(failed)?);
        if bytes.len() > MAX_BYTES {
            break;
        }
    }
    Ok(lines_of(&bytes, count))
}

fn lines_of(bytes: &[u8], count: u32) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<String> = text.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect();
    lines.drain(..lines.len().saturating_sub(count as usize));
    lines
}

/// The end of a server's transcript, with its last `lines` lines.
async fn transcript(context: &Context, id: ServerId, lines: u32) -> io::Result<Vec<u8>> {
    let handover = context.console.handover(id, &context.node.layout.logs(id)).await?;
    let read = move || {
        let mut bytes = Vec::new();
        if let Some(mut file) = handover.file {
            file.skip_to_last(lines.into())?;
            loop {
                let piece = file.next_piece()?;
                if piece.is_empty() || bytes.len() > MAX_BYTES {
                    break;
                }
                bytes.extend(piece);
            }
        }
        bytes.extend(handover.unwritten);
        Ok(bytes)
    };
    context.store.blocking().run(read).await
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
