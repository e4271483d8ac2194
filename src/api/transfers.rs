//! Servers that come from other nodes, while they arrive. A token of the panel admits the sender.
//!
//! The server exists here from the first byte on, held by its transfer. Whatever ends the request before the last byte was verified
//! ends the transfer: the panel learns of it, and nothing stays. Source: HTTP API, "Destination" and "Cancelling".

mod held;
mod parts;
mod reception;
pub mod session;

use axum::extract::{Path, Request};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::files::{body_pieces, drained};
use super::request::RequestBody;
use super::servers::transfer::request_cancellation;
use super::startup::Started;
use super::tokens::{Claims, TransferRefusal};
use super::{Api, ApiError, body};
use crate::model::ServerId;
use crate::transfer::{POOL, ReceiveError};
use reception::Reception;

/// `POST /api/transfers`: another node sends a server.
pub async fn receive(Started(api): Started, request: Request) -> Result<StatusCode, ApiError> {
    let id = admit(&api, request.headers(), None)?;
    let (head, body) = request.into_parts();
    let shared = shares_storage(&api, &head.headers);
    let mut body = body_pieces(body);
    let received = match Reception::begin(&api, id, shared).await {
        Ok(reception) => match reception.receive(&head.headers, &mut body).await {
            // The connection is closed at once.
            Err(ReceiveError::Cancelled) => return Err(refusal(id, &ReceiveError::Cancelled)),
            received => received.map_err(|error| refusal(id, &error)),
        },
        Err(error) => {
            if !api.is_arriving(id) {
                api.report_lost_transfer(id);
            }
            Err(error)
        }
    };
    if received.is_err() || shared {
        // A sender that is still sending would not read the answer.
        drained(body).await;
    }
    received.map(|()| StatusCode::OK)
}

/// The answer to a sender whose server did not arrive.
fn refusal(id: ServerId, error: &ReceiveError) -> ApiError {
    match error {
        ReceiveError::Cancelled => ApiError::new(StatusCode::CONFLICT, error.to_string()),
        error if error.is_of_sender() => ApiError::new(StatusCode::BAD_REQUEST, error.to_string()),
        error => ApiError::Failed(format!("server {id} was not received: {error}")),
    }
}

/// The server that the panel has signed a token for. A caller with a secret may ask again.
fn admit(api: &Api, headers: &HeaderMap, secret: Option<&str>) -> Result<ServerId, ApiError> {
    let missing = || {
        let message = "The required authorization headers were not present in the request.";
        ApiError::new(StatusCode::UNAUTHORIZED, message)
    };
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
    let token = value.strip_prefix("Bearer ").map(str::trim).filter(|token| !token.is_empty()).ok_or_else(missing)?;
    let key = &api.context.node.config.live.get().token;
    if key.is_empty() {
        return Err(ApiError::new(StatusCode::FORBIDDEN, TransferRefusal::Scope.to_string()));
    }
    let claims = Claims::read(token, key).map_err(|_| {
        ApiError::new(StatusCode::UNAUTHORIZED, "The token of the transfer is not signed by the panel for this node.")
    })?;
    claims.use_transfer(&api.used_links, api.context.clock.now(), secret).map_err(|refusal| {
        let status = match refusal {
            TransferRefusal::Invalid => StatusCode::UNAUTHORIZED,
            TransferRefusal::Scope | TransferRefusal::Used => StatusCode::FORBIDDEN,
        };
        ApiError::new(status, refusal.to_string())
    })
}

/// Whether the sender has the server's files on the storage that this node has them on, too.
fn shares_storage(api: &Api, headers: &HeaderMap) -> bool {
    let node = &api.context.node;
    let own = node.config.storage_pool.as_deref().filter(|_| node.layout.may_be_shared());
    let theirs = headers.get(POOL).and_then(|value| value.to_str().ok());
    own.zip(theirs).is_some_and(|(own, theirs)| own.eq_ignore_ascii_case(theirs.trim()))
}

impl Api {
    /// Whether this server is being received, from another request than the one that asks. That one has a result of its own to report.
    fn is_arriving(&self, id: ServerId) -> bool {
        let snapshot = self.context.store.get(id);
        let holding = snapshot.as_ref().and_then(|snapshot| snapshot.record.holding_transfer());
        holding.is_some_and(|transfer| transfer.incoming().is_some())
    }

    /// Reports that a server does not come here, of which this node has nothing. Repeated until the panel has it, or the daemon ends.
    fn report_lost_transfer(&self, id: ServerId) {
        let Some(sync) = self.context.sync.clone() else { return };
        let (clock_jitter, tasks) = (self.context.jitter.clone(), &self.context.tasks);
        tasks.spawn(format!("report of a transfer {id}"), async move {
            let mut failures = 0;
            while let Err(error) = sync.report_lost_transfer(id).await {
                failures += 1;
                tracing::debug!(server.id = %id, %error, "the end of a transfer was not reported; tried again");
                let delay = crate::retry::delay(crate::retry::PANEL, failures, &clock_jitter);
                tokio::time::sleep(delay.max(error.pause())).await;
            }
        });
    }
}

/// `DELETE /api/transfers/{server}`: ends an incoming transfer.
pub async fn cancel(Started(api): Started, Path(server): Path<String>) -> Result<StatusCode, ApiError> {
    let id = server.parse().ok();
    match end_incoming(&api, id).await? {
        true => Ok(StatusCode::ACCEPTED),
        false => Err(ApiError::new(StatusCode::CONFLICT, "No server is being transferred to this node.")),
    }
}

#[derive(Deserialize)]
struct Cancellation {
    #[serde(default)]
    json: CancelledServer,
}

#[derive(Deserialize, Default)]
struct CancelledServer {
    #[serde(default)]
    server_id: String,
    #[serde(default)]
    server: NamedServer,
}

#[derive(Deserialize, Default)]
struct NamedServer {
    #[serde(default)]
    uuid: String,
}

/// `DELETE /api/transfer`: the panel's last call of a cancelled transfer, to the destination. Where nothing is being received that is what
/// the panel wants; an error would reach the user who cancels.
pub async fn cancelled_by_panel(Started(api): Started, body: RequestBody) -> Result<StatusCode, ApiError> {
    if let Ok(Cancellation { json }) = body::object::<Cancellation>(&body) {
        let names = [json.server_id, json.server.uuid];
        end_incoming(&api, names.iter().find_map(|name| name.parse().ok())).await?;
    }
    Ok(StatusCode::ACCEPTED)
}

async fn end_incoming(api: &Api, id: Option<ServerId>) -> Result<bool, ApiError> {
    let incoming = id.and_then(|id| api.context.store.get(id)).is_some_and(|snapshot| {
        let pending = snapshot.record.pending_transfer();
        pending.is_some_and(|transfer| transfer.incoming().is_some())
    });
    match id.filter(|_| incoming) {
        Some(id) => request_cancellation(api, id).await,
        None => Ok(false),
    }
}
