//! `/api/servers`: handlers, one file for each kind of thing they do.

mod create;
mod install;
mod output;
mod power;
mod read;
mod remove;

use std::sync::Arc;

use super::{Api, ApiError};
use crate::model::{ContainerState, ContainerStatus, Manifest, Role, ServerId, Status, Timestamp};
use crate::reconcile::refresh::refresh;
use crate::requests::admission::AdmissionContext;
use crate::store::{Snapshot, StoreError};
use crate::sync::InstallPermit;

pub use create::create;
pub use install::{abort_install, install, reinstall, request_install, sync};
pub use output::{install_logs, logs};
pub use power::{commands, deny_tokens, power, power_verb, request_power};
pub use read::{get, list};
pub use remove::{delete, request_deletion};

impl Api {
    /// The server that a path names, if the API knows it.
    ///
    /// # Errors
    /// 404.
    pub(super) fn server(&self, name: &str) -> Result<Known, ApiError> {
        let id: ServerId = name.parse().map_err(|_| ApiError::no_server())?;
        let snapshot = self.context.store.get(id).filter(|snapshot| snapshot.is_listed());
        let snapshot = snapshot.ok_or_else(ApiError::no_server)?;
        let manifest = snapshot.manifest.clone().ok_or_else(ApiError::no_server)?;
        let status = self.context.store.status(id).unwrap_or_else(|| Arc::new(Status::new(id)));
        let servers = &self.context.servers;
        let container = servers.cached(id, Role::Server);
        let seen = container.is_some();
        let start_fails = servers.start_fails(id)
            || container.flatten().is_some_and(|container| self.has_ended(&snapshot, &container));
        Ok(Known { id, snapshot, manifest, status, seen, start_fails })
    }
}

impl Api {
    /// Whether a container has ended that ran for the power request that counts.
    fn has_ended(&self, snapshot: &Snapshot, container: &ContainerStatus) -> bool {
        let power = snapshot.asked(self.context.clock.now()).power();
        let ended = matches!(container.state, ContainerState::Exited { .. });
        ended && power.is_some_and(|power| snapshot.record.serving(container) == Some(power.id.as_str()))
    }

    /// As [`Api::server`], once its files were looked at: what a person has just changed is accepted before a later request.
    ///
    /// # Errors
    /// 404.
    pub(super) async fn server_as_on_disk(&self, name: &str) -> Result<Known, ApiError> {
        let known = self.server(name)?;
        let id = known.id;
        if let Err(error) = refresh(&self.context.store, self.context.clock, id).await {
            // A disk that takes no more must not keep anybody from stopping a server.
            tracing::debug!(server.id = %id, "decided on what was known: {error}");
        }
        self.server(name)
    }

    /// Waits for a reset of the panel's flags. None begins while the permit is held, so hold it while a request to install is accepted.
    async fn permit_install(&self) -> Option<InstallPermit<'_>> {
        self.context.sync.as_ref()?.permit_install().await
    }
}

/// How often a decision is made anew because somebody else wrote in between.
const CONFLICT_ATTEMPTS: u32 = 20;

/// Decides and writes; and again, on what is so then, when somebody else wrote in between.
async fn decide_again<F: Future<Output = Result<(), ApiError>>>(attempt: impl Fn() -> F) -> Result<(), ApiError> {
    for _ in 1..CONFLICT_ATTEMPTS {
        match attempt().await {
            Err(ApiError::Store(StoreError::Conflict { .. })) => {}
            result => return result,
        }
    }
    attempt().await
}

/// A server that the API knows, at one moment.
pub(super) struct Known {
    /// Its name.
    pub id: ServerId,
    /// Intent and facts; what a change is based on.
    pub snapshot: Arc<Snapshot>,
    /// The intent in force.
    pub manifest: Arc<Manifest>,
    /// What was seen last.
    pub status: Arc<Status>,
    /// Its container was looked at, and nothing has happened to it since.
    pub seen: bool,
    /// A start has failed and is tried again, or what it started has ended.
    pub start_fails: bool,
}

impl Known {
    /// What the admission of a request depends on.
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
