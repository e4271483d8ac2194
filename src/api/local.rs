//! Routes of the unix socket, for the command line: every server with its status, also parked ones, plans, events, logs, and
//! files to apply.

pub mod events;
pub mod logs;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::{Sent, ServerName};
use super::system::axum_json;
use super::{Api, ApiError, body, servers};
use crate::model::{Requester, ServerId, Status, Timestamp};
use crate::requests::availability::{Holder, held_by};
use crate::store::{ApplyError, Snapshot};

/// `GET /local/servers`.
pub async fn list(State(api): State<Arc<Api>>) -> Response {
    let servers: Vec<Value> = api.context.store.list().iter().map(|snapshot| summary(&api, snapshot)).collect();
    axum_json(&Value::Array(servers))
}

/// `GET /local/servers/{server}`.
pub async fn describe(State(api): State<Arc<Api>>, ServerName(server): ServerName) -> Result<Response, ApiError> {
    let snapshot = any(&api, &server)?;
    Ok(axum_json(&summary(&api, &snapshot)))
}

fn summary(api: &Api, snapshot: &Snapshot) -> Value {
    let status = api.context.store.status(snapshot.id).unwrap_or_else(|| Arc::new(Status::new(snapshot.id)));
    json!({
        "uuid": snapshot.id,
        "manifest": snapshot.manifest,
        "requests": *snapshot.requests,
        "record": *snapshot.record,
        "problem": snapshot.problem.as_ref().map(|problem| json!({"reason": problem.reason, "message": problem.message})),
        "status": *status,
    })
}

/// Any server on disk, listed by its panel or not.
fn any(api: &Api, server: &str) -> Result<Arc<Snapshot>, ApiError> {
    let id: Option<ServerId> = server.parse().ok();
    id.and_then(|id| api.context.store.get(id)).ok_or_else(ApiError::no_server)
}

/// `GET /local/servers/{server}/plan`: what a pass would do now.
pub async fn plan(State(api): State<Arc<Api>>, ServerName(server): ServerName) -> Result<Response, ApiError> {
    let snapshot = any(&api, &server)?;
    let plan = api.reconciler.preview(snapshot.id).await.ok_or_else(ApiError::no_server)?;
    Ok(axum_json(&json!({"uuid": snapshot.id, "plan": plan})))
}

#[derive(Deserialize)]
struct Wanted {
    action: String,
}

/// `POST /local/servers/{server}/power`.
pub async fn power(
    State(api): State<Arc<Api>>,
    ServerName(server): ServerName,
    body: Sent,
) -> Result<StatusCode, ApiError> {
    let snapshot = any(&api, &server)?;
    if let Some(why) = without_power(&snapshot, api.context.clock.now()) {
        return Err(ApiError::worded(StatusCode::CONFLICT, why));
    }
    let wanted: Wanted = body::object(&body)?;
    let verb = servers::power_verb(&wanted.action).ok_or_else(|| {
        ApiError::worded(StatusCode::UNPROCESSABLE_ENTITY, "expected one of start, stop, restart, kill")
    })?;
    servers::request_power(&api, snapshot.id, verb, None, Requester::Cli).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Why a server on disk has no power, in words for the person who asked.
fn without_power(snapshot: &Snapshot, now: Timestamp) -> Option<&'static str> {
    match held_by(false, snapshot.asked(now)) {
        Some(Holder::Deletion) => Some("it is being deleted"),
        Some(Holder::Parking) => Some(
            "its panel no longer lists it; apply a file with managedBy: file to run it without the panel, or delete it",
        ),
        _ if snapshot.manifest.is_none() => Some("its files have never said what it should be; see `alula describe`"),
        // Admission decides about these.
        Some(Holder::Suspension | Holder::Installation) | None => None,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum InstallAction {
    Again,
    Abort,
}

#[derive(Deserialize)]
struct Installation {
    action: InstallAction,
}

/// `POST /local/servers/{server}/install`: runs the install script again, or ends an installation.
pub async fn install(
    State(api): State<Arc<Api>>,
    ServerName(server): ServerName,
    body: Sent,
) -> Result<StatusCode, ApiError> {
    let id = api.server(&server)?.id;
    match body::object::<Installation>(&body)?.action {
        InstallAction::Again => servers::request_install(&api, id, true, Requester::Cli).await?,
        InstallAction::Abort => servers::abort_install(&api, id).await?,
    }
    Ok(StatusCode::ACCEPTED)
}

/// `DELETE /local/servers/{server}`: also for servers that the panel does not list, or whose files are broken.
pub async fn delete(State(api): State<Arc<Api>>, ServerName(server): ServerName) -> Result<StatusCode, ApiError> {
    let snapshot = any(&api, &server)?;
    servers::request_deletion(&api, snapshot.id, Requester::Cli).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /local/servers/{server}[?dry_run=true]`: a manifest, as the text of a file, replaces the server's `config.yml`.
pub async fn apply(
    State(api): State<Arc<Api>>,
    ServerName(server): ServerName,
    RawQuery(query): RawQuery,
    body: Sent,
) -> Result<Response, ApiError> {
    let id: ServerId = server.parse().map_err(|_| ApiError::no_server())?;
    let text = String::from_utf8(body.bytes()?.to_vec())
        .map_err(|error| ApiError::worded(StatusCode::BAD_REQUEST, format!("the manifest is not UTF-8: {error}")))?;
    let dry_run = parameter(query.as_deref(), "dry_run") == Some("true");
    let applied =
        api.context.store.run(move |store| store.apply(id, &text, dry_run)).await.map_err(|error| match error {
            ApplyError::Store(error) => error.into(),
            ApplyError::BeingDeleted(_) => ApiError::worded(StatusCode::CONFLICT, error.to_string()),
            ApplyError::Text(_) | ApplyError::Invalid(_) | ApplyError::OtherServer { .. } => {
                ApiError::worded(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
            }
        })?;
    Ok(axum_json(&json!({"uuid": id, "result": applied.as_str()})))
}

/// The value of a parameter in a query. None of those here needs decoding.
fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}
