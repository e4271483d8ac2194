//! A console's lines to whoever watches: nothing is kept or copied while nobody does.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

/// Events that a slow watcher may be behind; then it misses the oldest, and is told how many.
const QUEUE: usize = 128;

/// What happens on a console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsoleEvent {
    /// The server printed a line, see [`shown`](super::lines::shown).
    Line(Arc<str>),
    /// The daemon says something.
    Daemon(Arc<str>),
}

/// One console's watchers.
#[derive(Default)]
pub(super) struct Fanout {
    sender: Mutex<Option<broadcast::Sender<ConsoleEvent>>>,
}

impl Fanout {
    /// A new watcher: it gets what happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<ConsoleEvent> {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.get_or_insert_with(|| broadcast::channel(QUEUE).0).subscribe()
    }

    /// Tells the watchers, if there are any.
    pub fn publish(&self, event: impl FnOnce() -> ConsoleEvent) {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.as_ref().is_some_and(|sender| sender.send(event()).is_err()) {
            *sender = None;
        }
    }
}
