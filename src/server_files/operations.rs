//! Work with files that takes long: what runs, how far it is, and its cancellation.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::model::ServerId;
use crate::progress::Progress;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// Files become an archive.
    Compress,
    /// An archive becomes files.
    Decompress,
    /// A file is fetched from the web.
    Pull,
    /// A file is copied.
    Copy,
    /// Files are removed.
    Remove,
}

/// The operations that run now.
#[derive(Default)]
pub struct Operations {
    running: Arc<Mutex<BTreeMap<Uuid, Arc<State>>>>,
}

struct State {
    server: ServerId,
    kind: OperationKind,
    progress: Progress,
}

/// An operation that runs. Dropped, it has ended.
pub struct Operation {
    id: Uuid,
    state: Arc<State>,
    running: Arc<Mutex<BTreeMap<Uuid, Arc<State>>>>,
}

/// What is known of an operation.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct OperationInfo {
    pub id: Uuid,
    pub kind: OperationKind,
    pub done: u64,
    /// `None` if it is not known.
    pub total: Option<u64>,
}

impl OperationInfo {
    /// The part that is done, from 0 to 1.
    pub fn progress(&self) -> f64 {
        // Rounding is of no importance.
        #[allow(clippy::cast_precision_loss)]
        match self.total {
            Some(total) if total > 0 => (self.done as f64 / total as f64).min(1.0),
            _ => 0.0,
        }
    }
}

/// As many operations of this kind run for the server as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} operations of this kind run already")]
pub struct TooMany(pub usize);

impl Operations {
    /// Begins an operation, if fewer than `most` of its kind run for the server.
    ///
    /// # Errors
    /// As many run.
    pub fn begin(&self, server: ServerId, kind: OperationKind, most: usize) -> Result<Operation, TooMany> {
        let mut running = lock(&self.running);
        let same = running.values().filter(|state| state.server == server && state.kind == kind);
        if same.count() >= most {
            return Err(TooMany(most));
        }
        let (id, state) = (Uuid::new_v4(), Arc::new(State::new(server, kind)));
        running.insert(id, state.clone());
        Ok(Operation { id, state, running: self.running.clone() })
    }

    /// The operations of a kind that run for a server.
    pub fn list(&self, server: ServerId, kind: OperationKind) -> Vec<OperationInfo> {
        let running = lock(&self.running);
        let same = running.iter().filter(|(_, state)| state.server == server && state.kind == kind);
        same.map(|(id, state)| state.info(*id)).collect()
    }

    /// Cancels an operation of a server. Whether it runs.
    pub fn cancel(&self, server: ServerId, id: Uuid) -> bool {
        let running = lock(&self.running);
        let found = running.get(&id).filter(|state| state.server == server);
        found.inspect(|state| state.cancel()).is_some()
    }

    /// Cancels all operations of a server.
    pub fn cancel_all(&self, server: ServerId) {
        lock(&self.running).values().filter(|state| state.server == server).for_each(|state| state.cancel());
    }
}

impl State {
    fn new(server: ServerId, kind: OperationKind) -> Self {
        Self { server, kind, progress: Progress::new() }
    }

    fn info(&self, id: Uuid) -> OperationInfo {
        let total = Some(self.progress.total()).filter(|total| *total > 0);
        OperationInfo { id, kind: self.kind, done: self.progress.done(), total }
    }

    fn cancel(&self) {
        self.progress.cancel();
    }
}

impl Operation {
    /// Its id, which callers cancel it by.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// How far it is, and its cancellation.
    pub fn progress(&self) -> &Progress {
        &self.state.progress
    }

    /// Set when it is cancelled, for blocking work.
    pub fn cancelled(&self) -> &AtomicBool {
        self.state.progress.cancelled()
    }

    /// Cancelled with it, for asynchronous work.
    pub fn token(&self) -> &CancellationToken {
        self.state.progress.token()
    }

    /// Sets how much there is to do, in bytes.
    pub fn set_total(&self, total: u64) {
        self.state.progress.set_total(total);
    }

    /// Notes that more is done, in bytes.
    pub fn advance(&self, bytes: u64) {
        self.state.progress.add(bytes);
    }

    /// Cancels it when the guard is dropped.
    pub fn cancel(&self) {
        self.state.cancel();
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        lock(&self.running).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn operations_are_limited_listed_and_cancelled() {
        let operations = Operations::default();
        let (one, two) = (ServerId::new(Uuid::from_u128(1)), ServerId::new(Uuid::from_u128(2)));
        let first = operations.begin(one, OperationKind::Pull, 2).unwrap();
        let second = operations.begin(one, OperationKind::Pull, 2).unwrap();
        assert_eq!(operations.begin(one, OperationKind::Pull, 2).err(), Some(TooMany(2)));
        drop(operations.begin(two, OperationKind::Pull, 2).unwrap());
        drop(operations.begin(one, OperationKind::Copy, 1).unwrap());
        first.set_total(200);
        first.advance(50);
        first.advance(50);
        let found = operations.list(one, OperationKind::Pull);
        let progress: Vec<f64> = found.iter().map(OperationInfo::progress).collect();
        assert!(progress.contains(&0.5) && progress.contains(&0.0), "{progress:?}");
        assert!(!operations.cancel(two, first.id()), "of another server");
        assert!(operations.cancel(one, first.id()));
        assert!(first.token().is_cancelled() && first.cancelled().load(Ordering::Relaxed));
        assert!(!second.token().is_cancelled());
        drop(first);
        operations.cancel_all(one);
        assert!(second.token().is_cancelled());
        drop(second);
        assert!(operations.list(one, OperationKind::Pull).is_empty());
    }
}
