//! The reset of the panel's flags, once after the start of the daemon.
//!
//! The panel ends "installing" and "restoring" for every server of the node. So a reset waits until neither is pending, and a request
//! that is accepted meanwhile waits for the reset: the panel would drop it otherwise.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::PanelSync;
use crate::model::{Manifest, Record, Timestamp};
use crate::retry;
use crate::store::Snapshot;
use crate::wait;

/// Requests that can be accepted at once.
const REQUESTS: u32 = 1024;

/// While it is held no reset begins.
pub type InstallPermit<'a> = SemaphorePermit<'a>;

/// Lets many requests through at once, or one reset. It is never closed.
pub(super) fn reset_lock() -> Semaphore {
    Semaphore::new(REQUESTS as usize)
}

impl PanelSync {
    /// Waits for a reset that is under way. Hold the permit while a request to install is accepted.
    pub async fn permit_install(&self) -> Option<InstallPermit<'_>> {
        self.reset_lock.acquire().await.ok()
    }

    /// Waits for requests to install that are being accepted. While the permit is held no other is accepted.
    pub async fn hold_back_installs(&self) -> Option<InstallPermit<'_>> {
        self.reset_lock.acquire_many(REQUESTS).await.ok()
    }

    /// Resets the panel's flags as soon as no installation is pending.
    pub async fn reset(&self) {
        let (mut held_since, mut failures) = (None, 0);
        loop {
            let lock = self.hold_back_installs().await;
            if self.store.list().iter().any(|snapshot| installing(snapshot, self.clock.now())) {
                if held_since.get_or_insert_with(Instant::now).elapsed() >= wait::RESET_HELD_BACK {
                    self.settle(false).await;
                }
                drop(lock);
                tokio::time::sleep(wait::RESET_CHECK).await;
                continue;
            }
            held_since = None;
            match tokio::time::timeout(wait::RESET, self.panel.reset()).await {
                Ok(Ok(())) => return self.settle(true).await,
                Ok(Err(error)) if error.is_final() => {
                    tracing::warn!(%error, "the panel rejected the reset of its flags");
                    return self.settle(false).await;
                }
                failed => {
                    drop(lock);
                    failures += 1;
                    let pause = failed.ok().and_then(Result::err).map_or(Duration::ZERO, |error| error.pause());
                    tokio::time::sleep(retry::delay(retry::PANEL, failures, &self.jitter).max(pause)).await;
                }
            }
        }
    }

    /// Clears `reset_owed` of the servers whose record was lost, after the panel's flags were reset or not. A reset ends "installing"
    /// on the panel and leaves "install failed" as it is, so nothing else follows. Without a reset the assumed result becomes one
    /// that is to be reported.
    async fn settle(&self, is_reset: bool) {
        let owed = |snapshot: &Arc<Snapshot>| snapshot.record.install.reset_owed;
        for snapshot in self.store.list().into_iter().filter(owed) {
            let of_panel = snapshot.manifest.as_deref().is_some_and(Manifest::is_managed_by_panel);
            let listed = of_panel && snapshot.record.parked.is_none();
            if !is_reset && (!listed || installing(&snapshot, self.clock.now())) {
                // The panel does not list the server, or gets the result of a later installation.
                continue;
            }
            let id = snapshot.id;
            let settled = move |record: &mut Record| {
                // A later installation may have ended since.
                if std::mem::take(&mut record.install.reset_owed)
                    && let Some(done) = record.install.done.as_mut()
                {
                    done.reported &= is_reset;
                }
            };
            match self.store.run(move |store| store.commit(id, settled)).await {
                Ok(_) => self.store.wake(id),
                Err(error) if is_reset => {
                    tracing::warn!(server.id = %id, %error, "cannot record the panel's reset; it is sent again after the next start");
                }
                Err(error) => {
                    tracing::debug!(server.id = %id, %error, "cannot record the assumed result; trying again")
                }
            }
        }
    }
}

fn installing(snapshot: &Snapshot, now: Timestamp) -> bool {
    let record = &snapshot.record;
    if record.parked.is_some() || !snapshot.wanted() {
        return false;
    }
    // The panel shows it as being restored until it has the result.
    let restoring = record.restore.as_ref().is_some_and(|restore| !restore.reported);
    restoring || record.install.unreported().is_some() || snapshot.asked(now).install().is_some()
}

#[cfg(test)]
mod tests;
