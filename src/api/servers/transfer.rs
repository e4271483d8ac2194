//! Transfers between nodes, which this release does not make.
//!
//! The panel ignores the status of a transfer's start, and keeps the server locked until a node reports the end. So the start is
//! accepted, and its failure is on disk before the answer and reported until the panel has acknowledged it. Source: HTTP API,
//! "Transfers between daemons".

use http::StatusCode;
use serde::Deserialize;

use crate::api::request::{RequestBody, ServerPath};
use crate::api::startup::Started;
use crate::api::{ApiError, body};
use crate::model::{Reason, Record, TransferOutcome, TransferResult};

#[derive(Deserialize)]
struct TransferBody {
    #[serde(default)]
    url: String,
    #[serde(default)]
    token: String,
}

/// `POST /api/servers/{server}/transfer`: the panel wants the server on another node.
pub async fn transfer(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    let known = api.server(id)?;
    let wanted: TransferBody = body::object(&body)?;
    if wanted.url.is_empty() || wanted.token.is_empty() {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "A transfer needs the url and the token of its target."));
    }
    if !known.manifest.is_managed_by_panel() {
        return Err(ApiError::new(StatusCode::CONFLICT, "This server is managed by a file and not by the panel."));
    }
    let (store, token) = (&api.context.store, api.context.ids.next());
    let failed = TransferResult { token: token.clone(), outcome: TransferOutcome::Failed };
    let begin = move |record: &mut Record| {
        record.transfer.get_or_insert(failed);
    };
    let snapshot = store.run(move |store| store.commit(id, begin)).await?;
    if snapshot.record.transfer.as_ref().is_none_or(|current| current.token != token) {
        return Err(ApiError::new(StatusCode::CONFLICT, "A transfer is already in progress for this server."));
    }
    let message = "this release cannot transfer servers to other nodes: the panel learns that the transfer failed";
    store.event(id, api.context.clock.now(), Reason::TransferRefused, message);
    store.wake(id);
    Ok(StatusCode::ACCEPTED)
}

/// `DELETE /api/servers/{server}/transfer`: the panel has ended the transfer itself, and must not hear of it later, when it may have
/// begun another one.
pub async fn cancel(Started(api): Started, ServerPath(id): ServerPath) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    let forget = |record: &mut Record| record.transfer = None;
    api.context.store.run(move |store| store.commit(id, forget)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `POST /api/transfers`: another node sends a server. Its body is not read.
pub async fn receive() -> ApiError {
    ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "This node cannot receive servers from other nodes yet; choose another node.",
    )
}

/// `DELETE /api/transfers/{server}`: nothing is being received.
pub async fn cancel_receipt() -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "No server is being transferred to this node.")
}

/// `DELETE /api/transfer`: the panel's last call of a cancelled transfer, to the target. Nothing is being received, which is what
/// the panel asks for; an error would reach the user who cancels.
pub async fn cancelled() -> StatusCode {
    StatusCode::ACCEPTED
}
