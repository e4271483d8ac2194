//! The one place that spawns tasks and threads.
//!
//! Whoever needs something done beside itself gives a name and a future to [`Tasks::spawn`]. Each task is tracked
//! until it ends, and carries the span in which it was started; a panic in one is logged with its name and ends that task alone. [`Tasks::shutdown`] ends them all
//! in order: first the ordinary ones, which are dropped where they wait, then those that have something to write
//! down ([`Tasks::spawn_graceful`]), and what is still there at the deadline is aborted and named.

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

/// A handle on all tasks of the daemon; all clones are the same.
#[derive(Clone, Default)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    ordinary: TaskTracker,
    graceful: TaskTracker,
    /// Ends the ordinary tasks.
    drop_ordinary: CancellationToken,
    /// Asks the graceful ones to end.
    stop_graceful: CancellationToken,
    book: Mutex<Book>,
}

/// Who runs.
#[derive(Default)]
struct Book {
    next: u64,
    closed: bool,
    running: BTreeMap<u64, Entry>,
}

struct Entry {
    name: Cow<'static, str>,
    /// `None` for the moment between the entry and the spawn.
    abort: Option<AbortHandle>,
}

/// One task. Dropping the handle leaves the task alone.
#[derive(Debug)]
pub struct TaskHandle {
    join: JoinHandle<()>,
}

impl TaskHandle {
    /// Ends the task where it waits; it is dropped at its next turn.
    pub fn abort(&self) {
        self.join.abort();
    }

    /// Whether the task has ended, in whatever way.
    pub fn is_finished(&self) -> bool {
        self.join.is_finished()
    }

    /// Waits until the task has ended, in whatever way.
    pub async fn finished(self) {
        // The error says that the task was aborted; panics were logged where they happened.
        let _ = self.join.await;
    }
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that may be dropped at any await: what it does is repeated or taken up again by whoever comes
    /// later. Must be called inside a tokio runtime. Once the shutdown has begun the future is dropped.
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

    /// Starts a task that ends by itself soon after the token it is given is cancelled. The shutdown cancels it once
    /// all ordinary tasks have ended.
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
            let mut book = self.book();
            let id = book.next;
            book.next += 1;
            book.running.insert(id, Entry { name: name.clone(), abort: None });
            (id, book.closed)
        };
        let entry = Strike { tasks: self.clone(), id };
        let run = async move {
            let _entry = entry;
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                tracing::error!(task = %name, panic = panic_text(panic.as_ref()), "a task panicked and has ended; this is a bug");
            }
        };
        let join = tracker.spawn(run.in_current_span());
        if closed {
            join.abort();
        }
        if let Some(entry) = self.book().running.get_mut(&id) {
            entry.abort = Some(join.abort_handle());
        }
        TaskHandle { join }
    }

    /// The names of all running tasks, oldest first.
    pub fn running(&self) -> Vec<String> {
        self.book().running.values().map(|entry| entry.name.to_string()).collect()
    }

    /// Ends all tasks: the ordinary ones, then the graceful ones, then by force. Returns the names of those that had
    /// to be forced. No task can be started from then on.
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
            self.book().closed = true;
            return Vec::new();
        }
        let late = self.running();
        tracing::warn!(tasks = ?late, ?deadline, "these tasks did not end in time and were cut off");
        self.abort_all();
        late
    }

    /// Ends everything at once, as a crash would. No task can be started from then on.
    pub fn abort_all(&self) {
        self.inner.drop_ordinary.cancel();
        let mut book = self.book();
        book.closed = true;
        let handles: Vec<_> = book.running.values().rev().filter_map(|entry| entry.abort.clone()).collect();
        // The book is closed first: an aborted task strikes itself out, maybe right here.
        drop(book);
        handles.iter().for_each(AbortHandle::abort);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.inner.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Strikes a task out of the book when it ends or is dropped.
struct Strike {
    tasks: Tasks,
    id: u64,
}

impl Drop for Strike {
    fn drop(&mut self) {
        self.tasks.book().running.remove(&self.id);
    }
}

/// The words of a panic, where it had any.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests;
