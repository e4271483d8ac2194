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
use tokio::task::JoinHandle;
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
    drop_graceful: CancellationToken,
    names: Mutex<Names>,
}

/// The names of the running tasks, by number.
#[derive(Default)]
struct Names {
    next: u64,
    running: BTreeMap<u64, Cow<'static, str>>,
}

/// A task. Dropping the handle does not end it. Panics are caught, so waiting for it fails only if it was aborted.
pub type TaskHandle = JoinHandle<()>;

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
        self.track(&self.inner.ordinary, &self.inner.drop_ordinary, name.into(), future)
    }

    /// Starts a task that ends by itself soon after its token is cancelled. The shutdown cancels it after all ordinary tasks have
    /// ended.
    pub fn spawn_graceful<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: impl Into<Cow<'static, str>>,
        work: impl FnOnce(CancellationToken) -> F,
    ) -> TaskHandle {
        let future = work(self.inner.stop_graceful.clone());
        self.track(&self.inner.graceful, &self.inner.drop_graceful, name.into(), future)
    }

    fn track(
        &self,
        tracker: &TaskTracker,
        dropped: &CancellationToken,
        name: Cow<'static, str>,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> TaskHandle {
        let mut names = self.names();
        names.next += 1;
        let entry = Entry { tasks: self.clone(), number: names.next };
        names.running.insert(entry.number, name.clone());
        drop(names);
        let dropped = dropped.clone();
        let run = async move {
            let _entry = entry;
            let work = async {
                // In this order: a task that is dropped must not go on for another poll.
                tokio::select! {
                    biased;
                    () = dropped.cancelled() => {}
                    () = future => {}
                }
            };
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                tracing::error!(task = %name, panic = panic_text(panic.as_ref()), "task panicked (bug, please report)");
            }
        };
        tracker.spawn(run.in_current_span())
    }

    /// The names of the running tasks, oldest first.
    pub fn running(&self) -> Vec<String> {
        self.names().running.values().map(ToString::to_string).collect()
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
        let late = match tokio::time::timeout(deadline, orderly).await {
            Ok(()) => Vec::new(),
            Err(_) => self.running(),
        };
        if !late.is_empty() {
            tracing::warn!(tasks = ?late, ?deadline, "tasks did not end in time and are aborted");
        }
        self.abort_all();
        late
    }

    /// Aborts all tasks, as a crash would. No task can be started afterwards.
    pub fn abort_all(&self) {
        self.inner.drop_ordinary.cancel();
        self.inner.drop_graceful.cancel();
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.inner.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of a task, until it ends or is dropped.
struct Entry {
    tasks: Tasks,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tasks.names().running.remove(&self.number);
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
