//! `POST /api/servers`: the panel wants a server to exist.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;

use crate::api::request::Sent;
use crate::api::{Api, ApiError, body};
use crate::model::{ManagedBy, Record, Requester, ServerId, Verb};
use crate::reconcile::refresh::refresh;
use crate::requests::NewRequest;
use crate::store::{NewServer, Snapshot, Store, StoreError};
use crate::sync::{self, FetchedSpec, new_manifest};

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    uuid: String,
    #[serde(default)]
    start_on_completion: bool,
}

/// Fetches the configuration, writes the record, answers 202. Asked again, it answers the same and does nothing.
pub async fn create(State(api): State<Arc<Api>>, body: Sent) -> Result<StatusCode, ApiError> {
    let wanted: Wanted = body::object(&body)?;
    let id: Option<ServerId> = wanted.uuid.parse().ok().filter(ServerId::is_v4);
    let id = id.ok_or_else(|| {
        let message = "The data provided in the request could not be validated.";
        ApiError::worded(StatusCode::UNPROCESSABLE_ENTITY, message)
    })?;
    if api.context.store.get(id).is_some() {
        // This answer accepts a request like any other, although nothing is written for it.
        let _permit = api.permit_install().await;
        // What a person has just changed is accepted before the panel's later request.
        refresh(&api.context.store, api.context.clock, id).await?;
        if api.context.store.get(id).is_some_and(|snapshot| is_under_way(&snapshot)) {
            return Ok(StatusCode::ACCEPTED);
        }
    }
    let Some(sync) = &api.context.sync else {
        return Err(ApiError::Failed(format!(
            "{id} was asked for through the API, but no panel is configured to fetch it from; set `remote` in config.yml"
        )));
    };
    let fetched = sync.fetch(id).await?;
    let install = NewRequest {
        id: api.context.ids.next(),
        at: fetched.asked_at,
        expires_at: None,
        by: Requester::Panel,
        verb: Verb::Install { reinstall: false, then_start: wanted.start_on_completion },
    };
    let _permit = api.permit_install().await;
    api.context.store.run(move |store| write(store, id, &install, &fetched)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Whether the server is known and its installation was asked for. One that is known from the panel's list alone, which may
/// have been read between the panel's entry and this request, still has to be installed.
fn is_under_way(snapshot: &Snapshot) -> bool {
    let installed = snapshot.record.install.done.is_some()
        || snapshot.requests.accepted.iter().any(|request| matches!(request.verb, Verb::Install { .. }));
    let by_file = snapshot.manifest.as_ref().is_some_and(|manifest| manifest.metadata.managed_by == ManagedBy::File);
    snapshot.is_listed() && (installed || by_file)
}

/// Writes a server that is new, known from the list alone, was parked, or is still being deleted.
fn write(store: &Store, id: ServerId, install: &NewRequest, fetched: &FetchedSpec) -> Result<(), StoreError> {
    loop {
        match attempt(store, id, install, fetched) {
            Ok(false) => {}
            // Another writer has changed it, or its deletion has just come to its end.
            Err(StoreError::Exists(_) | StoreError::Conflict { .. } | StoreError::Unknown(_)) => {}
            result => return result.map(drop),
        }
    }
}

/// The requests of a server that exists and that its panel has created: a start that was asked for before does not follow the
/// installation.
fn as_new(before: &Snapshot, install: &NewRequest) -> Vec<NewRequest> {
    let up = before.asked(install.at).power().is_some_and(|power| power.verb.wants_up());
    let stop = NewRequest { id: format!("{}-stop", install.id), verb: Verb::Stop, ..install.clone() };
    up.then_some(stop).into_iter().chain([install.clone()]).collect()
}

/// One attempt; `false` if what it was decided by is no longer so.
fn attempt(store: &Store, id: ServerId, install: &NewRequest, fetched: &FetchedSpec) -> Result<bool, StoreError> {
    let Some(before) = store.get(id) else {
        let NewServer { manifest, record, .. } = fetched.new_server(id);
        return store.create(manifest, record, [install.clone()]).map(|_| true);
    };
    if is_under_way(&before) {
        // Another caller was faster with the same request.
        return Ok(true);
    }
    if before.is_listed() {
        // Known from the panel's list alone. A list that was asked for later has the newer configuration, which stands.
        let before = sync::apply(store, id, fetched, None)?;
        return store.request(id, Some(before.revision), as_new(&before, install)).map(|_| true);
    }
    let synced = |record: &mut Record| {
        record.parked = None;
        fetched.note_in(record);
    };
    store.replace(id, new_manifest(id, fetched.server.clone()), synced, as_new(&before, install))?;
    // Nothing is replaced if the panel's list has brought the server back in this moment.
    Ok(store.get(id).is_none_or(|after| !after.is_listed() || is_under_way(&after)))
}
