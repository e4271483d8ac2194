//! Transfers to other nodes: each handler writes into the record and returns.
//!
//! The panel ignores the status of a transfer's start, and keeps the server locked until a node reports the end. So a transfer that is
//! refused is on disk before the answer, and its failure is reported until the panel has acknowledged it. Source: HTTP API, "Transfers
//! between daemons".

use http::StatusCode;
use serde::Deserialize;
use uuid::Uuid;

use super::Known;
use super::backups::backup_id;
use crate::api::request::{RequestBody, ServerPath};
use crate::api::startup::Started;
use crate::api::{Api, ApiError, body};
use crate::events::{EventKind, TransferStatus};
use crate::model::{
    Authorization, BackupStorage, Outgoing, PowerState, Reason, Record, RoundPhase, Rounds, ServerId, Transfer,
    TransferDirection,
};
use crate::requests::admission::admit_operation;
use crate::transfer::Target;

#[derive(Deserialize)]
struct TransferBody {
    #[serde(default)]
    url: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    backups: Option<Vec<String>>,
}

/// `POST /api/servers/{server}/transfer`: the panel wants the server on another node.
pub async fn transfer(
    Started(api): Started,
    ServerPath(id): ServerPath,
    body: RequestBody,
) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    let wanted: TransferBody = body::object(&body)?;
    let known = api.server_as_on_disk(id).await?;
    if !known.manifest.is_managed_by_panel() {
        return Err(ApiError::new(StatusCode::CONFLICT, "This server is managed by a file and not by the panel."));
    }
    if known.snapshot.record.holding_transfer().is_some() {
        return Err(in_progress());
    }
    let (transfer, refusal) = match check(&api, &known, &wanted) {
        Ok(backups) => (begin(&api, &known, &wanted, backups), None),
        Err(refusal) => (begin(&api, &known, &wanted, Vec::new()).refused(&refusal.message()), Some(refusal)),
    };
    record(&api, id, transfer).await?;
    refusal.map_or(Ok(StatusCode::ACCEPTED), Err)
}

/// The backups that are to go along.
fn check(api: &Api, known: &Known, wanted: &TransferBody) -> Result<Vec<Uuid>, ApiError> {
    let invalid = |message: String| ApiError::new(StatusCode::BAD_REQUEST, message);
    if wanted.url.is_empty() || wanted.token.is_empty() {
        return Err(invalid("A transfer needs the url and the token of its target.".to_owned()));
    }
    Target::url(&wanted.url).map_err(|reason| invalid(format!("The url of the target is invalid: {reason}.")))?;
    let backups = wanted.backups.iter().flatten().map(|backup| backup_id(backup)).collect::<Result<_, _>>()?;
    admit_operation(known.snapshot.asked(api.context.clock.now()))?;
    Ok(backups)
}

fn begin(api: &Api, known: &Known, wanted: &TransferBody, backups: Vec<Uuid>) -> Transfer {
    let node = &api.context.node;
    let outgoing = Outgoing {
        url: wanted.url.clone(),
        authorization: Authorization::new(wanted.token.as_str()),
        backups,
        then_start: matches!(known.status.state, PowerState::Starting | PowerState::Running),
        pool: node.config.storage_pool.clone().filter(|_| node.layout.may_be_shared()),
        rounds: Some(Rounds { secret: random_secret(), phase: RoundPhase::Opening, stopped: None }),
        begun: false,
    };
    let token = api.context.ids.next_uuid();
    Transfer::new(token, api.context.clock.now(), TransferDirection::Outgoing(outgoing))
}

/// 244 random bits.
fn random_secret() -> Authorization {
    Authorization::new(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
}

/// Writes a transfer to disk. The panel forgets the local backups that do not go along, even if the server stays: their files are kept.
async fn record(api: &Api, id: ServerId, mut transfer: Transfer) -> Result<(), ApiError> {
    let (store, token, at) = (&api.context.store, transfer.token, transfer.at);
    let failed = transfer.result.as_ref().map(|result| result.message.clone());
    if let (Some(_), TransferDirection::Outgoing(outgoing)) = (&failed, &mut transfer.direction) {
        // It was not stopped.
        outgoing.then_start = false;
    }
    let begin = move |record: &mut Record| {
        if record.holding_transfer().is_some() {
            return;
        }
        if let Some(outgoing) = transfer.outgoing().filter(|_| transfer.is_pending()) {
            let stay = |id: &Uuid| !outgoing.backups.contains(id);
            let local = record.backups.iter_mut().filter(|backup| backup.storage == BackupStorage::Local);
            local
                .filter(|backup| stay(&backup.id) && backup.result.is_some())
                .for_each(|backup| backup.detached = true);
        }
        record.transfer = Some(transfer);
    };
    let snapshot = store.commit_and_wake(id, begin).await?;
    if snapshot.record.transfer.as_ref().is_none_or(|current| current.token != token) {
        // Another caller was faster.
        return Err(in_progress());
    }
    let (reason, message) = match failed {
        Some(message) => (Reason::TransferFailed, format!("the transfer of the server was refused: {message}")),
        None => (Reason::Transferring, "the server is being transferred to another node".to_owned()),
    };
    store.event(id, at, reason, &message);
    Ok(())
}

fn in_progress() -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "A transfer is already in progress for this server.")
}

/// `DELETE /api/servers/{server}/transfer`: the panel has ended the transfer itself.
pub async fn cancel(Started(api): Started, ServerPath(id): ServerPath) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    match request_cancellation(&api, id).await? {
        true => Ok(StatusCode::ACCEPTED),
        false => Err(ApiError::new(StatusCode::CONFLICT, "Server is not currently being transferred.")),
    }
}

/// Writes to disk that a transfer, of either direction, is no longer wanted. Returns whether there is one.
///
/// # Errors
/// The disk's error.
pub async fn request_cancellation(api: &Api, id: ServerId) -> Result<bool, ApiError> {
    let store = &api.context.store;
    let is_open = |transfer: &Transfer| transfer.holds_server() || transfer.has_due_report();
    let Some(snapshot) = store.get(id) else { return Ok(false) };
    let Some(open) = snapshot.record.transfer.as_ref().filter(|transfer| is_open(transfer)) else { return Ok(false) };
    let token = open.token;
    let cancel = move |record: &mut Record| {
        let Some(transfer) = record.transfer_mut(token) else { return };
        transfer.cancelled = true;
        let left = transfer.outgoing().is_some();
        if let Some(result) = transfer.result.as_mut().filter(|_| left) {
            // The panel waits for neither result: what the destination has is not used.
            if result.succeeded {
                (result.succeeded, result.message) = (false, "it was cancelled".to_owned());
            }
            transfer.reported = true;
        }
    };
    store.commit_and_wake(id, cancel).await?;
    store.events().publish_output(id, || EventKind::TransferStatus(TransferStatus::Cancelling));
    Ok(true)
}
