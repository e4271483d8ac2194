//! `DELETE /api/servers/{server}`.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;

use super::Known;
use crate::api::request::ServerName;
use crate::api::{Api, ApiError};
use crate::model::{Requester, ServerId, Verb};
use crate::requests::NewRequest;
use crate::wait;

/// Accepts the request to delete; the reconciler carries it out. From now on the API does not know the server.
///
/// The answer waits a moment for the containers: the panel gives their ports to others as soon as it has it. What takes
/// longer is done all the same.
pub async fn delete(State(api): State<Arc<Api>>, ServerName(server): ServerName) -> Result<StatusCode, ApiError> {
    let known = wait_for(&api, &server).await?;
    request_deletion(&api, known.id, Requester::Panel).await?;
    // Nothing is lost when the time is over: the request is on disk.
    let (store, servers) = (&api.context.store, &api.context.servers);
    let gone = || store.get(known.id).is_none() || servers.has_no_containers(known.id);
    servers.wait(known.id, wait::DELETE_FOR_CONTAINERS, gone).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The server that is to be deleted. The panel takes a 404 for "gone already" and forgets the server, so that is said only when
/// it is known that this node does not have it.
async fn wait_for(api: &Api, server: &str) -> Result<Known, ApiError> {
    let unknown = match api.server(server) {
        Err(unknown) => unknown,
        known => return known,
    };
    let Ok(id) = server.parse::<ServerId>() else { return Err(unknown) };
    let being_deleted = api.context.store.get(id).is_some_and(|snapshot| !snapshot.wanted());
    let Some(sync) = api.context.sync.as_ref().filter(|_| !being_deleted) else { return Err(unknown) };
    if sync.was_removed(id) {
        return Err(unknown);
    }
    if !sync.wait_for_list().await {
        let message = "The node has not been able to read the panel's list of servers since it started, so it does not know whether this server is one of its own. See the node's log for the reason, and delete the server again when it is mended.";
        return Err(ApiError::worded(StatusCode::SERVICE_UNAVAILABLE, message));
    }
    api.server(server)
}

/// Has the request to delete on disk.
///
/// # Errors
/// The disk's error.
pub async fn request_deletion(api: &Api, id: ServerId, by: Requester) -> Result<(), ApiError> {
    let (at, name) = (api.context.clock.now(), api.context.ids.next());
    let new = NewRequest { id: name, at, expires_at: None, by, verb: Verb::Delete };
    api.context.store.run(move |store| store.request(id, None, [new])).await?;
    api.view.forget(id);
    Ok(())
}
