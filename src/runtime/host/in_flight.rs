//! Work that several callers wait for at the same time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;
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
    // Its waiters are woken in the order in which they came.
    result: Shared<oneshot::Receiver<T>>,
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self { running: Mutex::default() }
    }
}

impl<T: Clone> InFlight<T> {
    /// The running work of this key, or new one. `begin` starts it, and must not wait for it.
    pub fn join(&self, key: &str, begin: impl FnOnce(oneshot::Sender<T>)) -> Running<T> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, work| work.result.clone().now_or_never().is_none());
        if let Some(work) = running.get(key) {
            return work.clone();
        }
        let (sender, result) = oneshot::channel();
        let work = Running { since: Instant::now(), result: result.shared() };
        running.insert(key.to_owned(), work.clone());
        begin(sender);
        work
    }
}

impl<T: Clone> Running<T> {
    /// Waits for the result. `None` if the work ended without one.
    pub async fn result(self) -> Option<T> {
        self.result.await.ok()
    }
}
