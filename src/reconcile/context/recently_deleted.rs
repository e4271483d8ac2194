//! Servers whose deletion ended while the panel's list was on its way: the list may still have them, and must not bring
//! them back. And whether the list is in force: until then nobody knows which servers the panel has given this node.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::ServerId;

/// Names and times of servers that are gone. Empty once the list is in force, and from then on.
#[derive(Debug)]
pub struct RecentlyDeleted {
    gone: Mutex<Option<BTreeMap<ServerId, Instant>>>,
    is_current: watch::Sender<bool>,
}

impl RecentlyDeleted {
    /// Nothing yet; and nothing ever where no list is `awaited`.
    pub fn until_listed(awaited: bool) -> Self {
        Self { gone: Mutex::new(awaited.then(BTreeMap::new)), is_current: watch::Sender::new(!awaited) }
    }

    /// A server is about to be forgotten. To be said before it is, so that whoever no longer finds it finds it here.
    pub fn add(&self, id: ServerId) {
        if let Some(gone) = &mut *self.gone.lock().unwrap_or_else(PoisonError::into_inner) {
            gone.insert(id, Instant::now());
        }
    }

    /// Whether a server was forgotten at this time or later.
    pub fn since(&self, id: ServerId, time: Instant) -> bool {
        self.gone_at(id).is_some_and(|at| at >= time)
    }

    /// Whether a server was forgotten while the list was on its way.
    pub fn has(&self, id: ServerId) -> bool {
        self.gone_at(id).is_some()
    }

    fn gone_at(&self, id: ServerId) -> Option<Instant> {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.as_ref().and_then(|gone| gone.get(&id)).copied()
    }

    /// Whether the panel's list is in force, or none is awaited.
    pub fn list_is_current(&self) -> bool {
        *self.is_current.borrow()
    }

    /// The list is in force; nobody asks any more.
    pub fn close(&self) {
        *self.gone.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.is_current.send_replace(true);
    }

    /// Waits for the list to be in force, for so long at most. Returns whether it is; it is where none is awaited.
    pub async fn listed(&self, limit: Duration) -> bool {
        let mut is_current = self.is_current.subscribe();
        matches!(tokio::time::timeout(limit, is_current.wait_for(|is_current| *is_current)).await, Ok(Ok(_)))
    }
}
