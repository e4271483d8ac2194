//! Installing again, and fetching the panel's word.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use http::StatusCode;

use super::decide_again;
use crate::api::admission::{Facts, admit_install};
use crate::api::request::ServerName;
use crate::api::{Api, ApiError};
use crate::model::{How, InstallIntent, ManagedBy, Manifest, PowerIntent, PowerState, Want};
use crate::reconcile::jobs::{PanelWord, apply_sync, sync_with_retries};
use crate::reconcile::plan::open_wish;

/// `POST /api/servers/{server}/install`: as at creation, with the newest word of the panel.
pub async fn install(State(api): State<Arc<Api>>, ServerName(server): ServerName) -> Result<StatusCode, ApiError> {
    write_install(&api, &server, false).await
}

/// `POST /api/servers/{server}/reinstall`: the same, reported as a reinstallation.
pub async fn reinstall(State(api): State<Arc<Api>>, ServerName(server): ServerName) -> Result<StatusCode, ApiError> {
    write_install(&api, &server, true).await
}

async fn write_install(api: &Api, server: &str, reinstall: bool) -> Result<StatusCode, ApiError> {
    let _gate = api.world.reset_gate.wish().await;
    decide_again(|| try_install(api, server, reinstall)).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn try_install(api: &Api, server: &str, reinstall: bool) -> Result<(), ApiError> {
    let known = api.server_as_on_disk(server).await?;
    let now = api.world.clock.now();
    let record = &known.snapshot.record;
    let facts = Facts { manifest: &known.manifest, record, status: &known.status, seen: known.seen, now };
    admit_install(facts, reinstall)?;
    let install = InstallIntent {
        token: api.world.ids.next(),
        then_start: false,
        reinstall,
        skip_scripts: false,
        abort: false,
        timeout: None,
        requested_at: Some(now),
    };
    // The server stays down after it, unless its file is a person's and says otherwise.
    let up = open_wish(&known.manifest, record).is_some_and(|wish| wish.want == Want::Up)
        || known.status.state != PowerState::Offline;
    let down = (up && known.manifest.metadata.managed_by == ManagedBy::Panel).then(|| PowerIntent {
        id: api.world.ids.next(),
        want: Want::Down,
        how: How::Graceful,
        requested_at: Some(now),
        expires_at: None,
    });
    let (id, revision) = (known.id, known.snapshot.revision);
    let edit = move |manifest: &mut Manifest| {
        manifest.spec.install = Some(install);
        if down.is_some() {
            manifest.spec.power = down;
        }
    };
    api.world.store.run(move |store| store.change(id, Some(revision), edit)).await?;
    Ok(())
}

/// New limits of a running server are waited for this long.
const LIMITS_PATIENCE: Duration = Duration::from_secs(2);

/// `POST /api/servers/{server}/sync`: fetches the panel's configuration and writes it.
///
/// A running server's limits are in force when the panel has its answer, as it is used to; where the engine needs longer they
/// follow all the same.
pub async fn sync(State(api): State<Arc<Api>>, ServerName(server): ServerName) -> Result<StatusCode, ApiError> {
    let known = api.server(&server)?;
    let panel = api.world.panel.clone().filter(|_| known.manifest.metadata.managed_by == ManagedBy::Panel);
    let Some(panel) = panel else {
        // The file is the whole truth, and it is read when it changes.
        api.world.store.wake(known.id);
        return Ok(StatusCode::NO_CONTENT);
    };
    let asked_at = api.world.clock.now();
    let fetched = sync_with_retries(&api.world, &*panel, known.id).await?;
    let id = known.id;
    let word = PanelWord { server: fetched, asked_at, read_at: api.world.clock.now() };
    let written = api.world.store.run(move |store| apply_sync(store, id, &word, None)).await?;
    if known.status.state != PowerState::Offline {
        let revision = written.revision;
        api.world.rest_until(LIMITS_PATIENCE, || api.world.with_live(id, |live| live.rested >= revision)).await;
    }
    Ok(StatusCode::NO_CONTENT)
}
