//! Work that several callers wait for at the same time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

/// Work that runs, by key.
pub(super) struct InFlight<T> {
    running: Mutex<BTreeMap<String, Running<T>>>,
}

/// One piece of work. It goes on when no caller waits for it.
#[derive(Clone)]
pub(super) struct Running<T> {
    /// When it began.
    pub since: Instant,
    result: watch::Receiver<Option<T>>,
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self { running: Mutex::default() }
    }
}

impl<T: Clone> InFlight<T> {
    /// The running work of this key, or new one. `begin` starts it, and must not wait for it. The work holds the sender until it
    /// ends.
    pub fn join(&self, key: &str, begin: impl FnOnce(watch::Sender<Option<T>>)) -> Running<T> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, work| work.result.has_changed().is_ok());
        if let Some(work) = running.get(key) {
            return work.clone();
        }
        let (sender, result) = watch::channel(None);
        let work = Running { since: Instant::now(), result };
        running.insert(key.to_owned(), work.clone());
        begin(sender);
        work
    }
}

impl<T: Clone> Running<T> {
    /// Waits for the result. `None` if the work ended without one.
    pub async fn result(mut self) -> Option<T> {
        self.result.wait_for(Option::is_some).await.ok()?.clone()
    }
}
