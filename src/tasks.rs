//! Spawns tasks and threads. No other module does.
//!
//! Each task has a name, is tracked until it ends, and runs in the span of its caller. A panic is logged with the name and ends
//! that task only. [`Tasks::shutdown`] ends all tasks in order: first the ordinary ones, which are dropped at an await, then those
//! that have something to write ([`Tasks::spawn_graceful`]). At the deadline it aborts and logs the remaining ones.

mod blocking;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub use blocking::Blocking;

/// All tasks of the daemon; clones share them.
#[derive(Clone, Default)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    ordinary: TaskTracker,
    graceful: TaskTracker,
    drop_ordinary: CancellationToken,
    stop_graceful: CancellationToken,
    registry: Mutex<Registry>,
}

/// The running tasks.
#[derive(Default)]
struct Registry {
    next: u64,
    closed: bool,
    running: BTreeMap<u64, Entry>,
}

struct Entry {
    name: Cow<'static, str>,
    /// `None` until the task is spawned.
    abort: Option<AbortHandle>,
}

/// A task. Dropping the handle does not end it.
#[derive(Debug)]
pub struct TaskHandle {
    join: JoinHandle<()>,
}

impl TaskHandle {
    /// Aborts the task at its next await.
    pub fn abort(&self) {
        self.join.abort();
    }

    /// Whether the task has completed, panicked or was aborted.
    pub fn is_finished(&self) -> bool {
        self.join.is_finished()
    }

    /// Waits until the task has completed, panicked or was aborted.
    pub async fn finished(self) {
        // An error means that the task was aborted; panics are caught and logged.
        let _ = self.join.await;
    }
}

impl Tasks {
    /// A registry without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that may be dropped at any await: its work must be repeatable. Must be called in a tokio runtime. After the
    /// start of the shutdown the future is dropped.
    pub fn spawn(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> TaskHandle {
        let dropped = self.inner.drop_ordinary.clone();
        let future = async move {
            tokio::select! {
                biased;
                () = dropped.cancelled() => {}
                () = future => {}
            }
        };
        self.track(&self.inner.ordinary, name.into(), future)
    }

    /// Starts a task that ends by itself soon after its token is cancelled. The shutdown cancels it after all ordinary tasks have
    /// ended.
    pub fn spawn_graceful<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: impl Into<Cow<'static, str>>,
        work: impl FnOnce(CancellationToken) -> F,
    ) -> TaskHandle {
        let future = work(self.inner.stop_graceful.clone());
        self.track(&self.inner.graceful, name.into(), future)
    }

    fn track(
        &self,
        tracker: &TaskTracker,
        name: Cow<'static, str>,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> TaskHandle {
        let (id, closed) = {
            let mut registry = self.registry();
            let id = registry.next;
            registry.next += 1;
            registry.running.insert(id, Entry { name: name.clone(), abort: None });
            (id, registry.closed)
        };
        let entry = Unregister { tasks: self.clone(), id };
        let run = async move {
            let _entry = entry;
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                tracing::error!(task = %name, panic = panic_text(panic.as_ref()), "task panicked (bug, please report)");
            }
        };
        let join = tracker.spawn(run.in_current_span());
        if closed {
            join.abort();
        }
        if let Some(entry) = self.registry().running.get_mut(&id) {
            entry.abort = Some(join.abort_handle());
        }
        TaskHandle { join }
    }

    /// The names of the running tasks, oldest first.
    pub fn running(&self) -> Vec<String> {
        self.registry().running.values().map(|entry| entry.name.to_string()).collect()
    }

    /// Ends all tasks: the ordinary ones, then the graceful ones. Returns the names of the tasks that it aborted at the deadline.
    /// No task can be started afterwards.
    pub async fn shutdown(&self, deadline: Duration) -> Vec<String> {
        let Inner { ordinary, graceful, drop_ordinary, stop_graceful, .. } = &*self.inner;
        let orderly = async {
            drop_ordinary.cancel();
            ordinary.close();
            ordinary.wait().await;
            stop_graceful.cancel();
            graceful.close();
            graceful.wait().await;
        };
        if tokio::time::timeout(deadline, orderly).await.is_ok() {
            self.registry().closed = true;
            return Vec::new();
        }
        let late = self.running();
        tracing::warn!(tasks = ?late, ?deadline, "tasks did not end in time and are aborted");
        self.abort_all();
        late
    }

    /// Aborts all tasks, as a crash would. No task can be started afterwards.
    pub fn abort_all(&self) {
        self.inner.drop_ordinary.cancel();
        let mut registry = self.registry();
        registry.closed = true;
        let handles: Vec<_> = registry.running.values().rev().filter_map(|entry| entry.abort.clone()).collect();
        // Release the lock first: an abort may unregister the task at once.
        drop(registry);
        handles.iter().for_each(AbortHandle::abort);
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.inner.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Unregisters a task when it ends or is dropped.
struct Unregister {
    tasks: Tasks,
    id: u64,
}

impl Drop for Unregister {
    fn drop(&mut self) {
        self.tasks.registry().running.remove(&self.id);
    }
}

/// The message of a panic.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests;
