//! Installing again, and fetching the panel's word.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;

use super::decide_again;
use crate::api::request::ServerName;
use crate::api::{Api, ApiError};
use crate::model::{ManagedBy, PowerState, Requester, ServerId, Verb};
use crate::requests::NewRequest;
use crate::requests::admission::{Admitted, admit_abort, admit_install};
use crate::wait;

/// `POST /api/servers/{server}/install`: as at creation, with the newest word of the panel.
pub async fn install(State(api): State<Arc<Api>>, ServerName(server): ServerName) -> Result<StatusCode, ApiError> {
    let id = api.server(&server)?.id;
    request_install(&api, id, false, Requester::Panel).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `POST /api/servers/{server}/reinstall`: the same, reported as a reinstallation.
pub async fn reinstall(State(api): State<Arc<Api>>, ServerName(server): ServerName) -> Result<StatusCode, ApiError> {
    let id = api.server(&server)?.id;
    request_install(&api, id, true, Requester::Panel).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Admits an installation and has it on disk.
///
/// # Errors
/// Why it is refused, or the disk's error.
pub async fn request_install(api: &Api, id: ServerId, reinstall: bool, by: Requester) -> Result<(), ApiError> {
    let _permit = api.permit_install().await;
    decide_again(|| try_install(api, id, reinstall, by)).await
}

async fn try_install(api: &Api, id: ServerId, reinstall: bool, by: Requester) -> Result<(), ApiError> {
    let known = api.server_as_on_disk(&id.to_string()).await?;
    let at = api.context.clock.now();
    admit_install(known.context(at), reinstall)?;
    let new = |verb| NewRequest { id: api.context.ids.next(), at, expires_at: None, by, verb };
    let install = new(Verb::Install { reinstall, then_start: false });
    // The server stays down after it, unless its file is a person's and says otherwise.
    let power = known.snapshot.asked(at).power();
    let up = power.is_some_and(|request| request.verb.wants_up()) || known.status.state != PowerState::Offline;
    let down = (up && known.manifest.metadata.managed_by == ManagedBy::Panel).then(|| new(Verb::Stop));
    let revision = known.snapshot.revision;
    let requests: Vec<NewRequest> = [install].into_iter().chain(down).collect();
    api.context.store.run(move |store| store.request(id, Some(revision), requests)).await?;
    Ok(())
}

/// Admits the end of an installation and has it on disk.
///
/// # Errors
/// Why it is refused, or the disk's error.
pub async fn abort_install(api: &Api, id: ServerId) -> Result<(), ApiError> {
    decide_again(|| async {
        let known = api.server_as_on_disk(&id.to_string()).await?;
        let at = api.context.clock.now();
        if admit_abort(known.snapshot.asked(at))? == Admitted::Already {
            return Ok(());
        }
        let new =
            NewRequest { id: api.context.ids.next(), at, expires_at: None, by: Requester::Cli, verb: Verb::Abort };
        let revision = known.snapshot.revision;
        api.context.store.run(move |store| store.request(id, Some(revision), [new])).await?;
        Ok(())
    })
    .await
}

/// `POST /api/servers/{server}/sync`: fetches the panel's configuration and writes it.
///
/// A running server's limits are in force when the panel has its answer, as it is used to; where the engine needs longer they
/// follow all the same.
pub async fn sync(State(api): State<Arc<Api>>, ServerName(server): ServerName) -> Result<StatusCode, ApiError> {
    let known = api.server(&server)?;
    let sync = api.context.sync.as_ref().filter(|_| known.manifest.metadata.managed_by == ManagedBy::Panel);
    let Some(sync) = sync else {
        // The file is the whole truth, and it is read when it changes.
        api.context.store.wake(known.id);
        return Ok(StatusCode::NO_CONTENT);
    };
    let id = known.id;
    let fetched = sync.fetch(id).await?;
    let written = sync.apply(id, fetched, None).await?;
    if known.status.state != PowerState::Offline {
        let servers = &api.context.servers;
        servers.wait(id, wait::SYNC_FOR_LIMITS, || servers.has_converged(id, written.revision)).await;
    }
    Ok(StatusCode::NO_CONTENT)
}
