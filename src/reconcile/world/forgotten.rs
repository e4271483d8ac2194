//! Servers whose deletion ended while the panel's list was on its way: the list may still have them, and must not bring
//! them back.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::model::ServerId;

/// Names and times of servers that are gone. Empty once the list is in force, and from then on.
#[derive(Debug)]
pub struct Forgotten(Mutex<Option<BTreeMap<ServerId, Instant>>>);

impl Forgotten {
    /// Nothing yet; and nothing ever where no list is `awaited`.
    pub fn until_listed(awaited: bool) -> Self {
        Self(Mutex::new(awaited.then(BTreeMap::new)))
    }

    /// A server is about to be forgotten. To be said before it is, so that whoever no longer finds it finds it here.
    pub fn add(&self, id: ServerId) {
        if let Some(gone) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            gone.insert(id, Instant::now());
        }
    }

    /// Whether a server was forgotten at this time or later.
    pub fn since(&self, id: ServerId, time: Instant) -> bool {
        let gone = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gone.as_ref().and_then(|gone| gone.get(&id)).is_some_and(|at| *at >= time)
    }

    /// Whether the panel's list is in force, or none is awaited.
    pub fn list_in_force(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// The list is in force; nobody asks any more.
    pub fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
