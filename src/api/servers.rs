//! Handlers of `/api/servers`.

pub mod backups;
mod create;
mod install;
mod output;
mod power;
mod read;
mod remove;
pub mod restore;
pub mod transfer;

use std::sync::Arc;

use super::{Api, ApiError};
use crate::model::{ContainerState, ContainerStatus, Manifest, Role, ServerId, Status, Timestamp};
use crate::reconcile::refresh::refresh;
use crate::requests::admission::AdmissionContext;
use crate::store::{Snapshot, StoreError};
use crate::sync::InstallPermit;

pub use create::create;
pub use install::{abort_install, install, reinstall, request_install, sync};
pub use output::{install_logs, last_lines, logs};
pub use power::{Wanted, commands, power, power_verb, request_power, run_command};
pub use read::{get, list};
pub use remove::{delete, request_deletion};

impl Api {
    /// The snapshot of the server with this id.
    ///
    /// # Errors
    /// 404 if there is none, or its panel does not list it.
    pub(super) fn listed(&self, id: ServerId) -> Result<Arc<Snapshot>, ApiError> {
        let snapshot = self.context.store.get(id).filter(|snapshot| snapshot.is_listed());
        snapshot.ok_or_else(ApiError::no_server)
    }

    /// The server with this id.
    ///
    /// # Errors
    /// 404 if there is none, or its panel does not list it.
    pub(super) fn server(&self, id: ServerId) -> Result<Known, ApiError> {
        let snapshot = self.listed(id)?;
        let manifest = snapshot.manifest.clone().ok_or_else(ApiError::no_server)?;
        let status = self.context.store.status(id).unwrap_or_else(|| Arc::new(Status::new(id)));
        let servers = &self.context.servers;
        let container = servers.cached(id, Role::Server);
        let seen = container.is_some();
        let start_fails = servers.start_fails(id)
            || container.flatten().is_some_and(|container| self.has_ended(&snapshot, &container));
        Ok(Known { id, snapshot, manifest, status, seen, start_fails })
    }

    /// Whether the container that the current power request has started has ended.
    fn has_ended(&self, snapshot: &Snapshot, container: &ContainerStatus) -> bool {
        let power = snapshot.asked(self.context.clock.now()).power();
        let ended = matches!(container.state, ContainerState::Exited { .. });
        ended && power.is_some_and(|power| snapshot.record.serving(container) == Some(power.id.as_str()))
    }

    /// As [`Api::server`], after its files were read again, so that an edit is accepted before a later request.
    ///
    /// # Errors
    /// As [`Api::server`].
    pub(super) async fn server_as_on_disk(&self, id: ServerId) -> Result<Known, ApiError> {
        self.server(id)?;
        if let Err(error) = refresh(&self.context.store, self.context.clock, id).await {
            // A full disk must not prevent a stop.
            tracing::debug!(server.id = %id, %error, "server not read again; the known state decides");
        }
        self.server(id)
    }

    /// Waits for a reset of the panel's flags. None begins while the permit is held, so hold it while a request to install is accepted.
    async fn permit_install(&self) -> Option<InstallPermit<'_>> {
        self.context.sync.as_ref()?.permit_install().await
    }
}

/// Attempts to write a decision that other writers make obsolete.
const MAX_ATTEMPTS: u32 = 20;

/// Repeats an attempt that has failed because another writer has changed the server meanwhile.
async fn retry_on_conflict<F: Future<Output = Result<(), ApiError>>>(attempt: impl Fn() -> F) -> Result<(), ApiError> {
    for _ in 1..MAX_ATTEMPTS {
        match attempt().await {
            Err(ApiError::Store(StoreError::Conflict { .. })) => {}
            result => return result,
        }
    }
    attempt().await
}

/// A server at one moment.
pub(super) struct Known {
    pub id: ServerId,
    /// A write is rejected if the snapshot is no longer current.
    pub snapshot: Arc<Snapshot>,
    /// The effective manifest.
    pub manifest: Arc<Manifest>,
    pub status: Arc<Status>,
    /// The cached state of its container is current.
    pub seen: bool,
    /// A start has failed and is tried again, or the container that it started has ended.
    pub start_fails: bool,
}

impl Known {
    /// The input of admission.
    pub fn context(&self, now: Timestamp) -> AdmissionContext<'_> {
        AdmissionContext {
            manifest: &self.manifest,
            asked: self.snapshot.asked(now),
            state: self.status.state,
            seen: self.seen,
            start_fails: self.start_fails,
        }
    }
}
