//! Panel and node agree: specs are fetched from the panel and applied to the store, its list of servers decides what is parked, and
//! states and install results are reported to it until it acknowledges them.
//!
//! API, reconciler and controller share one [`PanelSync`]. A node without a panel has none.

mod list;
mod reports;
mod reset;
mod spec;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::model::{Script, ServerId};
use crate::panel::{Panel, PanelError, QUESTIONS};
use crate::retry::{self, Jitter};
use crate::store::{Snapshot, Store, StoreError};
use crate::wait;

pub use list::FetchedList;
pub use reports::ReportError;
pub use reset::InstallPermit;
pub use spec::{FetchedSpec, apply, new_manifest};

/// Concurrent calls of background jobs. Some of the panel's are left to requests: after a boot with 500 starts a request must not
/// wait behind them.
const JOB_QUESTIONS: usize = QUESTIONS - 2;

/// The panel protocol of one node.
pub struct PanelSync {
    panel: Arc<dyn Panel>,
    store: Store,
    clock: Clock,
    jitter: Arc<Jitter>,
    questions: Semaphore,
    reset_lock: Semaphore,
    /// When servers were removed since the daemon started: a list that was fetched before must not bring them back. `None` once the
    /// list is applied.
    removed: watch::Sender<Option<BTreeMap<ServerId, Instant>>>,
    /// A call to the panel has failed since the last one that was answered.
    unresponsive: AtomicBool,
    reports: Mutex<BTreeMap<ServerId, reports::Pending>>,
    reports_changed: watch::Sender<()>,
}

impl PanelSync {
    /// The protocol between this store and this panel, before the panel's list is applied.
    pub fn new(panel: Arc<dyn Panel>, store: Store, clock: Clock, jitter: Arc<Jitter>) -> Self {
        Self {
            panel,
            store,
            clock,
            jitter,
            questions: Semaphore::new(JOB_QUESTIONS),
            reset_lock: reset::reset_lock(),
            removed: watch::Sender::new(Some(BTreeMap::new())),
            unresponsive: AtomicBool::new(false),
            reports: Mutex::default(),
            reports_changed: watch::Sender::new(()),
        }
    }

    /// The panel, for calls that only one operation makes.
    pub fn panel(&self) -> &dyn Panel {
        self.panel.as_ref()
    }

    /// Fetches a server's configuration for a request, within [`wait::PANEL_ANSWER`].
    ///
    /// # Errors
    /// The last attempt's error.
    pub async fn fetch(&self, id: ServerId) -> Result<FetchedSpec, PanelError> {
        self.with_retries(id, || self.fetch_once(id)).await
    }

    /// Fetches a server's configuration for a start, which goes on without it after [`wait::PANEL_ANSWER`].
    ///
    /// # Errors
    /// The last attempt's error.
    pub async fn fetch_for_start(&self, id: ServerId) -> Result<FetchedSpec, PanelError> {
        self.with_retries(id, || self.fetch_for_install(id)).await
    }

    /// Fetches a server's configuration for an installation: one attempt, as long as the panel's own timeout.
    ///
    /// # Errors
    /// The attempt's error.
    pub async fn fetch_for_install(&self, id: ServerId) -> Result<FetchedSpec, PanelError> {
        let _permit = self.questions.acquire().await;
        self.fetch_once(id).await
    }

    /// Fetches a server's install script in one attempt.
    ///
    /// # Errors
    /// The attempt's error.
    pub async fn fetch_script(&self, id: ServerId) -> Result<Script, PanelError> {
        let _permit = self.questions.acquire().await;
        self.panel.script(id).await
    }

    async fn fetch_once(&self, id: ServerId) -> Result<FetchedSpec, PanelError> {
        let asked_at = self.clock.now();
        let server = self.panel.server(id).await?;
        Ok(FetchedSpec { server, asked_at, read_at: self.clock.now() })
    }

    async fn with_retries<T, F>(&self, id: ServerId, attempt: impl FnMut() -> F) -> Result<T, PanelError>
    where
        F: Future<Output = Result<T, PanelError>>,
    {
        let limit = wait::PANEL_ANSWER;
        let fetched = retry::within(limit, retry::PANEL, &self.jitter, PanelError::pause_of_waiting, attempt).await;
        fetched
            .map_err(|error| error.unwrap_or_else(|| PanelError::Timeout { call: format!("GET /servers/{id}"), limit }))
    }

    /// Applies a fetched configuration to the store, see [`apply`].
    ///
    /// # Errors
    /// As [`apply`].
    pub async fn apply(
        &self,
        id: ServerId,
        fetched: FetchedSpec,
        start: Option<String>,
    ) -> Result<Arc<Snapshot>, StoreError> {
        self.store.run(move |store| apply(store, id, &fetched, start)).await
    }

    /// Call before removing the store entry, so a concurrent lookup finds the server in exactly one of the two.
    pub fn server_removed(&self, id: ServerId) {
        self.removed.send_modify(|removed| {
            if let Some(removed) = removed {
                removed.insert(id, Instant::now());
            }
        });
    }

    /// Whether a server was removed before the list was applied.
    pub fn was_removed(&self, id: ServerId) -> bool {
        self.removed_at(id).is_some()
    }

    fn removed_at(&self, id: ServerId) -> Option<Instant> {
        self.removed.borrow().as_ref().and_then(|removed| removed.get(&id)).copied()
    }

    /// Whether the panel's list was applied. Until then the panel may have servers of this node that the store does not know.
    pub fn list_is_applied(&self) -> bool {
        self.removed.borrow().is_none()
    }

    /// The panel's list was applied.
    pub fn list_applied(&self) {
        self.removed.send_replace(None);
    }

    /// Waits for the panel's list to be applied, for [`wait::DELETE_FOR_LIST`] at most. Returns whether it is.
    pub async fn wait_for_list(&self) -> bool {
        wait::until(self.removed.subscribe(), wait::DELETE_FOR_LIST, || self.list_is_applied()).await
    }

    /// Notes whether the panel answered a call. Returns whether it answers again after it did not: then failed calls are due.
    pub fn note_answer(&self, answered: bool) -> bool {
        let before = self.unresponsive.swap(!answered, Ordering::Relaxed);
        self.reports_changed.send_replace(());
        answered && before
    }

    /// Drops what is kept in memory of a server.
    pub fn forget(&self, id: ServerId) {
        self.pending().remove(&id);
    }
}

#[cfg(test)]
mod tests;
