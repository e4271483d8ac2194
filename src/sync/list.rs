//! The panel's list of servers: fetched after the start of the daemon until it is there, then applied to the store. Servers of the
//! panel that the list does not name are parked, and the list is fetched again while there are any.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::{FetchedSpec, PanelSync, apply};
use crate::model::{Manifest, Reason, ServerId, Timestamp};
use crate::panel::{Listed, PanelError};
use crate::retry;
use crate::store::{Snapshot, StoreError};

/// The panel's list, and when it was fetched.
pub struct FetchedList {
    listed: Listed,
    asked_at: Timestamp,
    read_at: Timestamp,
}

impl FetchedList {
    /// The servers that it names.
    pub fn ids(&self) -> impl Iterator<Item = ServerId> {
        self.listed.servers.iter().map(|listed| listed.id)
    }
}

impl PanelSync {
    /// Fetches the list, however many attempts it takes. `failed` is called after each one that fails.
    pub async fn fetch_list(&self, failed: impl Fn(&PanelError)) -> FetchedList {
        let (mut failures, mut logged) = (0, String::new());
        loop {
            let (began_at, began) = (self.clock.now(), Instant::now());
            match self.panel.list().await {
                Ok(listed) => {
                    // Its oldest page may be from an earlier attempt.
                    let asked_at = began_at - began.saturating_duration_since(listed.asked);
                    return FetchedList { listed, asked_at, read_at: self.clock.now() };
                }
                Err(error) => {
                    failures += 1;
                    log_once(&error, &mut logged);
                    failed(&error);
                    let growth = if error.is_final() { retry::REJECTED } else { retry::PANEL };
                    tokio::time::sleep(retry::delay(growth, failures, &self.jitter).max(error.pause())).await;
                }
            }
        }
    }

    /// Fetches the list again while servers are parked, at growing intervals, and parks no longer those that it names: the panel may
    /// have answered with too few servers. Such a list neither creates nor parks a server.
    pub async fn follow_parked(self: &Arc<Self>) {
        for attempt in 1.. {
            if !self.store.list().iter().any(|snapshot| is_parked(snapshot)) {
                return;
            }
            tokio::time::sleep(retry::delay(retry::PARKED, attempt, &self.jitter)).await;
            let list = self.fetch_list(|_| ()).await;
            let sync = self.clone();
            self.store.run(move |_| sync.unpark(list)).await;
        }
    }

    fn unpark(&self, list: FetchedList) {
        let FetchedList { listed, asked_at, read_at } = list;
        for entry in listed.servers {
            let (Some(snapshot), Ok(server)) = (self.store.get(entry.id), entry.server) else { continue };
            if !is_parked(&snapshot) {
                continue;
            }
            match self.apply_listed(&snapshot, &FetchedSpec { server, asked_at, read_at }) {
                Ok(_) => tracing::info!(server.id = %entry.id, "the panel lists this server again"),
                Err(error) => {
                    tracing::error!(server.id = %entry.id, %error, "cannot apply the panel's list to this server");
                }
            }
        }
    }

    /// Applies the list to the store. `prepare` is called for each new server before it is published. Returns how many servers were
    /// changed.
    pub async fn apply_list(self: &Arc<Self>, list: FetchedList, prepare: impl Fn(ServerId) + Send + 'static) -> usize {
        let sync = self.clone();
        self.store.run(move |_| sync.apply_all(list, prepare)).await
    }

    fn apply_all(&self, list: FetchedList, prepare: impl Fn(ServerId)) -> usize {
        let FetchedList { listed: Listed { servers, asked, incomplete }, asked_at, read_at } = list;
        let (mut ids, mut new, mut changed) = (BTreeSet::new(), Vec::new(), 0);
        let mut count = |id, result| match result {
            Ok(has_changed) => changed += usize::from(has_changed),
            Err(error) => tracing::error!(server.id = %id, %error, "cannot apply the panel's list to this server"),
        };
        for entry in servers {
            let id = entry.id;
            ids.insert(id);
            let fetched = match entry.server {
                Ok(server) => FetchedSpec { server, asked_at, read_at },
                Err(message) => {
                    tracing::error!(server.id = %id, "the panel's configuration of this server cannot be read: {message}");
                    continue;
                }
            };
            match self.store.get(id) {
                None => {
                    let mut server = fetched.new_server(id);
                    server.requests.extend(self.store.start_left_by_wings(id));
                    new.push(server);
                }
                Some(snapshot) => count(id, self.apply_listed(&snapshot, &fetched)),
            }
        }
        // Checked as late as possible: a server may be removed while others are written.
        let removed = |id| self.removed_at(id).is_some_and(|at| at >= asked);
        let new = new.into_iter().filter(|new| !removed(new.manifest.metadata.uuid));
        let created = self.store.create_all(new, prepare);
        created.into_iter().for_each(|(id, created)| count(id, created.map(|_| true)));
        match incomplete {
            None => {
                self.store.forget_left_states();
                self.park(&ids, asked_at).into_iter().for_each(|(id, parked)| count(id, parked));
            }
            Some(reason) => {
                tracing::warn!(
                    "the panel's list may lack servers: {reason}; no server is parked because it is not in it"
                );
            }
        }
        changed
    }

    fn apply_listed(&self, snapshot: &Snapshot, fetched: &FetchedSpec) -> Result<bool, StoreError> {
        let id = snapshot.id;
        if snapshot.manifest.as_ref().is_some_and(|manifest| !manifest.is_managed_by_panel())
            || snapshot.is_being_deleted()
        {
            return Ok(false);
        }
        let mut changed = false;
        if snapshot.record.parked.is_some() {
            self.store.commit(id, |record| record.parked = None)?;
            self.store.wake(id);
            changed = true;
        }
        if !fetched.is_applied_to(snapshot) {
            let before = self.store.get(id).map(|snapshot| snapshot.revision);
            changed |= Some(apply(&self.store, id, fetched, None)?.revision) != before;
        }
        Ok(changed)
    }

    /// Parks the servers of the panel that it does not list: their files and containers stay as they are. One that was created while
    /// the list was fetched is not among them.
    fn park(&self, listed: &BTreeSet<ServerId>, asked_at: Timestamp) -> Vec<(ServerId, Result<bool, StoreError>)> {
        // Of a configuration that is dated in the future nothing follows: the clock was set back.
        let now = self.clock.now();
        let missing = |snapshot: &Arc<Snapshot>| {
            let of_panel = snapshot.manifest.as_deref().is_some_and(Manifest::is_managed_by_panel);
            let younger = snapshot.record.synced_at.is_some_and(|synced| asked_at <= synced && synced <= now);
            // The panel lists it once it knows that the server is here.
            let comes = snapshot.record.holding_transfer().is_some_and(|transfer| transfer.incoming().is_some());
            let known = listed.contains(&snapshot.id) || snapshot.record.parked.is_some() || comes;
            of_panel && !younger && !known && !snapshot.is_being_deleted()
        };
        let park = |snapshot: Arc<Snapshot>| {
            let parked = self.store.commit(snapshot.id, |record| record.parked = Some(asked_at)).map(|_| {
                let message = "the panel no longer lists this server; its files and containers are left as they are";
                self.store.event(snapshot.id, asked_at, Reason::Parked, message);
                self.store.wake(snapshot.id);
                true
            });
            (snapshot.id, parked)
        };
        self.store.list().into_iter().filter(missing).map(park).collect()
    }
}

/// Whether a server waits to be listed again.
fn is_parked(snapshot: &Snapshot) -> bool {
    snapshot.record.parked.is_some() && !snapshot.is_being_deleted()
}

/// Logs why the list cannot be fetched, unless it was logged just before.
fn log_once(error: &PanelError, logged: &mut String) {
    let message = error.to_string();
    if message == *logged {
        return;
    }
    if error.is_final() {
        tracing::error!(
            "{message}; check `token_id`, `token` and `remote` in config.yml against the node's page in the panel. The servers on disk are run meanwhile, and the panel is asked again every few minutes"
        );
    } else {
        tracing::warn!("{message}; the servers on disk are run meanwhile, and the panel is asked again");
    }
    *logged = message;
}

#[cfg(test)]
mod tests;
