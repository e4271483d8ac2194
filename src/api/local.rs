//! Routes of the unix socket, for the command line: every server with its status, also parked ones, plans, and files
//! to apply.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::admission::Action;
use super::system::axum_json;
use super::{Api, ApiError, body, servers};
use crate::model::{Manifest, Record, ServerId, Status};
use crate::store::{Snapshot, StoreError, intent};

/// `GET /local/servers`.
pub async fn list(State(api): State<Arc<Api>>) -> Response {
    let servers: Vec<Value> = api.world.store.list().iter().map(|snapshot| summary(&api, snapshot)).collect();
    axum_json(&Value::Array(servers))
}

/// `GET /local/servers/{server}`.
pub async fn describe(State(api): State<Arc<Api>>, Path(server): Path<String>) -> Result<Response, ApiError> {
    let snapshot = any(&api, &server)?;
    Ok(axum_json(&summary(&api, &snapshot)))
}

fn summary(api: &Api, snapshot: &Snapshot) -> Value {
    let status = api.world.store.status(snapshot.id).unwrap_or_else(|| Arc::new(Status::new(snapshot.id)));
    json!({
        "uuid": snapshot.id,
        "manifest": snapshot.manifest,
        "record": *snapshot.record,
        "problem": snapshot.problem.as_ref().map(|problem| json!({"reason": problem.reason, "message": problem.message})),
        "status": *status,
    })
}

/// Any server on disk, listed by its panel or not.
fn any(api: &Api, server: &str) -> Result<Arc<Snapshot>, ApiError> {
    let id: Option<ServerId> = server.parse().ok();
    id.and_then(|id| api.world.store.get(id)).ok_or_else(ApiError::no_server)
}

/// `GET /local/servers/{server}/plan`: what a pass would do now.
pub async fn plan(State(api): State<Arc<Api>>, Path(server): Path<String>) -> Result<Response, ApiError> {
    let snapshot = any(&api, &server)?;
    let plan = api.reconciler.preview(snapshot.id).await.ok_or_else(ApiError::no_server)?;
    Ok(axum_json(&json!({"uuid": snapshot.id, "plan": plan})))
}

#[derive(Deserialize)]
struct Wanted {
    action: String,
}

/// `POST /local/servers/{server}/power`.
pub async fn power(State(api): State<Arc<Api>>, Path(server): Path<String>, body: Bytes) -> Result<StatusCode, ApiError> {
    let known = api.server(&server)?;
    let wanted: Wanted = body::object(&body)?;
    let action = Action::parse(&wanted.action).ok_or_else(|| {
        ApiError::worded(StatusCode::UNPROCESSABLE_ENTITY, "expected one of start, stop, restart, kill")
    })?;
    servers::write_power(&api, known.id, action, None).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `DELETE /local/servers/{server}`: also for servers that the panel does not list, or whose files are broken.
pub async fn delete(State(api): State<Arc<Api>>, Path(server): Path<String>) -> Result<StatusCode, ApiError> {
    let snapshot = any(&api, &server)?;
    servers::mark_deleted(&api, snapshot.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /local/servers/{server}`: a manifest, as JSON, is what should be.
pub async fn apply(State(api): State<Arc<Api>>, Path(server): Path<String>, body: Bytes) -> Result<Response, ApiError> {
    let id: ServerId = server.parse().map_err(|_| ApiError::no_server())?;
    let manifest: Manifest =
        serde_json::from_slice(&body).map_err(|error| ApiError::worded(StatusCode::BAD_REQUEST, error.to_string()))?;
    intent::validate(&manifest, id)
        .map_err(|problem| ApiError::worded(StatusCode::UNPROCESSABLE_ENTITY, problem.message))?;
    let done = api
        .world
        .store
        .run(move |store| match store.create(manifest.clone(), Record::default()) {
            Ok(_) => Ok("created"),
            Err(StoreError::Exists(_)) => {
                let before = store.get(id).map(|snapshot| snapshot.revision);
                let after = store.change(id, None, |current| *current = manifest)?;
                Ok(if before == Some(after.revision) { "unchanged" } else { "changed" })
            }
            Err(error) => Err(error),
        })
        .await?;
    Ok(axum_json(&json!({"uuid": id, "result": done})))
}
