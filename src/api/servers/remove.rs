//! `DELETE /api/servers/{server}`.

use http::StatusCode;

use super::Known;
use crate::api::request::ServerPath;
use crate::api::startup::Started;
use crate::api::{Api, ApiError};
use crate::model::{Requester, ServerId, Verb};
use crate::requests::NewRequest;
use crate::wait;

/// Accepts a request to delete, which the reconciler executes. From then on the API does not know the server.
///
/// The response waits a moment for the containers: the panel assigns their ports to other servers as soon as it has the response.
pub async fn delete(Started(api): Started, ServerPath(id): ServerPath) -> Result<StatusCode, ApiError> {
    let known = wait_for(&api, id).await?;
    request_deletion(&api, known.id, Requester::Panel).await?;
    // After the timeout the deletion continues: the request is on disk.
    let (store, servers) = (&api.context.store, &api.context.servers);
    let gone = || store.get(known.id).is_none() || servers.has_no_containers(known.id);
    servers.wait(known.id, wait::DELETE_FOR_CONTAINERS, gone).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The server to delete. The panel takes a 404 for "deleted already" and drops the server. So an unknown server gets a 404 only after
/// the panel's list was read, and a 503 before.
async fn wait_for(api: &Api, id: ServerId) -> Result<Known, ApiError> {
    let unknown = match api.server(id) {
        Err(unknown) => unknown,
        known => return known,
    };
    let being_deleted = api.context.store.get(id).is_some_and(|snapshot| !snapshot.wanted());
    let Some(sync) = api.context.sync.as_ref().filter(|_| !being_deleted) else { return Err(unknown) };
    if sync.was_removed(id) {
        return Err(unknown);
    }
    if !sync.wait_for_list().await {
        let message = "The node has not been able to read the panel's list of servers since it started, so it does not know whether this server is one of its own. See the node's log for the reason, and delete the server again when that is fixed.";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message));
    }
    api.server(id)
}

/// Writes a request to delete to disk.
///
/// # Errors
/// The disk's error.
pub async fn request_deletion(api: &Api, id: ServerId, by: Requester) -> Result<(), ApiError> {
    let (at, name) = (api.context.clock.now(), api.context.ids.next());
    let new = NewRequest { id: name, at, expires_at: None, timeout: None, by, verb: Verb::Delete };
    api.context.store.run(move |store| store.request(id, None, [new])).await?;
    api.view.remove(id);
    Ok(())
}
