//! Routes of the unix socket, for the command line: servers with their status (also parked ones), plans, events, logs, requests and
//! manifests.

pub mod backups;
pub mod events;
pub mod export;
pub mod files;
pub mod logs;
pub mod node;
pub mod operations;
pub mod trash;

use std::sync::Arc;

use axum::extract::RawQuery;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body;
use super::request::{RequestBody, ServerPath, parameter};
use super::response::json as json_response;
use super::startup::Started;
use super::{Api, ApiError, servers};
use crate::model::time::Span;
use crate::model::{Record, Requester, ServerId, Status, Timestamp, Verb};
use crate::requests::availability::{Holder, held_by};
use crate::store::{ApplyError, Snapshot};

/// `GET /local/servers`.
pub async fn list(Started(api): Started) -> Response {
    let servers: Vec<Value> = api.context.store.list().iter().map(|snapshot| summary(&api, snapshot)).collect();
    json_response(Value::Array(servers).to_string())
}

fn summary(api: &Api, snapshot: &Snapshot) -> Value {
    let status = api.context.store.status(snapshot.id).unwrap_or_else(|| Arc::new(Status::new(snapshot.id)));
    json!({
        "uuid": snapshot.id,
        "manifest": snapshot.manifest,
        "requests": *snapshot.requests,
        "record": *snapshot.record,
        "problem": snapshot.problem,
        "status": *status,
    })
}

/// A server of the state folder, also if its panel does not list it.
fn any(api: &Api, id: ServerId) -> Result<Arc<Snapshot>, ApiError> {
    api.context.store.get(id).ok_or_else(ApiError::no_server)
}

/// `GET /local/servers/{server}/plan`: the plan of a pass that would run now, and the changes of configuration files at the next start.
pub async fn plan(Started(api): Started, ServerPath(id): ServerPath) -> Result<Response, ApiError> {
    any(&api, id)?;
    let plan = api.context.preview(id).await.ok_or_else(ApiError::no_server)?;
    let files = api.context.preview_files(id).await;
    Ok(json_response(json!({"uuid": id, "plan": plan, "files": files}).to_string()))
}

#[derive(Deserialize)]
struct ActionBody {
    action: String,
    /// Of a stop or restart.
    #[serde(default)]
    timeout: Option<Span>,
}

/// `POST /local/servers/{server}/power`.
pub async fn power(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    let snapshot = any(&api, id)?;
    if let Some(why) = without_power(&snapshot, api.context.clock.now()) {
        return Err(ApiError::new(StatusCode::CONFLICT, why));
    }
    let wanted: ActionBody = body::object(&body)?;
    let verb = servers::power_verb(&wanted.action)
        .ok_or_else(|| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "expected one of start, stop, restart, kill"))?;
    let stops = matches!(verb, Verb::Stop | Verb::Restart);
    if wanted.timeout.is_some_and(|timeout| !stops || !timeout.is_stop_timeout()) {
        let message = format!("a timeout is for stop and restart, and {}", Span::STOP_TIMEOUTS);
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    let wanted = servers::Wanted { verb, wait: None, timeout: wanted.timeout };
    servers::request_power(&api, id, wanted, Requester::Cli).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Why a server accepts no power requests, as a message for people.
fn without_power(snapshot: &Snapshot, now: Timestamp) -> Option<&'static str> {
    match held_by(false, snapshot.asked(now)) {
        Some(Holder::Deletion) => Some("it is being deleted"),
        Some(Holder::Parking) => Some(
            "its panel no longer lists it; apply a file with managedBy: file to run it without the panel, or delete it",
        ),
        _ if snapshot.manifest.is_none() => Some("it has no valid manifest yet; see `alula describe`"),
        // Admission decides.
        Some(Holder::Transfer | Holder::Suspension | Holder::Restore | Holder::Installation) | None => None,
    }
}

/// `POST /local/servers/{server}/install`: runs the install script again, or aborts an installation.
pub async fn install(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    match body::object::<ActionBody>(&body)?.action.as_str() {
        "again" => servers::request_install(&api, id, true, Requester::Cli).await?,
        "abort" => servers::abort_install(&api, id).await?,
        _ => return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "expected one of again, abort")),
    }
    Ok(StatusCode::ACCEPTED)
}

/// `DELETE /local/servers/{server}[?now=true]`: also for servers that the panel does not list, or whose manifest is invalid. The files
/// are kept for a while, unless `now` is true.
pub async fn delete(
    Started(api): Started,
    ServerPath(id): ServerPath,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, ApiError> {
    any(&api, id)?;
    let keep = parameter(query.as_deref(), "now") != Some("true");
    // Before the request: a removal finds it.
    let note = move |record: &mut Record| record.keep_deleted = keep;
    api.context.store.run(move |store| store.commit(id, note)).await?;
    servers::request_deletion(&api, id, Requester::Cli).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /local/servers/{server}[?dry_run=true]`: replaces the server's `config.yml` with the body.
pub async fn apply(
    Started(api): Started,
    ServerPath(id): ServerPath,
    RawQuery(query): RawQuery,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let text = String::from_utf8(body.bytes()?.to_vec())
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, format!("the manifest is not UTF-8: {error}")))?;
    let dry_run = parameter(query.as_deref(), "dry_run") == Some("true");
    let applied =
        api.context.store.run(move |store| store.apply(id, &text, dry_run)).await.map_err(|error| match error {
            ApplyError::Store(error) => error.into(),
            ApplyError::BeingDeleted(_) => ApiError::new(StatusCode::CONFLICT, error.to_string()),
            ApplyError::Text(_) | ApplyError::Invalid(_) | ApplyError::OtherServer { .. } => {
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
            }
        })?;
    Ok(json_response(json!({"uuid": id, "result": applied}).to_string()))
}
