//! Activity for the panel's log: who did what on which server.
//!
//! [`Activity::record`] returns at once. The rows of a moment are appended to the queue on disk together (`writer`, `queue`), and are
//! sent to the panel in batches until it has acknowledged each of them (`sender`). A row that is on disk survives a crash; rows
//! of the last `GROUP_PAUSE` may not (ADR 31). A row keeps its bytes, and with them its timestamp, over all
//! attempts.

mod event;
mod queue;
mod sender;
mod writer;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::model::ServerId;
use crate::panel::Panel;
use crate::retry::Jitter;
use crate::tasks::{Blocking, Tasks};

pub use event::ActivityEvent;
pub use sender::Delivery;

use queue::Queue;
use writer::Waiting;

/// The longest row, in bytes. A longer one is kept without its metadata.
const MAX_ROW: usize = 16 << 10;

/// What a user, or the daemon itself, did.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The server that it was done to.
    pub server: ServerId,
    /// What was done.
    pub event: ActivityEvent,
    /// The panel's id of the user; `None` for the daemon.
    pub user: Option<Uuid>,
    /// The client's address, behind trusted proxies.
    pub ip: Option<IpAddr>,
    /// Details of the event: an object, see [`ActivityEvent`].
    pub metadata: Value,
}

/// How the queue is kept and sent.
pub struct Options {
    /// The folder of the queue.
    pub folder: PathBuf,
    /// Time between the first row that is queued and the batch that has it.
    pub interval: Duration,
    /// Most rows of a batch.
    pub batch: usize,
}

impl From<&NodeConfig> for Options {
    fn from(node: &NodeConfig) -> Self {
        let folder = node.directories.root.join("activity");
        Self { folder, interval: node.activity_interval, batch: node.activity_batch }
    }
}

/// The activity of one node; clones share it. A node without a panel records none.
#[derive(Clone)]
pub struct Activity(Option<Arc<Inner>>);

struct Inner {
    panel: Arc<dyn Panel>,
    interval: Duration,
    batch: usize,
    clock: Clock,
    jitter: Arc<Jitter>,
    blocking: Blocking,
    /// Rows that are not on disk yet.
    waiting: Mutex<Waiting>,
    added: Notify,
    /// Locked in blocking calls only.
    queue: Mutex<Queue>,
    /// Whether the queue has rows.
    queued: watch::Sender<bool>,
}

/// A row as the panel reads it. Source: remote API, "Activity".
#[derive(Serialize)]
struct Row<'a> {
    user: Option<Uuid>,
    server: ServerId,
    event: ActivityEvent,
    metadata: &'a Value,
    ip: Option<IpAddr>,
    timestamp: String,
}

impl Activity {
    /// Opens the queue, and starts its writer. Rows of an earlier run are sent first. Without a panel nothing is recorded.
    pub fn open(
        panel: Option<Arc<dyn Panel>>,
        Options { folder, interval, batch }: Options,
        clock: Clock,
        jitter: Arc<Jitter>,
        blocking: Blocking,
        tasks: &Tasks,
    ) -> Self {
        let Some(panel) = panel else { return Self(None) };
        let queue = Queue::open(folder);
        let inner = Arc::new(Inner {
            panel,
            interval,
            batch,
            clock,
            jitter,
            blocking,
            waiting: Mutex::default(),
            added: Notify::new(),
            queued: watch::Sender::new(!queue.is_empty()),
            queue: Mutex::new(queue),
        });
        let writer = inner.clone();
        tasks.spawn_graceful("activity writer", move |end| writer.write(end));
        Self(Some(inner))
    }

    /// Records an entry. Never waits: the row is on disk a moment later.
    pub fn record(&self, entry: Entry) {
        let Some(inner) = &self.0 else { return };
        let mut waiting = inner.waiting();
        let timestamp = waiting.timestamp(inner.clock.now());
        waiting.push(row(&entry, &timestamp));
        drop(waiting);
        inner.added.notify_one();
    }
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs work on the queue, which uses the disk.
    async fn with_queue<T: Send + 'static>(self: &Arc<Self>, work: impl FnOnce(&mut Queue) -> T + Send + 'static) -> T {
        let this = self.clone();
        let run = move || {
            let mut queue = this.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let result = work(&mut queue);
            this.queued.send_if_modified(|queued| std::mem::replace(queued, !queue.is_empty()) == queue.is_empty());
            result
        };
        self.blocking.run(run).await
    }
}

/// The line of a row.
fn row(entry: &Entry, timestamp: &str) -> String {
    let line = |metadata: &Value| {
        let row = Row {
            user: entry.user,
            server: entry.server,
            event: entry.event,
            metadata,
            ip: entry.ip.map(|ip| ip.to_canonical()),
            timestamp: timestamp.to_owned(),
        };
        // Only a map with keys that are no texts cannot be written, and a row has none.
        serde_json::to_string(&row).unwrap_or_default() + "\n"
    };
    // The panel takes an object, a list or null, and rejects the whole batch otherwise.
    let metadata = if entry.metadata.is_object() { &entry.metadata } else { &json!({}) };
    let full = line(metadata);
    if full.len() <= MAX_ROW { full } else { line(&json!({"truncated": true})) }
}

#[cfg(test)]
mod tests;
