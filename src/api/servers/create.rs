//! `POST /api/servers`: creates a server.

use http::StatusCode;
use serde::Deserialize;

use crate::api::request::RequestBody;
use crate::api::startup::Started;
use crate::api::{ApiError, body};
use crate::model::{ManagedBy, Record, Requester, ServerId, Verb};
use crate::reconcile::refresh::refresh;
use crate::requests::NewRequest;
use crate::store::{NewServer, Snapshot, Store, StoreError};
use crate::sync::{self, FetchedSpec, new_manifest};

#[derive(Deserialize)]
struct CreateBody {
    #[serde(default)]
    uuid: String,
    #[serde(default)]
    start_on_completion: bool,
}

/// Fetches the spec from the panel, writes the server, and answers 202. Repeated requests get the same answer and change nothing.
pub async fn create(Started(api): Started, body: RequestBody) -> Result<StatusCode, ApiError> {
    let wanted: CreateBody = body::object(&body)?;
    let id: Option<ServerId> = wanted.uuid.parse().ok().filter(ServerId::is_v4);
    let id = id.ok_or_else(|| {
        let message = "The data provided in the request could not be validated.";
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    })?;
    if api.context.store.get(id).is_some() {
        // The answer accepts an installation, although nothing is written.
        let _permit = api.permit_install().await;
        // An edit of the files is accepted before the panel's later request.
        refresh(&api.context.store, api.context.clock, id).await?;
        if let Some(snapshot) = api.context.store.get(id).filter(|snapshot| is_under_way(snapshot)) {
            if snapshot.record.install.done.as_ref().is_some_and(|done| done.reported) {
                report_again(&api.context.store, id).await?;
            }
            return Ok(StatusCode::ACCEPTED);
        }
    }
    let Some(sync) = &api.context.sync else {
        return Err(ApiError::Failed(format!(
            "cannot fetch the spec of server {id}: no panel is configured; set `remote` in config.yml"
        )));
    };
    let fetched = sync.fetch(id).await?;
    let install = NewRequest {
        id: api.context.ids.next(),
        at: fetched.asked_at,
        expires_at: None,
        timeout: None,
        by: Requester::Panel,
        verb: Verb::Install { reinstall: false, then_start: wanted.start_on_completion },
    };
    let _permit = api.permit_install().await;
    api.context.store.run(move |store| write(store, id, &install, &fetched)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The panel requests a server whose installation was reported: it waits for the result again.
async fn report_again(store: &Store, id: ServerId) -> Result<(), StoreError> {
    let unreported = |record: &mut Record| {
        if let Some(done) = &mut record.install.done {
            done.reported = false;
        }
    };
    store.commit_and_wake(id, unreported).await.map(drop)
}

/// Whether the server's installation was requested already. A server that was created from the panel's list still has to be installed:
/// the list may have been read between the panel's entry and this request.
fn is_under_way(snapshot: &Snapshot) -> bool {
    let installed = snapshot.record.install.done.is_some()
        || snapshot.requests.accepted.iter().any(|request| matches!(request.verb, Verb::Install { .. }));
    let by_file = snapshot.manifest.as_ref().is_some_and(|manifest| manifest.metadata.managed_by == ManagedBy::File);
    snapshot.is_listed() && (installed || by_file)
}

/// Writes a server that is new, was created from the list, is parked, or is still being deleted.
fn write(store: &Store, id: ServerId, install: &NewRequest, fetched: &FetchedSpec) -> Result<(), StoreError> {
    loop {
        match attempt(store, id, install, fetched) {
            Ok(false) => {}
            // Another writer has changed the server, or its deletion has just ended.
            Err(StoreError::Exists(_) | StoreError::Conflict { .. } | StoreError::Unknown(_)) => {}
            result => return result.map(drop),
        }
    }
}

/// The requests of a server that exists. An earlier start does not follow the installation.
fn install_requests(before: &Snapshot, install: &NewRequest) -> Vec<NewRequest> {
    let up = before.asked(install.at).power().is_some_and(|power| power.verb.wants_up());
    let stop = NewRequest { id: format!("{}-stop", install.id), verb: Verb::Stop, ..install.clone() };
    up.then_some(stop).into_iter().chain([install.clone()]).collect()
}

/// One attempt; `false` if the state that it was based on has changed.
fn attempt(store: &Store, id: ServerId, install: &NewRequest, fetched: &FetchedSpec) -> Result<bool, StoreError> {
    let Some(before) = store.get(id) else {
        let NewServer { manifest, record, .. } = fetched.new_server(id);
        return store.create(manifest, record, [install.clone()]).map(|_| true);
    };
    if is_under_way(&before) {
        // Another caller has written the same request.
        return Ok(true);
    }
    if before.is_listed() {
        // Created from the panel's list. A list that was requested later has the newer spec, which stays.
        let before = sync::apply(store, id, fetched, None)?;
        return store.request(id, Some(before.revision), install_requests(&before, install)).map(|_| true);
    }
    let synced = |record: &mut Record| {
        record.parked = None;
        fetched.note_in(record);
    };
    store.replace(id, new_manifest(id, fetched.server.clone()), synced, install_requests(&before, install))?;
    // Nothing is replaced if the panel's list has brought the server back meanwhile.
    Ok(store.get(id).is_none_or(|after| !after.is_listed() || is_under_way(&after)))
}
