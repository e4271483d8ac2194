//! Requests to install, and syncs.

use http::StatusCode;

use super::retry_on_conflict;
use crate::api::request::ServerPath;
use crate::api::startup::Started;
use crate::api::{Api, ApiError};
use crate::model::{PowerState, Requester, ServerId, Verb};
use crate::requests::NewRequest;
use crate::requests::admission::{Admitted, admit_abort, admit_install};
use crate::wait;

/// `POST /api/servers/{server}/install`: runs the install script with the panel's newest spec.
pub async fn install(Started(api): Started, ServerPath(id): ServerPath) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    request_install(&api, id, false, Requester::Panel).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `POST /api/servers/{server}/reinstall`: the same, reported as a reinstallation.
pub async fn reinstall(Started(api): Started, ServerPath(id): ServerPath) -> Result<StatusCode, ApiError> {
    api.server(id)?;
    request_install(&api, id, true, Requester::Panel).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Admits a request to install and writes it to disk.
///
/// # Errors
/// Why it is rejected, or the disk's error.
pub async fn request_install(api: &Api, id: ServerId, reinstall: bool, by: Requester) -> Result<(), ApiError> {
    let _permit = api.permit_install().await;
    retry_on_conflict(|| try_install(api, id, reinstall, by)).await
}

async fn try_install(api: &Api, id: ServerId, reinstall: bool, by: Requester) -> Result<(), ApiError> {
    let known = api.server_as_on_disk(id).await?;
    let at = api.context.clock.now();
    admit_install(known.context(at), reinstall)?;
    let new = |verb| NewRequest { id: api.context.ids.next(), at, expires_at: None, timeout: None, by, verb };
    let install = new(Verb::Install { reinstall, then_start: false });
    // Afterwards a server of the panel stays down.
    let power = known.snapshot.asked(at).power();
    let up = power.is_some_and(|request| request.verb.wants_up()) || known.status.state != PowerState::Offline;
    let down = (up && known.manifest.is_managed_by_panel()).then(|| new(Verb::Stop));
    let revision = known.snapshot.revision;
    let requests: Vec<NewRequest> = [install].into_iter().chain(down).collect();
    api.context.store.run(move |store| store.request(id, Some(revision), requests)).await?;
    Ok(())
}

/// Admits a request to abort an installation and writes it to disk.
///
/// # Errors
/// Why it is rejected, or the disk's error.
pub async fn abort_install(api: &Api, id: ServerId) -> Result<(), ApiError> {
    retry_on_conflict(|| async {
        let known = api.server_as_on_disk(id).await?;
        let at = api.context.clock.now();
        if admit_abort(known.snapshot.asked(at))? == Admitted::Already {
            return Ok(());
        }
        let new = NewRequest {
            id: api.context.ids.next(),
            at,
            expires_at: None,
            timeout: None,
            by: Requester::Cli,
            verb: Verb::Abort,
        };
        let revision = known.snapshot.revision;
        api.context.store.run(move |store| store.request(id, Some(revision), [new])).await?;
        Ok(())
    })
    .await
}

/// `POST /api/servers/{server}/sync`: fetches the panel's spec and writes it.
///
/// The response waits a moment for a running server's new limits, as the panel expects them to be effective then.
pub async fn sync(Started(api): Started, ServerPath(id): ServerPath) -> Result<StatusCode, ApiError> {
    let known = api.server(id)?;
    let sync = api.context.sync.as_ref().filter(|_| known.manifest.is_managed_by_panel());
    let Some(sync) = sync else {
        // The manifest is in a file, which is read when it changes.
        api.context.store.wake(id);
        return Ok(StatusCode::NO_CONTENT);
    };
    let fetched = sync.fetch(id).await?;
    let written = sync.apply(id, fetched, None).await?;
    if known.status.state != PowerState::Offline {
        let servers = &api.context.servers;
        servers.wait(id, wait::SYNC_FOR_LIMITS, || servers.has_converged(id, written.revision)).await;
    }
    Ok(StatusCode::NO_CONTENT)
}
