//! What happens to servers, as it happens: one bounded broadcast for each server, and one for the node.
//!
//! The store publishes events, states and conditions, the console its lines, the reconciler the installer's output. A server's
//! broadcast carries all of it, the node's broadcast all but output. Publishing never waits, and makes nothing while there is no
//! subscriber. A subscriber that is too slow is told how many events it has missed ([`EventKind::Lagged`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::clock::Clock;
use crate::model::{Condition, PowerState, Reason, ServerId, Timestamp};

/// Events that a subscriber may be behind. Output of a busy console comes in pieces of hundreds of lines.
const CAPACITY: usize = 1024;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerEvent {
    /// The server; absent in [`EventKind::Lagged`] of the node's broadcast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<ServerId>,
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum EventKind {
    /// An event was added to the server's status.
    Event {
        /// In one word.
        reason: Reason,
        /// For people.
        message: String,
        /// How often it has happened in a row.
        count: u32,
    },
    /// The state that the panel sees has changed.
    State {
        /// The new one.
        state: PowerState,
    },
    /// A condition is new, or has another status, reason or message.
    Condition {
        /// As it is now.
        condition: Condition,
    },
    /// The server printed a line.
    Console {
        /// As people see it, see [`display_text`](crate::console::lines::display_text).
        line: Arc<str>,
        /// Its number, see [`Handover`](crate::console::Handover).
        #[serde(skip)]
        number: u64,
    },
    /// The daemon added a line to the server's console.
    Daemon {
        /// Without the daemon's name.
        line: Arc<str>,
        /// As in [`EventKind::Console`].
        #[serde(skip)]
        number: u64,
    },
    /// The installer printed a line. It is in the install log by now, unless that is full.
    Install {
        /// As in [`EventKind::Console`].
        line: Arc<str>,
    },
    /// The subscriber was too slow.
    Lagged {
        /// How many events it has missed.
        missed: u64,
    },
}

/// All broadcasts of the node; all clones are the same.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

/// A server's broadcast, or the node's.
type Scope = Option<ServerId>;

struct Inner {
    clock: Clock,
    /// Those that have subscribers.
    channels: RwLock<BTreeMap<Scope, broadcast::Sender<Arc<ServerEvent>>>>,
    /// Whether there are any.
    any: AtomicBool,
}

impl Events {
    /// Broadcasts without subscribers.
    pub fn new(clock: Clock) -> Self {
        Self { inner: Arc::new(Inner { clock, channels: RwLock::default(), any: AtomicBool::new(false) }) }
    }

    /// Everything that happens to a server from now on. The caller makes sure that the server exists afterwards: the broadcast
    /// ends when the server is removed, and that of an unknown server stays silent.
    pub fn subscribe(&self, server: ServerId) -> Subscription {
        self.subscribe_to(Some(server))
    }

    /// Events, states and conditions of every server from now on.
    pub fn subscribe_to_all(&self) -> Subscription {
        self.subscribe_to(None)
    }

    fn subscribe_to(&self, scope: Scope) -> Subscription {
        let mut channels = self.inner.channels();
        let receiver = channels.entry(scope).or_insert_with(|| broadcast::channel(CAPACITY).0).subscribe();
        self.inner.any.store(true, Ordering::Release);
        drop(channels);
        Subscription { events: self.clone(), scope, receiver: Some(receiver) }
    }

    /// Publishes an event, state or condition, at this time or now. `make` is called if there is a subscriber.
    pub fn publish(&self, server: ServerId, at: Option<Timestamp>, make: impl FnOnce() -> EventKind) {
        self.send(server, at, &[Some(server), None], make);
    }

    /// Publishes output of a server, to its own broadcast. `make` is called if there is a subscriber.
    pub fn publish_output(&self, server: ServerId, make: impl FnOnce() -> EventKind) {
        self.send(server, None, &[Some(server)], make);
    }

    fn send(&self, server: ServerId, at: Option<Timestamp>, scopes: &[Scope], make: impl FnOnce() -> EventKind) {
        if !self.has_subscribers() {
            return;
        }
        let channels = self.inner.channels.read().unwrap_or_else(PoisonError::into_inner);
        let mut channels = scopes.iter().filter_map(|scope| channels.get(scope)).peekable();
        if channels.peek().is_none() {
            return;
        }
        let at = at.unwrap_or_else(|| self.inner.clock.now());
        let event = Arc::new(ServerEvent { uuid: Some(server), at, kind: make() });
        for channel in channels {
            // An error means that the last subscriber is leaving.
            let _ = channel.send(event.clone());
        }
    }

    /// Whether anything is subscribed to any broadcast.
    pub fn has_subscribers(&self) -> bool {
        self.inner.any.load(Ordering::Acquire)
    }

    /// Ends a server's broadcast. Call when the server is gone.
    pub fn remove(&self, server: ServerId) {
        if self.has_subscribers() {
            self.inner.remove_if(Some(server), |_| true);
        }
    }
}

impl Inner {
    fn channels(&self) -> RwLockWriteGuard<'_, BTreeMap<Scope, broadcast::Sender<Arc<ServerEvent>>>> {
        self.channels.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_if(&self, scope: Scope, due: impl FnOnce(&broadcast::Sender<Arc<ServerEvent>>) -> bool) {
        let mut channels = self.channels();
        if channels.get(&scope).is_some_and(due) {
            channels.remove(&scope);
        }
        self.any.store(!channels.is_empty(), Ordering::Release);
    }
}

/// The receiving end of a broadcast.
pub struct Subscription {
    events: Events,
    scope: Scope,
    /// Present until the drop.
    receiver: Option<broadcast::Receiver<Arc<ServerEvent>>>,
}

impl Subscription {
    /// The next event; `None` when the server is gone. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Arc<ServerEvent>> {
        match self.receiver.as_mut()?.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(missed)) => Some(self.lagged(missed)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event, if one has been published already.
    pub fn try_recv(&mut self) -> Option<Arc<ServerEvent>> {
        match self.receiver.as_mut()?.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Lagged(missed)) => Some(self.lagged(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }

    fn lagged(&self, missed: u64) -> Arc<ServerEvent> {
        let kind = EventKind::Lagged { missed };
        Arc::new(ServerEvent { uuid: self.scope, at: self.events.inner.clock.now(), kind })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Before the count: a broadcast of the same scope may be a later one, with subscribers of its own.
        self.receiver = None;
        self.events.inner.remove_if(self.scope, |channel| channel.receiver_count() == 0);
    }
}

#[cfg(test)]
mod tests;
